"""Open LLM Leaderboard v2's figures from an lm-eval results document; pure.

A part's score, standard error and count are lm-eval's own. The normalised score is the
leaderboard's: ``(score - chance) / (1 - chance)``, not below 0, times 100.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evalsuite.suites.base import Scores, finite_number


@dataclass(frozen=True, slots=True)
class Part:
    """One part: the lm-eval task or group that it is, on full and on mini data, and its metric.

    ``normalize`` says what the chance level is taken of: "subtasks" = each leaf task, then the
    mean; "task" = the single task; "none" = nothing, guessing scores 0. ``extra`` maps further
    fields of the part's scores to lm-eval metrics.
    """

    task: str
    mini_task: str
    metric: str
    normalize: Literal["subtasks", "task", "none"]
    extra: tuple[tuple[str, str], ...] = ()


PARTS: Mapping[str, Part] = {
    "bbh": Part("leaderboard_bbh", "mini_bbh", "acc_norm", "subtasks"),
    "gpqa": Part("leaderboard_gpqa", "mini_gpqa", "acc_norm", "subtasks"),
    "math": Part("leaderboard_math_hard", "mini_math", "exact_match", "none"),
    "musr": Part("leaderboard_musr", "mini_musr", "acc_norm", "subtasks"),
    "ifeval": Part(
        "leaderboard_ifeval",
        "mini_ifeval",
        "prompt_level_strict_acc",
        "none",
        (("inst_level_strict_acc", "inst_level_strict_acc"),),
    ),
    "mmlu_pro": Part("leaderboard_mmlu_pro", "mini_mmlu_pro", "acc", "task"),
}

LEADERBOARD_CHOICES: Mapping[str, int] = {
    "leaderboard_musr_murder_mysteries": 2,
    "leaderboard_musr_object_placements": 5,
    "leaderboard_musr_team_allocation": 3,
    "leaderboard_mmlu_pro": 10,
}
"""Choices a question, as the leaderboard counted them, of the tasks whose choices stand in the data.

