"""Rank models from pairwise verdicts: Bradley-Terry strengths with a tie parameter, and cycles that no ranking fits.

Ties are an outcome of the model (Davidson 1970), not half a win each: a judge that ties often and one that never does
give the same strengths if their decided games agree. Games of one prompt are correlated, as all pairs answer it and one
answer plays against every other model's, so intervals come from the variation between prompts.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from judges.preference import Verdicts
from judges.statistics import NO_SPREAD, Interval, holm_correction, normal_ci, sign_test_exact, student_ci
from judges.types import Unscored
from judges.verdicts import PairVerdict, winner_of

LINKING_TIES = 1.0
"""Ties, as half a win each, added per pair where the likelihood has no finite maximum: a model always won, say."""

CYCLE_LEVEL = 0.05

_Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TieModel:
    """Strengths on the log-odds scale, one per model in the order of ``wins``; they sum to 0.

    Of the games of i and j that are not ties, i wins the share ``1 / (1 + exp(strengths[j] - strengths[i]))``. Two
    equal models tie ``exp(tie) / (2 + exp(tie))`` of their games; ``tie`` is None where there are no ties.
    ``covariance`` is that of independent games.
    """

    strengths: tuple[float, ...]
    tie: float | None
    covariance: _Table


@dataclass(frozen=True, slots=True)
class Difference:
    """How much stronger model ``a`` is than ``b``, in log-odds."""

    a: str
    b: str
    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Strengths as in :class:`TieModel`, with intervals over prompts (None for a single one).

    ``ranks`` are the best and the worst rank that the intervals of the ``differences`` allow (None without any).
    ``added_ties`` is the number of ties per pair that were needed for finite strengths.
    """

    strengths: tuple[float, ...]
    intervals: tuple[Interval | None, ...]
    ranks: tuple[tuple[int, int] | None, ...]
    differences: tuple[Difference, ...]
    added_ties: float


def tie_model(wins: _Table, ties: _Table, *, pseudo_ties: float = 0.0) -> TieModel | None:
    """Estimate strengths by maximum likelihood from ``wins[i, j]``, how often i beat j, and symmetric ``ties``.

    ``pseudo_ties`` adds this many ties, as half a win each, to every pair that played. None when there is no finite
    maximum: some group of models neither lost to the others nor tied with them, or never played them, or no wins
    against ties tell how large the tie parameter is. Without ties this is Bradley and Terry's model. Raises ValueError
    unless the tables are square, of two or more models and of finite counts of at least 0. Source: Davidson 1970 (JASA
    65, 317-328); existence without ties by Ford 1957 (Amer. Math. Monthly 64, 28-33).
    """
    wins, ties = np.array(wins, dtype=np.float64), np.array(ties, dtype=np.float64)
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or len(wins) < 2 or ties.shape != wins.shape:
        raise ValueError(f"tables of shape {wins.shape} and {ties.shape}; expected square ones of two or more models")
    if not all(np.isfinite(table).all() and (table >= 0).all() for table in (wins, ties)) or pseudo_ties < 0:
        raise ValueError("a count is negative or not finite; expected numbers of at least 0")
    np.fill_diagonal(wins, 0.0)
    np.fill_diagonal(ties, 0.0)
    wins = wins + np.where(wins + wins.T + ties > 0, pseudo_ties / 2, 0.0)
    if not _is_finite(wins, ties):
        return None
    parameters = np.zeros(len(wins) + bool(ties.any()))
    if len(parameters) > len(wins):
        parameters[-1] = math.log(2 * ties.sum() / 2 / wins.sum())
    parameters = _maximized(wins, ties, parameters)
    covariance = _inverse(_information(wins, ties, parameters), len(wins))
    n = len(wins)
    return TieModel(tuple(parameters[:n].tolist()), float(parameters[n]) if len(parameters) > n else None, covariance)


