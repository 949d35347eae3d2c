"""Contamination: which benchmark items occur in a data mix, counted and named, never quoted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from evalsuite.analysis.document import Analysis, Chart, Column, Table, analysis_name, write_analysis, written
from evalsuite.contamination.clean import clean_table
from evalsuite.contamination.index import BenchmarkIndex, Overlap, OverlapRule
from evalsuite.contamination.prompts import Benchmarks, load_benchmarks
from evalsuite.contamination.settings import Turns
from evalsuite.conversations.formats import Conversation, conversation_of, detect_format
from evalsuite.conversations.source import Rows, open_source
from evalsuite.conversations.words import texts_of
from evalsuite.errors import DataError
from evalsuite.files import exists
from evalsuite.progress import Progress
from evalsuite.results.reading import read_results_folder
from evalsuite.suites.options import DataKind
from evalsuite.text import plural
from judges.types import Unscored, user_texts

NEAR_WORDS = 5
"""Words per n-gram of near matches: those by which a mix finds near-duplicates."""

MAX_EXAMPLES = 20
"""Overlapped items named per suite, each with one conversation."""

_PROGRESS_EVERY = 500


@dataclass(frozen=True, slots=True)
class Meter:
    """The benchmarks' prompts with their index; ``near`` finds items by shorter n-grams, if asked for."""

    data: DataKind
    benchmarks: Benchmarks
    index: BenchmarkIndex
    turns: Turns = "user"
    near: BenchmarkIndex | None = None

    def overlaps(self, conversation: Conversation) -> list[Overlap]:
        """Return the items that the user's turns of one conversation contain, or any of its texts, thoughts too."""
        return self.index.overlaps(self._texts(conversation))

    def near_overlaps(self, conversation: Conversation) -> list[Overlap]:
        """Return the items of which a conversation has enough of the shorter n-grams."""
        return [] if self.near is None else self.near.overlaps(self._texts(conversation))

    def _texts(self, conversation: Conversation) -> list[str]:
        if self.turns == "all":
            return [text for message in conversation.messages for text in texts_of(message)]
        return user_texts(conversation.messages)


def load_meter(
    data: DataKind = "full",
    rule: OverlapRule | None = None,
    *,
    turns: Turns = "user",
    near: float | None = None,
    names: Sequence[str] | None = None,
) -> Meter:
    """Read every suite's prompts, or those of ``names``, and index them; suites without data are named with the reason.

    ``near``: count the items too of which more than this share of words lies in shared word 5-grams.
    """
    benchmarks = load_benchmarks(data, names)
    near_index = None if near is None else BenchmarkIndex(benchmarks.items, OverlapRule(NEAR_WORDS, near))
    return Meter(data, benchmarks, BenchmarkIndex(benchmarks.items, rule or OverlapRule()), turns, near_index)


