"""Using another package's functions without letting it change the process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

_LOCK = threading.RLock()


@contextmanager
def patched(one: object, **names: Any) -> Iterator[None]:
    """Set attributes of an object within a block and restore or remove them afterwards; one thread at a time."""
    from unittest import mock

    with _LOCK, mock.patch.multiple(one, create=True, **names):
        yield


@contextmanager
def each_patched(objects: Iterable[object], changes: Callable[[Any], Mapping[str, Any]]) -> Iterator[None]:
    """Set the attributes that ``changes`` returns for each object within a block, as :func:`patched`."""
    with ExitStack() as changed:
        for one in objects:
            changed.enter_context(patched(one, **changes(one)))
        yield


@contextmanager
def root_logger_kept() -> Iterator[None]:
    """Restore the root logger's level and handlers after a block.

    Some packages set the root level when they are imported, and ``logging.info`` adds a handler to a root logger
    that has none.
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
