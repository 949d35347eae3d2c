"""Arena-Hard's comparison: two answers, one of five labels, two games with the answers swapped.

Source: lmarena/arena-hard-auto@196f6b8: gen_judgment.py (prompt, labels), show_result.py (what a label is worth).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from judges.templates import fill, judge_template, nonce
from judges.types import Choice, Message, Unscored

LABELS = ("A>>B", "A>B", "A=B", "B>A", "B>>A")
"""From the first answer much better to the second much better."""

LEAD_IN = "\n\nMy final verdict is: [["
"""Appended to a judgment without a label; the judge then completes it with one of the choices."""

CHOICES = tuple(f"{label}]]" for label in LABELS)

STRONG = 3
"""How many games a verdict "much better" counts."""

OUTCOMES: Mapping[str, tuple[float, int]] = {
    "A>>B": (1.0, STRONG),
    "A>B": (1.0, 1),
    "A=B": (0.5, 1),
    "B>A": (0.0, 1),
    "B>>A": (0.0, STRONG),
    "B<<A": (1.0, STRONG),
    "B<A": (1.0, 1),
    "B=A": (0.5, 1),
    "A<B": (0.0, 1),
    "A<<B": (0.0, STRONG),
}
"""What the first answer wins under each label, and how many games that is."""

_PATTERNS = (re.compile(r"\[\[([AB<>=]+)\]\]"), re.compile(r"\[([AB<>=]+)\]"))


def parse_label(judgment: str) -> Choice | Unscored:
    """Read the verdict of a game: the last label in double brackets or, if there is none, in single ones.

    Never raises; no label, or one that is not of :data:`OUTCOMES` ("[[A]]", on which the published code fails), is
    ``Unscored("no_verdict")`` with the judgment as its detail. Source: gen_judgment.py (get_score).
    """
    for pattern in _PATTERNS:
        if found := pattern.findall(judgment.upper()):
            return Choice(found[-1], judgment) if found[-1] in OUTCOMES else Unscored("no_verdict", judgment)
    return Unscored("no_verdict", judgment)


def game_messages(system: str, template: str, prompt: str, first: str, second: str) -> list[Message]:
    """Return the published prompt of one game, filled in one pass so that no answer can fill a placeholder.

    Raises ValueError for a template without QUESTION, ANSWER_A or ANSWER_B.
    """
    values = {"QUESTION": prompt, "ANSWER_A": first, "ANSWER_B": second}
    return [Message("system", system), Message("user", fill(template, values))]


def own_game_messages(
    questions: Sequence[str], first: Sequence[str], second: Sequence[str], *, criteria: str = "", reference: str = ""
) -> list[Message]:
    """Return evalsuite's own prompt for a game, one text per turn. Template: ``pairwise_labels``."""
    texts = {"questions": list(questions), "answers_a": list(first), "answers_b": list(second), "reference": reference}
    key = nonce(*questions, *first, *second, reference)
    return judge_template("pairwise_labels").messages(**texts, criteria=criteria, nonce=key)
