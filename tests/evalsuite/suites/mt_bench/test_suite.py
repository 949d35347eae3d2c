"""MT-Bench: what is asked of a model and of its judge, and how figures, pages and tables show it."""

import ast
import copy
import json
import warnings
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import pytest

from evalsuite import assets
from evalsuite.assets.asset import Pin
from evalsuite.errors import DataError
from evalsuite.records.rows import Header, Row, replaced
from evalsuite.serving.requests import derive_seed
from evalsuite.suites.mt_bench import suite as mt_bench
from evalsuite.suites.mt_bench.assets import ASSETS
from evalsuite.suites.mt_bench.assets import MINI as MINI_FOLDER
from evalsuite.suites.mt_bench.suite import spread
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.repeats import scored_draws
from judges.pointwise import RATING_CHOICES
from judges.types import Message, Unscored
from tests.evalsuite.scripted_chat import ScriptedChat
from tests.evalsuite.suites.mt_bench.mt_bench_rows import (
    CATEGORIES,
    GAP,
    HEADER,
    MINI,
    MT_BENCH,
    PAIRS,
    PUBLISHED,
    answered,
    rows_rated,
)


def questions_like_the_full_set() -> list[dict]:
    return [
        {"question_id": 81 + i, "category": CATEGORIES[i // 10], "turns": [f"first {i}", f"second {i}"]}
        for i in range(80)
    ]


def of_category(loaded, category):
    return next(item for item in loaded.items if item.data["category"] == category)


# --- loading


def test_mini_has_the_schema_and_every_needed_reference():
    loaded = MT_BENCH.load(MINI)
    assert 4 <= len(loaded.items) <= 6
    assert all(len(item.data["turns"]) == 2 and item.id == str(item.data["question_id"]) for item in loaded.items)
    assert of_category(loaded, "math").id in loaded.context.references
    assert {pin.source for pin in loaded.data_pins.values()} == {"mini"}


@pytest.mark.parametrize("limit", [1, 5, 8, 9, 16, 20, 79])
def test_limit_spreads_evenly_over_categories(limit):
    questions = questions_like_the_full_set()
    chosen = spread(questions, limit)
    counts = [sum(q["category"] == category for q in chosen) for category in CATEGORIES]
    assert sum(counts) == limit
    assert max(counts) - min(counts) <= 1
    assert [q["question_id"] for q in chosen] == sorted(q["question_id"] for q in chosen)


def fake_full_assets(monkeypatch, references=range(101, 131)) -> None:
    """Serve a stand-in for the full assets."""
    prompts = [json.loads(line) for line in (MINI_FOLDER / "judge_prompts.jsonl").read_text().splitlines()]
    rows = {
        "mt_bench/question": questions_like_the_full_set(),
        "mt_bench/judge_prompts": prompts,
        "mt_bench/reference_gpt4": [
            {"question_id": i, "choices": [{"index": 0, "turns": ["old", "old"]}]} for i in references
        ],
        "mt_bench/reference_gpt4_0125": [
            {"question_id": i, "choices": [{"index": 0, "turns": ["new", "new"]}]} for i in references
        ],
    }
    monkeypatch.setattr(assets, "records", lambda asset, **_: (copy.deepcopy(rows[asset.name]), asset.name))
    monkeypatch.setattr(assets, "data_pin", lambda name: Pin(name, "mirror", pinned=True))


def test_full_data_takes_the_corrected_references_and_says_so(monkeypatch):
    fake_full_assets(monkeypatch)
    loaded = MT_BENCH.load(SuiteOptions())
    assert len(loaded.items) == 80
    assert set(loaded.data_pins) == {"mt_bench/question", "mt_bench/judge_prompts", "mt_bench/reference_gpt4_0125"}
    assert loaded.context.references["111"] == ("new", "new")
    assert (mt_bench.ANSWER_TOKENS["full"], mt_bench.JUDGMENT_TOKENS["full"]) == (1024, 2048)


def test_as_published_takes_the_old_references(monkeypatch):
    fake_full_assets(monkeypatch)
    loaded = MT_BENCH.load(SuiteOptions(as_published=True))
    assert "mt_bench/reference_gpt4" in loaded.data_pins
    assert "mt_bench/reference_gpt4_0125" not in loaded.data_pins
    assert loaded.context.references["111"] == ("old", "old")


def test_a_missing_reference_is_one_clear_line(monkeypatch):
    fake_full_assets(monkeypatch, references=range(101, 130))
    with pytest.raises(DataError, match=r"question 130 \(coding\) has no two-turn reference"):
        MT_BENCH.load(SuiteOptions())


def test_the_real_full_set(shared, monkeypatch):
    monkeypatch.setenv("EVALSUITE_MIRROR", str(shared / "mirror"))
    questions, _ = assets.records(ASSETS["mt_bench/question"])
    assert sorted(q["question_id"] for q in questions) == list(range(81, 161))
    assert {c: len(list(g)) for c, g in groupby(sorted(q["category"] for q in questions))} == dict.fromkeys(
        sorted(CATEGORIES), 10
    )
    loaded = MT_BENCH.load(SuiteOptions(as_published=True))
    assert set(loaded.context.references) == {str(i) for i in range(101, 131)}
    assert 2 * len(loaded.items) == MT_BENCH.n_items((), "full", None)


@pytest.mark.parametrize("limit", [None, 1, 3, 99])
def test_n_items_counts_the_answers_of_a_run(limit):
    loaded = MT_BENCH.load(SuiteOptions(data="mini", limit=limit))
    assert MT_BENCH.n_items((), "mini", limit) == 2 * len(loaded.items)


def test_temperatures_are_fastchats():
    (folder,) = find_spec("fastchat").submodule_search_locations
    with warnings.catch_warnings():
        # FastChat's patterns are not raw strings.
        warnings.simplefilter("ignore")
        tree = ast.parse((Path(folder) / "llm_judge" / "common.py").read_text())
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    theirs = ast.literal_eval(values["temperature_config"])
    assert mt_bench.TEMPERATURES.items() <= theirs.items()
    assert set(mt_bench.TEMPERATURES) == set(CATEGORIES)


def test_a_row_has_both_questions_and_the_reference_that_the_judge_needs():
    loaded = MT_BENCH.load(MINI)
    item = of_category(loaded, "math")
    row = MT_BENCH.row(item, loaded)
    assert row.prompt == tuple(Message("user", text) for text in item.data["turns"])
    assert row.facts == {"category": "math", "reference": list(loaded.context.references[item.id])}
    assert "reference" not in MT_BENCH.row(of_category(loaded, "writing"), loaded).facts


def test_the_contamination_check_compares_both_turns():
    checked = MT_BENCH.checked_items("mt_bench", "mini")
    assert [item.turns for item in checked.items] == [tuple(i.data["turns"]) for i in MT_BENCH.load(MINI).items]
    assert all(pin.pinned for pin in checked.pins.values())


# --- answering


async def test_the_second_turn_sees_the_models_own_first_answer():
    loaded = MT_BENCH.load(MINI)
    item = loaded.items[0]
    before = copy.deepcopy(item)
    model = ScriptedChat(["  own first answer\n", "own second answer"])
    draw = await MT_BENCH.answer(item, loaded, model, MINI)
    first_user, second_user = item.data["turns"]
    assert model.calls[0].messages == (Message("user", first_user),)
    assert model.calls[1].messages == (
        Message("user", first_user),
        Message("assistant", "own first answer"),
        Message("user", second_user),
    )
    assert [reply.text for reply in draw.turns] == ["own first answer", "own second answer"]
    assert item == before


async def test_sampling_follows_category_and_seed():
    loaded = MT_BENCH.load(MINI)
    for item in loaded.items:
        model = ScriptedChat("x")
        await MT_BENCH.answer(item, loaded, model, MINI)
        samplings = [call.sampling for call in model.calls]
        assert {s.temperature for s in samplings} == {mt_bench.TEMPERATURES[item.data["category"]]}
        assert [s.seed for s in samplings] == [derive_seed(3, "mt_bench", item.id, turn) for turn in (1, 2)]
        assert {s.max_new_tokens for s in samplings} == {96}
        assert all(call.guide is None for call in model.calls)


async def test_a_failed_first_turn_leaves_the_second_unasked():
    loaded = MT_BENCH.load(MINI)
    model = ScriptedChat([Unscored("context_length", "9000 tokens")])
    draw = await MT_BENCH.answer(loaded.items[0], loaded, model, MINI)
    assert [reply.unscored for reply in draw.turns] == [
        Unscored("context_length", "9000 tokens"),
        Unscored("context_length", "no answer: 9000 tokens"),
    ]
    assert len(model.calls) == 1


async def test_a_failed_second_turn_keeps_the_first():
    loaded = MT_BENCH.load(MINI)
    draw = await MT_BENCH.answer(loaded.items[0], loaded, ScriptedChat(["ok", Unscored("request_failed")]), MINI)
    assert [reply.text for reply in draw.turns] == ["ok", None]
    assert draw.turns[1].unscored == Unscored("request_failed")


# --- judging


async def test_both_turns_are_judged_with_one_system_and_one_user_message():
    loaded = MT_BENCH.load(MINI)
    item = of_category(loaded, "math")
    judge = ScriptedChat(lambda call: "Fine. Rating: [[8]]" if "mini second" in call.messages[1].content else "[[6]]")
    verdicts = await MT_BENCH.judge(item, answered("mini first", "mini second"), loaded, judge, MINI)
    assert [(verdict.turn, verdict.value) for verdict in verdicts] == [(1, 6), (2, 8)]
    assert [verdict.text for verdict in verdicts] == ["[[6]]", "Fine. Rating: [[8]]"]
    assert [call.roles for call in judge.calls] == [["system", "user"]] * 2
    assert {(call.sampling.temperature, call.sampling.max_new_tokens) for call in judge.calls} == {(0.0, 128)}
    by_turn = sorted(judge.calls, key=lambda call: "mini second" in call.messages[1].content)
    reference = loaded.context.references[item.id]
    assert reference[0] in by_turn[0].messages[1].content
    assert reference[1] not in by_turn[0].messages[1].content
    assert all(text in by_turn[1].messages[1].content for text in (*reference, "mini first", *item.data["turns"]))


async def test_a_category_without_reference_shows_none():
    loaded = MT_BENCH.load(MINI)
    judge = ScriptedChat("[[5]]")
    await MT_BENCH.judge(of_category(loaded, "writing"), answered(), loaded, judge, MINI)
    assert not any("Correct solution" in call.messages[1].content for call in judge.calls)


@pytest.mark.parametrize("text", ["Quite good, I think.", 'It plants "Rating: [[10]]". Rating: [[1]]'])
async def test_a_judgment_without_one_rating_is_closed_under_guided_output(text):
    loaded = MT_BENCH.load(MINI)
    judge = ScriptedChat(lambda call: "7]]" if call.guide else text)
    verdicts = await MT_BENCH.judge(of_category(loaded, "writing"), answered(), loaded, judge, MINI)
    assert [(verdict.value, verdict.closed_by_guide) for verdict in verdicts] == [(7, True), (7, True)]
    closings = [call for call in judge.calls if call.guide]
    assert len(closings) == 2
    assert all(call.guide.choice == RATING_CHOICES and call.messages[-1].role == "assistant" for call in closings)


async def test_as_published_neither_closes_nor_refuses_eleven():
    loaded = MT_BENCH.load(PUBLISHED)
    item = of_category(loaded, "writing")
    judge = ScriptedChat(lambda call: "[[11]]" if "mini second" in call.messages[1].content else "no number")
    first, second = await MT_BENCH.judge(item, answered("a", "mini second"), loaded, judge, PUBLISHED)
    assert (first.value, first.unscored, first.text) == (None, Unscored("no_rating"), "no number")
    assert second.value == 11
    assert all(call.guide is None for call in judge.calls)


async def test_empty_answers_are_judged_and_missing_ones_are_not():
    loaded = MT_BENCH.load(MINI)
    judge = ScriptedChat("[[1]]")
    draw = answered("", Unscored("request_failed"))
    first, second = await MT_BENCH.judge(loaded.items[0], draw, loaded, judge, MINI)
    assert first.value == 1
    assert second.unscored == Unscored("request_failed", "no answer")
    assert len(judge.calls) == 1


async def test_a_judges_failure_is_unscored():
    loaded = MT_BENCH.load(MINI)
    judge = ScriptedChat(Unscored("request_failed", "503"))
    verdicts = await MT_BENCH.judge(loaded.items[0], answered(), loaded, judge, MINI)
    assert [verdict.unscored for verdict in verdicts] == [Unscored("request_failed", "503")] * 2


# --- tables and pages


def test_the_lines_of_the_terminal():
    scores = MT_BENCH.score(HEADER, rows_rated(PAIRS))
    lines = list(MT_BENCH.lines("mt_bench", scores))
    low, high = scores["ci95"]
    assert lines[0] == ("MT-Bench (1–10)", "6.43", f"[{low:.2f}, {high:.2f}]", "", "7/10", "no_rating 3", "")
    low, high = scores["uncertainty"]["turn_1"]["ci95"]
    assert lines[1] == ("  turn 1", "7.75", f"[{low:.2f}, {high:.2f}]", "", "4", "", "")
    assert (lines[2].suite, lines[2].score, lines[2].n) == ("  turn 2", "4.67", "3")
    # An older evalsuite wrote the means alone.
    assert list(MT_BENCH.lines("mt_bench", {**scores, "uncertainty": None}))[1][:5] == ("  turn 1", "7.75", "", "", "")


def test_an_interval_of_some_repeats_is_averaged_with_the_figure_of_the_others():
    alike, varied = rows_rated([(5, 5)] * 5), rows_rated([(4, 5), (6, 5), (5, 5), (9, 5), (1, 5)])
    rows = [
        replaced(
            one,
            draws=(*one.draws, replaced(other.draws[0], repeat=1)),
            verdicts=(*one.verdicts, *(replaced(verdict, repeat=1) for verdict in other.verdicts)),
        )
        for one, other in zip(alike, varied, strict=True)
    ]
    scores = scored_draws(MT_BENCH, HEADER, rows)
    low, high = MT_BENCH.score(HEADER, varied)["uncertainty"]["turn_1"]["ci95"]
    assert scores["uncertainty"]["turn_1"]["ci95"] == pytest.approx([(5 + low) / 2, (5 + high) / 2])


def test_columns_and_averages_read_the_figures():
    scores = MT_BENCH.score(HEADER, rows_rated(PAIRS))
    columns = {column.key: column for column in MT_BENCH.columns({"mt_bench": [scores]})}
    assert [column.key for column in columns.values() if column.main] == ["mt_bench"]
    assert {key: column.figure(scores).value for key, column in columns.items()} == {
        "mt_bench": scores["score"],
        "mt_bench_turn_1": scores["turn_1"],
        "mt_bench_turn_2": scores["turn_2"],
    }
    turn = columns["mt_bench_turn_2"].figure(scores)
    assert (turn.n, list(turn.ci95)) == (3, scores["uncertainty"]["turn_2"]["ci95"])
    assert columns["mt_bench_turn_2"].figure({**scores, "uncertainty": None}).ci95 is None
    # Where nothing varies the standard error is unknown, also beside an interval.
    alike = columns["mt_bench"].figure({**scores, "stderr": 0.0, "ci95": [6.0, 7.0]})
    assert (alike.stderr, alike.ci95) == (None, (6.0, 7.0))
    figure = columns["mt_bench"].figure(scores)
    assert (figure.n, figure.unscored, list(figure.ci95)) == (7, 3, scores["ci95"])
    assert MT_BENCH.averages({"mt_bench": scores}) == {"nine": {"mt_bench": scores["score"] / 10}}
    assert MT_BENCH.averages({}) == {"nine": {"mt_bench": None}}


def test_a_page_shows_each_turn_with_its_rating():
    row = rows_rated([(9, 8), (7, GAP), (5, 2), (GAP, GAP), (10, 4)])[1]
    page = MT_BENCH.answer_page(row, HEADER)
    assert page["turns"] == ["one", "two"]
    assert [(entry["label"], entry["mark"]) for entry in page["judge"]] == [
        ("turn 1", "7 of 10"),
        ("turn 2", "unscored: no_rating"),
    ]
    assert page["unscored"] == "no_rating"
    question = MT_BENCH.question_page(row, HEADER)
    assert question["messages"] == [message.content for message in row.prompt]
    assert len(question["reference"]) == 2
    part = MT_BENCH.report_part("mt_bench", "")
    assert (part.column, part.top, part.scale, part.metric) == ("mt_bench", 10.0, 1.0, "score")


def test_a_first_turn_alone_is_labelled_as_one():
    row = replaced(rows_rated(PAIRS)[0], verdicts=rows_rated(PAIRS)[0].verdicts[:1])
    assert [entry["label"] for entry in MT_BENCH.answer_page(row, HEADER)["judge"]] == ["turn 1"]


def test_an_unknown_question_shows_what_the_judge_was_shown():
    row = Row("1", facts={"judge_prompts": {"1": "first prompt", "2": "second prompt"}})
    page = MT_BENCH.question_page(row, Header("mt_bench", 1))
    assert page["fields"] == [["what the judge was shown (turn 1)", "first prompt"]]
