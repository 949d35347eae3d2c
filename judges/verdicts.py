"""Our own comparison of two answers: the question in one order, what it says, and both orders together.

One question to the judge, in one order, is a *game*. Two methods play it: ``verdict`` reads the
judge's probability for the single tokens A and B, ``reasoned`` lets the judge write and then
names A, B or tie. Both end in the same :class:`Game`, and two games with the answers changed
over make one :class:`PairVerdict`.
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
METHODS: tuple[Method, ...] = ("verdict", "reasoned")
Winner = Literal["a", "b", "tie"]

LABELS = ("A", "B")
"""The answers in the order in which the prompt shows them; single tokens in every tokenizer at hand."""

TEMPLATES: Mapping[Method, str] = {"verdict": "pairwise_verdict", "reasoned": "pairwise_reasoned"}
TEMPLATE_VARIABLES = frozenset({"questions", "answers_a", "answers_b", "nonce"})
"""What a comparison template is given; ours and a user's must show all but the questions."""

NEEDED_VARIABLES = TEMPLATE_VARIABLES - {"questions"}

VERDICT_CHOICES = ("A]]", "B]]", "tie]]")
"""The guided closings of a reasoned comparison, after :func:`verdict_lead_in`."""

TIE = "T"
"""The letter of a :class:`Choice` that says tie."""

_POINTS = {"A": 1.0, "B": 0.0, TIE: 0.5}


@dataclass(frozen=True, slots=True)
class Game:
    """One pair judged in one order.

    ``first`` in [0, 1] is how far the judge prefers the answer that was shown first (0.5 a tie);
    ``logprobs`` are those of the labels under ``verdict``, ``text`` the words under ``reasoned``,
    and ``closed_by_guide`` says that the free words held no verdict.
    """

    first: float
    text: str = ""
    logprobs: tuple[tuple[str, float], ...] = ()
    closed_by_guide: bool = False


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """Both orders of one pair together.

    ``winner`` is strict: a or b only where both orders name it. ``preference_a`` in [0, 1] is the
    mean over the orders. ``position_flip`` says that the verdict changed when the answers changed
    places, ``identical`` that the answers were the same and nobody was asked.
    """

    winner: Winner
    preference_a: float
    position_flip: bool = False
    identical: bool = False


IDENTICAL = PairVerdict("tie", 0.5, identical=True)


def key_of(questions: Sequence[str], *answers: Sequence[str], salt: int = 0) -> str:
    """Return the key of the delimiters around these texts; ``salt`` gives the same question another key."""
    return nonce(*questions, *(text for answer in answers for text in answer), salt=salt)


def comparison_prompt(
    template: JudgeTemplate, questions: Sequence[str], first: Sequence[str], second: Sequence[str], *, key: str
) -> list[Message]:
    """Ask which of two answers is better; one text a turn, shown as A and B inside delimiters that carry ``key``.

    Texts are put in unchanged and never rendered again. Raises ``jinja2.UndefinedError`` for a
    template that asks for something else (see ``JudgeTemplate.check``).
    """
    return template.messages(questions=list(questions), answers_a=list(first), answers_b=list(second), nonce=key)


def verdict_lead_in(key: str) -> str:
    """Return what continues a judgment without a verdict; the judge then closes it with a choice."""
    return f"\n\nVerdict {key}: [["


def parse_verdict(text: str, key: str) -> Choice | Unscored:
    """Read the last line of the form ``Verdict KEY: [[A]]`` from a judge's words.

    The letter is A, B or :data:`TIE`. A verdict without the key is not one: an answer that plants
    "[[A]]", and a judge that quotes it, cannot be read as the verdict. Never raises; no verdict is
    ``Unscored("no_verdict")`` with the text as its detail.
    """
    line = re.compile(
        rf"^[ \t>*_`#]*Verdict[ \t]+{re.escape(key)}[ \t*_]*:[ \t*_`]*\[\[?[ \t]*(A|B|tie)[ \t]*\]\]?[ \t*_`.]*$",
        re.IGNORECASE | re.MULTILINE,
    )
    found = line.findall(text)
    if not found:
        return Unscored("no_verdict", text)
    return Choice(TIE if found[-1].lower() == "tie" else found[-1].upper(), text)


