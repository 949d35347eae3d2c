"""The document of ``evalsuite rate`` as types: factors.json."""

from __future__ import annotations

from typing import Literal

import pydantic

from evalsuite.comparison_documents import ComparisonJudge, Interval
from evalsuite.documents import SCHEMA, Document


class RatingFigures(Document):
    """The mean of some ratings, its 95 % interval by prompt (or group), and what has no rating."""

    score: float | None = None
    ci95: Interval | None = None
    n: int = 0
    n_scored: int = 0
    unscored: dict[str, int] = pydantic.Field(default_factory=dict)


class RatedFactor(Document):
    """A factor that was rated; ``scale`` is None for the score of a reward model."""

    name: str = ""
    meaning: str = ""
    scale: tuple[int, int] | None = None


class RatedModel(Document):
    """The ratings of one model by factor; ``mean`` is over all factors where they have one scale.

    ``categories`` hold the same by category, with ``mean`` among the factors.
    """

    name: str
    fingerprint: str | None = None
    answers: str = ""
    factors: dict[str, RatingFigures]
    mean: RatingFigures | None = None
    categories: dict[str, dict[str, RatingFigures]] | None = None


class RatingDifference(Document):
    """The mean difference of two models' ratings on the prompts that both have one for, and its paired test.

    ``p_value_holm`` is corrected over all pairs and factors; that of the factor "mean" over the pairs.
    """

    a: str
    b: str
    factor: str
    n: int = 0
    difference: float | None = None
    ci95: Interval | None = None
    p_value: float | None = None
    p_value_holm: float | None = None


class Ratings(Document):
    """factors.json of ``evalsuite rate``."""

    schema_: Literal[1] = pydantic.Field(default=SCHEMA, alias="schema")
    models: tuple[RatedModel, ...] = pydantic.Field(min_length=1)
    judge: ComparisonJudge
    factors: dict[str, RatedFactor]
    prompts: str = ""
    turns: str = ""
    data: str | None = None
    limit: pydantic.StrictInt | None = None
    n_prompts: int = 0
    differences: tuple[RatingDifference, ...] = ()
    notes: tuple[str, ...] = ()
