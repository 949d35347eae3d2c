"""AlpacaEval: what is asked of a model, the m/M verdict, and how figures, pages and tables show it."""

import math
from pathlib import Path

import numpy as np
import pytest

from evalsuite.assets.asset import Pin
from evalsuite.records.rows import Verdict, replaced
from evalsuite.serving.requests import derive_seed
from evalsuite.suites.alpaca_eval import suite as alpaca_eval
from evalsuite.suites.alpaca_eval.assets import TEMPLATE_SHA256, template
from evalsuite.suites.alpaca_eval.package import length_controlled_interval
from evalsuite.suites.options import SuiteOptions
from judges.pairwise import is_switched
from judges.types import Message, Unscored
from tests.evalsuite.scripted_chat import ScriptedChat
from tests.evalsuite.suites.alpaca_eval.alpaca_rows import (
    ALPACA_EVAL,
    HEADER,
    MINI,
    MINI_HEADER,
    VALUES,
    answered,
    fake_full_assets,
    mini_rows,
    synthetic_rows,
)

# --- loading


def test_mini_is_our_own_and_has_no_length_controlled_rate():
    loaded = ALPACA_EVAL.load(MINI)
    assert [item.id for item in loaded.items] == [str(i) for i in range(8)]
    assert {"instruction", "output", "generator", "dataset"} <= loaded.items[0].data.keys()
    assert "805" in loaded.missing["lc_win_rate"]
    assert loaded.data_pins["alpaca_eval/alpaca_eval_clf.txt"] == Pin(TEMPLATE_SHA256, "package", pinned=True)


def test_full_set_keeps_the_canonical_order(monkeypatch, tmp_path):
    fake_full_assets(monkeypatch, df_gamed=tmp_path / "df_gamed.csv")
    loaded = ALPACA_EVAL.load(SuiteOptions())
    assert [item.id for item in loaded.items] == [str(i) for i in range(805)]
    assert "alpaca_eval/df_gamed" in loaded.data_pins
    assert not loaded.missing
    assert alpaca_eval.ANSWER_TOKENS["full"] == 2048


def test_limit_takes_positions_at_equal_distances(monkeypatch):
    fake_full_assets(monkeypatch)
    loaded = ALPACA_EVAL.load(SuiteOptions(limit=5))
    assert [item.id for item in loaded.items] == ["0", "161", "322", "483", "644"]
    assert "these are 5" in loaded.missing["lc_win_rate"]


def test_without_df_gamed_the_rest_is_there(monkeypatch):
    fake_full_assets(monkeypatch)
    loaded = ALPACA_EVAL.load(SuiteOptions())
    assert len(loaded.items) == 805
    assert "not found" in loaded.missing["lc_win_rate"]


@pytest.mark.parametrize(("data", "limit", "n"), [("mini", None, 8), ("mini", 3, 3), ("full", None, 805)])
def test_n_items_is_what_a_run_asks(monkeypatch, data, limit, n):
    fake_full_assets(monkeypatch)
    assert (
        ALPACA_EVAL.n_items((), data, limit) == n == len(ALPACA_EVAL.load(SuiteOptions(data=data, limit=limit)).items)
    )


def test_a_row_has_the_instruction_and_the_baselines_answer():
    loaded = ALPACA_EVAL.load(MINI)
    item = loaded.items[0]
    row = ALPACA_EVAL.row(item, loaded)
    assert row.prompt == (Message("user", item.data["instruction"]),)
    assert row.facts == {
        "category": "evalsuite_mini",
        "reference": [item.data["output"]],
        "baseline": "evalsuite_mini_baseline",
    }
    assert len({ALPACA_EVAL.row(other, loaded).content for other in loaded.items}) == 8


def test_the_contamination_check_compares_the_instructions():
    checked = ALPACA_EVAL.checked_items("alpaca_eval", "mini")
    assert [(item.id, item.turns) for item in checked.items] == [
        (item.id, (item.data["instruction"],)) for item in ALPACA_EVAL.load(MINI).items
    ]


def test_the_template_is_the_packages():
    text, pins = template()
    assert "{instruction}" in text
    assert pins["alpaca_eval/alpaca_eval_clf.txt"].pinned


def test_the_self_check_names_a_scorer_that_miscounts(monkeypatch):
    assert ALPACA_EVAL.self_check(()) == ""
    monkeypatch.setattr(alpaca_eval, "win_rates", lambda preferences: {"win_rate": 100.0})
    assert "100.0 for a win and a loss" in ALPACA_EVAL.self_check(())


# --- answering and judging


