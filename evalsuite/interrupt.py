"""What an interrupt does before the work begins: the program is still loading, so there is nothing to clean up."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130
RESUME = "evalsuite: interrupted; finished answers are kept, run the same command again to resume"


def stop_at_once(_: int, __: FrameType | None) -> None:
    """End with one sentence and the exit code of an interrupt."""
    os.write(sys.stderr.fileno(), f"{RESUME}\n".encode())
    os._exit(INTERRUPTED)


def stop_while_loading() -> None:
    """Answer SIGINT and SIGTERM by :func:`stop_at_once`; ignored signals stay ignored."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop_at_once)
