"""Which models may be ranked against each other: one tab for each comparable set, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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

    A model joins a tab with its data kind, limit and judge whose protocol (data pins and settings of each suite,
    such as MixEval's parser) does not contradict its own.
    Results without any judged figure need no judge: they stand in every tab that fits otherwise. The full
    data come first, larger tabs before smaller ones.
    """
    tabs: list[Tab] = []
    judged = [place for place, model in enumerate(models) if model.judge]
    for place in judged:
        _join(tabs, place, models[place])
    for place in [place for place, model in enumerate(models) if not model.judge]:
        fitting = [tab for tab in tabs if _fits(tab, models[place], any_judge=True)]
        for tab in fitting:
            _add(tab, place, models[place])
        if not fitting:
            _join(tabs, place, models[place])
    tabs.sort(key=lambda tab: (tab.data != "full", tab.limit is not None, -len(tab.members)))
    for tab in tabs:
        tab.members.sort()
        tab.apart = _apart(tab, tabs)
        tab.reason = _reason(tab, tabs)
    return tabs


def judge_key(model: ModelResult) -> str | None:
    """Tell judges apart: the fingerprint, else the name."""
    judge = model.judge
    return None if not judge else str(judge.get("fingerprint") or f"name:{judge.get('name')}")


def _join(tabs: list[Tab], place: int, model: ModelResult) -> None:
    tab = next((tab for tab in tabs if _fits(tab, model, any_judge=False)), None)
    if tab is None:
        tab = Tab(model.scores["data"], model.scores.get("limit"), judge_key(model), model.judge)
        tabs.append(tab)
    _add(tab, place, model)


def _fits(tab: Tab, model: ModelResult, *, any_judge: bool) -> bool:
    if (tab.data, tab.limit) != (model.scores["data"], model.scores.get("limit")):
        return False
    if not any_judge and tab.judge_key != judge_key(model):
        return False
    return tab.protocol.fits(model.protocol)


def _add(tab: Tab, place: int, model: ModelResult) -> None:
    tab.members.append(place)
    tab.protocol = tab.protocol.joined(model.protocol)


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
