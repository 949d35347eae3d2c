"""One vLLM process for one model: start, wait with progress, watch, stop; never an orphan.

The server listens on loopback under its own API key, so that no other local user can use it, and serves the model
under a name drawn for this start, so that a stale server on the same port can never be mistaken for it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import util
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.checkpoint.adapters import SETTINGS, lora_rank
from evalsuite.checkpoint.json_files import read_config
from evalsuite.checkpoint.kinds import is_reward_model
from evalsuite.checkpoint.layers import has_gated_delta, has_states
from evalsuite.checkpoint.shards import has_second_copy
from evalsuite.checkpoint.text_part import in_all_parts, text_config
from evalsuite.errors import ServerError, UsageError
from evalsuite.redaction import SECRET_VARIABLES
from evalsuite.serving.config import DEFAULT_BUDGET, ServeConfig
from evalsuite.serving.deaths import how_it_ended, kernel_kills, startup_cause, startup_error
from evalsuite.serving.device import (
    Device,
    available_memory,
    cpu_kv_cache_gib,
    gpu_memory,
    head_dtype,
    installed_vllm,
    rotates_natively,
    served_bytes,
    served_dtype,
)
from evalsuite.serving.guarded import Guarded
from evalsuite.serving.scoring_endpoint import MAX_IDS
from evalsuite.serving.served_tokenizer import corrected_tokenizer
from evalsuite.serving.server_log import ServerLog
from evalsuite.serving.transport_errors import TransportError

_POLL_S = 0.5
_GIB = 2**30
_CPU_MAX_NUM_SEQS = 64
_CPU_MIN_BATCHED_TOKENS = 4096
_DEFAULT_MAX_CONTEXT = 32_768
_PRIORITY = "priority"
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as --max-lora-rank."""


