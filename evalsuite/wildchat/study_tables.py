"""The paper's Tables 2 to 7 and Figures 1 to 4 with a study's own figures, laid out as WILDCHAT-50M has them.

Table 3 and Figures 3 and 4 are those of the study's style and keyword analyses, Table 5 that of its similarity of
DGMs. Table 6 adds how alike the base's and the DGM's answers are, which is what its rows are about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import evalsuite
from evalsuite.analysis.document import Analysis, Chart, Column, Table, read_analysis
from evalsuite.files import read_json
from evalsuite.study.file import Study
from evalsuite.study.plan import Trained, trained_models
from evalsuite.study.tasks import Bench, Task
from evalsuite.wildchat.study_figures import (
    NAMES,
    Scored,
    average,
    average_label,
    average_note,
    cells,
    common_parts,
    counts_note,
    one_win_rate,
    read_scored,
    score_cells,
    score_columns,
)

_PAPER = "WILDCHAT-50M"
_TOPS = {"mt_bench": 10.0, "alpaca_eval": 100.0}


@dataclass(frozen=True, slots=True)
class _Given:
    """What the tables are made of: the study, its models' figures by run stage, and the folders of the other stages."""

    study: Study
    models: Sequence[Trained]
    scored: Mapping[str, Scored]
    folders: Mapping[str, Path]

    def of(self, model: Trained) -> Scored | None:
        return self.scored.get(f"run {model.name}")

    def untrained(self, name: str) -> Scored | None:
        """The row of a target or DGM itself, whichever name its run goes by."""
        own = self.scored.get(f"run {name}")
        if own is not None:
            return own
        word = self.study.dgms[name].model if name in self.study.dgms else None
        named: dict[str, str | None] = {other: target.model for other, target in self.study.targets.items()}
        named |= {other: dgm.model for other, dgm in self.study.dgms.items()}
        twin = next((other for other, model in named.items() if word and model == word), None)
        return self.scored.get(f"run {twin}")

    def analysis(self, cell: str) -> Analysis | None:
        folder = self.folders.get(f"analyze {cell}")
        return read_analysis(folder) if folder is not None else None


def study_analysis(task: Task, bench: Bench) -> Analysis:
    """Make the document; a table whose figures are not there (yet) is left out and named."""
    labels: Mapping[str, str] = task.stage.settings["labels"]
    folders = {name: made.outputs["folder"] for name, made in task.inputs.items()}
    scored = {name: read_scored(labels[name], folder) for name, folder in folders.items() if name in labels}
    given = _Given(bench.study, trained_models(bench.study), one_win_rate(scored), folders)
    makers: dict[str, Callable[[_Given], Iterator[tuple[Table, list[Chart]]]]] = {
        "Table 1": _mixes,
        "Table 2 and Figure 1": _by_dgm,
        "Figure 2": _scaling,
        "Table 3": _style,
        "Table 4": _preferences,
        "Table 5": _similarity,
        "Table 6": _families,
        "Table 7": _blends,
        "Figures 3 and 4": _keywords,
    }
    tables: list[Table] = []
    charts: list[Chart] = []
    missing = []
    for name, make in makers.items():
        made = list(make(given))
        missing += [] if made else [name]
        for table, own in made:
            tables.append(table)
            charts += own
    about = f"The tables and figures of {_PAPER} (arXiv 2501.18511), with this study's own figures."
    return Analysis(
        kind="study",
        name=bench.study.name,
        title=f"Study {bench.study.name}",
        about=about + (f" Not there: {', '.join(missing)}." if missing else ""),
        provenance={
            "study": bench.study.model_dump(mode="json"),
            "stages": {name: _seen_from(bench.results, folder) for name, folder in folders.items()},
            "versions": {"evalsuite": evalsuite.__version__},
        },
        tables=tables,
        charts=charts,
    )


def _seen_from(results: Path, folder: Path) -> str:
    return folder.relative_to(results).as_posix() if folder.is_relative_to(results) else folder.name


