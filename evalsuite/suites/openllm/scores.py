"""Open LLM Leaderboard v2's figures from an lm-eval results document; pure.

A part's score, standard error and count are lm-eval's own. The normalised score is the
leaderboard's: ``(score - chance) / (1 - chance)``, not below 0, times 100.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evalsuite.suites.harness.scores import document_counts, leaf_tasks, n_documents, summed_counts, task_rows
from evalsuite.suites.peer_files import finite_number
from evalsuite.suites.types import Scores


@dataclass(frozen=True, slots=True)
class Part:
    """One part: the lm-eval task or group that it is, and its metric; on mini data it is ``mini_<name>``.

    ``n_items`` and ``n_tasks`` count the documents and leaf tasks of the full and of the mini data.
    """

    name: str
    task: str
    title: str
    says: str
    metric: str
    n_items: tuple[int, int]
    n_tasks: tuple[int, int] = (1, 1)

    @property
    def mini_task(self) -> str:
        return f"mini_{self.name}"


_MUSR_SAYS = "acc_norm as lm-eval weighs it; the averages take the mean of its subtasks"
_PARTS = (
    Part("bbh", "leaderboard_bbh", "BBH", "BIG-Bench Hard, acc_norm", "acc_norm", (5761, 8), (24, 2)),
    Part("gpqa", "leaderboard_gpqa", "GPQA", "acc_norm", "acc_norm", (1192, 6), (3, 1)),
    Part("math", "leaderboard_math_hard", "MATH", "MATH level 5, exact match", "exact_match", (1324, 6), (7, 1)),
    Part("musr", "leaderboard_musr", "MuSR", _MUSR_SAYS, "acc_norm", (756, 6), (3, 1)),
    Part("ifeval", "leaderboard_ifeval", "IFEval", "strict accuracy by prompt", "prompt_level_strict_acc", (541, 6)),
    Part("mmlu_pro", "leaderboard_mmlu_pro", "MMLU-Pro", "acc", "acc", (12032, 6)),
)
PARTS: Mapping[str, Part] = {part.name: part for part in _PARTS}

LEADERBOARD_CHOICES: Mapping[str, int] = {
    "leaderboard_musr_murder_mysteries": 2,
    "leaderboard_musr_object_placements": 5,
    "leaderboard_musr_team_allocation": 3,
    "leaderboard_mmlu_pro": 10,
}
"""Choices per question, as the leaderboard counted them, of the tasks whose choices are in the data.

Everywhere else the number is the length of ``doc_to_choice`` in the task's own config. In
MMLU-Pro some questions have fewer than ten; the leaderboard took ten for all.
"""


def part_of_task(task: str) -> str | None:
    """Return the part that an lm-eval task belongs to, None for another benchmark's."""
    return next((part for part in PARTS if task.startswith((f"leaderboard_{part}", f"mini_{part}"))), None)


def recorded_task(results: Mapping[str, Any], part: str) -> str | None:
    """Return the task or group of a part that a results document has a row of."""
    rows = results.get("results", {})
    return next((task for task in (PARTS[part].task, PARTS[part].mini_task) if task in rows), None)


