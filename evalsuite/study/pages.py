"""The stages that only read: analyses, the study's tables, the paper beside them, and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalsuite.analysis.document import FILE, Analysis, write_analysis
from evalsuite.files import write_jsonl
from evalsuite.progress import Progress
from evalsuite.study.state import Made
from evalsuite.study.tasks import KEY_DIGITS, Bench, Task
from judges.types import Unscored

N_DRAWN = 500
"""Prompts on which DGMs are compared: as many as in WILDCHAT-50M's Table 5."""


def analyze(task: Task, bench: Bench) -> Made:
    """Carry out one analysis on what the study has made; its name is the study's."""
    kind, _, part = task.stage.cell.partition("-")
    makers = {
        "style": _style,
        "similarity": _dgm_similarity if part == "dgms" else _similarity,
        "keywords": _keywords,
        "efficiency": _efficiency,
        "contamination": _contamination,
    }
    return _written(makers[kind](task, bench), f"{bench.study.name}-{part}" if part else bench.study.name, bench)


def _written(analysis: Analysis, name: str, bench: Bench) -> Made:
    folder = write_analysis(bench.results, replace(analysis, name=name))
    return Made({"folder": folder}, (folder / FILE,))


def _words(task: Task) -> dict[str, str]:
    """The answers of each model as the analyses take them: LABEL=FOLDER, by run stage."""
    labels: Mapping[str, str] = task.stage.settings["labels"]
    return {name: f"{labels[name]}={made.outputs['folder']}" for name, made in task.inputs.items()}


def _style(task: Task, bench: Bench) -> Analysis:
    from evalsuite.analysis.style import StyleOptions, style_analysis

    words, labels = _words(task), task.stage.settings["labels"]
    lineage = named_lineage(task.stage.settings["lineage"], {name: labels[name] for name in words})
    return style_analysis(list(words.values()), bench.results, StyleOptions(lineage=lineage or None))


def named_lineage(lineage: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Turn a lineage of run stages into one of models' names; nothing where no checkpoint is there with its DGM.

    A DGM that is not there keeps its own name: its checkpoints still count as others' rivals.
    """
    if not any(sft in names and dgm in names for sft, dgm in lineage.items()):
        return {}
    return {names[sft]: names.get(dgm, dgm.removeprefix("run ")) for sft, dgm in lineage.items() if sft in names}


def _similarity(task: Task, bench: Bench) -> Analysis:
    from evalsuite.analysis.similarity import SimilarityConfig, similarity

    config = SimilarityConfig(tuple(_words(task).values()), bench.results)
    return replace(similarity(config, bench.progress), title="Similarity of the models' answers to the benchmarks")


def _dgm_similarity(task: Task, bench: Bench) -> Analysis:
    """Compare the DGMs on the same drawn prompts, as Table 5 does on 500."""
    from evalsuite.analysis.similarity import SimilarityConfig, similarity

    places = {name.removeprefix("generate "): str(made.outputs["folder"]) for name, made in task.inputs.items()}
    folder = bench.folder / task.stage.kind / task.key[:KEY_DIGITS]
    words = [
        f"{name}={draw_answers(place, folder / f'{name}.jsonl', N_DRAWN, bench.progress)}"
        for name, place in {**places, **task.stage.words["recorded"]}.items()
    ]
    analysis = similarity(SimilarityConfig(tuple(words), bench.results), bench.progress)
    return replace(analysis, title="Similarity of the data generating models' answers")


def draw_answers(word: str, out: Path, count: int, progress: Progress) -> Path:
    """Write the ``count`` conversations of a source whose first prompts have the smallest hashes, and return the file.

    So the draws of several models are of the same prompts, whatever the order of their rows; the source is read as
    a stream. Conversations that lack an answer are passed over.
    """
    from evalsuite.analysis.answers import prompt_hash
    from evalsuite.conversations.formats import conversation_of, detect_format
    from evalsuite.conversations.source import open_source

    rows = open_source(word)
    layout = detect_format(rows.columns, rows.word)
    progress.begin(f"drawing from {out.stem}", rows.n_rows)
    drawn: dict[str, list[dict[str, str]]] = {}
    bound: str | None = None
    for row in rows:
        progress.advance(f"drawing from {out.stem}")
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


def _keywords(task: Task, bench: Bench) -> Analysis:
    from evalsuite.analysis.keywords import KeywordsConfig, keywords

    # The mini items are too few for a word of interest to occur five times.
    small = task.stage.settings["data"] == "mini"
    words = tuple(_words(task).values())
    limits: dict[str, Any] = {"min_count": 1, "all_words": True, "all_judgments": True} if small else {}
    return keywords(KeywordsConfig(words, bench.results, **limits))


def _efficiency(task: Task, bench: Bench) -> Analysis:
    from evalsuite.analysis.efficiency import efficiency_analysis

    return efficiency_analysis([str(made.outputs["folder"]) for made in task.inputs.values()], bench.results)


def _contamination(task: Task, bench: Bench) -> Analysis:
    from evalsuite import __version__
    from evalsuite.contamination.measure import analysis_of, load_meter, measure

    words = [str(made.outputs["folder"]) for made in task.inputs.values()]
    figures = measure(words, load_meter(task.stage.settings["data"]), bench.progress)
    return analysis_of(figures, words, {"evalsuite": __version__})


def make_tables(task: Task, bench: Bench) -> Made:
    """Write the paper's tables and figures with the study's own figures, as one analysis."""
    from evalsuite.wildchat.study_tables import study_analysis

    return _written(study_analysis(task, bench), bench.study.name, bench)


def make_paper(bench: Bench) -> Made:
    """Put the paper's published tables beside the results, rows found by lineage and the study's aliases."""
    from evalsuite.wildchat.own_results import RowMap
    from evalsuite.wildchat.side_by_side import paper_analysis

    aliases = bench.study.paper.aliases if bench.study.paper else {}
    return _written(paper_analysis(bench.results, RowMap(aliases=aliases)), bench.study.name, bench)


def make_report(bench: Bench) -> Made:
    """Build the HTML report of the whole results folder; what cannot be read there is noted."""
    from evalsuite.report.build import build_report

    report = build_report(bench.results)
    return Made({"html": report.html}, (report.html,), notes=tuple(report.faults))