def _mixes(given: _Given) -> Iterator[tuple[Table, list[Chart]]]:
    """What each mix is made of, one row a source."""
    rows = []
    for model in {model.mix: model for model in given.models}.values():
        folder = given.folders.get(f"mix {model.mix}")
        if folder is None:
            continue
        document = read_json(folder / "mix.json")
        shares = [share for share in (document["contamination"] or {}).values() if share is not None]
        worst: dict[str, Any] = {"contamination": max(shares, default=None)}
        worst |= {} if shares else {"contamination_why": "no benchmark's prompts were looked for"}
        rows += [
            {
                "mix": model.mix,
                "source": source["name"],
                "dgms": ", ".join(str(one["dgm"]) for one in source["members"] if one["dgm"]),
                "asked": source["asked"],
                "taken": source["taken"],
                "characters": source["characters"],
                **worst,
            }
            for source in document["sources"]
        ]
    if rows:
        columns = [
            Column("mix", "Mix"),
            Column("source", "Source"),
            Column("dgms", "DGMs"),
            Column("asked", "asked", "int"),
            Column("taken", "Num. Convs", "int"),
            Column("characters", "characters", "int"),
            Column("contamination", "contamination", "percent1"),
        ]
        note = "Contamination is the largest share of a suite's items that stand in the mix; all items were looked for."
        yield Table("table1", "What the checkpoints were trained on", columns, rows, f"{_PAPER}, Table 1", [note]), []


def _by_dgm(given: _Given) -> Iterator[tuple[Table, list[Chart]]]:
    """The checkpoints at the largest size, one row a DGM."""
    rows = [
        (model, row)
        for model in given.models
        if len(model.dgms) == 1 and model.size == max(given.study.sizes) and (row := given.of(model))
    ]
    if not rows:
        return
    columns = [Column("model", "Model"), *score_columns(percent=True), Column("n", "items", "int")]
    notes = [counts_note([row for _, row in rows]), "Intervals are 95 %, over items."]
    body = [{"model": row.label} | score_cells(row, percent=True) for _, row in rows]
    yield Table("table2", "SFT by data generating model", columns, body, f"{_PAPER}, Table 2", notes), []
    shares = [
        {"model": row.label}
        | _merged(cells(key, figure, 1 / _TOPS.get(key, 1.0)) for key, figure in row.figures.items())
        for _, row in rows
    ]
    columns = [Column("model", "Model"), *(Column(key, title, "float3") for key, title in NAMES.items())]
    table = Table("figure1", "Every benchmark as a share of its best value", columns, shares, f"{_PAPER}, Figure 1")
    yield table, [Chart("figure1", table.title, "spider", "figure1", "model", list(NAMES), f"{_PAPER}, Figure 1")]


def _scaling(given: _Given) -> Iterator[tuple[Table, list[Chart]]]:
    rows = [(model, row) for model in given.models if len(model.dgms) == 1 and (row := given.of(model))]
    if not rows:
        return
    parts = common_parts([row for _, row in rows])
    body = [
        {"line": _line(given, model), "target": model.target, "dgm": model.dgms[0], "size": model.size}
        | {"n": (figure := average(row, parts)).n}
        | cells("avg", figure)
        for model, row in rows
    ]
    columns = [
        Column("line", "Line"),
        Column("target", "Target"),
        Column("dgm", "DGM"),
        Column("size", "conversations", "int"),
        Column("avg", average_label(parts), "float3"),
        Column("n", "items", "int"),
    ]
    notes = [average_note([row for _, row in rows], parts)]
    table = Table("figure2", "Mean score by number of conversations", columns, body, f"{_PAPER}, Figure 2", notes)
    yield table, [Chart("figure2", table.title, "lines", "figure2", "line", ["avg"], f"{_PAPER}, Figure 2", x="size")]


def _line(given: _Given, model: Trained) -> str:
    return model.dgms[0] if len(given.study.targets) == 1 else f"{model.target} : {model.dgms[0]}"


def _style(given: _Given) -> Iterator[tuple[Table, list[Chart]]]:
    analysis = given.analysis("style")
    if analysis is not None:
        wanted = {"table3", "inheritance", "distances"}
        for table in analysis.tables:
            if table.id in wanted:
                yield table, [chart for chart in analysis.charts if chart.table == table.id]


