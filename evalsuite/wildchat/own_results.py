"""One's own figures for the rows of a published table: found by lineage, or named in a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalsuite.analysis.document import Analysis, analysis_files, read_analysis
from evalsuite.errors import DataError
from evalsuite.report.columns import COLUMNS, EXTRA_COLUMNS, Figure
from evalsuite.report.reading import ModelResult, Results
from evalsuite.wildchat.published import Making, PublishedColumn, PublishedTable, published_tables, short_names

_SIZE_TOLERANCE = 0.1
_READERS = {column.key: column for column in (*COLUMNS, *EXTRA_COLUMNS)}


@dataclass(frozen=True, slots=True)
class RowMap:
    """Which own model stands for which row (``models``, also ``table4/ROW``), and what the short names mean here.

    With ``aliases`` a lineage is matched whatever the training size, unless the table has it at several sizes: a
    study on other models is at another scale.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OwnCell:
    """One's own figure on the published scale; ``why`` says why there is none."""

    value: float | None = None
    ci95: tuple[float, float] | None = None
    why: str = ""


def read_map(path: Path) -> RowMap:
    """Read ``ROW: own model`` lines, and ``aliases: {short name: own name}``, from YAML; raises DataError."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"cannot read {path} ({first}); write lines of 'row: own model'") from error
    if not isinstance(document, dict) or not document:
        raise DataError(f"{path} is not a mapping; write lines of 'row: own model' (quote names with colons)")
    aliases = document.pop("aliases", {})
    if not isinstance(aliases, dict):
        raise DataError(f"{path}: aliases is {aliases!r}; expected short names with their meaning here")
    if unknown := sorted(set(map(str, aliases)) - set(short_names())):
        raise DataError(f"{path}: the paper has no short name {unknown[0]!r}; known: {', '.join(short_names())}")
    rows = {label for table in published_tables() for label in table.rows}
    labels = rows | {f"{table.id}/{label}" for table in published_tables() for label in table.rows}
    if strange := sorted(set(map(str, document)) - labels):
        raise DataError(f"{path}: no published table has the row {strange[0]!r}; take labels from `evalsuite paper`")
    return RowMap({str(k): str(v) for k, v in document.items()}, {str(k): str(v) for k, v in aliases.items()})


def find_model(table: PublishedTable, label: str, results: Results, chosen: RowMap) -> tuple[ModelResult | None, str]:
    """Return the own model of a row, or None and why."""
    named = chosen.models.get(f"{table.id}/{label}") or chosen.models.get(label)
    if named is not None:
        fitting = [model for model in results.models if named in {model.name, model.slug}]
        return _only(fitting, f"the map names {named!r}, which is not among the results")
    making = table.makings.get(label)
    if making is None:
        return None, ""
    fitting = [model for model in results.models if _same_lineage(model, making, chosen.aliases)]
    siblings = [each for each in table.makings.values() if (each.base, each.dgms) == (making.base, making.dgms)]
    if making.size is None or (chosen.aliases and len(siblings) == 1):
        return _only(fitting, "no model of this lineage among the results")
    sized = [model for model in fitting if _same_size(model.lineage.size, making.size)]
    if fitting and not sized:
        sizes = ", ".join(f"{model.lineage.size or 'an unknown number of'}" for model in fitting[:3])
        return None, f"a model of this lineage has {sizes} conversations, not {making.size}; take it with --map"
    return _only(sized, "no model of this lineage among the results")


def _only(fitting: Sequence[ModelResult], nothing: str) -> tuple[ModelResult | None, str]:
    if len(fitting) == 1:
        return fitting[0], ""
    if not fitting:
        return None, nothing
    return None, f"{len(fitting)} models fit ({fitting[0].slug}, {fitting[1].slug}); name one with --map"


def _same_size(own: int | None, published: int) -> bool:
    return own is not None and abs(own - published) <= _SIZE_TOLERANCE * published


def _same_lineage(model: ModelResult, making: Making, aliases: Mapping[str, str]) -> bool:
    lineage = model.lineage
    if not making.dgms:
        return lineage.dgm is None and _means(making.base, model.name, aliases)
    if lineage.base is None or lineage.dgm is None or not _means(making.base, lineage.base, aliases):
        return False
    own = [part.strip() for part in lineage.dgm.replace(" + ", ",").split(",")]
    return len(own) == len(making.dgms) and all(any(_means(dgm, each, aliases) for each in own) for dgm in making.dgms)


def _means(short: str, name: str, aliases: Mapping[str, str]) -> bool:
    """Whether a checkpoint's name is what the paper calls ``short``; the organisation before it says nothing."""
    meanings = (aliases[short],) if short in aliases else (short, *short_names().get(short, ()))
    own = name.rstrip("/").rsplit("/", 1)[-1].lower()
    return any(own == meaning.rstrip("/").rsplit("/", 1)[-1].lower() for meaning in meanings)


