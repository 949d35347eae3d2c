"""A pair of answers to one prompt, with which of them is preferred, or why neither is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from judges.types import Message

DOCUMENT = "prefer.json"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """``where`` names the pair in dropped.jsonl, ``about`` is what train.jsonl says of it; ``dropped`` is a reason.

    The order of ``chosen`` and ``rejected`` means nothing where there is a reason.
    """

    where: Mapping[str, Any]
    prompt: tuple[Message, ...] = ()
    chosen: Message = field(default_factory=lambda: Message("assistant", ""))
    rejected: Message = field(default_factory=lambda: Message("assistant", ""))
    about: Mapping[str, Any] = field(default_factory=dict)
    margin: float = 0.0
    dropped: str = ""
