"""How far the units of a batch are, in one line, from what their commands keep in their folders."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

from evalsuite.fleet.units import Unit
from evalsuite.progress import duration, running_commands
from evalsuite.text import plural

_WINDOW_S = 120.0
"""The time over which rates are taken."""


@dataclass(slots=True)
class _Seen:
    """What a unit was last seen with; ``total`` of 0 where it has not said."""

    done: int = 0
    total: int = 0
    tokens: int = 0


@dataclass(slots=True)
class View:
    """The units of a batch as seen by their head, which looks every few seconds."""

    units: Sequence[Unit]
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _counted: list[int] = field(default_factory=lambda: [0, 0])
    _history: deque[tuple[float, int, int]] = field(default_factory=deque)

    def line(self, active: Collection[str], left: Collection[str], retries: int) -> str:
        """Say how many units run and how fast; ``active`` wait or run, ``left`` are all that are not done.

        Rates are of the last two minutes. The time left takes units that have not started for average ones.
        """
        running, steps = 0, []
        for unit in self.units:
            if unit.name not in active:
                continue
            commands = [*_commands(unit)]
            running += bool(commands)
            steps += [command["step"] for command in commands if command.get("step")]
            if commands:
                self._count(unit.name, _sum(commands))
        for name, last in self._seen.items():
            if name not in left:
                self._count(name, replace(last, done=last.total))
        items, tokens = self._rates()
        n_done = len(self.units) - len(left)
        said = f"{running} of {len(self.units)} units running, {n_done} done"
        if retries:
            said += f", {plural(retries, 'retry', 'retries')}"
        known = [each for each in self._seen.values() if each.total]
        if known:
            said += f": {sum(each.done for each in known):,} of {sum(each.total for each in known):,} items"
        if items:
            said += f", {items:.1f}/s" if items >= 1 else f", {60 * items:.0f}/min"
        if tokens >= 1:
            said += f", {tokens:,.0f} tokens/s"
        if known and items:
            open_ones = [self._seen[name] for name in left if name in self._seen and self._seen[name].total]
            unseen = (len(left) - len(open_ones)) * mean(each.total for each in known)
            owed = sum(max(0, each.total - each.done) for each in open_ones) + unseen
            said += f", {duration(owed / items)} left"
        # What a unit says of itself matters while it answers nothing, such as the start of its server.
        return f"{said}; {steps[0]}" if steps and not items else said

    def _count(self, name: str, now: _Seen) -> None:
        """Add what a unit did since it was last seen; at first, and after another start, that is not known."""
        before = self._seen.get(name)
        if before is not None:
            self._counted[0] += max(0, now.done - before.done)
            self._counted[1] += max(0, now.tokens - before.tokens)
        self._seen[name] = now

    def _rates(self) -> tuple[float, float]:
        now = time.monotonic()
        self._history.append((now, self._counted[0], self._counted[1]))
        while now - self._history[0][0] > _WINDOW_S:
            self._history.popleft()
        then, items, tokens = self._history[0]
        seconds = now - then
        return ((self._counted[0] - items) / seconds, (self._counted[1] - tokens) / seconds) if seconds else (0.0, 0.0)


def _commands(unit: Unit) -> Iterator[dict[str, Any]]:
    for folder in (*(unit.folder / "attempts").glob("*/results"), unit.folder / "out"):
        yield from running_commands(folder)


def _sum(commands: Sequence[dict[str, Any]]) -> _Seen:
    tasks = [task for command in commands for task in command.get("tasks", [])]
    return _Seen(
        sum(task["done"] for task in tasks if task["total"]),
        sum(task["total"] or 0 for task in tasks),
        sum(command.get("tokens", 0) for command in commands),
    )
