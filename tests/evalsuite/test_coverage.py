"""The intervals of suites, analyses and trainings hold the truth in about 95 % of the cases, as commands make them.

Those of ``judges`` are in ``tests/judges/test_coverage.py``. Each case draws data whose true figure is known.
"""

from __future__ import annotations

import numpy as np
import pytest

from evalsuite.analysis.efficiency import efficiency_row
from evalsuite.analysis.keywords import PRIOR_WORDS, distinguishing_words
from evalsuite.analysis.similarity_tables import mean_intervals
from evalsuite.analysis.style import _mean_cell, ratio_cell
from evalsuite.comparison.prompts import PromptSet, Question
from evalsuite.comparison.rating_figures import Rated
from evalsuite.contamination import clean
from evalsuite.records.rows import Draw, Header, Reply, Row, Verdict
from evalsuite.suites.alpaca_eval.package import length_controlled_interval
from evalsuite.suites.base import Suite, marked
from evalsuite.suites.figures import Figure, doubt, with_interval
from evalsuite.suites.games import game_figures
from evalsuite.suites.mt_bench.pairwise import score_pairs
from evalsuite.suites.mt_bench.scores import score_rows
from evalsuite.suites.repeats import marked_draws, scored_draws
from evalsuite.training.lineage import held_out_figures
from evalsuite.wildchat.figures import ModelRow, average
from judges.paired import paired_difference
from judges.selection import against_reference
from judges.statistics import mean_and_stderr
from judges.style_control import _fit
from judges.types import Rating
from judges.verdicts import Request
from tests.evalsuite.analysis.test_efficiency import measured
from tests.judges.test_coverage import HIGHEST, coverage, holds

SIZES = pytest.mark.parametrize("n", [20, 80])


def spread_of_errors(estimates, errors):
    """The root mean square of the standard errors, over the standard deviation of the estimates."""
    return float(np.sqrt(np.mean(np.square(errors))) / np.std(estimates, ddof=1))


def bootstrapped(share, n, n_runs):
    """A percentile bootstrap of 20 items holds the truth in 92 % (docs/statistics.md)."""
    if n > 20:
        holds(share, n_runs=n_runs)
    else:
        assert 0.92 - 3 * (0.08 * 0.92 / n_runs) ** 0.5 <= share <= HIGHEST, f"holds the truth in {share:.1%}"


# Suites ---------------------------------------------------------------------------------------------------------------


def ratings(rng, n):
    """Two turns' ratings of 1 to 10 of each question, of which some are harder."""
    return np.clip(np.rint(8 + rng.normal(0, 1.5, n)[:, None] + rng.normal(0, 1, (n, 2))), 1, 10)


@SIZES
def test_the_ratings_of_mt_bench(n):
    def score(marks):
        rows = [Row(str(i), marks={"turn_1": (a,), "turn_2": (b,)}) for i, (a, b) in enumerate(marks.tolist())]
        return score_rows(rows)

    rng = np.random.default_rng(1)
    truth = float(ratings(np.random.default_rng(9), 400_000).mean())
    scores = [score(ratings(rng, n)) for _ in range(300)]
    holds(np.mean([low <= truth <= high for low, high in (one["ci95"] for one in scores)]), n_runs=300)
    ratio = spread_of_errors([one["score"] for one in scores], [one["stderr"] for one in scores])
    assert ratio == pytest.approx(1, abs=0.13), "three standard errors of 300 runs"


@SIZES
def test_wins_over_two_baselines_in_pairwise_mode(n):
    # Both turns against both baselines are of one question, which is easy or hard; three in ten comparisons are ties.
    def draw(rng):
        won = rng.random((2, 2, n)) < rng.beta(3, 2, n)
        marks = np.where(rng.random((2, 2, n)) < 0.3, 0.5, won).tolist()
        return [
            Row(f"{name}/{i}", name, marks={"turn_1": (marks[b][0][i],), "turn_2": (marks[b][1][i],)})
            for b, name in enumerate("xy")
            for i in range(n)
        ]

    rng, n_runs = np.random.default_rng(19), 300 if n == 20 else 150
    found = [score_pairs(draw(rng)) for _ in range(n_runs)]
    holds(np.mean([low <= 57 <= high for low, high in (one["ci95"] for one in found)]), 0.98, n_runs)
    ratio = spread_of_errors([one["score"] for one in found], [one["stderr"] for one in found])
    assert ratio == pytest.approx(1, abs=3 / (2 * n_runs) ** 0.5)


