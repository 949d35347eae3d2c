"""Style control: Bradley-Terry strengths with the style of the answers held equal.

A judge may prefer the longer answer, or the one with more Markdown. The fit adds four features of each comparison to
the models' strengths: relative length, and the density of headers, list items and bold text. A strength is then that
of an answer in the same style as the other's. Source: lmarena/arena-hard-auto@196f6b8: show_result.py,
utils/math_utils.py, utils/add_markdown_info.py; Li et al. 2024, "Does style matter?" (LMSYS).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from judges.statistics import Interval

FEATURES = ("length", "headers", "lists", "bold")
"""The features of a comparison, in the order of all coefficients."""

MIN_PROMPTS = 20
"""Fewer prompts than this cannot support four coefficients and a strength."""

_TOO_LARGE = 20.0
"""Log-odds above which a fit has run away: some side of the data is separated."""
_MAX_LOST_DRAWS = 0.1
_CODE = re.compile(r"```([^`]*)```")
_WORD = re.compile(r"\w+|[^\w\s]")
_HEADER = re.compile(r"^#{1,6}\s", re.MULTILINE)
# Only blanks of the same line: the published ^\s* counts the same items, in quadratic time over blank lines.
_LIST_ITEM = re.compile(r"^[^\S\n]*(?:\d+\.|[-*+])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StyleCounts:
    """The style of one answer: its length in tokens, and Markdown elements outside fenced code."""

    length: int
    headers: int
    lists: int
    bold: int


@dataclass(frozen=True, slots=True)
class Battle:
    """One comparison: how much of it ``first`` won (0 to 1), what it counts, and its style features.

    ``style`` is :func:`style_difference` of first and second; games on one ``prompt`` are resampled together.
    """

    first: str
    second: str
    share: float
    style: tuple[float, ...]
    prompt: Hashable
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class StyleControlled:
    """The fit: strengths on the log-odds scale that sum to 0, and coefficients per standard deviation of a feature.

    ``draws`` are the strengths of the resampled data, (draws, models), from which intervals of any contrast follow.
    """

    models: tuple[str, ...]
    strengths: tuple[float, ...]
    coefficients: Mapping[str, float]
    draws: _Array

    def win_rate(self, model: str, other: str) -> float:
        """Return the probability that ``model`` beats ``other`` under style control, 0 to 1."""
        values = dict(zip(self.models, self.strengths, strict=True))
        return _logistic(values[model] - values[other])

    def win_rate_quantiles(self, model: str, other: str, quantiles: Sequence[float]) -> list[float] | None:
        """Return quantiles of the win rate over the draws; None where too many draws had no finite fit."""
        if not len(self.draws):
            return None
        differences = self.draws[:, self.models.index(model)] - self.draws[:, self.models.index(other)]
        return [float(value) for value in np.quantile(1 / (1 + np.exp(-differences)), quantiles)]

    def interval(self, model: str, other: str, level: float = 0.95) -> Interval | None:
        """Return the percentile interval of the win rate over prompts."""
        ends = self.win_rate_quantiles(model, other, ((1 - level) / 2, (1 + level) / 2))
        return None if ends is None else (ends[0], ends[1])


def style_counts(text: str, length: int | None = None) -> StyleCounts:
    """Count an answer's style; code in fences has no headers, lists or bold text.

    ``length`` is the number of tokens where it is known; otherwise words and punctuation marks are counted, which
    needs no tokenizer and moves only the unit. Source: utils/add_markdown_info.py, with the tokens of GPT-4o.
    """
    prose = _CODE.sub("``````", text)
    counts = [sum(1 for _ in pattern.finditer(prose)) for pattern in (_HEADER, _LIST_ITEM, _BOLD)]
    return StyleCounts(sum(1 for _ in _WORD.finditer(text)) if length is None else length, *counts)


def style_difference(first: StyleCounts, second: StyleCounts) -> tuple[float, float, float, float]:
    """Return the features of a comparison; swapping the answers changes every sign.

    Length is ``(a - b) / (a + b)``; of headers, lists and bold text it is the difference of the densities (elements per
    token) over their sum plus 1. An empty answer has density 0. Source: show_result.py.
    """
    total = first.length + second.length
    length = (first.length - second.length) / total if total else 0.0
    density = [
        tuple(n / one.length if one.length else 0.0 for n in (one.headers, one.lists, one.bold))
        for one in (first, second)
    ]
    headers, lists, bold = ((a - b) / (a + b + 1) for a, b in zip(*density, strict=True))
    return length, headers, lists, bold


def fit_style_control(
    battles: Sequence[Battle],
    *,
    centred: bool = False,
    by_prompt: bool = True,
    n_boot: int = 200,
    seed: int = 0,
) -> StyleControlled | None:
    """Fit strengths and style coefficients by maximum likelihood; a tie is half a win each.

    Each feature is divided by its standard deviation, so that a strength is that of equal style. ``centred`` takes off
    the mean too, as published: a strength is then that of the average difference between the answers, so that a model
    which is always longer is not charged for it. ``by_prompt`` resamples prompts, otherwise single games, a game of
    weight 3 being three. None where the likelihood has no finite maximum: one side won everything, or a feature tells
    every winner. Raises ValueError without a battle. Source: utils/math_utils.py (loss "bt", without a penalty).
    """
    if not battles:
        raise ValueError("no battles; expected at least one")
    models = tuple(sorted({name for battle in battles for name in (battle.first, battle.second)}))
    weights = np.array([battle.weight for battle in battles])
    shares = np.array([battle.share for battle in battles])
    style, scale = _standardized(np.array([battle.style for battle in battles]), weights, centred=centred)
    used = np.flatnonzero(scale > 0)
    design = np.hstack([_sides(battles, models), style[:, used]])
    fitted = _fit(design, shares, weights)
    if fitted is None:
        return None
    draws, lost = [], 0
    for times in _resampled(battles, weights, by_prompt=by_prompt, n_boot=n_boot, seed=seed):
        drawn = _fit(design, shares, times)
        lost += drawn is None
        draws += [] if drawn is None else [_strengths(drawn, len(models))]
    kept = np.array(draws) if n_boot and lost <= _MAX_LOST_DRAWS * n_boot else np.empty((0, len(models)))
    coefficients = dict.fromkeys(FEATURES, 0.0)
    coefficients |= {FEATURES[i]: float(value) for i, value in zip(used, fitted[len(models) - 1 :], strict=True)}
    return StyleControlled(models, tuple(_strengths(fitted, len(models)).tolist()), coefficients, kept)


def _standardized(style: _Array, weights: _Array, *, centred: bool) -> tuple[_Array, _Array]:
    """Divide features by their standard deviations over games (a weight of 3 is three games); constant ones stay."""
    means = np.average(style, axis=0, weights=weights)
    variance = (weights[:, None] * (style - means) ** 2).sum(axis=0) / max(weights.sum() - 1, 1)
    scale = np.where(variance > 1e-18, np.sqrt(variance), 0.0)
    shifted = style - means if centred else style
    return np.asarray(shifted / np.where(scale > 0, scale, 1.0)), scale


def _sides(battles: Sequence[Battle], models: Sequence[str]) -> _Array:
    """Return +1 for the first and -1 for the second model of each battle, without the last model, which has 0."""
    sides = np.zeros((len(battles), len(models)))
    rows = np.arange(len(battles))
    sides[rows, [models.index(battle.first) for battle in battles]] += 1
    sides[rows, [models.index(battle.second) for battle in battles]] -= 1
    return sides[:, :-1]


def _strengths(fitted: _Array, n_models: int) -> _Array:
    values = np.append(fitted[: n_models - 1], 0.0)
    return np.asarray(values - values.mean())


def _resampled(
    battles: Sequence[Battle], weights: _Array, *, by_prompt: bool, n_boot: int, seed: int
) -> Iterator[_Array]:
    """Yield the weights of the battles in each draw with replacement."""
    rng = np.random.default_rng(seed)
    if not by_prompt:
        games = round(float(weights.sum()))
        for _ in range(n_boot):
            yield rng.multinomial(games, weights / weights.sum()).astype(float)
        return
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(battle.prompt for battle in battles))}
    of_battle = np.array([numbers[battle.prompt] for battle in battles])
    for _ in range(n_boot):
        times = rng.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)))
        yield weights * times[of_battle]


def _fit(design: _Array, shares: _Array, weights: _Array) -> _Array | None:
    """Fit a logistic regression of shares without a penalty; None where it has no finite maximum."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    outcome = np.repeat([1, 0], len(shares))
    counts = np.concatenate([weights * shares, weights * (1 - shares)])
    kept = counts > 0
    if len(np.unique(outcome[kept])) < 2:
        return None
    model: Any = LogisticRegression(C=np.inf, fit_intercept=False, solver="newton-cholesky", tol=1e-8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(np.vstack([design, design])[kept], outcome[kept], sample_weight=counts[kept])
    fitted: _Array = model.coef_[0]
    diverged = any(issubclass(one.category, ConvergenceWarning) for one in caught)
    return None if diverged or np.abs(fitted).max(initial=0.0) > _TOO_LARGE else fitted


def _logistic(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))
