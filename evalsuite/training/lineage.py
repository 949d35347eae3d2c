"""training.json: the data, settings and outcome of a training run."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from evalsuite.training.data import TokenCounts, TrainingData
from evalsuite.training.plan import Plan
from judges.statistics import bootstrap_ratio_ci

SCHEMA = 1
_PACKAGES = ("evalsuite", "torch", "transformers", "trl", "accelerate", "peft", "datasets", "tokenizers")


def training_document(
    facts: Mapping[str, Any], data: TrainingData, counts: TokenCounts, plan: Plan, outcome: Mapping[str, Any]
) -> dict[str, Any]:
    """Return training.json: ``facts`` are identity, base and recipe, ``outcome`` the worker's measurements.

    Times are in seconds, losses in nats per token, rates in tokens per second.
    """
    mix = data.mix or {}
    dgms = [str(name) for name in mix.get("dgms") or []]
    installed = {name: metadata.version(name) for name in _PACKAGES if find_spec(name)}
    return {
        "schema": SCHEMA,
        **facts,
        "method": plan.config.method,
        "mix_hash": mix.get("hash") or data.fingerprint,
        "n_conversations": counts.n_trained,
        "n_tokens": counts.n_tokens,
        "data": asdict(counts),
        "dgm": dgms[0] if len(dgms) == 1 else None,
        "dgms": dgms,
        "sources": mix.get("sources"),
        "contamination": mix.get("contamination"),
        "packed": plan.packed,
        "steps": plan.steps,
        "warmup_steps": plan.warmup_steps,
        "learning_rate": plan.config.rate,
        "seed": plan.seed,
        "devices": asdict(plan.devices),
        "versions": {"python": platform.python_version()} | installed,
        "loss": outcome["loss"],
        "held_out": held_out_figures(outcome["held_out"]),
        "seconds": round(outcome["seconds"], 3),
        "tokens_per_second": outcome["tokens_per_second"],
        "mfu": outcome["mfu"],
    }


def held_out_figures(losses: Mapping[str, Sequence[Sequence[float]]] | None) -> dict[str, Any] | None:
    """Return held-out loss before and after in nats per token, and its change with a 95 % interval.

    The interval resamples conversations, since the tokens of one are not independent.
    """
    if losses is None:
        return None
    before, after = losses["before"], losses["after"]
    weights = [n for _, n in before]
    changes = [total - earlier for (total, _), (earlier, _) in zip(after, before, strict=True)]
    interval = bootstrap_ratio_ci(changes, weights)
    return {
        "n": len(before),
        "n_tokens": sum(weights),
        "loss_before": sum(total for total, _ in before) / sum(weights),
        "loss_after": sum(total for total, _ in after) / sum(weights),
        "change": sum(changes) / sum(weights),
        "change_ci95": None if interval is None else list(interval),
    }