@pytest.mark.parametrize("n", [30, 120])
def test_scores_of_items_that_share_contexts(n):
    # Half of the items stand alone, the others in contexts of two to eight, which are easy or hard.
    def draw(rng):
        sizes = np.where(rng.random(n) < 0.7, 1, rng.integers(2, 9, n))
        right = rng.random(sizes.sum()) < np.repeat(rng.beta(1.2, 0.8, n), sizes)
        contexts = np.repeat([f"text {i}" if size > 1 else "" for i, size in enumerate(sizes)], sizes)
        given = enumerate(zip(right.tolist(), contexts.tolist(), strict=True))
        return [Row(str(i), marks={"score": (float(is_right),)}, facts={"text": text}) for i, (is_right, text) in given]

    rng = np.random.default_rng(2)
    found = [doubt(draw(rng), lambda row: str(row.facts["text"])) for _ in range(300)]
    holds(np.mean([low <= 0.6 <= high for low, high in (one["ci95"] for one in found)]), 0.98, n_runs=300)


@SIZES
def test_win_rates_in_games_of_which_strong_ones_count_three(n):
    labels = np.array(["A>B", "B>A", "A>>B", "B>>A"])

    def draw(rng):
        chance = rng.beta(2, 3, (n, 1))
        wins, strong = rng.random((n, 2)) < chance, rng.random((n, 2)) < 0.3
        # The model stands first in one game and second in the other.
        first = np.stack([wins[:, 0], ~wins[:, 1]], axis=1)
        said = labels[2 * strong + ~first]
        games = [(Verdict("j", a, order="ab"), Verdict("j", b, order="ba")) for a, b in said.tolist()]
        return [Row(str(i), verdicts=both) for i, both in enumerate(games)]

    rng = np.random.default_rng(3)
    figures = [game_figures(draw(rng)) for _ in range(300)]
    holds(np.mean([low <= 40 <= high for low, high in (one["ci95"] for one in figures)]), n_runs=300)
    ratio = spread_of_errors([one["score"] for one in figures], [one["stderr"] for one in figures])
    assert ratio == pytest.approx(1, abs=0.13)


@pytest.mark.parametrize("intercept", [0.5, -1.0, -3.0])
def test_length_controlled_win_rates(intercept):
    # Preferences depend on length and difficulty, and differ between instructions; two gamed baselines are fixed.
    # The true rate is that of the same fit on endless instructions, which count as much as 805.
    rng, n = np.random.default_rng(15), 805
    gamed_length, hard = np.tanh(rng.normal(-0.5, 1.5, 2 * n)), np.tile(rng.normal(0, 1, n), 2)
    gamed = np.column_stack([gamed_length, hard, np.zeros(2 * n)])
    gamed_shares = 1 / (1 + np.exp(-1.2 * gamed_length))

    def fit(rng, n_drawn):
        own = np.column_stack([np.tanh(rng.normal(0.5, 1, n_drawn)), rng.choice(hard, n_drawn), np.ones(n_drawn)])
        odds = own @ [1.0, 0.5, intercept] + rng.normal(size=n_drawn) + rng.logistic(size=n_drawn)
        features, shares = np.vstack([own, gamed]), np.append(1 / (1 + np.exp(-4 * odds)), gamed_shares)
        weights = np.append(np.full(n_drawn, n / n_drawn), np.full(2 * n, 0.1))
        fitted = _fit(features, shares, weights)
        rates = 1 / (1 + np.exp(-(own * [0, 1, 1]) @ fitted))
        return rates.mean(), lambda: length_controlled_interval(features, shares, weights, fitted)

    truth, _ = fit(np.random.default_rng(16), 200_000)
    holds(coverage(lambda rng: fit(rng, n), truth, lambda _, interval: interval(), 300), n_runs=300)


@SIZES
def test_figures_that_have_only_a_standard_error(n):
    # As from lm-eval: marks that are not all 0 or 1.
    def interval(marks):
        value, stderr = mean_and_stderr(marks)
        return with_interval(Figure(value, stderr, None, len(marks))).ci95

    holds(coverage(lambda rng: (rng.beta(2, 1, n).tolist(),), 2 / 3, interval), 0.98)


def test_an_average_of_several_benchmarks():
    def draw(rng):
        parts = {str(i): mean_and_stderr((rng.random(80) < 0.3 + 0.1 * i).astype(float).tolist()) for i in range(4)}
        figures = {name: Figure(value, error, None, 80) for name, (value, error) in parts.items()}
        return (ModelRow("row", "model", figures, Figure()),)

    holds(coverage(draw, 0.45, lambda row: average(row, list(row.figures)).ci95))


class Drawn(Suite):
    """Items that are right or wrong as their answers say, some of one context."""

    name = title = "drawn"

    def load(self, options):
        raise NotImplementedError

    row = load

    def mark(self, row, header):
        return marked(row, score=float(row.replies[0].text == "right"))

    def vote(self, row, header, repeat):
        return row.draws[repeat].turns[0].text

    def has_right_answer(self, row, header):
        return True


