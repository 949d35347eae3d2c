"""A model ready to be asked: its own vLLM process, started when first needed, or somebody else's server."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from evalsuite import __version__
from evalsuite.checkpoint import Checkpoint, generation_config
from evalsuite.errors import ServerError
from evalsuite.fingerprint import text_sha256
from evalsuite.serving.chat_format import load_chat_format
from evalsuite.serving.client import Client, Target
from evalsuite.serving.device import asked_dtype, installed_vllm, own_dtype, served_dtype
from evalsuite.serving.open_files import room_for_connections
from evalsuite.serving.server import ServeOptions, Server, check_memory, context_length
from evalsuite.serving.wire import Endpoint, check_endpoint, check_tokenizer
from evalsuite.store import Memory

_IN_FLIGHT = {"cpu": 128, "cuda": 1024, "endpoint": 64}
_WITHOUT_EFFECT_ON_ANSWERS = frozenset(
    {
        "port",
        "gpu_memory_utilization",
        "max_num_seqs",
        "max_num_batched_tokens",
        "enforce_eager",
        "block_size",
        "scheduling_policy",
        "max_logprobs",
    }
)
_MAX_RESTARTS = 2


def api_key() -> str:
    """Return the key for servers that others run: EVALSUITE_API_KEY, else OPENAI_API_KEY, else none."""
    return os.environ.get("EVALSUITE_API_KEY") or os.environ.get("OPENAI_API_KEY") or ""


class Session:
    """One model for the length of a run; a context manager that leaves no server behind.

    ``serve_seconds`` is the time that starting took (0 when no server was needed), and
    ``restarts`` how often a server that died was started anew.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        store: Memory,
        options: ServeOptions,
        log_path: Path,
        *,
        base_url: str | None = None,
        template_word: str | None = None,
        in_flight: int | None = None,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Load the tokenizer and check an endpoint; no server is started yet."""
        self.checkpoint = checkpoint
        self.options = options
        self.serve_seconds = 0.0
        self.restarts = 0
        self.server: Server | None = None
        self._log_path = log_path
        self._on_step = on_step
        self._stopped = threading.Event()
        self._url = checkpoint.endpoint or base_url
        self._attached: Endpoint | None = None
        self.chat_format = None if checkpoint.path is None else load_chat_format(checkpoint, template_word)
        self.kind = "endpoint" if self._url else installed_vllm().kind
        length = context_length(checkpoint, options)
        if self._url:
            name, served = check_endpoint(self._url, api_key(), checkpoint.name if checkpoint.endpoint else None)
            self._attached = Endpoint(self._url, api_key(), name)
            length = min((known for known in (length, served) if known is not None), default=None)
            if self.chat_format is not None:
                check_tokenizer(self._attached, self.chat_format.tokenizer, checkpoint.name)
        self.target = Target(
            name=checkpoint.name,
            identity=answer_identity(checkpoint, options, template_word, attached=base_url and self._served_name()),
            max_model_len=length,
            chat_format=self.chat_format,
            generation=generation_config(checkpoint),
            server=self._url or f"vLLM {installed_vllm().vllm_version}, evalsuite {__version__}",
            is_ours=not self._url,
        )
        # vLLM's bound on a batch is each engine's own.
        engines = options.data_parallel_size if self.kind == "cuda" else 1
        self.in_flight = room_for_connections(in_flight or _IN_FLIGHT[self.kind] * engines)
        self.client = Client(self.target, self._connect, store, in_flight=self.in_flight)

    def _served_name(self) -> str | None:
        return None if self._attached is None else self._attached.model_name

    @property
    def is_up(self) -> bool:
        return self.server is not None

    def stop(self) -> None:
        """End the server, if there is one; a start under way in another thread is ended too."""
        self._stopped.set()
        if self.server is not None:
            self.server.stop()
            self.server = None

    def restart_allowed(self) -> bool:
        """Whether a dead server of ours may be started once more; counts it as started anew.

        One whose engine has died stops listening some seconds before its process ends: it is dead too.
        """
        if self._url or self.server is None or self.restarts >= _MAX_RESTARTS:
            return False
        if self.server.alive() and self.server.answers():
            return False
        self.server.stop()
        self.server = None
        self.restarts += 1
        self.client.reconnect()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    async def _connect(self) -> Endpoint:
        if self._attached is not None:
            return self._attached
        return await asyncio.get_running_loop().run_in_executor(None, self._start)

    def _start(self) -> Endpoint:
        check_memory(self.checkpoint, self.options, installed_vllm())
        began = time.monotonic()
        server = Server(self.checkpoint, self.options, self._log_path)
        self.server = server
        try:
            server.wait_ready(self._on_step)
        except BaseException:
            # What dies while starting would die again: only a server that was up is started anew.
            server.stop()
            self.server = None
            raise
        if self._stopped.is_set():
            server.stop()
            raise ServerError("the run was stopped while the server started")
        self.serve_seconds += time.monotonic() - began
        self._on_step("")
        return Endpoint(
            server.base_url,
            server.api_key,
            server.model_name,
            diagnose=lambda: _diagnosis(server),
            end=server.stop,
            takes_priority=server.takes_priority,
        )


def _diagnosis(server: Server) -> str | None:
    if server.alive():
        return None
    return (
        f"vLLM ended while answering for {server.checkpoint.name}; the log is {server.log_path}:\n{server.log_tail()}"
    )


def effective_dtype(checkpoint: Checkpoint, options: ServeOptions, *, attached: bool) -> str | None:
    """Return the dtype that answers come in, as far as it is known of a server that somebody else runs."""
    if attached or checkpoint.endpoint:
        return own_dtype(checkpoint) if options.dtype == "auto" else asked_dtype(options.dtype)
    return served_dtype(checkpoint, options.dtype, installed_vllm())


def served_as(
    checkpoint: Checkpoint, options: ServeOptions, template_word: str | None, *, attached: bool
) -> dict[str, str | None]:
    """Return what is known before a start of how a model is served: its dtype and how conversations are written."""
    named = template_word if template_word and template_word.startswith("fastchat:") else None
    own = "checkpoint" if checkpoint.chat_template is not None else None
    return {
        "dtype": effective_dtype(checkpoint, options, attached=attached),
        "chat_template_sha256": checkpoint.chat_template_sha256,
        "chat_format": named or own,
    }


def attached_server(
    checkpoint: Checkpoint, base_url: str | None, recorded: str | None
) -> tuple[str | None, ServerError | None]:
    """Name the server under --base-url that answers for a checkpoint at hand, None for one of ours.

    By its name, not its address: another server there is another model, and the same one may move. What is finished
    needs no server: where it does not answer, the name that is ``recorded`` with the answers stands in, and its error
    is handed back for those who have something to ask. Raises it where no name is recorded.
    """
    if not base_url or checkpoint.endpoint:
        return None, None
    try:
        return check_endpoint(base_url, api_key(), None)[0], None
    except ServerError as error:
        if recorded is None:
            raise
        return recorded, error


def answer_identity(
    checkpoint: Checkpoint, options: ServeOptions, template_word: str | None, *, attached: str | None
) -> dict[str, Any]:
    """Return everything but the question that decides an answer: part of every key of the store.

    ``attached`` names the server that somebody else runs for a checkpoint at hand, None for one of ours.
    """
    named = template_word if template_word and template_word.startswith("fastchat:") else None
    return {
        "weights": checkpoint.fingerprint,
        "tokenizer": checkpoint.tokenizer_sha256,
        "chat_template": named or checkpoint.chat_template_sha256,
        # Where an answer ends stands there too, not only how it is sampled.
        "generation_config": text_sha256(json.dumps(generation_config(checkpoint), sort_keys=True)),
        "dtype": effective_dtype(checkpoint, options, attached=attached is not None),
        "max_model_len": context_length(checkpoint, options),
        "vllm_args": {key: value for key, value in options.vllm_args if key not in _WITHOUT_EFFECT_ON_ANSWERS},
        # A server that somebody else runs may serve other weights than the folder's. Its name outlives its address:
        # a job that goes on at another node finds its answers.
        "attached": attached or False,
    }
