"""Using a package's own functions without letting it change the process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_ABSENT = object()
_LOCK = threading.RLock()


@contextmanager
def replaced(module: ModuleType, **names: Any) -> Iterator[None]:
    """Give ``module`` other objects under ``names`` for the length of a block, one block at a time.

    A name that the module does not have (a builtin such as ``print``) is removed again afterwards.
    """
    with _LOCK:
        before = {name: vars(module).get(name, _ABSENT) for name in names}
        vars(module).update(names)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is _ABSENT:
                    vars(module).pop(name, None)
                else:
                    vars(module)[name] = value


@contextmanager
def root_logger_kept() -> Iterator[None]:
    """Put the root logger's level and handlers back afterwards.

    alpaca_eval sets the root level to INFO when it is imported, and ``logging.info`` adds a handler
    to a root logger that has none.
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
