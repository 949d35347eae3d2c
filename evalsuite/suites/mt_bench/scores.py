"""MT-Bench's arithmetic: from the ratings of single turns to the figures of scores.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from evalsuite.records.rows import Row, replaced
from evalsuite.suites.base import count_unscored, judged_rows, mean, verdict_on
from evalsuite.suites.types import Scores

Turn = Literal[1, 2]
TURNS: tuple[Turn, Turn] = (1, 2)


def turns_of(row: Row) -> Sequence[Turn]:
    """Return the turns that count: the judged ones, or both if neither is judged."""
    judged = {verdict.turn for verdict in row.verdicts}
    return [turn for turn in TURNS if turn in judged] or TURNS


def mark_row(row: Row) -> Row:
    """Mark a question: ``turn_1`` and ``turn_2`` are the ratings (1-10), ``score`` the mean of those that are there.

    A turn of a recorded file that was judged again has a rating per judgment.
    """
    verdicts = [
        verdict
        for turn in turns_of(row)
        for verdict in [one for one in row.verdicts if one.turn == turn] or [verdict_on(row, turn)]
    ]
    ratings: dict[str, tuple[float | None, ...]] = {}
    for verdict in verdicts:
        value = float(verdict.value) if isinstance(verdict.value, int | float) else None
        ratings[f"turn_{verdict.turn}"] = (*ratings.get(f"turn_{verdict.turn}", ()), value)
    score = mean([value for values in ratings.values() for value in values if value is not None])
    unscored = tuple(verdict.unscored for verdict in verdicts if verdict.unscored is not None)
    return replaced(row, marks={"score": (score,), **ratings}, unscored=unscored)


def score_rows(rows: Sequence[Row]) -> Scores:
    """Average marked rows as MT-Bench does: one mean over all scored judgments of both turns.

    It is not the mean of the two turns' means, which differs once a judgment is unscored. ``n`` counts
    judgments (160 on the full set). ``stderr`` and ``ci95`` treat a question's two ratings as one
    cluster, since they share a conversation; both are None for a single question. Without any scored
    judgment every figure is None. Unjudged answers in a file with judgments are left out.
    ``categories`` maps name to {"score", "stderr", "n"}, n = scored judgments; None where no category
    is known. ``uncertainty`` maps "turn_1" and "turn_2" to {"score", "stderr", "ci95", "n"}.
    Source: lm-sys/FastChat@0e6d3e4:fastchat/llm_judge/show_result.py; intervals are ours.
    """
    judged = judged_rows(rows)
    marks = [(row, turn, value) for row in judged for turn in TURNS for value in row.marks.get(f"turn_{turn}", ())]
    rated = [(row, turn, value) for row, turn, value in marks if value is not None]
    turns = {f"turn_{turn}": [one for one in rated if one[1] == turn] for turn in TURNS}
    categories = sorted({row.facts["category"] for row in judged if row.facts.get("category") is not None})
    by_category = {name: [one for one in rated if one[0].facts.get("category") == name] for name in categories}
    return {
        **_mean(rated),
        "ci95": _interval(rated),
        "n": len(marks),
        "n_scored": len(rated),
        "unscored": count_unscored(reason for row in judged for reason in row.unscored),
        **{turn: _mean(chosen)["score"] for turn, chosen in turns.items()},
        "categories": {name: {**_mean(group), "n": len(group)} for name, group in by_category.items()} or None,
        "uncertainty": {
            turn: {**_mean(chosen), "ci95": _interval(chosen), "n": len(chosen)} for turn, chosen in turns.items()
        },
    }


Rated = tuple[Row, Turn, float]


def _mean(rated: Sequence[Rated]) -> dict[str, float | None]:
    from judges.statistics import clustered_stderr

    values = [value for *_, value in rated]
    stderr = clustered_stderr(values, [row.item_id for row, *_ in rated]) if values else None
    return {"score": mean(values), "stderr": stderr}


def _interval(rated: Sequence[Rated]) -> list[float] | None:
    from judges.statistics import bootstrap_ci

    values = [value for *_, value in rated]
    interval = bootstrap_ci(values, clusters=[row.item_id for row, *_ in rated]) if values else None
    return None if interval is None else list(interval)
