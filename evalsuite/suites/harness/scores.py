"""Figures of an lm-eval results document; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from evalsuite.suites.peer_files import finite_number


class TaskFigure(NamedTuple):
    """One figure of a task; ``name`` is its metric and which of lm-eval's filters it is under."""

    name: tuple[str, str]
    value: float | None = None
    stderr: float | None = None


def task_rows(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return lm-eval's rows of metrics by task and group, JSON-ready: what lm-eval calls N/A is None."""
    return {
        task: {
            key: finite_number(value) if "," in key or isinstance(value, float) else value for key, value in row.items()
        }
        for task, row in results.get("results", {}).items()
    }


def document_counts(
    results: Mapping[str, Any], unscored: Mapping[str, Mapping[str, int]], *, without: Collection[str] = ()
) -> dict[str, Any]:
    """Return {"n": scored documents, "unscored": {reason: documents}} over all tasks but ``without``."""
    rows = results.get("results", {})
    leaves = [task for task in rows if task not in without and leaf_tasks(results, task) == (task,)]
    return {
        "n": n_documents(results, leaves),
        "unscored": summed_counts(counts for task, counts in unscored.items() if task not in without),
    }


def summed_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add up counts by reason, in alphabetical order."""
    return dict(sorted(sum(map(Counter, counts), Counter()).items()))


def n_documents(results: Mapping[str, Any], tasks: Iterable[str]) -> int | None:
    """Return how many documents of the tasks are scored; None where lm-eval's document does not say."""
    counts, rows = results.get("n-samples", {}), results["results"]
    known = [counts.get(task, {}).get("effective", rows.get(task, {}).get("sample_len")) for task in tasks]
    return None if any(count is None for count in known) else sum(known)


def leaf_tasks(results: Mapping[str, Any], task: str) -> tuple[str, ...]:
    """Return the tasks that a group consists of, in lm-eval's order; a task consists of itself."""
    children = results.get("group_subtasks", {}).get(task) or []
    return tuple(leaf for child in children for leaf in leaf_tasks(results, child)) if children else (task,)


def within(results: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    """Return a results document with the rows of ``tasks`` and of what they consist of alone."""
    kept = list(tasks)
    for task in kept:
        kept += [child for child in results.get("group_subtasks", {}).get(task) or [] if child not in kept]
    return {**results, "results": {task: row for task, row in results["results"].items() if task in kept}}


def task_figures(row: Mapping[str, Any]) -> list[TaskFigure]:
    """Return the metrics of one of lm-eval's rows, in its order."""
    figures = []
    for key, value in row.items():
        metric, comma, name = key.partition(",")
        if comma and not metric.endswith("_stderr"):
            stderr = finite_number(row.get(f"{metric}_stderr,{name}"))
            figures.append(TaskFigure((metric, name), finite_number(value), stderr))
    return figures


def main_figure(row: Mapping[str, Any]) -> TaskFigure | None:
    """Return a task's first metric, under its last filter: the one that the samples' metrics belong to."""
    figures = task_figures(row)
    return next((figure for figure in figures if figure.name[1] == figures[-1].name[1]), None)
