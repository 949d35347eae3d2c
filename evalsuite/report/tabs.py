"""Which models may be ranked against each other: one tab for each comparable set, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import combinations_with_replacement
from typing import Any

from evalsuite.documents import JudgeEntry
from evalsuite.report.protocol import Protocol, protocol_of
from evalsuite.report.texts import shorten, without_paths
from evalsuite.results.reading import ModelResult

_SHORT_HASH, _JUDGE_LENGTH = 8, 24


@dataclass(slots=True)
class Tab:
    """Models on the same data, limit, protocol and judge.

    ``members`` are indices into the list of models, ``distinctions`` the settings in which tabs that are otherwise
    alike differ.
    """

    data: str
    limit: int | None
    judge: JudgeEntry | None
    protocol: Protocol = field(default_factory=Protocol)
    members: list[int] = field(default_factory=list)
    reason: str = ""
    distinctions: Sequence[str] = ()

    @property
    def judge_key(self) -> str | None:
        return None if self.judge is None else self.judge.key

    @property
    def title(self) -> str:
        return self._titled(self.judge.name if self.judge else "")

    @property
    def short_title(self) -> str:
        """The title with a judge's name that fits on a tab."""
        return self._titled(shorten(self.judge.name, _JUDGE_LENGTH) if self.judge else "")

    def _titled(self, judge: str) -> str:
        title = [f"{self.data} data" if self.limit is None else f"{self.data} data, limit {self.limit}"]
        return without_paths(" · ".join([*title, f"judge {judge}" if self.judge else "no judge", *self.distinctions]))


def slugs_of(models: Sequence[ModelResult]) -> list[str]:
    """Return a name per model that is unique in a page: the folder's, and from its second judge on the judge's hash.

    Without commas, which separate the names in an address.
    """
    seen: Counter[str] = Counter()
    slugs = []
    for model in models:
        judge = ("" if model.judge is None else model.judge.key).removeprefix("name:")[:_SHORT_HASH]
        slug = model.slug.replace(",", "_")
        slugs.append(f"{slug}@{judge or seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return slugs


def labels_of(models: Sequence[ModelResult]) -> list[str]:
    """Return how each model is listed: its name, and with an ambiguous name what tells it apart."""
    names = Counter(model.name for model in models)
    folders = Counter(model.slug for model in models)
    labels = []
    for model in models:
        label = model.name
        if names[model.name] > folders[model.slug]:
            label += f" ({model.slug[-_SHORT_HASH:]})"
        if folders[model.slug] > 1:
            label += f" (judge {model.judge.name})" if model.judge else ""
        labels.append(label)
    return labels


def tabs_of(models: Sequence[ModelResult]) -> list[Tab]:
    """Group models so that all figures in a tab answer the same questions, judged by the same judge.

    A model is in every tab with its data kind, limit and judge whose protocol (data pins and settings of each
    suite) does not contradict its own; one without any judged figure needs no judge. Any two that share a suite and
    contradict each other in nothing meet in a tab. The full data come first, larger tabs before smaller ones; the
    order of ``models`` decides nothing.
    """
    singles = [
        Tab(model.scores.data, model.scores.limit, model.judge, protocol_of(model), [number])
        for number, model in enumerate(models)
    ]
    singles.sort(key=lambda tab: _rank(tab, models[tab.members[0]]))
    tabs: list[Tab] = []
    for one, other in combinations_with_replacement(singles, 2):
        pair = {*one.members, *other.members}
        comparable = one is other or set.intersection(*(set(models[number].suites) for number in pair))
        if comparable and _fits(one, other) and not any(pair <= set(tab.members) for tab in tabs):
            tabs.append(reduce(_with, singles, _with(one, other)))
    tabs.sort(key=lambda tab: (tab.data != "full", tab.limit is not None, -len(tab.members)))
    for tab in tabs:
        tab.members.sort()
        alike = [one for one in tabs if (one.data, one.limit, one.judge_key) == (tab.data, tab.limit, tab.judge_key)]
        tab.distinctions = _setting_texts(tab, alike)
        tab.reason = _reason(tab, tabs)
    return tabs


def _rank(tab: Tab, model: ModelResult) -> tuple[Any, ...]:
    """Put judged models first and those first whose protocol is known best: a tab that begins with them is definite."""
    known = tab.protocol
    pins = sorted((key, sorted(by_asset.items())) for key, by_asset in known.pins.items())
    n_known = len(known.settings) + sum(len(by_asset) for _, by_asset in pins)
    same = (str(tab.limit), tab.judge_key or "", repr(sorted(known.settings.items())), pins)
    return (tab.judge is None, -n_known, *same, sorted(model.suites))


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
    members = list(dict.fromkeys([*tab.members, *other.members]))
    return Tab(tab.data, tab.limit, tab.judge or other.judge, tab.protocol.joined(other.protocol), members)


def _setting_texts(tab: Tab, others: Sequence[Tab]) -> list[str]:
    settings = dict.fromkeys(setting for other in others for setting in tab.protocol.differing(other.protocol))
    return [tab.protocol.setting_text(setting) for setting in sorted(settings)]


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
        differences.append("another judge (ratings of different judges are not comparable)")
    same = [other for other in others if (other.data, other.limit) == (tab.data, tab.limit)]
    if not all(tab.protocol.same_data(other.protocol) for other in same):
        differences.append("another version of the benchmark data")
    if settings := _setting_texts(tab, same):
        differences.append(f"another protocol (here: {', '.join(settings)})")
    return without_paths("Not ranked against the other tabs: they have " + "; ".join(differences) + ".")
