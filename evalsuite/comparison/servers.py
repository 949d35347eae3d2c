"""One model server at a time, kept while the next question is for the same model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from evalsuite.checkpoint import Checkpoint
from evalsuite.comparison.recorded import Recorded
from evalsuite.config import RunConfig
from evalsuite.progress import Progress
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.requests import Chat
from evalsuite.serving.restarts import with_restarts
from evalsuite.serving.session import Session, answer_identity
from evalsuite.store import Store


def identity_of(checkpoint: Checkpoint, config: RunConfig, *, candidate: bool) -> dict[str, Any]:
    """Return what decides a model's answers: the same words as in ``evalsuite run``, so that its answers are found."""
    word = config.chat_template if candidate else None
    return answer_identity(checkpoint, config.serve_options(), word, attached=None)


def source_identity(source: Checkpoint | Recorded, config: RunConfig) -> dict[str, Any] | None:
    """Return what decides a candidate's answers; None for recorded ones, which are what they are."""
    return None if isinstance(source, Recorded) else identity_of(source, config, candidate=True)


class Servers:
    """Hands out the client of one model after the other; a context manager that leaves no server behind.

    The server of the last model stays up until another one is asked for, so a judge that is also
    the last candidate is not started twice.
    """

    def __init__(self, store: Store, config: RunConfig, progress: Progress) -> None:
        self.usage: dict[str, Mapping[str, Any]] = {}
        self.serve_seconds = 0.0
        self._store = store
        self._config = config
        self._progress = progress
        self._loop = LoopThread()
        self._session: Session | None = None
        self._identity: Mapping[str, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._leave()
        finally:
            self._loop.__exit__(kind, error, tb)

    def ask_all(
        self,
        checkpoint: Checkpoint,
        work: Callable[[Chat], Sequence[Awaitable[None]]],
        *,
        candidate: bool,
    ) -> None:
        """Await all of ``work`` on the model's client; a server that dies is started anew a few times.

        ``work`` is called again then: what was answered before comes from the store.
        """
        session = self._session_of(checkpoint, candidate=candidate)

        async def walk() -> None:
            await gather_or_cancel(work(session.client))

        with_restarts(session, lambda: self._loop.wait(walk()), self._progress)
        self.usage[checkpoint.name] = asdict(session.client.usage)

    def _session_of(self, checkpoint: Checkpoint, *, candidate: bool) -> Session:
        identity = identity_of(checkpoint, self._config, candidate=candidate)
        if self._session is not None and identity == self._identity:
            return self._session
        self._leave()
        config = self._config
        self._session = Session(
            checkpoint,
            self._store,
            config.serve_options(),
            config.results / "logs" / f"{checkpoint.slug}-{'candidate' if candidate else 'judge'}.log",
            template_word=config.chat_template if candidate else None,
            in_flight=config.in_flight,
            on_step=self._progress.step,
        )
        self._identity = identity
        return self._session

    def _leave(self) -> None:
        session, self._session, self._identity = self._session, None, None
        if session is None:
            return
        try:
            self._loop.wait(session.client.close())
        finally:
            session.stop()
            self.serve_seconds += session.serve_seconds
