"""Style control: features by hand, coefficients against the published arithmetic, and what equal style means."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from judges import style_control
from judges.style_control import Battle, StyleCounts, fit_style_control, style_counts, style_difference
from tests.judges.style_battles import BASELINE, TRUE_LENGTH, TRUE_STRENGTHS, synthetic_games

ANSWER = "# Title\n\n1. one\n2. two\n\n- **bold** and __more__\n\n```\n# no header\n- no item\n```\nEnd."


def battles(only: str = "") -> list[Battle]:
    return [
        Battle(model, BASELINE, share, style_difference(own, other), prompt, weight)
        for model, own, other, share, weight, prompt in synthetic_games()
        if only in ("", model)
    ]


def test_markdown_is_counted_outside_code():
    counts = style_counts(ANSWER)
    assert (counts.headers, counts.lists, counts.bold) == (1, 3, 2)
    assert style_counts("a, b").length == 3, "words and punctuation marks"
    assert style_counts(ANSWER, length=7).length == 7


def test_counts_equal_those_recorded_with_the_published_answers(shared):
    """The 750 answers of o3-mini come with their counts of headers, lists and bold text."""
    path = shared / "mirror/raw/arena_hard/arena-hard-v2.0/model_answer/o3-mini-2025-01-31.jsonl"
    for line in path.read_text(encoding="utf-8").strip().split("\n"):
        row = json.loads(line)
        counts = style_counts(row["messages"][-1]["content"]["answer"])
        recorded = [sum(row["metadata"][name].values()) for name in ("header_count", "list_count", "bold_count")]
        assert [counts.headers, counts.lists, counts.bold] == recorded, row["uid"]


def test_hostile_text_is_counted_in_linear_time():
    style_counts("\n" * 300_000 + "**" * 200_000 + "_" * 200_000 + "```" * 100_001)


def test_features_by_hand_and_mirrored():
    first, second = StyleCounts(300, 3, 6, 0), StyleCounts(100, 0, 1, 2)
    # (300-100)/400; densities 0.01 v 0, 0.02 v 0.01, 0 v 0.02
    expected = (0.5, 0.01 / 1.01, 0.01 / 1.03, -0.02 / 1.02)
    assert style_difference(first, second) == pytest.approx(expected)
    assert style_difference(second, first) == pytest.approx([-value for value in expected])
    assert style_difference(StyleCounts(0, 0, 0, 0), StyleCounts(0, 0, 0, 0)) == (0, 0, 0, 0)


def test_coefficients_equal_the_published_arithmetic():
    """The figures are those of the published fit (torch, L-BFGS, float32) on these 1,812 weighted games."""
    fit = fit_style_control(battles(), centred=True)
    assert fit is not None
    assert list(fit.coefficients.values()) == pytest.approx([0.89694, -0.01659, 0.03582, -0.01477], abs=1e-3)
    strengths = dict(zip(fit.models, fit.strengths, strict=True))
    assert strengths["alpha"] - strengths[BASELINE] == pytest.approx(1.48397 - 0.28054, abs=1e-3)
    assert strengths["beta"] - strengths[BASELINE] == pytest.approx(-0.26451 - 0.28054, abs=1e-3)
    alone = fit_style_control(battles("alpha"), centred=True)
    assert alone is not None
    assert list(alone.coefficients.values()) == pytest.approx([0.74798, -0.02626, -0.00353, -0.10353], abs=1e-3)


def reference(design, shares, weights):
    """The same likelihood by scikit-learn: a share is two weighted outcomes."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=np.inf, fit_intercept=False, solver="newton-cholesky", tol=1e-8)
    counts = np.concatenate([weights * shares, weights * (1 - shares)])
    outcomes = np.repeat([1, 0], len(shares))
    return model.fit(np.vstack([design, design])[counts > 0], outcomes[counts > 0], counts[counts > 0]).coef_[0]


@pytest.mark.parametrize("n", [40, 160, 1000])
@pytest.mark.parametrize("is_rare", [False, True])
def test_fits_agree_with_scikit_learn(n, is_rare):
    rng = np.random.default_rng(n)
    for _ in range(20):
        design = np.column_stack([rng.choice([-1.0, 1.0], n), rng.normal(size=(n, 4))])
        if is_rare:  # One game has the last feature, which tells its winner: no finite coefficient.
            design[:, -1] = np.append(n**0.5, np.zeros(n - 1))
        odds = design @ np.append(rng.normal(0, 0.5, 4), 0.1)
        shares = np.where(rng.random(n) < 0.2, 0.5, rng.random(n) < 1 / (1 + np.exp(-odds)))
        shares[0] = 1.0
        weights = np.append(1.0, rng.multinomial(n, np.full(n - 1, 1 / (n - 1))))
        known = slice(None, -1) if is_rare else slice(None)
        fitted = style_control._fit(design, shares, weights)
        assert fitted[known] == pytest.approx(reference(design, shares, weights)[known], abs=1e-6)
        again = style_control._fit(design, shares, weights, start=fitted + rng.normal(0, 0.3, 5))
        assert again[known] == pytest.approx(fitted[known], abs=1e-6)


