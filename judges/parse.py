"""Parse judgment texts and log-probabilities into verdicts.

A mark is ``[[x]]``, also with spaces, ``Rating:`` or ``/10`` inside. The published protocols read the first strict mark
of a judgment or, if there is none, the first ``[x]``; ``as_published=True`` does exactly that. By default:

1. a mark is a verdict if a label such as "Rating:" or "score of" precedes it or if it ends the text, else
2. the last mark is one, and so is every ``[x]`` that a label precedes (perhaps with the same value between them, as in
   "Rating: 7 [7]"), that ``/10`` follows, or that is alone on the last line.

Verdicts that contradict each other count as no verdict: a judge that quotes "Rating: [[10]]" must say which is its
own. Both rules agree on a judgment with one mark in the format asked for, and neither reads a thought. A footnote
("see [1]") is never a rating, and a number outside the scale is ``Unscored("rating_out_of_range")``, not a score. Every
pattern is linear in the text.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from judges.thoughts import answer_alone
from judges.types import Choice, Preference, Rating, Unscored

Kind = Literal["rating", "score", "option"]

_PUBLISHED_NUMBER = (re.compile(r"\[\[(\d++\.?\d*+)\]\]"), re.compile(r"\[(\d++\.?\d*+)\]"))
_PUBLISHED_LETTER = (re.compile(r"\[\[([A-Z])\]\]"), re.compile(r"\[([A-Z])\]"))
_GAP = r"\s{0,3}"
_GLUE = r"[ \t\u00a0*_`\"'()]{0,6}+"
_ORNAMENTS = " \t\r\n*_`\"'.[]"
_AFTER_THE_END = " \t\r\n*_`.)"


@dataclass(frozen=True, slots=True)
class _Grammar:
    """The patterns of one kind of verdict, with the verdict as ``value``, and how to read it.

    ``labelled`` is a label, perhaps a ``bare`` value, and a ``double`` or ``single`` mark, or a mark with the label
    ``inside``; ``over_top`` is a single one before "/10".
    """

    read: Callable[[str], float | str]
    strict: re.Pattern[str]
    loose: re.Pattern[str]
    single: re.Pattern[str]
    labelled: re.Pattern[str]
    over_top: re.Pattern[str]


def _grammar(read: Callable[[str], float | str], strict: str, value: str, labels: str, over_top: str = "") -> _Grammar:
    body = rf"{value}){f'{over_top}?' if over_top else ''}"
    close = rf"{body}{_GAP}\]"
    label = rf"(?:{labels}){_GAP}[:=]?{_GAP}"
    single = rf"\[{_GAP}(?P<value>{close}(?!\()"
    double = rf"\[{_GAP}\[{_GAP}(?:{label})?(?P<value>{close}{_GAP}\]"
    inside = rf"\[{_GAP}\[{_GAP}{label}(?P<inside>{close}{_GAP}\]"
    lead = rf"(?<![^\W_])(?:{labels})(?![^\W_]){_GLUE}(?:is|of|as)?+{_GLUE}[:=]?+{_GLUE}(?:(?P<bare>{body}{_GLUE})?"
    named = (rf"{_GAP}{double.replace('value', 'double')}", rf"\[?{single.replace('value', 'single')}")
    flags = re.IGNORECASE | re.ASCII
    return _Grammar(
        read,
        strict=re.compile(rf"\[\[(?P<value>{strict})\]\]"),
        loose=re.compile(double, flags),
        single=re.compile(single, flags),
        labelled=re.compile(rf"{lead}(?:{'|'.join(named)})|{inside}", flags),
        over_top=re.compile(rf"{single}\]?{over_top or '(?!)'}", flags),
    )


def _number_grammar(labels: str, top: int) -> _Grammar:
    over_top = rf"(?:{_GAP}(?:/|out of){_GAP}{top}(?:\.0)?(?!\w|\.\d))"
    strict = r"[0-9]++(?:\.[0-9]*+)?+"
    return _grammar(float, strict, rf"{strict}|\.[0-9]++", labels, over_top)


def _letter(text: str) -> str:
    return text.strip("().:").upper()


@cache
def _grammar_of(kind: Kind) -> _Grammar:
    if kind == "option":
        labels = "option|answer|choice|choose|chooses|chose|chosen|selected"
        return _grammar(_letter, "[A-Z]", r"\(?[A-Z]\)?[.:]?", labels)
    labels, top = ("rating|score|grade", 10) if kind == "rating" else ("rating|score|grade|correctness", 1)
    return _number_grammar(labels, top)


def _verdicts(text: str, kind: Kind) -> list[float | str]:
    """Return the distinct verdicts that ``text`` states, by the rule at the top of this module."""
    text, grammar = answer_alone(text), _grammar_of(kind)
    read = grammar.read
    labelled = [
        match
        for match in grammar.labelled.finditer(text)
        if match["bare"] is None or read(match["bare"]) == read(match["double"] or match["single"])
    ]
    marks = list(grammar.strict.finditer(text)) or list(grammar.loose.finditer(text))
    values = [match["double"] or match["inside"] for match in labelled if match["single"] is None]
    if marks and marks[-1].end() >= len(text.rstrip(_AFTER_THE_END)):
        values.append(marks[-1]["value"])
    if not values:
        values = [match["value"] for match in (*marks[-1:], *grammar.over_top.finditer(text), *_alone(text, grammar))]
        values += [match["single"] for match in labelled]
    return list(dict.fromkeys(map(read, values)))


def _alone(text: str, grammar: _Grammar) -> list[re.Match[str]]:
    """Return the ``[x]`` that is alone on the last line."""
    end = len(text.rstrip(_ORNAMENTS))
    start = text.rfind("\n", 0, end) + 1
    matches = list(grammar.single.finditer(text, start))[-1:]
    return [one for one in matches if one.end() >= end and not text[start : one.start()].strip(_ORNAMENTS)]


def contradicts_itself(text: str, kind: Kind) -> bool:
    """Return whether a judgment states several different verdicts."""
    return len(_verdicts(text, kind)) > 1


def _published(text: str, patterns: tuple[re.Pattern[str], re.Pattern[str]]) -> str | None:
    text = answer_alone(text)
    match = patterns[0].search(text) or patterns[1].search(text)
    return match[1] if match else None


def _published_number(text: str) -> Rating | Unscored:
    if (digits := _published(text, _PUBLISHED_NUMBER)) is None:
        return Unscored("no_rating", text)
    try:
        return Rating(float(ast.literal_eval(digits)), text)
    except (SyntaxError, ValueError, OverflowError):
        # The published code evaluates the digits as Python and crashes on "[[01]]".
        return Unscored("no_rating", text)


def _number(text: str, kind: Kind, low: float, high: float) -> Rating | Unscored:
    verdicts = _verdicts(text, kind)
    if len(verdicts) != 1:
        return Unscored("no_rating", text)
    value = float(verdicts[0])
    return Rating(value, text) if low <= value <= high else Unscored("rating_out_of_range", text)


def parse_rating(text: str, *, as_published: bool = False) -> Rating | Unscored:
    """Parse MT-Bench's rating from a judgment: a number in [1, 10], not necessarily an integer.

    Never raises; a missing or contradictory rating is ``Unscored("no_rating")`` and a number outside the scale
    ``Unscored("rating_out_of_range")``, each with the judgment as its detail. ``as_published`` returns what the
    published rule reads, including 11 or 0, and ``no_rating`` where it gives -1. Source:
    lm-sys/FastChat@0e6d3e4:fastchat/llm_judge/common.py; the deviations are listed at the top of this module.
    """
    return _published_number(text) if as_published else _number(text, "rating", 1.0, 10.0)


def parse_score_0_to_1(text: str, *, as_published: bool = False) -> Rating | Unscored:
    """Parse MixEval's correctness score from a judgment: a number in [0, 1].

    Never raises; reasons as in :func:`parse_rating`. ``as_published`` returns what the published
    rule reads, including 1.5 (for which the published code retries and finally draws at random).
    Source: Psycoy/MixEval@7c52b41:mix_eval/utils/metric_utils.py.
    """
    return _published_number(text) if as_published else _number(text, "score", 0.0, 1.0)


def parse_option(text: str, n_options: int, *, as_published: bool = False) -> Choice | Unscored:
    """Parse the option letter from an extraction judge's reply; ``n_options`` in [1, 26].

    A missing or contradictory letter, or one beyond the options, is ``Unscored("no_option")``. ``as_published`` accepts
    any capital letter. Raises ValueError for an invalid ``n_options``, never for the text.
    Source: Psycoy/MixEval@7c52b41:mix_eval/utils/metric_utils.py.
    """
    if not 1 <= n_options <= 26:
        raise ValueError(f"n_options is {n_options}; expected 1 to 26, one letter each")
    letters = [_published(text, _PUBLISHED_LETTER)] if as_published else _verdicts(text, "option")
    letter = str(letters[0]) if len(letters) == 1 and letters[0] else ""
    is_option = letter and (as_published or ord(letter) - ord("A") < n_options)
    return Choice(letter, text) if is_option else Unscored("no_option", text)


def preference_from_logprobs(lp_m: float | None, lp_M: float | None, *, switched: bool) -> Preference | Unscored:  # noqa: N803
    """Turn the log-probabilities of AlpacaEval's labels into a preference in [1, 2].

    ``P = e^lp_m / (e^lp_m + e^lp_M)`` and the preference is ``2 - P``, or ``1 + P`` if the two outputs were shown in
    switched order. A label that is None was not among the returned tokens and has probability 0; both None is
    ``Unscored("no_verdict")``; NaN or an infinite value is ``Unscored("non_finite_logprob")``. Source: alpaca-eval
    0.6.6, completion_parsers.py (logprob_parser), computed from the difference to avoid underflow.
    """
    logprobs = tuple((label, lp) for label, lp in (("m", lp_m), ("M", lp_M)) if lp is not None)
    if not logprobs:
        return Unscored("no_verdict", "neither m nor M has a log-probability")
    if not all(math.isfinite(lp) for _, lp in logprobs):
        return Unscored("non_finite_logprob", f"log-probabilities {dict(logprobs)}")
    p_m = _logistic((-math.inf if lp_m is None else lp_m) - (-math.inf if lp_M is None else lp_M))
    return Preference(1.0 + p_m if switched else 2.0 - p_m, logprobs)


_RANK = re.compile(
    r"[\"']model[\"']\s?:\s?[\"']model_([12])[\"']\s?,\s{0,9}[\"']rank[\"']\s?:\s?[\"']?([12])(?!\d|\.\d)"
)


def parse_ranking(text: str, *, switched: bool) -> Preference | Unscored:
    """Parse a ranking of ``model_1`` and ``model_2`` as dictionaries with ``model`` and ``rank`` into a preference.

    Rank 1 for the output shown first is preference 1, or 2 if the two were shown in switched order. A missing or
    contradictory ranking is ``Unscored("no_verdict")``. Source: alpaca-eval 0.6.6, completion_parsers.py
    (ranking_parser). Deviation: the list may be in other text; ranks must not be equal.

    >>> parse_ranking("[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]", switched=False)
    Preference(value=1.0, logprobs=())
    """
    ranks = {(match[1], match[2]) for match in _RANK.finditer(text)}
    if ranks not in ({("1", "1"), ("2", "2")}, {("1", "2"), ("2", "1")}):
        return Unscored("no_verdict", text)
    first_wins = ("1", "1") in ranks
    return Preference(1.0 if first_wins != switched else 2.0)


def _logistic(x: float) -> float:
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    odds = math.exp(x)
    return odds / (1.0 + odds)
