"""Server start, death and end, with a small real process in vLLM's place (the real one: tests/live)."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from dataclasses import replace
from itertools import pairwise

import httpx
import psutil
import pytest

from evalsuite.checkpoint import resolve
from evalsuite.errors import CheckpointError, ServerError, UsageError
from evalsuite.progress import NoProgress
from evalsuite.serving import server as server_module
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.deaths import kernel_kills
from evalsuite.serving.device import Device, available_memory, served_dtype
from evalsuite.serving.engine import Engine
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.requests import Sampling
from evalsuite.serving.server import Server, check_device, context_length
from evalsuite.serving.session import Session, with_restarts
from evalsuite.store import Store
from judges.types import Message
from tests.evalsuite.tiny_checkpoint import write_checkpoint, write_safetensors

SERVES = """
import http.server, json, os, sys, time
class Models(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ok = self.headers["authorization"] == "Bearer " + os.environ["VLLM_API_KEY"]
        self.send_response(200 if ok else 401); self.end_headers()
        self.wfile.write(json.dumps({"data": [{"id": sys.argv[2]}]}).encode())
    def log_message(self, *words): pass
time.sleep(0.5)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Models).serve_forever()
"""


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(server_module, "installed_vllm", lambda: Device("cpu", "0"))
    return resolve(str(write_checkpoint(tmp_path / "ckpt")))


def in_place_of_vllm(monkeypatch, script):
    monkeypatch.setattr(
        server_module,
        "_command",
        lambda server, checkpoint, options: [sys.executable, "-c", script, str(server.port), server.model_name],
    )


def test_a_server_starts_answers_under_its_key_and_ends(checkpoint, tmp_path, monkeypatch):
    in_place_of_vllm(monkeypatch, SERVES)
    steps, answers = [], Server.answers
    # On a busy machine the stand-in may be up before it is first asked.
    monkeypatch.setattr(Server, "answers", lambda server: bool(steps) and answers(server))
    with Server(checkpoint, ServeConfig(), tmp_path / "log") as server:
        server.wait_ready(steps.append)
        children = psutil.Process(server._guarded.process.pid).children(recursive=True)
        assert children
        assert server.alive()
        assert any("starting vLLM" in step for step in steps)
        assert httpx.get(f"{server.base_url}/models").status_code == 401
    assert not server.alive()
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_another_server_on_the_port_is_not_mistaken_for_ours(checkpoint, tmp_path, monkeypatch):
    in_place_of_vllm(monkeypatch, SERVES.replace("sys.argv[2]", "'somebody-else'"))
    with (
        Server(checkpoint, ServeConfig(), tmp_path / "log", start_timeout_s=4) as server,
        pytest.raises(ServerError, match="did not answer"),
    ):
        server.wait_ready()


@pytest.mark.parametrize(
    ("last_words", "kind", "remedy"),
    [
        (
            "ValueError: Model architectures ['FooForCausalLM'] are not supported for now",
            CheckpointError,
            "architecture FooForCausalLM",
        ),
        (
            "Value error, The checkpoint you are trying to load has model type `foo` but Transformers does not "
            "recognize this architecture.",
            CheckpointError,
            "does not know the model type foo",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory", ServerError, "--max-model-len"),
        (
            "Initializing a V1 LLM engine with config: model='ckpt', trust_remote_code=True\ntorch.OutOfMemoryError: 1",
            ServerError,
            "--max-model-len",
        ),
        ("ValueError: No available memory for the cache blocks", ServerError, "lower --max-model-len"),
        (
            "ValueError: Free memory on device cuda:0 (3.2/79.1 GiB) on startup is less than desired",
            ServerError,
            "CUDA_VISIBLE_DEVICES",
        ),
        ("OSError: [Errno 28] No space left on device", ServerError, "disk is full"),
        ("api_server.py: error: unrecognized arguments: --foo 1", CheckpointError, "--foo 1"),
        ("Please pass the argument `trust_remote_code=True` to allow", CheckpointError, "if you trust it"),
        (
            "ModuleNotFoundError: No module named 'torchvision'\nModel architectures ['Gemma3'] "
            "failed to be inspected. Please check the logs",
            CheckpointError,
            "needs the package torchvision for this architecture; install its build for the installed torch",
        ),
        (
            "ModuleNotFoundError: No module named 'timm'\nModel architectures ['Gemma3n'] failed to be inspected.",
            CheckpointError,
            "needs the package timm for this architecture; install it",
        ),
        (
            "  Value error, ('The quantization method %s is deprecated and will be removed in future versions of vLLM. "
            "To bypass, set `--allow-deprecated-quantization`.', 'fbgemm_fp8') [type=value_error]",
            CheckpointError,
            "method fbgemm_fp8; serve an unquantised checkpoint, or pass --vllm-arg allow_deprecated_quantization=true",
        ),
        (
            "Unknown quantization method: bitsandbytes. Must be",
            CheckpointError,
            "has no quantization method bitsandbytes; serve",
        ),
        (
            "  Value error, torch.float32 is not supported for quantization method auto_gptq. Supported dtypes: "
            "[torch.float16, torch.bfloat16] [type=value_error, input_value=ArgsKwargs((), {})]",
            CheckpointError,
            "weights quantised with auto_gptq are not served in float32; pass --dtype float16",
        ),
        (
            "NotImplementedError: \"cpu_gemm_wna16\" not implemented for 'Float'",
            CheckpointError,
            "not served in float32 on a CPU; pass --dtype bfloat16 or float16",
        ),
        (
            '  File "lora/layers/utils.py", line 59, in _get_lora_device\n    return base_layer.weight.device\n'
            "AttributeError: 'NoneType' object has no attribute 'device'",
            CheckpointError,
            "vLLM serves no adapter on weights that are quantised in this way",
        ),
        (
            "ValueError: Failed to find a kernel that can implement the ScaledMM linear layer. Reasons: \nrequires AMX",
            CheckpointError,
            "quantised weights on this device (Failed to find a kernel that can implement the ScaledMM linear layer)",
        ),
        (
            "Value error, Unsupported quantization config: bits=3, sym=True [type=value_error, input_value={}]",
            CheckpointError,
            "(Unsupported quantization config: bits=3, sym=True)",
        ),
        (
            "RuntimeError: _C::static_scaled_fp8_quant() expected at most 0 argument(s) but received 4 argument(s).",
            CheckpointError,
            "lacks the operation static_scaled_fp8_quant; use another device",
        ),
        ("ValueError: vLLM does not yet support DoRA.", CheckpointError, "merge it into its base"),
        ("ValueError: LoRA rank 64 is greater than max_lora_rank 16.", CheckpointError, "merge it into its base"),
        (
            "ValueError: Following weights were not initialized from checkpoint: {'lm_head.weight'}",
            CheckpointError,
            "lacks weights ('lm_head.weight')",
        ),
        ("ValueError: bitsandbytes quantization is currently not supported in cpu.", CheckpointError, "unquantised"),
        (
            "OSError: Can't load image processor for 'ckpt'. If you were trying to load it from",
            CheckpointError,
            "preprocessor_config.json",
        ),
        (
            "AttributeError: '_OpNamespace' '_C' object has no attribute 'gptq_marlin_repack'",
            CheckpointError,
            "lacks the operation gptq_marlin_repack",
        ),
        (
            "(EngineCore pid=1) ERROR 11-30 06:54:19 [core.py:1510] KeyError: 'rope'\nRuntimeError: Engine core "
            "initialization failed. See root cause above.",
            ServerError,
            "vLLM exited while starting ckpt (KeyError: 'rope'); the log is",
        ),
        (
            "NotImplementedError: No MXFP4 MoE backend supports the deployment configuration. weight_key=kMxfp4Static",
            CheckpointError,
            "no kernel for MXFP4 experts on this device; serve it on a GPU, or serve a checkpoint in bfloat16",
        ),
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n  Assertion failed, "
            "Chunked prefill is required. [type=assertion_error, input_value=()]\n    For further information visit x",
            ServerError,
            "vLLM exited while starting ckpt (Assertion failed, Chunked prefill is required); the log is",
        ),
        (
            "(EngineCore pid=1) ERROR 11-30 15:37:19 [core.py:1510] KeyError: 'layers.1.mlp.experts.gate_up_proj'",
            CheckpointError,
            "weights named layers.1.mlp.experts.gate_up_proj; load the checkpoint with transformers 5",
        ),
        (
            "ValueError: There is no module or parameter named 'layers.0.mlp' in MixtralModel. The available",
            CheckpointError,
            "weights named layers.0.mlp; load",
        ),
        ("something nobody has seen before", ServerError, "vLLM exited while starting"),
    ],
)
def test_a_death_is_explained(checkpoint, tmp_path, monkeypatch, last_words, kind, remedy):
    in_place_of_vllm(monkeypatch, f"import sys; print({last_words!r}); sys.exit(1)")
    with Server(checkpoint, ServeConfig(), tmp_path / "log") as server, pytest.raises(kind, match="ckpt") as error:
        server.wait_ready()
    assert remedy in str(error.value)
    assert "\n" not in str(error.value)
    if kind is ServerError:
        shown = "" if remedy != "vLLM exited while starting" else last_words
        assert error.value.log_tail == shown, "vLLM's traceback only where nothing better is known"
        assert str(tmp_path / "log") in str(error.value)


@pytest.mark.parametrize(
    ("number", "kills", "said"),
    [
        (signal.SIGKILL, 0, r"exited while starting ckpt: it was killed from outside \(kill -9"),
        (signal.SIGKILL, 1, "ckpt: the kernel ended it because memory ran out; lower --max-model-len"),
        (signal.SIGTERM, 1, "ckpt: the kernel ended a process meanwhile because memory ran out; lower"),
        (signal.SIGILL, 0, "ckpt: it was ended by SIGILL; the log is"),
    ],
)
def test_a_signal_is_named_and_one_of_the_kernel_for_memory_with_its_remedy(
    checkpoint, tmp_path, monkeypatch, number, kills, said
):
    in_place_of_vllm(monkeypatch, f"import os; print('Traceback', flush=True); os.kill(os.getpid(), {int(number)})")
    counts = iter([5, 5 + kills])
    monkeypatch.setattr(server_module, "kernel_kills", lambda: next(counts))
    with Server(checkpoint, ServeConfig(), tmp_path / "log") as server, pytest.raises(ServerError, match=said) as error:
        server.wait_ready()
    assert ("Traceback" in error.value.log_tail) == (kills == 0), "what followed from too little memory says nothing"


def test_the_kernel_says_how_many_processes_it_has_ended_for_memory(tmp_path):
    assert kernel_kills() >= 0
    counters = tmp_path / "vmstat"
    counters.write_text("nr_free_pages 12\noom_kill 3\nnr_x 1\n")
    assert kernel_kills(counters) == 3
    assert kernel_kills(tmp_path / "none") == 0


def test_a_server_that_dies_while_starting_is_not_started_again(checkpoint, tmp_path, monkeypatch):
    starts = tmp_path / "starts"
    in_place_of_vllm(monkeypatch, f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(1)")
    monkeypatch.setattr("evalsuite.serving.session.installed_vllm", lambda: Device("cpu", "0"))
    with (
        Store(tmp_path / "store.sqlite") as store,
        LoopThread() as loop,
        Session(checkpoint, store, ServeConfig(), tmp_path / "log") as session,
    ):
        with pytest.raises(ServerError, match="exited while starting"):
            loop.wait(session.client.chat([Message("user", "hi")], Sampling(4)))
        assert not session.restart_allowed()
    assert starts.read_text() == "x"


def test_a_server_that_no_longer_listens_is_dead_although_its_process_lives(checkpoint, tmp_path, monkeypatch):
    """An engine that dies takes its server's socket along seconds before the process ends."""
    deaf = SERVES.replace("http.server.HTTPServer", "server = http.server.HTTPServer").replace(
        ".serve_forever()", "\nserver.timeout = 0.2\nwhile not os.path.exists(sys.argv[3]): server.handle_request()\n"
    )
    monkeypatch.setattr(
        server_module,
        "_command",
        lambda server, checkpoint, options: [
            sys.executable,
            "-c",
            deaf + "server.server_close(); time.sleep(60)",
            str(server.port),
            server.model_name,
            str(tmp_path / "dies"),
        ],
    )
    monkeypatch.setattr("evalsuite.serving.session.installed_vllm", lambda: Device("cpu", "0"))
    with (
        Store(tmp_path / "store.sqlite") as store,
        Session(checkpoint, store, ServeConfig(), tmp_path / "log") as session,
    ):
        session._start()
        assert not session.restart_allowed(), "it lives and listens"
        (tmp_path / "dies").touch()
        deadline = time.monotonic() + 10
        while session.server.answers() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert session.server.alive()
        assert session.restart_allowed()
        assert session.restarts == 1


