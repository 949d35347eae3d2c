"""AlpacaEval's figures, computed by the alpaca_eval package itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.suites.alpaca_eval.package import length_controlled_win_rate, win_rates
from evalsuite.suites.base import Record, Scores, count_unscored, no_answer
from judges.types import Preference, Unscored

CANONICAL_SIZE = 805
MAX_ABSENT = 8
"""So many of the 805 preferences may be missing (1 %) before the regression is refused. The published
leaderboard has models with 803."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One answer against the baseline's.

    ``position`` is the instruction's place among the canonical 805 (0 to 804), None where unknown;
    ``output`` is None where the model gave no answer.
    """

    position: int | None
    baseline_output: str
    output: str | None
    preference: Preference | Unscored


def comparison_of(record: Record) -> Comparison:
    """Return what the scores need of one record, also where there is no answer or nobody judged."""
    answer = record.answer if record.answer is not None else Unscored("no_answer")
    verdict = record.verdict
    if verdict is None:
        verdict = no_answer(answer) if isinstance(answer, Unscored) else Unscored("no_judge")
    return Comparison(
        position=int(record.item.id),
        baseline_output=record.item.data["output"],
        output=None if isinstance(answer, Unscored) else answer.text,
        preference=verdict,
    )


def score_comparisons(
    comparisons: Sequence[Comparison], *, df_gamed: Path | None, lc_reason: str | None, as_published: bool = False
) -> Scores:
    """Compute win rates (0-100), their errors, counts and the mean length in characters.

    ``n_total`` counts scored comparisons. ``ci95`` is a bootstrap interval of the win rate. ``lc_win_rate``
    is None, with the reason in ``lc``, unless at least 797 of the canonical 805 are scored and
    ``df_gamed`` is at hand. ``lc`` is {"C": the inverse regularisation that cross-validation chose,
    "reason", "warning"}. Every figure is None where nothing is scored.

    Source: alpaca-eval 0.6.6, metrics/winrate.py and metrics/glm_winrate.py, main.py for avg_length.
    Deviation in the length-controlled win rate: the package looks difficulty up by row number, which is wrong
    for every row after a missing one (the published text_davinci_001, 803 rows, has 9.03; with each
    instruction's own difficulty it is 6.48). Ours uses the instruction's position, ``as_published`` row numbers.
    """
    from judges.statistics import proportion_ci

    scored = [item for item in comparisons if isinstance(item.preference, Preference)]
    preferences = [_value(item) - 1 for item in scored]
    lengths = [len(item.output) for item in comparisons if item.output is not None]
    figures = win_rates([_value(item) for item in scored])
    interval = proportion_ci(preferences) if preferences else None
    reason = lc_reason or _lc_obstacle(comparisons, n_scored=len(scored), as_published=as_published)
    lc: dict[str, Any] = {"C": None, "reason": reason, "warning": None}
    lc_win_rate = lc_standard_error = None
    if reason is None and df_gamed is not None:
        fit = _fit(comparisons, df_gamed, as_published=as_published)
        lc_win_rate, lc_standard_error = fit.win_rate, fit.standard_error
        lc |= {"C": fit.inverse_regularisation, "warning": fit.warning}
    return {
        **figures,
        "ci95": None if interval is None else [100 * bound for bound in interval],
        "lc_win_rate": lc_win_rate,
        "lc_standard_error": lc_standard_error,
        "lc": lc,
        "avg_length": int(sum(lengths) / len(lengths)) if lengths else None,
        "unscored": count_unscored([item.preference for item in comparisons]),
    }


def _value(item: Comparison) -> float:
    return item.preference.value if isinstance(item.preference, Preference) else math.nan


def _lc_obstacle(comparisons: Sequence[Comparison], *, n_scored: int, as_published: bool) -> str | None:
    """Say in one line why the regression would not mean what its name says."""
    if n_scored < CANONICAL_SIZE - MAX_ABSENT or len(comparisons) > CANONICAL_SIZE:
        return (
            f"the length-controlled win rate needs at least {CANONICAL_SIZE - MAX_ABSENT} of the {CANONICAL_SIZE} "
            f"instructions; {n_scored} of {len(comparisons)} are scored"
        )
    if not as_published and any(item.position is None for item in comparisons):
        return "the instructions' places among the canonical 805 are unknown, and with them their difficulty"
    answered = [item for item in comparisons if item.output is not None]
    differences = {len(item.baseline_output) - len(item.output or "") for item in answered}
    if len(differences) == 1 and not _all_identical(answered):
        return "every answer differs from the baseline's by the same length, so there is no length to control for"
    return None


def _all_identical(answered: Sequence[Comparison]) -> bool:
    return all(item.output == item.baseline_output and _value(item) == 1.5 for item in answered)


def _fit(comparisons: Sequence[Comparison], df_gamed: Path, *, as_published: bool) -> Any:
    """Regress on every comparison that has an answer; unscored ones only take part in the prediction."""
    answered = [item for item in comparisons if item.output is not None]
    if not as_published:
        answered.sort(key=lambda item: item.position or 0)
    return length_controlled_win_rate(
        positions=list(range(len(answered))) if as_published else [item.position or 0 for item in answered],
        preferences=[_value(item) for item in answered],
        baseline_outputs=[item.baseline_output for item in answered],
        outputs=[item.output or "" for item in answered],
        is_baseline=_all_identical(answered),
        df_gamed=df_gamed,
    )
