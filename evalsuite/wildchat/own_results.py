"""Own figures for the rows of a published table: of models found by their lineage, or named in a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from evalsuite.analysis.document import Analysis, analysis_files, read_analysis
from evalsuite.errors import DataError
from evalsuite.results.reading import Comparison, ModelResult, Results
from evalsuite.suites.figures import Figure
from evalsuite.validation import read_mapping
from evalsuite.wildchat.figures import columns, figure_in, preference_figure, read_figure, scaled
from evalsuite.wildchat.published import Making, PublishedColumn, PublishedTable, published_tables, short_names

_SIZE_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class RowMap:
    """Which of your models belongs to which row (``models``, also ``table4/ROW``), and what the short names mean here.

    With ``aliases`` a lineage is matched whatever the training size, unless the table has it at several sizes: a
    study on other models has another scale.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


def read_map(path: Path) -> RowMap:
    """Read ``ROW: own model`` lines, and ``aliases: {short name: own name}``, from YAML; raises DataError."""
    models = read_mapping(path, "map")
    aliases = models.pop("aliases", {})
    if not isinstance(aliases, dict):
        raise DataError(f"{path}: aliases is {aliases!r}; expected short names with their meaning here")
    if unknown := sorted(set(map(str, aliases)) - set(short_names())):
        raise DataError(f"{path}: unknown short name {unknown[0]!r}; known: {', '.join(short_names())}")
    labels = {name for table in published_tables() for row in table.rows for name in (row, f"{table.id}/{row}")}
    if unknown := sorted(set(models) - labels):
        raise DataError(f"{path}: no published table has the row {unknown[0]!r}; see the labels in `evalsuite paper`")
    return RowMap({label: str(model) for label, model in models.items()}, {str(k): str(v) for k, v in aliases.items()})


@dataclass(frozen=True, slots=True)
class Match:
    """Your model of a published row, or why there is none; ``name`` is what your tables call it."""

    model: ModelResult | None = None
    why: str = ""
    name: str | None = None


def match_rows(table: PublishedTable, results: Results, row_map: RowMap) -> dict[str, Match]:
    """Find your model of each row; a name in the map may be that of a row in your analyses without a folder.

    Beside a leaderboard stand only models that its judge judged.
    """
    results = replace(results, models=judged_alike(table, results.models))
    return {label: _match(table, label, results, row_map) for label in table.rows}


def judged_alike(table: PublishedTable, models: Sequence[ModelResult]) -> list[ModelResult]:
    """Return the models that the judge of a leaderboard judged; all for a table that names none."""
    if not table.judge:
        return list(models)
    names = [(model, judge_of(table, model)) for model in models]
    return [model for model, name in names if name is not None and _base_name(name) == _base_name(table.judge)]


def judge_of(table: PublishedTable, model: ModelResult) -> str | None:
    """Return the name of a model's judge of the suite that a leaderboard is of, None without a judge."""
    column = columns().get(table.columns[0].own or "")
    suite = "" if column is None else column.suite
    return None if model.judge is None else model.judge.of_suite(suite).name


def _match(table: PublishedTable, label: str, results: Results, row_map: RowMap) -> Match:
    mapped = row_map.models.get(f"{table.id}/{label}") or row_map.models.get(label)
    making = table.makings.get(label)
    if mapped is not None:
        models = [model for model in results.models if mapped in {model.name, model.slug}]
        return _only(models, f"the map names {mapped!r}, which is not among the results", mapped)
    if making is None:
        return Match()
    models = [model for model in results.models if _has_lineage(model, making, row_map.aliases)]
    siblings = [other for other in table.makings.values() if (other.base, other.dgms) == (making.base, making.dgms)]
    size = None if row_map.aliases and len(siblings) == 1 else making.size
    known = [(model, model.lineage.size) for model in models]
    sized = [m for m, own in known if size is None or (own is not None and abs(own - size) <= _SIZE_TOLERANCE * size)]
    if models and not sized:
        sizes = ", ".join(f"{model.lineage.size or 'an unknown number of'}" for model in models[:3])
        return Match(why=f"a model of this lineage has {sizes} conversations, not {size}; select it with --map")
    return _only(sized, "no model of this lineage among the results")


def _only(models: Sequence[ModelResult], none: str, mapped: str | None = None) -> Match:
    if len(models) == 1:
        return Match(models[0], name=models[0].name)
    if models:
        none = f"{len(models)} models fit ({models[0].slug}, {models[1].slug}); select one with --map"
    return Match(why=none, name=mapped)


