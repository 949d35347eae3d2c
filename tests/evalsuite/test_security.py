"""What SECURITY.md promises, each promise tried with something that would break it."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pickle
import socket
import stat
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import yaml
from jinja2 import UndefinedError
from typer.testing import CliRunner

from evalsuite.assets import wheels
from evalsuite.checkpoint import remote_code, resolve
from evalsuite.cli import app
from evalsuite.config import read_config
from evalsuite.errors import CheckpointError, DataError, UsageError
from evalsuite.serving import server as server_module
from evalsuite.serving.chat_format import load_chat_format
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.device import Device
from evalsuite.serving.server import Server
from evalsuite.validation import _strict_loader
from judges.templates import JudgeTemplate
from judges.types import Message
from tests.evalsuite.tiny_checkpoint import write_checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def invoke(*words):
    return CliRunner().invoke(app, list(words))


class Payload:
    """What a hostile pickle does: it runs as soon as it is loaded."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A checkpoint with pickles in every place where one is usual, and the file that any of them would write."""
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))
    target = tmp_path / "written"
    folder = write_checkpoint(tmp_path / "ckpt")
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt"):
        (folder / name).write_bytes(pickle.dumps(Payload(target)))
    return folder, target


def test_a_pickle_is_never_loaded_unasked(planted):
    folder, target = planted
    checkpoint = resolve(str(folder))
    load_chat_format(checkpoint)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="--allow-pickle"):
        resolve(str(folder))
    for command in ("run", "doctor"):
        result = invoke(command, str(folder), "--suite", "mt_bench", "--data", "mini", "--results", str(folder / "r"))
        assert result.exit_code == 2
        assert "--allow-pickle" in result.output
    assert resolve(str(folder), allow_pickle=True).fingerprint, "even then, only the server loads it"
    assert not target.exists()
    pickle.loads((folder / "pytorch_model.bin").read_bytes()).close()
    assert target.exists(), "the payload itself works"


def test_a_pickled_adapter_is_refused(tmp_path, planted):
    base, target = planted
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Payload(target)))
    with pytest.raises(CheckpointError, match="contains a pickled adapter"):
        resolve(str(adapter))
    assert not target.exists()