def repeated(rng, chances, contexts):
    """The scores of four answers to each item."""
    answers = np.where(rng.random((len(chances), 4)) < np.array(chances)[:, None], "right", "wrong").tolist()
    rows = [
        Row(str(i), draws=tuple(Draw((Reply(one),), repeat=n) for n, one in enumerate(own)), facts={"context": text})
        for i, (own, text) in enumerate(zip(answers, contexts, strict=True))
    ]
    header = Header("drawn", len(rows))
    return scored_draws(Drawn(), header, [marked_draws(Drawn(), row, header) for row in rows])


@pytest.mark.parametrize(("n", "n_runs"), [(20, 500), (80, 200)])
def test_the_mean_of_several_answers_to_each_item(n, n_runs):
    rng = np.random.default_rng(5)
    found = [repeated(rng, rng.beta(2, 1, n), [""] * n) for _ in range(n_runs)]
    bootstrapped(np.mean([low <= 2 / 3 <= high for low, high in (one["ci95"] for one in found)]), n, n_runs)
    ratio = spread_of_errors([one["score"] for one in found], [one["stderr"] for one in found])
    assert ratio == pytest.approx(1, abs=3 / (2 * n_runs) ** 0.5), "three standard errors of the simulation"
    if n == 80:  # 1 - E (1 - p)^k for p of this beta distribution
        parts = [one["repeats"]["parts"][""] for one in found]
        for name, k, truth in (("pass_at", "2", 5 / 6), ("pass_at", "4", 14 / 15), ("maj_at", "2", 2 / 3)):
            figures = [part[name][k] for part in parts]
            holds(np.mean([abs(one["value"] - truth) <= 1.96 * one["stderr"] for one in figures]), n_runs=n_runs)


