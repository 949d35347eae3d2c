"""What a study will take: questions, hours, sources that are too small, and the speeds of earlier runs."""

from __future__ import annotations

import pytest

from evalsuite.checkpoint import resolve
from evalsuite.errors import UsageError
from evalsuite.files import write_json
from evalsuite.study.plan import n_items
from evalsuite.study.projection import plan_document, recorded_speeds
from evalsuite.study.run import plan_only, run_study
from tests.evalsuite.study.test_study import planned
from tests.evalsuite.study_toys import chats, toy_study, write_models


@pytest.mark.parametrize(
    ("suites", "limit", "expected"),
    [
        (["mt_bench"], None, 80 * 2),
        (["alpaca_eval"], None, 805),
        (["mixeval"], None, 4000),
        (["mixeval:hard"], None, 1000),
        (["openllm:ifeval,musr"], None, 541 + 756),
        (["openllm:bbh,gpqa,math,mmlu_pro"], None, 5761 + 1192 + 1324 + 12032),
        (["mt_bench", "openllm:musr"], 5, 5 * 2 + 3 * 5),
        (["mixeval"], 5, 2 * 5),
        (["lm_eval:arc_easy"], None, 1000),  # assumed: lm-eval alone knows how many there are
        (["lm_eval:arc_easy"], 5, 5),
    ],
)
def test_the_number_of_questions_follows_suites_and_limit(tmp_path, suites, limit, expected):
    assert n_items(toy_study(tmp_path, run={"suites": suites, "limit": limit}).run) == expected


@pytest.mark.parametrize(("prompts", "limit", "n_prompts"), [("mt_bench", None, 80), ("alpaca_eval", 3, 3)])
def test_a_comparison_counts_prompts_and_not_turns(tmp_path, prompts, limit, n_prompts):
    study = toy_study(tmp_path, run={"suites": [prompts], "limit": limit}, compare={"prompts": prompts})
    assert planned(study)["compare T"].work == {"verdicts": 3 * 2 * n_prompts}  # every order of three models


def test_without_earlier_runs_the_projection_is_assumed_or_stated(tmp_path):
    study = toy_study(
        tmp_path,
        assumptions={
            "answer_tokens_per_second": 10,
            "turns_per_conversation": 2,
            "tokens_per_answer": 100,
            "serve_start_s": 40,
            "device": "H100",
        },
        serve={"tensor_parallel_size": 4},
    )
    document = plan_document(study, plan_only(study, tmp_path / "results"), tmp_path / "results")
    rows = {row["stage"]: row for row in document["stages"]}
    seconds = 40 + 4 * 2 * 100 / 10  # a start, then four conversations of two answers of 100 tokens
    assert rows["generate A"]["hours"] == pytest.approx(seconds / 3600)
    assert rows["generate A"]["device_hours"] == pytest.approx(4 * seconds / 3600)
    assert rows["generate A"]["basis"] == "10 tokens/s stated; start 40 s stated"
    assert "90 tokens/s assumed" in rows["sft T-A-2"]["basis"]
    assert rows["mix A-2"]["hours"] is None
    assert document["device"] == "H100"
    assert document["servers_started"] == 1 + 7 + 1 + 1  # generate, seven models, their judge, the comparison's judge
    critical = document["critical_path"]
    assert critical["hours"] == pytest.approx(sum(rows[name]["hours"] for name in critical["stages"]))
    assert [name.split(" ")[0] for name in critical["stages"]] == ["generate", "sft", "run", "compare"]
    chains = [("generate A", f"sft T-A-{size}", f"run T-A-{size}", "compare T") for size in (2, 3)]
    hours = [sum(rows[name]["hours"] for name in chain) for chain in chains if all(name in rows for name in chain)]
    assert critical["hours"] >= max(hours) - 1e-9


def test_without_a_limit_the_hours_are_for_the_whole_source(tmp_path):
    write_models(tmp_path)
    stated = {
        "answer_tokens_per_second": 10,
        "tokens_per_answer": 100,
        "turns_per_conversation": 2,
        "serve_start_s": 40,
    }
    study = toy_study(tmp_path, generate={"prompts": "prompts.jsonl"}, assumptions=stated)
    (tmp_path / "prompts.jsonl").write_text(chats(30, None) + "\n")
    document = plan_document(study, plan_only(study, tmp_path / "results"), tmp_path / "results")
    hours = {row["stage"]: row["hours"] for row in document["stages"]}
    assert hours["generate A"] == pytest.approx((40 + 30 * 2 * 100 / 10) / 3600)
    assert document["notes"] == []


def test_a_source_of_unknown_length_is_noted(tmp_path):
    study = toy_study(tmp_path, generate={"prompts": "nobody/chats"})
    document = plan_document(study, plan_only(study, tmp_path / "results"), tmp_path / "results")
    assert any("the number of conversations in nobody/chats is unknown" in note for note in document["notes"])


def test_a_plan_fetches_no_suite_whose_prompts_are_asked(tmp_path, monkeypatch):
    def forbidden(_word):
        raise AssertionError("the suite was opened")

    monkeypatch.setattr("evalsuite.conversations.source._suite", forbidden)
    monkeypatch.setattr("evalsuite.assets.list_assets", lambda *_: [{"state": "found: wheel"}, {"state": "missing"}])
    outcome = plan_only(toy_study(tmp_path, generate={"prompts": "alpaca_eval"}), tmp_path / "results")
    assert any("alpaca_eval is not on this machine" in note for note in outcome.notes)


