"""The paper's Tables 1 to 7 and Figures 1 to 4 with a study's own figures, laid out as in WILDCHAT-50M.

Table 3 and Figures 3 and 4 are those of the study's style and keyword analyses, Table 5 that of its similarity of
DGMs. Table 6 adds how similar the base's and the DGM's answers are, which is the subject of its rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import evalsuite
from evalsuite.analysis.document import Analysis, Chart, Column, Table, read_analysis
from evalsuite.files import read_json
from evalsuite.results.reading import comparison_in
from evalsuite.suites.figures import Figure
from evalsuite.wildchat.figures import (
    NINE,
    SEVEN,
    ModelRow,
    average,
    average_column,
    average_note,
    cells,
    columns,
    common_parts,
    counts_note,
    figure_in,
    preference_figure,
    read_row,
    score_columns,
    with_one_win_rate,
)

_PAPER = "WILDCHAT-50M"
_MODEL, _N = Column("model", "Model"), Column("n", "items", "int")


@dataclass(frozen=True, slots=True)
class Trained:
    """One checkpoint that a study trains: ``dgms`` are those of its mix, ``size`` the conversations asked of it."""

    target: str
    dgms: tuple[str, ...]
    size: int

    @property
    def mix(self) -> str:
        return f"{'-and-'.join(self.dgms)}-{self.size}"

    @property
    def name(self) -> str:
        return f"{self.target}-{self.mix}"

    @property
    def label(self) -> str:
        """Its name in the paper's notation, as in ``L8B : Q7 + L8I (500)``."""
        return f"{self.target} : {' + '.join(self.dgms)} ({self.size})"


@dataclass(frozen=True)
class StudyResults:
    """What a study has: the models of its targets and DGMs by name, its checkpoints, and each stage's folder.

    ``labels`` names run stages in the tables; ``folders`` holds the finished stages; ``settings`` is the study file.
    ``rows`` are the models' figures by run stage, filled by :func:`study_analysis`.
    """

    name: str
    targets: Mapping[str, str]
    dgms: Mapping[str, str | None]
    trained: Sequence[Trained]
    labels: Mapping[str, str]
    folders: Mapping[str, Path]
    settings: Mapping[str, Any]
    rows: Mapping[str, ModelRow] = field(default_factory=dict)

    def row_of(self, model: Trained) -> ModelRow | None:
        return self.rows.get(f"run {model.name}")

    def single_rows(self) -> list[tuple[Trained, ModelRow]]:
        """Return the checkpoints of one DGM each that have figures, at all sizes."""
        return [(model, row) for model in self.trained if len(model.dgms) == 1 and (row := self.row_of(model))]

    def largest_rows(self) -> list[tuple[Trained, ModelRow]]:
        largest = max(model.size for model in self.trained if len(model.dgms) == 1)
        return [(model, row) for model, row in self.single_rows() if model.size == largest]

    def untrained_row(self, name: str) -> ModelRow | None:
        """Return the row of a target or DGM itself, under whichever of its model's names it was run."""
        model = self.dgms.get(name) or self.targets.get(name)
        names = [name, *(other for other, same in {**self.targets, **self.dgms}.items() if model and same == model)]
        return next((self.rows[f"run {other}"] for other in names if f"run {other}" in self.rows), None)

    def tables_of(self, cell: str, *ids: str) -> Iterator[tuple[Table, list[Chart]]]:
        """Yield the tables of an analysis with these ids, each with its charts."""
        if (folder := self.folders.get(f"analyze {cell}")) is None:
            return
        analysis = read_analysis(folder)
        for table in analysis.tables:
            if table.id in ids:
                yield table, [chart for chart in analysis.charts if chart.table == table.id]


_Tables = Iterator[tuple[Table, list[Chart]]]


def study_analysis(study: StudyResults, results: Path) -> Analysis:
    """Return the document; a table without figures is left out and named."""
    rows = {name: read_row(study.labels[name], path) for name, path in study.folders.items() if name in study.labels}
    study = replace(study, rows=with_one_win_rate(rows))
    makers: dict[str, Callable[[StudyResults], _Tables]] = {
        "Table 1": _mixes,
        "Table 2 and Figure 1": _by_dgm,
        "Figure 2": _scaling,
        "Table 3": lambda study: study.tables_of("style", "table3", "inheritance", "distances"),
        "Table 4": _preferences,
        "Table 5": _similarity,
        "Table 6": _families,
        "Table 7": _blends,
        "Figures 3 and 4": _keywords,
    }
    made = {name: list(make(study)) for name, make in makers.items()}
    missing = [name for name, tables in made.items() if not tables]
    about = f"The tables and figures of {_PAPER} (arXiv 2501.18511), with this study's own figures."
    return Analysis(
        kind="study",
        name=study.name,
        title=f"Study {study.name}",
        about=about + (f" Missing: {', '.join(missing)}." if missing else ""),
        provenance={
            "study": dict(study.settings),
            "stages": {
                name: path.relative_to(results).as_posix() if path.is_relative_to(results) else path.name
                for name, path in study.folders.items()
            },
            "versions": {"evalsuite": evalsuite.__version__},
        },
        tables=[table for tables in made.values() for table, _ in tables],
        charts=[chart for tables in made.values() for _, charts in tables for chart in charts],
    )