def _preferences(given: _Given) -> Iterator[tuple[Table, list[Chart]]]:
    for target in given.study.targets:
        folder = given.folders.get(f"compare {target}")
        if folder is None:
            continue
        document = read_json(folder / "preferences.json")
        by_name = {_model_name(given.folders[stage]): row for stage, row in given.scored.items()}
        names = [name for name in document["models"] if name in by_name]
        keys = {name: f"over{number}" for number, name in enumerate(names, 1)}
        flips: dict[str, int] = {}
        for flip in document["flips"]:
            flips[flip["dgm"]] = flips.get(flip["dgm"], 0) + flip["count"]
        rows = []
        for name in names:
            row: dict[str, Any] = {"model": by_name[name].label, **cells("mt_bench", by_name[name].figures["mt_bench"])}
            for pair in document["pairs"]:
                row |= _rate(pair, name, keys)
            row["flips"] = flips.get(name)
            row |= (
                {} if name in flips else {"flips_why": "no DGM with an SFT of its own and another DGM's SFT beside it"}
            )
            rows.append(row)
        columns = [Column("model", "Model"), Column("mt_bench", "MT-Bench", "float2")]
        columns += [Column(keys[name], f"PrefRt-{by_name[name].label}", "percent1") for name in names]
        columns.append(Column("flips", "FlipCt", "int"))
        notes = [
            f"A cell is the share of {document['n_prompts']} prompts on which the row's answer is preferred to the "
            "column's in both orders together; ties count for neither.",
            "FlipCt: prompts with DGM > another SFT > the DGM's own SFT, all other SFTs together.",
        ]
        notes += [str(note) for note in document.get("notes", ())]
        table_id = "table4" if len(given.study.targets) == 1 else f"table4-{target}"
        title = f"Preferences among the models of {target}"
        yield (
            Table(table_id, title, columns, rows, f"{_PAPER}, Table 4", notes),
            [Chart(table_id, title, "heatmap", table_id, "model", list(keys.values()), f"{_PAPER}, Table 4")],
        )