@pytest.mark.parametrize(("file", "name"), [("prompts.jsonl", "A"), ("b.jsonl", "B")])
def test_a_source_that_is_too_small_is_refused_before_anything_starts(tmp_path, file, name):
    study = toy_study(tmp_path, generate={"prompts": "prompts.jsonl"})
    (tmp_path / file).write_text(chats(3, "Yes" if name == "B" else None))
    for begin in (plan_only, run_study):
        with pytest.raises(UsageError, match=rf"{file} gives 3 conversations, but the mixes need 4 of {name}"):
            begin(study, tmp_path / "results")
    fewer = toy_study(tmp_path, generate={"prompts": "prompts.jsonl"}, mix={"allow_fewer": True})
    assert plan_only(fewer, tmp_path / "results").exit_code == 0


@pytest.mark.parametrize(
    ("source", "short"),
    [
        ({"data": "few.jsonl", "count": 4}, True),
        ({"data": "few.jsonl", "count": 3}, False),
        ({"data": "few.jsonl", "count": 4, "allow_fewer": True}, False),
        ({"data": "few.jsonl"}, False),
        ({"blend": [{"data": "few.jsonl", "dgm": "X"}, {"data": "b.jsonl", "dgm": "Y"}], "count": 7}, False),
        ({"blend": [{"data": "few.jsonl", "dgm": "X"}, {"data": "b.jsonl", "dgm": "Y"}], "count": 8}, True),
    ],
)
def test_an_added_source_that_is_too_small_is_refused_before_anything_starts(tmp_path, source, short):
    # The DGMs may give fewer; that setting does not apply to what is added.
    study = toy_study(tmp_path, mix={"add": [{"name": "more", **source}], "allow_fewer": True})
    (tmp_path / "few.jsonl").write_text(chats(3, "Yes"))
    if not short:
        assert plan_only(study, tmp_path / "results").count("to do")
        return
    message = "few.jsonl has 3 conversations, but mix.add takes 4 of it; give more, lower its count, or set its"
    with pytest.raises(UsageError, match=message):
        plan_only(study, tmp_path / "results")


def test_a_measured_speed_wins_over_a_stated_one(tmp_path):
    study = toy_study(tmp_path, assumptions={"by_model": {"A": 7}})
    fingerprint = resolve(str(tmp_path / "models" / "a")).fingerprint
    manifest = {
        "model": {"name": "a", "fingerprint": fingerprint, "training": None},
        "seconds": {"serve": 30.0, "generate": 20.0},
        "usage": {"candidate": {"completion_tokens": 1000}},
        "server_restarts": 0,
    }
    results = tmp_path / "results"
    document = plan_document(study, plan_only(study, results), results)
    assert "7 tokens/s stated" in next(row["basis"] for row in document["stages"] if row["stage"] == "generate A")
    write_json(results / "a-1" / "manifest.json", manifest)
    write_json(results / "b-1" / "manifest.json", {"model": 1})
    (results / "c-1").mkdir()
    (results / "c-1" / "manifest.json").write_text("{")
    speeds = recorded_speeds(results)
    assert speeds.answering == {fingerprint: 50.0}
    assert speeds.start_s == 30.0
    document = plan_document(study, plan_only(study, results), results)
    rows = {row["stage"]: row for row in document["stages"]}
    assert "50 tokens/s measured; start 30 s measured" in rows["generate A"]["basis"]
    trained = {"base_fingerprint": resolve(str(tmp_path / "models" / "t")).fingerprint, "tokens_per_second": 30.0}
    write_json(results / "studies" / "s" / "sft" / "k" / "T" / "training.json", trained)
    document = plan_document(study, plan_only(study, results), results)
    assert {row["basis"] for row in document["stages"] if row["stage"].startswith("sft ")} == {"30 tokens/s measured"}


@pytest.mark.parametrize(
    "damage",
    [
        {"seconds": {"serve": "long", "generate": 20}},
        {"seconds": {"serve": 1, "generate": "long"}},
        {"seconds": {"serve": -1, "generate": -1}},
        {"usage": 3, "costs": 4, "server_restarts": None},
        {"model": {"fingerprint": "f", "training": 3}},
        {"model": {"fingerprint": "f", "training": {"tokens_per_second": "fast", "base_fingerprint": [1]}}},
    ],
)
def test_a_damaged_record_of_an_earlier_run_is_skipped(tmp_path, damage):
    whole = {"model": {"fingerprint": "f"}, "seconds": {"serve": 30.0, "generate": 20.0}, "server_restarts": 0}
    whole |= {"usage": {"candidate": {"completion_tokens": 1000}}}
    write_json(tmp_path / "a-1" / "manifest.json", whole)
    write_json(tmp_path / "b-1" / "manifest.json", whole | damage)
    write_json(tmp_path / "studies" / "s" / "sft" / "k" / "T" / "training.json", {"tokens_per_second": [1]})
    speeds = recorded_speeds(tmp_path)
    assert speeds.answering == {"f": 50.0}
    assert speeds.start_s in (30.0, 15.5)  # a record whose start alone is readable may still count
    assert speeds.training == {}
