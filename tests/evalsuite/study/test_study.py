"""The study file and its plan: faults, names, keys, projection."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.errors import DataError, UsageError
from evalsuite.progress import NoProgress
from evalsuite.study.file import read_study
from evalsuite.study.graph import key_of, trained_models
from evalsuite.study.identities import find_identities
from evalsuite.study.pages import draw_answers
from evalsuite.study.plan import plan_study
from evalsuite.study.run import plan_only
from evalsuite.study.stages import mix_recipe
from evalsuite.study.state import State, Task, Workspace
from tests.evalsuite.study_toys import DOCUMENT, toy_study, write_models, write_study
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


def test_a_mix_has_the_content_of_its_scores_in_its_key(tmp_path):
    more = {"name": "more", "data": "b.jsonl", "scores": "./scores.jsonl", "count": 1}
    found = []
    for rating, folder in ((1, "a"), (2, "a"), (2, "b")):
        (tmp_path / folder).mkdir(exist_ok=True)
        write_scores(tmp_path / folder, rating)
        found.append(key_of(planned(toy_study(tmp_path / folder, mix={"add": [more]}))["mix B-2"], {}))
    assert found[0] != found[1] == found[2]
    (tmp_path / "a" / "scores.jsonl").unlink()
    with pytest.raises(UsageError, match=r"no scores at .*scores\.jsonl"):
        planned(toy_study(tmp_path / "a", mix={"add": [more]}))


def write_scores(folder, rating=1):
    (folder / "scores.jsonl").write_text(json.dumps({"content_hash": "0" * 32, "rating": rating}) + "\n")


def test_a_missing_tokenizer_is_named_before_anything_starts(tmp_path):
    (tmp_path / "empty").mkdir()
    not_found = "tokenizer .*no' not found; set mix.tokenizer to a folder"
    for spec, message in (("./no", not_found), ("empty", "no tokenizer files")):
        with pytest.raises(UsageError, match=message):
            find_identities(toy_study(tmp_path, mix={"tokenizer": spec}), fetch=False)


def test_a_mix_finds_its_tokenizer_and_further_data_relative_to_the_file(tmp_path):
    more = {"name": "more", "data": "b.jsonl", "scores": "./scores.jsonl", "count": 1}
    write_scores(tmp_path)
    study = toy_study(tmp_path, mix={"tokenizer": "models/t", "add": [more]})
    workspace = Workspace(study, tmp_path / "results", State(tmp_path / "results"), NoProgress())
    recipe = mix_recipe(Task(planned(study)["mix B-2"], "k", {}), workspace)
    assert recipe["mix"]["tokenizer"] == str(tmp_path / "models" / "t")
    added = recipe["mix"]["sources"][1]
    assert (added["data"], added["scores"]) == (str(tmp_path / "b.jsonl"), str(tmp_path / "scores.jsonl"))


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
