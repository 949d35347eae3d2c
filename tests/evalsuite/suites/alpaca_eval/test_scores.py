"""AlpacaEval's figures: from their definitions, and the package's own traps around the regression."""

import json
import logging
import math
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from evalsuite.assets.asset import Pin
from evalsuite.records.rows import Draw, Header, Reply, replaced
from evalsuite.suites.alpaca_eval import package
from evalsuite.suites.alpaca_eval.assets import DF_GAMED, canonical_positions
from judges.types import Unscored
from tests.evalsuite.suites.alpaca_eval.alpaca_rows import (
    ALPACA_EVAL,
    HEADER,
    MINI_HEADER,
    VALUES,
    fake_full_assets,
    mini_rows,
    row,
    synthetic_rows,
    verdict,
)


@pytest.fixture
def full_assets(monkeypatch, df_gamed: Path) -> Path:
    fake_full_assets(monkeypatch, df_gamed=df_gamed)
    return df_gamed


def test_figures_are_what_their_definitions_say():
    scores = ALPACA_EVAL.score(MINI_HEADER, mini_rows(VALUES))
    shares = [(value - 1) * 100 for value in VALUES if not isinstance(value, Unscored)]
    assert scores["win_rate"] == pytest.approx(statistics.fmean(shares))
    assert scores["standard_error"] == pytest.approx(statistics.stdev(shares) / math.sqrt(7))
    assert (scores["n_wins"], scores["n_wins_base"], scores["n_draws"], scores["n_total"]) == (3, 2, 2, 7)
    assert scores["discrete_win_rate"] == pytest.approx((3 + 2 / 2) / 7 * 100)
    assert scores["avg_length"] == int(statistics.fmean(range(10, 18)))
    assert scores["unscored"] == {"request_failed": 1}
    assert scores["ci95"][0] < scores["win_rate"] < scores["ci95"][1]
    assert scores["lc_win_rate"] is None
    assert scores["lc"] == {
        "C": None,
        "reason": "the length-controlled win rate is defined on all 805 instructions; these are 8",
        "warning": None,
    }
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_marks_are_the_share_of_preference_that_went_to_the_model():
    rows = mini_rows(VALUES)
    assert [row.marks["score"][0] for row in rows[:6]] == pytest.approx([0.0, 0.2, 0.5, 0.5, 0.9, 1.0])
    assert (rows[6].marks, rows[6].unscored) == ({"score": (None,)}, (Unscored("request_failed"),))


def test_nothing_scored_is_none_and_never_zero():
    scores = ALPACA_EVAL.score(MINI_HEADER, mini_rows([None] * 8, Unscored("request_failed")))
    keys = ("win_rate", "standard_error", "discrete_win_rate", "lc_win_rate", "avg_length", "ci95")
    assert [scores[key] for key in keys] == [None] * 6
    assert scores["unscored"] == {"request_failed": 8}
    assert scores["n_total"] == 0


def test_a_single_comparison_has_no_standard_error():
    header = Header("alpaca_eval", 1, options={"data": "full", "limit": 1})
    scores = ALPACA_EVAL.score(header, [row(0, "a", "b", 2.0)])
    assert (scores["win_rate"], scores["standard_error"], scores["ci95"]) == (100.0, None, None)


def test_without_a_judge_the_reason_is_no_judge():
    assert ALPACA_EVAL.score(MINI_HEADER, mini_rows([None] * 8))["unscored"] == {"no_judge": 8}


# --- the package's traps


def test_the_package_leaves_no_trace(full_assets):
    import sklearn
    from alpaca_eval.metrics import glm_winrate

    (folder,) = __import__("alpaca_eval").__path__
    files = {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.suffix != ".pyc"}
    with sklearn.config_context(enable_metadata_routing=False):
        before = dict(vars(glm_winrate)), sklearn.get_config(), logging.root.level, list(logging.root.handlers)
        scores = ALPACA_EVAL.score(HEADER, synthetic_rows())
        after = dict(vars(glm_winrate)), sklearn.get_config(), logging.root.level, list(logging.root.handlers)
    assert 0 < scores["lc_win_rate"] < 100
    assert scores["lc"]["C"] > 0
    assert after == before
    assert {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.suffix != ".pyc"} == files


def test_importing_the_package_leaves_the_root_logger_alone():
    """Only a fresh process imports it for the first time."""
    code = (
        "import logging\n"
        "from evalsuite.suites.alpaca_eval.package import win_rates\n"
        "assert win_rates([1.0, 2.0])['win_rate'] == 50\n"
        "print(logging.root.level == logging.WARNING, logging.root.handlers)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True []\n", "")


