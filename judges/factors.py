"""Quality factors of an answer, each rated as the expectation over the judge's next token: twelve of ours, 1 to 10.

The names of the twelve are those of the paper's judging code (penfever/wildchat-50m@285b20a:src/core/judgment.py); the
descriptions are original. There are three deliberate deviations. The prompt contains the answer. The rating is a letter
from A on, a single token in any tokenizer, because a tokenizer that splits numbers into digits puts the probability of
"10" on "1". The expectation is normalised by the total probability of the ratings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from judges.labels import MASS_FLOOR, read_labels
from judges.rubric import Rubric, scale_fault
from judges.templates import JudgeTemplate, nonce
from judges.types import Message, Rating, Unscored
from judges.verdicts import CONTEXT_VARIABLES, Request

LONGEST_SCALE = 20
"""The most ratings of a scale: as many labels as servers give log-probabilities of."""

TEMPLATE = "factor_rating"
TEMPLATE_VARIABLES = frozenset(
    {"questions", "answers", "factor", "meaning", "scale", "low", "high", "levels", "nonce", *CONTEXT_VARIABLES}
)
NEEDED_VARIABLES = frozenset({"answers", "factor", "nonce"})


@dataclass(frozen=True, slots=True)
class Factor:
    """One quality: its key, its name and description in the prompt, and its scale of whole numbers.

    ``levels`` describe some of the ratings.
    """

    key: str
    name: str
    meaning: str
    low: int = 1
    high: int = 10
    levels: Mapping[int, str] = field(default_factory=dict)

    @property
    def scale(self) -> tuple[tuple[str, int], ...]:
        """Each rating's letter, from ("A", low) on."""
        return tuple((chr(ord("A") + rating - self.low), rating) for rating in range(self.low, self.high + 1))

    @property
    def letters(self) -> tuple[str, ...]:
        return tuple(letter for letter, _ in self.scale)

    def fault(self) -> str:
        """Say what is wrong with the scale or its levels, "" for nothing."""
        if not 2 <= self.high - self.low + 1 <= LONGEST_SCALE:
            return f"the scale of {self.key} is {self.low} to {self.high}; expected 2 to {LONGEST_SCALE} whole numbers"
        if beyond := sorted(level for level in self.levels if not self.low <= level <= self.high):
            return f"{self.key} describes the level {beyond[0]}, and its scale is {self.low} to {self.high}"
        return ""

    def template_fault(self, template: JudgeTemplate) -> str:
        """Say how a template contradicts the scale, "" where it does not."""
        is_shown = bool(template.variables & {"scale", "high"})
        return "" if is_shown else scale_fault(template, Rubric(self.meaning, self.low, self.high))


_DESCRIBED: Mapping[str, tuple[str, str]] = {
    "logical_robustness": (
        "logical robustness",
        "the reasoning holds in general: its steps agree with each other, special cases are thought of, and no "
        "counterexample breaks it.",
    ),
    "logical_correctness": (
        "logical correctness",
        "where the request has a definite solution, the conclusion that the answer reaches is that solution.",
    ),
    "logical_efficiency": (
        "logical efficiency",
        "the way to the conclusion has no detours and no step twice; code does not do more work than it must.",
    ),
    "commonsense": (
        "common sense",
        "the answer takes the everyday world as it is: what things do, what people want, what follows from what.",
    ),
    "factuality": (
        "factuality",
        "what it states about the world is true, and what it relies on or quotes exists and says that.",
    ),
    "metacognition": (
        "awareness of its own limits",
        "it is sure where it can be, says what it cannot know, and notes where the request leaves something open.",
    ),
    "insightfulness": (
        "insight",
        "it adds a thought that is its own: a fresh angle, a connection or an idea that others would have missed.",
    ),
    "completeness": (
        "completeness",
        "nothing that the person needs is left out, in the range of what is covered and in how far it is explained.",
    ),
    "comprehension": (
        "comprehension",
        "it answers what was really asked, every part of it, with the wishes that stand between the lines.",
    ),
    "conciseness": (
        "conciseness",
        "it is as short as it can be without losing anything: no filler, no repetition, nothing beside the point.",
    ),
    "readability": ("readability", "its order, layout and sentences make it easy to follow at the first reading."),
    "harmlessness": (
        "harmlessness",
        "it treats nobody unfairly, leads nobody into danger, and names a risk where there is one.",
    ),
}

FACTORS: Mapping[str, Factor] = {key: Factor(key, *described) for key, described in _DESCRIBED.items()}
"""The twelve, by key."""


def factor_prompt(
    template: JudgeTemplate, factor: Factor, request: Request, answers: Sequence[str], *, salt: int = 0
) -> list[Message]:
    """Return the prompt that asks for the rating of one factor of an answer.

    ``answers`` holds one text per turn of the request, all shown between delimiters with a key.
    """
    beside = [text for text in request.context.values() if text]
    return template.messages(
        questions=list(request.turns),
        answers=list(answers),
        factor=factor.name,
        meaning=factor.meaning,
        scale=list(factor.scale),
        low=factor.low,
        high=factor.high,
        levels=[factor.levels.get(rating, "") for _, rating in factor.scale],
        nonce=nonce(*request.turns, *answers, *beside, salt=salt),
        **request.context,
    )


def expected_rating(logprobs: Mapping[str, float], factor: Factor) -> Rating | Unscored:
    """Return the mean rating, in [low, high], under the judge's distribution over the letters.

    ``logprobs`` are raw log-probabilities by letter, over all its spellings; they are normalised to sum to 1, and a
    missing letter has probability 0. None of them is ``Unscored("no_rating")``, less than ``MASS_FLOOR`` together
    ``Unscored("label_mass")``, a NaN or infinite value ``Unscored("non_finite_logprob")``.
    The rating's ``text`` is the most likely letter.
    Source: the expected score of G-Eval (Liu et al. 2023, arXiv 2303.16634, section 2), normalised.
    """
    read = read_labels(logprobs, factor.letters)
    known = read.logprobs
    if not known:
        return Unscored("no_rating", f"none of the {len(factor.letters)} letters has a log-probability")
    if not all(math.isfinite(value) for value in known.values()):
        return Unscored("non_finite_logprob", f"log-probabilities {known}")
    if read.mass < MASS_FLOOR:
        return Unscored("label_mass", f"the letters have a probability of {read.mass:.2g} together")
    highest = max(known.values())
    weights = {letter: math.exp(value - highest) for letter, value in known.items()}
    total = sum(weights.values())
    mean = sum(rating * weights.get(letter, 0.0) for letter, rating in factor.scale) / total
    # Rounding must not leave the scale when one letter has all the probability.
    return Rating(min(float(factor.high), max(float(factor.low), mean)), max(known, key=known.__getitem__))


def rating_of_letter(text: str, factor: Factor) -> Rating | Unscored:
    """Parse a rating generated with guided output, for a judge that returns no log-probabilities."""
    ratings = dict(factor.scale)
    letter = text.strip()
    return Rating(float(ratings[letter]), letter) if letter in ratings else Unscored("no_rating", text)
