"""How answers and verdicts ended: cut at the token limit, closed from outside, loops, tokens; pure, from a run's rows.

A loop is the same run of words until the bound (``judges.thoughts.is_loop``). It looks like thinking, or like a long
answer, so it is counted apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from evalsuite.records.rows import Reply, Row
from judges.thoughts import is_loop


def ends_in_loop(reply: Reply) -> bool:
    """Whether an answer that was cut, or its closed thought, repeats itself up to its bound."""
    is_cut = reply.finish == "length" and reply.text is not None and is_loop(reply.text)
    return is_cut or (reply.thought_closed and reply.thought is not None and is_loop(reply.thought))


def answer_figures(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Return counts and mean tokens of the written answers; None where there are none.

    {"n", "cut", "loops", "answer_tokens"} and, where the model thought, {"thoughts", "closed", "short",
    "thought_tokens"}: how many answers had a thought, how many thoughts were closed from outside, and for how many the
    context left less than the budget. Token counts are means over the answers that have them.
    """
    # Choices of log-likelihood items are no written answers.
    replies = [reply for row in rows for draw in row.draws for reply in draw.turns if reply.text is not None]
    if not replies:
        return None
    thoughts = [reply for reply in replies if reply.thought is not None]
    counts: dict[str, Any] = {
        "n": len(replies),
        "cut": sum(reply.finish == "length" for reply in replies),
        "loops": sum(map(ends_in_loop, replies)),
        "answer_tokens": _mean([reply.answer_tokens for reply in replies]),
    }
    if thoughts:
        counts |= {
            "thoughts": len(thoughts),
            "closed": sum(reply.thought_closed for reply in thoughts),
            "short": sum(reply.thought_short for reply in thoughts),
            "thought_tokens": _mean([reply.thought_tokens for reply in thoughts]),
        }
    return counts


def _mean(counts: Sequence[int]) -> float | None:
    # Imported answers have no counts.
    known = [count for count in counts if count]
    return round(fmean(known), 1) if known else None


def verdict_figures(rows: Iterable[Row]) -> dict[str, int] | None:
    """Return {"n", "closed_by_guide", "contradictions"} of one judge's verdicts in words; None where it wrote none.

    How many had no verdict of the required form in their text and were completed under guided output, and for how many
    of these the text named another one in other words.
    """
    written = [verdict for row in rows for verdict in row.verdicts if verdict.text]
    if not written:
        return None
    return {
        "n": len(written),
        "closed_by_guide": sum(verdict.closed_by_guide for verdict in written),
        "contradictions": sum(verdict.contradicts for verdict in written),
    }


def how_verdicts_ended(suite: str, counts: Mapping[str, int]) -> str:
    """Say in one line how many of a judge's verdicts were completed under guided output; "" where none was."""
    if not counts["closed_by_guide"]:
        return ""
    said = f"{suite}: {counts['closed_by_guide']} of {counts['n']} verdicts were completed under guided output: "
    said += "the text had none in the required form"
    return f"{said}; {n} of these contradict the text" if (n := counts["contradictions"]) else said


def how_answers_ended(suite: str, counts: dict[str, Any]) -> str:
    """Say in one line what a reader must know of a suite's answers; "" where all ended by themselves."""
    n = counts["n"]
    said = []
    if counts.get("cut"):
        said.append(f"{counts['cut']} of {n} answers were cut at the token limit")
    if counts.get("closed"):
        said.append(f"{counts['closed']} of {counts['thoughts']} thoughts were closed at the budget")
    if counts.get("short"):
        said.append(f"{counts['short']} had less context left than the thinking budget")
    if counts.get("loops"):
        said.append(f"{counts['loops']} ended in a loop")
    return f"{suite}: {', '.join(said)}" if said else ""
