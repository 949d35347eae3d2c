"""Parse judgment texts and log-probabilities into verdicts.

The published protocols read the first ``[[x]]`` of a judgment or, if there is none, the first ``[x]``;
``as_published=True`` does exactly that. The default reads the same ``[[x]]``, so both agree whenever the judge followed
the format, and differs only where the published rule invents or misses a verdict:

1. the first ``[[x]]`` in the strict form, else
2. the first ``[[ x ]]`` in a looser form (spaces, ``Rating:`` before, ``/10`` after), else
3. the *last* ``[x]`` that looks like a verdict: preceded by a word such as "rating" or "score",
   followed by ``/10``, or alone on the last line of the text.

A footnote mark ("see [1]") is therefore never a rating, and a number outside the scale is
``Unscored("rating_out_of_range")``, not a score.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass

from judges.types import Choice, Preference, Rating, Unscored

_PUBLISHED_NUMBER = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))
_PUBLISHED_LETTER = (re.compile(r"\[\[([A-Z])\]\]"), re.compile(r"\[([A-Z])\]"))
_GAP = r"\s{0,3}"
_ORNAMENTS = " \t\r\n*_`\"'.[]"


@dataclass(frozen=True, slots=True)
class _Grammar:
    """The patterns of one kind of verdict, from strict to loose; group 1 is the verdict."""

    strict: re.Pattern[str]
    loose: re.Pattern[str]
    single: re.Pattern[str]
    before_single: re.Pattern[str]
    after_single: re.Pattern[str]


def _grammar(strict: str, value: str, labels: str, after: str) -> _Grammar:
    body = rf"{value}{after}{_GAP}"
    return _Grammar(
        strict=re.compile(rf"\[\[({strict})\]\]"),
        loose=re.compile(
            rf"\[{_GAP}\[{_GAP}(?:(?:{labels}){_GAP}[:=]?{_GAP})?{body}\]{_GAP}\]", re.IGNORECASE | re.ASCII
        ),
        single=re.compile(rf"\[{_GAP}{body}\](?!\()", re.IGNORECASE | re.ASCII),
        before_single=re.compile(
            rf"\b(?:{labels})(?:{_GAP}(?:is|of|as))?{_GAP}[:=]?[\s*_`\"'(]{{0,6}}\[?$", re.IGNORECASE
        ),
        after_single=re.compile(rf"\]?{after.removesuffix('?') or '(?!)'}", re.IGNORECASE),
    )


def _number_grammar(labels: str, top: int) -> _Grammar:
    over_top = rf"(?:{_GAP}(?:/|out of){_GAP}{top}(?:\.0)?(?!\w|\.\d))?"
    return _grammar(r"[0-9]+\.?[0-9]*", r"([0-9]+\.?[0-9]*|\.[0-9]+)", labels, over_top)


_RATING = _number_grammar("rating|score|grade", 10)
_SCORE = _number_grammar("rating|score|grade|correctness", 1)
_OPTION = _grammar("[A-Z]", r"\(?([A-Z])\)?[.:]?", "option|answer|choice|choose|chooses|chose|chosen|selected", "")


def _last_single(text: str, grammar: _Grammar) -> str | None:
    """Return the content of the last ``[x]`` of ``text`` that looks like a verdict, or None."""
    for match in reversed(list(grammar.single.finditer(text))):
        head = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        is_alone = not head.strip(_ORNAMENTS) and not text[match.end() :].strip(_ORNAMENTS)
        if is_alone or grammar.before_single.search(head) or grammar.after_single.match(text, match.end()):
            return match[1]
    return None


def _read(text: str, grammar: _Grammar) -> str | None:
    match = grammar.strict.search(text) or grammar.loose.search(text)
    return match[1] if match else _last_single(text, grammar)


def _published(text: str, patterns: tuple[re.Pattern[str], re.Pattern[str]]) -> str | None:
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


def _number(text: str, grammar: _Grammar, low: float, high: float) -> Rating | Unscored:
    if (digits := _read(text, grammar)) is None:
        return Unscored("no_rating", text)
    value = float(digits)
    return Rating(value, text) if low <= value <= high else Unscored("rating_out_of_range", text)


def parse_rating(text: str, *, as_published: bool = False) -> Rating | Unscored:
    """Parse MT-Bench's rating from a judgment: a number in [1, 10], not necessarily an integer.

    Never raises; a missing rating is ``Unscored("no_rating")`` and a number outside the scale
    ``Unscored("rating_out_of_range")``, each with the judgment as its detail. ``as_published`` returns what the
    published rule reads, including 11 or 0, and ``no_rating`` where it gives -1. Source:
    lm-sys/FastChat@0e6d3e4:fastchat/llm_judge/common.py; the deviations are listed at the top of this module.
    """
    return _published_number(text) if as_published else _number(text, _RATING, 1.0, 10.0)


def parse_score_0_to_1(text: str, *, as_published: bool = False) -> Rating | Unscored:
    """Parse MixEval's correctness score from a judgment: a number in [0, 1].

    Never raises; reasons as in :func:`parse_rating`. ``as_published`` returns what the published
    rule reads, including 1.5 (for which the published code retries and finally draws at random).
    Source: Psycoy/MixEval@7c52b41:mix_eval/utils/metric_utils.py.
    """
    return _published_number(text) if as_published else _number(text, _SCORE, 0.0, 1.0)


def parse_option(text: str, n_options: int, *, as_published: bool = False) -> Choice | Unscored:
    """Parse the option letter from an extraction judge's reply; ``n_options`` in [1, 26].

    A missing letter, or one beyond the options, is ``Unscored("no_option")``. ``as_published`` accepts
    any capital letter. Raises ValueError for an invalid ``n_options``, never for the text.
    Source: Psycoy/MixEval@7c52b41:mix_eval/utils/metric_utils.py.
    """
    if not 1 <= n_options <= 26:
        raise ValueError(f"n_options is {n_options}; expected 1 to 26, one letter each")
    letter = _published(text, _PUBLISHED_LETTER) if as_published else _read(text, _OPTION)
    if letter is None:
        return Unscored("no_option", text)
    letter = letter.upper()
    if not as_published and ord(letter) - ord("A") >= n_options:
        return Unscored("no_option", text)
    return Choice(letter, text)


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


def _logistic(x: float) -> float:
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    odds = math.exp(x)
    return odds / (1.0 + odds)