async def test_one_user_turn_with_its_own_seed():
    loaded = ALPACA_EVAL.load(MINI)
    model = ScriptedChat("fine")
    for item in loaded.items:
        assert [reply.text for reply in (await ALPACA_EVAL.answer(item, loaded, model, MINI)).turns] == ["fine"]
    assert [call.messages for call in model.calls] == [
        (Message("user", item.data["instruction"]),) for item in loaded.items
    ]
    assert [call.sampling.seed for call in model.calls] == [
        derive_seed(5, "alpaca_eval", item.id) for item in loaded.items
    ]
    assert {(call.sampling.temperature, call.sampling.max_new_tokens) for call in model.calls} == {(0.7, 96)}


@pytest.mark.parametrize(("lp_m", "lp_M"), [(-0.2, -1.9), (-4.0, -0.02)])
async def test_the_preference_follows_the_label_that_stands_for_the_model(lp_m, lp_M):
    loaded = ALPACA_EVAL.load(MINI)
    p_m = math.exp(lp_m) / (math.exp(lp_m) + math.exp(lp_M))
    seen = set()
    for item in loaded.items:
        judge = ScriptedChat(labels={"m": lp_m, "M": lp_M})
        [verdict] = await ALPACA_EVAL.judge(item, answered("the model's words"), loaded, judge, MINI)
        (call,) = judge.label_calls
        assert call.labels == ("m", "M")
        assert [message.role for message in call.messages] == ["system", "user"]
        text = call.messages[1].content
        model_first = text.index("the model's words") < text.index(item.data["output"])
        assert model_first == is_switched(item.data["instruction"])
        assert verdict.value == pytest.approx(1 + p_m if model_first else 2 - p_m)
        assert verdict.label_logprobs == {"m": lp_m, "M": lp_M}
        seen.add(model_first)
    assert seen == {True, False}


async def test_identical_answers_are_a_tie_without_a_question():
    loaded = ALPACA_EVAL.load(MINI)
    item, judge = loaded.items[0], ScriptedChat()
    assert await ALPACA_EVAL.judge(item, answered(item.data["output"]), loaded, judge, MINI) == [Verdict(value=1.5)]
    assert not judge.label_calls


@pytest.mark.parametrize(
    ("answer", "labels", "expected"),
    [
        (Unscored("request_failed", "503"), {}, Unscored("request_failed", "no answer: 503")),
        ("x", Unscored("context_length"), Unscored("context_length")),
        ("x", {"m": math.nan, "M": -1.0}, "non_finite_logprob"),
    ],
)
async def test_failures_are_unscored(answer, labels, expected):
    loaded = ALPACA_EVAL.load(MINI)
    [verdict] = await ALPACA_EVAL.judge(loaded.items[0], answered(answer), loaded, ScriptedChat(labels=labels), MINI)
    assert verdict.value is None
    assert verdict.unscored == expected if isinstance(expected, Unscored) else verdict.unscored.reason == expected


# --- tables and pages


def test_the_lines_of_the_terminal():
    scores = ALPACA_EVAL.score(MINI_HEADER, mini_rows(VALUES))
    plain, controlled = ALPACA_EVAL.lines("alpaca_eval", scores)
    error = f"± {scores['standard_error']:.2f}"
    assert plain == ("AlpacaEval 2, win %", "54.29", error, "", "7", "request_failed 1", "")
    assert controlled == ("  length-controlled", "–", "", "", "", "", scores["lc"]["reason"])


def test_columns_and_averages_read_the_figures(monkeypatch, df_gamed: Path):
    fake_full_assets(monkeypatch, df_gamed=df_gamed)
    scores = ALPACA_EVAL.score(HEADER, synthetic_rows())
    main, plain = ALPACA_EVAL.columns({"alpaca_eval": [scores]})
    figure = main.figure(scores)
    assert (main.key, main.main, plain.key, plain.main) == ("alpaca_eval", True, "alpaca_win_rate", False)
    assert (figure.value, list(figure.ci95), figure.n) == (scores["lc_win_rate"], scores["lc_ci95"], 805)
    assert figure.ci95[1] - figure.ci95[0] == pytest.approx(2 * 1.959964 * figure.stderr)
    older = main.figure({key: value for key, value in scores.items() if key != "lc_ci95"})
    assert (older.value, older.stderr) == (scores["lc_win_rate"], scores["lc_standard_error"])
    equal = main.figure({**scores, "lc_ci95": None})
    assert (equal.value, equal.stderr, equal.ci95) == (scores["lc_win_rate"], None, None)
    assert (plain.figure(scores).value, list(plain.figure(scores).ci95)) == (scores["win_rate"], scores["ci95"])
    assert ALPACA_EVAL.averages({"alpaca_eval": scores}) == {"nine": {"alpaca_eval": scores["lc_win_rate"] / 100}}
    assert ALPACA_EVAL.averages({}) == {"nine": {"alpaca_eval": None}}


