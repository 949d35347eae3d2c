"""evalsuite's pairwise comparison: the prompt, parsing the reply, and combining both orders.

A *game* is one judgment of a pair in one order. There are two methods: ``verdict`` reads the judge's probabilities of
the single tokens A and B; ``reasoned`` lets the judge write an explanation that ends with A, B or tie. Both produce a
:class:`Game`, and two games with the answers swapped make one :class:`PairVerdict`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from judges.labels import MASS_FLOOR, read_labels, spellings
from judges.parse import preference_from_logprobs
from judges.templates import JudgeTemplate, nonce
from judges.types import Choice, Message, Unscored
from judges.written import TIE, leaning, written_letter

Method = Literal["verdict", "reasoned"]
Winner = Literal["a", "b", "tie"]

LABELS = ("A", "B")
"""The labels of the answers in prompt order; each a single token in common tokenizers."""

SPELLINGS = spellings(LABELS)
"""How judges spell them."""

TEMPLATES: Mapping[Method, str] = {"verdict": "pairwise_verdict", "reasoned": "pairwise_reasoned"}
NEEDED_VARIABLES = frozenset({"answers_a", "answers_b", "nonce"})
"""Variables that a comparison template must use."""

CONTEXT_VARIABLES = ("system", "reference", "rubric")
"""Texts of a request beside its turns, "" if there is none."""

TEMPLATE_VARIABLES = NEEDED_VARIABLES | {"questions", *CONTEXT_VARIABLES}
"""Variables passed to a comparison template."""

VERDICT_CHOICES = ("A]]", "B]]", "tie]]")
"""The guided completions of a reasoned comparison, after :func:`verdict_lead_in`."""

POINTS: Mapping[Winner, float] = {"a": 1.0, "b": 0.0, "tie": 0.5}
"""What each outcome is worth to a."""

OTHER_SIDE: Mapping[Winner, Winner] = {"a": "b", "b": "a", "tie": "tie"}

_POINTS_OF_LETTER = {"A": 1.0, "B": 0.0, TIE: 0.5}


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: the user's turns; the system prompt, reference answer, rubric and category if there are any."""

    turns: tuple[str, ...]
    system: str = ""
    reference: str = ""
    rubric: str = ""
    category: str = ""

    def of(self, category: str | None) -> Request:
        """Return the same request in a category."""
        return replace(self, category=category or "")

    @property
    def context(self) -> dict[str, str]:
        """The texts beside the turns, by variable."""
        return {name: getattr(self, name) for name in CONTEXT_VARIABLES}


@dataclass(frozen=True, slots=True)
class Game:
    """One pair judged in one order.

    ``first`` in [0, 1] is the preference for the answer shown first (0.5 is a tie); ``logprobs`` are
    those of the labels over all spellings and ``mass`` is their total probability (``verdict``); ``text`` is the
    judgment in words, ``in_words`` says that it was asked for because the mass was below the floor. ``closed_by_guide``
    says that the verdict was added under guided output because the free text had none, and ``contradicts`` that the
    free text called the other answer better. ``shortened`` says that the answers were cut to fit the context.
    ``thought`` is what the judge thought before its verdict.
    ``rewards`` are a reward model's scores of both answers, in their order.
    """

    first: float
    text: str = ""
    logprobs: tuple[tuple[str, float], ...] = ()
    closed_by_guide: bool = False
    mass: float | None = None
    in_words: bool = False
    contradicts: bool = False
    shortened: bool = False
    thought: str | None = None
    rewards: tuple[float, float] | None = None

    @property
    def winner(self) -> Winner:
        """The side that wins, a being the answer shown first."""
        return winner_of(self.first)


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """The combined verdict of both orders of one pair.

    ``winner`` is strict: a or b only if both orders agree. ``preference_a`` in [0, 1] is the mean
    over the orders. ``position_flip`` says that the two orders name different answers, ``half_tie`` that one order
    names an answer and the other is a tie, ``identical`` that the answers were identical and no judge was asked.
    """

    winner: Winner
    preference_a: float
    position_flip: bool = False
    identical: bool = False
    half_tie: bool = False


IDENTICAL = PairVerdict("tie", 0.5, identical=True)


def key_of(request: Request, *answers: Sequence[str], salt: int = 0) -> str:
    """Return the delimiter key for these texts; another ``salt`` gives another key."""
    beside = (text for text in request.context.values() if text)
    return nonce(*request.turns, *(text for answer in answers for text in answer), *beside, salt=salt)


def comparison_prompt(
    template: JudgeTemplate, request: Request, first: Sequence[str], second: Sequence[str], *, key: str
) -> list[Message]:
    """Return the prompt that asks which of two answers is better, one text per turn, delimited with ``key``.

    Texts are inserted unchanged and never rendered again. Raises ``jinja2.UndefinedError`` for a
    template with other variables (see ``JudgeTemplate.check``).
    """
    return template.messages(
        questions=list(request.turns), answers_a=list(first), answers_b=list(second), nonce=key, **request.context
    )


def shortened(texts: Sequence[str], n_chars: int) -> tuple[str, ...]:
    """Cut each text longer than ``n_chars`` in the middle, keeping its beginning and its end in equal parts."""
    half = n_chars // 2
    return tuple(
        text
        if len(text) <= 2 * half
        else f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[len(text) - half :]}"
        for text in texts
    )


def verdict_lead_in(key: str) -> str:
    """Return the text appended to a judgment without a verdict; the judge then completes it with a choice."""
    return f"\n\nVerdict {key}: [["


