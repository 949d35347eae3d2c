"""A model's folder in results/: its documents, whether it may be added to, and how it is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from evalsuite.documents import Judged, JudgedEntry, Manifest, Scores, SuiteEntry, validated
from evalsuite.errors import DataError, UsageError
from evalsuite.files import locked, read_json, rename, timestamp, write_json, writing
from evalsuite.fingerprint import files_sha256
from evalsuite.suites.registry import know_recorded
from evalsuite.suites.types import Pins

SCORES_FILE, MANIFEST_FILE = "scores.json", "manifest.json"
_SHOWN = 32
_LOCK_TIMEOUT_S = 600.0
_REMEDY = "run the model again with --fresh, or move the folder away"
_LOST_REPLIES = {"request_failed", "timeout", "malformed_reply", "unfinished_reply", "empty_reply", "wrong_model"}
_RETRIED = _LOST_REPLIES | {"non_finite_logprob", "no_answer", "no_judge", "content_filter", "no_logprobs"}
"""Reasons that another run may resolve: figures with any of them are not reused."""


def model_folder(results: Path, slug: str, label: str) -> Path:
    """Return the folder of a model: ``<slug>``, or ``<slug>~<label>`` for a variant with other settings."""
    plain = re.sub(r"[^A-Za-z0-9._=+-]+", "-", label).strip("-.")[:80]
    return results / (f"{slug}~{plain}" if plain else slug)


def stored_scores(folder: Path) -> Scores | None:
    """Return the folder's scores.json, None if there is none; raises DataError when it is broken."""
    path = folder / SCORES_FILE
    if not path.is_file():
        return None
    scores = validated(Scores, read_json(path, remedy=_REMEDY), path, _REMEDY)
    for figures in (scores.suites, *(one.suites for one in scores.judged)):
        know_recorded(figures)
    return scores


def stored_manifest(folder: Path) -> Manifest:
    """Return the folder's manifest.json, an empty one if there is none; raises DataError when it is broken."""
    path = folder / MANIFEST_FILE
    return validated(Manifest, read_json(path, remedy=_REMEDY), path, _REMEDY) if path.is_file() else Manifest()


def write_results(folder: Path, scores: Scores, manifest: Manifest) -> None:
    """Write scores.json, then manifest.json: a folder with a manifest is complete."""
    write_json(folder / SCORES_FILE, scores.as_json())
    write_json(folder / MANIFEST_FILE, manifest.as_json())


# Several judges over the same answers ---------------------------------------------------------------


def focused(scores: Scores, manifest: Manifest, judge: str | None) -> tuple[Scores, Manifest]:
    """Return the documents with one judge's figures at the top (``JudgeEntry.key``) and the others' under ``judged``.

    Suites that need no judge stay at the top. A judge without figures leaves none of the judged suites there.
    """
    if judge is None or scores.judge is None or scores.judge.key == judge:
        return scores, manifest
    judged = set(scores.judge.methods or {})
    earlier = Judged(judge=scores.judge, suites=_only(scores.suites, judged), average=dict(scores.average))
    earlier_entry = JudgedEntry(judge=scores.judge, suites=_only(manifest.suites, judged))
    figures = next((one for one in scores.judged if one.judge.key == judge), None)
    entries = next((one.suites for one in manifest.judged if one.judge.key == judge), {})
    new_scores = scores.model_copy(
        update={
            "judge": None if figures is None else figures.judge,
            "suites": _only(scores.suites, scores.suites.keys() - judged) | ({} if figures is None else figures.suites),
            "average": {} if figures is None else dict(figures.average),
            "judged": (earlier, *(one for one in scores.judged if one.judge.key != judge)),
        }
    )
    new_manifest = manifest.model_copy(
        update={
            "judge": new_scores.judge,
            "suites": _only(manifest.suites, manifest.suites.keys() - judged) | entries,
            "judged": (earlier_entry, *(one for one in manifest.judged if one.judge.key != judge)),
        }
    )
    return new_scores, new_manifest


def judge_views(scores: Scores, manifest: Manifest) -> list[tuple[Scores, Manifest]]:
    """Return the documents once per judge, that of the last run first."""
    others = [focused(scores, manifest, one.judge.key) for one in scores.judged]
    return [(scores, manifest), *others]


def _only(mapping: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key in keys}


# What may be in one folder ------------------------------------------------------------------------


def other_model(stored: Scores, manifest: Manifest, model: Mapping[str, Any]) -> list[str]:
    """Say how a model was served differently from now; what is unknown of either contradicts nothing.

    ``model`` holds what is known of ``dtype``, ``chat_template_sha256`` and ``chat_format``.
    """
    recorded = {**stored.model.model_dump(), "chat_format": manifest.model.get("chat_format")}
    titles = {"dtype": "dtype", "chat_template_sha256": "chat template", "chat_format": "chat format"}
    pairs = [(title, recorded.get(key), model.get(key)) for key, title in titles.items()]
    return [
        f"{title} {str(old)[:_SHOWN]} (now {str(new)[:_SHOWN]})"
        for title, old, new in pairs
        if old is not None and new is not None and old != new
    ]


def limit_text(limit: int | None) -> str:
    """Return how a message names a run's --limit.

    >>> limit_text(5), limit_text(None)
    ('limit 5', 'no limit')
    """
    return "no limit" if limit is None else f"limit {limit}"


