"""Work on a server: all of it at once, and again where a server of ours died."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from evalsuite.errors import ServerError
from evalsuite.progress import Progress
from evalsuite.serving.session import Session


def with_restarts(session: Session, work: Callable[[], None], progress: Progress) -> None:
    """Do ``work``; when our own server dies, start it anew a bounded number of times and go on."""
    while True:
        try:
            return work()
        except ServerError as error:
            if not session.restart_allowed():
                raise
            progress.say(f"the server died and is started again ({str(error).splitlines()[0]})")


async def gather_or_cancel(work: Sequence[Awaitable[None]]) -> None:
    """Await all; when one fails, cancel the rest, wait for them to end, and raise that failure."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
