"""A managed server and the sessions that ask it: one, or one for each of several LoRA adapters of one base."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from evalsuite.checkpoint import Checkpoint
from evalsuite.errors import CheckpointError
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.deaths import PortTakenError
from evalsuite.serving.server import Server

_PORTS = 3
"""How many ports are tried when evalsuite chooses them."""


class Engine(AbstractContextManager["Engine"]):
    """Starts a server for ``checkpoints`` when it is first needed, and again after it died; ends it at the end."""

    def __init__(self, checkpoints: Sequence[Checkpoint], serve: ServeConfig, log_path: Path) -> None:
        self.server: Server | None = None
        self._refusal: CheckpointError | None = None
        self._checkpoints, self._serve, self._log_path = checkpoints, serve, log_path

    def start(self, on_step: Callable[[str], None]) -> Server:
        """Return the server, up and ready; raises CheckpointError or ServerError when it dies while starting."""
        if self._refusal is not None:
            raise self._refusal
        if self.server is not None:
            return self.server
        # A free port may be taken before vLLM binds it; each start draws another.
        starts = 1 if "port" in dict(self._serve.vllm_args) else _PORTS
        while True:
            starts -= 1
            try:
                return self._started(on_step)
            except PortTakenError:
                if not starts:
                    raise
            except CheckpointError as error:
                # Every suite asks for the server, and a checkpoint that cannot be served stays one.
                self._refusal = error
                raise

    def _started(self, on_step: Callable[[str], None]) -> Server:
        first, *others = self._checkpoints
        self.server = server = Server(first, self._serve, self._log_path, others=others)
        try:
            server.wait_ready(on_step)
        except BaseException:
            # What dies while starting would die again: only a server that was up is restarted.
            self.stop()
            raise
        return server

    def serves(self, checkpoint: Checkpoint, serve: ServeConfig) -> bool:
        """Whether the server answers for a checkpoint as ``serve`` asks."""
        return checkpoint in self._checkpoints and serve.same_server(self._serve)

    def stop(self) -> None:
        """End the server, if there is one; safe to call twice."""
        server, self.server = self.server, None
        if server is not None:
            server.stop()

    def __exit__(self, *_: object) -> None:
        self.stop()


def engine_key(checkpoint: Checkpoint) -> Hashable:
    """Return what two checkpoints have in common that one server can serve at once: adapters of one base.

    The server decodes all answers with one tokenizer.
    """
    if checkpoint.adapter is None or checkpoint.path is None:
        return checkpoint.name, checkpoint.fingerprint
    return checkpoint.path.resolve(), checkpoint.tokenizer_sha256, checkpoint.trust_remote_code
