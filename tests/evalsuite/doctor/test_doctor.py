"""Every check of the doctor with a fault that it must find, and the whole on a healthy model."""

from __future__ import annotations

import json
import sqlite3

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from evalsuite.assets.asset import Pin
from evalsuite.checkpoint import resolve
from evalsuite.cli import app
from evalsuite.config import read_config
from evalsuite.doctor import capacity, examination, installation, results_folder
from evalsuite.doctor import suites as suite_checks
from evalsuite.doctor.capacity import (
    check_context,
    check_device_memory,
    check_disk,
    check_long_rope,
    check_quantised_dtype,
)
from evalsuite.doctor.chat_template import check_template
from evalsuite.doctor.installation import check_vllm
from evalsuite.doctor.results_folder import check_results
from evalsuite.doctor.suites import check_data, check_packages, check_scorers, package_of
from evalsuite.errors import DataError, UsageError
from evalsuite.files import file_system
from evalsuite.runs.runner import run
from evalsuite.serving.chat_format import load_chat_format
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.device import Device
from evalsuite.store import Store
from evalsuite.suites.base import Suite
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.registry import SuiteSpec, suites
from evalsuite.suites.types import Loaded
from tests.evalsuite.serving.test_server_faults import healthy
from tests.evalsuite.stub_endpoint import StubEndpoint
from tests.evalsuite.tiny_checkpoint import TEMPLATE, write_checkpoint


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))


def checkpoint(tmp_path, template=TEMPLATE, *, generation=None, **config):
    folder = write_checkpoint(tmp_path / "ckpt", template=template)
    if config:
        own = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(own | config))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return resolve(str(folder))


def worst(findings):
    return max((finding.level for finding in findings), key=["ok", "warning", "fault"].index)


def text_of(findings):
    return " ".join(finding.sentence for finding in findings)


@pytest.mark.parametrize(
    ("template", "role", "level", "expected"),
    [
        (TEMPLATE, "candidate", "ok", "chat template OK"),
        (None, "candidate", "fault", "no chat template"),
        ("<|im_start|>" + TEMPLATE, "candidate", "fault", "BOS token <|im_start|> twice"),
        (TEMPLATE.replace("if add_generation_prompt", "if true"), "candidate", "warning", "does not open"),
        ("{{ raise_exception('no') }}", "candidate", "fault", "chat template failed"),
        ("hello", "candidate", "fault", "omits user messages"),
        (TEMPLATE.replace("<|im_end|>", ""), "candidate", "warning", "without a control token"),
        ("{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE,
         "judge", "warning", "takes no system message"),
        (TEMPLATE.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}"), "judge",
         "fault", "drops system messages"),
        (TEMPLATE.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}"), "candidate",
         "warning", "drops system messages"),
    ],
)  # fmt: skip
def test_a_template_is_tried(tmp_path, template, role, level, expected):
    findings = check_template(checkpoint(tmp_path, template), None, role, needs_chat=True)
    assert (worst(findings), expected in text_of(findings)) == (level, True), text_of(findings)


def test_a_model_without_template_may_run_what_needs_none(tmp_path):
    assert worst(check_template(checkpoint(tmp_path, None), None, "candidate", needs_chat=False)) == "warning"


def test_a_turn_must_end_with_a_token_that_the_server_stops_at(tmp_path):
    folder = write_checkpoint(tmp_path / "ckpt")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": "<|im_start|>"}))
    found = check_template(resolve(str(folder)), None, "candidate", needs_chat=True)
    assert worst(found) == "warning"
    assert "<|im_end|>, which ends its turns, is not a stop token" in text_of(found)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "text_config": {"eos_token_id": 1}}))
    assert worst(check_template(resolve(str(folder)), None, "candidate", needs_chat=True)) == "ok"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 1]}))
    assert worst(check_template(resolve(str(folder)), None, "candidate", needs_chat=True)) == "ok"


def test_a_turn_may_end_where_the_next_one_begins(tmp_path):
    """As GLM's: an answer ends at <|user|>, which generation_config.json names."""
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    folder = write_checkpoint(tmp_path / "ckpt", template=template)
    found = check_template(resolve(str(folder)), None, "candidate", needs_chat=True)
    assert "ends the assistant's turn without a control token" in text_of(found)
    start = load_chat_format(resolve(str(folder))).tokenizer.convert_tokens_to_ids("<|im_start|>")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [start]}))
    assert worst(check_template(resolve(str(folder)), None, "candidate", needs_chat=True)) == "ok"


