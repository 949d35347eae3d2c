"""What a run leaves behind: scores.json and manifest.json as CONTRACT has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.config import RunConfig
from evalsuite.redaction import scrubbed, without_secrets
from evalsuite.results.folder import SCHEMA, averages, environment
from evalsuite.runs.plan import ModelRun
from evalsuite.serving.session import effective_dtype

TOO_SMALL_TO_BELIEVE = "a 135M model: it shows that the pipeline works, its verdicts are not to be believed"


def scores_document(
    plan: ModelRun, suites: dict[str, Any], config: RunConfig, judge: Checkpoint | None
) -> dict[str, Any]:
    """Assemble scores.json of one model; ``suites`` are all figures of its folder."""
    checkpoint = plan.checkpoint
    tokens = {
        name: sum(usage[f"{name}_tokens"] for usage in plan.usage.values())
        for name in ("prompt", "cached", "completion")
    }
    return {
        "schema": SCHEMA,
        "model": {
            "name": checkpoint.name,
            "path": str(checkpoint.path) if checkpoint.path else without_secrets(checkpoint.endpoint or ""),
            "fingerprint": checkpoint.fingerprint,
            "dtype": effective_dtype(checkpoint, config.serve_options(), attached=bool(config.base_url)),
            "chat_template_sha256": checkpoint.chat_template_sha256,
        },
        "judge": _judge_entry(plan, judge),
        "data": config.data,
        "limit": config.limit,
        "suites": suites,
        "average": averages(suites),
        "seconds": {phase: round(value, 3) for phase, value in plan.watch.seconds.items()},
        "tokens": tokens,
    }


def _judge_entry(plan: ModelRun, judge: Checkpoint | None) -> dict[str, Any] | None:
    """Say who judged by which methods, an earlier run of the same judge included."""
    earlier: dict[str, Any] | None = (plan.stored or {}).get("judge")
    judged = [suite for suite in plan.todo if suite.judged and suite.needs_judge]
    methods = {suite.spec.key: suite.by_item.judge_method for suite in judged if suite.by_item is not None}
    if judge is None or not methods:
        return earlier
    entry: dict[str, Any] = {
        "name": judge.name,
        "fingerprint": judge.fingerprint,
        "methods": {**((earlier or {}).get("methods") or {}), **methods},
    }
    return entry | {"note": TOO_SMALL_TO_BELIEVE} if judge.name == "demo" else entry


def manifest_document(
    plan: ModelRun, suites: Mapping[str, Any], config: RunConfig, document: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that a reader needs to believe, repeat or doubt the figures of ``document`` (scores.json)."""
    return {
        "schema": SCHEMA,
        **environment(),
        "model": {
            **document["model"],
            "tokenizer_sha256": plan.checkpoint.tokenizer_sha256,
            "chat_format": plan.chat_source,
            "fingerprint_covers": "name and URL only" if plan.checkpoint.endpoint else "weights and config",
        },
        "training": plan.checkpoint.training,
        "judge": document["judge"],
        "suites": suites,
        "seed": config.seed,
        "arguments": scrubbed(config.model_dump(mode="json")),
        "seconds": document["seconds"],
        "tokens": document["tokens"],
        "usage": plan.usage,
        "server_restarts": plan.restarts,
        "alpaca_eval_lc": (document["suites"].get("alpaca_eval") or {}).get("lc"),
    }