@pytest.fixture
def with_code(tmp_path, monkeypatch):
    """A checkpoint that brings code for its config, model and tokenizer."""
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))
    folder = write_checkpoint(tmp_path / "ckpt")
    target = tmp_path / "written"
    (folder / "modeling.py").write_text(f"open({str(target)!r}, 'w')\nclass Config: pass\nclass Tokenizer: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "modeling.Config", "AutoModelForCausalLM": "modeling.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["modeling.Tokenizer", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder, target


def command_of(checkpoint, tmp_path, monkeypatch, kind="cpu", serve=None):
    monkeypatch.setattr(server_module, "installed_vllm", lambda: Device(kind, "0"))
    made = []
    original = server_module._command

    def keep(server, checkpoint, options):
        made.extend(original(server, checkpoint, options))
        return [sys.executable, "-c", "pass"]

    with monkeypatch.context() as patched:
        patched.setattr(server_module, "_command", keep)
        Server(checkpoint, serve or ServeConfig(), tmp_path / "log").stop()
    return made


def test_a_checkpoints_code_runs_only_when_asked(with_code, tmp_path, monkeypatch):
    folder, target = with_code
    plain = resolve(str(folder))
    load_chat_format(plain)
    assert remote_code(plain) == ["modeling.Config", "modeling.Model", "modeling.Tokenizer"]
    assert "--trust-remote-code" not in command_of(plain, tmp_path, monkeypatch)
    trusted = resolve(str(folder), trust_remote_code=True)
    assert "--trust-remote-code" in command_of(trusted, tmp_path, monkeypatch)
    before = trusted.fingerprint
    (folder / "modeling.py").write_text("# other code")
    assert resolve(str(folder), trust_remote_code=True).fingerprint != before, "trusted code is part of the model"
    assert not target.exists()


def test_a_tokenizer_that_needs_code_is_refused_in_one_sentence(with_code):
    folder, target = with_code
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    with pytest.raises(CheckpointError, match="cannot load the tokenizer"):
        load_chat_format(resolve(str(folder)))
    assert not target.exists()


def test_trust_is_one_switch_and_stands_in_the_configuration():
    assert not read_config({"models": ["m"]}).serve.runs_remote_code
    assert read_config({"models": ["m"], "trust_remote_code": True}).serve.runs_remote_code
    assert read_config({"models": ["m"], "vllm_args": ["trust-remote-code=true"]}).serve.runs_remote_code
    # The judge may be trusted by itself.
    judged = read_config({"models": ["m"], "judge_trust_remote_code": True})
    assert (judged.serve.runs_remote_code, judged.judge_serving.runs_remote_code) == (False, True)


def test_the_server_listens_on_loopback_under_a_key_that_other_users_cannot_see(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_planted_token")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-key")
    monkeypatch.setattr(server_module, "installed_vllm", lambda: Device("cpu", "0"))
    checkpoint = resolve(str(write_checkpoint(tmp_path / "ckpt")))
    words = command_of(checkpoint, tmp_path, monkeypatch)
    assert dict(pairwise(words))["--host"] == "127.0.0.1"
    monkeypatch.setattr(server_module, "_command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    with (
        Server(checkpoint, ServeConfig(), tmp_path / "log") as server,
        Server(checkpoint, ServeConfig(), tmp_path / "log2") as other,
    ):
        assert server.api_key != other.api_key
        guard = psutil.Process(server._guarded.process.pid)
        served: list[psutil.Process] = []
        while not served:
            # A process that is about to become another program, or to end, has no environment for a moment.
            with contextlib.suppress(psutil.NoSuchProcess):
                served = [
                    one
                    for one in guard.children()
                    if one.environ() and one.cmdline()[-1] == "import time; time.sleep(60)"
                ]
        processes = [guard, *served]
        for process in processes:
            assert server.api_key not in " ".join(process.cmdline())
            environment = process.environ()
            assert environment["VLLM_API_KEY"] == server.api_key
            assert not {"HF_TOKEN", "OPENAI_API_KEY"} & set(environment)
            mode = Path(f"/proc/{process.pid}/environ").stat().st_mode
            assert not mode & (stat.S_IRGRP | stat.S_IROTH)
        # A core dump would hold the key.
        assert served[0].rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert len(server.api_key) >= 32


@pytest.mark.parametrize("name", ["api_key", "api-key", "hf_token", "HF-token"])
def test_a_key_on_the_servers_command_line_is_refused_without_repeating_it(name):
    with pytest.raises(UsageError, match="to every user") as error:
        read_config({"models": ["m"], "vllm_args": [f"{name}=planted"]})
    assert "planted" not in str(error.value)


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ joiner.__init__.__globals__['os'].popen('id').read() }}",
    "{% include '/etc/passwd' %}",
    "{% import '../../../etc/passwd' as x %}{{ x }}",
    "{% for i in range(10**9) %}x{% endfor %}",
    "{{ messages.clear() }}",
    "{{ messages[0].update(x=1) }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_a_chat_template_cannot_leave_the_sandbox(tmp_path, monkeypatch, source):
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))
    checkpoint = resolve(str(write_checkpoint(tmp_path / "ckpt", template=source)))
    for messages in ([Message("user", "hi")], [Message("system", "be"), Message("user", "hi")]):
        with pytest.raises(CheckpointError, match="chat template failed"):
            load_chat_format(checkpoint).render(messages)


@pytest.mark.parametrize("source", [escape.replace("messages", "answers_a") for escape in ESCAPES[:7]])
def test_a_judge_template_cannot_leave_the_sandbox(source):
    with pytest.raises(ValueError, match="judge template"):
        JudgeTemplate(source).messages(answers_a=["x"])


