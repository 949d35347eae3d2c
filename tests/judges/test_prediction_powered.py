"""Corrected rates by simulation: coverage, and the width of the interval with a good and a useless judge."""

from __future__ import annotations

import numpy as np
import pytest

from judges.prediction_powered import MIN_LABELS, corrected_mean

STUDIES = 2000


def study(rng, *, n=600, share=0.15, quality=0.85, rate=0.6, by_doubt=False):
    """Return the judge's figures, labels and chances of a made-up study; the judge is right with ``quality``."""
    truth = rng.random(n) < rate
    right = rng.random(n) < quality
    # The judge's own preference is graded, and biased by 0.1 towards the first model.
    judged = np.clip(np.where(right == truth, 0.8, 0.2) + 0.1 + rng.normal(0, 0.1, n), 0, 1)
    chances = np.full(n, share)
    if by_doubt:
        doubt = 0.1 + (1 - 2 * np.abs(judged - 0.5))
        chances = np.clip(share * doubt / doubt.mean(), 0.02, 1)
    drawn = rng.random(n) < chances
    labels = [float(one) if has else None for one, has in zip(truth, drawn, strict=True)]
    return judged.tolist(), labels, chances.tolist()


@pytest.mark.parametrize(
    ("how", "narrower"),
    [
        ({"quality": 0.95}, (0.0, 0.75)),
        ({"quality": 0.85}, (0.0, 0.95)),
        ({"quality": 0.5}, (0.95, 1.05)),
        ({"quality": 0.85, "rate": 0.8}, (0.0, 1.0)),
        ({"quality": 0.85, "by_doubt": True}, (0.0, 1.0)),
    ],
    ids=["good", "fair", "useless", "one-sided", "drawn by doubt"],
)
def test_intervals_hold_the_truth_and_are_as_narrow_as_the_judge_is_good(how, narrower):
    rng = np.random.default_rng(5)
    hits, ratios = 0, []
    for _ in range(STUDIES):
        judged, labels, chances = study(rng, **how)
        found = corrected_mean(judged, labels, chances)
        assert found is not None
        hits += found.ci95[0] <= how.get("rate", 0.6) <= found.ci95[1]
        ratios.append((found.ci95[1] - found.ci95[0]) / (found.alone_ci95[1] - found.alone_ci95[0]))
    assert 0.93 <= hits / STUDIES <= 0.97
    assert narrower[0] <= np.mean(ratios) <= narrower[1]


def test_the_classical_estimate_is_the_labels_mean_with_its_standard_error():
    rng = np.random.default_rng(1)
    judged, labels, _ = study(rng, quality=0.5)
    found = corrected_mean([0.5] * len(judged), labels)
    own = [label for label in labels if label is not None]
    assert found.value == pytest.approx(np.mean(own))
    assert found.weight == 0
    # Up to the finite correction, n/(n - 1) of the sample's against the population's.
    assert found.stderr == pytest.approx(np.std(own) / len(own) ** 0.5, rel=0.01)


def test_labels_of_all_prompts_are_the_answer():
    rng = np.random.default_rng(2)
    labels = (rng.random(200) < 0.7).astype(float).tolist()
    found = corrected_mean(rng.random(200).tolist(), labels)
    assert found.value == pytest.approx(np.mean(labels))


def test_a_perfect_judge_counts_in_full_and_its_mean_stands():
    rng = np.random.default_rng(3)
    truth = (rng.random(1000) < 0.3).astype(float)
    labels = [float(one) if rank < 100 else None for rank, one in enumerate(truth)]
    found = corrected_mean(truth.tolist(), labels)
    assert found.value == pytest.approx(truth.mean(), abs=1e-9)
    assert found.weight == pytest.approx(1)
    # 1,000 known outcomes are worth their own standard error.
    assert found.stderr == pytest.approx(truth.std() / 1000**0.5, rel=0.03)


def test_copies_of_a_prompt_are_one_observation():
    rng = np.random.default_rng(4)
    judged, labels, _ = study(rng, n=400, share=0.5)
    once = corrected_mean(judged, labels)
    twice = corrected_mean(judged * 2, labels * 2, groups=list(range(400)) * 2)
    assert twice.value == pytest.approx(once.value)
    assert twice.stderr == pytest.approx(once.stderr, rel=0.02)


def test_few_labels_give_no_interval_and_impossible_chances_are_refused():
    few = [1.0] * (MIN_LABELS - 1) + [None] * 50
    assert corrected_mean([0.5] * len(few), few) is None
    enough = [1.0, 0.0] * MIN_LABELS
    with pytest.raises(ValueError, match="above 0"):
        corrected_mean([0.5] * len(enough), enough, [0.0] * len(enough))
    with pytest.raises(ValueError, match="groups"):
        corrected_mean([0.5], enough)