def _has_lineage(model: ModelResult, making: Making, aliases: Mapping[str, str]) -> bool:
    lineage = model.lineage
    if not making.dgms:
        return lineage.dgm is None and _means(making.base, model.name, aliases)
    if lineage.base is None or lineage.dgm is None or not _means(making.base, lineage.base, aliases):
        return False
    own = [name.strip() for name in lineage.dgm.replace(" + ", ",").split(",")]
    return len(own) == len(making.dgms) and all(any(_means(dgm, name, aliases) for name in own) for dgm in making.dgms)


def _means(short: str, name: str, aliases: Mapping[str, str]) -> bool:
    """Whether the paper calls a checkpoint ``short``; the organisation before its name does not matter."""
    meanings = (aliases[short],) if short in aliases else (short, *short_names().get(short, ()))
    return _base_name(name) in map(_base_name, meanings)


def _base_name(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].lower()


def score_figure(model: ModelResult, column: PublishedColumn, requires: Mapping[str, str] | None = None) -> Figure:
    """Return a figure of scores.json on the published scale, with its interval.

    A suite that says another value than ``requires`` gives none; one that does not say it, as recorded files may, does.
    """
    if column.own is None:
        return Figure(reason="this figure is not one of scores.json")
    suite = model.suites.get(columns()[column.own].suite, {}) if requires else {}
    for name, published in (requires or {}).items():
        if suite.get(name) not in (None, published):
            return Figure(reason=f"its {name.replace('_', ' ')} is {suite[name]}, the published one {published}")
    if column.own == "average":
        value = model.scores.average.get("paper")
        return Figure(value, reason="" if value is not None else "part of the average is missing")
    return scaled(read_figure(model.scores, column.own), column.scale)


def comparison_figure(
    column: PublishedColumn, own: str, matches: Mapping[str, Match], comparisons: Sequence[Comparison]
) -> Figure:
    """Return how often ``own`` is preferred to the model of the column, in percent, or its flip count."""
    for preferences in (comparison.preferences for comparison in comparisons):
        if own not in preferences.models:
            continue
        if column.over is None:
            counts = [flip.count for flip in preferences.flips if flip.dgm == own]
            if len(counts) == 1:
                return Figure(float(counts[0]))
            continue
        other = matches[column.over].name if column.over in matches else None
        figure = None if other is None else preference_figure(preferences, own, other)
        if figure is not None and figure.value is not None:
            return scaled(figure, 100.0)
    what = "flips against its own SFT and one other" if column.over is None else f"it with the model for {column.over}"
    return Figure(reason=f"no comparison in results/comparisons has {what}")


_TABLES = {"style": ("table3",), "similarity": ("table5", "models")}
"""The tables of own analyses that hold the figures of a kind of published table."""


def analysis_figure(
    table: PublishedTable, column: PublishedColumn, names: Sequence[str], analyses: Sequence[Analysis]
) -> Figure:
    """Return a figure of the newest style or similarity analysis that has the row and the column."""
    for analysis in analyses:
        tables = [own for own in analysis.tables if own.id in _TABLES.get(table.kind, ())]
        row = next((row for own in tables for row in own.rows if row.get("model") in names), None)
        if row is not None:
            return figure_in(row, column.key, f"the analysis {analysis.name} has no {column.label}")
    return Figure(reason=f"no {table.kind} analysis in results/analyses has this row")


def read_analyses(results: Path, kind: str) -> tuple[list[Analysis], list[str]]:
    """Return the analyses of a kind, newest first, and one sentence for each that cannot be read."""
    paths = [path for path in analysis_files(results) if path.parent.name.startswith(f"{kind}-")]
    analyses, faults = [], []
    for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            analyses.append(read_analysis(path))
        except DataError as error:
            faults.append(str(error))
    return analyses, faults


def row_names(label: str, matches: Mapping[str, Match]) -> list[str]:
    """Return the labels that an own table may give a published row: the row's, the model's name, ``NAME : None``."""
    if label.startswith("PF | "):
        first, _, second = label.removeprefix("PF | ").partition(", ")
        return [f"PF | {a}, {b}" for a in row_names(first, matches) for b in row_names(second, matches)]
    name = matches[label].name if label in matches else None
    return [label] if name is None else [label, name, f"{name} : None"]
