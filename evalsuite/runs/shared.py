"""What the runs of one process share: the store, the event loop, and the judges' servers where they stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property

from evalsuite.config import RunConfig
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.session import Session
from evalsuite.store import Store, open_store


class Shared(AbstractContextManager["Shared"]):
    """Opened when first needed, closed at the end of the ``with`` block.

    With ``keep_judge`` a judge's server serves all runs, beside the candidates' servers; otherwise it ends with each.
    """

    def __init__(self, config: RunConfig, *, keep_judge: bool = False) -> None:
        self._config, self._keep_judge = config, keep_judge
        self._stack = ExitStack()
        self._judges: dict[str, Session] = {}

    @cached_property
    def store(self) -> Store:
        return self._stack.enter_context(open_store(self._config.results, self._config.store))

    @cached_property
    def loop(self) -> LoopThread:
        return self._stack.enter_context(LoopThread())

    @contextmanager
    def judge(self, slug: str, begin: Callable[[], Session]) -> Iterator[Session]:
        """Return a judge's session; ``begin`` makes it if there is none yet."""
        if slug in self._judges:
            yield self._judges[slug]
            return
        loop = self.loop  # opened before the judge, so that it closes after it
        with ExitStack() as stack:
            session = stack.enter_context(begin())
            stack.callback(lambda: loop.wait(session.client.close()))
            if self._keep_judge:
                self._judges[slug] = session
                self._stack.push(stack.pop_all())
            yield session

    def __exit__(self, *_: object) -> None:
        self._stack.close()