def context_finding(model, suite, role="candidate", data="full", length=None):
    return check_context(model, ServeConfig(max_model_len=length), [SuiteSpec(name=suite)], role, data)


def test_a_short_context_is_named_with_the_suites_that_need_more(tmp_path):
    model = checkpoint(tmp_path)
    specs = [SuiteSpec(name="mt_bench"), SuiteSpec(name="mixeval")]
    short = check_context(model, ServeConfig(), specs, "candidate", "full")
    assert short.level == "warning"
    assert "mt_bench (3,072)" in short.message
    assert context_finding(model, "mt_bench", data="mini").level == "ok"
    assert context_finding(model, "mt_bench", "judge", length=8192).level == "ok"


@pytest.mark.parametrize(
    ("suite", "role", "tokens"),
    [
        ("mt_bench", "candidate", 2 * 1024 + 1024),  # two answers, and two questions
        ("alpaca_eval", "candidate", 2048 + 512),  # one answer, and the instruction
        ("mixeval", "candidate", 512 + 3072),  # one answer behind a passage
        ("openllm", "candidate", 4096),  # few-shot prompts
        ("mt_bench", "judge", 2 * 1024 + 2048 + 2048),  # both answers, questions with references, and a judgment
        ("alpaca_eval", "judge", 2 * 2048 + 2048),  # two answers, and the prompt
        ("mixeval", "judge", 999 + 1049),  # a judgment, and the question with one answer
    ],
)
def test_a_context_of_one_token_less_than_the_protocol_needs_is_a_warning(tmp_path, suite, role, tokens):
    model = checkpoint(tmp_path, max_position_embeddings=32768)
    levels = [context_finding(model, suite, role, length=length).level for length in (tokens - 1, tokens)]
    assert levels == ["warning", "ok"]


@pytest.mark.parametrize(
    ("length", "level", "said"),
    [
        (None, "ok", "it supports 131,072 tokens, but with a context of more than 4,096 vLLM scales"),
        (4096, "ok", "it supports 131,072 tokens"),
        (8192, "warning", "which changes their answers; pass --max-model-len 4096"),
    ],
)
def test_a_long_context_that_changes_short_prompts_is_told(tmp_path, length, level, said):
    rope = {"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 4096}
    found = check_long_rope(
        checkpoint(tmp_path, max_position_embeddings=131072, **rope), ServeConfig(max_model_len=length)
    )
    assert worst(found) == level
    assert said in text_of(found)
    assert not check_long_rope(checkpoint(tmp_path), ServeConfig(max_model_len=1024))


INT8 = {"num_bits": 8, "type": "int"}
SHAPE = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}


@pytest.mark.parametrize(
    ("config", "dtype", "warns"),
    [
        ({"quant_method": "gptq", "bits": 4}, "float32", True),
        ({"quant_method": "gptq", "bits": 4}, "auto", False),
        ({"quant_method": "compressed-tensors", "config_groups": {"0": {"weights": INT8}}}, "float32", True),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"0": {"weights": INT8, "input_activations": INT8}},
            },
            "float32",
            False,
        ),
        (None, "float32", False),
    ],
)
def test_quantised_weights_in_float32_are_a_warning(tmp_path, config, dtype, warns):
    model, cpu = checkpoint(tmp_path, quantization_config=config), Device("cpu", "0")
    found = check_quantised_dtype(model, ServeConfig(dtype=dtype), cpu)
    assert [(one.level, "pass --dtype float16" in one.sentence) for one in found] == [("warning", True)] * warns
    assert ("(gptq 4-bit)" in check_device_memory(model, ServeConfig(), cpu).message) is (
        config is not None and config["quant_method"] == "gptq"
    )


def test_memory_is_weights_and_a_few_contexts(tmp_path, monkeypatch):
    model = checkpoint(tmp_path, **SHAPE, max_position_embeddings=32768)
    monkeypatch.setattr(capacity, "served_bytes", lambda *_: 16 << 30)
    options = ServeConfig(dtype="bfloat16")
    levels = {}
    for gib in (16, 24, 80):
        monkeypatch.setattr(capacity, "gpu_memory", lambda gib=gib: [gib << 30])
        levels[gib] = check_device_memory(model, options, Device("cuda", "0")).level
    assert levels == {16: "fault", 24: "warning", 80: "ok"}
    assert (
        "2 GPUs requested"
        in check_device_memory(model, ServeConfig(tensor_parallel_size=2), Device("cuda", "0")).message
    )