def refuse_mixing(folder: Path, said: Sequence[str]) -> None:
    """Raise UsageError where the figures in a folder differ (``differences``) from those that would join them."""
    if said:
        raise UsageError(
            f"{folder} contains figures with {', '.join(said)}; give another folder with --results or another "
            "--label, or pass --fresh to set the old figures aside"
        )


def _other_settings(manifest: Manifest, settings: Mapping[str, str]) -> list[str]:
    """Say which settings differ; a manifest of version 0.1 knows its seed alone."""
    if manifest.settings is None:
        old = "" if manifest.seed in (None, 0) else str(manifest.seed)
        new = settings.get("seed", "")
        return [] if old == new else [f"seed {old or 0} (now {new or 0})"]
    names = sorted(manifest.settings.keys() | settings.keys())
    return [
        f"{name} {manifest.settings.get(name, 'by default')} (now {settings.get(name, 'by default')})"
        for name in names
        if manifest.settings.get(name) != settings.get(name)
    ]


def differences(
    stored: Scores,
    manifest: Manifest,
    *,
    data: str,
    limit: int | None,
    settings: Mapping[str, str],
    pins: Mapping[str, Pins],
    model: Mapping[str, Any],
) -> list[str]:
    """Say in what stored figures differ from others, so that they must not be in one folder."""
    said = other_model(stored, manifest, model)
    if stored.data != data:
        said.append(f"data {stored.data} (now {data})")
    if stored.limit != limit:
        said.append(f"{limit_text(stored.limit)} (now {limit_text(limit)})")
    said += _other_settings(manifest, settings)
    for suite, new in pins.items():
        old = manifest.suites[suite].data_pins if suite in manifest.suites else {}
        changed = [name for name in new if name in old and old[name].sha256 != new[name].sha256]
        if changed:
            said.append(f"another version of {', '.join(changed)}")
    return said


def exclusive(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes from writing a model's figures meanwhile.

    Raises StoreError where no lock can be made, BusyError where another process keeps it for ten minutes.
    """
    busy = f"another process keeps writing in {folder}; run again when that process has ended"
    return locked(folder.parent / ".locks" / f"{folder.name}.lock", busy, _LOCK_TIMEOUT_S)


def figures_sha256(folder: Path) -> str | None:
    """Return the SHA-256 of a folder's scores.json and manifest.json, whatever they hold; None without either."""
    files = [path for name in (SCORES_FILE, MANIFEST_FILE) if (path := folder / name).is_file()]
    try:
        return files_sha256(files) if files else None
    except OSError:
        # Whoever reads them says what is wrong with them.
        return None


def set_aside(folder: Path) -> None:
    """Move a folder's figures into a subfolder named after the time, so that --fresh loses nothing."""
    if not any((folder / name).exists() for name in (SCORES_FILE, MANIFEST_FILE)):
        return
    aside = folder / "replaced" / timestamp()
    with writing(aside):
        aside.mkdir(parents=True)
        for entry in list(folder.iterdir()):
            if entry.name != "replaced":
                rename(entry, aside / entry.name)


def reusable(scores: Scores | None, manifest: Manifest, suite: str, run_key: str) -> bool:
    """Whether the stored figures of a suite answer the very same question completely."""
    if scores is None or suite not in scores.suites or suite not in manifest.suites:
        return False
    return manifest.suites[suite].run_key == run_key and not _RETRIED & reasons_in(scores.suites[suite])


def is_retried(reason: str) -> bool:
    """Whether another run may resolve an unscored reason."""
    return reason in _RETRIED


def reasons_in(scores: Any) -> set[str]:
    """Collect every unscored reason in a suite's object, however deep."""
    if not isinstance(scores, Mapping):
        return set()
    reasons: set[str] = set()
    for key, value in scores.items():
        if key == "unscored" and isinstance(value, Mapping):
            reasons |= {reason for reason, count in value.items() if count}
        else:
            reasons |= reasons_in(value)
    return reasons


def unscored_share(suites: Mapping[str, Mapping[str, Any]], *, awaiting_judge: bool = False) -> tuple[int, int]:
    """Return (unscored items, all items) over the suites of a scores.json.

    With ``awaiting_judge`` items that lack nothing but a judge count as scored.
    """
    unscored = items = 0
    for suite in suites.values():
        # lm-eval's suites count their documents apart from their figures: a part without figures lost all of its own.
        documents = suite.get("documents")
        counted = documents if isinstance(documents, Mapping) else suite
        counts = counted.get("unscored")
        if not isinstance(counts, Mapping):
            continue
        missing = sum(value for value in counts.values() if isinstance(value, int))
        waiting = counts.get("no_judge") if awaiting_judge else 0
        unscored += missing - (waiting if isinstance(waiting, int) else 0)
        scored_only = counted is documents or "n_total" in counted
        items += int(counted.get("n") or counted.get("n_total") or 0) + (missing if scored_only else 0)
    return unscored, items


def entry_of(manifest: Manifest, suite: str) -> SuiteEntry:
    """Return what the manifest keeps of a suite, an empty entry where it keeps nothing."""
    return manifest.suites.get(suite) or SuiteEntry()


def folders_of(results: Path) -> Sequence[Path]:
    """Return the model folders of a results folder, by name; raises DataError where it cannot be read."""
    try:
        return sorted(path.parent for path in results.glob(f"*/{SCORES_FILE}"))
    except OSError as error:
        raise DataError(f"cannot read {results}: {error.strerror or error}; give another --results") from error