class Tally:
    """The overlapped items of each suite so far, with the conversations that contain them."""

    def __init__(self) -> None:
        self.n_read = 0
        self._items: dict[str, dict[str, tuple[float, str]]] = {}
        self._conversations: Counter[str] = Counter()
        self._n_overlapping = 0
        self._near: dict[str, set[str]] = {}

    def add(self, conversation_hash: str, overlaps: Sequence[Overlap], near: Sequence[Overlap] = ()) -> None:
        """Count one conversation with the items it contains, and those it nearly contains."""
        self.n_read += 1
        for overlap in near:
            self._near.setdefault(overlap.item.suite, set()).add(overlap.item.id)
        self._n_overlapping += bool(overlaps)
        self._conversations.update({overlap.item.suite for overlap in overlaps})
        for overlap in overlaps:
            overlapped = self._items.setdefault(overlap.item.suite, {})
            # Of several conversations the one that covers most of the item is named; of equals the smallest hash.
            best = overlapped.get(overlap.item.id)
            if best is None or (-overlap.share, conversation_hash) < (-best[0], best[1]):
                overlapped[overlap.item.id] = (overlap.share, conversation_hash)

    @property
    def found(self) -> dict[str, list[str]]:
        """The ids of all overlapped items by suite."""
        return {suite: sorted(items) for suite, items in self._items.items()}

    def figures(self, meter: Meter) -> dict[str, Any]:
        """Return the counts as JSON: the rule, every suite's figures, what is missing and why, and the data's pins."""
        suites = {}
        for suite, n_items in Counter(item.suite for item in meter.benchmarks.items).items():
            overlapped = self._items.get(suite, {})
            named = sorted(overlapped.items(), key=lambda pair: (-pair[1][0], pair[0]))[:MAX_EXAMPLES]
            suites[suite] = {
                "n_items": n_items,
                "n_overlapped": len(overlapped),
                "share": len(overlapped) / n_items,
                "n_conversations": self._conversations[suite],
                "n_whole_turn_only": meter.index.n_short[suite],
                "examples": [
                    {"item": item, "conversation": conversation, "covered": round(share, 4)}
                    for item, (share, conversation) in named
                ],
            }
            if meter.near is not None:
                suites[suite]["n_near"] = len(self._near.get(suite, set()) - overlapped.keys())
        return {
            "rule": {**meter.index.describe(), "turns": meter.turns},
            "near": None if meter.near is None else meter.near.describe(),
            "data": meter.data,
            "n_conversations": self.n_read,
            "n_overlapping": self._n_overlapping,
            "suites": suites,
            "missing": dict(meter.benchmarks.missing),
            "pins": {name: asdict(pin) for name, pin in meter.benchmarks.pins.items()},
        }


def suite_rows(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per suite for the terminal, those without data last with the reason."""
    near = figures.get("near") is not None
    keys = ("suite", "items", "found", "share", *(("near",) if near else ()), "whole turn only", "remark")
    rows = [
        (
            suite,
            counts["n_items"],
            counts["n_overlapped"],
            f"{counts['share']:.2%}",
            *((counts["n_near"],) if near else ()),
            f"{counts['n_whole_turn_only'] / counts['n_items']:.1%}",
            "",
        )
        for suite, counts in figures["suites"].items()
    ]
    rows += [(name, *[""] * (len(keys) - 2), why) for name, why in figures["missing"].items()]
    return [dict(zip(keys, row, strict=True)) for row in rows]


def clean_rows(clean: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the figures without the items found, for the terminal."""
    rows = []
    for row in clean:
        low, high = row.get("difference_ci95") or (None, None)
        interval = "" if low is None else f"[{written(low, 'signed3')}, {written(high, 'signed3')}]"
        figures = {"all items": written(row["all"], "float3"), "n": row["n"]}
        figures |= {"not in the data": written(row["clean"], "float3"), "n of these": row["n_clean"]}
        shown = f"{written(row['difference'], 'signed3')} {interval}".strip()
        rows.append({"model": row["model"], "figure": row["figure"], **figures, "all minus these": shown})
    return rows


def measure(specs: Sequence[str], meter: Meter, progress: Progress) -> dict[str, Any]:
    """Read the sources once, counted together, and return the figures.

    Adds ``found`` (the ids of all items found, by suite) and ``sources`` (name, fingerprint, rows, and by reason the
    rows that are not conversations). Raises DataError when a source cannot be read or has no conversation at all.
    """
    tally = Tally()
    opened = [open_source(spec) for spec in specs]
    sources = [_measure_one(rows, meter, tally, progress) for rows in opened]
    return {**tally.figures(meter), "found": tally.found, "sources": sources}


def _measure_one(rows: Rows, meter: Meter, tally: Tally, progress: Progress) -> dict[str, Any]:
    layout = detect_format(rows.columns, rows.spec)
    task = f"reading {rows.name}"
    progress.begin(task, rows.n_rows)
    unread: Counter[str] = Counter()
    n_rows = 0
    for n_rows, row in enumerate(rows, 1):
        conversation = conversation_of(row, layout)
        if isinstance(conversation, Unscored):
            unread[conversation.reason] += 1
        else:
            tally.add(conversation.hash, meter.overlaps(conversation), meter.near_overlaps(conversation))
        if n_rows % _PROGRESS_EVERY == 0:
            progress.advance(task, _PROGRESS_EVERY)
    progress.update(task, n_rows, n_rows)
    if n_rows == unread.total():
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(unread.items())) or "it is empty"
        raise DataError(f"{rows.name} has no conversation ({reasons}); give a source with user and assistant turns")
    return {"source": rows.name, "fingerprint": rows.fingerprint, "n_rows": n_rows, "unread": dict(unread)}