def _mixes(study: StudyResults) -> _Tables:
    """Lay out what each mix is made of, one row per source."""
    rows = []
    for mix in dict.fromkeys(model.mix for model in study.trained):
        if (folder := study.folders.get(f"mix {mix}")) is None:
            continue
        document = read_json(folder / "mix.json")
        shares = [share for share in (document["contamination"] or {}).values() if share is not None]
        contamination = Figure(max(shares, default=None), reason="no benchmark's prompts were searched for")
        for source in document["sources"]:
            dgms = ", ".join(str(member["dgm"]) for member in source["members"] if member["dgm"])
            counts = {key: source[key] for key in ("asked", "taken", "characters")}
            row = {"mix": mix, "source": source["name"], "dgms": dgms, **counts}
            rows.append(row | cells("contamination", contamination))
    if not rows:
        return
    head = [Column("mix", "Mix"), Column("source", "Source"), Column("dgms", "DGMs"), Column("asked", "asked", "int")]
    head += [Column("taken", "Num. Convs", "int"), Column("characters", "characters", "int")]
    head += [Column("contamination", "contamination", "percent1")]
    note = "Contamination is the largest share of a suite's items found in the mix; all items were searched for."
    yield Table("table1", "What the checkpoints were trained on", head, rows, f"{_PAPER}, Table 1", [note]), []


def _by_dgm(study: StudyResults) -> _Tables:
    """Lay out the checkpoints at the largest size, one row per DGM."""
    rows = [row for _, row in study.largest_rows()]
    if not rows:
        return
    body = [row.cells(dict.fromkeys(SEVEN, 100.0)) for row in rows]
    notes = [counts_note(rows), "Intervals are 95 %, over items."]
    head = [_MODEL, *score_columns("float2"), _N]
    yield Table("table2", "SFT by data generating model", head, body, f"{_PAPER}, Table 2", notes), []
    head = [_MODEL, *(Column(key, columns()[key].title, "float3") for key in NINE)]
    shares = [row.cells({key: 1 / columns()[key].top for key in NINE}) for row in rows]
    title, source = "Every benchmark as a share of its best value", f"{_PAPER}, Figure 1"
    chart = Chart("figure1", title, "spider", "figure1", "model", list(NINE), source)
    yield Table("figure1", title, head, shares, source), [chart]


def _scaling(study: StudyResults) -> _Tables:
    singles = study.single_rows()
    if not singles:
        return
    rows = [row for _, row in singles]
    parts = common_parts(rows)
    body = []
    for model, row in singles:
        dgm, mean = model.dgms[0], average(row, parts)
        line = dgm if len(study.targets) == 1 else f"{model.target} : {dgm}"
        cell = {"line": line, "target": model.target, "dgm": dgm, "size": model.size, "n": mean.n}
        body.append(cell | cells("avg", mean))
    head = [Column("line", "Line"), Column("target", "Target"), Column("dgm", "DGM")]
    head += [Column("size", "conversations", "int"), average_column(parts), _N]
    title, source = "Mean score by number of conversations", f"{_PAPER}, Figure 2"
    chart = Chart("figure2", title, "lines", "figure2", "line", ["avg"], source, x="size")
    yield Table("figure2", title, head, body, source, [average_note(rows, parts)]), [chart]


def _preferences(study: StudyResults) -> _Tables:
    by_name = {row.model: row for row in study.rows.values()}
    why = "no DGM with an SFT of its own and another DGM's SFT in the comparison"
    for target in study.targets:
        if (folder := study.folders.get(f"compare {target}")) is None:
            continue
        preferences = comparison_in(folder).preferences
        keys = {name: f"over{number}" for number, name in enumerate((n for n in preferences.models if n in by_name), 1)}
        flips: Counter[str] = Counter()
        for flip in preferences.flips:
            flips[flip.dgm] += flip.count
        body = []
        for name in keys:
            row: dict[str, Any] = {"model": by_name[name].label, **cells("mt_bench", by_name[name].figures["mt_bench"])}
            for other, key in keys.items():
                if figure := preference_figure(preferences, name, other):
                    row |= cells(key, figure)
            body.append(row | cells("flips", Figure(flips.get(name), reason=why)))
        head = [_MODEL, Column("mt_bench", "MT-Bench", "float2")]
        head += [Column(key, f"PrefRt-{by_name[name].label}", "percent1") for name, key in keys.items()]
        head.append(Column("flips", "FlipCt", "int"))
        notes = [
            f"A cell is the share of {preferences.n_prompts} prompts on which the row's answer is preferred to the "
            "column's in both orders together; ties count for neither.",
            "FlipCt: prompts with DGM > another SFT > the DGM's own SFT, all other SFTs together.",
            *preferences.notes,
        ]
        key = "table4" if len(study.targets) == 1 else f"table4-{target}"
        title, source = f"Preferences among the models of {target}", f"{_PAPER}, Table 4"
        chart = Chart(key, title, "heatmap", key, "model", list(keys.values()), source)
        yield Table(key, title, head, body, source, notes), [chart]