@pytest.mark.parametrize(
    "expression",
    [
        "nonce * 9**9",
        "9**9**9",
        "[nonce] * 999999999",
        "'%999999999d' % 1",
        "nonce.ljust(999999999)",
        "nonce['zfill'](999999999)",
        "'{:999999999}'.format(1)",
        "nonce|center(999999999)",
        "'%999999999d'|format(1)",
        "nonce|indent(999999999)",
        "[1]|batch(999999999, 'x')|list",
        "lipsum(999999999)",
    ],
)
def test_a_judge_template_cannot_ask_for_all_memory_in_one_expression(expression):
    with pytest.raises((ValueError, UndefinedError)):
        JudgeTemplate("{{ " + expression + " }}").messages(nonce="x")


def test_arithmetic_and_the_usual_filters_stand_in_a_judge_template():
    (message,) = JudgeTemplate("{{ (n * 3) % 4 }} {{ words|join(', ')|upper }} {{ words|length }}").messages(
        n=2, words=["a", "b"]
    )
    assert message.content == "2 A, B 2"


def test_what_is_judged_is_never_rendered():
    (message,) = JudgeTemplate("{{ answer }}").messages(answer="{{ 7 * 7 }}{% include '/etc/passwd' %}")
    assert message.content == "{{ 7 * 7 }}{% include '/etc/passwd' %}"


@pytest.mark.parametrize("member", ["../../evil", "/evil", "a/../../../evil", "..\\evil"])
def test_a_wheel_cannot_write_outside_its_folder(tmp_path, member):
    archive = tmp_path / "planted.whl"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("data/good", "1")
        zipped.writestr(member, "evil")
    with pytest.raises(DataError, match="do not trust"):
        wheels.extract(archive, ["data/", member], tmp_path / "a" / "b" / "out")
    assert not list(tmp_path.rglob("evil"))


def test_a_link_in_a_wheel_becomes_an_ordinary_file(tmp_path):
    archive = tmp_path / "planted.whl"
    link = zipfile.ZipInfo("data/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(link, "/etc/passwd")
        zipped.writestr("data/link/below", "evil")
    with pytest.raises((DataError, OSError)):
        wheels.extract(archive, ["data/"], tmp_path / "out")
    assert not (tmp_path / "out" / "data" / "link").is_symlink()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(link, "/etc/passwd")
    wheels.extract(archive, ["data/"], tmp_path / "out2")
    assert (tmp_path / "out2" / "data" / "link").read_text() == "/etc/passwd"
    assert not (tmp_path / "out2" / "data" / "link").is_symlink()


def calls():
    for package in ("evalsuite", "judges"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield path.relative_to(ROOT), ast.unparse(node.func), node


def test_nothing_in_the_source_unpickles_evaluates_or_opens_a_shell():
    forbidden = {"eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "yaml.load", "torch.load"}
    forbidden |= {
        "yaml.unsafe_load",
        "yaml.full_load",
        "joblib.load",
        "marshal.loads",
        "shelve.open",
        "jinja2.Template",
    }
    found = [f"{path}: {name}" for path, name, _ in calls() if name in forbidden]
    found += [
        f"{path}: shell=True"
        for path, _, node in calls()
        if any(word.arg == "shell" and getattr(word.value, "value", None) is True for word in node.keywords)
    ]
    # One reader refuses repeated keys, with a loader derived from the safe one.
    assert found == ["evalsuite/validation.py: yaml.load"]
    assert issubclass(_strict_loader(), yaml.SafeLoader)


def test_an_ordinary_user_cannot_read_the_lock_of_another(tmp_path):
    """The store and its marks are made with the user's own umask, and never made wider."""
    from evalsuite.store import Store

    before = os.umask(0o077)
    try:
        with Store(tmp_path / "store.sqlite"):
            modes = [entry.stat().st_mode for entry in tmp_path.iterdir()]
    finally:
        os.umask(before)
    assert not any(mode & 0o077 for mode in modes)


def test_nothing_listens_beyond_loopback(monkeypatch):
    bound = []
    original = socket.socket.bind

    def bind(self, address):
        bound.append(address)
        return original(self, address)

    monkeypatch.setattr(socket.socket, "bind", bind)
    server_module._free_port(ServeConfig())
    assert {address[0] for address in bound} == {"127.0.0.1"}