def test_a_server_that_dies_while_answering_is_restarted_and_the_work_goes_on(checkpoint, tmp_path, monkeypatch):
    starts = tmp_path / "starts"
    reply = {"choices": [{"text": "back again", "finish_reason": "stop"}], "usage": {}}
    answers = f"""
    def do_POST(self):
        if len(open({str(starts)!r}).read()) < 2: os._exit(1)
        self.rfile.read(int(self.headers["content-length"]))
        data = json.dumps({reply!r}).encode()
        self.send_response(200); self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data))); self.end_headers(); self.wfile.write(data)
"""
    script = SERVES.replace("    def log_message", answers.strip("\n") + "\n    def log_message")
    in_place_of_vllm(monkeypatch, f"open({str(starts)!r}, 'a').write('x')\n{script}")
    monkeypatch.setattr("evalsuite.serving.session.installed_vllm", lambda: Device("cpu", "0"))
    with (
        Store(tmp_path / "store.sqlite") as store,
        LoopThread() as loop,
        Session(checkpoint, store, ServeConfig(), tmp_path / "log") as session,
    ):
        texts = []

        def work():
            texts.append(loop.wait(session.client.chat([Message("user", "hi")], Sampling(4))).text)

        with_restarts(session, work, NoProgress())
        loop.wait(session.client.close())
        assert (texts, session.restarts) == (["back again"], 1)
    assert starts.read_text() == "xx"


