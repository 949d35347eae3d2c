"""Bradley-Terry strengths: rank models from pairwise win counts, with confidence intervals.

There are two kinds of intervals. Win counts alone give normal intervals, which assume independent
games. Where the prompt of each game is known, prompts are resampled instead: all pairs answer the same
prompts and one answer plays against every other model's, so games are correlated, and intervals that
assume independence are too narrow (with ten models they cover the truth two thirds of the time, not 95 %).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from judges.preference import Verdicts
from judges.statistics import Interval, normal_ci
from judges.verdicts import PairVerdict

LINKING_TIES = 1.0
"""Ties added per pair when a model never lost or never won, so that its strength is finite."""

_CELLS_PER_CHUNK = 4_000_000
_MIN_WIDTH = 1e-9
_Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    """Strengths on the log-odds scale, one per model in the order of ``wins``; they sum to 0.

    Model i beats model j with probability ``1 / (1 + exp(strengths[j] - strengths[i]))``.
    """

    strengths: tuple[float, ...]
    stderrs: tuple[float, ...]
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class PromptRanking:
    """Strengths as in :class:`BradleyTerry` with intervals over prompts, None for a single prompt.

    ``added_ties`` is the number of ties per pair that were needed for finite strengths.
    """

    strengths: tuple[float, ...]
    intervals: tuple[Interval | None, ...]
    added_ties: float


def bradley_terry(
    wins: Sequence[Sequence[float]], *, level: float = 0.95, pseudo_ties: float = 0.0
) -> BradleyTerry | None:
    """Estimate Bradley-Terry strengths by maximum likelihood, with normal intervals that assume independent games.

    ``wins[i][j]`` counts how often model i beat model j (a tie is half a win each; the diagonal is ignored).
    ``pseudo_ties`` adds that many ties to every pair that played, which shrinks the strengths towards each other.
    Standard errors come from the inverse Hessian under the sum-to-zero constraint. None when there is no finite
    maximum: some group of models never lost to the others, or never played them. Raises ValueError unless ``wins`` is
    square with at least two models and finite entries of at least 0. Source: Bradley and Terry 1952 (Biometrika 39,
    324-345); existence by Ford 1957 (Amer. Math. Monthly 64, 28-33); Newton's method on the log-strengths.
    """
    table = np.array(wins, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or len(table) < 2:
        raise ValueError(f"wins of shape {table.shape}; expected a square table of two or more models")
    if not np.isfinite(table).all() or (table < 0).any() or not 0 <= pseudo_ties < np.inf:
        raise ValueError("a count of wins is negative or not finite; expected numbers of at least 0")
    np.fill_diagonal(table, 0.0)
    tables = _with_ties(table[None], pseudo_ties)
    if not _linked(tables)[0]:
        return None
    strengths = _most_likely_strengths(tables, np.zeros(len(table)))
    covariance = _pseudo_inverse(_information(tables, strengths))[0]
    values, errors = strengths[0].tolist(), np.sqrt(np.diag(covariance)).tolist()
    intervals = [normal_ci(value, error, level=level) for value, error in zip(values, errors, strict=True)]
    return BradleyTerry(tuple(values), tuple(errors), tuple(each for each in intervals if each is not None))


def rank_by_prompts(
    models: Sequence[str],
    pairs: Mapping[tuple[str, str], Verdicts],
    *,
    level: float = 0.95,
    n_boot: int = 1000,
    seed: int = 0,
) -> PromptRanking | None:
    """Rank models by Bradley-Terry strength, a tie as half a win each, with intervals over prompts.

    ``pairs`` holds each pair's verdicts per prompt, all in the same order. Where the wins have no finite maximum,
    :data:`LINKING_TIES` are added to every pair that played; None if that still does not connect all models. The
    intervals are percentiles of ``n_boot`` estimates on prompts drawn with replacement, each by the same rule, ties
    included; disconnected draws are dropped. They are None with fewer than two prompts that have a verdict. Near a
    clean sweep, as with proportions near 0 or 1, the percentile interval is too narrow: a draw without the only loss is
    bounded by its ties, so a model that won 79 of 80 games would get a lower upper bound than one that won all 80.
    Where a draw or the estimate itself needed ties, or all draws agree, the interval is therefore widened to cover the
    normal one of :func:`bradley_terry`. Source: Efron and Tibshirani 1993, chapter 13; prompts as clusters as in Field
    and Welsh 2007 (JRSS B 69, 369-390).
    """
    by_prompt = wins_by_prompt(models, pairs)
    total = by_prompt.sum(axis=0)
    ties = 0.0
    if (estimate := bradley_terry(total.tolist(), level=level)) is None:
        estimate, ties = bradley_terry(total.tolist(), level=level, pseudo_ties=LINKING_TIES), LINKING_TIES
    if estimate is None:
        return None
    strengths = np.array(estimate.strengths)
    chunks = list(_draws(by_prompt, strengths, ties, n_boot=n_boot, seed=seed)) if len(by_prompt) > 1 else []
    drawn = np.concatenate([chunk for chunk, _ in chunks]) if chunks else np.empty((0, len(models)))
    if not len(drawn):
        return PromptRanking(estimate.strengths, (None,) * len(models), ties)
    is_too_narrow = ties > 0 or not all(linked for _, linked in chunks)
    ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0).T.tolist()
    intervals = [
        (min(low, normal[0]), max(high, normal[1])) if is_too_narrow or high - low < _MIN_WIDTH else (low, high)
        for (low, high), normal in zip(ends, estimate.intervals, strict=True)
    ]
    return PromptRanking(estimate.strengths, tuple(intervals), ties)


def wins_by_prompt(models: Sequence[str], pairs: Mapping[tuple[str, str], Verdicts]) -> _Table:
    """Return win counts per prompt with a verdict, (prompts, models, models); a tie is half a win each."""
    n_prompts = max((len(verdicts) for verdicts in pairs.values()), default=0)
    wins = np.zeros((n_prompts, len(models), len(models)))
    for (a, b), verdicts in pairs.items():
        i, j = models.index(a), models.index(b)
        for prompt, verdict in enumerate(verdicts):
            if isinstance(verdict, PairVerdict):
                share = {"a": 1.0, "b": 0.0, "tie": 0.5}[verdict.winner]
                wins[prompt, i, j] += share
                wins[prompt, j, i] += 1 - share
    return wins[wins.any(axis=(1, 2))]


def _draws(by_prompt: _Table, start: _Table, ties: float, *, n_boot: int, seed: int) -> Iterator[tuple[_Table, bool]]:
    """Yield the strengths of ``n_boot`` tables of prompts drawn with replacement, in chunks that fit in memory.

    Each chunk comes with whether all of its tables connected the models without added ties.
    """
    n_prompts, n_models = len(by_prompt), by_prompt.shape[1]
    rng = np.random.default_rng(seed)
    rows = max(1, _CELLS_PER_CHUNK // n_models**2)
    flat = by_prompt.reshape(n_prompts, -1)
    for begin in range(0, n_boot, rows):
        times = rng.multinomial(n_prompts, np.full(n_prompts, 1 / n_prompts), size=min(rows, n_boot - begin))
        tables = _with_ties((times @ flat).reshape(-1, n_models, n_models), ties)
        linked = _linked(tables)
        if not ties:
            tables = np.where(linked[:, None, None], tables, _with_ties(tables, LINKING_TIES))
        yield _most_likely_strengths(tables[_linked(tables)], start), bool(linked.all())


# The functions below work on a stack of tables: wins (b, n, n), strengths (b, n).


def _with_ties(wins: _Table, ties: float) -> _Table:
    """Add ``ties`` to every pair that played."""
    return np.asarray(wins + np.where(wins + wins.swapaxes(1, 2) > 0, ties / 2, 0.0))


def _linked(wins: _Table) -> NDArray[np.bool_]:
    """Return for each table whether a chain of wins leads from every model to every other one."""
    reached = ((wins > 0) | np.eye(wins.shape[1], dtype=bool)).astype(np.float32)
    for _ in range(wins.shape[1].bit_length()):
        # As floats, because numpy multiplies them much faster than booleans.
        reached = (reached @ reached > 0).astype(np.float32)
    linked: NDArray[np.bool_] = reached.all(axis=(1, 2))
    return linked


def _log_probabilities(strengths: _Table) -> _Table:
    """Return the logarithm of the probability that model i beats model j."""
    return -np.logaddexp(0.0, strengths[:, None, :] - strengths[:, :, None])


def _log_likelihood(wins: _Table, strengths: _Table) -> _Table:
    return np.asarray((wins * _log_probabilities(strengths)).sum(axis=(1, 2)))


def _information(wins: _Table, strengths: _Table) -> _Table:
    """Return the negative Hessians of the log-likelihood: graph Laplacians, singular along (1, ..., 1)."""
    p = np.exp(_log_probabilities(strengths))
    weights = (wins + wins.swapaxes(1, 2)) * p * p.swapaxes(1, 2)
    return np.asarray(np.eye(wins.shape[1]) * weights.sum(axis=2)[:, None] - weights)


def _pseudo_inverse(information: _Table) -> _Table:
    """Invert connected Laplacians under the sum-to-zero constraint.

    The null direction is known, so it is filled in before inverting and removed afterwards. A general
    pseudo-inverse would have to detect it by the size of an eigenvalue, which rounding leaves at 1e-14
    instead of 0, and might invert that.
    """
    traces = np.trace(information, axis1=1, axis2=2)[:, None, None]
    return np.asarray(np.linalg.inv(information + traces / information.shape[1] ** 2) - 1 / traces)


def _most_likely_strengths(wins: _Table, start: _Table) -> _Table:
    """Maximize each table's likelihood from ``start`` (n) by Newton's method; a step that lowers it is halved."""
    strengths = np.tile(start, (len(wins), 1))
    games = wins.sum(axis=(1, 2))
    active = np.arange(len(wins))
    for _ in range(200):
        expected = (wins[active] + wins[active].swapaxes(1, 2)) * np.exp(_log_probabilities(strengths[active]))
        gradient = wins[active].sum(axis=2) - expected.sum(axis=2)
        unfinished = np.abs(gradient).max(axis=1, initial=0.0) > 1e-10 * games[active]
        active, gradient = active[unfinished], gradient[unfinished]
        if not active.size:
            break
        strengths[active] += _newton_step(wins[active], strengths[active], gradient)
    return np.asarray(strengths - strengths.mean(axis=1, keepdims=True))


def _newton_step(wins: _Table, strengths: _Table, gradient: _Table) -> _Table:
    step = (_pseudo_inverse(_information(wins, strengths)) @ gradient[:, :, None])[:, :, 0]
    current = _log_likelihood(wins, strengths)
    # At the maximum, rounding alone makes the next point look lower.
    threshold = current - 1e-12 * np.abs(current)
    for _ in range(27):
        lower = _log_likelihood(wins, strengths + step) < threshold
        if not lower.any():
            break
        step[lower] /= 2
    return np.asarray(step)
