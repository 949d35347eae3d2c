"""The study file and its plan: faults, names, keys, projection."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from evalsuite.checkpoint import resolve
from evalsuite.cli import app
from evalsuite.errors import DataError, UsageError
from evalsuite.files import write_json
from evalsuite.progress import NoProgress
from evalsuite.study.file import read_study
from evalsuite.study.graph import key_of, trained_models
from evalsuite.study.identities import find_identities
from evalsuite.study.pages import draw_answers
from evalsuite.study.plan import n_items, plan_study
from evalsuite.study.projection import plan_document, recorded_speeds
from evalsuite.study.run import plan_only, run_study
from evalsuite.study.stages import mix_recipe
from evalsuite.study.state import State, Task, Workspace
from tests.evalsuite.study_toys import DOCUMENT, chats, toy_study, write_models, write_study
from tests.evalsuite.tiny_checkpoint import TEMPLATE, write_checkpoint

RECIPES = Path(__file__).resolve().parents[3] / "recipes"


def test_all_faults_are_named_at_once(tmp_path):
    path = write_study(
        tmp_path,
        sizes=[],
        sft={"lerning_rate": 1},
        run={"suites": ["mtbench"]},
        dgms={"A": {}},
        mix={"filters": {"langage": "English"}},
        speed=3,
    )
    with pytest.raises(UsageError) as error:
        read_study(path)
    for text in (
        "sizes must be a list of at least 1",
        "unknown key 'lerning_rate'; did you mean 'learning_rate'?",
        "did you mean 'mt_bench'",
        "give model (to be asked) or answers",
        "mix.filters: unknown key 'langage'; did you mean 'language'?",
        "unknown key 'speed'",
    ):
        assert text in str(error.value), str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blends": [{"dgms": ["A", "C"]}]}, "'C' is not a dgm of the study; known: A, B"),
        ({"blends": [{"dgms": ["A", "A"]}]}, "duplicate dgm 'A'"),
        ({"blends": [{"dgms": ["A", "B"]}, {"dgms": ["B", "A"], "size": 4}]}, "duplicate blend A\\+B of size 4"),
        ({"sizes": [4, 4]}, "duplicate size 4"),
        ({"name": "a/b"}, "not a folder name"),
        ({"dgms": {"A-B": {"model": "models/a"}}, "blends": []}, "not a valid name"),
        ({"generate": None}, "add generate"),
        ({"sft": {"base": "demo"}}, "base is the target's model"),
        (
            {"sft": {"batch_size": 3}, "targets": {"T": {"model": "m", "sft": {"micro_batch_size": 2}}}},
            "not a multiple",
        ),
        ({"targets": {"A": {"model": "models/t"}}}, "rename one of them"),
        (
            {
                "dgms": {"A": {"model": "models/a", "serve": {"dtype": "float32"}}},
                "targets": {"T": {"model": "models/a"}},
                "blends": [],
            },
            "models/a is evaluated as target T and as dgm A under different serve settings.* give both the same serve",
        ),
        (
            {
                "dgms": {"A": {"model": "a", "serve": {"max_model_len": 64}}},
                "targets": {"A": {"model": "a"}},
                "blends": [],
            },
            "a is evaluated as target A and as dgm A under different serve settings",
        ),
        ({"judge": None}, "judge"),
        (
            {"generate": {"prompts": "p", "limit": 3}},
            r"limit gives 3 conversations, but the mixes need 4 of A",
        ),
        ({"generate": {"prompts": "p", "limit": 4}, "blends": [{"dgms": ["A", "B"], "size": 10}]}, "need 5 of A"),
        (
            {
                "dgms": {"A": {"model": "a"}, "C": {"model": "c"}},
                "blends": [{"dgms": ["A", "C"], "size": 6}],
                "generate": {"prompts": "p", "limit": 4},
            },
            "need 6 of A, C",
        ),
        ({"sft": {"epochs": float("inf")}}, "epochs inf is out of range"),
        ({"targets": {"T": {"model": "m", "sft": {"max_steps": 10**400}}}}, "max_steps .* is out of range"),
        ({"sizes": [10**400]}, "sizes"),
        ({"judge": ""}, "judge must be a text of at least 1 characters"),
        ({"analyze": ["style", "style"]}, "duplicate analysis 'style'"),
        ({"assumptions": {"by_model": {"Q": 5}}}, "by_model: 'Q' is not a dgm or target"),
        ({"mix": {"filters": {"max_tokens": 9}}}, "mix: max_tokens needs a tokenizer"),
        ({"mix": {"add": [{"data": "b.jsonl", "name": "conversations"}]}}, "mix: .*'conversations'"),
        ({"mix": {"add": [{"data": "b.jsonl", "fraction": 0.5}]}}, "fraction is of a total"),
        ({"assumptions": {"answer_tokens_per_second": float("inf")}}, "finite number"),
        ({"assumptions": {"answer_tokens_per_second": 1e-320}}, "answer_tokens_per_second"),
        ({"generate": {"prompts": "p", "temperature": float("nan")}}, "finite number"),
    ],
)
def test_a_study_that_contradicts_itself_is_refused_in_one_sentence(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message) as error:
        read_study(write_study(tmp_path, **changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["- a list", "{", "name: x\n  y: z: w"])
def test_a_file_that_is_not_a_study_is_refused(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"x\.yaml"):
        read_study(path)
    with pytest.raises(DataError, match="cannot read"):
        read_study(tmp_path / "none.yaml")


def test_a_duplicate_key_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT) + "seed: 1\nseed: 2\n")
    with pytest.raises(DataError, match="duplicate key 'seed'"):
        read_study(path)


def test_the_suites_own_options_are_keys_of_run(tmp_path):
    stages = planned(toy_study(tmp_path, run={"suites": ["mixeval"], "mixeval_parser": "rule", "data": "mini"}))
    assert stages["run T"].settings["options"]["mixeval_parser"] == "rule"
    with pytest.raises(UsageError, match=r"run: .*mixeval-parser must be 'judge' or 'rule', not 'rules'"):
        toy_study(tmp_path, run={"mixeval_parser": "rules"})
    with pytest.raises(UsageError, match="run: unknown key 'mixeval_parse'"):
        toy_study(tmp_path, run={"mixeval_parse": "rule"})


def test_missing_models_and_data_are_all_named(tmp_path):
    write_models(tmp_path)
    study = toy_study(
        tmp_path, judge="./models/nobody", dgms={"A": {"model": "models/a"}, "B": {"answers": "no.jsonl"}}
    )
    with pytest.raises(UsageError, match=r"models/nobody.*no\.jsonl"):
        find_identities(study, fetch=False)


def test_every_dgm_size_and_blend_is_trained_for_every_target(tmp_path):
    study = toy_study(tmp_path, targets={"T": {"model": "models/t"}, "U": {"model": "models/a"}})
    names = [model.name for model in trained_models(study)]
    assert names[:5] == ["T-A-2", "T-A-4", "T-B-2", "T-B-4", "T-A-and-B-4"]
    assert len(names) == 10
    assert trained_models(study)[4].label == "T : A + B (4)"


def planned(study):
    stages = plan_study(study, find_identities(study, fetch=False)[0])
    return {stage.name: stage for stage in stages}


def test_a_model_that_is_a_target_and_a_dgm_is_evaluated_once(tmp_path):
    stages = planned(toy_study(tmp_path, targets={"T": {"model": "models/a"}}))
    assert "run T" in stages
    assert "run A" not in stages
    assert stages["compare T"].settings["lineage"] == {"run T-A-4": "run T", "run T-B-4": "B"}


@pytest.mark.parametrize(
    ("run", "serve", "evaluated"),
    [
        ({"data": "mini"}, {"in_flight": 3}, {"run T"}),
        ({"data": "mini", "bases": False}, {"dtype": "float32"}, {"run A"}),
        ({"data": "mini", "dgms": False}, {"dtype": "float32"}, {"run T"}),
    ],
)
def test_of_servings_only_those_that_would_share_a_folder_must_agree(tmp_path, run, serve, evaluated):
    dgms = {"A": {"model": "models/a", "serve": serve}}
    stages = planned(toy_study(tmp_path, dgms=dgms, targets={"T": {"model": "models/a"}}, blends=[], run=run))
    assert {name for name in ("run T", "run A") if name in stages} == evaluated


def test_a_dgm_with_model_and_answers_is_evaluated_and_not_asked(tmp_path):
    stages = planned(toy_study(tmp_path, dgms={"A": {"model": "models/a", "answers": "b.jsonl"}}, blends=[]))
    assert "generate A" not in stages
    assert "run A" in stages
    assert stages["mix A-2"].needs == ()


def test_every_stage_comes_after_what_it_depends_on(tmp_path):
    seen: set[str] = set()
    for stage in planned(toy_study(tmp_path)).values():
        assert {*stage.needs, *stage.uses} <= seen
        seen.add(stage.name)


def test_a_key_depends_on_content_and_not_on_paths(tmp_path):
    stages = planned(toy_study(tmp_path))
    keys = {name: f"k{number}" for number, name in enumerate(stages)}
    report = stages["report toy"]
    assert key_of(report, keys) != key_of(report, {name: key for name, key in keys.items() if name != "run A"})
    moved = tmp_path / "elsewhere"
    (moved).mkdir()
    for name in ("models", "prompts.jsonl", "b.jsonl"):
        (moved / name).symlink_to(tmp_path / name)
    again = planned(read_study(write_study(moved)))
    assert {name: key_of(stage, keys) for name, stage in again.items()} == {
        name: key_of(stage, keys) for name, stage in stages.items()
    }


def test_a_chat_template_file_enters_the_key_by_its_content(tmp_path):
    (tmp_path / "t.jinja").write_text("one")
    before = planned(toy_study(tmp_path, sft={"chat_template": "t.jinja"}))["sft T-A-2"]
    (tmp_path / "t.jinja").write_text("two")
    after = planned(toy_study(tmp_path, sft={"chat_template": "t.jinja"}))["sft T-A-2"]
    assert key_of(before, {}) != key_of(after, {})


def test_a_missing_chat_template_is_named_before_anything_starts(tmp_path):
    for word in ("no.jinja", "./models/nobody"):
        with pytest.raises(UsageError, match=word):
            find_identities(toy_study(tmp_path, sft={"chat_template": word}), fetch=False)


def test_of_a_model_whose_template_is_taken_only_that_enters_the_key(tmp_path):
    write_models(tmp_path)
    other = tmp_path / "models" / "other"

    def key_with(**written):
        write_checkpoint(other, **written)
        return key_of(planned(toy_study(tmp_path, sft={"chat_template": "models/other"}))["sft T-A-2"], {})

    first = key_with(context=1234)
    assert key_with(context=1235) == first
    assert key_with(context=1234, template=TEMPLATE + " ") != first
    with pytest.raises(UsageError, match="models/other has no chat template to train with"):
        key_with(template=None)


def test_a_target_without_a_chat_template_needs_one_for_its_training(tmp_path):
    write_models(tmp_path)
    write_checkpoint(tmp_path / "models" / "t", template=None)
    with pytest.raises(UsageError, match=r"models/t has no chat template to train with; set chat_template under sft"):
        plan_only(toy_study(tmp_path), tmp_path / "results")
    for changes in (
        {"sft": {"chat_template": "models/a"}},
        {"targets": {"T": {"model": "models/t", "sft": {"chat_template": "models/a"}}}},
    ):
        assert plan_only(toy_study(tmp_path, **changes), tmp_path / "results").count("to do")


def test_a_models_template_and_tokenizer_enter_the_keys_of_what_asks_and_trains_it(tmp_path):
    keys = [{name: key_of(stage, {}) for name, stage in planned(toy_study(tmp_path)).items()}]
    for name in ("a", "t"):
        folder = tmp_path / "models" / name
        (folder / "chat_template.jinja").write_text(TEMPLATE + " ")
        keys.append({name: key_of(stage, {}) for name, stage in planned(toy_study(tmp_path)).items()})
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 9}))
        keys.append({name: key_of(stage, {}) for name, stage in planned(toy_study(tmp_path)).items()})
    changed = [{name for name in old if old[name] != new[name]} for old, new in pairwise(keys)]
    assert changed[0] == changed[1] == {"generate A", "run A"}
    assert changed[2] == changed[3] == {"run T", *(f"sft T-{mix}" for mix in ("A-2", "A-4", "B-2", "B-4", "A-and-B-4"))}


def test_a_mix_has_its_tokenizers_files_in_its_key(tmp_path):
    def keys():
        stages = planned(toy_study(tmp_path, mix={"tokenizer": "models/t", "filters": {"max_tokens": 50}}))
        return {name: key_of(stage, {}) for name, stage in stages.items() if name.startswith("mix ")}

    before = keys()
    write_checkpoint(tmp_path / "models" / "t", context=777)
    assert keys() == before
    with (tmp_path / "models" / "t" / "tokenizer.json").open("a") as file:
        file.write("\n")
    assert not before.items() & keys().items()


def test_a_missing_tokenizer_is_named_before_anything_starts(tmp_path):
    (tmp_path / "empty").mkdir()
    not_found = "tokenizer .*no' not found; set mix.tokenizer to a folder"
    for spec, message in (("./no", not_found), ("empty", "no tokenizer files")):
        with pytest.raises(UsageError, match=message):
            find_identities(toy_study(tmp_path, mix={"tokenizer": spec}), fetch=False)


def test_a_mix_finds_its_tokenizer_relative_to_the_file(tmp_path):
    study = toy_study(tmp_path, mix={"tokenizer": "models/t"})
    workspace = Workspace(study, tmp_path / "results", State(tmp_path / "results"), NoProgress())
    recipe = mix_recipe(Task(planned(study)["mix B-2"], "k", {}), workspace)
    assert recipe["mix"]["tokenizer"] == str(tmp_path / "models" / "t")


@pytest.mark.parametrize(
    ("changes", "gone", "note"),
    [
        (
            {"run": {"suites": ["openllm"]}},
            "analyze style",
            "analyze style is left out: it reads mt_bench or mt_bench_pairwise or alpaca_eval or arena_hard",
        ),
        ({"run": {"suites": ["alpaca_eval"]}}, "compare T", "compare is left out: it reads mt_bench"),
        ({"run": {"suites": ["alpaca_eval"]}}, "analyze keywords-T", "analyze keywords is left out"),
        (
            {"dgms": {"B": {"answers": "b.jsonl"}}, "blends": [], "sizes": [2], "run": {"bases": False}},
            "compare T",
            "compare T is left out: it needs two models",
        ),
        (
            {"dgms": {"B": {"answers": "b.jsonl"}}, "blends": [], "sizes": [2], "run": {"bases": False}},
            "analyze similarity",
            "analyze similarity is left out: it needs two models",
        ),
    ],
)
def test_a_stage_that_can_never_run_is_left_out_with_a_note(tmp_path, changes, gone, note):
    outcome = plan_only(toy_study(tmp_path, **changes), tmp_path / "results")
    assert gone not in {cell.stage.name for cell in outcome.cells}
    assert any(note in each for each in outcome.notes)
    assert not [each for each in plan_only(toy_study(tmp_path), tmp_path / "results").notes if "left out" in each]


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


def test_draws_of_two_models_are_of_the_same_prompts(tmp_path):
    rows = [(f"Question {number}?", f"Answer {number}.") for number in range(40)]

    def write(name, rows):
        turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in rows]
        (tmp_path / name).write_text("\n".join(json.dumps({"messages": chat}) for chat in turns))
        drawn = draw_answers(str(tmp_path / name), tmp_path / "out" / name, 6, NoProgress())
        return [json.loads(line)["messages"][0]["content"] for line in drawn.read_text().splitlines()]

    assert write("a.jsonl", rows) == write("b.jsonl", rows[::-1])
    assert len(set(write("a.jsonl", rows))) == 6


@pytest.mark.parametrize("name", ["demo-study.yaml", "wildchat-50m-study.yaml"])
def test_the_projects_own_studies_can_be_read(name):
    study = read_study(RECIPES / name)
    assert len(study.sizes) >= 2
    assert study.blends


def test_the_command_prints_the_plan_and_what_is_wrong(tmp_path):
    write_models(tmp_path)
    words = ["study", str(write_study(tmp_path)), "--results", str(tmp_path / "results"), "--dry-run"]
    shown = CliRunner().invoke(app, [*words, "--json"])
    assert shown.exit_code == 0
    document = json.loads(shown.stdout)
    assert document["to_do"] == len(document["stages"])
    table = CliRunner().invoke(app, words, env={"COLUMNS": "160"})
    assert "server starts" in table.stdout
    assert "sft T-A-and-B-4" in table.stdout
    assert not (tmp_path / "results").exists()
    wrong = CliRunner().invoke(app, ["study", str(write_study(tmp_path, sizes=[0]))])
    assert wrong.exit_code == 2


def test_a_judge_is_served_by_itself_and_changes_only_what_it_judges(tmp_path):
    def keys(**changes):
        return {name: key_of(stage, {}) for name, stage in planned(toy_study(tmp_path, **changes)).items()}

    plain, judged = keys(), keys(judge_serve={"max_model_len": 128})
    assert {name.split(" ")[0] for name in plain if plain[name] != judged[name]} == {"run", "compare"}
    assert keys(judge_serve={"in_flight": 3}) == plain, "what cannot change a verdict enters no key"
    stages = planned(toy_study(tmp_path, judge_serve={"tensor_parallel_size": 4}))
    assert (stages["run A"].devices, stages["compare T"].devices, stages["generate A"].devices) == (4, 4, 1)
    with pytest.raises(UsageError, match="set chat_template under sft, not under serve"):
        toy_study(tmp_path, judge_serve={"chat_template": "t.jinja"})