def rank_by_prompts(
    models: Sequence[str],
    pairs: Mapping[tuple[str, str], Verdicts],
    groups: Sequence[Hashable] | None = None,
) -> Ranking | None:
    """Rank models by strength with intervals over prompts, or over ``groups`` of them (one per prompt).

    ``pairs`` holds each pair's verdicts per prompt, all in the same order. A verdict counts as its two orders do: a
    position flip is half a win each, a half tie half a tie and half a win. Where the wins have no finite maximum,
    :data:`LINKING_TIES` are added to every pair that played; None if that still does not connect all models. Intervals
    are Student's, from the variance between groups; where ties were added, or that variance is 0, they also cover the
    normal one of independent games, since the prompts hardly differ there. Source: the sandwich estimator with clusters
    (Liang and Zeger 1986, Biometrika 73, 13-22), times G / (G - 1); rank ranges as in Chiang et al. 2024 (arXiv
    2403.04132, section 5).
    """
    by_group = _counts(models, pairs, groups)
    wins, ties = (counts.sum(axis=0) for counts in by_group)
    added = 0.0
    if (estimate := tie_model(wins, ties)) is None:
        estimate, added = tie_model(wins, ties, pseudo_ties=LINKING_TIES), LINKING_TIES
    if estimate is None:
        return None
    played = (by_group[0] + by_group[1]).any(axis=(1, 2))
    n_groups, n = int(played.sum()), len(models)
    robust = _robust(*by_group, estimate) * n_groups / max(1, n_groups - 1)

    def interval(contrast: _Table) -> Interval | None:
        if n_groups < 2:
            return None
        value = float(contrast @ np.array(estimate.strengths))
        by_prompt, by_game = (
            max(0.0, float(contrast @ table[:n, :n] @ contrast)) for table in (robust, estimate.covariance)
        )
        low, high = student_ci(value, math.sqrt(by_prompt), n_groups - 1)
        normal = normal_ci(value, math.sqrt(by_game))
        # Scores of prompts that cancel out leave a variance of rounding errors, whose root is far above them.
        is_too_narrow = added > 0 or by_prompt <= NO_SPREAD * by_game
        return (min(low, normal[0]), max(high, normal[1])) if is_too_narrow and normal else (low, high)

    unit = np.eye(n)
    differences = tuple(
        Difference(models[i], models[j], estimate.strengths[i] - estimate.strengths[j], interval(unit[i] - unit[j]))
        for i, j in combinations(range(n), 2)
    )
    return Ranking(
        estimate.strengths,
        tuple(interval(row) for row in unit - 1 / n),
        tuple(_ranks(model, n, differences) for model in models),
        differences,
        added,
    )


def cycles(
    pairs: Mapping[tuple[str, str], Verdicts], groups: Sequence[Hashable] | None = None
) -> list[tuple[tuple[str, str, str], float]]:
    """Return triples of models that beat each other in a circle, and their p-values.

    A triple counts if all three sign tests say so (the p-value is the largest of the three), Holm-corrected over all
    triples, at :data:`CYCLE_LEVEL`. No ranking describes such models.
    """
    p_of: dict[tuple[str, str], float] = {}
    for (a, b), verdicts in pairs.items():
        wins, losses = decided_groups(verdicts, groups)
        winner, loser = (a, b) if wins > losses else (b, a)
        p_of[winner, loser] = sign_test_exact(wins, losses)
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    triples = list(combinations(names, 3))
    found: list[tuple[tuple[str, str, str], float]] = []
    for a, b, c in triples:
        rounds = [(x, y, z) for x, y, z in ((a, b, c), (a, c, b)) if {(x, y), (y, z), (z, x)} <= p_of.keys()]
        found += [(one, max(p_of[one[0], one[1]], p_of[one[1], one[2]], p_of[one[2], one[0]])) for one in rounds]
    corrected = holm_correction([p for _, p in found] + [1.0] * (len(triples) - len(found)))
    return [(one, p) for (one, _), p in zip(found, corrected, strict=False) if p < CYCLE_LEVEL]


def decided_groups(verdicts: Verdicts, groups: Sequence[Hashable] | None = None) -> tuple[int, int]:
    """Return the groups of prompts in which a wins more often than b, and those in which b does; one prompt each."""
    balance: dict[Hashable, int] = {}
    for verdict, group in zip(verdicts, range(len(verdicts)) if groups is None else groups, strict=True):
        if isinstance(verdict, PairVerdict):
            balance[group] = balance.get(group, 0) + {"a": 1, "b": -1, "tie": 0}[verdict.winner]
    return sum(value > 0 for value in balance.values()), sum(value < 0 for value in balance.values())


def _counts(
    models: Sequence[str], pairs: Mapping[tuple[str, str], Verdicts], groups: Sequence[Hashable] | None
) -> tuple[_Table, _Table]:
    """Return wins and ties by group, each (groups, models, models); ties are symmetric."""
    n_prompts = max((len(verdicts) for verdicts in pairs.values()), default=0)
    names = range(n_prompts) if groups is None else groups
    number = {group: i for i, group in enumerate(dict.fromkeys(names))}
    wins, ties = (np.zeros((len(number), len(models), len(models))) for _ in range(2))
    for (a, b), verdicts in pairs.items():
        i, j = models.index(a), models.index(b)
        for group, verdict in zip(names, verdicts, strict=True):
            if isinstance(verdict, Unscored):
                continue
            for_a, for_b, tied = _shares(verdict)
            wins[number[group], i, j] += for_a
            wins[number[group], j, i] += for_b
            ties[number[group], i, j] += tied
            ties[number[group], j, i] += tied
    return wins, ties


def _shares(verdict: PairVerdict) -> tuple[float, float, float]:
    """Return (wins of a, wins of b, ties) of one verdict; they sum to 1."""
    if verdict.winner != "tie":
        return float(verdict.winner == "a"), float(verdict.winner == "b"), 0.0
    if verdict.position_flip:
        return 0.5, 0.5, 0.0
    leaning = winner_of(verdict.preference_a) if verdict.half_tie else "tie"
    return (0.5 * (leaning == "a"), 0.5 * (leaning == "b"), 1.0 if leaning == "tie" else 0.5)


