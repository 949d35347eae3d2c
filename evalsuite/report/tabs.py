"""Which models may be ranked against each other: one tab for each comparable set, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import combinations_with_replacement
from typing import Any

from evalsuite.report.protocol import Protocol
from evalsuite.report.reading import ModelResult


@dataclass(slots=True)
class Tab:
    """Models on the same data, limit, protocol and judge.

    ``members`` are places in the list of models, ``apart`` the settings in which tabs that are else alike differ.
    """

    data: str
    limit: int | None
    judge_key: str | None
    judge: Mapping[str, object] | None
    protocol: Protocol = field(default_factory=Protocol)
    members: list[int] = field(default_factory=list)
    reason: str = ""
    apart: Sequence[str] = ()

    @property
    def title(self) -> str:
        words = [f"{self.data} data" if self.limit is None else f"{self.data} data, limit {self.limit}"]
        words.append(f"judge {self.judge.get('name')}" if self.judge else "no judge")
        return " · ".join([*words, *self.apart])


def tabs_of(models: Sequence[ModelResult]) -> list[Tab]:
    """Group models so that all figures in a tab answer the same questions, judged by the same judge.

    A model stands in every tab with its data kind, limit and judge whose protocol (data pins and settings of each
    suite, such as MixEval's parser) does not contradict its own; one without any judged figure needs no judge. Any two
    that share a suite and contradict each other in nothing meet in a tab. The full data come first, larger tabs before
    smaller ones; the order of ``models`` decides nothing.
    """
    order = sorted(range(len(models)), key=lambda place: _rank(models[place]))
    alone = [_alone(place, models[place]) for place in order]
    tabs: list[Tab] = []
    for one, other in combinations_with_replacement(alone, 2):
        pair = {*one.members, *other.members}
        comparable = one is other or _share_a_suite(*(models[place] for place in pair))
        if comparable and _fits(one, other) and not any(pair <= set(tab.members) for tab in tabs):
            tabs.append(reduce(_with, alone, _with(one, other)))
    tabs.sort(key=lambda tab: (tab.data != "full", tab.limit is not None, -len(tab.members)))
    for tab in tabs:
        tab.members.sort()
        tab.apart = _apart(tab, tabs)
        tab.reason = _reason(tab, tabs)
    return tabs


def _rank(model: ModelResult) -> tuple[Any, ...]:
    """Put judged models first and those first whose protocol is known best: a tab that begins with them is definite."""
    known = model.protocol
    pins = sorted((suite, sorted(own.items())) for suite, own in known.pins.items())
    n_known = len(known.settings) + sum(len(own) for _, own in pins)
    same = (str(model.scores.get("limit")), judge_key(model) or "", repr(sorted(known.settings.items())), pins)
    return (not model.judge, -n_known, *same, sorted(model.suites))


def _share_a_suite(one: ModelResult, other: ModelResult) -> bool:
    return not one.suites.keys().isdisjoint(other.suites)


def judge_key(model: ModelResult) -> str | None:
    """Tell judges apart: the fingerprint, else the name."""
    judge = model.judge
    return None if not judge else str(judge.get("fingerprint") or f"name:{judge.get('name')}")


def _alone(place: int, model: ModelResult) -> Tab:
    limit = model.scores.get("limit")
    return Tab(model.scores["data"], limit, judge_key(model), model.judge, model.protocol, [place])


def _fits(tab: Tab, other: Tab) -> bool:
    if (tab.data, tab.limit) != (other.data, other.limit):
        return False
    if tab.judge and other.judge and tab.judge_key != other.judge_key:
        return False
    return tab.protocol.fits(other.protocol)


def _with(tab: Tab, other: Tab) -> Tab:
    """Return ``tab`` with the members of ``other``; as it is where they contradict it."""
    if not _fits(tab, other):
        return tab
    judged = tab if tab.judge else other
    members = list(dict.fromkeys([*tab.members, *other.members]))
    protocol = tab.protocol.joined(other.protocol)
    return Tab(tab.data, tab.limit, judged.judge_key, judged.judge, protocol, members)


def _apart(tab: Tab, tabs: Sequence[Tab]) -> list[str]:
    """Say the settings that keep this tab apart from those with the same data, limit and judge."""
    alike = [
        other for other in tabs if (other.data, other.limit, other.judge_key) == (tab.data, tab.limit, tab.judge_key)
    ]
    keys = dict.fromkeys(key for other in alike for key in tab.protocol.differing(other.protocol))
    return [tab.protocol.words(key) for key in sorted(keys)]


def _reason(tab: Tab, tabs: Sequence[Tab]) -> str:
    """Say in one sentence what keeps this tab apart from the others."""
    others = [other for other in tabs if other is not tab]
    if not others:
        return ""
    differences = []
    if any(other.data != tab.data for other in others):
        differences.append("other data (mini and full are different questions)")
    if any(other.limit != tab.limit for other in others):
        differences.append("another limit (other questions)")
    if any(other.judge_key != tab.judge_key for other in others):
        differences.append("another judge (ratings of different judges do not compare)")
    same = [other for other in others if (other.data, other.limit) == (tab.data, tab.limit)]
    if not all(tab.protocol.same_data(other.protocol) for other in same):
        differences.append("another version of the benchmark data")
    keys = dict.fromkeys(key for other in same for key in tab.protocol.differing(other.protocol))
    if keys:
        here = ", ".join(tab.protocol.words(key) for key in sorted(keys))
        differences.append(f"another protocol (here: {here})")
    return "Not ranked against the other tabs: they have " + "; ".join(differences) + "."
