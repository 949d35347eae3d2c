"""Twelve quality factors of an answer, each rated 1 to 10 as the expectation over the judge's next token.

The factor names are those of the paper's judging code (penfever/wildchat-50m@285b20a:src/core/judgment.py); the
descriptions are original. There are three deliberate deviations. The prompt contains the answer. The rating is a letter
from A to J, a single token in any tokenizer, because a tokenizer that splits numbers into digits puts the probability
of "10" on "1". The expectation is normalised by the total probability of the ten ratings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from judges.labels import MASS_FLOOR, read_labels
from judges.templates import JudgeTemplate, nonce
from judges.types import Message, Rating, Unscored

SCALE: tuple[tuple[str, int], ...] = tuple((chr(ord("A") + rating - 1), rating) for rating in range(1, 11))
"""Each rating's letter, from ("A", 1) to ("J", 10)."""

RATING_LABELS = tuple(letter for letter, _ in SCALE)
TEMPLATE = "factor_rating"
TEMPLATE_VARIABLES = frozenset({"questions", "answers", "factor", "meaning", "scale", "nonce"})
NEEDED_VARIABLES = frozenset({"answers", "factor", "nonce"})

FACTORS: Mapping[str, tuple[str, str]] = {
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
"""Factor to (name in the prompt, description)."""


def factor_prompt(
    template: JudgeTemplate, factor: str, questions: Sequence[str], answers: Sequence[str], *, salt: int = 0
) -> list[Message]:
    """Return the prompt that asks for the rating of one factor of an answer.

    ``questions`` and ``answers`` hold one text per turn, shown between delimiters with a key.
    Raises ValueError for an unknown factor.
    """
    if factor not in FACTORS:
        raise ValueError(f"unknown factor {factor!r}; known: {', '.join(FACTORS)}")
    name, meaning = FACTORS[factor]
    texts = {"questions": list(questions), "answers": list(answers)}
    key = nonce(*questions, *answers, salt=salt)
    return template.messages(**texts, factor=name, meaning=meaning, scale=list(SCALE), nonce=key)


def expected_rating(logprobs: Mapping[str, float]) -> Rating | Unscored:
    """Return the mean rating, in [1, 10], under the judge's distribution over the ten letters.

    ``logprobs`` are raw log-probabilities by letter, over all its spellings; the ten are normalised to sum to 1, and a
    missing letter has probability 0. None of the ten is ``Unscored("no_rating")``, less than ``MASS_FLOOR`` together
    ``Unscored("label_mass")``, a NaN or infinite value ``Unscored("non_finite_logprob")``.
    The rating's ``text`` is the most likely letter.
    Source: the expected score of G-Eval (Liu et al. 2023, arXiv 2303.16634, section 2), normalised.
    """
    read = read_labels(logprobs, RATING_LABELS)
    known = read.logprobs
    if not known:
        return Unscored("no_rating", "none of the ten letters has a log-probability")
    if not all(math.isfinite(value) for value in known.values()):
        return Unscored("non_finite_logprob", f"log-probabilities {known}")
    if read.mass < MASS_FLOOR:
        return Unscored("label_mass", f"the ten letters have a probability of {read.mass:.2g} together")
    highest = max(known.values())
    weights = {letter: math.exp(value - highest) for letter, value in known.items()}
    total = sum(weights.values())
    mean = sum(rating * weights.get(letter, 0.0) for letter, rating in SCALE) / total
    # Rounding must not leave the scale when one letter has all the probability.
    return Rating(min(10.0, max(1.0, mean)), max(known, key=known.__getitem__))


def rating_of_letter(text: str) -> Rating | Unscored:
    """Parse a rating generated with guided output, for a judge that returns no log-probabilities."""
    ratings = dict(SCALE)
    letter = text.strip()
    return Rating(float(ratings[letter]), letter) if letter in ratings else Unscored("no_rating", text)