def test_a_taken_port_is_refused_before_anything_starts(checkpoint, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(UsageError, match=f"port {port} is taken"):
            Server(checkpoint, ServeConfig(vllm_args=(("port", port),)), tmp_path / "log")


class Occupied:
    """Ports that somebody else takes as soon as they are chosen: the first ``n`` of them."""

    def __init__(self, monkeypatch, n):
        self.ports, self.taken = [], []
        free_port = server_module._free_port

        def choose(serve):
            self.ports.append(free_port(serve))
            if len(self.ports) <= n:
                self.taken.append(socket.create_server(("127.0.0.1", self.ports[-1])))
            return self.ports[-1]

        monkeypatch.setattr(server_module, "_free_port", choose)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for listener in self.taken:
            listener.close()


def test_a_port_that_is_taken_before_the_server_binds_it_is_left_for_another(checkpoint, tmp_path, monkeypatch):
    in_place_of_vllm(monkeypatch, SERVES)
    with Occupied(monkeypatch, 2) as occupied, Engine((checkpoint,), ServeConfig(), tmp_path / "log") as engine:
        server = engine.start(lambda _: None)
        assert server.answers()
        assert server.port == occupied.ports[-1]
        assert len(set(occupied.ports)) == 3


@pytest.mark.parametrize("is_named", [False, True])
def test_ports_are_not_tried_for_ever_and_a_named_one_once(checkpoint, tmp_path, monkeypatch, is_named):
    in_place_of_vllm(monkeypatch, SERVES)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        named = (("port", str(probe.getsockname()[1])),) if is_named else ()
    with (
        Occupied(monkeypatch, 9) as occupied,
        Engine((checkpoint,), ServeConfig(vllm_args=named), tmp_path / "log") as engine,
        pytest.raises(ServerError, match=r"port \d+ is taken; run again"),
    ):
        engine.start(lambda _: None)
    assert len(occupied.ports) == (1 if is_named else 3)
    assert engine.server is None


def write_group(folder, files, limit, used, cached):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(files, (limit, used, f"cache 9\n{files[2]} {cached}\n"), strict=True):
        (folder / (name if name != files[2] else "memory.stat")).write_text(text)


def test_free_memory_is_that_of_a_containers_limit(tmp_path):
    one = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    two = ("memory.max", "memory.current", "inactive_file")
    own = tmp_path / "cgroup"
    own.write_text("4:cpu,memory:/jobs/7\n3:cpuset:/\n0::/jobs/8\n")
    machine = psutil.virtual_memory().total
    assert 0 < available_memory(tmp_path / "none", tmp_path) <= machine
    assert 0 < available_memory(own, tmp_path) <= machine, "no limit"
    write_group(tmp_path / "jobs" / "8", two, "max\n", "600\n", 100)
    assert available_memory(own, tmp_path) > 1000, "version 2 without a limit"
    (tmp_path / "jobs" / "8" / "memory.max").write_text("1000\n")
    assert available_memory(own, tmp_path) == 1000 - 600 + 100
    write_group(tmp_path / "memory" / "jobs" / "7", one, f"{2**63 - 4096}", "600", 0)
    assert available_memory(own, tmp_path) == 500, "version 1 without a limit"
    write_group(tmp_path / "memory" / "jobs", one, "900", "650", 0)
    assert available_memory(own, tmp_path) == 250, "the limit of a group above"


def test_too_little_memory_is_said_before_vllm_tries(checkpoint, monkeypatch):
    monkeypatch.setattr(server_module, "served_bytes", lambda *_: 10**15)
    with pytest.raises(ServerError, match="too little memory"):
        check_device(checkpoint, ServeConfig(), Device("cpu", "0"))
    check_device(checkpoint, ServeConfig(), Device("cuda", "0"))


def test_a_gated_delta_net_is_served_in_bfloat16_on_a_cpu(tmp_path):
    delta = {"linear_key_head_dim": 128, "layer_types": ["linear_attention", "full_attention"], "dtype": "float32"}
    folder = write_checkpoint(tmp_path / "ckpt")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **delta}))
    model, cpu = resolve(str(folder)), Device("cpu", "0")
    assert served_dtype(model, "auto", cpu) == "bfloat16"
    check_device(model, ServeConfig(), cpu)
    with pytest.raises(UsageError, match="--dtype float32: on a CPU, vLLM computes the gated delta layers of ckpt in"):
        check_device(model, ServeConfig(dtype="float32"), cpu)
    check_device(model, ServeConfig(dtype="float32"), Device("cuda", "0"))


