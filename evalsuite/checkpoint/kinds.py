"""Whether a model writes answers or scores them: a generator, or a reward model (a sequence classifier is one)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from evalsuite.checkpoint.model import Checkpoint
from evalsuite.errors import CheckpointError

ModelKind = Literal["generate", "reward"]

_SCORES = re.compile(r"(?:ForSequenceClassification|ForRewardModel(?:ing)?|RewardModel)$")
_STEPS = re.compile(r"ProcessRewardModel$")
MAX_LABELS = 2
"""One label is the score itself; of two, the score is how much more the second one is likely, in log-odds."""


def architecture_of(checkpoint: Checkpoint) -> str | None:
    """Return the architecture that the config names, None where it names none, as for an endpoint."""
    named = (checkpoint.config or {}).get("architectures")
    return str(named[0]) if isinstance(named, list) and named else None


def is_reward_model(checkpoint: Checkpoint) -> bool:
    """Whether the config is that of a model that scores a conversation; False where that is not known."""
    return bool(_SCORES.search(architecture_of(checkpoint) or ""))


def check_kind(checkpoint: Checkpoint, kind: ModelKind) -> None:
    """Raise CheckpointError, before anything is served, for a model of the other kind; an endpoint is not known."""
    if checkpoint.path is None:
        return
    name, architecture = checkpoint.name, architecture_of(checkpoint)
    if kind == "generate":
        if is_reward_model(checkpoint):
            raise CheckpointError(
                f"{name} is a reward model ({architecture}): it scores answers and writes none; give it as the judge "
                "of compare, rate or judge-card with --judge-kind reward"
            )
        return
    if not is_reward_model(checkpoint):
        raise CheckpointError(
            f"{name} is not a reward model ({architecture or 'its config names no architecture'}); leave out "
            "--judge-kind reward, or give a checkpoint for sequence classification"
        )
    if _STEPS.search(architecture or ""):
        raise CheckpointError(
            f"{name} scores steps, not answers ({architecture}); give a reward model that scores whole answers"
        )
    if (n := _n_labels(checkpoint.config or {})) > MAX_LABELS:
        raise CheckpointError(f"{name} has {n} labels; a reward model has one, or two of which the second means better")


def _n_labels(config: Mapping[str, Any]) -> int:
    """Return the number of labels; a config without any is transformers' default, which it leaves out, two."""
    labels = config.get("id2label")
    given = config.get("num_labels", len(labels) if isinstance(labels, Mapping) else MAX_LABELS)
    return given if isinstance(given, int) else MAX_LABELS
