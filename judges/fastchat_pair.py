"""MT-Bench's pairwise mode: two answers, one of A, B and a tie, two games with the answers swapped.

Source: lm-sys/FastChat@0e6d3e4: fastchat/llm_judge/common.py (run_judge_pair), gen_judgment.py (make_judge_pairwise).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from judges.pointwise import filled_prompt
from judges.types import Choice, Message, Unscored

LEAD_IN = "\n\nFinal verdict: [["
"""Appended to a judgment without a verdict; the judge then completes it with one of the choices."""

CHOICES = ("A]]", "B]]", "C]]")

PREFERENCES: Mapping[str, float] = {"A": 1.0, "B": 0.0, "C": 0.5}
"""What a verdict gives the answer shown first; C is a tie."""

_VERDICT = re.compile(r"\[\[([ABC])\]\]")


def pair_prompt_name(*, turn: Literal[1, 2], with_reference: bool) -> str:
    """Return the name of the judge_prompts.jsonl row for a turn, with or without a reference."""
    return f"pair-{'math-v1' if with_reference else 'v2'}{'-multi-turn' if turn == 2 else ''}"


def pair_messages(
    prompts: Mapping[str, Mapping[str, Any]],
    turns: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    reference: Sequence[str] | None,
    *,
    turn: Literal[1, 2],
) -> list[Message]:
    """Return FastChat's prompt that compares two answers to one turn (to the second: two whole conversations).

    The arguments are as in :func:`judges.pointwise.judge_messages`, with two answers. Raises ValueError if a prompt or
    a turn is missing, or for unexpected placeholders.
    """
    name = pair_prompt_name(turn=turn, with_reference=reference is not None)
    if turn == 1:
        values = {"question": turns[0], "answer_a": first[0], "answer_b": second[0]}
    else:
        values = {f"question_{i + 1}": turns[i] for i in range(2)}
        values |= {f"answer_a_{i + 1}": first[i] for i in range(2)} | {f"answer_b_{i + 1}": second[i] for i in range(2)}
    values |= {f"ref_answer_{i + 1}": text for i, text in enumerate((reference or ())[:turn])}
    return filled_prompt(prompts, name, values)


def parse_winner(judgment: str, *, as_published: bool = False) -> Choice | Unscored:
    """Read the verdict of a judgment: the last "[[A]]", "[[B]]" or "[[C]]" (a tie).

    ``as_published`` takes FastChat's order instead, in which an "[[A]]" anywhere wins over a "[[B]]", and that over a
    "[[C]]". Never raises; without one it is ``Unscored("no_verdict")`` with the judgment as its detail.
    """
    found = _VERDICT.findall(judgment)
    if not found:
        return Unscored("no_verdict", judgment)
    return Choice(min(found) if as_published else found[-1], judgment)
