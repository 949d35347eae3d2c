"""Scores of whole conversations from vLLM's pooling endpoints: where they are asked, requests and replies.

``/classify`` is that of a sequence classifier, ``/pooling`` that of other reward models, which score every token: the
last one's score is the conversation's. Source: vLLM 0.32, entrypoints/pooling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.checkpoint.kinds import MAX_LABELS, architecture_of, is_reward_model
from judges.types import Message, Unscored

CLASSIFY, POOLING = "/classify", "/pooling"


def reward_path(checkpoint: Checkpoint) -> str | None:
    """Return where a local reward model is asked; None for a generator, and of a server that has to be tried."""
    if not is_reward_model(checkpoint):
        return None
    return CLASSIFY if (architecture_of(checkpoint) or "").endswith("ForSequenceClassification") else POOLING


def reward_body(messages: Sequence[Message], tokens: Sequence[int] | None) -> dict[str, Any]:
    """Return a question for the score before any activation: token ids, or messages that the server writes out."""
    if tokens is not None:
        return {"input": list(tokens), "use_activation": False}
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return {"messages": turns, "add_generation_prompt": False, "use_activation": False}


def read_reward(raw: Mapping[str, Any]) -> dict[str, Any] | Unscored:
    """Read the score; of two labels, the second one's logit minus the first one's."""
    first = raw["data"][0]
    values = first["probs"] if "probs" in first else first["data"]
    if values and isinstance(values[-1], list):
        values = values[-1]
    if not 1 <= len(values) <= MAX_LABELS:
        return Unscored("malformed_reply", f"{len(values)} numbers in the place of a score; expected 1 or 2")
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        return Unscored("no_score", f"the server returned {numbers}")
    return {"score": numbers[0] if len(numbers) == 1 else numbers[1] - numbers[0]}