def _similarity(study: StudyResults) -> _Tables:
    of_dgms = "analyze similarity-dgms" in study.folders
    title = "How similar the DGMs' answers are" if of_dgms else "How similar the models' answers are"
    for table, _ in study.tables_of("similarity-dgms" if of_dgms else "similarity", "models"):
        yield replace(table, id="table5", title=title, source=f"{_PAPER}, Table 5"), []


def _mean_table(
    number: int, title: str, rows: Sequence[tuple[ModelRow, dict[str, Any]]], extra: Sequence[Column] = ()
) -> Table:
    """Lay out rows, each with cells of its own (those of ``extra`` among them), and their means below one Avg."""
    models = [row for row, _ in rows]
    parts = common_parts(models)
    head = [_MODEL, *score_columns(), average_column(parts), *extra, _N]
    body = [row.cells() | cells("avg", average(row, parts)) | own for row, own in rows]
    notes = [counts_note(models), average_note(models, parts)]
    return Table(f"table{number}", title, head, body, f"{_PAPER}, Table {number}", notes)


def _families(study: StudyResults) -> _Tables:
    """Lay out each base with each DGM at the largest size, and the untrained models below, as Table 6."""
    largest = study.largest_rows()
    if not largest:
        return
    # The similarity on the DGMs' own prompts comes first, then that on the benchmarks'.
    tables = [table for cell in ("similarity-dgms", "similarity") for table, _ in study.tables_of(cell, "pairs")]
    pairs = [pair for table in tables for pair in table.rows]
    rows: list[tuple[ModelRow, dict[str, Any]]] = []
    for model, row in largest:
        dgm = model.dgms[0]
        alike = cells("alike", _similarity_of(study, pairs, model.target, dgm))
        rows.append((row, {"target": model.target, "dgm": dgm, **alike}))
    untrained = (study.untrained_row(name) for name in (*study.targets, *study.dgms))
    by_label = {row.label: row for row in untrained if row}
    rows += [(row, {"model": f"{label} : None", "target": None, "dgm": None}) for label, row in by_label.items()]
    extra = [Column("alike", "ROUGE-1, base and DGM", "float3")]
    table = _mean_table(6, "Do similar DGMs teach better?", rows, extra)
    note = "ROUGE-1 is the similarity of the untrained base's and the DGM's answers to the same prompts."
    yield replace(table, notes=[*table.notes, note]), []


def _similarity_of(study: StudyResults, pairs: Sequence[Mapping[str, Any]], target: str, dgm: str) -> Figure:
    base = study.targets[target]
    if study.dgms[dgm] == base:
        return Figure(1.0)
    names = [target, *(name for name, model in study.dgms.items() if model == base)]
    row = next((row for name in names for row in pairs if {row["a"], row["b"]} == {name, dgm}), {})
    return figure_in(row, "rouge1", "the base and the DGM have not answered the same prompts")


def _blends(study: StudyResults) -> _Tables:
    """Lay out each blend below its parts at the same size, or at the size nearest to it."""
    blends = [model for model in study.trained if len(model.dgms) > 1]
    shown: dict[str, Trained] = {}
    for blend in blends:
        for dgm in blend.dgms:
            singles = [model for model in study.trained if model.dgms == (dgm,) and model.target == blend.target]
            nearest = min(singles, key=lambda model: (abs(model.size - blend.size), model.size))
            shown.setdefault(nearest.name, nearest)
        shown.setdefault(blend.name, blend)
    if any(study.row_of(blend) for blend in blends):
        rows: list[tuple[ModelRow, dict[str, Any]]] = [
            (row, {}) for model in shown.values() if (row := study.row_of(model))
        ]
        table = _mean_table(7, "Blends and their parts", rows)
        yield table, [Chart("table7", table.title, "bars", "table7", "model", ["avg"], table.source)]


def _keywords(study: StudyResults) -> _Tables:
    for target in study.targets:
        for table, charts in study.tables_of(f"keywords-{target}", "words_a", "words_b"):
            number = "figure3" if table.id == "words_a" else "figure4"
            key = number if len(study.targets) == 1 else f"{number}-{target}"
            yield replace(table, id=key), [replace(chart, id=key, table=key) for chart in charts]