def parse_verdict(text: str, key: str, answers: Sequence[str] = ()) -> Choice | Unscored:
    """Parse the last line of the form ``Verdict KEY: [[A]]`` in a judgment, else a verdict in another known form.

    The letter is A, B or :data:`TIE`. A line that is in one of the ``answers`` is never a verdict without the key,
    so a "[[A]]" planted in an answer and quoted by the judge is not. Never raises; a missing verdict is
    ``Unscored("no_verdict")`` with the text as its detail. Source of the other forms: :mod:`judges.written`.
    """
    verdict_line = re.compile(
        rf"^[ \t>*_`#]*Verdict[ \t]+{re.escape(key)}[ \t*_]*:[ \t*_`]*\[\[?[ \t]*(A|B|tie)[ \t]*\]\]?[ \t*_`.]*$",
        re.IGNORECASE | re.MULTILINE,
    )
    if matches := verdict_line.findall(text):
        return Choice(TIE if matches[-1].lower() == "tie" else matches[-1].upper(), text)
    letter = written_letter(text, key, answers)
    return Unscored("no_verdict", text) if letter is None else Choice(letter, text)


def game_from_choice(choice: Choice, answers: Sequence[str] = ()) -> Game:
    """Convert the letter of a reasoned comparison of ``answers`` into a game."""
    first = _POINTS_OF_LETTER[choice.letter]
    return Game(
        first,
        choice.text,
        closed_by_guide=choice.closed_after is not None,
        contradicts=against_text(choice, first, answers),
        thought=choice.thought,
    )


def against_text(choice: Choice, first: float, answers: Sequence[str] = ()) -> bool:
    """Return whether a guided closing, worth ``first`` (0 to 1) to the first answer, contradicts the text before."""
    said = None if choice.closed_after is None else leaning(choice.closed_after, answers)
    return said is not None and said.lower() != winner_of(first)


def game_from_logprobs(logprobs: Mapping[str, float]) -> Game | Unscored:
    """Convert the log-probabilities of A and B into a game: A's share of the total probability, over all spellings.

    A missing label has probability 0; both missing is ``Unscored("no_verdict")``, less than ``MASS_FLOOR`` together
    ``Unscored("label_mass")``, a NaN or infinite value ``Unscored("non_finite_logprob")``. Source: the weighted
    preference of alpaca-eval 0.6.6 (completion_parsers.py, logprob_parser), with the labels A and B. Deviations: the
    spellings and the floor (:mod:`judges.labels`).
    """
    read = read_labels(logprobs, LABELS)
    preference = preference_from_logprobs(*(read.logprobs.get(label) for label in LABELS), switched=False)
    if isinstance(preference, Unscored):
        return preference
    if read.mass < MASS_FLOOR:
        return Unscored("label_mass", f"A and B have a probability of {read.mass:.2g} together")
    return Game(2.0 - preference.value, logprobs=tuple(read.logprobs.items()), mass=read.mass)


def game_from_rewards(first: float, second: float) -> Game:
    """Convert a reward model's scores of two answers (any finite numbers) into a game.

    The preference is the sigmoid of their difference, the probability under the Bradley-Terry model that such models
    are trained on. Source: Ouyang et al. 2022 (arXiv 2203.02155), equation 1.
    """
    # Written with tanh, the sigmoid neither overflows nor loses its symmetry.
    return Game(0.5 + 0.5 * math.tanh((first - second) / 2), rewards=(first, second))


def winner_of(preference_a: float, *, margin: float = 0.0) -> Winner:
    """Return the preferred side; a preference within ``margin`` of one half is a tie."""
    if abs(preference_a - 0.5) <= margin + 1e-12:
        return "tie"
    return "a" if preference_a > 0.5 else "b"


def points_of(verdict: PairVerdict) -> float:
    """Return a's share of the win: 1, 0, or one half where the orders do not agree on a winner."""
    return POINTS[verdict.winner]


def check_margin(margin: float) -> None:
    """Raise ValueError unless ``margin`` lies in [0, 0.5)."""
    if not (math.isfinite(margin) and 0 <= margin < 0.5):
        raise ValueError(f"a tie margin of {margin}; expected a number in [0, 0.5)")


def combine_orders(
    a_first: Game | Unscored, b_first: Game | Unscored, *, margin: float = 0.0
) -> PairVerdict | Unscored:
    """Combine the two orders of a pair into one verdict.

    The winner is the one that both orders agree on. If they name different answers, it is a position flip and a tie;
    if one order names an answer and the other is a tie, a half tie and a tie. A mean preference within ``margin`` (in
    [0, 0.5)) of one half is a tie too. If either order is unscored, so is the pair. Source: the rule for disagreeing
    orders is MT-Bench's (lm-sys/FastChat@0e6d3e4: fastchat/llm_judge/show_result.py, where a tie in either order is a
    tie), the mean over orders AlpacaEval's weighted preference.
    """
    check_margin(margin)
    if isinstance(a_first, Unscored):
        return a_first
    if isinstance(b_first, Unscored):
        return b_first
    preference_a = (a_first.first + (1.0 - b_first.first)) / 2
    original, swapped = winner_of(a_first.first), winner_of(1.0 - b_first.first)
    if original != swapped:
        half = "tie" in (original, swapped)
        return PairVerdict("tie", preference_a, position_flip=not half, half_tie=half)
    return PairVerdict("tie" if winner_of(preference_a, margin=margin) == "tie" else original, preference_a)


def swap_pair(verdict: PairVerdict) -> PairVerdict:
    """Return the verdict with a and b exchanged."""
    return replace(verdict, winner=OTHER_SIDE[verdict.winner], preference_a=1.0 - verdict.preference_a)