def analysis_of(figures: Mapping[str, Any], specs: Sequence[str], clean: Table | None = None) -> Analysis:
    """Present the figures as an analysis: one row per suite, and one per item that was found; no prompt is quoted.

    ``clean`` has the models' figures without those items.
    """
    rule = figures["rule"]
    rows: list[dict[str, Any]] = [
        {"suite": suite, **{key: value for key, value in counts.items() if key != "examples"}}
        for suite, counts in figures["suites"].items()
    ]
    rows += [{"suite": suite, "share": None, "share_why": reason} for suite, reason in figures["missing"].items()]
    about = (
        f"How many items of each suite occur in {plural(figures['n_conversations'], 'conversation')}: an item is "
        f"counted when more than {rule['share']:.0%} of its words lie in word {rule['n']}-grams that the "
        f"{'user ' if rule['turns'] == 'user' else ''}turns of one conversation contain too."
    )
    columns = [
        Column("suite", "Suite"),
        Column("n_items", "Items", "int"),
        Column("n_overlapped", "Found", "int"),
        Column("share", "Share", "percent1"),
        Column("n_conversations", "Conversations", "int"),
        Column("n_whole_turn_only", "Whole turn only", "int"),
    ]
    notes = [
        "All items of a suite were searched for, so the share has no sampling error.",
        "A prompt of fewer words than an n-gram (whole turn only) is found only as a whole turn, and missed "
        "inside a longer one.",
    ]
    if (near := figures["near"]) is not None:
        columns.append(Column("n_near", "Near only", "int"))
        grams = f"word {near['n']}-grams"
        notes.append(f"Near only: not found, but more than {near['share']:.0%} of the words are in {grams}.")
    by_suite = Table("suites", "Items found in the data", columns, rows, notes=notes)
    return Analysis(
        "contamination",
        analysis_name([Path(spec).stem if exists(Path(spec)) else spec for spec in specs]),
        "Benchmark items in training data",
        about,
        {
            "sources": figures.get("sources", []),
            "rule": rule,
            "data": figures["data"],
            "data_pins": figures["pins"],
            "missing": figures["missing"],
            "versions": {"evalsuite": metadata.version("evalsuite")},
        },
        (by_suite, *(() if clean is None else (clean,)), _examples(figures)),
        (Chart("shares", "Share of items found", "bars", "suites", "suite", ("share",)),),
    )


def _examples(figures: Mapping[str, Any]) -> Table:
    columns = (
        Column("suite", "Suite"),
        Column("item", "Item"),
        Column("conversation", "Conversation"),
        Column("covered", "Words covered", "percent1"),
    )
    rows = [
        {"suite": suite, **example} for suite, counts in figures["suites"].items() for example in counts["examples"]
    ]
    return Table("items", f"Where items were found, at most {MAX_EXAMPLES} per suite", columns, rows)


def write_report(specs: Sequence[str], results: Path, meter: Meter, progress: Progress) -> tuple[dict[str, Any], Path]:
    """Measure sources and write the analysis into ``results``; returns the figures and the folder.

    Adds ``clean``: the figures of the models in ``results`` on the items that were not found.
    """
    figures = measure(specs, meter, progress)
    models = read_results_folder(results).models if results.is_dir() else ()
    clean = clean_table(models, meter.benchmarks.items, figures.pop("found"))
    figures["clean"] = [] if clean is None else list(clean.rows)
    return figures, write_analysis(results, analysis_of(figures, specs, clean))
