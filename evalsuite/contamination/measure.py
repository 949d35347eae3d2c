"""Contamination: which items of the benchmarks stand in a data mix, counted and named, never quoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.analysis.document import Analysis, Chart, Column, Table, analysis_name, write_analysis
from evalsuite.contamination.index import BenchmarkIndex, Overlap, OverlapRule
from evalsuite.contamination.prompts import SUITES, Benchmarks, DataKind, load_benchmarks
from evalsuite.conversations.formats import Conversation, conversation_of, detect_format
from evalsuite.conversations.source import Rows, open_source
from evalsuite.errors import DataError
from evalsuite.files import exists
from evalsuite.progress import Progress
from judges.types import Unscored

MAX_EXAMPLES = 20
"""Conversations named for each suite."""

_TELL_EVERY = 500


@dataclass(frozen=True, slots=True)
class Meter:
    """The benchmarks' prompts, ready to be looked for."""

    data: DataKind
    benchmarks: Benchmarks
    index: BenchmarkIndex

    def overlaps(self, conversation: Conversation) -> list[Overlap]:
        """Return the items that the user's turns of one conversation hold."""
        return self.index.overlaps([message.content for message in conversation.messages if message.role == "user"])


def load_meter(data: DataKind = "full", rule: OverlapRule | None = None) -> Meter:
    """Read every suite's prompts and index them; suites whose data are missing are named, not skipped in silence."""
    benchmarks = load_benchmarks(data)
    return Meter(data, benchmarks, BenchmarkIndex(benchmarks.items, rule or OverlapRule()))


class Tally:
    """What was found so far: the items of each suite with the conversations that hold them."""

    def __init__(self) -> None:
        self.n_read = 0
        self._items: dict[str, dict[str, tuple[float, str]]] = {}
        self._conversations: dict[str, int] = {}
        self._n_overlapping = 0

    def add(self, conversation_hash: str, overlaps: Sequence[Overlap]) -> None:
        """Count one conversation with the items it holds."""
        self.n_read += 1
        self._n_overlapping += bool(overlaps)
        for suite in {overlap.item.suite for overlap in overlaps}:
            self._conversations[suite] = self._conversations.get(suite, 0) + 1
        for overlap in overlaps:
            found = self._items.setdefault(overlap.item.suite, {})
            # Of several conversations with one item the fullest is named; of equals the smallest hash.
            best = found.get(overlap.item.id)
            if best is None or (-overlap.share, conversation_hash) < (-best[0], best[1]):
                found[overlap.item.id] = (overlap.share, conversation_hash)

    def figures(self, meter: Meter) -> dict[str, Any]:
        """Return the counts as JSON: the rule, every suite's figures, what is missing and why, and the data's pins."""
        totals: dict[str, int] = {}
        for item in meter.benchmarks.items:
            totals[item.suite] = totals.get(item.suite, 0) + 1
        suites = {}
        for suite, n_items in totals.items():
            found = self._items.get(suite, {})
            named = sorted(found.items(), key=lambda pair: (-pair[1][0], pair[0]))[:MAX_EXAMPLES]
            suites[suite] = {
                "n_items": n_items,
                "n_overlapped": len(found),
                "share": len(found) / n_items,
                "n_conversations": self._conversations.get(suite, 0),
                "examples": [
                    {"item": item, "conversation": conversation, "covered": round(share, 4)}
                    for item, (share, conversation) in named
                ],
            }
        return {
            "rule": meter.index.describe(),
            "data": meter.data,
            "n_conversations": self.n_read,
            "n_overlapping": self._n_overlapping,
            "suites": suites,
            "missing": dict(meter.benchmarks.missing),
            "pins": {name: dict(pin) for name, pin in meter.benchmarks.pins.items()},
        }


def shares_of(figures: Mapping[str, Any]) -> dict[str, float]:
    """Return the share of each suite's items that was found, for a manifest."""
    return {suite: own["share"] for suite, own in figures["suites"].items()}


