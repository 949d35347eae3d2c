"""One-token verdicts: a label as judges spell it, and how much probability the labels have together.

A judge that puts its probability on " A" or "a." means A. Its bare "A" may then hold only a rounding error, in which
the other label can lead. So all spellings of a label count, and their total says how much of a verdict it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

MASS_FLOOR = 0.05
"""Below this total probability of the labels a reply is not a verdict. Our choice."""

MASS_HALF = 0.5
"""Below this mean the judge would more often say something else than a label."""

_BEFORE = ("", " ", "(", " (", "[", " [", "[[", " [[", '"', ' "', "'", "*", "**", " **", "`", "\n")
_AFTER = ("", ".", ")", ":", ",", "]", "]]", '"', "\n")
_TRIMMED = " \t\r\n()[]\"'*`.:,"


@dataclass(frozen=True, slots=True)
class LabelReading:
    """The log-probability of each label over all its spellings (absent: 0 probability), and their total in [0, 1]."""

    logprobs: Mapping[str, float]
    mass: float


@cache
def spellings(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return how judges spell ``labels``: in either case, after a space, in brackets or quotes; likelier ones first.

    A spelling that fits two labels (the case of AlpacaEval's m and M) is left out.
    """
    texts = {
        before + form + after: None
        for after in _AFTER
        for before in _BEFORE
        for label in labels
        for form in (label, label.swapcase())
    }
    return tuple(text for text in texts if _label_of(text, labels) is not None and text not in labels)


def read_labels(logprobs: Mapping[str, float], labels: Sequence[str]) -> LabelReading:
    """Sum the probabilities of each label's spellings; a NaN or infinite log-probability is passed on."""
    found: dict[str, list[float]] = {}
    for text, value in logprobs.items():
        label = text if text in labels else _label_of(text, labels)
        if label is not None:
            found.setdefault(label, []).append(value)
    sums = {label: _log_of_sum(found[label]) for label in labels if label in found}
    mass = math.fsum(math.exp(min(value, 0.0)) for value in sums.values())
    return LabelReading(sums, min(1.0, mass) if math.isfinite(mass) else 0.0)


def _label_of(text: str, labels: Sequence[str]) -> str | None:
    word = text.strip(_TRIMMED)
    fitting = [label for label in labels if label.casefold() == word.casefold()]
    return fitting[0] if len(fitting) == 1 else None


def _log_of_sum(values: Sequence[float]) -> float:
    highest = max(values)
    if len(values) == 1 or not all(math.isfinite(value) for value in values):
        return next((value for value in values if not math.isfinite(value)), highest)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))