def game_from_choice(choice: Choice, *, closed_by_guide: bool = False) -> Game:
    """Turn the letter of a reasoned comparison into a game."""
    return Game(_POINTS[choice.letter], choice.text, closed_by_guide=closed_by_guide)


def game_from_logprobs(logprobs: Mapping[str, float]) -> Game | Unscored:
    """Turn the log-probabilities of A and B into a game: the share of A in the two.

    An absent label has probability 0; both absent is ``Unscored("no_verdict")``, a number that is
    not finite ``Unscored("non_finite_logprob")``. Source: the weighted preference of alpaca-eval
    0.6.6 (completion_parsers.py, logprob_parser), on our own labels.
    """
    lp_first, lp_second = (logprobs.get(label) for label in LABELS)
    preference = preference_from_logprobs(lp_first, lp_second, switched=False)
    if isinstance(preference, Unscored):
        return preference
    present = tuple((label, logprobs[label]) for label in LABELS if label in logprobs)
    return Game(2.0 - preference.value, logprobs=present)


def winner_of(preference_a: float, *, margin: float = 0.0) -> Winner:
    """Say who is preferred: a tie within ``margin`` of one half, and exactly there."""
    if abs(preference_a - 0.5) <= margin + 1e-12:
        return "tie"
    return "a" if preference_a > 0.5 else "b"


def check_margin(margin: float) -> None:
    """Raise ValueError unless ``margin`` lies in [0, 0.5)."""
    if not (math.isfinite(margin) and 0 <= margin < 0.5):
        raise ValueError(f"a tie margin of {margin}; expected a number from 0 up to 0.5")


def combine_orders(
    a_first: Game | Unscored, b_first: Game | Unscored, *, margin: float = 0.0
) -> PairVerdict | Unscored:
    """Put the two orders of a pair together.

    The winner is the one that both orders name. When the verdict changes with the order, that is a
    position flip and a tie; when the mean preference lies within ``margin`` (in [0, 0.5)) of one
    half, it is a tie too. An order without a verdict leaves the pair without one.
    Source: the rule for disagreeing orders is MT-Bench's (lm-sys/FastChat@0e6d3e4:
    fastchat/llm_judge/gen_judgment.py), the mean over orders AlpacaEval's weighted preference.
    """
    check_margin(margin)
    if isinstance(a_first, Unscored):
        return a_first
    if isinstance(b_first, Unscored):
        return b_first
    preference_a = (a_first.first + (1.0 - b_first.first)) / 2
    straight, turned = winner_of(a_first.first), winner_of(1.0 - b_first.first)
    if straight != turned:
        return PairVerdict("tie", preference_a, position_flip=True)
    return PairVerdict("tie" if winner_of(preference_a, margin=margin) == "tie" else straight, preference_a)


def swap_pair(verdict: PairVerdict) -> PairVerdict:
    """Return the verdict on the same pair with a and b called the other way round."""
    mirrored: Mapping[Winner, Winner] = {"a": "b", "b": "a", "tie": "tie"}
    return PairVerdict(
        mirrored[verdict.winner], 1.0 - verdict.preference_a, verdict.position_flip, identical=verdict.identical
    )


def panel_majority(verdicts: Sequence[PairVerdict | Unscored]) -> PairVerdict | Unscored:
    """Return what more than half of the judges say; a tie where no side has that.

    Judges without a verdict do not vote; when none has one, the first one's reason stands.
    ``preference_a`` is the mean of the votes (a tie counts one half), and a position flip one in
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
    """Return the judges' mean preference and the side it falls on; flips and gaps as in :func:`panel_majority`."""
    check_margin(margin)
    votes = _votes(verdicts)
    if isinstance(votes, Unscored):
        return votes
    mean = sum(vote.preference_a for vote in votes) / len(votes)
    flips = 2 * sum(vote.position_flip for vote in votes) > len(votes)
    return PairVerdict(winner_of(mean, margin=margin), mean, flips, all(vote.identical for vote in votes))


def _votes(verdicts: Sequence[PairVerdict | Unscored]) -> list[PairVerdict] | Unscored:
    if not verdicts:
        raise ValueError("no verdicts; expected one a judge")
    votes = [verdict for verdict in verdicts if isinstance(verdict, PairVerdict)]
    return votes or next(verdict for verdict in verdicts if isinstance(verdict, Unscored))
