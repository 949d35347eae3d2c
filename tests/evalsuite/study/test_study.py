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
from evalsuite.progress import Silence
from evalsuite.study.file import read_study
from evalsuite.study.identities import find_identities
from evalsuite.study.pages import draw_answers
from evalsuite.study.plan import key_of, n_items, plan_study, trained_models
from evalsuite.study.projection import plan_document, recorded_speeds
from evalsuite.study.run import plan_only, run_study
from evalsuite.study.stages import mix_recipe
from evalsuite.study.state import State
from evalsuite.study.tasks import Bench, Task
from tests.evalsuite.study_toys import DOCUMENT, chats, toy_study, write_models, write_study
from tests.evalsuite.tiny_checkpoint import TEMPLATE, write_checkpoint

RECIPES = Path(__file__).resolve().parents[3] / "recipes"


def test_all_faults_are_told_at_once(tmp_path):
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
    told = str(error.value)
    for words in (
        "sizes",
        "lerning_rate: unknown key",
        "did you mean 'mt_bench'",
        "give model (it is asked) or answers",
        "mix.filters.langage: unknown key",
        "speed: unknown key",
    ):
        assert words in told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blends": [{"dgms": ["A", "C"]}]}, "names 'C', no dgm of the study; known: A, B"),
        ({"blends": [{"dgms": ["A", "A"]}]}, "names a dgm twice"),
        ({"blends": [{"dgms": ["A", "B"]}, {"dgms": ["B", "A"], "size": 4}]}, "given twice"),
        ({"sizes": [4, 4]}, "name each once"),
        ({"name": "a/b"}, "no folder name"),
        ({"dgms": {"A-B": {"model": "models/a"}}, "blends": []}, "no plain name"),
        ({"generate": None}, "add generate"),
        ({"sft": {"base": "demo"}}, "base is the target's model"),
        ({"sft": {"batch_size": 3}, "targets": {"T": {"model": "m", "sft": {"micro_batch_size": 2}}}}, "no multiple"),
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
            r"limit gives 3 conversations, and the mixes need 4 of A",
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
        ({"sft": {"epochs": float("inf")}}, "epochs inf is no number to reckon with"),
        ({"targets": {"T": {"model": "m", "sft": {"max_steps": 10**400}}}}, "max_steps .* is no number to reckon with"),
        ({"sizes": [10**400]}, "sizes"),
        ({"judge": ""}, "judge '': string should have at least 1 character"),
        ({"analyze": ["style", "style"]}, "analyze .* names one twice"),
        ({"assumptions": {"by_model": {"Q": 5}}}, "by_model names 'Q', no dgm or target"),
        ({"mix": {"filters": {"max_tokens": 9}}}, "mix: max_tokens needs a tokenizer"),
        ({"mix": {"add": [{"data": "b.jsonl", "name": "conversations"}]}}, "mix: .*'conversations'"),
        ({"mix": {"add": [{"data": "b.jsonl", "fraction": 0.5}]}}, "fraction is of a total"),
        ({"assumptions": {"answer_tokens_per_second": float("inf")}}, "finite number"),
        ({"assumptions": {"answer_tokens_per_second": 1e-320}}, "answer_tokens_per_second"),
        ({"generate": {"prompts": "p", "temperature": float("nan")}}, "finite number"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(tmp_path, changes, words):
    with pytest.raises(UsageError, match=words) as error:
        read_study(write_study(tmp_path, **changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["- a list", "{", "name: x\n  y: z: w"])
def test_a_file_that_is_no_study_is_refused(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"x\.yaml"):
        read_study(path)
    with pytest.raises(DataError, match="cannot read"):
        read_study(tmp_path / "none.yaml")


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT) + "seed: 1\nseed: 2\n")
    with pytest.raises(UsageError, match="'seed' a second time"):
        read_study(path)


def test_models_and_data_that_are_not_there_are_all_named(tmp_path):
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


def test_every_stage_stands_after_what_it_rests_on(tmp_path):
    seen: set[str] = set()
    for stage in planned(toy_study(tmp_path)).values():
        assert {*stage.needs, *stage.uses} <= seen
        seen.add(stage.name)


def test_a_key_depends_on_what_is_there_and_not_on_paths(tmp_path):
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


def test_a_chat_template_that_is_not_there_is_told_before_anything_starts(tmp_path):
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
    with pytest.raises(
        UsageError, match=r"models/t has no chat template to train with; name .* chat_template under sft"
    ):
        plan_only(toy_study(tmp_path), tmp_path / "results")
    for changes in (
        {"sft": {"chat_template": "models/a"}},
        {"targets": {"T": {"model": "models/t", "sft": {"chat_template": "models/a"}}}},
    ):
        assert plan_only(toy_study(tmp_path, **changes), tmp_path / "results").counted("to do")


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


def test_a_tokenizer_that_is_not_there_is_told_before_anything_starts(tmp_path):
    (tmp_path / "empty").mkdir()
    for word, words in (("./no", "there is no tokenizer './no'; name a folder"), ("empty", "has no tokenizer files")):
        with pytest.raises(UsageError, match=words):
            find_identities(toy_study(tmp_path, mix={"tokenizer": word}), fetch=False)


