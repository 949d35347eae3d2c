"""Several answers to each item: variance, pass@k and maj@k against enumeration and simulation."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from statistics import fmean

import pytest

from judges.repeats import majority_at_k, pass_at_k, spread


def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer() -> None:
    draws = [True, False, False, True, False, False]
    for k in range(1, 7):
        subsets = list(itertools.combinations(draws, k))
        assert pass_at_k(6, 2, k) == pytest.approx(fmean(any(one) for one in subsets))


def test_pass_at_k_of_published_definition() -> None:
    # Chen et al. 2021: 1 - C(n-c, k)/C(n, k); with n=200, c=20, k=10: product form 1 - prod(1 - k/i, i=n-c+1..n).
    product = 1.0
    for i in range(181, 201):
        product *= 1 - 10 / i
    assert pass_at_k(200, 20, 10) == pytest.approx(1 - product, abs=1e-12)


@pytest.mark.parametrize("votes", ["AABBC", "ABBCCA", "AAAA", "BBCC", "ABCDE"])
def test_majority_is_the_mean_over_all_subsets_with_ties_by_lot(votes: str) -> None:
    for k in range(1, len(votes) + 1):
        wins = []
        for subset in itertools.combinations(votes, k):
            counts = Counter(subset)
            best = [vote for vote, count in counts.items() if count == max(counts.values())]
            wins.append(("A" in best) / len(best))
        assert majority_at_k(votes, "A", k) == pytest.approx(fmean(wins))


@pytest.mark.parametrize("k", [0, 4])
def test_k_outside_the_answers_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 3"):
        pass_at_k(3, 1, k)


def test_spread_recovers_the_variances_that_marks_were_drawn_with() -> None:
    rng = random.Random(1)
    items = [rng.gauss(0, 2) for _ in range(4000)]
    found = spread([[rng.gauss(item, 1) for _ in range(4)] for item in items])
    assert found is not None
    assert found.between == pytest.approx(4, rel=0.06)
    assert found.within == pytest.approx(1, rel=0.06)
    assert found.stderr_one == pytest.approx((5 / 4000) ** 0.5, rel=0.04)
    assert found.stderr == pytest.approx((4.25 / 4000) ** 0.5, rel=0.04)
    # (4 + 1/3) / 4 = 1.083 is within 1.05 squared of the limit, (4 + 1/2) / 4 = 1.125 is not.
    assert found.pays == 3


def test_items_that_are_answered_once_vary_with_the_items_alone() -> None:
    found = spread([[0.0], [1.0], [0.0], [1.0]])
    assert found is not None
    assert (found.within, found.pays) == (0.0, 1)
    assert found.stderr == found.stderr_one == pytest.approx((1 / 3 / 4) ** 0.5)
    assert spread([[1.0, 0.0]]) is None