def score_cell(model: ModelResult, column: PublishedColumn) -> OwnCell:
    """Return a figure of scores.json on the published scale, with its interval."""
    if column.own == "average":
        value = (model.scores.get("average") or {}).get("paper")
        return OwnCell(value, why="" if value is not None else "a part of the average is missing")
    if column.own is None:
        return OwnCell(why="this figure is not one of scores.json")
    figure: Figure = _READERS[column.own].read(model.suites)
    if figure.value is None:
        return OwnCell(why=figure.reason)
    interval = figure.ci95
    scaled = (interval[0] * column.scale, interval[1] * column.scale) if interval else None
    return OwnCell(figure.value * column.scale, scaled)


def preference_cell(column: PublishedColumn, own: str, others: Mapping[str, str], results: Results) -> OwnCell:
    """Return how often ``own`` is preferred over the model of the column, in percent, or its flip count."""
    for comparison in results.comparisons:
        document = comparison.preferences
        if own not in document.get("models", ()):
            continue
        if column.over is None:
            counts = [int(flip["count"]) for flip in document.get("flips") or [] if flip.get("dgm") == own]
            if len(counts) == 1:
                return OwnCell(float(counts[0]))
            continue
        other = others.get(column.over)
        for pair in document["pairs"]:
            for mine, theirs, side in ((pair.get("a"), pair.get("b"), "a"), (pair.get("b"), pair.get("a"), "b")):
                if (mine, theirs) == (own, other) and pair.get(f"rate_{side}") is not None:
                    interval = pair.get(f"ci95_{side}")
                    scaled = (100 * interval[0], 100 * interval[1]) if interval else None
                    return OwnCell(100 * pair[f"rate_{side}"], scaled)
    what = "flips against its own SFT and one other" if column.over is None else f"it with the model for {column.over}"
    return OwnCell(why=f"no comparison in results/comparisons has {what}")


def analysis_cell(
    table: PublishedTable, column: PublishedColumn, names: Sequence[str], found: Sequence[Analysis]
) -> OwnCell:
    """Return a figure of the style or similarity analyses: of the newest that has the row and the column."""
    wanted = {"style": ("table3",), "similarity": ("table5", "models")}.get(table.kind, ())
    for analysis in found:
        for own in (each for each in analysis.tables if each.id in wanted):
            for row in own.rows:
                if row.get("model") not in names:
                    continue
                if row.get(column.key) is None:
                    missing = f"the analysis {analysis.name} has no {column.label}"
                    return OwnCell(why=str(row.get(f"{column.key}_why") or missing))
                interval = row.get(f"{column.key}_ci95")
                return OwnCell(float(row[column.key]), tuple(interval) if interval else None)
    return OwnCell(why=f"no {table.kind} analysis in results/analyses has this row")


def read_analyses(results: Path, kind: str) -> tuple[list[Analysis], list[str]]:
    """Return the analyses of a kind, the newest first, and one sentence for each that cannot be read."""
    found: list[tuple[float, Analysis]] = []
    faults = []
    for path in analysis_files(results):
        if not path.parent.name.startswith(f"{kind}-"):
            continue
        try:
            found.append((path.stat().st_mtime, read_analysis(path)))
        except DataError as error:
            faults.append(str(error))
    return [analysis for _, analysis in sorted(found, key=lambda each: -each[0])], faults


def row_names(label: str, own: Mapping[str, str]) -> list[str]:
    """Return the labels that an own table may give a published row: its own, the model's name, ``NAME : None``."""
    if label.startswith("PF | "):
        first, _, second = label.removeprefix("PF | ").partition(", ")
        return [f"PF | {a}, {b}" for a in row_names(first, own) for b in row_names(second, own)]
    name = own.get(label)
    return [label] if name is None else [label, name, f"{name} : None"]


def chosen_names(table: PublishedTable, models: Mapping[str, ModelResult | None], chosen: RowMap) -> dict[str, str]:
    """Return the own names by row: of the models found, and of names in the map that are no results folder."""
    named = {label: model.name for label, model in models.items() if model is not None}
    for label in table.rows:
        word: Any = chosen.models.get(f"{table.id}/{label}") or chosen.models.get(label)
        if word is not None:
            named.setdefault(label, str(word))
    return named
