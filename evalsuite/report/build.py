"""Building leaderboard.html and leaderboard.csv from a results folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalsuite.errors import UsageError
from evalsuite.files import write_text
from evalsuite.report.analyses import ShownAnalysis, read_analyses
from evalsuite.report.charts import charts_of, judge_words, preference_chart
from evalsuite.report.columns import AVERAGES, Figure
from evalsuite.report.item_pages import ItemPage, page_title, pages_of, refuse_foreign, remove_old_pages
from evalsuite.report.packing import PackedPart, as_base64, packed_json, packed_parts
from evalsuite.report.page import render_page
from evalsuite.report.reading import ModelResult, Results, read_results_folder
from evalsuite.report.tables import ALL_COLUMNS, TabTable, csv_of, figures_of, table_of
from evalsuite.report.tabs import tabs_of
from evalsuite.report.texts import without_folders

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

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was found to show."""
        return not (self.models or self.comparisons or self.analyses)

    def as_json(self) -> dict[str, Any]:
        """Return the same in JSON's own types."""
        return {
            "html": str(self.html),
            "csv": str(self.csv),
            "html_bytes": self.html_bytes,
            "models": self.models,
            "items": self.items,
            "comparisons": self.comparisons,
            "analyses": self.analyses,
            "pages": [str(page) for page in self.pages],
            "left_out": list(self.faults),
        }


@dataclass(slots=True)
class _Embedded:
    """Blocks that stand in one page, by element id."""

    blocks: dict[str, str] = field(default_factory=dict)

    def add(self, packed: bytes) -> str:
        name = f"b{len(self.blocks)}"
        self.blocks[name] = as_base64(packed)
        return name

    @property
    def size(self) -> int:
        return sum(len(text) for text in self.blocks.values())


