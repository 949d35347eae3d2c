"""What a suite is.

A suite loads items from pinned assets, says how one item is answered and judged against the
:class:`~evalsuite.serving.requests.Chat` protocol, and turns records into the object that
stands in ``scores.json``. It never starts servers, never touches the store and never loops
over items: ``evalsuite.run`` does that, the same way for all of them.

``openllm`` is different in one point: lm-eval drives its own tasks, so it runs as a whole
(:class:`HarnessSuite`) behind an ``LM`` of ours on the same client.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from evalsuite.serving.requests import Chat
from judges.types import REASONS, Unscored

DataKind = Literal["full", "mini"]
Scores = dict[str, Any]
"""One suite's object of scores.json, JSON-ready (None where a part is missing)."""


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """Everything that changes what a suite asks or how it counts.

    ``limit`` bounds the items (per split for MixEval, per task for Open LLM); None = all.
    ``parts`` selects parts of a suite that has them (``openllm:ifeval,musr``, ``mixeval:hard``).
    """

    data: DataKind = "full"
    limit: int | None = None
    parts: tuple[str, ...] = ()
    seed: int = 0
    as_published: bool = False
    mixeval_parser: Literal["judge", "rule"] = "judge"
    mixeval_version: str = "2024-06-01"
    chat_template_on_openllm: bool = True
    fewshot_as_multiturn: bool = True


@dataclass(frozen=True, slots=True)
class Item:
    """One benchmark item: its id (unique in the suite) and the benchmark's own record."""

    id: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """One item with what became of it; answer and verdict are the suite's own types."""

    item: Item
    answer: Any
    verdict: Any = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A suite's items and where they came from.

    ``data_pins`` maps asset name to {"sha256", "source", "pinned"}; it goes into the manifest
    and keeps figures on different data apart. ``context`` is what the suite needs besides
    items (judge prompts, references); it is read-only.
    """

    items: Sequence[Item]
    data_pins: Mapping[str, Mapping[str, Any]]
    context: Any = None
    missing: Mapping[str, str] = field(default_factory=dict)
    """Parts that cannot be had, with the one-line reason."""


class Suite(Protocol):
    """A benchmark whose items are answered and judged one by one."""

    name: str
    judge_method: str
    """What stands in scores.json under judge.methods."""

    def load(self, options: SuiteOptions) -> Loaded:
        """Read the items from pinned assets; raises DataError when they cannot be had."""
        ...

    def needs_judge(self, options: SuiteOptions) -> bool: ...

    async def answer(self, item: Item, loaded: Loaded, model: Chat, options: SuiteOptions) -> Any:
        """Answer one item: the suite's answer type, holding Unscored where the model failed."""
        ...

    async def judge(self, item: Item, answer: Any, loaded: Loaded, judge: Chat, options: SuiteOptions) -> Any:
        """Judge one answer: the suite's verdict type, holding Unscored where the judge failed."""
        ...

    def score(self, records: Sequence[Record], loaded: Loaded, options: SuiteOptions) -> Scores:
        """Compute the suite's object of scores.json; pure."""
        ...

    def export(self, records: Sequence[Record], loaded: Loaded, folder: Path, *, model: str, judge: str | None) -> None:
        """Write the peer's own file formats into ``folder`` (results/<model>/<suite>/)."""
        ...

    def score_recorded(self, path: Path, options: SuiteOptions) -> Scores:
        """Score a recorded file in the peer's format, with no model and no network."""
        ...


def finite_number(value: Any) -> float | None:
    """Return a number of a recorded file as a float; None for NaN, infinities, booleans and whatever is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def recorded_reason(value: Any) -> Unscored:
    """Return the reason that a recorded file gives, ``recorded_failure`` for one that nobody knows."""
    return Unscored(value if isinstance(value, str) and value in REASONS else "recorded_failure")


def no_answer(cause: Unscored) -> Unscored:
    """Say of a verdict that there was nothing to judge, with the answer's own reason in the detail."""
    if cause.reason == "no_answer":
        return cause
    return Unscored("no_answer", f"{cause.reason}: {cause.detail}" if cause.detail else cause.reason)


def count_unscored(values: Sequence[Any]) -> dict[str, int]:
    """Count the Unscored among ``values`` by reason, in alphabetical order."""
    counts: dict[str, int] = {}
    for value in values:
        if isinstance(value, Unscored):
            counts[value.reason] = counts.get(value.reason, 0) + 1
    return dict(sorted(counts.items()))