def test_the_command_serves_on_loopback_without_secrets(checkpoint, tmp_path, monkeypatch):
    made = []
    command = server_module._command

    def keep(server, checkpoint, serve):
        made.append((server.api_key, command(server, checkpoint, serve)))
        return [sys.executable, "-c", "pass"]

    monkeypatch.setattr(server_module, "_command", keep)
    serve = ServeConfig(dtype="float32", vllm_args=(("max_num_seqs", "3"), ("trust_remote_code", "true")))
    Server(checkpoint, serve, tmp_path / "log").stop()
    key, words = made[0]
    assert key not in " ".join(words)
    pairs = dict(pairwise(words))
    assert (pairs["--host"], pairs["--dtype"], pairs["--max-num-seqs"]) == ("127.0.0.1", "float32", "3")
    assert (pairs["--max-model-len"], pairs["--generation-config"]) == ("2048", "vllm")
    assert "--trust-remote-code" in words
    assert words[words.index("--trust-remote-code") + 1 :][:1] != ["true"]


@pytest.mark.parametrize(("chosen", "policy"), [((), "priority"), ((("scheduling_policy", "fcfs"),), "fcfs")])
def test_priorities_are_sent_to_a_server_that_was_started_for_them(checkpoint, tmp_path, monkeypatch, chosen, policy):
    made = []
    command = server_module._command

    def keep(*given):
        made.append(dict(pairwise(command(*given))))
        return [sys.executable, "-c", "pass"]

    monkeypatch.setattr(server_module, "_command", keep)
    with Server(checkpoint, ServeConfig(vllm_args=chosen), tmp_path / "log") as server:
        assert server.takes_priority == (policy == "priority")
    assert made[0]["--scheduling-policy"] == policy