def test_a_full_disk_and_a_damaged_store_are_faults(tmp_path, monkeypatch):
    with Store(tmp_path / "store.sqlite") as store:
        for i in range(2000):
            store.put(f"{i:064d}", {"text": "x" * 50})
    (healthy_store,) = [f for f in check_results(tmp_path, thorough=True) if f.check == "store"]
    assert (healthy_store.level, "2,000 answers" in healthy_store.message) == ("ok", True)
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    data = bytearray(path.read_bytes())
    data[8192:20480] = b"\xff" * 12288
    path.write_bytes(data)
    assert worst(check_results(tmp_path, thorough=False)) == "fault"
    monkeypatch.setattr(capacity, "_MIN_FREE", 1 << 62)
    assert check_disk(tmp_path).level == "fault"


def test_a_results_folder_that_is_a_file_is_a_fault(tmp_path):
    (tmp_path / "file").write_text("")
    assert worst(check_results(tmp_path / "file" / "results", thorough=True)) == "fault"
    assert worst(check_results(tmp_path / "new" / "results", thorough=True)) == "ok"
    assert not (tmp_path / "new").exists(), "looking makes nothing"


def test_a_network_file_system_is_a_fault(tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\ntmpfs {tmp_path}/local tmpfs rw 0 0\n")
    assert file_system(tmp_path / "results", mounts) == "nfs4"
    assert file_system(tmp_path / "local" / "results", mounts) == "tmpfs"
    monkeypatch.setattr(results_folder, "file_system", lambda _: "nfs4")
    findings = check_results(tmp_path, thorough=True)
    assert "--store" in text_of(findings)
    assert worst(findings) == "fault"


def with_suite(monkeypatch, suite):
    """Put a suite of somebody else's package into the registry, and return its spec."""
    monkeypatch.setattr("evalsuite.suites.registry.suites", lambda: {**suites(), suite.name: suite})
    return SuiteSpec(name=suite.name)


class Toy(Suite):
    name, title = "toy", "Toy"
    answer_context = 2_000

    def load(self, options):
        return Loaded([], {"toy/items": Pin("a" * 64, "hub", pinned=True)})


@pytest.mark.parametrize("name", ["mt_bench", "alpaca_eval", "mixeval"])
def test_the_own_scorers_work(name):
    assert [finding.level for finding in check_scorers({SuiteSpec(name=name): SuiteOptions()})] == ["ok"]


def test_a_scorer_that_is_wrong_or_broken_is_a_fault(monkeypatch):
    monkeypatch.setattr(type(suites()["mixeval"]), "self_check", lambda *_: "0.1 for a sample worth 0.8")
    monkeypatch.setattr(type(suites()["mt_bench"]), "self_check", lambda *_: 1 / 0)
    broken, wrong = check_scorers({SuiteSpec(name=name): SuiteOptions() for name in ("mt_bench", "mixeval")})
    assert (broken.level, wrong.level) == ("fault", "fault")
    assert "ZeroDivisionError: division by zero" in broken.message
    assert "0.1 for a sample worth 0.8" in wrong.message
    assert "install evalsuite again" in broken.remedy


def test_a_fault_in_a_suite_of_another_package_names_the_package(monkeypatch):
    class Broken(Toy):
        def load(self, options):
            raise ValueError("items.json is empty\nmore")

        def self_check(self, parts):
            raise LookupError("no grammar")

    spec = with_suite(monkeypatch, Broken())
    (data,) = check_data({spec: SuiteOptions()})
    (scorer,) = check_scorers({spec: SuiteOptions()})
    assert (data.level, scorer.level) == ("fault", "fault")
    assert data.sentence == (
        "toy: its data cannot be loaded (ValueError: items.json is empty); fix or update the package tests, or leave "
        "the suite out of --suite"
    )
    assert "LookupError: no grammar" in scorer.message
    assert package_of(suites()["mt_bench"]) is None


def test_suites_that_cannot_be_used_are_warnings(monkeypatch):
    sentence = "suite 'toy' of the package toys raises ImportError; fix or uninstall toys"
    monkeypatch.setattr(suite_checks, "broken_suites", lambda: [sentence])
    (finding,) = check_packages()
    assert (finding.level, finding.message) == ("warning", sentence)


def test_missing_and_changed_data_are_told_apart(monkeypatch):
    class Whole(Toy):
        name, whole, parts = "openllm", True, ("ifeval", "gpqa", "math")
        assets = suites()["openllm"].assets
        absent = ("gpqa",)
        pinned = True

        def data_pins(self, options):
            pin = Pin("a" * 64, "hub", self.pinned)
            return {f"openllm/{part}": pin for part in self.parts if part not in self.absent}

        def absent_data(self, options):
            return dict.fromkeys(self.absent, "not on this machine")

    suite = Whole()
    spec = with_suite(monkeypatch, suite)

    def levels():
        return [finding.level for finding in check_data({spec: SuiteOptions()})]

    assert levels() == ["warning", "ok"], "the authors of GPQA give access on request"
    suite.absent = ("math",)
    assert levels() == ["fault", "ok"]
    suite.absent = suite.parts
    assert levels() == ["fault"] * 3
    suite.absent, suite.pinned = (), False
    (finding,) = check_data({spec: SuiteOptions()})
    assert finding.level == "warning"
    assert "openllm/ifeval" in finding.message


def test_data_that_are_not_available_are_a_fault(monkeypatch):
    class Absent(Toy):
        def load(self, options):
            raise DataError("toy/items not found; run 'evalsuite data pull toy'")

    (finding,) = check_data({with_suite(monkeypatch, Absent()): SuiteOptions()})
    assert (finding.level, finding.message) == ("fault", "toy/items not found; run 'evalsuite data pull toy'")


def invoke(*arguments):
    return CliRunner().invoke(app, ["doctor", *arguments])


@pytest.mark.parametrize(("torch", "level"), [("2.13.0", "ok"), ("2.13.0+cpu", "ok"), ("2.12.1+cpu", "warning")])
def test_a_cpu_build_of_vllm_takes_any_build_of_its_torch(monkeypatch, torch, level):
    required = Requirement("torch==2.13.0+cpu")
    monkeypatch.setattr(installation, "installed_vllm", lambda: Device("cpu", "0.32.0"))
    monkeypatch.setattr(installation, "_requirements", lambda _: iter([required]))
    monkeypatch.setattr(installation.metadata, "version", lambda _: torch)
    monkeypatch.setattr(installation, "gpu_names", list)
    monkeypatch.setattr(installation, "_import_fault", str)
    assert worst(check_vllm()[1]) == level


def test_the_command_prints_findings_and_exits_by_faults(tmp_path, monkeypatch):
    monkeypatch.setattr(examination, "check_vllm", lambda **_: (Device("cpu", "0"), []))
    model = str(write_checkpoint(tmp_path / "ckpt"))
    base = ["--suite", "mt_bench", "--data", "mini", "--results", str(tmp_path / "results")]
    with StubEndpoint(healthy, model="judge") as stub:
        good = invoke(model, "--judge", f"judge@{stub.url}", *base, "--json")
        bad = invoke(model, "--judge", f"judgge@{stub.url}", *base)
    away = invoke(model, "--judge", f"judge@{stub.url}", *base)
    document = json.loads(good.stdout)
    assert (good.exit_code, document["faults"]) == (0, 0), document
    assert {"template", "context", "memory", "server", "data", "scorer", "disk", "versions"} <= {
        finding["check"] for finding in document["findings"]
    }
    assert bad.exit_code == away.exit_code == 2
    assert "did you mean 'judge'" in " ".join(bad.stdout.split())
    assert "no response from" in " ".join(away.stdout.split())
    assert not (tmp_path / "results").exists()


def test_a_run_stops_at_a_fault_before_any_server_starts(tmp_path, monkeypatch):
    def no_server(*_):
        raise AssertionError("a server was started")

    monkeypatch.setattr("evalsuite.serving.session.Server", no_server)
    folder = write_checkpoint(tmp_path / "ckpt", template="<|im_start|>" + TEMPLATE)
    values = {"models": [str(folder)], "suites": ["mixeval"], "data": "mini", "results": tmp_path / "results"}
    with pytest.raises(UsageError, match=r"BOS token <\|im_start\|> twice"):
        run(read_config(values))


def test_a_run_that_is_all_stored_is_not_examined_again(tmp_path, monkeypatch):
    with StubEndpoint(healthy) as stub:
        word = f"stub@{stub.url}"
        config = read_config(
            {"models": [word], "judge": word, "suites": ["mt_bench"], "data": "mini", "results": tmp_path / "results"}
        )
        run(config)

        def never(*_):
            raise AssertionError("examined")

        monkeypatch.setattr("evalsuite.runs.runner.preflight", never)
        run(config)
