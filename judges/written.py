"""Read a verdict that a judge wrote in its own way.

A judge was asked for one form and may know another by heart: "[RESULT] B" (Prometheus 2), "[[B]]" (FastChat), "8 6" on
the first line (JudgeLM), "Answer B is better". What it wrote counts before any closing under guided output. Only the
last line is read (of "8 6" the first), and never a line that is in one of the answers: that is a quotation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

TIE = "T"
"""The letter of a tie, beside A and B."""

_LETTER = r"(?P<letter>A|B|C|tie)"
_WHO = r"(?:the )?(?:answer|assistant|response|output|model|option)"
_BRACKETED = rf"[\[(*_`\" ]{{0,6}}(?:{_WHO} )?[\[(]{{0,2}}{_LETTER}[\])*_`\" .!]{{0,6}}"
_BETTER = r"(?:better|the better|the best|superior|preferable|the winner)"
_PRAISED = rf"(?:(?:is|was) (?:(?!not |no )\w+ ){{0,2}}{_BETTER}|serves (?:\w+ ){{1,5}}better)"
_NAMED = rf"\b{_WHO} [\[(*\"]{{0,3}}(?P<letter>A|B)[\])*\"]{{0,3}} {_PRAISED}\b"
_LABEL = r"(?:verdict|winner|choice|decision|judge?ment|preference|conclusion)"
_FORMS = (
    rf"\[RESULT\]:? ?{_BRACKETED}$",
    rf"(?<![\"'])\[\[ ?{_LETTER} ?\]\][ .*_`]{{0,4}}$",
    rf"^{_BRACKETED}$",
    rf"\b{_LABEL}[*_]{{0,2}}(?: is|:| -)[*_]{{0,2}} ?{_BRACKETED}$",
    rf"\bbetter (?:answer|assistant|response|output|model|option|one)(?: is|:) ?{_BRACKETED}$",
    _NAMED + r"(?: (?:one|answer|response|output|of the two))?[ .!*_]{0,4}$",
)
_EVEN = r"\b(?:it is|it's|this is) a tie[ .!*_]{0,4}$|\bboth (?:\w+ ){0,2}equally good[ .!*_]{0,4}$"
_PLAIN = r"\d{1,3}(?:\.\d{1,2})?"
_RATED = (
    rf"\b(?:rating|score|grade)\b[ :=*_`\"]{{0,6}}(?:(?:is|of|would be|as) )?(?:an? )?[\[(*_`\" ]{{0,4}}"
    rf"(?P<labelled>{_PLAIN})(?![\d.]*\d| ?(?:-|–|to\b|%))"
    rf"|(?<![\d.])(?P<over>{_PLAIN}) ?(?:/|out of) ?(?:10|5|1)\b(?!\.\d)|\[\[ ?(?P<marked>{_PLAIN}) ?\]"
)
_OPTION = (
    r"\b(?i:option|answer|choice|letter)\b[ :=*_`\"]{0,6}(?:is )?(?:(?i:option) )?[\[(*_`\"' ]{0,4}(?P<letter>[A-Z])"
    r"(?=[\])*_`\"'.,;:]|\s*$)"
)
_SCORES = r"^(?P<first>\d{1,2}(?:\.\d)?)[ ,]{1,2}(?P<second>\d{1,2}(?:\.\d)?)$"
_KEY = r"\b[0-9a-f]{16}\b"
_LONGEST_LINE = 400


@cache
def _any_case(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def written_letter(text: str, key: str, answers: Sequence[str] = ()) -> str | None:
    """Return A, B or :data:`TIE` as the judge wrote it; None if it wrote no verdict in a known form.

    ``answers`` are the texts it judged: their lines are quotations where the judge repeats them. A line with another
    key than ``key`` is never a verdict, one with it only where "verdict" and the key begin the line.
    """
    quoted = {line.strip() for answer in answers for line in answer.splitlines() if line.strip()}
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[0] not in quoted and (scores := re.match(_SCORES, lines[0])):
        first, second = float(scores["first"]), float(scores["second"])
        return TIE if first == second else "A" if first > second else "B"
    if not lines or lines[-1] in quoted:
        return None
    last = lines[-1][-_LONGEST_LINE:]
    keyed = re.match(
        rf"[>*_`# ]*(?:final |my )?verdict[ ]+{re.escape(key)}[*_]*:?[ ]*(?P<rest>.*)", last, re.IGNORECASE
    )
    last = keyed["rest"] if keyed else last
    if re.search(_KEY, last):
        return None
    for form in _FORMS:
        if match := _any_case(form).search(last):
            letter = TIE if match["letter"].lower() in ("tie", "c") else match["letter"].upper()
            # C is FastChat's tie, and no letter of ours.
            return None if keyed and match["letter"].upper() == "C" else letter
    return TIE if _any_case(_EVEN).search(last) else None


def named_rating(text: str) -> float | None:
    """Return the rating that a judgment names in any form ("Rating: 7", "7/10", "[[11]]"); None for none or several."""
    named = {float(match["labelled"] or match["over"] or match["marked"]) for match in _any_case(_RATED).finditer(text)}
    return named.pop() if len(named) == 1 else None


def named_option(text: str) -> str | None:
    """Return the letter of the option that a judgment names ("the answer is (B)."); None for none or several."""
    named = {match["letter"] for match in re.finditer(_OPTION, text, re.MULTILINE)}
    return named.pop() if len(named) == 1 else None


def leaning(text: str, answers: Sequence[str] = ()) -> str | None:
    """Return the answer that a judgment without a verdict calls better, A or B; None if it names none or both."""
    quoted = {line.strip() for answer in answers for line in answer.splitlines()}
    own = [line for line in text.splitlines() if line.strip() not in quoted]
    named = {match["letter"].upper() for line in own for match in _any_case(_NAMED).finditer(line[:_LONGEST_LINE])}
    return named.pop() if len(named) == 1 else None
