"""Every check of the doctor with something that it must find, and the whole on a healthy model."""

from __future__ import annotations

import json
import sqlite3

import pytest
from typer.testing import CliRunner

from evalsuite.checkpoint import resolve
from evalsuite.cli import app
from evalsuite.config import read_config
from evalsuite.doctor import capacity as room
from evalsuite.doctor import examination, results_folder, scorers
from evalsuite.doctor.capacity import check_context, check_device_memory, check_disk, kv_bytes_per_token
from evalsuite.doctor.chat_template import check_template
from evalsuite.doctor.results_folder import check_results, file_system
from evalsuite.errors import UsageError
from evalsuite.runs.runner import run
from evalsuite.serving.device import Device
from evalsuite.serving.server import ServeOptions
from evalsuite.store import Store
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


def words(findings):
    return " ".join(finding.sentence for finding in findings)


@pytest.mark.parametrize(
    ("template", "role", "level", "expected"),
    [
        (TEMPLATE, "candidate", "ok", "writes every turn"),
        (None, "candidate", "fault", "no chat template"),
        ("<|im_start|>" + TEMPLATE, "candidate", "fault", "BOS token <|im_start|> twice"),
        (TEMPLATE.replace("if add_generation_prompt", "if true"), "candidate", "warning", "does not open"),
        ("{{ raise_exception('no') }}", "candidate", "fault", "chat template failed"),
        ("hello", "candidate", "fault", "leaves the user's words out"),
        (TEMPLATE.replace("<|im_end|>", ""), "candidate", "warning", "without a control token"),
        ("{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE,
         "judge", "warning", "takes no system turn"),
        (TEMPLATE.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}"), "judge",
         "fault", "drops system texts"),
        (TEMPLATE.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}"), "candidate",
         "warning", "drops system texts"),
    ],
)  # fmt: skip
def test_a_template_is_tried(tmp_path, template, role, level, expected):
    findings = check_template(checkpoint(tmp_path, template), None, role, chats=True)
    assert (worst(findings), expected in words(findings)) == (level, True), words(findings)


def test_a_model_without_template_may_run_what_needs_none(tmp_path):
    assert worst(check_template(checkpoint(tmp_path, None), None, "candidate", chats=False)) == "warning"


def test_a_turn_must_end_with_a_token_that_the_server_stops_at(tmp_path):
    folder = write_checkpoint(tmp_path / "ckpt")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": "<|im_start|>"}))
    found = check_template(resolve(str(folder)), None, "candidate", chats=True)
    assert worst(found) == "warning"
    assert "<|im_end|> that ends its turns is no stop token" in words(found)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 1]}))
    assert worst(check_template(resolve(str(folder)), None, "candidate", chats=True)) == "ok"


def test_a_short_context_is_named_with_the_suites_that_need_more(tmp_path):
    model = checkpoint(tmp_path)
    short = check_context(model, ServeOptions(), ["mt_bench", "mixeval"], "candidate", "full")
    assert short.level == "warning"
    assert "mt_bench 3,072" in short.words
    assert check_context(model, ServeOptions(), ["mt_bench"], "candidate", "mini").level == "ok"
    assert check_context(model, ServeOptions(max_model_len=8192), ["mt_bench"], "judge", "full").level == "ok"


SHAPE = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}


def test_memory_is_weights_and_a_few_contexts(tmp_path, monkeypatch):
    model = checkpoint(tmp_path, **SHAPE, max_position_embeddings=32768)
    # Llama-3-8B's shape: 2 (K and V) x 32 layers x 8 heads x 128 x 2 bytes.
    assert kv_bytes_per_token(model, ServeOptions(dtype="bfloat16"), Device("cuda", "0")) == 131_072
    monkeypatch.setattr(room, "served_bytes", lambda *_: 16 << 30)
    options = ServeOptions(dtype="bfloat16")
    levels = {}
    for gib in (16, 24, 80):
        monkeypatch.setattr(room, "gpu_memory", lambda gib=gib: [gib << 30])
        levels[gib] = check_device_memory(model, options, Device("cuda", "0")).level
    assert levels == {16: "fault", 24: "warning", 80: "ok"}
    assert (
        "2 GPUs are asked for"
        in check_device_memory(model, ServeOptions(tensor_parallel_size=2), Device("cuda", "0")).words
    )


def test_a_full_disk_and_a_damaged_store_are_faults(tmp_path, monkeypatch):
    with Store(tmp_path / "store.sqlite") as store:
        for i in range(2000):
            store.put(f"{i:064d}", {"text": "x" * 50})
    (healthy_store,) = [f for f in check_results(tmp_path, thorough=True) if f.check == "store"]
    assert (healthy_store.level, "2,000 answers" in healthy_store.words) == ("ok", True)
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    data = bytearray(path.read_bytes())
    data[8192:20480] = b"\xff" * 12288
    path.write_bytes(data)
    assert worst(check_results(tmp_path, thorough=False)) == "fault"
    monkeypatch.setattr(room, "_LEAST_FREE", 1 << 62)
    assert check_disk(tmp_path).level == "fault"


def test_a_results_folder_that_is_a_file_is_a_fault(tmp_path):
    (tmp_path / "file").write_text("")
    assert worst(check_results(tmp_path / "file" / "results", thorough=True)) == "fault"
    assert worst(check_results(tmp_path / "new" / "results", thorough=True)) == "ok"
    assert not (tmp_path / "new").exists(), "looking makes nothing"


def test_a_network_file_system_is_a_warning(tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\ntmpfs {tmp_path}/local tmpfs rw 0 0\n")
    assert file_system(tmp_path / "results", mounts) == "nfs4"
    assert file_system(tmp_path / "local" / "results", mounts) == "tmpfs"
    monkeypatch.setattr(results_folder, "file_system", lambda _: "nfs4")
    assert "network file system" in words(check_results(tmp_path, thorough=True))


def test_a_scorer_that_is_wrong_or_broken_is_a_fault(monkeypatch):
    suites = read_config({"models": ["m"], "suites": ["mt_bench", "mixeval"]}).suites
    assert worst(scorers.check_scorers(suites)) == "ok"

    def broken():
        raise LookupError("punkt_tab not found\nmore")

    monkeypatch.setattr(scorers, "_TRIALS", {"mt_bench": broken, "mixeval": lambda: "0.1 for a sample worth 0.8"})
    found = scorers.check_scorers(suites)
    assert [finding.level for finding in found] == ["fault", "fault"]
    assert "LookupError: punkt_tab not found" in found[0].words


def invoke(*words):
    return CliRunner().invoke(app, ["doctor", *words])


def test_the_command_prints_findings_and_exits_by_faults(tmp_path, monkeypatch):
    monkeypatch.setattr(examination, "check_vllm", lambda: (Device("cpu", "0"), []))
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
    assert "does not answer" in " ".join(away.stdout.split())
    assert not (tmp_path / "results").exists()


def test_a_run_stops_at_a_fault_before_any_server_starts(tmp_path, monkeypatch):
    def no_server(*_):
        raise AssertionError("a server was started")

    monkeypatch.setattr("evalsuite.serving.session.Server", no_server)
    folder = write_checkpoint(tmp_path / "ckpt", template="<|im_start|>" + TEMPLATE)
    values = {"models": [str(folder)], "suites": ["mt_bench"], "data": "mini", "results": tmp_path / "results"}
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
