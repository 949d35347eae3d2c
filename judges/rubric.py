"""Rating by a rubric of your own: criteria in words and a scale of whole numbers.

The judge closes with "Rating KEY: [[n]]", where KEY follows from the texts, so that no rating planted in an answer and
quoted by the judge is taken for its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from judges.templates import JudgeTemplate, nonce
from judges.types import Message, Rating, Unscored

VARIABLES = frozenset({"questions", "answers", "reference", "criteria", "low", "high", "nonce"})
"""What a rating template is given: texts per turn, the reference ("" for none), criteria, both ends, the key."""

NEEDED = frozenset({"answers", "nonce"})

_RANGE = re.compile(r"(?<![\d.])(\d{1,3})\s*(?:to|-|–|through|and)\s*(\d{1,3})(?!\d|\.\d)")


@dataclass(frozen=True, slots=True)
class Rubric:
    """What counts, and the lowest and the highest rating."""

    criteria: str
    low: int
    high: int

    def choices(self) -> tuple[str, ...]:
        """Return the guided completions after :func:`lead_in`."""
        return tuple(f"{rating}]]" for rating in range(self.low, self.high + 1))


def scale_fault(template: JudgeTemplate, rubric: Rubric) -> str:
    """Say how a template contradicts the scale, "" where it does not: it must name both ends, or no others."""
    text = f"{template.system or ''}\n{template.user}"
    if re.search(r"\{\{-?\s*low\b", text) and re.search(r"\{\{-?\s*high\b", text):
        return ""
    ranges = {(int(low), int(high)) for low, high in _RANGE.findall(text)}
    if (rubric.low, rubric.high) in ranges:
        return ""
    scale = f"the scale is {rubric.low} to {rubric.high}"
    if not ranges:
        return f"the template names no scale, and {scale}; write {{{{ low }}}} and {{{{ high }}}} into it"
    low, high = sorted(ranges)[0]
    return f"the template says {low} to {high}, and {scale}; write {{{{ low }}}} and {{{{ high }}}} into it"


def rating_messages(
    template: JudgeTemplate, rubric: Rubric, questions: Sequence[str], answers: Sequence[str], reference: str = ""
) -> tuple[list[Message], str]:
    """Return the prompt that asks for a rating, and its key; raises ``jinja2.UndefinedError`` as the template does."""
    key = nonce(*questions, *answers, reference)
    texts = {"questions": list(questions), "answers": list(answers), "reference": reference}
    return template.messages(**texts, criteria=rubric.criteria, low=rubric.low, high=rubric.high, nonce=key), key


def lead_in(key: str) -> str:
    """Return what is appended to a judgment without a rating; the judge then completes it with a choice."""
    return f"\n\nRating {key}: [["


def parse_rubric_rating(text: str, key: str, rubric: Rubric) -> Rating | Unscored:
    """Read the last "Rating KEY: [[n]]" of a judgment.

    Never raises; none is ``Unscored("no_rating")``, one beyond the scale or not whole ``rating_out_of_range``, each
    with the judgment as its detail.
    """
    pattern = re.compile(rf"Rating[ \t]+{re.escape(key)}[ \t*_]*:[ \t*_`]*\[\[?[ \t]*(-?\d+(?:\.\d+)?)[ \t]*\]", re.I)
    if not (found := pattern.findall(text)):
        return Unscored("no_rating", text)
    value = float(found[-1])
    is_rating = value.is_integer() and rubric.low <= value <= rubric.high
    return Rating(value, text) if is_rating else Unscored("rating_out_of_range", text)