def test_a_mix_takes_its_tokenizer_from_beside_the_file(tmp_path):
    study = toy_study(tmp_path, mix={"tokenizer": "models/t"})
    bench = Bench(study, tmp_path / "results", State(tmp_path / "results"), Silence())
    recipe = mix_recipe(Task(planned(study)["mix B-2"], "k", {}), bench)
    assert recipe["mix"]["tokenizer"] == str(tmp_path / "models" / "t")


@pytest.mark.parametrize(
    ("changes", "gone", "note"),
    [
        (
            {"run": {"suites": ["openllm"]}},
            "analyze style",
            "analyze style is left out: it reads the answers to alpaca_eval",
        ),
        ({"run": {"suites": ["alpaca_eval"]}}, "compare T", "compare is left out: it reads the answers to mt_bench"),
        ({"run": {"suites": ["alpaca_eval"]}}, "analyze keywords-T", "analyze keywords is left out"),
        (
            {"dgms": {"B": {"answers": "b.jsonl"}}, "blends": [], "sizes": [2], "run": {"bases": False}},
            "compare T",
            "compare T is left out: it is between two models",
        ),
        (
            {"dgms": {"B": {"answers": "b.jsonl"}}, "blends": [], "sizes": [2], "run": {"bases": False}},
            "analyze similarity",
            "analyze similarity is left out: it is between two models",
        ),
    ],
)
def test_what_could_never_be_done_is_left_out_and_told(tmp_path, changes, gone, note):
    outcome = plan_only(toy_study(tmp_path, **changes), tmp_path / "results")
    assert gone not in {cell.stage.name for cell in outcome.cells}
    assert any(note in told for told in outcome.notes)
    assert not [told for told in plan_only(toy_study(tmp_path), tmp_path / "results").notes if "left out" in told]


def test_the_number_of_questions_follows_suites_and_limit(tmp_path):
    full = toy_study(tmp_path, run={"data": "full", "suites": ["mt_bench", "openllm:ifeval,musr"]}).run
    assert n_items(full) == 160 + 541 + 756
    assert n_items(toy_study(tmp_path, run={"suites": ["mt_bench", "openllm:musr"], "limit": 5}).run) == 10 + 15


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
    assert any("how many conversations nobody/chats holds is not known" in note for note in document["notes"])


def test_a_plan_fetches_no_suite_whose_prompts_are_asked(tmp_path, monkeypatch):
    def forbidden(_word):
        raise AssertionError("the suite was opened")

    monkeypatch.setattr("evalsuite.conversations.source._suite", forbidden)
    monkeypatch.setattr(
        "evalsuite.assets.list_assets", lambda _words: [{"state": "found: wheel"}, {"state": "missing"}]
    )
    outcome = plan_only(toy_study(tmp_path, generate={"prompts": "alpaca_eval"}), tmp_path / "results")
    assert any("alpaca_eval is not here yet" in note for note in outcome.notes)


@pytest.mark.parametrize(("file", "name"), [("prompts.jsonl", "A"), ("b.jsonl", "B")])
def test_a_source_that_is_too_small_is_refused_before_anything_starts(tmp_path, file, name):
    study = toy_study(tmp_path, generate={"prompts": "prompts.jsonl"})
    (tmp_path / file).write_text(chats(3, "Yes" if name == "B" else None))
    for begin in (plan_only, run_study):
        with pytest.raises(UsageError, match=rf"{file} gives 3 conversations, and the mixes need 4 of {name}"):
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
    # The DGMs may give fewer; what is said of them does not hold for what is added.
    study = toy_study(tmp_path, mix={"add": [{"name": "more", **source}], "allow_fewer": True})
    (tmp_path / "few.jsonl").write_text(chats(3, "Yes"))
    if not short:
        assert plan_only(study, tmp_path / "results").counted("to do")
        return
    words = "few.jsonl gives 3 conversations, and mix.add takes 4 of it; give more, lower its count, or set its"
    with pytest.raises(UsageError, match=words):
        plan_only(study, tmp_path / "results")


def test_a_measured_speed_goes_before_a_stated_one(tmp_path):
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
def test_a_damaged_record_of_an_earlier_run_is_passed_over(tmp_path, damage):
    whole = {"model": {"fingerprint": "f"}, "seconds": {"serve": 30.0, "generate": 20.0}, "server_restarts": 0}
    whole |= {"usage": {"candidate": {"completion_tokens": 1000}}}
    write_json(tmp_path / "a-1" / "manifest.json", whole)
    write_json(tmp_path / "b-1" / "manifest.json", whole | damage)
    write_json(tmp_path / "studies" / "s" / "sft" / "k" / "T" / "training.json", {"tokens_per_second": [1]})
    speeds = recorded_speeds(tmp_path)
    assert speeds.answering == {"f": 50.0}
    assert speeds.start_s in (30.0, 15.5)  # a record whose start alone is whole still tells it
    assert speeds.training == {}


def test_draws_of_two_models_are_of_the_same_prompts(tmp_path):
    rows = [(f"Question {number}?", f"Answer {number}.") for number in range(40)]

    def write(name, rows):
        turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in rows]
        (tmp_path / name).write_text("\n".join(json.dumps({"messages": chat}) for chat in turns))
        drawn = draw_answers(str(tmp_path / name), tmp_path / "out" / name, 6, Silence())
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