@pytest.mark.parametrize(
    ("config", "flags"),
    [
        ({}, set()),
        ({"layer_types": ["linear_attention", "full_attention"]}, {"--no-enable-prefix-caching"}),
        ({"kv_lora_rank": 512}, {"--compilation-config"}),
        ({"layer_types": ["conv", "full_attention"]}, {"--compilation-config", "--no-enable-prefix-caching"}),
    ],
)
def test_what_vllm_cannot_do_on_a_cpu_is_left_out(tmp_path, monkeypatch, config, flags):
    made = []
    command = server_module._command
    kept = [sys.executable, "-c", "pass"]
    monkeypatch.setattr(server_module, "_command", lambda *given: made.append(command(*given)) or kept)
    folder = write_checkpoint(tmp_path / "ckpt")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **config}))
    for kind in ("cpu", "cuda"):
        monkeypatch.setattr(server_module, "installed_vllm", lambda kind=kind: Device(kind, "0"))
        Server(resolve(str(folder)), ServeConfig(), tmp_path / "log").stop()
    on_cpu, on_gpu = made
    assert "--no-enable-chunked-prefill" in on_cpu
    both = {"--no-enable-prefix-caching", "--compilation-config"}
    assert both & {*on_cpu} == flags
    assert both.isdisjoint(on_gpu)


