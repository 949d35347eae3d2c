"""AlpacaEval's figures, computed by the alpaca_eval package itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite import assets
from evalsuite.errors import DataError
from evalsuite.records.rows import Header, Row
from evalsuite.suites.alpaca_eval.assets import CANONICAL_SIZE, DF_GAMED, canonical_positions
from evalsuite.suites.alpaca_eval.package import length_controlled_win_rate, win_rates
from evalsuite.suites.base import answer_of, count_unscored, judged_rows, verdict_on
from evalsuite.suites.types import Scores
from evalsuite.text import plural
from judges.parse import parse_ranking
from judges.types import Unscored

CANONICAL_BASELINE = "gpt4_1106_preview"
LEAST_MASS = 0.5
"""A judge whose labels have less of the next token's probability has a warning beside its figures."""
MAX_ABSENT = 8
"""How many of the 805 preferences may be missing (1 %) before the regression is refused. The published
leaderboard has models with 803."""


def preference(row: Row) -> float:
    """Return a comparison's preference in [1, 2], NaN where it is unscored."""
    value = verdict_on(row).value
    return float(value) if isinstance(value, int | float) else math.nan


def score_rows(header: Header, rows: Sequence[Row]) -> Scores:
    """Compute win rates (0-100), their errors, counts and the mean length in characters.

    ``n_total`` counts scored comparisons. ``ci95`` is the interval of the win rate, ``lc_ci95`` that of
    ``lc_win_rate``, which is None, with the reason in ``lc``, unless at least 797 of the canonical 805 are scored and
    ``df_gamed`` is available. ``lc`` is {"C": the inverse regularisation that cross-validation chose,
    "reason", "warning"}. Every figure is None where nothing is scored.

    Source: alpaca-eval 0.6.6, metrics/winrate.py and metrics/glm_winrate.py, main.py for avg_length.
    Deviation in the length-controlled win rate: the package looks difficulty up by row number, which is wrong
    for every row after a missing one (the published text_davinci_001, 803 rows, has 9.03; with each
    instruction's own difficulty it is 6.48). Ours uses the instruction's position, ``as_published`` row numbers.
    """
    from judges.statistics import proportion_ci

    rows = judged_rows(rows)
    scored = [value for value in map(preference, rows) if not math.isnan(value)]
    interval = proportion_ci([value - 1 for value in scored]) if scored else None
    lengths = [len(output) for row in rows if (output := answer_of(row)) is not None]
    try:
        controlled = _length_controlled(header, rows, n_scored=len(scored))
    except DataError as error:
        lc = {"C": None, "reason": str(error), "warning": None}
        controlled = {"lc_win_rate": None, "lc_standard_error": None, "lc_ci95": None, "lc": lc}
    return {
        **win_rates(scored),
        "ci95": None if interval is None else [100 * bound for bound in interval],
        **controlled,
        "avg_length": int(sum(lengths) / len(lengths)) if lengths else None,
        **_how_judged(rows),
        "unscored": count_unscored(verdict_on(row).unscored for row in rows),
    }


def _how_judged(rows: Sequence[Row]) -> dict[str, Any]:
    """Return ``label_mass``, ``judged_in_words`` and ``warnings``, where there is anything to say.

    ``label_mass`` is the mean probability of m and M together as the judge's next token, ``judged_in_words`` counts the
    verdicts that are a ranking in words instead.
    """
    verdicts = [verdict for row in rows if (verdict := row.verdict()) is not None]
    masses = [
        math.fsum(math.exp(min(logprob, 0.0)) for logprob in verdict.label_logprobs.values())
        for verdict in verdicts
        if verdict.label_logprobs
    ]
    n_in_words = sum(
        not verdict.label_logprobs and not isinstance(parse_ranking(verdict.text, switched=False), Unscored)
        for verdict in verdicts
    )
    said: dict[str, Any] = {}
    warnings = []
    if masses:
        said["label_mass"] = math.fsum(masses) / len(masses)
        if said["label_mass"] < LEAST_MASS:
            mass = f"m and M have {said['label_mass']:.0%} of the judge's next token"
            warnings.append(f"{mass}: it tends to write something else, so its preferences mean little")
    if n_in_words:
        said["judged_in_words"] = n_in_words
        rankings = plural(n_in_words, "verdict is a ranking", "verdicts are rankings")
        warnings.append(f"{rankings} in words, a different method from log-probabilities")
    return said | ({"warnings": warnings} if warnings else {})


