"""The values that suites and their callers exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalsuite.assets.asset import Pin
from evalsuite.records.rows import Header, Row

Scores = dict[str, Any]
"""One suite's object of scores.json, JSON-ready (None where a part is missing). Its schema is the suite's own."""
Pins = Mapping[str, Pin]
"""What data were read, by asset."""

NOT_ASKED = "not asked for"
"""Why a part of a suite that was not requested is missing."""

OnProgress = Callable[[str, int, int, int], None]
"""Called with (part, requests answered, requests known so far, unscored documents of all parts), from the event loop's
thread."""


@dataclass(frozen=True, slots=True)
class Item:
    """One benchmark item: its id (unique in the suite) and the benchmark's own record."""

    id: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A suite's items and where they came from.

    ``data_pins`` goes into the manifest and keeps figures on different data apart. ``context`` is what the suite needs
    besides items (judge prompts, references), read-only. ``missing`` has parts that are not available, with the reason.
    """

    items: Sequence[Item]
    data_pins: Pins
    context: Any = None
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a peer's file holds: a header (its options are the file's, its judges those that it names) and its rows."""

    header: Header
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class WholeRun:
    """What a suite that runs as a whole returns.

    ``applied`` names the settings whose effective value differs from the requested one; ``export`` writes the peer's
    files into a folder, since they hold more than the rows do.
    """

    rows: Sequence[Row]
    document: Any
    missing: Mapping[str, str] = field(default_factory=dict)
    applied: Mapping[str, Any] = field(default_factory=dict)
    export: Callable[[Path], None] | None = None


@dataclass(frozen=True, slots=True)
class CheckedItem:
    """What the contamination check compares of one item: the user's turns, and the options of a multiple choice."""

    suite: str
    id: str
    turns: tuple[str, ...]
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckedItems:
    """The items that the contamination check counts under one name, and the pins of the data they were read from."""

    items: Sequence[CheckedItem]
    pins: Pins = field(default_factory=dict)