def _rate(pair: Mapping[str, Any], name: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """The cell of the other model in this model's row, nothing where the pair is another one."""
    side = "a" if pair["a"] == name else "b" if pair["b"] == name else None
    other = pair["b"] if side == "a" else pair["a"]
    if side is None or other not in keys:
        return {}
    if pair[f"rate_{side}"] is None:
        return {keys[other]: None, f"{keys[other]}_why": "no prompt has a verdict"}
    interval = pair.get(f"ci95_{side}")
    return {keys[other]: pair[f"rate_{side}"]} | ({f"{keys[other]}_ci95": interval} if interval else {})


def _model_name(folder: Path) -> str:
    return str(read_json(folder / "scores.json")["model"]["name"])


def _similarity(given: _Given) -> Iterator[tuple[Table, list[Chart]]]:
    analysis = given.analysis("similarity-dgms") or given.analysis("similarity")
    for table in analysis.tables if analysis is not None else ():
        if table.id == "models":
            title = "How alike the DGMs answer" if given.analysis("similarity-dgms") else "How alike the models answer"
            yield replace(table, id="table5", title=title, source=f"{_PAPER}, Table 5"), []


def _families(given: _Given) -> Iterator[tuple[Table, list[Chart]]]:
    """Each base with each DGM at the largest size, and the untrained models below, as Table 6."""
    alike = _pairs_alike(given)
    found: list[tuple[Scored, str | None, str | None]] = [
        (row, model.target, model.dgms[0])
        for model in given.models
        if len(model.dgms) == 1 and model.size == max(given.study.sizes) and (row := given.of(model))
    ]
    if not found:
        return
    untrained = {row.label: row for name in [*given.study.targets, *given.study.dgms] if (row := given.untrained(name))}
    rows = [row for row, _, _ in found] + list(untrained.values())
    parts = common_parts(rows)
    body = []
    for row, target, dgm in [*found, *((row, None, None) for row in untrained.values())]:
        cell: dict[str, Any] = {"model": row.label if dgm else f"{row.label} : None", "target": target, "dgm": dgm}
        cell |= score_cells(row, percent=False) | cells("avg", average(row, parts))
        if target is not None and dgm is not None:
            cell |= _alike_cell(given, alike, target, dgm)
        body.append(cell)
    columns = [Column("model", "Model"), *score_columns(percent=False), Column("avg", average_label(parts), "float3")]
    columns += [Column("alike", "ROUGE-1, base and DGM", "float3"), Column("n", "items", "int")]
    notes = [counts_note(rows), average_note(rows, parts)]
    notes.append("The last figure is how alike the untrained base and the DGM answer the same prompts, 1 for the same.")
    yield Table("table6", "Do similar DGMs teach better?", columns, body, f"{_PAPER}, Table 6", notes), []


def _pairs_alike(given: _Given) -> dict[frozenset[str], Mapping[str, Any]]:
    """ROUGE-1 of every two models: on the DGMs' own prompts where both answered them, else on the benchmarks'."""
    found: dict[frozenset[str], Mapping[str, Any]] = {}
    for cell in ("similarity-dgms", "similarity"):
        analysis = given.analysis(cell)
        for table in analysis.tables if analysis is not None else ():
            if table.id == "pairs":
                for row in table.rows:
                    found.setdefault(frozenset((row["a"], row["b"])), row)
    return found


def _alike_cell(
    given: _Given, alike: Mapping[frozenset[str], Mapping[str, Any]], target: str, dgm: str
) -> dict[str, Any]:
    base = given.study.targets[target].model
    if given.study.dgms[dgm].model == base:
        return {"alike": 1.0}
    names = [target, *(name for name, other in given.study.dgms.items() if other.model == base)]
    row = next((row for name in names if (row := alike.get(frozenset((name, dgm))))), None)
    if row is None or row.get("rouge1") is None:
        return {"alike": None, "alike_why": "the base and the DGM have not answered the same prompts"}
    return {"alike": row["rouge1"]} | ({"alike_ci95": row["rouge1_ci95"]} if row.get("rouge1_ci95") else {})


def _blends(given: _Given) -> Iterator[tuple[Table, list[Chart]]]:
    """Each blend below its parts at the same size, or at the size nearest to it."""
    wanted: dict[str, Trained] = {}
    for blend in (model for model in given.models if len(model.dgms) > 1):
        for dgm in blend.dgms:
            parts = [m for m in given.models if m.dgms == (dgm,) and m.target == blend.target]
            part = min(parts, key=lambda m: (abs(m.size - blend.size), m.size))
            wanted.setdefault(part.name, part)
        wanted.setdefault(blend.name, blend)
    rows = [row for model in wanted.values() if (row := given.of(model))]
    if not rows or not any(len(model.dgms) > 1 and given.of(model) for model in wanted.values()):
        return
    parts_of_mean = common_parts(rows)
    body = [
        {"model": row.label, **score_cells(row, percent=False), **cells("avg", average(row, parts_of_mean))}
        for row in rows
    ]
    columns = [Column("model", "Model"), *score_columns(percent=False)]
    columns += [Column("avg", average_label(parts_of_mean), "float3"), Column("n", "items", "int")]
    notes = [counts_note(rows), average_note(rows, parts_of_mean)]
    table = Table("table7", "Blends and their parts", columns, body, f"{_PAPER}, Table 7", notes)
    yield table, [Chart("table7", table.title, "bars", "table7", "model", ["avg"], f"{_PAPER}, Table 7")]


def _keywords(given: _Given) -> Iterator[tuple[Table, list[Chart]]]:
    for target in given.study.targets:
        analysis = given.analysis(f"keywords-{target}")
        for table in analysis.tables if analysis is not None else ():
            if table.id not in {"words_a", "words_b"}:
                continue
            number = "figure3" if table.id == "words_a" else "figure4"
            table_id = number if len(given.study.targets) == 1 else f"{number}-{target}"
            charts = [chart for chart in analysis.charts if chart.table == table.id] if analysis else []
            yield replace(table, id=table_id), [replace(chart, id=table_id, table=table_id) for chart in charts]


def _merged(parts: Iterator[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= part
    return merged
