"""A judge's rates corrected by people's labels on some of the same prompts: prediction-powered inference. Pure.

Sources: Angelopoulos et al. 2023 (Science 382, 669-674), PPI++ (arXiv 2311.01453) for the weight of the predictions,
Zrnic and Candès 2024 (arXiv 2403.03208) for labels that were drawn with known chances. ``ppi-python`` computes the same
for uniform draws; it has had no release since 2024, names no licence, and needs numba.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from judges.statistics import Interval, clustered_stderr, student_ci

MIN_LABELS = 30
"""Labels below which no interval is given: the normal approximation needs some of each outcome."""


class Corrected(NamedTuple):
    """A mean over all prompts, corrected by the labels of some.

    ``weight`` is how much the judge counts, 0 (labels alone) to 1; ``alone`` and ``alone_ci95`` are from the labels
    alone. Intervals are Student's, with one degree of freedom fewer than there are labels (or groups of them).
    """

    value: float
    stderr: float
    ci95: Interval
    weight: float
    n_labels: int
    n: int
    alone: float
    alone_ci95: Interval


def corrected_mean(
    judged: Sequence[float],
    labels: Sequence[float | None],
    chances: Sequence[float] | None = None,
    groups: Sequence[Hashable] | None = None,
) -> Corrected | None:
    """Return the mean label over all prompts from labels on some of them and the judge's figures on all.

    The mean of the judge's figures, times the weight, plus the labelled prompts' mean difference to it. The weight
    minimises the variance, so that a useless judge does no harm. ``chances`` are those with which each prompt was drawn
    for labelling (all alike if None), ``groups`` those of prompts that are one observation.

    None for fewer than MIN_LABELS labels (groups with one). Raises ValueError for sequences of different lengths, and
    for chances outside 0 to 1 or 0 for a labelled prompt.
    """
    n = len(judged)
    chances = [1.0] * n if chances is None else chances
    names = list(range(n)) if groups is None else list(groups)
    if not len(labels) == len(chances) == len(names) == n:
        raise ValueError(f"{n} judged prompts, {len(labels)} labels, {len(chances)} chances, {len(names)} groups")
    labelled = np.array([label is not None for label in labels])
    if any(not 0 <= chance <= 1 or (has and chance == 0) for chance, has in zip(chances, labelled, strict=True)):
        raise ValueError("a probability of being drawn must be above 0 and at most 1")
    n_observed = len({name for name, has in zip(names, labelled, strict=True) if has})
    if n_observed < MIN_LABELS:
        return None
    f = np.array(judged, dtype=float)
    y = np.array([0.0 if label is None else label for label in labels])
    # Divided by their mean, the weights of a uniform draw are n over the number of labels, whatever the chance was.
    share = labelled / np.where(labelled, chances, 1.0)
    share = share / share.mean()
    own, predicted = float((share * y).mean()), float((share * f).mean())
    # The influence of each prompt on the labels' mean, and on the difference of the judge's two means.
    of_labels, of_judge = share * (y - own), (f - f.mean()) - share * (f - predicted)
    variance = float(of_judge @ of_judge)
    weight = 0.0 if variance <= 0 else float(np.clip(-(of_labels @ of_judge) / variance, 0.0, 1.0))
    value = own + weight * (float(f.mean()) - predicted)
    stderr, alone = _stderr(of_labels + weight * of_judge, names), _stderr(of_labels, names)
    # What the weight was chosen by is what the error is estimated from: the usual factor for one fitted coefficient.
    stderr *= math.sqrt((n_observed - 1) / max(1, n_observed - 2)) if weight > 0 else 1.0
    interval, alone_interval = student_ci(value, stderr, n_observed - 1), student_ci(own, alone, n_observed - 1)
    return Corrected(value, stderr, interval, weight, int(labelled.sum()), n, own, alone_interval)


def _stderr(influence: np.ndarray, groups: Sequence[Hashable]) -> float:
    return clustered_stderr(influence.tolist(), groups) or 0.0
