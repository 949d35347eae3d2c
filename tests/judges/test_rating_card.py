"""A card of ratings: correlations against definitions, the coverage of their intervals, and what is concluded."""

import math
from itertools import combinations

import numpy as np
import pytest

from judges.rating_card import (
    RatedAnswer,
    correlation,
    correlation_ci,
    rating_conclusions,
    rating_figures,
)
from judges.types import Rating, Unscored


def test_correlations_by_their_definitions():
    a, b = [1.0, 2.0, 2.0, 4.0, 9.0], [2.0, 1.0, 3.0, 3.0, 5.0]
    mean_a, mean_b = sum(a) / 5, sum(b) / 5
    products = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    squares = math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))
    assert correlation("pearson", a, b) == pytest.approx(products / squares)
    ranks_a, ranks_b = [1, 2.5, 2.5, 4, 5], [2, 1, 3.5, 3.5, 5]
    assert correlation("spearman", a, b) == pytest.approx(correlation("pearson", ranks_a, ranks_b))
    pairs = [((x2 - x1), (y2 - y1)) for (x1, y1), (x2, y2) in combinations(zip(a, b, strict=True), 2)]
    order = sum(np.sign(x) * np.sign(y) for x, y in pairs)
    untied = math.sqrt(sum(x != 0 for x, _ in pairs) * sum(y != 0 for _, y in pairs))
    assert correlation("kendall", a, b) == pytest.approx(order / untied)


def test_equal_or_few_ratings_have_no_correlation():
    assert correlation("spearman", [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert correlation("pearson", [1.0, 2.0], [1.0, 2.0]) is None
    assert correlation_ci("kendall", [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], ["a", "a", "a"]) is None


@pytest.mark.parametrize(
    ("kind", "n", "n_simulated"), [("pearson", 80, 200), ("spearman", 30, 100), ("kendall", 30, 100)]
)
def test_intervals_cover_the_correlation_of_a_normal_population(kind, n, n_simulated):
    # Of a bivariate normal distribution with r = 0.5; rho is 6 / pi asin(r / 2), tau 2 / pi asin(r).
    true = {"pearson": 0.5, "spearman": 6 / math.pi * math.asin(0.25), "kendall": 2 / math.pi * math.asin(0.5)}[kind]
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(n_simulated):
        a, noise = rng.normal(size=(2, n))
        low, high = correlation_ci(kind, a, 0.5 * a + math.sqrt(0.75) * noise, list(map(str, range(n))))
        hits += low <= true <= high
    assert 0.9 <= hits / n_simulated <= 0.99


def test_copies_of_a_question_do_not_narrow_the_interval():
    rng = np.random.default_rng(2)
    a, noise = rng.normal(size=(2, 40))
    b, names = a + noise, list(map(str, range(40)))
    once = correlation_ci("pearson", a, b, names)
    assert correlation_ci("pearson", np.repeat(a, 5), np.repeat(b, 5), np.repeat(names, 5)) == pytest.approx(once)
    low, high = correlation_ci("pearson", np.repeat(a, 5), np.repeat(b, 5), list(map(str, range(200))))
    assert high - low < 0.6 * (once[1] - once[0])


def rated(people, judged, lengths=None):
    lengths = lengths or [(7 * i) % 11 for i in range(len(people))]
    return [
        RatedAnswer(
            str(i), str(i), length, {"f": p}, {"f": j if isinstance(j, Unscored) else Rating(j, "A")}, "xy"[i % 2]
        )
        for i, (p, j, length) in enumerate(zip(people, judged, lengths, strict=True))
    ]


def card_of(answers):
    figures = {"f": rating_figures(answers, "f", "f")}
    return figures["f"], rating_conclusions(figures)


def test_a_judge_that_rates_as_people_do_is_usable():
    people = [float(i % 7) for i in range(40)]
    figures, said = card_of(rated(people, [p + 0.1 * (i % 3) for i, p in enumerate(people)]))
    assert figures["spearman"]["value"] > 0.95
    assert figures["categories"]["x"]["n"] == 20
    assert said["verdict"] == "usable"
    assert "Spearman's rho with people is" in said["words"][1]


def test_a_judge_at_random_is_not_to_be_used():
    rng = np.random.default_rng(3)
    _, said = card_of(rated(rng.normal(size=60).tolist(), rng.normal(size=60).tolist()))
    assert said["verdict"] == "do not use"
    assert "not distinguishable from zero" in said["words"][1]


def test_a_judge_that_only_counts_letters_is_to_be_used_with_care():
    rng = np.random.default_rng(4)
    lengths = rng.integers(1, 1000, size=60).tolist()
    people = [length + rng.normal() * 300 for length in lengths]
    figures, said = card_of(rated(people, [float(length) for length in lengths], lengths))
    assert figures["length"]["value"] == pytest.approx(figures["spearman"]["value"])
    assert said["verdict"] == "with care"
    assert "the length of the answer alone" in said["words"][1]


def test_missing_ratings_are_counted_and_equal_ones_say_nothing():
    people = [float(i % 5) for i in range(20)]
    judged = [Unscored("no_rating") if i < 2 else p for i, p in enumerate(people)]
    figures, said = card_of(rated(people, judged))
    assert (figures["n"], figures["n_scored"], figures["unscored"]) == (20, 18, {"no_rating": 2})
    assert said["verdict"] == "do not use"
    _, said = card_of(rated(people, [3.0] * 20))
    assert said["verdict"] == "do not use"
    assert "not measured: f" in said["words"][-1]
