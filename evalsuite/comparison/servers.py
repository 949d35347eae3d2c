"""One server at a time, kept while the next question is for a model that it serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from evalsuite.checkpoint import Checkpoint
from evalsuite.comparison.recorded import Recorded
from evalsuite.comparison.settings import CardConfig, CompareConfig, RateConfig
from evalsuite.errors import blamed_on
from evalsuite.progress import Progress
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.engine import Engine, engine_key
from evalsuite.serving.known_servers import FILE as SERVERS_FILE
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.reasoning import settle
from evalsuite.serving.requests import Scorer
from evalsuite.serving.session import Session, answer_identity, with_restarts
from evalsuite.store import Store, open_store

Asked = TypeVar("Asked")
Found = TypeVar("Found")


def source_identity(source: Checkpoint | Recorded, serve: ServeConfig) -> dict[str, Any] | None:
    """Return what decides a model's answers, the same as in ``evalsuite run``; None for recorded answers."""
    return None if isinstance(source, Recorded) else answer_identity(source, serve, attached=None)


class Servers:
    """Hands out the client of one model after the other; a context manager that leaves no server behind.

    The server of the last model stays up until one is asked for that it does not serve, so a judge that is also
    the last candidate is not started twice, and adapters of one base that are expected share theirs. ``logs`` is the
    folder of the servers' logs.
    """

    def __init__(
        self, store: Store, logs: Path, progress: Progress, *, candidates: ServeConfig, judges: ServeConfig
    ) -> None:
        self.usage: dict[str, Mapping[str, Any]] = {}
        self._store = store
        self._logs = logs
        self._progress = progress
        self._candidates, self._judges = candidates, judges
        self._loop = LoopThread()
        self._session: Session | None = None
        self._identity: Mapping[str, Any] | None = None
        self._engine: Engine | None = None
        self._first_of: dict[str, str] = {}
        self._expected: dict[bool, Sequence[Checkpoint]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._leave()
        finally:
            self._stop_engine()
            self._loop.__exit__(kind, error, tb)

    def expect(self, checkpoints: Sequence[Checkpoint], *, candidates: bool) -> None:
        """Say which models will be asked in a role: those that one server can serve at once then share it."""
        self._expected[candidates] = checkpoints

    def ask_all(
        self, checkpoint: Checkpoint, work: Callable[[Scorer], Iterable[Awaitable[None]]], *, candidate: bool
    ) -> None:
        """Await all of ``work`` on the model's client; a server that dies is restarted a few times.

        ``work`` is called again then: what was answered before comes from the store.
        """
        session = self._session_of(checkpoint, candidate=candidate)
        # One server may do for a candidate and its judge, who think as each is told to.
        serve = self._candidates if candidate else self._judges
        client = session.client.with_reasoning(settle(checkpoint, serve, session.chat_format))

        async def walk() -> None:
            await gather_or_cancel(work(client))
            await client.look_for_drift()

        with nullcontext() if candidate else blamed_on(f"judge {checkpoint.name}"):
            with_restarts(session, lambda: self._loop.wait(walk()), self._progress)
        self.usage[self._named(checkpoint)] = {**asdict(session.client.usage), **session.client.server_told}

    def ask_each(
        self,
        checkpoint: Checkpoint,
        line: str,
        asked: Sequence[Asked],
        ask: Callable[[Asked, Scorer], Awaitable[Found]],
        *,
        candidate: bool,
    ) -> list[Found]:
        """Ask a model about each of ``asked`` under one line of progress; returns what ``ask`` found, in order."""
        found: dict[int, Found] = {}

        async def one(number: int, client: Scorer) -> None:
            found[number] = await ask(asked[number], client)
            self._progress.advance(line)

        def work(client: Scorer) -> Iterable[Awaitable[None]]:
            self._progress.begin(line, len(asked))
            return (one(number, client) for number in range(len(asked)))

        self.ask_all(checkpoint, work, candidate=candidate)
        return [found[number] for number in range(len(asked))]

    def _named(self, checkpoint: Checkpoint) -> str:
        """Return a model's name in ``usage``: one of two with the same name has its fingerprint too."""
        is_first = self._first_of.setdefault(checkpoint.name, checkpoint.fingerprint) == checkpoint.fingerprint
        return checkpoint.name if is_first else checkpoint.slug

    def is_same_server(self, source: Checkpoint | Recorded, judge: Checkpoint) -> bool:
        """Whether a candidate answers as ``judge`` does, so that one server will do for both."""
        return source_identity(source, self._candidates) == source_identity(judge, self._judges)

    def _session_of(self, checkpoint: Checkpoint, *, candidate: bool) -> Session:
        serve = self._candidates if candidate else self._judges
        identity = answer_identity(checkpoint, serve, attached=None)
        if self._session is not None and identity == self._identity:
            return self._session
        self._leave()
        log = self._logs / f"{checkpoint.slug}-{'candidate' if candidate else 'judge'}.log"
        self._session = Session(
            checkpoint,
            self._store,
            serve,
            log,
            engine=self._engine_of(checkpoint, serve, log, candidate=candidate),
            servers=self._logs.parent / SERVERS_FILE,
            progress=self._progress,
        )
        self._identity = identity
        return self._session

    def _engine_of(self, checkpoint: Checkpoint, serve: ServeConfig, log: Path, *, candidate: bool) -> Engine:
        if self._engine is None or not self._engine.serves(checkpoint, serve):
            self._stop_engine()
            key = engine_key(checkpoint)
            others = [one for one in self._expected.get(candidate, ()) if engine_key(one) == key and one != checkpoint]
            self._engine = Engine((checkpoint, *others), serve, log)
        return self._engine

    def _stop_engine(self) -> None:
        if self._engine is not None:
            self._engine.stop()
            self._engine = None

    def _leave(self) -> None:
        session, self._session, self._identity = self._session, None, None
        if session is None:
            return
        try:
            self._loop.wait(session.client.close())
        finally:
            session.stop()


@contextmanager
def opened_servers(config: CompareConfig | RateConfig | CardConfig, progress: Progress) -> Iterator[Servers]:
    """Open the store of a command's results, and hand out clients of models and judges served as it says."""
    logs, judges = config.results / "logs", config.judge_serving
    with (
        open_store(config.results, config.store) as store,
        Servers(store, logs, progress, candidates=config.serve, judges=judges) as servers,
    ):
        yield servers
