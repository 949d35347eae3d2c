"""The stages that only read: analyses, the study's tables, the paper's tables with own figures, and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalsuite.analysis.document import FILE, Analysis, write_analysis
from evalsuite.files import write_jsonl
from evalsuite.progress import Progress
from evalsuite.study.graph import trained_models
from evalsuite.study.state import Made, Task, Workspace
from judges.types import Unscored

N_DRAWN = 500
"""Prompts on which DGMs are compared: as many as in WILDCHAT-50M's Table 5."""


def analyze(task: Task, workspace: Workspace) -> Made:
    """Run one analysis on what the study has made; it is named after the study."""
    kind, _, part = task.stage.cell.partition("-")
    name = f"{workspace.study.name}-{part}" if part else workspace.study.name
    maker = _dgm_similarity if part == "dgms" else _MAKERS[kind]
    return _written(maker(task, workspace), name, workspace)


def _written(analysis: Analysis, name: str, workspace: Workspace) -> Made:
    folder = write_analysis(workspace.results, replace(analysis, name=name))
    return Made({"folder": folder}, (folder / FILE,))


def _specs(task: Task) -> tuple[str, ...]:
    """Return the models as analyses take them, LABEL=FOLDER."""
    labels: Mapping[str, str] = task.stage.settings["labels"]
    return tuple(f"{labels[name]}={made.outputs['folder']}" for name, made in task.inputs.items())


def _style(task: Task, workspace: Workspace) -> Analysis:
    from evalsuite.analysis.style import StyleOptions, style_analysis

    labels = task.stage.settings["labels"]
    lineage = named_lineage(task.stage.settings["lineage"], {name: labels[name] for name in task.inputs})
    return style_analysis(list(_specs(task)), workspace.results, StyleOptions(lineage=lineage or None))


def named_lineage(lineage: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Turn a lineage of run stages into one of models' names; empty where no checkpoint is present with its DGM.

    A DGM that is not present keeps its own name: its checkpoints still count as rivals of the others'.
    """
    if not any(sft in names and dgm in names for sft, dgm in lineage.items()):
        return {}
    return {names[sft]: names.get(dgm, dgm.removeprefix("run ")) for sft, dgm in lineage.items() if sft in names}


def _similarity(task: Task, workspace: Workspace) -> Analysis:
    from evalsuite.analysis.settings import SimilarityConfig
    from evalsuite.analysis.similarity import similarity

    analysis = similarity(SimilarityConfig(answers=_specs(task), results=workspace.results), workspace.progress)
    return replace(analysis, title="Similarity of the models' answers to the benchmarks")


def _dgm_similarity(task: Task, workspace: Workspace) -> Analysis:
    """Compare the DGMs on the same drawn prompts, as Table 5 does on 500."""
    from evalsuite.analysis.settings import SimilarityConfig
    from evalsuite.analysis.similarity import similarity

    sources = {name.removeprefix("generate "): str(made.outputs["folder"]) for name, made in task.inputs.items()}
    folder = workspace.folder_of(task)
    specs = tuple(
        f"{name}={draw_answers(source, folder / f'{name}.jsonl', N_DRAWN, workspace.progress)}"
        for name, source in {**sources, **task.stage.arguments["recorded"]}.items()
    )
    analysis = similarity(SimilarityConfig(answers=specs, results=workspace.results), workspace.progress)
    return replace(analysis, title="Similarity of the data generating models' answers")


def draw_answers(source: str, out: Path, count: int, progress: Progress) -> Path:
    """Write the ``count`` conversations of a source whose first prompts have the smallest hashes; return the file.

    So the draws of several models have the same prompts, whatever the order of their rows. The source is streamed;
    conversations that lack an answer are skipped.
    """
    from evalsuite.analysis.answers import prompt_hash
    from evalsuite.conversations.formats import conversation_of, detect_format
    from evalsuite.conversations.source import open_source

    rows = open_source(source)
    layout = detect_format(rows.columns, source)
    title = f"drawing from {out.stem}"
    progress.begin(title, rows.n_rows)
    drawn: dict[str, list[dict[str, str]]] = {}
    bound: str | None = None
    for row in rows:
        progress.advance(title)
        conversation = conversation_of(row, layout)
        if isinstance(conversation, Unscored):
            continue
        key = prompt_hash([next(m.content for m in conversation.messages if m.role == "user")])
        if key in drawn or (bound is not None and key >= bound):
            continue
        drawn[key] = [{"role": message.role, "content": message.content} for message in conversation.messages]
        if len(drawn) >= 2 * count:
            drawn = {key: drawn[key] for key in sorted(drawn)[:count]}
            bound = max(drawn)
    write_jsonl(out, ({"messages": drawn[key]} for key in sorted(drawn)[:count]))
    return out


def _keywords(task: Task, workspace: Workspace) -> Analysis:
    from evalsuite.analysis.keywords import keywords
    from evalsuite.analysis.settings import KeywordsConfig

    # The mini items are too few for a word of interest to occur five times.
    is_mini = task.stage.settings["data"] == "mini"
    limits: dict[str, Any] = {"min_count": 1, "all_words": True, "all_judgments": True} if is_mini else {}
    return keywords(KeywordsConfig(judgments=_specs(task), results=workspace.results, **limits))


def _efficiency(task: Task, workspace: Workspace) -> Analysis:
    from evalsuite.analysis.efficiency import efficiency_analysis
    from evalsuite.analysis.settings import EfficiencyConfig

    folders = tuple(str(made.outputs["folder"]) for made in task.inputs.values())
    return efficiency_analysis(EfficiencyConfig(folders=folders, results=workspace.results))


def _contamination(task: Task, workspace: Workspace) -> Analysis:
    from evalsuite.contamination.measure import analysis_of, load_meter, measure

    sources = [str(made.outputs["folder"]) for made in task.inputs.values()]
    figures = measure(sources, load_meter(task.stage.settings["data"]), workspace.progress)
    return analysis_of(figures, sources)


_MAKERS: Mapping[str, Callable[[Task, Workspace], Analysis]] = {
    "style": _style,
    "similarity": _similarity,
    "keywords": _keywords,
    "efficiency": _efficiency,
    "contamination": _contamination,
}


def make_tables(task: Task, workspace: Workspace) -> Made:
    """Write the paper's tables and figures with the study's own figures, as one analysis."""
    from evalsuite.wildchat.study_tables import StudyResults, study_analysis

    study = workspace.study
    results = StudyResults(
        name=study.name,
        targets={name: target.model for name, target in study.targets.items()},
        dgms={name: dgm.model for name, dgm in study.dgms.items()},
        trained=trained_models(study),
        labels=task.stage.settings["labels"],
        folders={name: made.outputs["folder"] for name, made in task.inputs.items()},
        settings=study.model_dump(mode="json"),
    )
    return _written(study_analysis(results, workspace.results), study.name, workspace)


def make_paper(workspace: Workspace) -> Made:
    """Write the paper's published tables with the results beside them, matched by lineage and the study's aliases."""
    from evalsuite.wildchat.own_results import RowMap
    from evalsuite.wildchat.side_by_side import paper_analysis

    study = workspace.study
    aliases = study.paper.aliases if study.paper else {}
    return _written(paper_analysis(workspace.results, RowMap(aliases=aliases)), study.name, workspace)


def make_report(workspace: Workspace) -> Made:
    """Build the HTML report of the whole results folder; what cannot be read there is noted."""
    from evalsuite.report.build import build_report

    report = build_report(workspace.results)
    return Made({"html": report.html}, (report.html,), notes=tuple(report.faults))