Everywhere else the number is the length of ``doc_to_choice`` in the task's own config. In
MMLU-Pro some questions have fewer than ten; the leaderboard took ten for all.
"""


def part_scores(
    results: Mapping[str, Any],
    missing: Mapping[str, str],
    unscored: Mapping[str, Mapping[str, int]],
) -> Scores:
    """Return the object of scores.json for the six parts of an lm-eval results document.

    ``missing`` gives the reason for parts that were not run, ``unscored`` the documents left out by
    task and reason. Each part is {"score" (0-1), "stderr", "n" (documents that count),
    "normalized" (0-100), "unscored": {reason: documents}}, MuSR also "mean_of_subtasks" (the
    paper's figure; lm-eval weighs by size) and IFEval "inst_level_strict_acc"; a part that has
    no figure is None, with its reason under "unscored". "tasks" holds every row of the document, and
    "documents" counts those of all tasks, with those of a part of which none was answered.
    Rule for chance: huggingface.co/docs/leaderboards/open_llm_leaderboard/normalization.
    """
    rows = results.get("results", {})
    scores: Scores = {}
    reasons: dict[str, str] = {}
    for name, part in PARTS.items():
        task = next((task for task in (part.task, part.mini_task) if task in rows), None)
        figures = None if task is None or name in missing else _part_scores(results, task, part, unscored)
        scores[name] = figures
        if figures is None:
            reasons[name] = missing.get(name) or _why_no_figure(part, task)
    return {
        **scores,
        "tasks": task_rows(results),
        "documents": document_counts(results, unscored, without=_leaves_of(results, missing)),
        "unscored": reasons,
    }


def document_counts(
    results: Mapping[str, Any], unscored: Mapping[str, Mapping[str, int]], *, without: Collection[str] = ()
) -> dict[str, Any]:
    """Return {"n": documents that count, "unscored": {reason: documents left out}} over all tasks but ``without``."""
    counts: Counter[str] = Counter()
    for task, own in unscored.items():
        if task not in without:
            counts.update(own)
    rows = results.get("results", {})
    leaves = [task for task in rows if task not in without and leaf_tasks(results, task) == (task,)]
    return {"n": _documents(results, leaves), "unscored": dict(sorted(counts.items()))}


def _leaves_of(results: Mapping[str, Any], parts: Iterable[str]) -> frozenset[str]:
    """Return the tasks of parts that were not asked for, or could not be had."""
    rows = results.get("results", {})
    tasks = [task for name in parts if name in PARTS for task in (PARTS[name].task, PARTS[name].mini_task)]
    return frozenset(leaf for task in tasks if task in rows for leaf in leaf_tasks(results, task))


def task_rows(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return lm-eval's rows of metrics by task and group, JSON-ready: what lm-eval calls N/A is None."""
    return {
        task: {
            key: finite_number(value) if _is_figure(key) or isinstance(value, float) else value
            for key, value in row.items()
        }
        for task, row in results.get("results", {}).items()
    }


def normalized(score: float, chance: float) -> float:
    """Return a score in [0, 1] on the leaderboard's scale: chance or below = 0, perfect = 100."""
    return max(0.0, (score - chance) / (1.0 - chance)) * 100.0


def choices_of(task: str, config: Mapping[str, Any]) -> int | None:
    """Return the number of choices of a multiple-choice task, from its lm-eval config; None when it does not say."""
    if task in LEADERBOARD_CHOICES:
        return LEADERBOARD_CHOICES[task]
    choices = config.get("doc_to_choice")
    if isinstance(choices, list):
        return len(choices)
    metadata = config.get("metadata")
    said = metadata.get("choices") if isinstance(metadata, Mapping) else None
    return said if isinstance(said, int) else None


def leaf_tasks(results: Mapping[str, Any], task: str) -> tuple[str, ...]:
    """Return the tasks that a group consists of, in lm-eval's order; a task consists of itself."""
    children = results.get("group_subtasks", {}).get(task) or []
    return tuple(leaf for child in children for leaf in leaf_tasks(results, child)) if children else (task,)


def _part_scores(
    results: Mapping[str, Any], task: str, part: Part, unscored: Mapping[str, Mapping[str, int]]
) -> Scores | None:
    rows = results["results"]
    score = _metric(rows[task], part.metric)
    if score is None:
        return None
    leaves = leaf_tasks(results, task)
    counts: Counter[str] = Counter()
    for leaf in leaves:
        counts.update(unscored.get(leaf, {}))
    by_leaf = [_metric(rows.get(leaf, {}), part.metric) for leaf in leaves]
    figures: Scores = {
        "score": score,
        "stderr": _metric(rows[task], f"{part.metric}_stderr"),
        "n": _documents(results, leaves),
        "normalized": _normalized_part(results, part, leaves, by_leaf, score),
        "unscored": dict(sorted(counts.items())),
    }
    if part is PARTS["musr"]:
        figures["mean_of_subtasks"] = _mean(by_leaf)
    for key, metric in part.extra:
        figures[key] = _metric(rows[task], metric)
    return figures


def _normalized_part(
    results: Mapping[str, Any], part: Part, leaves: Iterable[str], by_leaf: Iterable[float | None], score: float
) -> float | None:
    if part.normalize == "none":
        return normalized(score, 0.0)
    configs = results.get("configs", {})
    values: list[float | None] = []
    for leaf, own in zip(leaves, by_leaf, strict=True):
        choices = choices_of(leaf, configs.get(leaf, {}))
        values.append(None if own is None or not choices or choices < 2 else normalized(own, 1 / choices))
    return _mean(values)


def _documents(results: Mapping[str, Any], leaves: Iterable[str]) -> int | None:
    counts = results.get("n-samples", {})
    rows = results["results"]
    found = [counts.get(leaf, {}).get("effective", rows.get(leaf, {}).get("sample_len")) for leaf in leaves]
    return None if any(count is None for count in found) else sum(found)


def _why_no_figure(part: Part, task: str | None) -> str:
    if task is None:
        return f"no row {part.task} in lm-eval's results"
    return f"lm-eval's row {task} has no {part.metric}: no document of it was answered"


def _metric(row: Mapping[str, Any], metric: str) -> float | None:
    """Return a metric under whichever filter lm-eval reports it; "none" comes first."""
    keys = sorted((key for key in row if key.split(",")[0] == metric), key=lambda key: key != f"{metric},none")
    return finite_number(row[keys[0]]) if keys else None


def _is_figure(key: str) -> bool:
    return "," in key


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    real = [value for value in known if value is not None]
    return sum(real) / len(real) if real and len(real) == len(known) else None
