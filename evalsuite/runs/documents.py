"""What a run leaves behind: scores.json and manifest.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.config import RunConfig
from evalsuite.documents import JudgeEntry, Manifest, ModelEntry, Scores, SuiteEntry
from evalsuite.redaction import scrubbed, without_secrets
from evalsuite.results.averages import averages
from evalsuite.results.environment import environment
from evalsuite.runs.judges import Panel
from evalsuite.runs.plan import ModelRun
from evalsuite.serving.session import dated, effective_dtype, head_of

DEMO_NOTE = "a 135M model: it shows that the pipeline works; do not rely on its verdicts"


def scores_document(
    plan: ModelRun,
    suites: Mapping[str, dict[str, Any]],
    answers: Mapping[str, dict[str, Any]],
    config: RunConfig,
    judge: Checkpoint | Panel | None,
) -> Scores:
    """Assemble scores.json of one model; ``suites`` are all figures of its folder by this judge.

    ``answers`` say by suite how its answers ended (``records.answers``).
    """
    checkpoint = plan.checkpoint
    tokens = {
        name: sum(usage[f"{name}_tokens"] for usage in plan.usage.values())
        for name in ("prompt", "cached", "completion")
    }
    model = ModelEntry(
        name=checkpoint.name,
        path=None
        if plan.is_imported
        else str(checkpoint.path)
        if checkpoint.path
        else without_secrets(checkpoint.endpoint or ""),
        fingerprint=checkpoint.fingerprint,
        dtype=None if plan.is_imported else effective_dtype(checkpoint, config.serve, attached=bool(config.base_url)),
        chat_template_sha256=checkpoint.chat_template_sha256,
    ).with_given(quantization=checkpoint.quantization)
    scores = Scores(
        schema=1,
        model=model,
        judge=_judge_entry(plan, judge),
        data=config.data,
        limit=plan.limit,
        suites=dict(suites),
        average=averages(suites),
        seconds={phase: round(value, 3) for phase, value in plan.watch.seconds.items()},
        tokens=tokens,
        reasoning=plan.reasoning.document(),
        answers=dict(answers),
    )
    return scores.with_given(
        variant=plan.label,
        imported=plan.is_imported,
        training_step=checkpoint.training_step,
        judged=plan.stored.judged if plan.stored is not None else (),
    )


def _judge_entry(plan: ModelRun, judge: Checkpoint | Panel | None) -> JudgeEntry | None:
    """Say who judged by which methods, an earlier run of the same judge included."""
    earlier = plan.stored.judge if plan.stored is not None else None
    methods = {suite.spec.key: suite.suite.judge_method for suite in plan.todo if suite.judged and suite.needs_judge}
    if judge is None or not methods:
        return earlier
    known = (earlier.methods or {}) if earlier is not None else {}
    entry = JudgeEntry(name=judge.name, fingerprint=judge.fingerprint, methods={**known, **methods})
    members = judge.members if isinstance(judge, Panel) else ()
    return entry.with_given(note=DEMO_NOTE if judge.name == "demo" else "", members=members)


def manifest_document(plan: ModelRun, suites: Mapping[str, SuiteEntry], config: RunConfig, scores: Scores) -> Manifest:
    """Return everything that a reader needs to repeat or question the figures of ``scores``."""
    manifest = Manifest(
        schema=1,
        **environment(),
        model={
            **scores.model.as_json(),
            "tokenizer_sha256": plan.checkpoint.tokenizer_sha256,
            "chat_format": plan.chat_source,
            **({"served": plan.checkpoint.served} if plan.checkpoint.endpoint else {}),
            **dated(plan.checkpoint),
            **head_of(plan.checkpoint, config.serve, attached=bool(config.base_url)),
            "fingerprint_covers": "the first recorded rows"
            if plan.is_imported
            else "the name and what the server reports"
            if plan.checkpoint.endpoint
            else "weights and config",
        },
        training=plan.checkpoint.training,
        judge=scores.judge,
        suites=dict(suites),
        seed=config.seed,
        settings=dict(plan.settings),
        arguments=scrubbed(config.model_dump(mode="json")),
        seconds=scores.seconds,
        tokens=scores.tokens,
        usage=plan.usage,
        server_restarts=plan.restarts,
    )
    return manifest.with_given(judged=plan.manifest.judged, imported=plan.is_imported)
