"""evalsuite's pairwise comparison: the prompt, parsing the reply, and combining both orders.

A *game* is one judgment of a pair in one order. There are two methods: ``verdict`` reads the judge's probabilities of
the single tokens A and B; ``reasoned`` lets the judge write an explanation that ends with A, B or tie. Both produce a
:class:`Game`, and two games with the answers swapped make one :class:`PairVerdict`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from judges.parse import preference_from_logprobs
from judges.templates import JudgeTemplate, nonce
from judges.types import Choice, Message, Unscored

Method = Literal["verdict", "reasoned"]
Winner = Literal["a", "b", "tie"]

LABELS = ("A", "B")
"""The labels of the answers in prompt order; each a single token in common tokenizers."""

TEMPLATES: Mapping[Method, str] = {"verdict": "pairwise_verdict", "reasoned": "pairwise_reasoned"}
TEMPLATE_VARIABLES = frozenset({"questions", "answers_a", "answers_b", "nonce"})
"""Variables passed to a comparison template; it must use all but the questions."""

NEEDED_VARIABLES = TEMPLATE_VARIABLES - {"questions"}

VERDICT_CHOICES = ("A]]", "B]]", "tie]]")
"""The guided completions of a reasoned comparison, after :func:`verdict_lead_in`."""

TIE = "T"
"""The letter of a :class:`Choice` that means a tie."""

_POINTS = {"A": 1.0, "B": 0.0, TIE: 0.5}


@dataclass(frozen=True, slots=True)
class Game:
    """One pair judged in one order.

    ``first`` in [0, 1] is the preference for the answer shown first (0.5 is a tie); ``logprobs`` are
    those of the labels (``verdict``), ``text`` is the judgment (``reasoned``), and ``closed_by_guide``
    says that the verdict was added under guided output because the free text had none.
    """

    first: float
    text: str = ""
    logprobs: tuple[tuple[str, float], ...] = ()
    closed_by_guide: bool = False


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """The combined verdict of both orders of one pair.

    ``winner`` is strict: a or b only if both orders agree. ``preference_a`` in [0, 1] is the mean
    over the orders. ``position_flip`` says that the verdict changed when the answers were swapped,
    ``identical`` that the answers were identical and no judge was asked.
    """

    winner: Winner
    preference_a: float
    position_flip: bool = False
    identical: bool = False


IDENTICAL = PairVerdict("tie", 0.5, identical=True)


def key_of(questions: Sequence[str], *answers: Sequence[str], salt: int = 0) -> str:
    """Return the delimiter key for these texts; another ``salt`` gives another key."""
    return nonce(*questions, *(text for answer in answers for text in answer), salt=salt)


def comparison_prompt(
    template: JudgeTemplate, questions: Sequence[str], first: Sequence[str], second: Sequence[str], *, key: str
) -> list[Message]:
    """Return the prompt that asks which of two answers is better, one text per turn, delimited with ``key``.

    Texts are inserted unchanged and never rendered again. Raises ``jinja2.UndefinedError`` for a
    template with other variables (see ``JudgeTemplate.check``).
    """
    return template.messages(questions=list(questions), answers_a=list(first), answers_b=list(second), nonce=key)


def verdict_lead_in(key: str) -> str:
    """Return the text appended to a judgment without a verdict; the judge then completes it with a choice."""
    return f"\n\nVerdict {key}: [["


def parse_verdict(text: str, key: str) -> Choice | Unscored:
    """Parse the last line of the form ``Verdict KEY: [[A]]`` in a judgment.

    The letter is A, B or :data:`TIE`. A verdict without the key is ignored, so a "[[A]]" planted in an
    answer and quoted by the judge is never taken for the verdict. Never raises; a missing verdict is
    ``Unscored("no_verdict")`` with the text as its detail.
    """
    verdict_line = re.compile(
        rf"^[ \t>*_`#]*Verdict[ \t]+{re.escape(key)}[ \t*_]*:[ \t*_`]*\[\[?[ \t]*(A|B|tie)[ \t]*\]\]?[ \t*_`.]*$",
        re.IGNORECASE | re.MULTILINE,
    )
    if not (matches := verdict_line.findall(text)):
        return Unscored("no_verdict", text)
    return Choice(TIE if matches[-1].lower() == "tie" else matches[-1].upper(), text)


def game_from_choice(choice: Choice, *, closed_by_guide: bool = False) -> Game:
    """Convert the letter of a reasoned comparison into a game."""
    return Game(_POINTS[choice.letter], choice.text, closed_by_guide=closed_by_guide)


def game_from_logprobs(logprobs: Mapping[str, float]) -> Game | Unscored:
    """Convert the log-probabilities of A and B into a game: A's share of the total probability.

    A missing label has probability 0; both missing is ``Unscored("no_verdict")``, a NaN or infinite
    value ``Unscored("non_finite_logprob")``. Source: the weighted preference of alpaca-eval 0.6.6
    (completion_parsers.py, logprob_parser), with the labels A and B.
    """
    lp_first, lp_second = (logprobs.get(label) for label in LABELS)
    preference = preference_from_logprobs(lp_first, lp_second, switched=False)
    if isinstance(preference, Unscored):
        return preference
    present = tuple((label, logprobs[label]) for label in LABELS if label in logprobs)
    return Game(2.0 - preference.value, logprobs=present)


def winner_of(preference_a: float, *, margin: float = 0.0) -> Winner:
    """Return the preferred side; a preference within ``margin`` of one half is a tie."""
    if abs(preference_a - 0.5) <= margin + 1e-12:
        return "tie"
    return "a" if preference_a > 0.5 else "b"


def check_margin(margin: float) -> None:
    """Raise ValueError unless ``margin`` lies in [0, 0.5)."""
    if not (math.isfinite(margin) and 0 <= margin < 0.5):
        raise ValueError(f"a tie margin of {margin}; expected a number in [0, 0.5)")


def combine_orders(
    a_first: Game | Unscored, b_first: Game | Unscored, *, margin: float = 0.0
) -> PairVerdict | Unscored:
    """Combine the two orders of a pair into one verdict.

    The winner is the one that both orders agree on. If they disagree, it is a position flip and a tie; a mean
    preference within ``margin`` (in [0, 0.5)) of one half is a tie too. If either order is unscored, so is the pair.
    Source: the rule for disagreeing orders is MT-Bench's (lm-sys/FastChat@0e6d3e4: fastchat/llm_judge/gen_judgment.py),
    the mean over orders AlpacaEval's weighted preference.
    """
    check_margin(margin)
    if isinstance(a_first, Unscored):
        return a_first
    if isinstance(b_first, Unscored):
        return b_first
    preference_a = (a_first.first + (1.0 - b_first.first)) / 2
    original, swapped = winner_of(a_first.first), winner_of(1.0 - b_first.first)
    if original != swapped:
        return PairVerdict("tie", preference_a, position_flip=True)
    return PairVerdict("tie" if winner_of(preference_a, margin=margin) == "tie" else original, preference_a)


def swap_pair(verdict: PairVerdict) -> PairVerdict:
    """Return the verdict with a and b exchanged."""
    mirrored: Mapping[Winner, Winner] = {"a": "b", "b": "a", "tie": "tie"}
    return PairVerdict(
        mirrored[verdict.winner], 1.0 - verdict.preference_a, verdict.position_flip, identical=verdict.identical
    )


def panel_majority(verdicts: Sequence[PairVerdict | Unscored]) -> PairVerdict | Unscored:
    """Return the majority verdict of a panel of judges; a tie if no side has more than half of the votes.

    Judges without a verdict do not vote; if none has one, the first judge's reason is returned.
    ``preference_a`` is the mean of the votes (a tie counts one half), and ``position_flip`` that of
    more than half of the verdicts. Raises ValueError for an empty panel.
    """
    votes = _votes(verdicts)
    if isinstance(votes, Unscored):
        return votes
    n = len(votes)
    wins = {side: sum(vote.winner == side for vote in votes) for side in ("a", "b")}
    winner: Winner = "a" if 2 * wins["a"] > n else "b" if 2 * wins["b"] > n else "tie"
    preference = sum({"a": 1.0, "b": 0.0, "tie": 0.5}[vote.winner] for vote in votes) / n
    return PairVerdict(winner, preference, 2 * sum(v.position_flip for v in votes) > n, all(v.identical for v in votes))


def panel_mean(verdicts: Sequence[PairVerdict | Unscored], *, margin: float = 0.0) -> PairVerdict | Unscored:
    """Return the verdict of the mean preference; flips and missing verdicts as in :func:`panel_majority`."""
    check_margin(margin)
    votes = _votes(verdicts)
    if isinstance(votes, Unscored):
        return votes
    mean = sum(vote.preference_a for vote in votes) / len(votes)
    flips = 2 * sum(vote.position_flip for vote in votes) > len(votes)
    return PairVerdict(winner_of(mean, margin=margin), mean, flips, all(vote.identical for vote in votes))


def _votes(verdicts: Sequence[PairVerdict | Unscored]) -> list[PairVerdict] | Unscored:
    if not verdicts:
        raise ValueError("no verdicts; expected one per judge")
    votes = [verdict for verdict in verdicts if isinstance(verdict, PairVerdict)]
    return votes or next(verdict for verdict in verdicts if isinstance(verdict, Unscored))