def test_folds_are_scikit_learns_stable_ones():
    import numpy as np
    from sklearn.model_selection import GroupKFold

    groups = np.concatenate([np.arange(2415), np.arange(2415)])
    features = np.zeros((len(groups), 1))
    ours = list(package._fixed_folds()(n_splits=5).split(features, groups=groups))
    # Equal groups: the last goes first, each into the next fold in turn.
    for fold, (train, test) in enumerate(ours):
        assert np.array_equal(test, np.flatnonzero((2414 - groups) % 5 == fold))
        assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(groups)))
    assert all(
        np.array_equal(a[1], b[1])
        for a, b in zip(ours, GroupKFold(n_splits=5).split(features, groups=groups), strict=True)
    )


# --- when there is a length-controlled win rate


def test_a_partial_set_has_no_length_controlled_rate(full_assets):
    scores = ALPACA_EVAL.score(HEADER, synthetic_rows()[:700])
    assert scores["lc_win_rate"] is None
    assert "700 of 700 are scored" in scores["lc"]["reason"]
    assert scores["win_rate"] is not None


@pytest.mark.parametrize(
    "options", [{"data": "full", "limit": 803}, {"data": "full", "limit": 803, "as_published": True}]
)
def test_a_run_with_a_limit_has_no_length_controlled_rate(full_assets, options):
    scores = ALPACA_EVAL.score(Header("alpaca_eval", 803, options=options), synthetic_rows()[:803])
    assert scores["lc"]["reason"].endswith("these are 803")


@pytest.mark.parametrize(("n_unscored", "has_rate"), [(8, True), (9, False)])
def test_a_handful_may_be_unscored(full_assets, n_unscored, has_rate):
    failed = verdict(Unscored("request_failed"))
    rows = [replaced(row, verdicts=failed) if i < n_unscored else row for i, row in enumerate(synthetic_rows())]
    scores = ALPACA_EVAL.score(HEADER, rows)
    assert (scores["lc_win_rate"] is not None) == has_rate
    assert scores["n_total"] == 805 - n_unscored


def test_missing_answers_leave_the_others_in_place(full_assets):
    """Dropping a row must give nearly what keeping it unscored gives; a shift of the rest would not."""
    no_answer, no_verdict = Unscored("no_answer"), Unscored("no_verdict")
    gap, unscored = (
        [replaced(row, **fields) if row.item_id in ("3", "400") else row for row in synthetic_rows()]
        for fields in (
            {"draws": (Draw((Reply(unscored=no_answer),)),), "verdicts": verdict(no_answer)},
            {"verdicts": verdict(no_verdict)},
        )
    )
    rates = [ALPACA_EVAL.score(HEADER, rows)["lc_win_rate"] for rows in (gap, unscored)]
    assert rates[0] == pytest.approx(rates[1], abs=0.05)


def test_the_baseline_against_itself_is_fifty(full_assets):
    same = [row(i, "b" * (i + 1), "b" * (i + 1), 1.5) for i in range(805)]
    scores = ALPACA_EVAL.score(HEADER, same)
    assert (scores["win_rate"], scores["lc_win_rate"], scores["lc"]["C"]) == (50.0, 50.0, None)


def test_a_constant_length_difference_is_named(full_assets):
    shifted = [row(i, "b" * (i + 1), "m" * (i + 4), 1.4) for i in range(805)]
    scores = ALPACA_EVAL.score(HEADER, shifted)
    assert scores["lc_win_rate"] is None
    assert "same length" in scores["lc"]["reason"]


def test_a_run_that_names_its_regression_data_needs_no_warning(full_assets, monkeypatch):
    from evalsuite import assets

    unpinned = assets.Found(DF_GAMED.name, full_assets, "mirror", "0" * 64, pinned=False)
    monkeypatch.setattr(assets, "find", lambda *_, **__: unpinned)
    recorded = ALPACA_EVAL.score(HEADER, synthetic_rows())
    assert "is not the pinned file (SHA-256 000000000000" in recorded["lc"]["warning"]
    header = replaced_pins({"alpaca_eval/df_gamed": Pin(pinned=False)})
    assert ALPACA_EVAL.score(header, synthetic_rows())["lc"]["warning"] is None


def replaced_pins(pins) -> Header:
    return Header("alpaca_eval", 805, options=HEADER.options, pins=pins, judges=HEADER.judges)


def test_the_canonical_order_is_known_without_the_baseline(shared, monkeypatch):
    from evalsuite import assets
    from evalsuite.errors import DataError

    def absent(asset, **_):
        raise DataError(f"{asset.name} not found")

    monkeypatch.setattr(assets, "records", absent)
    text = (shared / "reference/alpaca_eval/instructions.jsonl").read_text()
    instructions = [json.loads(line)["instruction"] for line in text.splitlines()]
    assert canonical_positions(instructions) == {text: i for i, text in enumerate(instructions)}
    with pytest.raises(DataError):
        canonical_positions(instructions[::-1])
