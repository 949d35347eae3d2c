"""How many connections a process may hold: a bound that is usually 1,024 files, and ours to raise."""

from __future__ import annotations

import resource

_OTHER_FILES = 256
"""What a run holds open besides: the store, logs, data, libraries."""


def room_for_connections(wanted: int) -> int:
    """Raise the bound on open files for ``wanted`` connections; return how many of them there is room for."""
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