def test_the_weights_of_the_index_are_served_not_mistrals_own_copy(checkpoint, tmp_path, monkeypatch):
    made = []
    command = server_module._command
    kept = [sys.executable, "-c", "pass"]
    monkeypatch.setattr(server_module, "_command", lambda *given: made.append(command(*given)) or kept)
    (checkpoint.path / "model.safetensors.index.json").write_text('{"weight_map": {"w": "model.safetensors"}}')
    Server(checkpoint, ServeConfig(), tmp_path / "log").stop()
    write_safetensors(checkpoint.path / "consolidated.safetensors")
    Server(checkpoint, ServeConfig(), tmp_path / "log").stop()
    alone, both = made
    assert "--load-format" not in alone
    assert "--load-format safetensors --config-format hf --tokenizer-mode hf" in " ".join(both)


def test_the_context_is_bounded_unless_asked(checkpoint, tmp_path):
    assert context_length(checkpoint, ServeConfig()) == 2048
    long = resolve(str(write_checkpoint(tmp_path / "long", context=131072)))
    assert context_length(long, ServeConfig()) == 32768
    assert context_length(long, ServeConfig(max_model_len=100_000)) == 100_000


@pytest.mark.parametrize(
    "config",
    [
        # As in microsoft/Phi-3-mini-128k-instruct, in its first release, and as transformers 5 writes it.
        {"original_max_position_embeddings": 4096, "rope_scaling": {"type": "longrope"}},
        {"original_max_position_embeddings": 4096, "rope_scaling": {"type": "su"}},
        {"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 4096}},
        {"text_config": {"rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 4096}}},
    ],
)
def test_a_context_that_would_scale_the_positions_of_short_prompts_is_not_the_default(checkpoint, config):
    long = replace(checkpoint, config={"max_position_embeddings": 131072, **config})
    assert (long.context_length, long.plain_context) == (131072, 4096)
    assert context_length(long, ServeConfig()) == 4096
    assert context_length(long, ServeConfig(max_model_len=100_000)) == 100_000


def test_only_longrope_reads_short_prompts_otherwise(checkpoint):
    rope = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}
    plain = replace(checkpoint, config={"max_position_embeddings": 131072, "rope_scaling": rope})
    assert plain.plain_context == plain.context_length == 131072


def test_stopping_twice_is_harmless_and_needs_no_kill(checkpoint, tmp_path, monkeypatch):
    in_place_of_vllm(monkeypatch, SERVES)
    server = Server(checkpoint, ServeConfig(), tmp_path / "log")
    server.wait_ready()
    server.stop()
    server.stop()
    assert server._guarded.process.returncode not in (None, -signal.SIGKILL)
