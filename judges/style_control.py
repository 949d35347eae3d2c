"""Style control: Bradley-Terry strengths with the style of the answers held equal.

A judge may prefer the longer answer, or the one with more Markdown. The fit adds four features of each comparison to
the models' strengths: relative length, and the density of headers, list items and bold text. A strength is then that
of an answer in the same style as the other's. Source: lmarena/arena-hard-auto@196f6b8: show_result.py,
utils/math_utils.py, utils/add_markdown_info.py; Li et al. 2024, "Does style matter?" (LMSYS).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from judges.statistics import NO_SPREAD, Interval, cluster_numbers, student_ci

FEATURES = ("length", "headers", "lists", "bold")
"""The features of a comparison, in the order of all coefficients."""

MIN_PROMPTS = 20
"""Fewer prompts than this cannot support four coefficients and a strength."""

_TOO_LARGE = 20.0
"""Log-odds above which a fit has run away: some side of the data is separated."""
_UNBOUNDED = 10.0
"""Log-odds beyond which a model has won every game, or none: the fit ends where the others' figures no longer move."""
_MAX_LOST_DRAWS = 0.1
_FLAT = 1e-8
_SEPARATED = 1e-6
"""Mean loss of a game below which all winners are predicted."""
_MAX_STEPS = 50
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

    ``style`` is :func:`style_difference` of first and second; games on one ``prompt`` are one observation.
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

    ``changes`` are those of the strengths without each prompt, (prompts, models); ``draws`` are the strengths of
    resampled games, (draws, models), empty where too many had no finite fit.
    """

    models: tuple[str, ...]
    strengths: tuple[float, ...]
    coefficients: Mapping[str, float]
    changes: _Array
    draws: _Array

    def win_rate(self, model: str, other: str) -> float:
        """Return the probability that ``model`` beats ``other`` under style control, 0 to 1."""
        return _logistic(self._lead(model, other))

    def win_rate_quantiles(self, model: str, other: str, quantiles: Sequence[float]) -> list[float] | None:
        """Return quantiles of the win rate over the draws; None without draws."""
        if not len(self.draws):
            return None
        differences = self.draws[:, self.models.index(model)] - self.draws[:, self.models.index(other)]
        return [float(value) for value in np.quantile(1 / (1 + np.exp(-differences)), quantiles)]

    def interval(self, model: str, other: str) -> Interval | None:
        """Return the interval of the win rate: plus and minus t jackknife standard errors of the log-odds, by prompt.

        None for a single prompt, without any spread, and where one side's strength has no bound. Source: CV3 of
        MacKinnon, Nielsen and Webb 2023 (J. Appl. Econom. 38, 671-694).
        """
        lead, n = self._lead(model, other), len(self.changes)
        changes = self.changes[:, self.models.index(model)] - self.changes[:, self.models.index(other)]
        stderr = float(np.sqrt((n - 1) / n * (changes @ changes)))
        if n < 2 or stderr < NO_SPREAD or abs(lead) > _UNBOUNDED:
            return None
        low, high = student_ci(lead, stderr, n - 1)
        return _logistic(low), _logistic(high)

    def _lead(self, model: str, other: str) -> float:
        return self.strengths[self.models.index(model)] - self.strengths[self.models.index(other)]


def style_counts(text: str, length: int | None = None) -> StyleCounts:
    """Count an answer's style; code in fences has no headers, lists or bold text.

    ``length`` is the number of tokens where it is known; otherwise words and punctuation marks are counted, which needs
    no tokenizer and changes only the unit. Source: utils/add_markdown_info.py, with the tokens of GPT-4o.
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
    battles: Sequence[Battle], *, centred: bool = False, n_boot: int = 0, seed: int = 0
) -> StyleControlled | None:
    """Fit strengths and style coefficients by maximum likelihood; a tie is half a win each.

    Each feature is divided by its standard deviation, so that a strength is that of equal style. ``centred`` subtracts
    the mean too, as published: a strength is then that of the average difference between the answers, so that a model
    which is always longer is not charged for it. ``n_boot`` resamples single games that often, as published, a game of
    weight 3 being three. None where the likelihood has no finite maximum: one side won everything, or a feature
    predicts every winner. Raises ValueError without a battle. Source: utils/math_utils.py (loss "bt", without a
    penalty).
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
    changes = _without_each(design, shares, weights, fitted, [battle.prompt for battle in battles])
    rng = np.random.default_rng(seed)
    games, chances = round(float(weights.sum())), weights / weights.sum()
    drawn = [_fit(design, shares, rng.multinomial(games, chances).astype(float), fitted) for _ in range(n_boot)]
    kept = [_strengths(one, len(models)) for one in drawn if one is not None]
    coefficients = dict.fromkeys(FEATURES, 0.0)
    coefficients |= {FEATURES[i]: float(value) for i, value in zip(used, fitted[len(models) - 1 :], strict=True)}
    return StyleControlled(
        models,
        tuple(_strengths(fitted, len(models)).tolist()),
        coefficients,
        np.array([_strengths(one, len(models)) for one in changes]),
        np.array(kept if len(kept) >= (1 - _MAX_LOST_DRAWS) * n_boot else []),
    )


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


def _without_each(
    design: _Array, shares: _Array, weights: _Array, fitted: _Array, prompts: Sequence[Hashable]
) -> list[_Array]:
    """Return how the fit changes without each prompt, by one Newton step (Pregibon 1981, Ann. Stat. 9, 705-724)."""
    chances = 1 / (1 + np.exp(-design @ fitted))
    scores = (weights * (shares - chances))[:, None] * design
    curvature = (weights * chances * (1 - chances))[:, None] * design
    hessian = curvature.T @ design
    numbers = cluster_numbers(len(prompts), prompts)
    by_prompt = np.argsort(numbers, kind="stable")
    changes = []
    for rows in np.split(by_prompt, np.flatnonzero(np.diff(numbers[by_prompt])) + 1):
        rest = hessian - curvature[rows].T @ design[rows]
        # Least squares: the others may lack a feature.
        changes.append(np.linalg.lstsq(rest, -scores[rows].sum(axis=0), rcond=1e-10)[0])
    return changes


def _fit(design: _Array, shares: _Array, weights: _Array, start: _Array | None = None) -> _Array | None:
    """Fit a logistic regression of shares without a penalty by Newton's method; None where it has no finite maximum.

    It ends at a gradient (per game) of 1e-8. A rare feature may tell the winners of the games that have it: its
    coefficient would grow without end, but the strengths have a limit, which is reached there. Source: McCullagh and
    Nelder 1989, Generalized Linear Models, section 4.4.
    """
    weights = weights / weights.sum()
    fitted = np.zeros(design.shape[1]) if start is None else start
    odds = design @ fitted
    loss = weights @ (np.logaddexp(0, odds) - shares * odds)
    for _ in range(_MAX_STEPS):
        chances = np.exp(-np.logaddexp(0, -odds))
        gradient = design.T @ (weights * (chances - shares))
        if np.abs(gradient).max(initial=0.0) <= _FLAT:
            return fitted if loss > _SEPARATED else None
        hessian = (design.T * (weights * chances * (1 - chances))) @ design
        # Least squares: a draw may lack every game that has a feature.
        step = np.linalg.lstsq(hessian, gradient, rcond=1e-13)[0]
        for _ in range(_MAX_STEPS):
            odds = design @ (fitted - step)
            found = weights @ (np.logaddexp(0, odds) - shares * odds)
            if found <= loss:
                break
            step = step / 2
        fitted, loss = fitted - step, found
        if np.abs(fitted).max() > _TOO_LARGE:
            return None
    return None


def _logistic(x: float) -> float:
    from scipy.special import expit

    # Not 1 / (1 + exp(-x)), which overflows at the end of a wide interval.
    return float(expit(x))