def part_scores(
    results: Mapping[str, Any], missing: Mapping[str, str], unscored: Mapping[str, Mapping[str, int]]
) -> Scores:
    """Return the object of scores.json for the six parts of an lm-eval results document.

    ``missing`` gives the reason for parts that were not run, ``unscored`` the documents left out by task and reason.
    Each part is {"score" (0-1), "stderr", "n" (documents that count), "normalized" (0-100), "unscored": {reason:
    documents}}, MuSR also "mean_of_subtasks" (the paper's figure; lm-eval weighs by size) and IFEval
    "inst_level_strict_acc"; "late" counts the answers on which the scorer ran into its time limit. A part
    without a figure is None, with its reason under "unscored". "tasks" holds every row of the document, and
    "documents" counts those of all tasks, including those of a part of which none was answered.
    Rule for chance: huggingface.co/docs/leaderboards/open_llm_leaderboard/normalization.
    """
    scores: Scores = {}
    reasons: dict[str, str] = {}
    left_out: set[str] = set()
    for name, part in PARTS.items():
        scores[name], task = None, recorded_task(results, name)
        if name in missing:
            reasons[name] = missing[name]
            left_out.update(() if task is None else leaf_tasks(results, task))
        elif task is None:
            reasons[name] = f"no row {part.task} in lm-eval's results"
        elif fault := _row_fault(results, task, part.metric):
            reasons[name] = f"lm-eval's row {task} {fault}"
        else:
            scores[name] = _part_scores(results, task, part, unscored)
    documents = document_counts(results, unscored, without=left_out)
    return {**scores, "tasks": task_rows(results), "documents": documents, "unscored": reasons}


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
    count = metadata.get("choices") if isinstance(metadata, Mapping) else None
    return count if isinstance(count, int) else None


def _row_fault(results: Mapping[str, Any], task: str, metric: str) -> str | None:
    """Return why a row gives no share of right answers; None where it gives one."""
    row = results["results"][task]
    key, n = _key(row, metric), n_documents(results, leaf_tasks(results, task))
    if key is None and n != 0:
        return f"has no {metric}"
    if key is None or row[key] is None or n == 0:
        return f"has no {metric}: no document of it was answered"
    value, stderr = row[key], _metric(row, f"{metric}_stderr")
    share = finite_number(value)
    if share is None or not 0 <= share <= 1:
        return f"has the {metric} {value!r}; expected a number from 0 to 1"
    return f"has the {metric}_stderr {stderr:g}; expected at least 0" if stderr is not None and stderr < 0 else None


def _part_scores(
    results: Mapping[str, Any], task: str, part: Part, unscored: Mapping[str, Mapping[str, int]]
) -> Scores:
    rows, configs = results["results"], results.get("configs", {})
    score, leaves = _metric(rows[task], part.metric), leaf_tasks(results, task)
    by_leaf = {leaf: _metric(rows.get(leaf, {}), part.metric) for leaf in leaves}
    choices = {leaf: choices_of(leaf, configs.get(leaf, {})) or 0 for leaf in leaves}
    above_chance = (
        None if own is None or choices[leaf] < 2 else normalized(own, 1 / choices[leaf])
        for leaf, own in by_leaf.items()
    )
    # Guessing is right for one choice in so many; where an answer is written, it scores 0.
    has_choices = part.metric in ("acc", "acc_norm")
    figures: Scores = {
        "score": score,
        "stderr": _metric(rows[task], f"{part.metric}_stderr"),
        "n": n_documents(results, leaves),
        "normalized": _mean(above_chance) if has_choices else normalized(score or 0.0, 0.0),
        "unscored": summed_counts(unscored.get(leaf, {}) for leaf in leaves),
    }
    late = (results.get("evalsuite") or {}).get("late") or {}
    if n_late := sum(late.get(leaf, 0) for leaf in leaves):
        figures["late"] = n_late
    if part.name == "musr":
        figures["mean_of_subtasks"] = _mean(by_leaf.values())
    if part.name == "ifeval":
        figures["inst_level_strict_acc"] = _metric(rows[task], "inst_level_strict_acc")
    return figures


def _key(row: Mapping[str, Any], metric: str) -> str | None:
    """Return the key of a metric under whichever filter lm-eval reports it; "none" comes first."""
    keys = [key for key in row if key.split(",")[0] == metric]
    return min(keys, key=lambda key: key != f"{metric},none", default=None)


def _metric(row: Mapping[str, Any], metric: str) -> float | None:
    key = _key(row, metric)
    return None if key is None else finite_number(row[key])


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean; None where one is not known."""
    known = list(values)
    real = [value for value in known if value is not None]
    return sum(real) / len(real) if real and len(real) == len(known) else None
