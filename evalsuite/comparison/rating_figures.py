"""From ratings to the figures of factors.json: means by factor and category, and paired differences; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from evalsuite.comparison.prompts import PromptSet
from evalsuite.rating_documents import RatingDifference, RatingFigures
from judges.paired import paired_difference
from judges.statistics import holm_correction, mean_ci
from judges.types import Rating, Unscored

MEAN = "mean"

Ratings = Mapping[tuple[str, str, str], Rating | Unscored]
"""(model, question id, factor): the rating."""


@dataclass(frozen=True, slots=True)
class Rated:
    """All ratings of some models on the same prompts; ``has_mean`` where the factors share a scale."""

    ratings: Ratings
    prompts: PromptSet
    models: tuple[str, ...]
    factors: tuple[str, ...]
    has_mean: bool

    def figures_of(self, model: str) -> dict[str, Any]:
        """Return a model's ``factors``, ``mean`` and ``categories``."""
        everything = self._by_factor(model, range(len(self.prompts.questions)))
        by_category: dict[str, list[int]] = {}
        for place, question in enumerate(self.prompts.questions):
            if question.category is not None:
                by_category.setdefault(question.category, []).append(place)
        categories = {name: self._by_factor(model, places) for name, places in sorted(by_category.items())}
        return {"mean": everything.pop(MEAN, None), "factors": everything, "categories": categories or None}

    def _by_factor(self, model: str, places: Sequence[int]) -> dict[str, RatingFigures]:
        found = {factor: self._figures(model, (factor,), places) for factor in self.factors}
        if self.has_mean:
            found[MEAN] = self._figures(model, self.factors, places)
        return found

    def _figures(self, model: str, factors: Sequence[str], places: Sequence[int]) -> RatingFigures:
        groups, questions = self.prompts.groups, self.prompts.questions
        rows = [
            (self.ratings[model, questions[place].id, factor], groups[place]) for factor in factors for place in places
        ]
        scored = [(rating.value, group) for rating, group in rows if isinstance(rating, Rating)]
        reasons = Counter(rating.reason for rating, _ in rows if isinstance(rating, Unscored))
        values = [value for value, _ in scored]
        return RatingFigures(
            score=sum(values) / len(values) if values else None,
            ci95=mean_ci(values, [group for _, group in scored]) if values else None,
            n=len(rows),
            n_scored=len(scored),
            unscored=dict(sorted(reasons.items())),
        )

    def differences(self) -> list[RatingDifference]:
        """Return the paired differences of every pair of models by factor; intervals and tests by group of prompts."""
        pairs = list(combinations(self.models, 2))
        found = _corrected([self._difference(a, b, factor) for a, b in pairs for factor in self.factors])
        means = [self._difference(a, b, MEAN) for a, b in pairs] if self.has_mean and len(self.factors) > 1 else []
        return [*found, *_corrected(means)]

    def _difference(self, a: str, b: str, factor: str) -> RatingDifference:
        first, second = (self._marks(model, factor) for model in (a, b))
        found = paired_difference(first, second, self.prompts.groups)
        n = int((~(np.isnan(first) | np.isnan(second))).sum())
        if found is None:
            return RatingDifference(a=a, b=b, factor=factor, n=n)
        return RatingDifference(
            a=a, b=b, factor=factor, n=n, difference=found.value, ci95=found.ci95, p_value=found.p_value
        )

    def _marks(self, model: str, factor: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return a model's ratings by prompt, NaN without one; of MEAN, the mean where all factors are rated."""
        factors = self.factors if factor == MEAN else (factor,)
        rows = [[self.ratings[model, question.id, one] for one in factors] for question in self.prompts.questions]
        return np.array(
            [
                np.mean([one.value for one in row if isinstance(one, Rating)])
                if all(isinstance(one, Rating) for one in row)
                else np.nan
                for row in rows
            ]
        )


def _corrected(rows: Sequence[RatingDifference]) -> list[RatingDifference]:
    """Return the rows with Holm's correction over those that have a test."""
    tested = [row.p_value for row in rows if row.p_value is not None]
    adjusted = iter(holm_correction(tested)) if tested else iter(())
    return [row if row.p_value is None else row.model_copy(update={"p_value_holm": next(adjusted)}) for row in rows]
