"""The prompts of every suite, as texts to look for in training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalsuite.assets.asset import Pin
from evalsuite.errors import EvalsuiteError, UsageError, first_line
from evalsuite.suites.base import Suite
from evalsuite.suites.options import DataKind
from evalsuite.suites.registry import parse_suite, suites
from evalsuite.suites.types import CheckedItem, Pins


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """All items that are on this machine, their data's pins, and in one line why a suite is missing."""

    items: tuple[CheckedItem, ...]
    pins: Pins
    missing: Mapping[str, str]


def counted_names() -> dict[str, Suite]:
    """Return the names under which contamination is counted, in the order of the tables, with their suites."""
    found: dict[str, Suite] = {}
    for suite in suites().values():
        for name in suite.checked_names or (() if suite.whole else (suite.name,)):
            found.setdefault(name, suite)
    return found


def names_of(suites_asked: Sequence[str]) -> list[str]:
    """Return the names that suites are counted under: NAME, NAME:PART or FILE.yaml, which is read.

    Raises UsageError for an unknown one, and for one without prompts to look for.
    """
    specs = [parse_suite(suite, recorded=True) for suite in suites_asked]
    known = counted_names()
    found: list[str] = []
    for spec in specs:
        own = [name for name, suite in known.items() if suite is spec.suite]
        found += [name for name in own if not spec.parts or name in (spec.key, *spec.parts)] or own
    if not found:
        raise UsageError(f"{', '.join(suites_asked)} has no prompts to look for; give one of {', '.join(known)}")
    return list(dict.fromkeys(found))


def load_benchmarks(data: DataKind = "full", names: Sequence[str] | None = None) -> Benchmarks:
    """Read the prompts of the suites whose data are on this machine; the others are named in ``missing``.

    ``names`` chooses some of :func:`counted_names`. Nothing is downloaded: ``evalsuite data pull`` does that. An item's
    id is its benchmark's own where it has one, else its position in the pinned rows (from 0).
    """
    known = counted_names()
    items: list[CheckedItem] = []
    pins: dict[str, Pin] = {}
    missing: dict[str, str] = {}
    for name in known if names is None else names:
        try:
            checked = known[name].checked_items(name, data)
        except EvalsuiteError as error:
            missing[name] = first_line(error)
            continue
        items += checked.items
        pins |= checked.pins
    return Benchmarks(tuple(items), pins, missing)


def is_here(name: str, data: DataKind) -> bool:
    """Whether a suite's prompts can be read on this machine."""
    return name in counted_names() and bool(load_benchmarks(data, [name]).items)