def require_all(n_items: int) -> None:
    """Raise DataError where ``n_items`` instructions cannot give a length-controlled win rate."""
    if n_items != CANONICAL_SIZE:
        defined = f"the length-controlled win rate is defined on all {CANONICAL_SIZE} instructions"
        raise DataError(f"{defined}; these are {n_items}")


def instruction_of(row: Row) -> str:
    return row.prompt[0].content if row.prompt else ""


def baseline_of(row: Row) -> str:
    """Return the baseline's output."""
    return str(next(iter(row.facts.get("reference", ())), ""))


def _length_controlled(header: Header, rows: Sequence[Row], *, n_scored: int) -> Mapping[str, Any]:
    """Fit the regression; raises DataError with the reason why it would not mean what its name says."""
    as_published = bool(header.options.get("as_published"))
    positions, warning = _positions(header, rows, as_published=as_published)
    df_gamed = assets.find(DF_GAMED, fetch=False)
    # A run names what it read among its pins.
    if not df_gamed.pinned and DF_GAMED.name not in header.pins:
        warning = warning or f"df_gamed.csv is not the pinned file (SHA-256 {df_gamed.sha256[:12]}...)"
    answered = [row for row in rows if answer_of(row) is not None]
    _require_enough(rows, answered, n_scored)
    if not as_published:
        answered.sort(key=lambda row: positions[instruction_of(row)])
    annotations: dict[str, list[Any]] = {
        "preference": [preference(row) for row in answered],
        "output_1": [baseline_of(row) for row in answered],
        "output_2": [answer_of(row) or "" for row in answered],
    }
    index = range(len(answered)) if as_published else [positions[instruction_of(row)] for row in answered]
    fit = length_controlled_win_rate(annotations, index, df_gamed.path, is_baseline=_all_identical(answered))
    return {**fit, "lc": {**fit["lc"], "warning": fit["lc"]["warning"] or warning}}


def _positions(header: Header, rows: Sequence[Row], *, as_published: bool) -> tuple[Mapping[str, int], str | None]:
    """Find each instruction's position among the canonical 805, and a warning about their order.

    Raises DataError with the reason why there can be no regression.
    """
    if header.options.get("data") == "mini" or header.options.get("limit") is not None:
        require_all(len(rows))
    in_file_order = {instruction_of(row): number for number, row in enumerate(rows)}
    if as_published:
        return in_file_order, None
    if len(rows) > CANONICAL_SIZE:
        raise DataError(f"the file has {len(rows)} rows; AlpacaEval has {CANONICAL_SIZE} instructions")
    baseline = next((str(row.facts.get("baseline")) for row in rows), CANONICAL_BASELINE)
    if baseline != CANONICAL_BASELINE:
        raise DataError(f"the regression was fitted for the baseline {CANONICAL_BASELINE}; this one is {baseline}")
    try:
        positions = canonical_positions(list(in_file_order))
    except DataError as error:
        if len(rows) != CANONICAL_SIZE:
            without = f"{len(rows)} rows cannot be put into canonical order without the baseline"
            raise DataError(f"{without}: {error}") from error
        why = "the rows are taken in the file's order: the baseline is not on this machine"
        return in_file_order, f"{why} (evalsuite data pull alpaca_eval/baseline)"
    n_unknown = len(in_file_order.keys() - positions.keys())
    if n_unknown == len(rows) == CANONICAL_SIZE:
        return in_file_order, "the rows are taken in the file's order: no instruction is AlpacaEval's"
    if n_unknown:
        raise DataError(f"{n_unknown} of {len(rows)} instructions are not AlpacaEval's")
    return positions, None


def _require_enough(rows: Sequence[Row], answered: Sequence[Row], n_scored: int) -> None:
    if n_scored < CANONICAL_SIZE - MAX_ABSENT or len(rows) > CANONICAL_SIZE:
        raise DataError(
            f"the length-controlled win rate needs at least {CANONICAL_SIZE - MAX_ABSENT} of the {CANONICAL_SIZE} "
            f"instructions; {n_scored} of {len(rows)} are scored"
        )
    differences = {len(baseline_of(row)) - len(answer_of(row) or "") for row in answered}
    if len(differences) == 1 and not _all_identical(answered):
        raise DataError(
            "every answer differs from the baseline's by the same length, so there is no length to control for"
        )


def _all_identical(answered: Sequence[Row]) -> bool:
    return all(answer_of(row) == baseline_of(row) and preference(row) == 1.5 for row in answered)
