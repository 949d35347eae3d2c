"""MT-Bench: two turns, their temperatures, ratings of both, figures, and FastChat's own reading of the exports."""

import ast
import contextlib
import copy
import io
import json
import math
import statistics
import warnings
from argparse import Namespace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import pytest

from evalsuite import assets
from evalsuite.errors import DataError
from evalsuite.serving.requests import Completion, derive_seed
from evalsuite.suites.base import Record, SuiteOptions
from evalsuite.suites.mt_bench import suite as mt_bench
from evalsuite.suites.mt_bench.peer import fastchat_means, recorded_rating
from evalsuite.suites.mt_bench.suite import MT_BENCH, spread
from evalsuite.suites.mt_bench.turns import MtBenchAnswer, MtBenchVerdict
from judges.pointwise import RATING_CHOICES
from judges.types import Message, Rating, Unscored
from tests.evalsuite.scripted_chat import ScriptedChat, completion

MINI = SuiteOptions(data="mini", seed=3)
PUBLISHED = SuiteOptions(data="mini", as_published=True)
CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")


def questions_like_the_full_set() -> list[dict]:
    return [
        {"question_id": 81 + i, "category": CATEGORIES[i // 10], "turns": [f"first {i}", f"second {i}"]}
        for i in range(80)
    ]


def of_category(loaded, category):
    return next(item for item in loaded.items if item.data["category"] == category)


def answered(first="one", second="two") -> MtBenchAnswer:
    return MtBenchAnswer(tuple(completion(reply) if isinstance(reply, str) else reply for reply in (first, second)))


def rated(*ratings: float | Unscored) -> MtBenchVerdict:
    return MtBenchVerdict(
        tuple(
            rating if isinstance(rating, Unscored) else Rating(float(rating), f"Rating: [[{rating}]]")
            for rating in ratings
        )
    )


def records_rated(loaded, ratings) -> list[Record]:
    return [Record(item, answered(), rated(*pair)) for item, pair in zip(loaded.items, ratings, strict=True)]


# --- loading


def test_mini_has_the_schema_and_every_needed_reference():
    loaded = MT_BENCH.load(MINI)
    assert 4 <= len(loaded.items) <= 6
    assert all(len(item.data["turns"]) == 2 and item.id == str(item.data["question_id"]) for item in loaded.items)
    assert of_category(loaded, "math").id in loaded.context.references
    assert {pin["source"] for pin in loaded.data_pins.values()} == {"mini"}
    assert (loaded.context.max_new_tokens, loaded.context.judge_max_new_tokens) == (96, 128)


@pytest.mark.parametrize("limit", [1, 5, 8, 9, 16, 20, 79])
def test_limit_spreads_evenly_over_categories(limit):
    questions = questions_like_the_full_set()
    chosen = spread(questions, limit)
    counts = [sum(q["category"] == category for q in chosen) for category in CATEGORIES]
    assert sum(counts) == limit
    assert max(counts) - min(counts) <= 1
    assert [q["question_id"] for q in chosen] == sorted(q["question_id"] for q in chosen)


def fake_full_assets(monkeypatch, references=range(101, 131)) -> list[str]:
    """Serve a stand-in for the full assets; returns the names that were asked for."""
    prompts = [json.loads(line) for line in assets.mini_path("mt_bench_judge_prompts.jsonl").read_text().splitlines()]
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
    asked = []

    def records(name, **_):
        asked.append(name)
        return copy.deepcopy(rows[name]), name

    monkeypatch.setattr(assets, "records", records)
    monkeypatch.setattr(assets, "data_pin", lambda name: {"sha256": name, "source": "mirror", "pinned": True})
    return asked


def test_full_data_takes_the_corrected_references_and_says_so(monkeypatch):
    fake_full_assets(monkeypatch)
    loaded = MT_BENCH.load(SuiteOptions())
    assert len(loaded.items) == 80
    assert set(loaded.data_pins) == {"mt_bench/question", "mt_bench/judge_prompts", "mt_bench/reference_gpt4_0125"}
    assert loaded.context.references["111"] == ("new", "new")
    assert (loaded.context.max_new_tokens, loaded.context.judge_max_new_tokens) == (1024, 2048)


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
    questions, _ = assets.records("mt_bench/question")
    assert sorted(q["question_id"] for q in questions) == list(range(81, 161))
    assert {c: len(list(g)) for c, g in groupby(sorted(q["category"] for q in questions))} == dict.fromkeys(
        sorted(CATEGORIES), 10
    )
    loaded = MT_BENCH.load(SuiteOptions(as_published=True))
    assert set(loaded.context.references) == {str(i) for i in range(101, 131)}


def test_temperatures_are_fastchats():
    (place,) = find_spec("fastchat").submodule_search_locations
    with warnings.catch_warnings():
        # FastChat's patterns are not raw strings.
        warnings.simplefilter("ignore")
        tree = ast.parse((Path(place) / "llm_judge" / "common.py").read_text())
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    theirs = ast.literal_eval(values["temperature_config"])
    assert mt_bench.TEMPERATURES.items() <= theirs.items()
    assert set(mt_bench.TEMPERATURES) == set(CATEGORIES)


# --- answering


async def test_the_second_turn_sees_the_models_own_first_answer():
    loaded = MT_BENCH.load(MINI)
    item = loaded.items[0]
    before = copy.deepcopy(item)
    model = ScriptedChat(["  own first answer\n", "own second answer"])
    answer = await MT_BENCH.answer(item, loaded, model, MINI)
    first_user, second_user = item.data["turns"]
    assert model.calls[0].messages == (Message("user", first_user),)
    assert model.calls[1].messages == (
        Message("user", first_user),
        Message("assistant", "own first answer"),
        Message("user", second_user),
    )
    assert [reply.text for reply in answer.turns] == ["own first answer", "own second answer"]
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
    answer = await MT_BENCH.answer(loaded.items[0], loaded, model, MINI)
    assert answer.turns[0].reason == "context_length"
    assert answer.turns[1] == Unscored("no_answer", "context_length: 9000 tokens")
    assert len(model.calls) == 1


async def test_a_failed_second_turn_keeps_the_first():
    loaded = MT_BENCH.load(MINI)
    answer = await MT_BENCH.answer(loaded.items[0], loaded, ScriptedChat(["ok", Unscored("request_failed")]), MINI)
    assert isinstance(answer.turns[0], Completion)
    assert answer.turns[1] == Unscored("request_failed")


# --- judging


async def test_both_turns_are_judged_with_one_system_and_one_user_message():
    loaded = MT_BENCH.load(MINI)
    item = of_category(loaded, "math")
    judge = ScriptedChat(lambda call: "Fine. Rating: [[8]]" if "mini second" in call.messages[1].content else "[[6]]")
    verdict = await MT_BENCH.judge(item, answered("mini first", "mini second"), loaded, judge, MINI)
    assert [rating.value for rating in verdict.turns] == [6, 8]
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


async def test_a_judgment_without_rating_is_closed_under_guided_output():
    loaded = MT_BENCH.load(MINI)
    judge = ScriptedChat(lambda call: "7]]" if call.guide else "Quite good, I think.")
    verdict = await MT_BENCH.judge(of_category(loaded, "writing"), answered(), loaded, judge, MINI)
    assert [rating.value for rating in verdict.turns] == [7, 7]
    closings = [call for call in judge.calls if call.guide]
    assert len(closings) == 2
    assert all(call.guide.choice == RATING_CHOICES and call.messages[-1].role == "assistant" for call in closings)


async def test_as_published_neither_closes_nor_refuses_eleven():
    loaded = MT_BENCH.load(PUBLISHED)
    item = of_category(loaded, "writing")
    judge = ScriptedChat(lambda call: "[[11]]" if "mini second" in call.messages[1].content else "no number")
    verdict = await MT_BENCH.judge(item, answered("a", "mini second"), loaded, judge, PUBLISHED)
    assert verdict.turns[0].reason == "no_rating"
    assert verdict.turns[1].value == 11
    assert all(call.guide is None for call in judge.calls)


async def test_empty_answers_are_judged_and_missing_ones_are_not():
    loaded = MT_BENCH.load(MINI)
    judge = ScriptedChat("[[1]]")
    verdict = await MT_BENCH.judge(loaded.items[0], answered("", Unscored("request_failed")), loaded, judge, MINI)
    assert verdict.turns[0].value == 1
    assert verdict.turns[1] == Unscored("no_answer", "request_failed")
    assert len(judge.calls) == 1


async def test_a_judges_failure_is_unscored():
    loaded = MT_BENCH.load(MINI)
    judge = ScriptedChat(Unscored("request_failed", "503"))
    verdict = await MT_BENCH.judge(loaded.items[0], answered(), loaded, judge, MINI)
    assert verdict.turns == (Unscored("request_failed", "503"),) * 2


# --- scoring

GAP = Unscored("no_rating")
PAIRS = [(9, 8), (7, GAP), (5, 2), (GAP, GAP), (10, 4)]


def clustered_by_hand(clusters: list[list[float]]) -> float:
    """The clustered standard error of Miller 2024, section 2.2, written out."""
    values = [value for cluster in clusters for value in cluster]
    n, centre = len(values), statistics.fmean(values)
    own = sum((value - centre) ** 2 for value in values) / (n * (n - 1))
    cross = sum(
        (a - centre) * (b - centre)
        for cluster in clusters
        for i, a in enumerate(cluster)
        for j, b in enumerate(cluster)
        if i != j
    )
    return math.sqrt(own + cross / n**2)


def test_score_is_the_mean_of_all_scored_judgments():
    loaded = MT_BENCH.load(MINI)
    scores = MT_BENCH.score(records_rated(loaded, PAIRS), loaded, MINI)
    assert scores["score"] == pytest.approx((9 + 8 + 7 + 5 + 2 + 10 + 4) / 7)
    assert scores["turn_1"] == pytest.approx((9 + 7 + 5 + 10) / 4)
    assert scores["turn_2"] == pytest.approx((8 + 2 + 4) / 3)
    assert scores["score"] != pytest.approx((scores["turn_1"] + scores["turn_2"]) / 2)
    assert (scores["n"], scores["n_scored"], scores["unscored"]) == (10, 7, {"no_rating": 3})
    assert scores["stderr"] == pytest.approx(clustered_by_hand([[9, 8], [7], [5, 2], [10, 4]]))
    low, high = scores["ci95"]
    assert 2 <= low < scores["score"] < high <= 10
    by_category = {item.data["category"]: pair for item, pair in zip(loaded.items, PAIRS, strict=True)}
    for name, pair in by_category.items():
        values = [rating for rating in pair if rating is not GAP]
        expected = statistics.fmean(values) if values else None
        assert scores["categories"][name]["score"] == expected
        assert scores["categories"][name]["n"] == len(values)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_nothing_scored_is_none_and_never_zero():
    loaded = MT_BENCH.load(MINI)
    records = [Record(item, answered(Unscored("request_failed"), Unscored("no_answer"))) for item in loaded.items]
    scores = MT_BENCH.score(records, loaded, MINI)
    assert [scores[key] for key in ("score", "stderr", "ci95", "turn_1", "turn_2")] == [None] * 5
    assert scores["unscored"] == {"no_answer": 2 * len(records)}
    assert all(part["score"] is None for part in scores["categories"].values())


def test_without_a_judge_the_reason_is_no_judge():
    loaded = MT_BENCH.load(MINI)
    scores = MT_BENCH.score([Record(item, answered()) for item in loaded.items], loaded, MINI)
    assert scores["unscored"] == {"no_judge": 2 * len(loaded.items)}


# --- exports, read by FastChat


def show_result(path: Path) -> str:
    from fastchat.llm_judge.show_result import display_result_single

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        display_result_single(
            Namespace(bench_name="mt_bench", input_file=str(path), judge_model="gpt-4", model_list=None)
        )
    return out.getvalue()


def printed_scores(text: str) -> list[float]:
    """The score column of the tables that show_result prints: first turn, second turn, average."""
    return [float(line.split()[-1]) for line in text.splitlines() if line.startswith("my-model ")]


def exported(tmp_path: Path, pairs=PAIRS) -> tuple[dict, Path]:
    loaded = MT_BENCH.load(MINI)
    records = records_rated(loaded, pairs)
    MT_BENCH.export(records, loaded, tmp_path, model="my-model", judge="my-judge")
    return MT_BENCH.score(records, loaded, MINI), tmp_path


def test_show_result_reads_the_same_figures(tmp_path):
    scores, folder = exported(tmp_path)
    means = printed_scores(show_result(folder / "model_judgment.jsonl"))
    assert means == pytest.approx([scores["turn_1"], scores["turn_2"], scores["score"]], abs=1e-6)
    exact = fastchat_means(folder / "model_judgment.jsonl")
    assert exact == pytest.approx({key: scores[key] for key in ("turn_1", "turn_2", "score")}, abs=1e-12)


def test_fastchat_means_leaves_no_trace_in_the_module(tmp_path):
    from fastchat.llm_judge import show_result as module

    _, folder = exported(tmp_path)
    before = dict(vars(module))
    fastchat_means(folder / "model_judgment.jsonl")
    assert vars(module).keys() == before.keys()


def test_export_has_fastchats_fields(tmp_path):
    _, folder = exported(tmp_path)
    answers = [json.loads(line) for line in (folder / "model_answer.jsonl").read_text().splitlines()]
    judgments = [json.loads(line) for line in (folder / "model_judgment.jsonl").read_text().splitlines()]
    assert {"question_id", "answer_id", "model_id", "choices", "tstamp"} <= answers[0].keys()
    assert answers[0]["choices"] == [{"index": 0, "turns": ["one", "two"]}]
    fields = {"question_id", "model", "judge", "user_prompt", "judgment", "score", "turn", "tstamp"}
    assert all(fields <= row.keys() for row in judgments)
    assert [row["score"] for row in judgments] == [9, 8, 7, -1, 5, 2, -1, -1, 10, 4]
    assert [row["unscored"] for row in judgments if row["score"] == -1] == ["no_rating"] * 3
    math_id = next(row["question_id"] for row in judgments if row["category"] == "math")
    assert [row["judge"] for row in judgments if row["question_id"] == math_id] == [
        ["my-judge", "single-math-v1"],
        ["my-judge", "single-math-v1-multi-turn"],
    ]


def test_export_of_failures_never_invents_a_score(tmp_path):
    loaded = MT_BENCH.load(MINI)
    records = [Record(item, answered("ok", Unscored("context_length"))) for item in loaded.items]
    MT_BENCH.export(records, loaded, tmp_path, model="m", judge="j")
    answers = [json.loads(line) for line in (tmp_path / "model_answer.jsonl").read_text().splitlines()]
    judgments = [json.loads(line) for line in (tmp_path / "model_judgment.jsonl").read_text().splitlines()]
    assert answers[0]["choices"][0]["turns"] == ["ok", "$ERROR$"]
    assert answers[0]["unscored"] == [None, "context_length"]
    assert {(row["turn"], row["score"], row["unscored"]) for row in judgments} == {
        (1, -1, "no_judge"),
        (2, -1, "no_answer"),
    }


def test_without_a_judge_only_answers_are_written(tmp_path):
    loaded = MT_BENCH.load(MINI)
    MT_BENCH.export([Record(loaded.items[0], answered())], loaded, tmp_path, model="m", judge=None)
    assert [path.name for path in tmp_path.iterdir()] == ["model_answer.jsonl"]


# --- recorded files


def test_our_own_export_scores_the_same(tmp_path):
    scores, folder = exported(tmp_path)
    assert MT_BENCH.score_recorded(folder, SuiteOptions()) == scores


def row(question_id, turn, score, judgment="", **other):
    return {
        "question_id": question_id,
        "model": "vicuna-13b",
        "judge": ["gpt-4", "single-v1"],
        "user_prompt": "",
        "judgment": judgment,
        "score": score,
        "turn": turn,
        "tstamp": 1.0,
        **other,
    }


def write(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


RECORDED = [
    row(9001, 1, 8, "Rating: [[8]]"),
    row(9001, 2, 11, "Rating: [[11]]"),
    row(9002, 1, 1, "As shown in [1], all is well. Rating: 7/10"),
    row(9002, 2, -1, "Rating: [[ 9 ]]"),
    row(9003, 1, -1, "$ERROR$"),
    row(9003, 2, 6),
]


def test_recorded_ratings_are_read_again(tmp_path):
    scores = MT_BENCH.score_recorded(write(tmp_path / "j.jsonl", RECORDED), SuiteOptions())
    assert scores["unscored"]["rating_out_of_range"] == 1
    assert scores["unscored"]["recorded_failure"] == 1
    assert scores["turn_2"] == pytest.approx((9 + 6) / 2)
    assert set(scores["categories"]) == {"writing", "math", "reasoning"}


def test_a_score_that_its_text_contradicts_is_not_believed(tmp_path):
    path = write(tmp_path / "j.jsonl", [row(9001, 1, 10, "Rating: [[11]]"), row(9002, 1, 4, "[[6]]")])
    scores = MT_BENCH.score_recorded(path, SuiteOptions())
    assert (scores["score"], scores["unscored"]) == (6, {"rating_out_of_range": 1})


def test_a_score_that_another_parser_read_stands_beside_a_footnote():
    """FastChat's rule would have read 1 from it; whoever recorded 7 did not take the footnote."""
    recorded = {"score": 7, "judgment": "As shown in [1], it is accurate. Rating: 7"}
    assert recorded_rating(recorded) == Rating(7, recorded["judgment"])
    assert recorded_rating(recorded | {"score": 1}).reason == "no_rating"


def test_a_footnote_that_fastchat_took_for_the_rating_is_no_rating(tmp_path):
    rows = [row(9001, 1, 1.0, "For the proof see [1]. Rating: 7"), row(9002, 1, -1, "Rating: [[8/10]]")]
    path = write(tmp_path / "j.jsonl", [*rows, row(9003, 1, 5, "A fair answer, I would say five.")])
    scores = MT_BENCH.score_recorded(path, SuiteOptions())
    assert (scores["n_scored"], scores["unscored"]) == (2, {"no_rating": 1})
    # The number in brackets, and the recorded one whose text holds no number that either rule reads.
    assert scores["score"] == pytest.approx((8 + 5) / 2)
    assert MT_BENCH.score_recorded(path, SuiteOptions(as_published=True))["score"] == pytest.approx((1 + 5) / 2)


def test_as_published_is_fastchats_own_arithmetic(tmp_path):
    path = write(tmp_path / "j.jsonl", RECORDED)
    scores = MT_BENCH.score_recorded(path, SuiteOptions(as_published=True))
    assert scores["score"] == pytest.approx((8 + 11 + 1 + 6) / 4)
    assert scores["turn_1"] == pytest.approx((8 + 1) / 2)
    assert scores["turn_2"] == pytest.approx((11 + 6) / 2)
    assert (scores["n"], scores["n_scored"]) == (6, 4)
    assert "vicuna-13b" in show_result(path)


def test_a_turn_that_is_missing_is_counted(tmp_path):
    path = write(tmp_path / "j.jsonl", [row(9001, 1, 8), row(9001, 2, 6), row(9002, 1, 4)])
    scores = MT_BENCH.score_recorded(path, SuiteOptions())
    assert (scores["n"], scores["n_scored"], scores["unscored"]) == (4, 3, {"recorded_failure": 1})


def test_a_first_turn_only_file_has_no_second_turn(tmp_path):
    scores = MT_BENCH.score_recorded(write(tmp_path / "j.jsonl", [row(9001, 1, 8), row(9002, 1, 4)]), SuiteOptions())
    assert (scores["score"], scores["turn_2"], scores["n"], scores["unscored"]) == (6, None, 2, {})


def test_a_file_with_no_valid_judgment_is_none_both_ways(tmp_path):
    path = write(tmp_path / "j.jsonl", [row(9001, 1, -1), row(9001, 2, -1)])
    for options in (SuiteOptions(), SuiteOptions(as_published=True)):
        scores = MT_BENCH.score_recorded(path, options)
        assert (scores["score"], scores["turn_1"], scores["turn_2"]) == (None, None, None)
        assert scores["unscored"] == {"recorded_failure": 2}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "holds no judgments"),
        ([row(9001, 1, 8), row(9001, 2, 8, judge=["gpt-4o", "single-v1"])], r"mixes 2 judges \(gpt-4, gpt-4o\)"),
        ([row(9001, 1, 8), row(9001, 2, 8, model="other")], r"mixes 2 models \(other, vicuna-13b\)"),
        ([row(9001, 1, 8), row(9001, 1, 7)], "question 9001 turn 1 twice"),
        ([row(9001, 3, 8)], "turn 3"),
        ([row(9001, 1, None)], "score None"),
        ([{"question_id": 9001}], "has no 'model'"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path, rows, words):
    with pytest.raises(DataError, match=words) as caught:
        MT_BENCH.score_recorded(write(tmp_path / "j.jsonl", rows), SuiteOptions())
    assert "\n" not in str(caught.value)


def test_math_prompts_of_one_judge_are_one_judge(tmp_path):
    rows = [row(9001, 1, 8), row(9002, 1, 4, judge=["gpt-4", "single-math-v1"])]
    assert MT_BENCH.score_recorded(write(tmp_path / "j.jsonl", rows), SuiteOptions())["score"] == 6
