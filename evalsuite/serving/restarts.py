"""Work on a server, done again where a server of ours died."""

from __future__ import annotations

from collections.abc import Callable

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
