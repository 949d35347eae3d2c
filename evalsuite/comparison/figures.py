"""From verdicts to the figures of preferences.json: pure, the same for judged pairs and for recorded ratings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evalsuite.comparison_documents import (
    Cycle,
    Flip,
    Interval,
    JudgingFigures,
    PairFigures,
    PositionBias,
    PreferenceFigures,
    PreferenceMatrix,
    RankedModel,
    StrengthDifference,
    WinRates,
)
from evalsuite.text import csv_text
from judges.bradley_terry import cycles, decided_groups, rank_by_prompts
from judges.paired import detectable_effect
from judges.preference import Verdicts, count_verdicts, flip_count_of_verdicts, judging_figures, position_bias
from judges.statistics import clustered_stderr, holm_correction, proportion_ci, sign_test_exact
from judges.types import Unscored
from judges.verdicts import Game, PairVerdict, points_of, swap_pair

Pair = tuple[str, str]
MANY_UNSCORED = 0.02
"""Share of prompts without a verdict from which the rates are printed with their bounds."""

Games = tuple[Game | Unscored | None, ...]


@dataclass(frozen=True, slots=True)
class Verdicted:
    """The verdicts that the figures are computed from, aligned by prompt.

    ``verdicts`` and ``games`` are by pair, each pair once; a prompt's games are both orders of every judge, None where
    no judge was asked. ``as_published`` divides by all prompts instead of those with a verdict.
    """

    models: tuple[str, ...]
    prompt_ids: tuple[str, ...]
    categories: tuple[str | None, ...]
    verdicts: Mapping[Pair, Verdicts]
    games: Mapping[Pair, Sequence[Games]] | None = None
    as_published: bool = False
    groups: tuple[str, ...] = ()
    """Prompts of one group are one observation of every interval and test; () for one prompt each."""

    @property
    def clusters(self) -> tuple[str, ...]:
        """The group of each prompt."""
        return self.groups or self.prompt_ids


def preference_figures(given: Verdicted, lineage: Mapping[str, str] | None = None) -> PreferenceFigures:
    """Return the figures of preferences.json.

    Rates lie in [0, 1] (the matrix is in percent, as the paper's Table 4). Intervals are by prompt, or by group of
    prompts. p-values are exact sign tests over the decided prompts (groups), Holm-corrected over the pairs.
    """
    pairs = [_pair_figures(given, pair) for pair in given.verdicts]
    p_values = [sign_test_exact(*decided_groups(verdicts, given.clusters)) for verdicts in given.verdicts.values()]
    tests = [{"p_value": p, "p_value_holm": q} for p, q in zip(p_values, holm_correction(p_values), strict=True)]
    pairs = [pair.model_copy(update=test) for pair, test in zip(pairs, tests, strict=True)]
    flips = flip_figures(given, lineage or {})
    rows = [row for of_judge in (given.games or {}).values() for row in of_judge]
    games = [game for row in rows for game in row if game is not None]
    return PreferenceFigures(
        n_prompts=len(given.prompt_ids),
        pairs=tuple(pairs),
        flips=tuple(flips),
        **_ranked(given),
        judging=None if given.games is None else JudgingFigures(**judging_figures(games)),
        matrix=_matrix(given, pairs, flips, lineage or {}),
        position_bias=_bias(given, list(given.verdicts)),
    )


def _pair_figures(given: Verdicted, pair: Pair) -> PairFigures:
    verdicts = given.verdicts[pair]
    scored = [verdict for verdict in verdicts if isinstance(verdict, PairVerdict)]
    reasons = Counter(verdict.reason for verdict in verdicts if isinstance(verdict, Unscored))
    preferences = [verdict.preference_a for verdict in scored]
    groups = [group for group, v in zip(given.clusters, verdicts, strict=True) if isinstance(v, PairVerdict)]
    judged = given.games is not None
    return PairFigures(
        a=pair[0],
        b=pair[1],
        n=len(verdicts) if given.as_published else len(scored),
        **dict(_rates(given, verdicts, list(given.clusters))),
        unscored_reasons=dict(sorted(reasons.items())),
        position_flips=sum(verdict.position_flip for verdict in scored) if judged else None,
        half_ties=sum(verdict.half_tie for verdict in scored) if judged else None,
        identical=sum(verdict.identical for verdict in scored) if judged else None,
        preference_a=sum(preferences) / len(preferences) if preferences else None,
        preference_ci95_a=proportion_ci(preferences, groups) if preferences else None,
        position_bias=_bias(given, [pair]),
        categories=_by_category(given, verdicts),
        detectable=_detectable(scored, groups),
    )


def _detectable(scored: Sequence[PairVerdict], groups: Sequence[str]) -> float | None:
    """Return the difference of the two rates that this many prompts with such verdicts detect with 80 % power."""
    values = [{"a": 1.0, "b": -1.0, "tie": 0.0}[verdict.winner] for verdict in scored]
    stderr = clustered_stderr(values, groups) if values else None
    return detectable_effect(stderr, len(set(groups)) - 1) if stderr else None


def _rates(given: Verdicted, verdicts: Verdicts, groups: Sequence[str]) -> WinRates:
    counts = count_verdicts(verdicts)
    n = counts.n_scored + counts.unscored
    bounds: dict[str, Any] = {}
    if counts.unscored > MANY_UNSCORED * n and not given.as_published:
        for side, wins in (("a", counts.wins_a), ("b", counts.wins_b)):
            bounds[f"bounds_{side}"] = (wins / n, (wins + counts.unscored) / n)
    rate_a, rate_b = counts.rates(as_published=given.as_published) or (None, None)
    ci95_a, ci95_b = (_rate_interval(given, verdicts, groups, side) for side in ("a", "b"))
    return WinRates(**asdict(counts), rate_a=rate_a, rate_b=rate_b, ci95_a=ci95_a, ci95_b=ci95_b, **bounds)


def _rate_interval(given: Verdicted, verdicts: Verdicts, groups: Sequence[str], side: str) -> Interval | None:
    cases = [
        (float(isinstance(verdict, PairVerdict) and verdict.winner == side), group)
        for verdict, group in zip(verdicts, groups, strict=True)
        if given.as_published or isinstance(verdict, PairVerdict)
    ]
    return proportion_ci([won for won, _ in cases], [group for _, group in cases]) if cases else None


def _by_category(given: Verdicted, verdicts: Verdicts) -> dict[str, WinRates] | None:
    names = sorted({category for category in given.categories if category is not None})
    if not names:
        return None
    rows = list(zip(given.categories, verdicts, given.clusters, strict=True))
    return {
        name: _rates(given, [v for c, v, _ in rows if c == name], [i for c, _, i in rows if c == name])
        for name in names
    }


def _bias(given: Verdicted, pairs: Sequence[Pair]) -> PositionBias | None:
    if given.games is None:
        return None
    played = [
        (game, prompt)
        for pair in pairs
        for prompt, both in zip(given.clusters, given.games[pair], strict=True)
        for game in both
        # A game whose other order failed would bring the answers' quality into the figure.
        if game is not None and not any(isinstance(each, Unscored) for each in both)
    ]
    bias = position_bias([game for game, _ in played], [prompt for _, prompt in played])
    return None if bias is None else PositionBias(**asdict(bias))


def oriented(given: Verdicted, first: str, second: str) -> Verdicts:
    """Return the verdicts of a pair with ``first`` as side a."""
    if (first, second) in given.verdicts:
        return given.verdicts[first, second]
    return [swap_pair(one) if isinstance(one, PairVerdict) else one for one in given.verdicts[second, first]]


def flip_figures(given: Verdicted, lineage: Mapping[str, str]) -> list[Flip]:
    """Count FlipCt for each data generating model against every other SFT of ``lineage`` {sft: dgm}.

    Entries whose model is not compared are left out; another SFT counts whether or not its own DGM is
    compared. Source: the paper, section 3 and Table 4.
    """
    known = {sft: dgm for sft, dgm in lineage.items() if sft in given.models and dgm in given.models}
    others = [sft for sft in lineage if sft in given.models]
    return [
        Flip(
            dgm=dgm,
            own=own,
            other=other,
            count=flip_count_of_verdicts(
                oriented(given, dgm, other), oriented(given, other, own), oriented(given, dgm, own)
            ),
        )
        for own, dgm in known.items()
        for other in others
        if other not in (own, dgm)
    ]


def _ranked(given: Verdicted) -> dict[str, Any]:
    """Rank by strength; where strengths would not be finite, one tie per pair is added and noted."""
    adjusted = {model: _win_rate_adjusted(given, model) for model in given.models}
    circles = tuple(Cycle(models=models, p_value=p) for models, p in cycles(given.verdicts, given.clusters))
    ranked = rank_by_prompts(given.models, given.verdicts, given.clusters)
    if ranked is None:
        models = tuple(RankedModel(model=model, win_rate_adjusted=adjusted[model]) for model in given.models)
        return {"ranking": models, "differences": (), "cycles": circles}
    rows = [
        RankedModel(
            model=model,
            bradley_terry=strength,
            ci95=interval,
            added_ties=ranked.added_ties,
            rank=rank,
            win_rate_adjusted=adjusted[model],
        )
        for model, strength, interval, rank in zip(
            given.models, ranked.strengths, ranked.intervals, ranked.ranks, strict=True
        )
    ]
    differences = tuple(
        StrengthDifference(a=one.a, b=one.b, difference=one.value, ci95=one.interval) for one in ranked.differences
    )
    order = sorted(rows, key=lambda row: -(row.bradley_terry or 0.0))
    return {"ranking": tuple(order), "differences": differences, "cycles": circles}


def _win_rate_adjusted(given: Verdicted, model: str) -> float | None:
    """Return a model's wins with ties as halves over its scored prompts, as FastChat's show_result counts."""
    points = [
        points_of(verdict) if model == pair[0] else 1 - points_of(verdict)
        for pair, verdicts in given.verdicts.items()
        if model in pair
        for verdict in verdicts
        if isinstance(verdict, PairVerdict)
    ]
    return sum(points) / len(points) if points else None


def _matrix(
    given: Verdicted, pairs: Sequence[PairFigures], flips: Sequence[Flip], lineage: Mapping[str, str]
) -> PreferenceMatrix:
    """Arrange the rates as Table 4 does: SFTs, then DGMs; row preferred over column, percent; FlipCt of each DGM.

    A DGM's flips are by its own SFT and then by the other one, since it may have several of its own;
    None on the diagonal and for models that are not DGMs.
    """
    order = dict.fromkeys([*lineage, *lineage.values(), *given.models])
    models = tuple(model for model in order if model in given.models)
    rates = {(pair.a, pair.b): pair.rate_a for pair in pairs} | {(pair.b, pair.a): pair.rate_b for pair in pairs}
    percent = {key: 100 * rate for key, rate in rates.items() if rate is not None}
    by_dgm: dict[str, dict[str, dict[str, int]]] = {}
    for flip in flips:
        by_dgm.setdefault(flip.dgm, {}).setdefault(flip.own, {})[flip.other] = flip.count
    return PreferenceMatrix(
        models=models,
        percent_row_over_column=tuple(tuple(percent.get((row, column)) for column in models) for row in models),
        flip_counts=tuple(by_dgm.get(model) for model in models),
    )


def pairs_csv(pairs: Sequence[PairFigures]) -> str:
    """Write the pairs as CSV: one row per pair, intervals as two columns, without the nested figures."""
    columns = [
        "a",
        "b",
        "n",
        "wins_a",
        "wins_b",
        "ties",
        "unscored",
        "rate_a",
        "rate_b",
        "position_flips",
        "half_ties",
        "identical",
    ]
    columns += ["preference_a", "p_value", "p_value_holm", "detectable"]
    intervals = ("ci95_a", "ci95_b", "preference_ci95_a")
    rows: list[list[object]] = [
        [*columns, "first_rate", *(f"{name}_{end}" for name in intervals for end in ("low", "high"))]
    ]
    for pair in pairs:
        ends = [end for name in intervals for end in (getattr(pair, name) or (None, None))]
        first_rate = pair.position_bias.first_rate if pair.position_bias else None
        rows.append([*(getattr(pair, name) for name in columns), first_rate, *ends])
    return csv_text(rows)
