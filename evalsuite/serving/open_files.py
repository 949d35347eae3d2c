"""The limit on open files (often 1,024), raised for concurrent connections."""

from __future__ import annotations

import resource

_OTHER_FILES = 256
"""Other open files of a run: the store, logs, data, libraries."""


def max_connections(wanted: int) -> int:
    """Raise the soft limit on open files for ``wanted`` connections; return how many of them are possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    return min(wanted, max(soft // 2, soft - _OTHER_FILES))
