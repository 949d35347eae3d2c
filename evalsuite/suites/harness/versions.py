"""What differs between lm-eval 0.4 and 0.5, for the modules beside this one, which are written for 0.4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from evalsuite.suites.patching import each_patched, patched


def task_index(manager: Any) -> Mapping[str, Any]:
    """Return lm-eval's entries of tasks, groups and tags by name."""
    index: Mapping[str, Any] = manager.task_index if hasattr(manager, "task_index") else manager._task_index
    return index


def loaded_tasks(loaded: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tasks and groups of ``TaskManager.load`` by name; 0.5 puts the group's name before a member's."""
    tasks, groups = list(loaded["tasks"].values()), dict(loaded.get("groups", {}))
    for task in tasks:
        if hasattr(task.config, "_qualified_name"):
            task.config._qualified_name = None
    for group in groups.values():
        if hasattr(group, "_qualified_name"):
            group._children = {one._qualified_name: one for one in group}
    return {task.config.task: task for task in tasks}, groups


def scored_by_document(tasks: Iterable[Any]) -> AbstractContextManager[None]:
    """Let every document be scored by its task's ``process_results``, each request by what the filters made of it.

    So it is in 0.4. In 0.5 most tasks have scorers in its place, and a request has a list, with one entry per repeat.
    """
    return each_patched((task for task in tasks if hasattr(task, "_try_process_results")), _as_before)


def _as_before(task: Any) -> dict[str, Any]:
    filters, own = task.apply_filters, task.process_results
    current: dict[str, Any] = {}

    def apply_filters() -> None:
        filters()
        for one in task.instances:
            one.filtered_resps = {name: _only(value) for name, value in one.filtered_resps.items()}

    def process_results(doc: Any, results: Sequence[Any]) -> Any:
        lists = [one if isinstance(one, list) else [one] for one in results]
        metrics = own(doc, [one for repeats in lists for one in repeats])
        return _scorers(current["scorer"], current["requests"], lists) if metrics is None else metrics

    def scored(documents: Mapping[int, Sequence[Any]], name: str) -> dict[int, Any]:
        from lm_eval.scorers import ScoredDoc

        current["scorer"] = next(one for one in task.scorers if one.name == name)
        found = {}
        for doc_id, requests in documents.items():
            current["requests"] = requests
            metrics = task.process_results(requests[0].doc, [one.filtered_resps[name] for one in requests])
            # One value of each metric, which may be a list of its own: IFEval's has a flag per instruction.
            found[doc_id] = ScoredDoc(doc_id, requests[0].target, {name: [value] for name, value in metrics.items()})
        return found

    return {"apply_filters": apply_filters, "process_results": process_results, "_try_process_results": scored}


def _scorers(scorer: Any, requests: Sequence[Any], results: Sequence[list[Any]]) -> dict[str, Any]:
    """Return what a scorer of 0.5 makes of one document's ``results``, a list for each request."""
    with ExitStack() as changed:
        for request, answers in zip(requests, results, strict=True):
            changed.enter_context(patched(request, filtered_resps={scorer.name: answers}))
        doc_id = requests[0].doc_id
        reduced: dict[str, Any] = scorer.reduce({doc_id: scorer.score_doc(doc_id, list(requests))})[doc_id]
        return reduced


def _only(values: object) -> Any:
    return values[0] if isinstance(values, list) and len(values) == 1 else values
