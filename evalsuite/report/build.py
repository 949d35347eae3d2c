"""Building leaderboard.html and leaderboard.csv from a results folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from evalsuite.comparison_documents import GameRow, VerdictRow
from evalsuite.errors import UsageError
from evalsuite.files import write_text
from evalsuite.report.analyses import read_analyses
from evalsuite.report.charts import charts_of, preference_chart
from evalsuite.report.curves import curve_charts, curves_of
from evalsuite.report.figures import columns_of, figures_of
from evalsuite.report.glossary import GLOSSARY
from evalsuite.report.index import Contents, document, light_document
from evalsuite.report.item_pages import ItemPage, page_title, pages_of, refuse_overwriting, remove_old_pages
from evalsuite.report.packing import PackedPart, as_base64, packed_json, packed_parts
from evalsuite.report.page import render_page
from evalsuite.report.tables import csv_of, table_of
from evalsuite.report.tabs import slugs_of, tabs_of
from evalsuite.report.texts import without_paths
from evalsuite.report.thinking import thinking_charts
from evalsuite.results.averages import AVERAGES
from evalsuite.results.reading import Results, no_results, read_results_folder
from evalsuite.suites.figures import Column, Figure

DEFAULT_LIMIT_BYTES = 5_000_000

_TAGS_BYTES = 90
"""A little more than an embedded block's element takes."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was written: files, sizes in bytes, and one sentence for each thing that could not be read."""

    html: Path
    csv: Path
    html_bytes: int
    models: int
    items: int
    comparisons: int
    analyses: int
    pages: Sequence[Path]
    faults: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        paths = {"html": str(self.html), "csv": str(self.csv), "pages": [str(page) for page in self.pages]}
        counts = {name: getattr(self, name) for name in ("html_bytes", "models", "items", "comparisons", "analyses")}
        return {**paths, **counts, "left_out": list(self.faults)}


@dataclass(slots=True)
class _Embedded:
    """Blocks of one page, by element id."""

    blocks: dict[str, str] = field(default_factory=dict)

    def add(self, packed: bytes) -> str:
        name = f"b{len(self.blocks)}"
        self.blocks[name] = as_base64(packed)
        return name

    def add_fitting(self, content: object, room: int) -> tuple[str | None, int]:
        """Embed a JSON value if it is not empty and fits; return its block, None without, and the room left."""
        packed = packed_json(content)
        cost = 4 * len(packed) // 3 + _TAGS_BYTES
        return (self.add(packed), room - cost) if content and cost <= room else (None, room)

    @property
    def size(self) -> int:
        return sum(len(text) for text in self.blocks.values())


