"""Options exist once: the fields of a config are the command line, the keys of a file and the Python API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

import evalsuite
from evalsuite.cli import app
from evalsuite.commands.doctor import DoctorConfig
from evalsuite.comparison.settings import CardConfig, CompareConfig, RateConfig
from evalsuite.config import (
    Config,
    RunConfig,
    options_by_key,
    read_as,
    read_config,
    resolved_yaml,
)
from evalsuite.errors import DataError, UsageError
from evalsuite.fingerprint import file_sha256
from evalsuite.generation.settings import GenerateConfig
from evalsuite.results.variants import variant_settings
from evalsuite.serving.config import ServeConfig
from evalsuite.suites.registry import option_fields, suites
from tests.evalsuite.synthetic_results import write_synthetic

runner = CliRunner()

KINDS: dict[str, type[Config]] = {
    "run": RunConfig,
    "compare": CompareConfig,
    "rate": RateConfig,
    "judge-card": CardConfig,
    "generate": GenerateConfig,
}
UNITS_ONLY = {("generate", "chunks")}
"""Options that only a unit of work on a cluster is given, in a config file."""


def help_of(command: str) -> str:
    result = CliRunner(env={"COLUMNS": "400", "TERM": "dumb"}).invoke(app, [command, "--help"])
    assert result.exit_code == 0
    return " ".join(result.output.split())


def invoke(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.stderr


def written(path: Path, **values: object) -> Path:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.mark.parametrize("command", KINDS)
def test_every_field_is_an_option_with_its_docstring_as_help(command):
    text, options = help_of(command), options_by_key(KINDS[command])
    assert len(options) > 10
    for option in options.values():
        assert option.field.description, f"{option.key} has no docstring"
        if (command, option.key) in UNITS_ONLY:
            continue
        first = " ".join(option.field.description.split()).partition("{")[0][:30]
        assert first in text, option.key
        if option.hint("argument") is None:
            assert f"--{option.flag} " in text, option.key
    assert "--config" in text
    assert "--json" in text


def test_flags_that_are_true_by_default_can_be_turned_off():
    assert "--no-logprobs" in help_of("generate")
    assert "--no-fresh" not in help_of("generate")


def test_a_command_has_no_option_of_a_benchmark_that_it_does_not_run():
    own = {flag.replace("_", "-") for flag in option_fields()}
    assert own, "the suites have options of their own"
    for command, kind in KINDS.items():
        flags = {option.flag for option in options_by_key(kind).values()}
        assert (own <= flags) == (command == "run")
        assert not own & flags or command == "run"


def test_a_judge_is_served_as_the_models_but_for_what_is_set_for_it():
    config = read_config(
        {"models": ["m"], "dtype": "bfloat16", "vllm_args": ["quantization=fp8"], "judge_tensor_parallel_size": 4}
    )
    assert config.serve == ServeConfig(dtype="bfloat16", vllm_args=[("quantization", "fp8")])
    assert config.judge_serving == ServeConfig(
        dtype="bfloat16", vllm_args=[("quantization", "fp8")], tensor_parallel_size=4
    )
    # A chat template is one model's: the judge has its own.
    templated = read_config({"models": ["m"], "chat_template": "fastchat:vicuna_v1.1"})
    assert templated.judge_serving.chat_template is None
    assert read_config({"models": ["m"], "judge_chat_template": "j.jinja"}).judge_serving.chat_template == "j.jinja"


def test_the_same_settings_for_models_and_judges_ask_the_same():
    config = read_config({"models": ["m"], "max_model_len": 4096, "in_flight": 3, "allow_pickle": True})
    assert config.judge_serving.same_server(config.serve)
    assert config.judge_serving == config.serve
    other = read_config({"models": ["m"], "judge_max_model_len": 8192})
    assert not other.judge_serving.same_server(other.serve)


@pytest.mark.parametrize("command", ["run", "compare", "rate"])
def test_judges_have_every_serving_option(command):
    text = help_of(command)
    assert all(f"--judge-{name.replace('_', '-')} " in text for name in ServeConfig.model_fields if name != "vllm_args")
    assert "--judge-vllm-arg " in text


def test_vllm_options_are_read_alike_from_all_sources(tmp_path):
    expected = (("max_num_seqs", "4"), ("quantization", "fp8"))
    texts = ["max-num-seqs=4", "quantization=fp8"]
    assert ServeConfig(vllm_args=texts).vllm_args == expected
    assert ServeConfig(vllm_args={"max_num_seqs": 4, "quantization": "fp8"}).vllm_args == expected
    file = written(tmp_path / "c.yaml", models=["m"], vllm_args={"max_num_seqs": 4, "quantization": "fp8"})
    assert read_as(RunConfig, {}, file).serve.vllm_args == expected
    assert ServeConfig(vllm_args=texts).answer_args == {"quantization": "fp8"}


def test_options_of_the_command_line_win_over_the_file(tmp_path):
    file = written(tmp_path / "c.yaml", models=["a"], limit=3, dtype="float32", mixeval_parser="rule")
    config = read_as(RunConfig, {"limit": 7, "models": ["b"], "seed": None}, file)
    assert (config.limit, config.models, config.seed, config.serve.dtype) == (7, ("b",), 0, "float32")
    assert config.suite_options == {"mixeval_parser": "rule"}


def test_unknown_keys_are_named_with_the_nearest(tmp_path):
    file = written(tmp_path / "c.yaml", models=["a"], judge_dtpye="float32", mixeval_parsr="rule")
    with pytest.raises(UsageError) as caught:
        read_as(RunConfig, {}, file)
    assert str(file) in str(caught.value)
    assert "unknown key 'judge_dtpye'; did you mean 'judge_dtype'?" in str(caught.value)
    assert "unknown key 'mixeval_parsr'; did you mean 'mixeval_parser'?" in str(caught.value)
    with pytest.raises(UsageError, match="unknown key 'limitt'; did you mean 'limit'"):
        evalsuite.run("a", limitt=3)
    with pytest.raises(UsageError, match="unknown key 'metod'; did you mean 'method'"):
        evalsuite.compare("a", "b", judge="j", metod="verdict")


def test_a_fault_is_named_as_it_was_given(tmp_path):
    file = written(tmp_path / "c.yaml", models=["a"], limit=0, max_unscored=2)
    with pytest.raises(UsageError) as caught:
        read_as(RunConfig, {"max_unscored": 3, "judge_max_model_len": 1, "vllm_args": ["x"]}, file)
    message = str(caught.value)
    assert f"limit in {file} must be at least 1, not 0" in message
    assert "--max-unscored must be at most 1, not 3" in message
    assert "--judge-max-model-len must be at least 16, not 1" in message
    assert "--vllm-arg: 'x' is not key=value" in message
    assert "input" not in message.lower()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"suites": ["mtbench"]}, "unknown suite 'mtbench'; did you mean 'mt_bench'?"),
        ({"suites": ["mt_bench", "mt_bench"]}, "duplicate suite mt_bench"),
        ({"suites": [3]}, "is not a list of suites"),
        ({"base_url": "host:8000"}, "'host:8000' is not a URL; give one like http://host:8000/v1"),
        ({"mixeval_parser": "x"}, "--mixeval-parser must be 'judge' or 'rule', not 'x'"),
        ({"suite_options": {"mixeval_parsr": "x"}}, "unknown option 'mixeval_parsr'; did you mean 'mixeval_parser'?"),
        ({"vllm_args": ["api_key=planted"]}, "would show a key to every user of the machine"),
        ({"models": []}, "MODEL must be a list of at least 1"),
    ],
)
def test_wrong_values_are_one_sentence(values, sentence):
    with pytest.raises(UsageError) as caught:
        read_config({"models": ["m"], **values})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_model_is_named_on_the_command_line():
    assert invoke("run") == (2, "evalsuite: MODEL is missing\n")
    code, message = invoke("compare", "a", "b")
    assert (code, message) == (2, "evalsuite: --judge is missing\n")


def test_a_file_that_is_not_yaml_is_named(tmp_path):
    (tmp_path / "c.yaml").write_text("models: [a\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"the config .*c\.yaml is not YAML \(line 2\)"):
        read_as(RunConfig, {}, tmp_path / "c.yaml")
    (tmp_path / "d.yaml").write_text("seed: 1\nseed: 2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"\(line 2\): duplicate key 'seed'"):
        read_as(RunConfig, {}, tmp_path / "d.yaml")


def test_paths_in_a_file_are_relative_to_it(tmp_path):
    folder = tmp_path / "configs"
    (folder / "ckpt").mkdir(parents=True)
    (folder / "mt_bench").mkdir()
    (folder / "answers.jsonl").touch()
    file = written(
        folder / "c.yaml",
        models=["ckpt", "./gone", "org/name", "demo", "mine=answers.jsonl", "/abs", "served@http://host/v1"],
        judge="../judge",
        prompts="mt_bench",
        results="out",
        template="judge.jinja",
    )
    config = read_as(CompareConfig, {}, file)
    assert config.models == (
        str(folder / "ckpt"),
        str(folder / "gone"),
        "org/name",
        "demo",
        f"mine={folder / 'answers.jsonl'}",
        "/abs",
        "served@http://host/v1",
    )
    assert config.judge == (str(folder / "../judge"),)
    assert config.prompts == "mt_bench", "a suite's name is not a path"
    assert (config.results, config.template) == (folder / "out", folder / "judge.jinja")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (
            RunConfig,
            {
                "models": ["demo", "org/name"],
                "suites": ["openllm:ifeval,musr", "mixeval:hard"],
                "judge": "demo",
                "limit": 3,
                "vllm_args": ["quantization=fp8", "enforce_eager=true"],
                "judge_vllm_args": [],
                "judge_dtype": "float32",
                "mixeval_parser": "rule",
                "fewshot_as_multiturn": False,
                "label": "mine",
                "chat_template": "fastchat:vicuna_v1.1",
            },
        ),
        (CompareConfig, {"models": ["demo", "org/name"], "judge": ["demo", "org/judge"], "tie_margin": 0.1}),
        (RateConfig, {"models": ["demo"], "judge": "org/judge", "factors": "factuality,conciseness"}),
        (CardConfig, {"judge": "org/judge", "limit": 4, "tensor_parallel_size": 2}),
        (GenerateConfig, {"models": ["demo"], "prompts": "org/data", "out": "/o", "shard": "2/3", "logprobs": False}),
    ],
)
def test_a_resolved_file_gives_the_same_config(kind, values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read_as(kind, values)
    file = tmp_path / "elsewhere" / "config.yaml"
    file.parent.mkdir()
    file.write_text(resolved_yaml(config), encoding="utf-8")
    assert f"evalsuite {kind.command} --config" in file.read_text(encoding="utf-8")
    again = read_as(kind, {}, file)
    changed = {"results": Path("results").absolute()} if "results" in kind.model_fields else {}
    same = config.model_copy(update=changed)
    for name in kind.model_fields:
        if name not in ("suite_options", "judge_serve"):
            assert getattr(again, name) == getattr(same, name), name
    if isinstance(config, RunConfig):
        assert [again.suite_options_of(spec) for spec in again.suites] == [
            config.suite_options_of(spec) for spec in config.suites
        ]
    if "judge_serve" in kind.model_fields:
        assert again.judge_serving == config.judge_serving


def test_a_resolved_file_runs_from_anywhere_and_holds_no_secret(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "t.jinja").touch()
    config = read_config(
        {
            "models": ["ckpt"],
            "judge": "j@http://me:planted-secret@host/v1",
            "chat_template": "t.jinja",
            "base_url": "http://me:planted-secret@host/v1",
            "fresh": True,
        }
    )
    text = resolved_yaml(config)
    values = yaml.safe_load(text)
    assert values["models"] == [str(tmp_path / "ckpt")]
    assert values["chat_template"] == str(tmp_path / "t.jinja")
    assert values["results"] == str(tmp_path / "results")
    assert "planted-secret" not in text
    assert "fresh" not in values, "running it again must not set the figures aside"


def test_suites_have_their_own_options(tmp_path):
    config = read_config(
        {"models": ["m"], "suites": ["mixeval", "openllm"], "openllm_chat_template": False, "limit": 2, "seed": 5}
    )
    mixeval, openllm = (config.suite_options_of(spec) for spec in config.suites)
    assert (mixeval.limit, mixeval.seed, openllm.limit) == (2, 5, 2)
    assert "mixeval_parser" not in RunConfig.model_fields
    # Without a judge MixEval's answers are read by rule.
    flags = {flag: getattr(mixeval, name) for flag, (name, _) in option_fields().items() if hasattr(mixeval, name)}
    assert flags["mixeval_parser"] == "rule"


def test_a_variant_is_named_by_what_changes_answers_or_scores(tmp_path):
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages }}", encoding="utf-8")
    assert variant_settings(read_config({"models": ["m"], "limit": 3, "data": "mini", "in_flight": 2})) == {}
    assert variant_settings(read_config({"models": ["m"], "seed": 3})) == {"seed": "3"}
    settings = variant_settings(
        read_config(
            {
                "models": ["m"],
                "judge": "j",
                "suites": ["mixeval"],
                "chat_template": str(template),
                "dtype": "half",
                "max_model_len": 4096,
                "vllm_args": ["quantization=fp8", "port=8001"],
                "mixeval_parser": "rule",
                "as_published": True,
                "fewshot_as_multiturn": False,
                "judge_dtype": "float32",
            }
        )
    )
    assert settings == {
        "template": file_sha256(template)[:8],
        "dtype": "float16",
        "max_model_len": "4096",
        "quantization": "fp8",
        "as_published": "true",
        "mixeval_parser": "rule",
    }
    named = read_config({"models": ["m"], "suites": ["mt_bench"], "chat_template": "fastchat:vicuna_v1.1"})
    assert variant_settings(named) == {"template": "vicuna_v1.1"}
    with pytest.raises(UsageError, match="no chat template"):
        variant_settings(read_config({"models": ["m"], "chat_template": "gone.jinja"}))


def test_the_default_suites_are_those_that_say_so():
    expected = tuple(suite.name for suite in suites().values() if suite.in_default)
    assert tuple(spec.name for spec in read_config({"models": ["m"]}).suites) == expected
    assert read_config({"models": ["m"], "suites": []}).suites == read_config({"models": ["m"]}).suites


def test_the_demo_model_judges_itself():
    assert read_config({"models": ["demo"]}).judge_specs == ("demo",)
    assert read_config({"models": ["m"]}).judge_specs == ()
    assert DoctorConfig().judge_specs == ()


def test_doctor_takes_the_file_of_a_run(tmp_path):
    file = written(tmp_path / "c.yaml", models=["m"], suites=["mt_bench"], limit=3, seed=4, label="x", fresh=True)
    assert read_as(DoctorConfig, {}, file).models == ("m",)


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_an_option(flag):
    result = CliRunner().invoke(app, [flag])
    assert (result.exit_code, result.output) == (0, f"{evalsuite.__version__}\n")


def test_score_names_an_option_that_no_suite_has(tmp_path):
    (tmp_path / "model_judgment.jsonl").touch()
    with pytest.raises(UsageError, match="unknown option of mt_bench 'as_publishd'; did you mean 'as_published'"):
        evalsuite.score("mt_bench", tmp_path / "model_judgment.jsonl", as_publishd=True)
    (tmp_path / "ratings.csv").touch()
    with pytest.raises(UsageError, match="unknown option of preferences 'linage'; did you mean 'lineage'"):
        evalsuite.score("preferences", tmp_path / "ratings.csv", linage="x")


def test_a_file_takes_the_names_of_flags_and_of_switches(tmp_path):
    """Paths are relative to the file."""
    write_synthetic(tmp_path / "sub", 1, 2)
    file = tmp_path / "report.yaml"
    file.write_text("results: ./sub\nout: ./sub/page.html\njson: true\n")
    done = runner.invoke(app, ["report", "--config", str(file)])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["html"] == str(tmp_path / "sub/page.html")
    done = runner.invoke(app, ["report", "--config", str(file), "--out", str(tmp_path / "other.html")])
    assert json.loads(done.stdout)["html"] == str(tmp_path / "other.html")
    file.write_text("resluts: x\n")
    done = runner.invoke(app, ["report", "--config", str(file)])
    assert done.exit_code == 2
    assert "unknown key 'resluts'; did you mean 'results'?" in done.stderr
    file.write_text("results: ./sub\nout: ./sub/page.html\njson: null\n")
    assert invoke("report", "--config", str(file))[0] == 0
    file.write_text("results: ./sub\njson: maybe\n")
    assert invoke("report", "--config", str(file)) == (2, f"evalsuite: {file}: json must be true or false\n")


def test_an_extra_argument_is_named_and_not_what_a_file_gives(tmp_path):
    file = written(tmp_path / "m.yaml", out="o")
    assert "--out is missing" in invoke("mix", "r.yaml", "extra")[1]
    code, said = invoke("mix", "r.yaml", "extra", "--config", str(file))
    assert (code, "(extra)" in said, "--out" in said) == (2, True, False)


def test_an_option_of_a_file_may_have_its_flags_name_but_only_one(tmp_path):
    file = written(tmp_path / "c.yaml", models=["m"], suite=["mt_bench"], vllm_arg=["port=8001"])
    config = read_as(RunConfig, {}, file)
    assert ([spec.name for spec in config.suites], config.serve.vllm_args) == (["mt_bench"], (("port", "8001"),))
    written(file, models=["m"], suite=["mt_bench"], suites=["openllm"])
    with pytest.raises(UsageError, match="duplicate option suites"):
        read_as(RunConfig, {}, file)


def commands(command, name=""):
    for inner, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{name} {inner}".strip())
    if not hasattr(command, "commands"):
        yield name, command


def test_every_command_takes_a_config_file_and_every_option_has_a_help():
    named = dict(commands(get_command(app)))
    assert [name for name, one in named.items() if not any(p.name == "config" for p in one.params)] == ["version"]
    assert [f"{name} {p.name}" for name, one in named.items() for p in one.params if not p.help] == []
