"""Restarting a managed server that died."""

from __future__ import annotations

from collections.abc import Callable

from evalsuite.errors import ServerError, first_line
from evalsuite.progress import Progress
from evalsuite.serving.session import Session


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