def suite_rows(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row a suite for the terminal; a suite without data is there with the reason."""
    rows: list[dict[str, Any]] = []
    for suite in SUITES:
        own = figures["suites"].get(suite)
        if own is not None:
            share = f"{own['share']:.2%}"
            rows.append(
                {"suite": suite, "items": own["n_items"], "found": own["n_overlapped"], "share": share, "remark": ""}
            )
        elif suite in figures["missing"]:
            rows.append({"suite": suite, "items": "", "found": "", "share": "", "remark": figures["missing"][suite]})
    return rows


def measure(words: Sequence[str], meter: Meter, progress: Progress) -> dict[str, Any]:
    """Read the named sources once, all of them together, and return the figures.

    Adds ``sources`` (word, fingerprint, rows, and rows that are no conversation by reason). Raises
    DataError when a source cannot be read or holds no conversation at all.
    """
    tally = Tally()
    opened = [open_source(word) for word in words]
    sources = [_measure_one(rows, meter, tally, progress) for rows in opened]
    return {**tally.figures(meter), "sources": sources}


def _measure_one(rows: Rows, meter: Meter, tally: Tally, progress: Progress) -> dict[str, Any]:
    layout = detect_format(rows.columns, rows.word)
    task = f"reading {rows.name}"
    progress.begin(task, rows.n_rows)
    unread: dict[str, int] = {}
    n_rows = 0
    for row in rows:
        n_rows += 1
        conversation = conversation_of(row, layout)
        if isinstance(conversation, Unscored):
            unread[conversation.reason] = unread.get(conversation.reason, 0) + 1
        else:
            tally.add(conversation.hash, meter.overlaps(conversation))
        if n_rows % _TELL_EVERY == 0:
            progress.advance(task, _TELL_EVERY)
    progress.settle(task, n_rows, n_rows)
    if n_rows == sum(unread.values()):
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(unread.items())) or "it is empty"
        raise DataError(f"{rows.name} holds no conversation ({reasons}); give a source with user and assistant turns")
    return {"source": rows.name, "fingerprint": rows.fingerprint, "n_rows": n_rows, "unread": unread}


def analysis_of(figures: Mapping[str, Any], words: Sequence[str], versions: Mapping[str, str]) -> Analysis:
    """Lay the figures out as an analysis: one row a suite, and one an item that was found. No prompt is quoted."""
    rule = figures["rule"]
    rows: list[dict[str, Any]] = []
    for suite in SUITES:
        own = figures["suites"].get(suite)
        if own is not None:
            rows.append({"suite": suite, **{key: value for key, value in own.items() if key != "examples"}})
        elif suite in figures["missing"]:
            rows.append({"suite": suite, "share": None, "share_why": figures["missing"][suite]})
    found = [{"suite": suite, **example} for suite, own in figures["suites"].items() for example in own["examples"]]
    about = (
        f"How many items of each suite stand in {figures['n_conversations']:,} conversations: an item is counted when "
        f"more than {rule['share']:.0%} of its words lie in word {rule['n']}-grams that one conversation's user turns "
        "hold too."
    )
    by_suite = Table(
        "suites",
        "Items found in the data",
        (
            Column("suite", "Suite"),
            Column("n_items", "Items", "int"),
            Column("n_overlapped", "Found", "int"),
            Column("share", "Share", "percent1"),
            Column("n_conversations", "Conversations", "int"),
        ),
        rows,
        notes=(
            "All items of a suite were looked for, so the share has no sampling error.",
            "A prompt of fewer words than an n-gram counts only where a user's turn is that prompt and nothing else.",
        ),
    )
    items = Table(
        "items",
        f"Where items were found, at most {MAX_EXAMPLES} a suite",
        (
            Column("suite", "Suite"),
            Column("item", "Item"),
            Column("conversation", "Conversation"),
            Column("covered", "Words covered", "percent1"),
        ),
        found,
    )
    return Analysis(
        "contamination",
        analysis_name([Path(word).stem if exists(Path(word)) else word for word in words]),
        "Benchmark items in training data",
        about,
        {
            "sources": figures.get("sources", []),
            "rule": rule,
            "data": figures["data"],
            "data_pins": figures["pins"],
            "missing": figures["missing"],
            "versions": dict(versions),
        },
        (by_suite, items),
        (Chart("shares", "Share of items found", "bars", "suites", "suite", ("share",)),),
    )


def write_report(words: Sequence[str], results: Path, meter: Meter, progress: Progress) -> tuple[dict[str, Any], Path]:
    """Measure sources and write the analysis into ``results``; returns the figures and the folder."""
    from evalsuite import __version__

    figures = measure(words, meter, progress)
    return figures, write_analysis(results, analysis_of(figures, words, {"evalsuite": __version__}))