def _ranks(model: str, n: int, differences: Sequence[Difference]) -> tuple[int, int] | None:
    above = below = 0
    for one in differences:
        if model not in (one.a, one.b):
            continue
        if one.interval is None:
            return None
        low, high = one.interval if one.a == model else (-one.interval[1], -one.interval[0])
        above, below = above + (high < 0), below + (low > 0)
    return 1 + above, n - below


def _is_finite(wins: _Table, ties: _Table) -> bool:
    """Return whether the likelihood has a maximum at finite strengths and a finite tie parameter.

    A chain of wins and ties leads from every model to every other one, and some cycle has more wins than ties: else all
    strengths along the wins, and with them the tie parameter, could grow without end. From the directions of recession
    of the log-likelihood, which is linear in them; without ties the first condition is Ford's.
    """
    from scipy.sparse.csgraph import NegativeCycleError, connected_components, floyd_warshall

    played = np.where(wins > 0, -1.0, np.where(ties > 0, 1.0, 0.0))
    if connected_components(played != 0, directed=True, connection="strong")[0] != 1:
        return False
    try:
        floyd_warshall(played, overwrite=False)
    except NegativeCycleError:
        return True
    return False


# Below, ``parameters`` are the n strengths and, where there are ties, the logarithm of the tie parameter.


def _probabilities(parameters: _Table, n: int) -> tuple[_Table, _Table]:
    """Return the probabilities that i beats j, and that they tie, for all pairs."""
    half = (parameters[:n, None] - parameters[None, :n]) / 2
    tie = parameters[n] if len(parameters) > n else -math.inf
    total = np.logaddexp(np.logaddexp(half, -half), tie)
    return np.exp(half - total), np.exp(tie - total)


def _score(wins: _Table, ties: _Table, parameters: _Table) -> _Table:
    """Return the gradient of the log-likelihood; leading axes of the tables are kept."""
    n = wins.shape[-1]
    win, tie = _probabilities(parameters, n)
    games = wins + wins.swapaxes(-1, -2) + ties
    strengths = ((wins - wins.swapaxes(-1, -2)) - games * (win - win.T)).sum(axis=-1) / 2
    if len(parameters) == n:
        return np.asarray(strengths)
    excess = (ties - games * tie).sum(axis=(-1, -2)) / 2
    return np.concatenate([strengths, excess[..., None]], axis=-1)


def _information(wins: _Table, ties: _Table, parameters: _Table) -> _Table:
    """Return the negative Hessian of the log-likelihood, singular along equal shifts of the strengths."""
    n = len(wins)
    win, tie = _probabilities(parameters, n)
    games = wins + wins.T + ties
    weights = games * (win + win.T - (win - win.T) ** 2) / 4
    table = np.zeros((len(parameters), len(parameters)))
    table[:n, :n] = np.diag(weights.sum(axis=1)) - weights
    if len(parameters) > n:
        table[:n, n] = table[n, :n] = -(games * (win - win.T) * tie).sum(axis=1) / 2
        table[n, n] = (games * tie * (1 - tie)).sum() / 2
    return table


def _inverse(information: _Table, n: int) -> _Table:
    """Invert under the constraint that the strengths sum to 0: the null direction is filled in, and removed again."""
    shift = np.zeros(len(information))
    shift[:n] = 1.0
    size = max(float(np.trace(information)), np.finfo(float).tiny) / n**2
    return np.asarray(
        np.linalg.inv(information + size * np.outer(shift, shift)) - np.outer(shift, shift) / (size * n**2)
    )


def _maximized(wins: _Table, ties: _Table, parameters: _Table) -> _Table:
    """Maximize the concave log-likelihood by Newton's method; a step that lowers it is halved."""
    n, games = len(wins), float(wins.sum() + ties.sum() / 2)

    def likelihood(at: _Table) -> float:
        win, tie = _probabilities(at, n)
        with np.errstate(divide="ignore"):
            return float((wins * np.log(win)).sum() + (ties * np.where(ties > 0, np.log(tie), 0.0)).sum() / 2)

    for _ in range(200):
        gradient = _score(wins, ties, parameters)
        if np.abs(gradient).max() <= 1e-10 * games:
            break
        step, current = _inverse(_information(wins, ties, parameters), n) @ gradient, likelihood(parameters)
        # At the maximum, rounding alone makes the next point look lower.
        for _ in range(27):
            if likelihood(parameters + step) >= current - 1e-12 * abs(current):
                break
            step = step / 2
        parameters = parameters + step
    parameters[:n] -= parameters[:n].mean()
    return parameters


def _robust(wins: _Table, ties: _Table, estimate: TieModel) -> _Table:
    """Return the covariance of the parameters from the scores of the groups."""
    parameters = np.array([*estimate.strengths, *([] if estimate.tie is None else [estimate.tie])])
    scores = _score(wins, ties, parameters)
    scores = scores - scores.mean(axis=0)
    return np.asarray(estimate.covariance @ (scores.T @ scores) @ estimate.covariance)