def build_report(results: Path, out: Path | None = None, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> Report:
    """Write the leaderboard of ``results`` to ``out`` (default ``results/leaderboard.html``) and a .csv beside it.

    The main file stays below ``limit_bytes``: items whose texts do not fit are in pages in the folder
    ``<name>_items`` beside it; every mark stays inside. Broken results are left out and named in ``faults``.
    Raises DataError without a results folder, StoreError when nothing can be written, and UsageError where a
    table or a page would replace a file that no report wrote; nothing is written then.
    """
    out = out or results / "leaderboard.html"
    csv_path = out.with_suffix(".csv")
    if csv_path == out:
        raise UsageError(f"--out {out} is where the CSV goes; give the name of an HTML file")
    refuse_overwriting([csv_path])
    contents, parts = read_contents(results)
    page = _Page(contents, parts)
    pages = page.write(out, limit_bytes)
    write_text(csv_path, csv_of(contents.tables, contents.columns, contents.figures))
    return Report(
        html=out,
        csv=csv_path,
        html_bytes=out.stat().st_size,
        models=len(contents.models),
        items=sum(len(part.index["models"]) * part.index["n"] for part in parts),
        comparisons=len(contents.results.comparisons),
        analyses=len(contents.analyses),
        pages=pages,
        faults=contents.faults,
    )


def read_contents(results: Path) -> tuple[Contents, list[PackedPart]]:
    """Read a results folder as the report shows it: its tables and charts, and its items packed by part.

    Figures' reasons hold no path of this machine; ``faults`` do, for they are for the terminal too. Raises DataError
    without a results folder, and for one with nothing to show.
    """
    found = read_results_folder(results)
    faults = list(found.faults)
    columns = columns_of(found.models, faults)
    found, figures = _with_figures(found, columns, faults, results)
    models, analyses = found.models, read_analyses(results, faults)
    if not (models or found.comparisons or analyses or faults):
        raise no_results(results)
    parts = packed_parts(models, columns, faults)
    marks = {part.index["name"]: part.marks for part in parts}
    contexts = {part.index["name"]: part.contexts for part in parts}
    slugs = slugs_of(models)
    tables = [table_of(tab, models, slugs, columns, figures, marks, contexts) for tab in tabs_of(models)]
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Contents(results, found, columns, figures, tables, faults, analyses, made, marks, contexts), parts


def _with_figures(
    contents: Results, columns: Sequence[Column], faults: list[str], folder: Path
) -> tuple[Results, list[dict[str, Figure]]]:
    """Read every model's cells; a model whose figures have another form is left out and named."""
    kept, figures = [], []
    for model in contents.models:
        try:
            cells = figures_of(model, columns).items()
            figures.append({key: replace(one, reason=without_paths(one.reason, [folder])) for key, one in cells})
        except Exception:  # a suite may raise anything where a file has no figure; the other models stay
            faults.append(f"{model.folder / 'scores.json'} has figures of an unknown format; run the model again")
        else:
            kept.append(model)
    return replace(contents, models=kept), figures


def _public(row: VerdictRow) -> VerdictRow:
    """Return a verdict whose failures name no path of this machine; texts of prompts, answers and judges stay."""

    def game(one: GameRow | None) -> GameRow | None:
        return one and (msgspec.structs.replace(one, detail=without_paths(one.detail)) if one.detail else one)

    unscored = row.unscored and msgspec.structs.replace(row.unscored, detail=without_paths(row.unscored.detail))
    return msgspec.structs.replace(row, unscored=unscored, a_first=game(row.a_first), b_first=game(row.b_first))


def _marks_only(part: PackedPart, embedded: _Embedded) -> dict[str, Any]:
    facts = {
        name: {**layout, "id": embedded.add(part.packed_facts[name])} for name, layout in part.index["facts"].items()
    }
    marks = {**part.index["marks"], "id": embedded.add(part.packed_marks)}
    return {**part.index, "marks": marks, "facts": facts, "blocks": []}


class _Page:
    """The main file and, where texts do not fit, the item pages beside it."""

    def __init__(self, contents: Contents, parts: Sequence[PackedPart]) -> None:
        self.parts = parts
        self.charts = [charts_of(table, contents.models, contents.figures) for table in contents.tables]
        self.thinking = thinking_charts(contents)
        self.curves = curve_charts(curves_of(contents))
        comparisons = contents.results.comparisons
        drawn = [preference_chart(comparison, number) for number, comparison in enumerate(comparisons)]
        self.preferences = [chart for chart in drawn if chart is not None]
        self.analysis_blocks: list[dict[str, str | None]] = [{} for _ in contents.analyses]
        self.verdicts: dict[str, str | None] = {}
        self.contents = replace(contents, analysis_blocks=self.analysis_blocks, verdicts=self.verdicts)

    def write(self, out: Path, limit_bytes: int) -> list[Path]:
        embedded = _Embedded()
        core = [_marks_only(part, embedded) for part in self.parts]
        frame = len(self._html(_Embedded(), pages=[]).encode("utf-8")) + embedded.size + _TAGS_BYTES * len(core)
        room = limit_bytes - frame - self._index_size(core)
        if room < 0:
            # First lines of questions are a convenience; the item pages have them too.
            for index in core:
                index["titles"] = []
            room = limit_bytes - frame - self._index_size(core)
        for blocks, shown in zip(self.analysis_blocks, self.contents.analyses, strict=True):
            blocks["tables"], room = embedded.add_fitting(shown.csv, room)
            blocks["examples"], room = embedded.add_fitting(shown.analysis.examples, room)
        for comparison in self.contents.results.comparisons:
            self.verdicts[comparison.name], room = embedded.add_fitting(list(map(_public, comparison.verdicts)), room)
        outside: list[tuple[PackedPart, dict[str, Any]]] = []
        for part, index in zip(self.parts, core, strict=True):
            cost = part.base64_size + 2 * _TAGS_BYTES * len(part.blocks)
            if cost <= room:
                room -= cost
                index["blocks"] = [[block.first, block.last, embedded.add(block.packed)] for block in part.blocks]
            else:
                outside.append((part, index))
        pages = self._write_pages(outside, out)
        embedded.blocks["index"] = as_base64(packed_json(document(self.contents, core)))
        write_text(out, self._html(embedded, pages=[path.name for path in pages]))
        return pages

    def _write_pages(self, outside: Sequence[tuple[PackedPart, dict[str, Any]]], out: Path) -> list[Path]:
        """Write the texts of the parts that do not fit as pages; each part's index names the page of each block."""
        folder = out.with_name(f"{out.stem}_items")
        planned = [(part, index, pages_of(part, folder)) for part, index in outside]
        refuse_overwriting(page.path for _, _, pages in planned for page in pages)
        remove_old_pages(folder)
        for part, index, pages in planned:
            for page in pages:
                self._write_page(part, page, pages, out)
                index["blocks"] += [[one.first, one.last, f"{folder.name}/{page.path.name}"] for one in page.blocks]
        return [page.path for _, _, pages in planned for page in pages]

    def _write_page(self, part: PackedPart, page: ItemPage, pages: Sequence[ItemPage], out: Path) -> None:
        """Write one page that works without the others and links to those of ``pages`` that hold the other items."""
        embedded = _Embedded()
        index = _marks_only(part, embedded)
        for other in pages:
            if other is page:
                index["blocks"] += [[block.first, block.last, embedded.add(block.packed)] for block in page.blocks]
            else:
                index["blocks"].append([other.first, other.last, other.path.name])
        own = {**light_document(self.contents, [index]), "home": f"../{out.name}"}
        # Every page repeats the list of models: with many pages, that is most of the work of compressing.
        embedded.blocks["index"] = as_base64(packed_json(own, quick=True))
        title = page_title(part.index["title"], page)
        write_text(page.path, render_page("items.html.jinja", embedded.blocks, title=title, home=f"../{out.name}"))

    def _index_size(self, core: Sequence[Mapping[str, Any]]) -> int:
        return 4 * len(packed_json(document(self.contents, core))) // 3

    def _html(self, embedded: _Embedded, *, pages: Sequence[str]) -> str:
        contents = self.contents
        return render_page(
            "leaderboard.html.jinja",
            embedded.blocks,
            title="Leaderboard",
            made=contents.made,
            tables=contents.tables,
            columns=contents.columns,
            averages=AVERAGES,
            charts=self.charts,
            preferences=self.preferences,
            sets=[*self.curves, *self.thinking],
            models=contents.models,
            faults=[without_paths(fault, [contents.folder]) for fault in contents.faults],
            analyses=contents.analyses,
            glossary=GLOSSARY,
            pages=pages,
        )
