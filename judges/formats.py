"""The formats that published judges were trained on: their own prompt, and a regular expression for the verdict.

A format's verdict is a label of an answer, two scores, or a rating of each answer by itself. Answers are enclosed in
keyed delimiters where the format allows it; where it does not, an answer can imitate the format's own structure.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from judges.labels import MASS_FLOOR, LabelReading, read_labels
from judges.templates import JudgeTemplate, nonce
from judges.types import Message, Unscored
from judges.verdicts import CONTEXT_VARIABLES, POINTS, Request, Winner

Kind = Literal["label", "scores", "rating"]

PAIR_VARIABLES = frozenset({"answer_a", "answer_b", "answers_a", "answers_b", "dialogue_a", "dialogue_b"})
RATING_VARIABLES = frozenset({"answer", "answers", "dialogue"})
COMMON_VARIABLES = frozenset({"question", "questions", "category", "criteria", "nonce", *CONTEXT_VARIABLES})


@dataclass(frozen=True, slots=True)
class JudgeFormat:
    """A published judge's format.

    ``pattern`` has one group: a label (a key of ``labels``, any case) or a rating within ``scale``; of ``scores`` it
    has two. The first or the last match of a reply counts. ``samples`` replies at ``temperature`` are averaged.

    With ``logprobs`` nothing is written: the verdict is read from the probabilities of the labels, or of the whole
    numbers of the scale, as the token after ``lead_in``, which begins the judge's reply.
    """

    name: str
    template: JudgeTemplate
    pattern: re.Pattern[str]
    kind: Kind = "label"
    labels: Mapping[str, Winner] | None = None
    scale: tuple[float, float] | None = None
    reads: Literal["first", "last"] = "last"
    delimiters: bool = True
    criteria: str = ""
    samples: int = 1
    temperature: float = 0.0
    max_new_tokens: int = 1024
    logprobs: bool = False
    lead_in: str = ""

    @property
    def asked_labels(self) -> tuple[str, ...]:
        """The labels whose probabilities are asked for, each a single token."""
        if self.kind == "rating":
            low, high = self.scale or (0.0, 0.0)
            return tuple(str(number) for number in range(math.ceil(low), math.floor(high) + 1))
        return tuple(self.labels or {})

    @property
    def sha256(self) -> str:
        """SHA-256 (64 hex digits) of everything that decides a verdict."""
        rules = (self.kind, sorted((self.labels or {}).items()), self.scale, self.reads, self.delimiters, self.criteria)
        asked = (self.samples, self.temperature, self.max_new_tokens)
        read = (self.lead_in,) if self.logprobs else ()
        text = "\x1f".join(map(str, (self.template.sha256, self.pattern.pattern, *rules, *asked, *read)))
        return hashlib.sha256(text.encode()).hexdigest()

    def pair_messages(
        self, request: Request, first: Sequence[str], second: Sequence[str], *, salt: int = 0
    ) -> list[Message]:
        """Return the prompt about two answers, one text per turn."""
        key = nonce(*request.turns, *first, *second, salt=salt)
        values: dict[str, object] = {}
        for side, texts in (("a", first), ("b", second)):
            shown = self._shown(f"answer {side.upper()}", texts, key)
            values |= {f"answer_{side}": "\n\n".join(shown), f"answers_{side}": shown}
            values[f"dialogue_{side}"] = _dialogue(request.turns, shown)
        return self.template.messages(**values, **self._common(request, key))

    def rating_messages(self, request: Request, answer: Sequence[str], *, salt: int = 0) -> list[Message]:
        """Return the prompt about one answer, one text per turn."""
        key = nonce(*request.turns, *answer, salt=salt)
        shown = self._shown("answer", answer, key)
        values = {"answer": "\n\n".join(shown), "answers": shown, "dialogue": _dialogue(request.turns, shown)}
        return self.template.messages(**values, **self._common(request, key))

    def preference(self, text: str) -> float | Unscored:
        """Read the preference for the answer shown first, in [0, 1]; a reply without one is ``no_verdict``."""
        if (match := self._match(text)) is None:
            return Unscored("no_verdict", text)
        if self.kind == "scores":
            first, second = float(match[1]), float(match[2])
            return 0.5 if first == second else float(first > second)
        named = match[1].strip().lower()
        outcome = next((one for label, one in (self.labels or {}).items() if label.lower() == named), None)
        return Unscored("no_verdict", text) if outcome is None else POINTS[outcome]

    def value_of_labels(self, logprobs: Mapping[str, float]) -> tuple[float, LabelReading] | Unscored:
        """Return the expected preference for the answer shown first, or the expected rating, and the labels read.

        The value is the mean over the labels, weighted by their probabilities over all spellings. Less than
        ``MASS_FLOOR`` together is ``label_mass``, a NaN or infinite value ``non_finite_logprob``. Source of expected
        ratings: G-Eval (Liu et al. 2023, arXiv 2303.16634, section 2).
        """
        read = read_labels(logprobs, self.asked_labels)
        if any(not math.isfinite(value) for value in read.logprobs.values()):
            return Unscored("non_finite_logprob")
        if read.mass < MASS_FLOOR:
            named = " and ".join(self.asked_labels)
            return Unscored("label_mass", f"{named} have a probability of {read.mass:.2g} together")
        worth = {label: POINTS[outcome] for label, outcome in (self.labels or {}).items()}
        weights = {label: math.exp(value) for label, value in read.logprobs.items()}
        values = {label: float(label) if self.kind == "rating" else worth[label] for label in weights}
        mean = math.fsum(values[label] * weight for label, weight in weights.items()) / math.fsum(weights.values())
        return mean, read

    def rating(self, text: str) -> float | Unscored:
        """Read the rating of one answer; ``no_rating`` without one, ``rating_out_of_range`` outside the scale."""
        match = self._match(text)
        try:
            value = None if match is None else float(match[1])
        except ValueError:
            value = None
        if value is None:
            return Unscored("no_rating", text)
        is_inside = self.scale is None or self.scale[0] <= value <= self.scale[1]
        return value if is_inside else Unscored("rating_out_of_range", text)

    def _match(self, text: str) -> re.Match[str] | None:
        matches = list(self.pattern.finditer(text))
        return None if not matches else matches[0 if self.reads == "first" else -1]

    def _shown(self, name: str, texts: Sequence[str], key: str) -> list[str]:
        if not self.delimiters:
            return list(texts)
        return [f"<begin {name} {key}>\n{text}\n<end {name} {key}>" for text in texts]

    def _common(self, request: Request, key: str) -> dict[str, object]:
        return {
            "question": "\n\n".join(request.turns),
            "questions": list(request.turns),
            "category": request.category,
            "criteria": self.criteria,
            "nonce": key,
            **request.context,
        }


def _dialogue(turns: Sequence[str], answers: Sequence[str]) -> str:
    said = zip(turns, answers, strict=True)
    return "\n\n".join(f"### User:\n{turn}\n\n### Assistant:\n{answer}" for turn, answer in said)
