"""lm-eval's results documents of several runs, joined into one; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from evalsuite.suites.harness.scores import leaf_tasks

_BY_TASK = (
    "results",
    "groups",
    "group_subtasks",
    "configs",
    "versions",
    "n-shot",
    "higher_is_better",
    "n-samples",
    "task_hashes",
)
_SETTINGS = ("chat_template", "fewshot_as_multiturn", "system_instruction")
_CONFIG = ("limit", "model_revision", "model_sha", "model_dtype", "gen_kwargs")


class Joined(NamedTuple):
    """A document with what another one added: which tasks, and which of its groups were left out."""

    document: dict[str, Any]
    added: tuple[str, ...]
    stale: tuple[str, ...]


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Name the first setting that keeps two documents' figures apart, with both values; "" where they fit together."""
    known = [(name, one.get(name), other.get(name)) for name in _SETTINGS]
    configs = one.get("config") or {}, other.get("config") or {}
    known += [(name, configs[0].get(name), configs[1].get(name)) for name in _CONFIG]
    return next((f"{name} {_brief(b)} instead of {_brief(a)}" for name, a, b in known if a != b), "")


def joined(newer: Mapping[str, Any], older: Mapping[str, Any]) -> Joined:
    """Add the tasks of ``older`` that ``newer`` lacks.

    A group of ``older`` comes along where none of its tasks is in ``newer``: its figure would be of tasks that were
    run again since.
    """
    groups = older.get("group_subtasks") or {}
    rows = newer["results"]
    fresh = [task for task in older["results"] if task not in rows]
    stale = [task for task in fresh if any(leaf in rows for leaf in leaf_tasks(older, task))]
    added = [task for task in fresh if task not in stale]
    kept = {task for task in [*older["results"], *groups] if task not in stale}
    document = dict(newer)
    for key in _BY_TASK:
        if isinstance(values := older.get(key), Mapping):
            wanted = {task: value for task, value in values.items() if task in kept}
            document[key] = {**wanted, **(newer.get(key) or {})}
    if notes := _notes(newer.get("evalsuite"), older.get("evalsuite"), added):
        document["evalsuite"] = notes
    return Joined(document, tuple(added), tuple(stale))


def top_tasks(document: Mapping[str, Any], tasks: tuple[str, ...]) -> list[str]:
    """Return those of ``tasks`` that are in no group."""
    children = {child for group in (document.get("group_subtasks") or {}).values() for child in group}
    return [task for task in tasks if task not in children] or list(tasks)


def _notes(newer: Any, older: Any, added: list[str]) -> dict[str, Any]:
    """Join our own notes: a part is missing where both lack it, documents are unscored by task."""
    newer, older = newer or {}, older or {}
    if not (newer or older):
        return {}
    missing = {part: why for part, why in (newer.get("missing") or {}).items() if part in (older.get("missing") or {})}
    return {**newer, "missing": missing} | {
        name: {
            **{task: one for task, one in (older.get(name) or {}).items() if task in added},
            **(newer.get(name) or {}),
        }
        for name in ("unscored", "truncated", "late")
    }


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
