"""``--repeats`` in lm-eval's tasks: through lm-eval's own repeats, whose further answers its filters would drop.

lm-eval asks a task with ``repeats: N`` N times, and the filter ``take_first`` keeps one. Inside :func:`repeated` each
answer goes through the task's filters and metrics by itself, and lm-eval aggregates the means. A task that has repeats
of its own (pass@64, maj@8) keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import TYPE_CHECKING, Any

from evalsuite.suites.harness.rows import metric_values
from evalsuite.suites.patching import each_patched
from judges.types import Unscored

if TYPE_CHECKING:
    from evalsuite.serving.sampler import Sampler

Marks = Mapping[tuple[str, int], Mapping[str, tuple[float | None, ...]]]
"""By (task, document number): the marks of every answer under each metric."""


class _Each(list[Any]):
    """What a filter made of each answer to one request of a document."""

    doc_id: int = 0


def is_sampled(task: Any, sampler: Sampler) -> bool:
    """Whether a task's answers are drawn at random, and drawn once by the task itself."""
    from evalsuite.suites.harness.lm import task_sampling

    if task.OUTPUT_TYPE != "generate_until" or (task.config.repeats or 1) > 1:
        return False
    return sampler.samples(task_sampling(task.config.generation_kwargs or {}, "", 1)[0])


@contextmanager
def repeated(tasks: Iterable[Any], repeats: int, sampler: Sampler) -> Iterator[Marks]:
    """Let lm-eval ask sampled tasks ``repeats`` times and mark every answer; yields the marks, filled as it goes."""
    marks: dict[tuple[str, int], dict[str, tuple[float | None, ...]]] = {}
    drawn = [task for task in tasks if repeats > 1 and is_sampled(task, sampler)]
    for task in drawn:
        task.set_config(key="repeats", value=repeats)

    def changes(task: Any) -> dict[str, Any]:
        return {"apply_filters": _filtered(task, repeats), "process_results": _processed(task, marks)}

    with each_patched(drawn, changes):
        yield marks


def _filtered(task: Any, repeats: int) -> Callable[[], None]:
    original = task.apply_filters

    def apply_filters() -> None:
        answers = [list(instance.resps) for instance in task.instances]
        each: list[dict[str, _Each]] = [{} for _ in answers]
        for repeat in range(repeats):
            for instance, drawn in zip(task.instances, answers, strict=True):
                instance.resps = [drawn[repeat]]
            original()
            for instance, found in zip(task.instances, each, strict=True):
                for name, value in instance.filtered_resps.items():
                    found.setdefault(name, _Each()).append(value)
                    found[name].doc_id = instance.doc_id
        for instance, drawn, found in zip(task.instances, answers, each, strict=True):
            instance.resps = drawn
            # A document with a failed answer is left out, as without repeats.
            instance.filtered_resps = {name: _fault(values) or values for name, values in found.items()}

    return apply_filters


def _fault(values: Sequence[Any]) -> Unscored | None:
    return next((one for one in values if isinstance(one, Unscored)), None)


def _processed(
    task: Any, marks: dict[tuple[str, int], dict[str, tuple[float | None, ...]]]
) -> Callable[[Any, Any], Any]:
    original = task.process_results

    def process_results(doc: Any, results: Any) -> Any:
        if not all(isinstance(one, _Each) for one in results):
            return original(doc, results)
        each = [_plain(original(doc, list(draw))) for draw in zip(*results, strict=True)]
        values = [metric_values(one) for one in each]
        by_name = {name: tuple(one.get(name) for one in values) for name in values[0]}
        marks[task.config.task, results[0].doc_id] = by_name
        return {name: _mean([one[name] for one in each]) for name in each[0]}

    return process_results


def _plain(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics with numbers of numpy as Python's."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in metrics.items()}


def _mean(values: Sequence[Any]) -> Any:
    """Return the mean of numbers, or of lists of numbers place by place; of anything else the first."""
    if all(isinstance(one, int | float) for one in values):
        return fmean(values)
    lists = [one for one in values if isinstance(one, list | tuple)]
    if len(lists) == len(values) and len({len(one) for one in lists}) == 1:
        return [_mean(same) for same in zip(*lists, strict=True)]
    return values[0]