def test_separated_games_have_no_finite_fit():
    rng = np.random.default_rng(0)
    design = rng.normal(size=(60, 3))
    assert style_control._fit(design, (design[:, 0] + design[:, 1] > 0).astype(float), np.ones(60)) is None
    assert style_control._fit(np.ones((60, 1)), np.ones(60), np.ones(60)) is None


def test_known_effects_are_found_again():
    """Without weights the judge's own log-odds come back: strengths, and length alone among the features."""
    plain = [replace(battle, weight=1.0) for battle in battles()]
    fit = fit_style_control(plain)
    assert fit is not None
    for model, strength in TRUE_STRENGTHS.items():
        low, high = fit.interval(model, BASELINE) or (1.0, 0.0)
        assert low < 1 / (1 + 2.718281828**-strength) < high
    lengths = [battle.style[0] for battle in plain]
    mean = sum(lengths) / len(lengths)
    spread = (sum((value - mean) ** 2 for value in lengths) / (len(lengths) - 1)) ** 0.5
    assert fit.coefficients["length"] == pytest.approx(TRUE_LENGTH * spread, abs=0.2)


def test_a_model_that_wins_by_length_alone_is_level_in_equal_style():
    """The raw rate is far above one half; centred, as published, it stays there; in equal style it does not."""
    longer, shorter = StyleCounts(400, 0, 0, 0), StyleCounts(100, 0, 0, 0)
    games = []
    for prompt in range(200):
        wins_by_length = [("long", 0.8), ("even", 0.5)][prompt % 2]
        own = longer if wins_by_length[0] == "long" else shorter
        games.append(Battle("m", "b", wins_by_length[1], style_difference(own, shorter), prompt))
    fit, published = fit_style_control(games), fit_style_control(games, centred=True)
    assert fit is not None
    assert published is not None
    assert fit.win_rate("m", "b") == pytest.approx(0.5, abs=1e-6)
    assert published.win_rate("m", "b") == pytest.approx(2 / 3, abs=1e-6), "log-odds half way between 0 and log 4"


def test_swapping_the_sides_mirrors_the_rate():
    swapped = [
        Battle(one.second, one.first, 1 - one.share, tuple(-value for value in one.style), one.prompt, one.weight)
        for one in battles()
    ]
    fit, mirrored = fit_style_control(battles()), fit_style_control(swapped)
    assert fit is not None
    assert mirrored is not None
    assert fit.win_rate("alpha", BASELINE) == pytest.approx(mirrored.win_rate("alpha", BASELINE), abs=1e-6)
    assert fit.win_rate("alpha", BASELINE) + fit.win_rate(BASELINE, "alpha") == pytest.approx(1)


def test_a_clean_sweep_has_no_finite_fit():
    swept = [replace(battle, share=1.0) for battle in battles("alpha")]
    assert fit_style_control(swept) is None
    told_by_length = [replace(battle, share=float(battle.style[0] > 0)) for battle in battles("alpha")]
    assert fit_style_control(told_by_length) is None


def test_a_model_that_wins_every_game_has_no_interval_and_the_others_have_theirs():
    always = [replace(battle, first="gamma", share=1.0) for battle in battles("beta")]
    fit = fit_style_control([*battles("alpha"), *always])
    assert fit is not None
    assert fit.interval("gamma", BASELINE) is None
    low, high = fit.interval("alpha", BASELINE) or (1.0, 0.0)
    assert low < fit.win_rate("alpha", BASELINE) < high


def test_the_interval_is_that_of_prompts_left_out_one_after_the_other():
    games = battles("alpha")
    fit = fit_style_control(games)
    odds = [
        np.log(rate / (1 - rate))
        for prompt in dict.fromkeys(game.prompt for game in games)
        for left in [fit_style_control([game for game in games if game.prompt != prompt])]
        for rate in [left.win_rate("alpha", BASELINE)]
    ]
    rate, n = fit.win_rate("alpha", BASELINE), len(odds)
    centre = np.log(rate / (1 - rate))
    half = 1.968 * np.sqrt((n - 1) / n * ((np.array(odds) - centre) ** 2).sum())  # t of 299 degrees of freedom
    expected = [1 / (1 + np.exp(-(centre + end))) for end in (-half, half)]
    assert fit.interval("alpha", BASELINE) == pytest.approx(expected, abs=2e-3)


def test_no_battles_are_refused():
    with pytest.raises(ValueError, match="no battles"):
        fit_style_control([])
