"""Verdicts into the figures of preferences.json: pure, the same for judged pairs and for recorded ratings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from judges.bradley_terry import rank_by_prompts
from judges.preference import Verdicts, count_verdicts, flip_count_of_verdicts, position_bias
from judges.statistics import holm_correction, proportion_ci, sign_test_exact
from judges.types import Unscored
from judges.verdicts import Game, PairVerdict, swap_pair

Pair = tuple[str, str]
Games = tuple[Game | Unscored | None, ...]
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verdicted:
    """Everything that the figures rest on, aligned by prompt.

    ``verdicts`` and ``games`` are by pair, each pair once; a prompt's games are both orders of every
    judge that was asked, and None where nobody had to be.
    ``as_published`` divides by all prompts instead of those with a verdict.
    """

    models: tuple[str, ...]
    prompt_ids: tuple[str, ...]
    categories: tuple[str | None, ...]
    verdicts: Mapping[Pair, Verdicts]
    games: Mapping[Pair, Sequence[Games]] | None = None
    as_published: bool = False


def preference_figures(given: Verdicted, lineage: Mapping[str, str] | None = None) -> Figures:
    """Return n_prompts, pairs, flips, ranking, matrix and position_bias of preferences.json, JSON-ready.

    Rates lie in [0, 1] (the matrix is in percent, as the paper's Table 4). Rates have Wilson's
    intervals, one prompt a trial; the others are bootstraps that draw whole prompts. p-values are
    exact sign tests over the decided prompts, Holm-corrected over the pairs.
    """
    pairs = [_pair_figures(given, pair) for pair in given.verdicts]
    for figures, p in zip(pairs, holm_correction([each["p_value"] for each in pairs]), strict=True):
        figures["p_value_holm"] = p
    flips = flip_figures(given, lineage or {})
    return {
        "n_prompts": len(given.prompt_ids),
        "pairs": pairs,
        "flips": flips,
        "ranking": _ranking(given),
        "matrix": _matrix(given, pairs, flips, lineage or {}),
        "position_bias": _bias(given, list(given.verdicts)),
    }


def _pair_figures(given: Verdicted, pair: Pair) -> Figures:
    verdicts = given.verdicts[pair]
    counts = count_verdicts(verdicts)
    scored = [verdict for verdict in verdicts if isinstance(verdict, PairVerdict)]
    reasons = Counter(verdict.reason for verdict in verdicts if isinstance(verdict, Unscored))
    preferences = [verdict.preference_a for verdict in scored]
    ids = [prompt for prompt, v in zip(given.prompt_ids, verdicts, strict=True) if isinstance(v, PairVerdict)]
    judged = given.games is not None
    return {
        "a": pair[0],
        "b": pair[1],
        "n": counts.n_scored + (counts.unscored if given.as_published else 0),
        **_rates(given, verdicts, list(given.prompt_ids)),
        "unscored_reasons": dict(sorted(reasons.items())),
        "position_flips": sum(verdict.position_flip for verdict in scored) if judged else None,
        "identical": sum(verdict.identical for verdict in scored) if judged else None,
        "preference_a": sum(preferences) / len(preferences) if preferences else None,
        "preference_ci95_a": _listed(proportion_ci(preferences, ids)) if preferences else None,
        "position_bias": _bias(given, [pair]),
        "p_value": sign_test_exact(counts.wins_a, counts.wins_b),
        "categories": _by_category(given, verdicts),
    }


def _rates(given: Verdicted, verdicts: Verdicts, ids: Sequence[str]) -> Figures:
    counts = count_verdicts(verdicts)
    rates = counts.rates(as_published=given.as_published)
    figures: Figures = {
        "wins_a": counts.wins_a,
        "wins_b": counts.wins_b,
        "ties": counts.ties,
        "unscored": counts.unscored,
        "rate_a": None if rates is None else rates[0],
        "rate_b": None if rates is None else rates[1],
    }
    for side in ("a", "b"):
        cases = [
            (float(isinstance(verdict, PairVerdict) and verdict.winner == side), prompt)
            for verdict, prompt in zip(verdicts, ids, strict=True)
            if given.as_published or isinstance(verdict, PairVerdict)
        ]
        figures[f"ci95_{side}"] = _rate_interval(cases)
    return figures


def _rate_interval(cases: Sequence[tuple[float, str]]) -> list[float] | None:
    if not cases:
        return None
    return _listed(proportion_ci([won for won, _ in cases], [prompt for _, prompt in cases]))


def _by_category(given: Verdicted, verdicts: Verdicts) -> Figures | None:
    names = sorted({category for category in given.categories if category is not None})
    if not names:
        return None
    rows = list(zip(given.categories, verdicts, given.prompt_ids, strict=True))
    return {
        name: _rates(given, [v for c, v, _ in rows if c == name], [i for c, _, i in rows if c == name])
        for name in names
    }


def _bias(given: Verdicted, pairs: Sequence[Pair]) -> Figures | None:
    if given.games is None:
        return None
    played = [
        (game, prompt)
        for pair in pairs
        for prompt, both in zip(given.prompt_ids, given.games[pair], strict=True)
        for game in both
        # A game whose other order failed would bring the answers' quality into the figure.
        if game is not None and not any(isinstance(each, Unscored) for each in both)
    ]
    bias = position_bias([game for game, _ in played], [prompt for _, prompt in played])
    if bias is None:
        return None
    return {
        "first_rate": bias.first_rate,
        "ci95": _listed(bias.interval),
        "mean_first": bias.mean_first,
        "n_games": bias.n_games,
    }


def oriented(given: Verdicted, first: str, second: str) -> Verdicts:
    """Return the verdicts of a pair with ``first`` as side a."""
    if (first, second) in given.verdicts:
        return given.verdicts[first, second]
    return [
        swap_pair(verdict) if isinstance(verdict, PairVerdict) else verdict for verdict in given.verdicts[second, first]
    ]


def flip_figures(given: Verdicted, lineage: Mapping[str, str]) -> list[Figures]:
    """Count FlipCt for each data generating model against every other SFT of ``lineage`` {sft: dgm}.

    Entries whose model is not compared give nothing; another SFT counts whether or not its own DGM is
    compared. Source: the paper, section 3 and Table 4.
    """
    known = {sft: dgm for sft, dgm in lineage.items() if sft in given.models and dgm in given.models}
    others = [sft for sft in lineage if sft in given.models]
    return [
        {
            "dgm": dgm,
            "own": own,
            "other": other,
            "count": flip_count_of_verdicts(
                oriented(given, dgm, other), oriented(given, other, own), oriented(given, dgm, own)
            ),
        }
        for own, dgm in known.items()
        for other in others
        if other not in (own, dgm)
    ]


def _ranking(given: Verdicted) -> list[Figures]:
    """Rank by Bradley-Terry strength; where a model never lost or never won, a tie a pair is added and said so."""
    found = rank_by_prompts(given.models, given.verdicts)
    if found is None:
        return [{"model": model, "bradley_terry": None, "ci95": None, "added_ties": 0.0} for model in given.models]
    rows: list[Figures] = [
        {"model": model, "bradley_terry": strength, "ci95": _listed(interval), "added_ties": found.added_ties}
        for model, strength, interval in zip(given.models, found.strengths, found.intervals, strict=True)
    ]
    return sorted(rows, key=lambda row: -row["bradley_terry"])


def _matrix(
    given: Verdicted, pairs: Sequence[Figures], flips: Sequence[Figures], lineage: Mapping[str, str]
) -> Figures:
    """Lay the rates out as Table 4 does: SFTs, then DGMs; row preferred over column, percent; FlipCt of each DGM.

    A DGM's flips are by its own SFT and then by the other one, since it may have several of its own;
    None on the diagonal and for models that are no DGM.
    """
    order = dict.fromkeys([*lineage, *lineage.values(), *given.models])
    models = [model for model in order if model in given.models]
    rates = {(each["a"], each["b"]): each["rate_a"] for each in pairs}
    rates |= {(each["b"], each["a"]): each["rate_b"] for each in pairs}
    percent = [
        [None if (rate := rates.get((row, column))) is None else 100 * rate for column in models] for row in models
    ]
    counts = [_flips_by_own([flip for flip in flips if flip["dgm"] == model]) or None for model in models]
    return {"models": models, "percent_row_over_column": percent, "flip_counts": counts}


def _flips_by_own(flips: Sequence[Figures]) -> dict[str, dict[str, int]]:
    return {
        own: {flip["other"]: flip["count"] for flip in flips if flip["own"] == own}
        for own in dict.fromkeys(flip["own"] for flip in flips)
    }


def csv_text(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Write the pairs as CSV: one row a pair, intervals as two columns, without the nested figures."""
    import csv
    import io

    columns = ("a", "b", "n", "wins_a", "wins_b", "ties", "unscored", "rate_a", "rate_b", "position_flips", "identical")
    intervals = ("ci95_a", "ci95_b", "preference_ci95_a")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    more = ("preference_a", "p_value", "p_value_holm", "first_rate")
    writer.writerow([*columns, *more, *(f"{name}_{end}" for name in intervals for end in ("low", "high"))])
    for pair in pairs:
        row = {**pair, "first_rate": (pair["position_bias"] or {}).get("first_rate")}
        ends = [end for name in intervals for end in (pair[name] or (None, None))]
        writer.writerow([row[name] for name in (*columns, *more)] + ends)
    return out.getvalue()


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)