def build_report(results: Path, out: Path | None = None, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> Report:
    """Write the leaderboard of ``results`` to ``out`` (default ``results/leaderboard.html``) and a .csv beside it.

    The main file stays below ``limit_bytes``: items whose texts do not fit stand in pages in the folder
    ``<name>_items`` beside it; every mark stays inside. Broken results are left out and named in ``faults``.
    Raises DataError without a results folder, StoreError when nothing can be written, and UsageError where a
    table or a page would replace a file that no report wrote; nothing is written then.
    """
    out = out or results / "leaderboard.html"
    csv_path = out.with_suffix(".csv")
    if csv_path == out:
        raise UsageError(f"--out {out} is where the CSV goes; give the name of an HTML file")
    found = read_results_folder(results)
    refuse_foreign([csv_path])
    faults = list(found.faults)
    found, figures = _with_figures(found, faults)
    read = packed_parts(found.models)
    faults += [fault for part in read for fault in part.faults]
    parts = [part for part in read if part.index["n"]]
    marks = {part.index["name"]: part.marks for part in parts}
    tables = [table_of(tab, found.models, figures, marks) for tab in tabs_of(found.models)]
    page = _Page(found, figures, tables, parts, faults, read_analyses(results, faults))
    pages = page.write(out, limit_bytes)
    write_text(csv_path, csv_of(tables, figures))
    items = sum(len(part.index["models"]) * part.index["n"] for part in parts)
    return Report(
        html=out,
        csv=csv_path,
        html_bytes=out.stat().st_size,
        models=len(found.models),
        items=items,
        comparisons=len(found.comparisons),
        analyses=len(page.analyses),
        pages=pages,
        faults=faults,
    )


def _with_figures(found: Results, faults: list[str]) -> tuple[Results, list[dict[str, Figure]]]:
    """Read every model's cells; a model whose figures have another form is left out and named."""
    kept, figures = [], []
    for model in found.models:
        try:
            figures.append(figures_of(model))
        except (AttributeError, KeyError, TypeError, ValueError):
            # Whatever a foreign or older file holds in place of a figure, the other models stand.
            faults.append(f"{model.folder / 'scores.json'} holds figures of another form; run the model again")
        else:
            kept.append(model)
    return replace(found, models=kept), figures


def _marks_only(part: PackedPart, embedded: _Embedded) -> dict[str, Any]:
    return {**part.index, "marks": {**part.index["marks"], "id": embedded.add(part.packed_marks)}, "blocks": []}


class _Page:
    """The main file and, where texts do not fit, the item pages beside it."""

    def __init__(
        self,
        found: Results,
        figures: Sequence[Mapping[str, Figure]],
        tables: Sequence[TabTable],
        parts: Sequence[PackedPart],
        faults: Sequence[str],
        analyses: Sequence[ShownAnalysis],
    ) -> None:
        self.found = found
        self.tables = tables
        self.parts = parts
        self.faults = faults
        self.analyses = analyses
        self.analysis_blocks: list[dict[str, str | None]] = [{} for _ in analyses]
        self.figures = figures
        self.charts = [charts_of(table, found.models, figures) for table in tables]
        drawn = [preference_chart(comparison, place) for place, comparison in enumerate(found.comparisons)]
        self.preferences = [chart for chart in drawn if chart is not None]
        self.verdicts: dict[str, str | None] = {}
        self.made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")

    def write(self, out: Path, limit_bytes: int) -> list[Path]:
        embedded = _Embedded()
        core = [_marks_only(part, embedded) for part in self.parts]
        frame = len(self._html(_Embedded(), pages=[]).encode("utf-8")) + embedded.size + _TAGS_BYTES * len(core)
        room = limit_bytes - frame - self._index_size(core)
        if room < 0:
            # First lines of questions are a comfort; they stand in the item pages too.
            for index in core:
                index["titles"] = []
            room = limit_bytes - frame - self._index_size(core)
        room -= self._embed_analyses(embedded, room)
        room -= self._embed_verdicts(embedded, room)
        beside: list[tuple[PackedPart, dict[str, Any]]] = []
        for part, index in zip(self.parts, core, strict=True):
            cost = part.base64_size + 2 * _TAGS_BYTES * len(part.blocks)
            if cost <= room:
                room -= cost
                index["blocks"] = [[block.first, block.last, embedded.add(block.packed)] for block in part.blocks]
            else:
                beside.append((part, index))
        pages = self._write_pages(beside, out)
        embedded.blocks["index"] = as_base64(packed_json(self._document(core)))
        write_text(out, self._html(embedded, pages=[path.name for path in pages]))
        return pages

    def _write_pages(self, beside: Sequence[tuple[PackedPart, dict[str, Any]]], out: Path) -> list[Path]:
        """Write the texts of the parts that do not fit as pages; each part's index learns what stands where."""
        folder = out.with_name(f"{out.stem}_items")
        planned = [(part, index, pages_of(part, folder)) for part, index in beside]
        refuse_foreign(page.path for _, _, pages in planned for page in pages)
        remove_old_pages(folder)
        for part, index, pages in planned:
            for page in pages:
                self._write_page(part, page, pages, out)
                index["blocks"] += [[one.first, one.last, f"{folder.name}/{page.path.name}"] for one in page.blocks]
        return [page.path for _, _, pages in planned for page in pages]

    def _write_page(self, part: PackedPart, page: ItemPage, pages: Sequence[ItemPage], out: Path) -> None:
        """Write one page that works by itself, and knows which of its neighbours ``pages`` holds the other items."""
        embedded = _Embedded()
        own = _marks_only(part, embedded)
        for other in pages:
            if other is page:
                own["blocks"] += [[block.first, block.last, embedded.add(block.packed)] for block in page.blocks]
            else:
                own["blocks"].append([other.first, other.last, other.path.name])
        document = {**self._document([own], light=True), "home": f"../{out.name}"}
        # A page repeats what is known of all models: of many pages that is the most to compress.
        embedded.blocks["index"] = as_base64(packed_json(document, quick=True))
        title = page_title(part.index["title"], page)
        write_text(page.path, render_page("items.html.jinja", embedded.blocks, title=title, home=f"../{out.name}"))

    def _embed_verdicts(self, embedded: _Embedded, room: int) -> int:
        """Embed the verdicts of each comparison that fits, and return the room they took."""
        taken = 0
        for comparison in self.found.comparisons:
            packed = packed_json(comparison.verdicts)
            cost = 4 * len(packed) // 3 + _TAGS_BYTES
            fits = bool(comparison.verdicts) and taken + cost <= room
            self.verdicts[comparison.name] = embedded.add(packed) if fits else None
            taken += cost if fits else 0
        return taken

    def _embed_analyses(self, embedded: _Embedded, room: int) -> int:
        """Embed the exact tables and the examples of each analysis that fit, and return the room they took."""
        taken = 0
        for blocks, shown in zip(self.analysis_blocks, self.analyses, strict=True):
            for key, content in (("tables", shown.csv), ("examples", shown.analysis.examples)):
                packed = packed_json(content)
                cost = 4 * len(packed) // 3 + _TAGS_BYTES
                fits = bool(content) and taken + cost <= room
                blocks[key] = embedded.add(packed) if fits else None
                taken += cost if fits else 0
        return taken

    def _index_size(self, core: Sequence[Mapping[str, Any]]) -> int:
        return 4 * len(packed_json(self._document(core))) // 3

    def _html(self, embedded: _Embedded, *, pages: Sequence[str]) -> str:
        return render_page(
            "leaderboard.html.jinja",
            embedded.blocks,
            title="Leaderboard",
            made=self.made,
            tables=self.tables,
            columns=ALL_COLUMNS,
            averages=AVERAGES,
            charts=self.charts,
            preferences=self.preferences,
            models=self.found.models,
            faults=self.faults,
            analyses=self.analyses,
            pages=pages,
        )

    def _document(self, parts: Sequence[Mapping[str, Any]], *, light: bool = False) -> dict[str, Any]:
        """Everything that the views know besides the items; ``light`` leaves out what an item page does not need."""
        models = [
            _model_document(model, figures, light=light)
            for model, figures in zip(self.found.models, self.figures, strict=True)
        ]
        document: dict[str, Any] = {"made": self.made, "models": models, "parts": list(parts)}
        if light:
            return document
        return document | {
            "columns": [
                {
                    "key": column.key,
                    "title": column.title,
                    "says": column.says,
                    "top": column.top,
                    "digits": column.digits,
                }
                | {"items": column.items, "main": column.main}
                for column in ALL_COLUMNS
            ],
            "averages": [[name, title, says] for name, (title, says) in AVERAGES.items()],
            "tabs": [
                {"title": table.tab.title, "reason": table.tab.reason, "members": table.tab.members}
                for table in self.tables
            ],
            "comparisons": [
                {
                    "name": comparison.name,
                    "judge": judge_words(comparison),
                    "preferences": without_folders(comparison.preferences),
                    "verdicts": self.verdicts.get(comparison.name),
                    "n_verdicts": len(comparison.verdicts),
                }
                for comparison in self.found.comparisons
            ],
            "cards": without_folders(self.found.judge_cards),
            "analyses": [
                {"folder": shown.folder, **blocks}
                for shown, blocks in zip(self.analyses, self.analysis_blocks, strict=True)
            ],
        }


def _model_document(model: ModelResult, figures: Mapping[str, Figure], *, light: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"name": model.name, "slug": model.slug, "imported": model.imported}
    if light:
        return document
    cells = {
        key: [
            figure.value,
            figure.stderr,
            list(figure.ci95) if figure.ci95 else None,
            figure.n,
            figure.unscored,
            figure.reason,
        ]
        for key, figure in figures.items()
    }
    return document | {
        "base": model.lineage.base,
        "dgm": model.lineage.dgm,
        "size": model.lineage.size,
        "figures": cells,
        "scores": without_folders(model.scores),
        "manifest": without_folders(model.manifest),
    }
