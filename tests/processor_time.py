"""A limit on the processor time of a piece of work, which holds on a busy machine too."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class TooSlow(Exception):
    pass


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TooSlow after this much processor time; other processes of the machine do not count.

    The garbage collector is off meanwhile: its time depends on what other tests left in memory.
    """

    def ring(*_: object) -> None:
        raise TooSlow

    was_on = gc.isenabled()
    gc.disable()
    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        if was_on:
            gc.enable()
