"""A model ready to be asked: a managed vLLM process, started when first needed, or an external server."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from evalsuite import __version__
from evalsuite.checkpoint import Checkpoint, generation_config
from evalsuite.errors import ServerError, StoreError, first_line
from evalsuite.fingerprint import text_sha256
from evalsuite.progress import NoProgress, Progress
from evalsuite.redaction import without_secrets
from evalsuite.serving.chat_format import load_chat_format
from evalsuite.serving.client import Client, Target
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.device import asked_dtype, head_dtype, installed_vllm, own_dtype, rotates_natively, served_dtype
from evalsuite.serving.engine import Engine
from evalsuite.serving.identity import name_at_server
from evalsuite.serving.known_servers import recall, remember
from evalsuite.serving.reasoning import settle
from evalsuite.serving.rewards import reward_path
from evalsuite.serving.server import Server, check_device, context_length
from evalsuite.serving.slots import max_connections
from evalsuite.serving.wire import Endpoint, api_key, check_endpoint, check_tokenizer, urls_of
from evalsuite.store import AnswerStore

_IN_FLIGHT = {"cpu": 128, "cuda": 1024, "endpoint": 64}
_MAX_RESTARTS = 2


class Session(AbstractContextManager["Session"]):
    """One model for the length of a run; a context manager that leaves no server behind.

    ``serve_seconds`` is the time that starting took (0 when no server was needed), and
    ``restarts`` how often a server that died was started again.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        store: AnswerStore,
        serve: ServeConfig,
        log_path: Path,
        *,
        base_url: str | None = None,
        engine: Engine | None = None,
        servers: Path | None = None,
        relearn: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Load the tokenizer and check an endpoint; no server is started yet.

        ``engine`` is a server that other sessions ask too; this one then leaves it running. ``servers`` is the file
        of what is known of external servers; ``relearn``: what one refuses is probed again.
        """
        self.checkpoint = checkpoint
        self.serve = serve
        self.serve_seconds = 0.0
        self.restarts = 0
        self._engine = engine or Engine((checkpoint,), serve, log_path)
        self._is_shared = engine is not None
        self._progress = progress = progress or NoProgress()
        self._stopped = threading.Event()
        self._servers = servers
        self._url = checkpoint.endpoint or base_url
        self._attached: list[Endpoint] = []
        self.chat_format = None if checkpoint.path is None else load_chat_format(checkpoint, serve.fastchat_template)
        self.kind = "endpoint" if self._url else installed_vllm().kind
        self.reasoning = settle(checkpoint, serve, self.chat_format)
        length = context_length(checkpoint, serve)
        if self._url:
            key = serve.api_key_env
            name, served = check_endpoint(self._url, name_at_server(checkpoint), key)
            self._attached = [
                Endpoint(
                    url,
                    api_key(url, key),
                    name,
                    limits=serve.limits,
                    extra_body=serve.extra_body or {},
                    answered=progress.answered,
                    note=progress.log,
                    known=recall(servers, f"{name}@{without_secrets(url)}", relearn=relearn),
                )
                for url in urls_of(self._url)
            ]
            length = min((known for known in (length, served) if known is not None), default=None)
            if self.chat_format is not None:
                for endpoint in self._attached:
                    check_tokenizer(endpoint, self.chat_format.tokenizer, checkpoint.name)
        served_name = self._attached[0].model_name if base_url and self._attached else None
        self.target = Target(
            name=checkpoint.name,
            identity=answer_identity(checkpoint, serve, attached=served_name),
            max_model_len=length,
            chat_format=self.chat_format,
            generation=generation_config(checkpoint),
            server=self._url or f"vLLM {installed_vllm().vllm_version}, evalsuite {__version__}",
            is_managed=not self._url,
            reasoning=self.reasoning,
            reward_path=reward_path(checkpoint),
        )
        # vLLM's bound on a batch is each engine's own.
        engines = serve.data_parallel_size if self.kind == "cuda" else len(self._attached) or 1
        self.in_flight = max_connections(serve.in_flight or _IN_FLIGHT[self.kind] * engines)
        several = self._attached if len(self._attached) > 1 else None
        self.client = Client(self.target, several or self._connect, store, in_flight=self.in_flight)

    def stop(self) -> None:
        """End the server, if there is one; a start under way in another thread is ended too."""
        if not self._stopped.is_set():
            for line in self.client.refusals():
                self._progress.log(line)
            self.remember()
        self._stopped.set()
        if not self._is_shared:
            self._engine.stop()

    def remember(self) -> None:
        """Write what was learned of an external server for the next run."""
        if self._servers is not None:
            with suppress(StoreError):
                remember(self._servers, self.client.learned())

    @property
    def server(self) -> Server | None:
        """The managed server, None while there is none."""
        return self._engine.server

    def restart_allowed(self) -> bool:
        """Whether a managed server that died may be started again; counts it as a restart.

        One whose engine has died stops listening some seconds before its process ends: it is dead too.
        """
        if self._url or self.server is None or self.restarts >= _MAX_RESTARTS:
            return False
        if self.server.alive() and self.server.answers():
            return False
        self._engine.stop()
        self.restarts += 1
        self.client.reconnect()
        return True

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _connect(self) -> Endpoint:
        if self._attached:
            return self._attached[0]
        return await asyncio.get_running_loop().run_in_executor(None, self._start)

    def _start(self) -> Endpoint:
        check_device(self.checkpoint, self.serve, installed_vllm())
        began = time.monotonic()
        server = self._engine.start(self._progress.step)
        if self._stopped.is_set():
            server.stop()
            raise ServerError("the run was stopped while the server started")
        self.serve_seconds += time.monotonic() - began
        self._progress.step("")
        return Endpoint(
            server.base_url,
            server.api_key,
            server.name_of(self.checkpoint),
            diagnose=lambda: _diagnosis(server),
            end=server.stop,
            takes_priority=server.takes_priority,
            answered=self._progress.answered,
        )


def with_restarts(session: Session, task: Callable[[], None], progress: Progress) -> None:
    """Run ``task`` again when a managed server dies, which restarts the server a limited number of times."""
    while True:
        try:
            return task()
        except ServerError as error:
            if not session.restart_allowed():
                raise
            said = first_line(error).removesuffix(":").replace("; run again", "")
            progress.log(f"the server died and is restarted ({said})")


def _diagnosis(server: Server) -> str | None:
    if server.alive():
        return None
    end, tail = server.end()
    said = f"vLLM exited while answering for {server.checkpoint.name}{end}; the log is {server.log_path}"
    return f"{said}:\n{tail}" if tail else said


def effective_dtype(checkpoint: Checkpoint, serve: ServeConfig, *, attached: bool) -> str | None:
    """Return the dtype that answers come in, as far as it is known of an external server."""
    if attached or checkpoint.endpoint:
        return own_dtype(checkpoint) if serve.dtype == "auto" else asked_dtype(serve.dtype)
    return served_dtype(checkpoint, serve.dtype, installed_vllm())


def served_as(checkpoint: Checkpoint, serve: ServeConfig, *, attached: bool) -> dict[str, str | None]:
    """Return what is known before a start of how a model is served: its dtype and how conversations are written."""
    return {
        "dtype": effective_dtype(checkpoint, serve, attached=attached),
        "chat_template_sha256": checkpoint.chat_template_sha256,
        "chat_format": serve.fastchat_template or ("checkpoint" if checkpoint.chat_template is not None else None),
    }


def attached_server(
    checkpoint: Checkpoint, base_url: str | None, recorded: str | None, serve: ServeConfig
) -> tuple[str | None, ServerError | None]:
    """Name the server under --base-url that answers for a local checkpoint; None for a managed one.

    By its name, not its address: another server there is another model, and the same one may move. Finished answers
    need no server: where it does not answer, the name ``recorded`` with them is used instead, and its error is returned
    for callers that have something to ask. Raises the error where no name is recorded.
    """
    if not base_url or checkpoint.endpoint:
        return None, None
    try:
        return check_endpoint(base_url, None, serve.api_key_env)[0], None
    except ServerError as error:
        if recorded is None:
            raise
        return recorded, error


def answer_identity(checkpoint: Checkpoint, serve: ServeConfig, *, attached: str | None) -> dict[str, Any]:
    """Return everything but the question that decides an answer: part of every key of the store.

    ``attached`` names the external server that answers for a local checkpoint; None for a managed one.
    """
    return {
        "weights": checkpoint.fingerprint,
        "tokenizer": checkpoint.tokenizer_sha256,
        "chat_template": serve.fastchat_template or checkpoint.chat_template_sha256,
        # Where an answer ends is part of it, not only how it is sampled.
        "generation_config": text_sha256(json.dumps(generation_config(checkpoint), sort_keys=True)),
        "dtype": effective_dtype(checkpoint, serve, attached=attached is not None),
        "max_model_len": context_length(checkpoint, serve),
        "vllm_args": serve.answer_args,
        # An external server may serve other weights than the folder's. Its name outlives its address:
        # a job that resumes on another node finds its answers.
        "attached": attached or False,
        **dated(checkpoint),
        **head_of(checkpoint, serve, attached=attached is not None),
        **kernels_of(checkpoint, attached=attached is not None),
        **({"extra_body": dict(serve.extra_body)} if serve.extra_body else {}),
    }


def head_of(checkpoint: Checkpoint, serve: ServeConfig, *, attached: bool) -> dict[str, str]:
    """Return the dtype of the output layer where it is not the model's; empty where it is, or nothing is known."""
    if attached or checkpoint.endpoint:
        return {}
    head = head_dtype(checkpoint, serve, installed_vllm())
    return {} if head is None else {"head_dtype": head}


def kernels_of(checkpoint: Checkpoint, *, attached: bool) -> dict[str, str]:
    """Return which of vLLM's kernels is not used though it would be: answers that it computed wrongly are not kept."""
    if attached or checkpoint.endpoint or not rotates_natively(checkpoint, installed_vllm()):
        return {}
    return {"rotary_embedding": "native"}


def dated(checkpoint: Checkpoint) -> dict[str, str]:
    """Return what the chat template writes as today's date; empty for one that does not."""
    return {"template_date": str(checkpoint.template_date)} if checkpoint.writes_date else {}
