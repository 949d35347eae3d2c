"""Adapters of one base are served by one engine, each asked by its own name."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import pairwise

import pyarrow.parquet as pq
import pytest

from evalsuite.checkpoint import resolve
from evalsuite.comparison.compare import compare
from evalsuite.comparison.settings import CompareConfig
from evalsuite.config import read_as
from evalsuite.errors import CheckpointError
from evalsuite.generation.run import generate
from evalsuite.generation.settings import GenerateConfig
from evalsuite.serving import server as server_module
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.device import Device
from evalsuite.serving.engine import Engine, engine_key
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.requests import Sampling
from evalsuite.serving.session import Session
from evalsuite.store import Store
from judges.types import Message
from tests.evalsuite.comparison_judges import judge, prefers, serving, word
from tests.evalsuite.generation_endpoint import write_chats
from tests.evalsuite.tiny_checkpoint import write_checkpoint, write_safetensors, write_tokenizer

ECHOES = """
import http.server, json, sys
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"data": [{"id": name} for name in sys.argv[2:]]})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.answer({"choices": [{"text": body["model"], "finish_reason": "stop"}], "usage": {}})
    def answer(self, reply):
        data = json.dumps(reply).encode()
        self.send_response(200); self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data))); self.end_headers(); self.wfile.write(data)
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
"""


@pytest.fixture
def adapters(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))
    for module in ("server", "session"):
        monkeypatch.setattr(f"evalsuite.serving.{module}.installed_vllm", lambda: Device("cpu", "0"))
    base = write_checkpoint(tmp_path / "base")
    folders = [tmp_path / name for name in ("one", "two")]
    for rank, folder in zip((8, 16), folders, strict=True):
        folder.mkdir()
        write_safetensors(folder / "adapter_model.safetensors", n_values=rank, name="q_proj.lora_A.weight")
        settings = {"base_model_name_or_path": str(base), "r": rank, "rank_pattern": {"q_proj": 2 * rank}}
        (folder / "adapter_config.json").write_text(json.dumps(settings))
    return [resolve(str(folder)) for folder in folders]


def test_adapters_of_one_base_share_an_engine_and_others_do_not(adapters, tmp_path):
    one, two = adapters
    assert engine_key(one) == engine_key(two)
    base = resolve(str(one.path))
    assert engine_key(one) != engine_key(base)
    assert engine_key(one) != engine_key(replace(two, tokenizer_sha256="0" * 64)), (
        "answers are decoded by one tokenizer"
    )
    endpoints = [resolve(f"{name}@http://127.0.0.1:1/v1") for name in ("m", "n")]
    assert engine_key(endpoints[0]) != engine_key(endpoints[1])


@pytest.fixture
def commands(monkeypatch):
    """The command line of every server started; instead of vLLM, one answers with the name of the model asked."""
    made = []
    command = server_module._command

    def in_place_of_vllm(server, checkpoint, serve):
        made.append(command(server, checkpoint, serve))
        return [sys.executable, "-c", ECHOES, str(server.port), *server.adapters]

    monkeypatch.setattr(server_module, "_command", in_place_of_vllm)
    return made


def test_compare_asks_all_adapters_of_one_base_on_one_server(adapters, commands, tmp_path):
    with serving(umpire=judge(prefers("two"))) as stubs:
        given = {"models": [str(one.adapter) for one in adapters], "judge": word(stubs, "umpire"), "data": "mini"}
        outcome = compare(read_as(CompareConfig, given | {"results": tmp_path / "results"}))
    [pair] = outcome.document.as_json()["pairs"]
    assert (pair["a"], pair["wins_b"]) == ("one", 5)
    assert len(commands) == 1


def test_generate_asks_all_adapters_of_one_base_on_one_server(adapters, commands, tmp_path):
    chats = write_chats(tmp_path / "chats.jsonl", 3)
    given = {"models": [str(one.adapter) for one in adapters], "prompts": str(chats), "out": tmp_path / "out"}
    done = generate(read_as(GenerateConfig, given))
    for folder, one in zip(done.folders, adapters, strict=True):
        [rows] = [pq.read_table(path).to_pylist() for path in folder.glob("part-*.parquet")]
        told = {turn["content"].rpartition("-")[0] for row in rows for turn in row["messages"][1::2]}
        assert told == {one.slug}
    assert len(commands) == 1


def test_one_server_answers_for_each_adapter_by_its_name(adapters, commands, tmp_path):
    log = tmp_path / "log"
    with (
        Store(tmp_path / "store.sqlite") as store,
        LoopThread() as loop,
        Engine(adapters, ServeConfig(), log) as engine,
    ):
        names = []
        for checkpoint in adapters:
            with Session(checkpoint, store, ServeConfig(), log, engine=engine) as session:
                names.append(loop.wait(session.client.chat([Message("user", "hi")], Sampling(4))).text)
                loop.wait(session.client.close())
        assert engine.server.alive(), "a session leaves the server that it shares"
    assert [name.rpartition("-")[0] for name in names] == [checkpoint.slug for checkpoint in adapters]
    [words] = commands
    modules = words[words.index("--lora-modules") + 1 :]
    assert modules == [f"{name}={one.adapter}" for name, one in zip(names, adapters, strict=True)]
    pairs = dict(pairwise(words))
    assert (pairs["--max-lora-rank"], pairs["--max-loras"], pairs["--max-cpu-loras"]) == ("32", "1", "2")
    assert "--tokenizer" not in words
    assert "--language-model-only" in words


def test_an_adapters_own_tokenizer_is_the_servers(adapters, tmp_path, monkeypatch):
    one = adapters[0]
    write_tokenizer(one.adapter)
    settings = json.loads((one.adapter / "tokenizer_config.json").read_text())
    (one.adapter / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": "<|im_start|>"}))
    made = []
    command = server_module._command
    monkeypatch.setattr(
        server_module, "_command", lambda *given: made.append(command(*given)) or [sys.executable, "-c", "pass"]
    )
    server_module.Server(resolve(str(one.adapter)), ServeConfig(), tmp_path / "log").stop()
    assert dict(pairwise(made[0]))["--tokenizer"] == str(one.adapter)


def test_an_engine_that_dies_while_starting_says_why_and_is_not_started_again(adapters, tmp_path, monkeypatch):
    script = "import sys; print('error: unrecognized arguments: --max-loras'); sys.exit(1)"
    started = []
    monkeypatch.setattr(
        server_module, "_command", lambda *given: started.append(given) or [sys.executable, "-c", script]
    )
    with Engine(adapters, ServeConfig(), tmp_path / "log") as engine:
        for _ in ("one suite", "another"):
            with pytest.raises(CheckpointError, match="does not know --max-loras"):
                engine.start(lambda _: None)
        assert engine.server is None
    assert len(started) == 1


def test_a_model_that_cannot_be_served_ends_generate_and_is_not_counted_as_refused_conversations(
    adapters, tmp_path, monkeypatch
):
    # What vLLM says of a Gemma-3-like model where torchvision is not installed.
    log = "ModuleNotFoundError: No module named 'torchvision'\nModel architectures ['Gemma3'] failed to be inspected."
    monkeypatch.setattr(
        server_module, "_command", lambda *_: [sys.executable, "-c", f"import sys; print({log!r}); sys.exit(1)"]
    )
    chats = write_chats(tmp_path / "chats.jsonl", 3)
    given = {"models": [str(adapters[0].adapter)], "prompts": str(chats), "out": tmp_path / "out"}
    with pytest.raises(CheckpointError, match="vLLM needs the package torchvision for this architecture"):
        generate(read_as(GenerateConfig, given))
    assert not list((tmp_path / "out").glob("*.parquet"))
