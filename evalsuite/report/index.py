"""The index of a page: everything that its views know besides the items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evalsuite.documents import Manifest, Scores
from evalsuite.report.analyses import ShownAnalysis
from evalsuite.report.charts import judge_names
from evalsuite.report.figures import average_digits
from evalsuite.report.glossary import GLOSSARY
from evalsuite.report.ranks import AVERAGE
from evalsuite.report.significance import Contexts, Marks
from evalsuite.report.tables import ModelFigures, TabTable
from evalsuite.report.tabs import labels_of, slugs_of
from evalsuite.report.texts import without_folders
from evalsuite.results.averages import AVERAGES
from evalsuite.results.reading import ModelResult, Results
from evalsuite.suites.figures import Column, Figure
from evalsuite.suites.registry import iter_suites

_COLUMN_FIELDS = ("key", "title", "says", "top", "digits", "items", "main")


@dataclass
class Contents:
    """What a report shows; ``faults`` has one sentence for each thing that could not be read."""

    folder: Path
    results: Results
    columns: Sequence[Column]
    figures: ModelFigures
    tables: Sequence[TabTable]
    faults: Sequence[str]
    analyses: Sequence[ShownAnalysis]
    made: str
    marks: Marks
    contexts: Contexts
    analysis_blocks: Sequence[Mapping[str, str | None]] = ()
    verdicts: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def models(self) -> Sequence[ModelResult]:
        return self.results.models


def light_document(contents: Contents, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the index of an item page, which shows items only."""
    return {
        "made": contents.made,
        "models": _listed(contents.models),
        "parts": list(parts),
        "glossary": GLOSSARY,
    }


def document(contents: Contents, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the index of the leaderboard."""
    models = contents.models
    listed = [
        {**known, **_model_document(model, figures)}
        for known, model, figures in zip(_listed(models), models, contents.figures, strict=True)
    ]
    return {
        **light_document(contents, parts),
        "models": listed,
        "columns": [{name: getattr(column, name) for name in _COLUMN_FIELDS} for column in contents.columns],
        "averages": [[name, average.title, average.says, average_digits(name)] for name, average in AVERAGES.items()],
        "suites": _suite_titles(models, contents.columns),
        "tabs": [
            {
                "title": table.tab.title,
                "reason": table.tab.reason,
                "members": table.tab.members,
                "sort": table.sort.replace(AVERAGE, "average_"),
                "ranks": table.ranks,
            }
            for table in contents.tables
        ],
        "comparisons": [
            {
                "name": comparison.name,
                "judge": judge_names(comparison),
                "preferences": without_folders(comparison.preferences.as_json()),
                "verdicts": contents.verdicts.get(comparison.name),
                "n_verdicts": len(comparison.verdicts),
            }
            for comparison in contents.results.comparisons
        ],
        "cards": without_folders(contents.results.judge_cards),
        "analyses": [
            {"folder": shown.folder, **blocks}
            for shown, blocks in zip(contents.analyses, contents.analysis_blocks, strict=False)
        ],
    }


def _listed(models: Sequence[ModelResult]) -> list[dict[str, Any]]:
    return [
        {"name": model.name, "slug": slug, "label": label, "imported": model.imported, "folder": model.slug}
        for model, slug, label in zip(models, slugs_of(models), labels_of(models), strict=True)
    ]


def _suite_titles(models: Sequence[ModelResult], columns: Sequence[Column]) -> dict[str, str]:
    """Return the title of each key of scores.json: that of the column of the same name, else the suite's."""
    titles = {column.key: column.title for column in columns}
    keys = dict.fromkeys(key for model in models for key in model.suites)
    return {key: titles.get(key, suite.title) for key, suite in iter_suites(list(keys))}


def _model_document(model: ModelResult, figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {
        **asdict(model.lineage),
        "figures": {
            key: [figure.value, figure.stderr, figure.ci95, figure.n, figure.unscored, figure.reason]
            for key, figure in figures.items()
        },
        "scores": without_folders(_of_one_judge(model.scores)),
        "manifest": without_folders(_of_one_judge(model.manifest)),
    }


def _of_one_judge(document: Scores | Manifest) -> dict[str, Any]:
    return {key: value for key, value in document.as_json().items() if key != "judged"}
