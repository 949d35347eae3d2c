"""MT-Bench's arithmetic: from single ratings to the figures of scores.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalsuite.suites.base import Scores, count_unscored
from judges.types import Rating, Unscored

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Judgment:
    """One rating of one turn; ``category`` is None where a recorded file does not tell."""

    question_id: str
    category: str | None
    turn: int
    rating: Rating | Unscored


def score_judgments(judgments: Sequence[Judgment]) -> Scores:
    """Average ratings as MT-Bench does: one mean over all scored judgments of both turns.

    It is not the mean of the two turns' means, which differs once a judgment is unscored. ``n`` counts
    judgments (160 on the full set). ``stderr`` and ``ci95`` treat a question's two ratings as one
    cluster, since they share a conversation; both are None for a single question. Without any scored
    judgment every figure is None.
    ``categories`` maps name to {"score", "stderr", "n"}, n = scored judgments; None where no category
    is known. Source: lm-sys/FastChat@0e6d3e4:fastchat/llm_judge/show_result.py; intervals are ours.
    """
    from judges.statistics import clustered_stderr

    scored = _table(judgments)
    by_category = scored.groupby("category", sort=True)
    names = {judgment.category for judgment in judgments if judgment.category is not None}
    ratings, questions = scored["rating"].tolist(), scored["question_id"].tolist()
    return {
        "score": mean(ratings),
        "stderr": clustered_stderr(ratings, questions) if ratings else None,
        "ci95": _interval(ratings, questions),
        "n": len(judgments),
        "n_scored": len(scored),
        "unscored": count_unscored([judgment.rating for judgment in judgments]),
        "turn_1": mean(scored.loc[scored["turn"] == 1, "rating"].tolist()),
        "turn_2": mean(scored.loc[scored["turn"] == 2, "rating"].tolist()),
        "categories": {
            name: _category(by_category.get_group(name) if name in by_category.groups else None)
            for name in sorted(names)
        }
        or None,
    }


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, None of nothing."""
    return sum(values) / len(values) if values else None


def _interval(ratings: Sequence[float], questions: Sequence[str]) -> list[float] | None:
    from judges.statistics import bootstrap_ci

    interval = bootstrap_ci(ratings, clusters=questions) if ratings else None
    return None if interval is None else list(interval)


def _table(judgments: Sequence[Judgment]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        (judgment.question_id, judgment.category, judgment.turn, judgment.rating.value)
        for judgment in judgments
        if isinstance(judgment.rating, Rating)
    ]
    return pd.DataFrame(rows, columns=["question_id", "category", "turn", "rating"])


def _category(scored: pd.DataFrame | None) -> dict[str, Any]:
    if scored is None:
        return {"score": None, "stderr": None, "n": 0}
    from judges.statistics import clustered_stderr

    ratings = scored["rating"].tolist()
    return {
        "score": mean(ratings),
        "stderr": clustered_stderr(ratings, scored["question_id"].tolist()),
        "n": len(ratings),
    }