def test_a_figure_that_is_missing_says_why():
    scores = ALPACA_EVAL.score(MINI_HEADER, mini_rows([None] * 8))
    main, plain = ALPACA_EVAL.columns({})
    assert main.figure(scores).reason == scores["lc"]["reason"]
    assert plain.figure(scores).reason == "no_judge 8"


def test_a_page_shows_the_preference_and_the_baselines_answer():
    row = mini_rows(VALUES)[4]
    page = ALPACA_EVAL.answer_page(row, MINI_HEADER)
    assert page == {
        "turns": ["y" * 14],
        "judge": [{"label": "judge", "mark": "preferred with 90.0 %", "text": ""}],
    }
    question = ALPACA_EVAL.question_page(row, MINI_HEADER)
    assert question["reference_title"] == "the baseline's answer (evalsuite_mini_baseline)"
    assert question["reference"] == row.facts["reference"]
    failed = ALPACA_EVAL.answer_page(mini_rows(VALUES)[6], MINI_HEADER)
    assert (failed["judge"][0]["mark"], failed["unscored"]) == ("unscored: request_failed", "request_failed")
    part = ALPACA_EVAL.report_part("alpaca_eval", "")
    assert (part.column, part.top, part.scale, row.marks["score"][0]) == ("alpaca_win_rate", 100, 100, 1.9 - 1)


# --- a judge without log-probabilities


@pytest.mark.parametrize("reason", ["no_logprobs", "label_mass"])
async def test_a_judge_without_usable_log_probabilities_ranks_in_words(reason):
    loaded = ALPACA_EVAL.load(MINI)
    for first in ("1", "2"):
        text = f"[{{'model': 'model_1', 'rank': {first}}}, {{'model': 'model_2', 'rank': {3 - int(first)}}}]"
        for item in loaded.items:
            judge = ScriptedChat(text, labels=Unscored(reason))
            [verdict] = await ALPACA_EVAL.judge(item, answered("the model's words"), loaded, judge, MINI)
            (call,) = judge.calls
            shown = call.messages[1].content
            model_is_first = shown.index("the model's words") < shown.index(item.data["output"])
            assert verdict.value == (2.0 if model_is_first == (first == "1") else 1.0)
            assert verdict.text == text


async def test_a_ranking_that_is_none_is_unscored():
    loaded = ALPACA_EVAL.load(MINI)
    judge = ScriptedChat("Both are fine.", labels=Unscored("no_logprobs"))
    [verdict] = await ALPACA_EVAL.judge(loaded.items[0], answered("x"), loaded, judge, MINI)
    assert (verdict.value, verdict.unscored) == (None, Unscored("no_verdict"))


def test_the_mass_of_the_labels_stands_beside_the_win_rate():
    rows = mini_rows(VALUES)
    assert not {"label_mass", "judged_in_words", "warnings"} & ALPACA_EVAL.score(MINI_HEADER, rows).keys()
    low = {"m": math.log(0.06), "M": math.log(0.04)}
    weak = [replaced(row, verdicts=(Verdict(value=1.4, label_logprobs=low),)) for row in rows]
    scores = ALPACA_EVAL.score(MINI_HEADER, weak)
    assert scores["label_mass"] == pytest.approx(0.1)
    assert "m and M have 10%" in next(iter(ALPACA_EVAL.lines("alpaca_eval", scores))).note
    ranking = "[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]"
    worded = [replaced(row, verdicts=(Verdict(value=1.0, text=ranking),)) for row in rows]
    assert ALPACA_EVAL.score(MINI_HEADER, worded)["judged_in_words"] == len(rows)


@pytest.mark.parametrize("odds", [40.0, -800.0])
def test_a_fit_that_has_run_away_has_no_interval(odds):
    rng = np.random.default_rng(0)
    features = np.column_stack([rng.normal(size=(805, 2)), np.ones(805)])
    won = np.full(805, float(odds > 0))
    assert length_controlled_interval(features, won, np.ones(805), np.array([0, 0, odds])) is None


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_games_that_all_have_one_share_have_no_length_controlled_interval(share):
    lengths = np.random.default_rng(0).normal(size=805)
    features = np.column_stack([lengths, np.linspace(-1, 1, 805), np.ones(805)])
    fitted = np.array([0.1, 0.2, 20 * share - 10])
    assert length_controlled_interval(features, np.full(805, share), np.ones(805), fitted) is None


def test_a_win_rate_without_spread_is_shown_with_its_interval():
    scores = ALPACA_EVAL.score(MINI_HEADER, mini_rows([1.0] * 8))
    assert scores["standard_error"] == 0
    plain = next(iter(ALPACA_EVAL.lines("alpaca_eval", scores)))
    assert (plain.score, plain.interval) == ("0.00", "[0.00, 32.44]")