def context_length(checkpoint: Checkpoint, serve: ServeConfig) -> int | None:
    """Return the context that is served, in tokens: as asked, else the checkpoint's up to 32,768.

    No suite comes near the bound, and the KV cache of a 128k context would crowd out the batch. A thinking budget
    beyond half of it moves it, so that prompt and answer have the other half. A checkpoint with LongRoPE gets the
    context that leaves short prompts alone. None where the config does not say; the server then decides.
    """
    if serve.max_model_len is not None:
        return serve.max_model_len
    length = checkpoint.plain_context
    return None if length is None else min(length, _DEFAULT_MAX_CONTEXT // 2 + max(serve.budget, DEFAULT_BUDGET))


class Server(AbstractContextManager["Server"]):
    """A vLLM process that belongs to this one; use as a context manager."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        serve: ServeConfig,
        log_path: Path,
        *,
        others: Sequence[Checkpoint] = (),
        start_timeout_s: float = 3600.0,
    ) -> None:
        """Start the process and return at once; ``wait_ready`` waits for it.

        ``others`` are more adapters of the same base, served beside it. ``start_timeout_s`` only bounds a server
        that is alive but silent.
        """
        if checkpoint.path is None:
            raise UsageError(f"{checkpoint.name} is an endpoint; there is nothing to serve")
        self.checkpoint = checkpoint
        self.serve = serve
        self.device = installed_vllm()
        self.log_path = log_path
        drawn = secrets.token_hex(4)
        self.model_name = f"{checkpoint.slug}-{drawn}"
        self.adapters = {f"{one.slug}-{drawn}": one.adapter for one in (checkpoint, *others) if one.adapter}
        self.api_key = secrets.token_urlsafe(24)
        self.started_at = time.monotonic()
        self.deadline = self.started_at + start_timeout_s
        self.takes_priority = dict(serve.vllm_args).get("scheduling_policy", _PRIORITY) == _PRIORITY
        self.port = _free_port(serve)
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self.tokenizer = corrected_tokenizer(checkpoint)
        self.command = _command(self, checkpoint, serve)
        self._log = ServerLog(log_path)
        self._kills = kernel_kills()
        self._guarded = Guarded(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=self._log.file,
            stderr=subprocess.STDOUT,
            env=_environment(self),
            start_new_session=True,
        )

    def wait_ready(self, on_step: Callable[[str], None] = lambda _: None) -> float:
        """Wait until the server answers; return the seconds since its start.

        Raises CheckpointError or ServerError when it dies first, with the tail of its log where the cause is unknown.
        """
        while not self.answers():
            if self._guarded.process.poll() is not None:
                raise self._startup_error()
            seconds = time.monotonic() - self.started_at
            if time.monotonic() > self.deadline:
                raise ServerError(f"vLLM did not answer within {seconds:.0f} s; see {self.log_path}", self._log.tail())
            on_step(f"starting vLLM, {seconds:.0f} s: {self._log.stage()}")
            time.sleep(_POLL_S)
        return time.monotonic() - self.started_at

    def name_of(self, checkpoint: Checkpoint) -> str:
        """Return the name under which one of its checkpoints is asked."""
        return next((name for name, folder in self.adapters.items() if folder == checkpoint.adapter), self.model_name)

    def alive(self) -> bool:
        return self._guarded.process.poll() is None

    def stop(self) -> None:
        """End the server and everything it started; safe to call twice."""
        self._guarded.end()
        self._log.close()
        if self.tokenizer is not None:
            self.tokenizer.cleanup()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answers(self) -> bool:
        """Whether this very server is up: it must list the name drawn for this start."""
        from evalsuite.serving.transport import fetch_blocking

        try:
            reply = fetch_blocking(f"{self.base_url}/models", self.api_key, is_managed=True, timeout_s=5)
        except TransportError:
            return False
        return self.model_name.encode() in reply

    def end(self) -> tuple[str, str]:
        """Return how a server that has exited ended, as the end of a sentence, and the last lines of its log.

        Without the lines where memory ran out: they are tracebacks of what followed from that.
        """
        kills = kernel_kills() - self._kills
        said = how_it_ended(self._guarded.process.poll(), kills)
        return (f": {said}" if said else ""), ("" if kills else self._log.tail())

    def _startup_error(self) -> Exception:
        """Return the error for a server that exited while starting, with the remedy where the cause is known."""
        name, (end, tail) = self.checkpoint.name, self.end()
        log = self._log.text()
        if known := startup_error(name, self.port, log, self.log_path):
            return known
        if not end and (cause := startup_cause(log)):
            return ServerError(f"vLLM exited while starting {name} ({cause}); the log is {self.log_path}")
        return ServerError(f"vLLM exited while starting {name}{end}; the log is {self.log_path}", tail)


def check_device(checkpoint: Checkpoint, serve: ServeConfig, device: Device) -> None:
    """Raise ServerError when this machine, or its GPUs, clearly lack the memory for the weights.

    Raises UsageError for a dtype with which vLLM dies at the first request.
    """
    dtype = served_dtype(checkpoint, serve.dtype, device)
    if device.kind == "cpu" and dtype != "bfloat16" and has_gated_delta(text_config(checkpoint.config or {})):
        raise UsageError(
            f"--dtype {serve.dtype}: on a CPU, vLLM computes the gated delta layers of {checkpoint.name} in bfloat16 "
            "only; leave the option out"
        )
    weights = served_bytes(checkpoint, serve.dtype, device)
    if device.kind != "cpu":
        memory = sum(sorted(gpu_memory(), reverse=True)[: serve.tensor_parallel_size])
        # vLLM's own options may spread or shrink a model in ways that only vLLM can compute.
        if weights > memory > 0 and not serve.vllm_args:
            raise ServerError(
                f"{checkpoint.name} has weights of {weights / _GIB:.1f} GiB, and the GPU has {memory / _GIB:.0f} GiB; "
                "raise --tensor-parallel-size or use a smaller model"
            )
        return
    free = available_memory()
    needed = int(weights * 1.2) + (cpu_kv_cache_gib() + 1) * _GIB
    if needed > free:
        raise ServerError(
            f"too little memory: serving {checkpoint.name} needs about {needed / _GIB:.1f} GiB, "
            f"{free / _GIB:.1f} GiB are free; close other programs, raise the job's memory limit, "
            "or use a smaller model"
        )


def check_port(serve: ServeConfig) -> int | None:
    """Return the port that --vllm-arg names, None without one; raises UsageError for one that is taken."""
    chosen = dict(serve.vllm_args).get("port")
    if chosen is None:
        return None
    if not chosen.isdecimal() or not 0 < int(chosen) < 2**16:
        raise UsageError(f"--vllm-arg port={chosen} is not a port number")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", int(chosen))) == 0:
            raise UsageError(f"port {chosen} is taken; stop what listens there, or leave the port to evalsuite")
    return int(chosen)


def _free_port(serve: ServeConfig) -> int:
    if (chosen := check_port(serve)) is not None:
        return chosen
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _entry_module() -> str:
    """Return vLLM's server module: newer releases moved it and warn about the old place.

    Files are looked for, because asking for a submodule's spec would import vLLM (and torch) into this process.
    """
    spec = util.find_spec("vllm")
    folders = (spec and spec.submodule_search_locations) or ()
    if any(Path(folder, "entrypoints/launchers/api_server/entry.py").is_file() for folder in folders):
        return "vllm.entrypoints.launchers.api_server.entry"
    return "vllm.entrypoints.openai.api_server"


def _command(server: Server, checkpoint: Checkpoint, serve: ServeConfig) -> list[str]:
    flags: dict[str, str] = {
        "model": str(checkpoint.path),
        "served-model-name": server.model_name,
        "host": "127.0.0.1",
        "port": str(server.port),
        # Never "auto" where we can tell: what is recorded is what vLLM was told.
        "dtype": served_dtype(checkpoint, serve.dtype, server.device) or "auto",
        # Requests that sample carry a seed each.
        "seed": "0",
        # Sampling settings are sent with each request; the checkpoint's generation_config must not add its own.
        "generation-config": "vllm",
        "tensor-parallel-size": str(serve.tensor_parallel_size),
        "data-parallel-size": str(serve.data_parallel_size),
        # Questions whose prompt's beginning is in the cache are taken first; see slots.
        "scheduling-policy": _PRIORITY,
        "disable-uvicorn-access-log": "true",
        "enable-prompt-tokens-details": "true",
        # Only text is asked: of a model for images or audio, neither the encoders nor the processor are loaded.
        "language-model-only": "true",
        # Several-token choices at the price of their own tokens; see scoring_endpoint. They may begin with as many
        # different tokens as vLLM reads out at most; its default is 20.
        "max-logprobs": str(MAX_IDS),
        "middleware": "evalsuite.serving.scoring_endpoint.ScoringEndpoint",
    }
    if server.device.kind == "cpu":
        # Only whole blocks are cached: with 128, the default there, short shared prefixes are lost.
        flags |= {"block-size": "32", "enforce-eager": "true", "max-num-seqs": str(_CPU_MAX_NUM_SEQS)}
        # vLLM 0.32 dies on a CPU when the prefill of a request with a seed is split ("CPU Generator
        # does not use offset"); whole prefills need a token budget of one full context.
        budget = max(context_length(checkpoint, serve) or 0, _CPU_MIN_BATCHED_TOKENS)
        flags |= {"enable-chunked-prefill": "false", "max-num-batched-tokens": str(budget)}
        # vLLM resumes the states of recurrent layers only where it splits prefills.
        flags |= {"enable-prefix-caching": "false"} if has_states(text_config(checkpoint.config or {})) else {}
    if rotates_natively(checkpoint, server.device):
        flags["compilation-config"] = '{"custom_ops": ["-rotary_embedding"]}'
    if (length := context_length(checkpoint, serve)) is not None:
        flags["max-model-len"] = str(length)
    if checkpoint.path is not None and has_second_copy(checkpoint.path):
        # Those that the index lists, which are the checkpoint's.
        flags |= {"load-format": "safetensors", "config-format": "hf", "tokenizer-mode": "hf"}
    if checkpoint.trust_remote_code:
        flags["trust-remote-code"] = "true"
    if is_reward_model(checkpoint):
        flags["runner"] = "pooling"
    if server.tokenizer is not None:
        flags["tokenizer"] = server.tokenizer.name
    elif checkpoint.own_tokenizer:
        # Answers are decoded, and end, as the adapter's tokenizer says.
        flags["tokenizer"] = str(checkpoint.tokenizer_folder)
    if server.adapters:
        flags |= {"enable-lora": "true", "served-model-name": f"{server.model_name}-base"}
        flags |= {"max-lora-rank": str(max(map(_max_lora_rank, server.adapters.values())))}
        # One is asked after the other: a single slot serves each as if it were alone.
        flags |= {"max-loras": "1", "max-cpu-loras": str(len(server.adapters))}
    flags |= {key.replace("_", "-"): value for key, value in serve.vllm_args}
    head = head_dtype(checkpoint, serve, server.device)
    # A user's text that is not an object is left for vLLM to refuse.
    if head is not None and ("hf-overrides" not in flags or serve.hf_overrides):
        flags["hf-overrides"] = json.dumps(_overrides(head, checkpoint.config or {}, serve.hf_overrides))
    command = [sys.executable, "-m", _entry_module()]
    for key, value in flags.items():
        switch = {"true": [f"--{key}"], "false": [f"--no-{key}"]}
        command += switch.get(value.lower(), [f"--{key}", value])
    modules = [f"{name}={folder}" for name, folder in server.adapters.items()]
    return [*command, "--lora-modules", *modules] if modules else command


def _overrides(head: str, config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user's overrides of a config with the dtype of the output layer.

    vLLM makes that layer from the text part of a model that also reads images, and looks for its dtype there alone.
    """
    return _merged(in_all_parts({"head_dtype": head}, config), given)


def _merged(ours: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, with the user's value where they differ; nested parts of a config are merged too."""
    both = dict(ours)
    for key, own in given.items():
        part = both.get(key)
        both[key] = _merged(part, own) if isinstance(part, dict) and isinstance(own, dict) else own
    return both


def _max_lora_rank(adapter: Path) -> int:
    """Return the smallest rank vLLM accepts that holds the adapter's."""
    rank = lora_rank(read_config(adapter / SETTINGS), adapter)
    return next((size for size in _LORA_RANKS if size >= rank), rank)


def _environment(server: Server) -> dict[str, str]:
    # The server needs no key of the user's, and neither does code that a trusted checkpoint brings.
    environment = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES} | {
        "VLLM_API_KEY": server.api_key,
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        # The model is a local folder: nothing needs to be looked up elsewhere.
        "HF_HUB_OFFLINE": "1",
    }
    if server.device.kind == "cpu":
        environment.setdefault("VLLM_CPU_KVCACHE_SPACE", str(cpu_kv_cache_gib()))
        # Saves a third of the start on a CPU: two processes import instead of three.
        environment.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        # The client shares the cores with the engine: threads that spin while they wait starve it, and threads that
        # sleep between two layers are woken late (bench/RESULTS.md, Generation).
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        environment.setdefault("GOMP_SPINCOUNT", "20000")
    return environment