def test_the_mean_of_several_answers_to_items_that_share_contexts():
    rng, n, n_runs = np.random.default_rng(18), 120, 150
    contexts = [f"text {i // 4}" for i in range(n)]
    found = [repeated(rng, np.repeat(rng.beta(1, 1, n // 4), 4), contexts) for _ in range(n_runs)]
    holds(np.mean([low <= 0.5 <= high for low, high in (one["ci95"] for one in found)]), n_runs=n_runs)
    part = [one["repeats"]["parts"][""]["pass_at"]["2"] for one in found]
    holds(np.mean([abs(one["value"] - 2 / 3) <= 1.96 * one["stderr"] for one in part]), n_runs=n_runs)


# Models on the same items ---------------------------------------------------------------------------------------------


@SIZES
def test_paired_differences_with_shared_contexts(n):
    def draw(rng):
        sizes = rng.integers(1, 5, n)
        easy = np.repeat(rng.normal(0, 0.3, n), sizes)
        a, b = 0.1 + easy + rng.normal(0, 0.5, (2, easy.size)) + [[0.0], [-0.1]]
        own = np.repeat(rng.normal(0, 0.3, n), sizes)
        return a + own, b, np.repeat(np.arange(n), sizes).tolist()

    holds(coverage(draw, 0.1, lambda *given: paired_difference(*given).ci95))


@SIZES
def test_the_mean_of_two_factors_of_a_rating(n):
    # The two ratings of an answer share its quality; three answers in ten are of a group of two prompts.
    def interval(rng):
        groups = np.where(rng.random(n) < 0.3, np.arange(n) // 2 * 2, np.arange(n)).tolist()
        quality = rng.normal(0, 1, n)[groups]
        questions = tuple(Question(str(i), Request((str(i),)), group=str(group)) for i, group in enumerate(groups))
        ratings = {
            ("m", str(i), factor): Rating(float(value), "")
            for factor in ("style", "truth")
            for i, value in enumerate(6 + quality + rng.normal(0, 1, n))
        }
        prompts = PromptSet("prompts", questions, {}, None)
        return Rated(ratings, prompts, ("m",), ("style", "truth"), has_mean=True).figures_of("m")["mean"].ci95

    rng, n_runs = np.random.default_rng(20), 300
    holds(np.mean([low <= 6 <= high for low, high in (interval(rng) for _ in range(n_runs))]), n_runs=n_runs)


def test_checkpoints_against_the_last_hold_all_at_once():
    truth = np.array([0.0, 0.2, 0.4, 0.5, 0.5])
    rng, held, n_runs = np.random.default_rng(6), [], 120
    for _ in range(n_runs):
        marks = truth[:, None] + rng.normal(0, 0.5, 60) + rng.normal(0, 0.5, (5, 60))
        found = against_reference(marks, 4)
        held.append(all(one.ci95[0] <= truth[row] - 0.5 <= one.ci95[1] for row, one in found.items()))
    holds(np.mean(held), 0.98, n_runs)


# Analyses and trainings -----------------------------------------------------------------------------------------------


@SIZES
def test_similarities(n):
    # 400 rows at once share one set of draws, so they are drawn independently.
    values = np.random.default_rng(7).beta(2, 5, (400, n))
    intervals = mean_intervals(values, range(n))
    bootstrapped(np.mean([low <= 2 / 7 <= high for low, high in intervals]), n, 400)


@SIZES
def test_style_per_answer(n):
    # Three answers to each conversation, some of which ask for more marks.
    def interval(counts, clusters):
        return _mean_cell("strong", counts, clusters)["strong_ci95"]

    def draw(rng):
        return rng.poisson(np.repeat(rng.gamma(2, 2, n), 3)).astype(float), [str(i // 3) for i in range(3 * n)]

    bootstrapped(coverage(draw, 4.0, interval, 300), n, 300)


@SIZES
def test_frequencies_of_style(n):
    def draw(rng):
        long = rng.gamma(2, 1, n)
        return rng.poisson(4 * long).astype(float), rng.poisson(2 * long).astype(float)

    def interval(above, below):
        return ratio_cell("strong", above, below, [str(i) for i in range(n)])["strong_ci95"]

    bootstrapped(coverage(draw, 2.0, interval, 300), n, 300)


def test_the_words_that_tell_two_sides_apart():
    # 40 words, each used by the judgments of 60 questions at its own rates on both sides.
    n, size, words = 60, 150, [f"w{i:02}" for i in range(40)]
    weights = np.random.default_rng(10).gamma(1, 1, (2, 40)) + 0.3
    shares = weights / weights.sum(axis=1, keepdims=True)
    prior = PRIOR_WORDS * shares.mean(axis=0)
    held, rng, n_runs = [], np.random.default_rng(11), 10
    odds = [np.log(n * size * p + prior) - np.log(n * size * (1 - p) + PRIOR_WORDS - prior) for p in shares]
    truth = dict(zip(words, odds[0] - odds[1], strict=True))
    for _ in range(n_runs):
        sides = [[(str(i), rng.choice(words, size, p=p).tolist()) for i in range(n)] for p in shares]
        figures = distinguishing_words(sides, lambda word: True, min_count=1)
        held += [one.ci95[0] <= truth[one.word] <= one.ci95[1] for one in figures]
    assert len(held) == 400
    holds(np.mean(held), n_runs=400)


def test_scores_without_the_contaminated_items():
    def draw(rng):
        marks = np.concatenate([rng.beta(3, 2, 60), rng.beta(5, 1, 25)])
        return ([clean._Marked(float(mark), i >= 60) for i, mark in enumerate(marks)],)

    rng = np.random.default_rng(12)
    figures = [clean._figures(*draw(rng)) for _ in range(600)]
    holds(np.mean([low <= 0.6 <= high for low, high in (one["clean_ci95"] for one in figures)]), n_runs=600)
    truth = 25 / 85 * (5 / 6 - 3 / 5)
    holds(np.mean([low <= truth <= high for low, high in (one["difference_ci95"] for one in figures)]), 0.98, 600)


def test_the_speed_of_generation_and_what_it_projects():
    # Ten stretches of two seconds at 100 tokens per second, and 80 conversations of 50 tokens on average.
    def row(rng):
        stretches = [[2.0, max(1.0, tokens)] for tokens in rng.normal(200, 30, 10)]
        lengths = rng.gamma(4, 12.5, 80)
        return efficiency_row(
            measured(
                counts={"conversations": 80, "answers": 80, "unscored": {}},
                tokens={"prompt": 9, "completion": float(lengths.sum())},
                shards=[{"squared_tokens": float((lengths**2).sum())}],
                costs={"usage": {"prompt_tokens": 9, "completion_tokens": 4000}, "starts": 1, "stretches": stretches},
            ),
            1000,
            None,
        )

    rng = np.random.default_rng(13)
    rows = [row(rng) for _ in range(300)]
    for key, truth in (("steady_tokens_per_s", 100.0), ("conversations_per_hour", 7200.0)):
        holds(np.mean([low <= truth <= high for low, high in (one[f"{key}_ci95"] for one in rows)]), 0.98, 300)


def test_the_change_of_the_held_out_loss():
    # The loss of a token falls by 0.2; longer conversations count for more.
    def interval(rng):
        sizes = rng.integers(20, 200, 40)
        falls = rng.normal(-0.2, 0.3, 40)
        before = [[2.0 * n, int(n)] for n in sizes]
        after = [[(2.0 + fall) * n, int(n)] for n, fall in zip(sizes, falls, strict=True)]
        return held_out_figures({"before": before, "after": after})["change_ci95"]

    rng, n_runs = np.random.default_rng(14), 150
    holds(np.mean([low <= -0.2 <= high for low, high in (interval(rng) for _ in range(n_runs))]), HIGHEST, n_runs)
