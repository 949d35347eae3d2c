"""servers.json: what external servers refused, and how they answered a few fixed questions, by name and address.

A later run asks in the right form from the start, and says where a server answers otherwise than before. Nothing of it
is part of a key: in bfloat16 greedy answers vary with what else is in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec

from evalsuite.files import write_json

FILE = "servers.json"
QUESTIONS = (
    "Continue: one, two, three, four,",
    "What is the capital of France?",
    "Write the first sentence of a story about a lighthouse.",
    "Translate to German: The weather is nice today.",
)
"""Asked greedily, twice each: an answer that a server does not repeat itself says nothing of its weights."""
_FRESH_DAYS = 7
"""What a server refuses is probed again after this many days: it may have been upgraded."""


@dataclass(frozen=True, slots=True)
class Known:
    """What one server told: the fields that it refuses, with its words, their maxima, and its answers to QUESTIONS.

    ``learned_on`` and ``asked_on`` are the days of the two, in ISO form.
    """

    refused: dict[str, str] = field(default_factory=dict)
    caps: dict[str, int] = field(default_factory=dict)
    learned_on: str = ""
    greedy: list[list[str]] = field(default_factory=list)
    system_fingerprints: list[str] = field(default_factory=list)
    asked_on: str = ""

    @property
    def is_fresh(self) -> bool:
        try:
            return (_today() - date.fromisoformat(self.learned_on)).days < _FRESH_DAYS
        except ValueError:
            return False

    def drift(self, greedy: Sequence[Sequence[str]], system_fingerprints: Sequence[str]) -> str | None:
        """Say in what a server answers otherwise than it did; None if in nothing, or if nothing is known."""
        asked = [(set(before), set(now)) for before, now in zip(self.greedy, greedy, strict=False) if before and now]
        changed = sum(before.isdisjoint(now) for before, now in asked)
        said = [f"{changed} of {len(asked)} fixed questions"] if changed else []
        old, new = self.system_fingerprints, system_fingerprints
        if old and new and set(old).isdisjoint(new):
            said.append(f"its system_fingerprint ({', '.join(sorted(new)[:3])} after {', '.join(sorted(old)[:3])})")
        return f"{' and '.join(said)} changed since {self.asked_on}" if said else None


def recall(path: Path | None, server: str, *, relearn: bool = False) -> Known:
    """Return what is known of ``server`` (``NAME@URL``, without secrets); nothing from a file that is unreadable.

    ``relearn`` leaves out what it refuses, so that it is probed again.
    """
    known = Known() if path is None else _read(path).get(server, Known())
    return replace(known, refused={}, caps={}, learned_on="") if relearn else known


def remember(path: Path, learned: Mapping[str, Known]) -> None:
    """Write what is known of servers; of two processes that write at once, what one learned may be lost."""
    entries = _read(path)
    if entries != (now := {**entries, **learned}):
        write_json(path, msgspec.to_builtins(now))


def forget_servers(path: Path, model: str) -> None:
    """Take out what is known of the servers of ``model``."""
    entries = _read(path)
    if entries != (kept := {server: known for server, known in entries.items() if server.partition("@")[0] != model}):
        write_json(path, msgspec.to_builtins(kept))


def learned(known: Known, refused: dict[str, str], caps: dict[str, int], told: dict[str, Any]) -> Known:
    """Return what is known after a run, in which a server told this."""
    is_old = known.is_fresh and (refused, caps) == (known.refused, known.caps)
    since = known.learned_on if is_old else str(_today())
    known = replace(known, refused=dict(refused), caps=dict(caps), learned_on=since)
    if "greedy" not in told:
        return known
    fingerprints = sorted(told.get("system_fingerprints") or ())
    return replace(known, greedy=told["greedy"], system_fingerprints=fingerprints, asked_on=str(_today()))


def _today() -> date:
    return datetime.now(UTC).date()


def _read(path: Path) -> dict[str, Known]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Known])
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
        # It saves a few refusals, and the next run writes it again.
        return {}
