"""``evalsuite merge``: results folders of several machines become one; idempotent, and refused where they contradict.

Stores are joined by content key. A model that only one folder has is copied; of one that several have, the suites,
judges and verdicts are put together, if its answers are the same.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from evalsuite.documents import Judged, JudgedEntry, JudgeEntry, Manifest, Scores, SuiteEntry
from evalsuite.errors import DataError
from evalsuite.files import rename, writing
from evalsuite.fingerprint import files_sha256
from evalsuite.records.files import RecordsFile, records_path, write_records
from evalsuite.records.rows import Header, Row, answer_texts, merged
from evalsuite.results.averages import averages
from evalsuite.results.folder import (
    SCORES_FILE,
    differences,
    exclusive,
    figures_sha256,
    folders_of,
    is_retried,
    reasons_in,
    stored_manifest,
    stored_scores,
    write_results,
)
from evalsuite.store import open_store

STORE = "store.sqlite"
_REMEDY = "leave one of the folders out, or run the model again"
_COPIED = ("comparisons", "judges")
"""Folders whose subfolders are copied as they are."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge has added: answers to the store, and the names of the folders that are new or have grown."""

    answers: int
    folders: Sequence[str]


def merge_results(
    sources: Sequence[Path], into: Path, *, keep_first: bool = False, store: Path | None = None
) -> Merged:
    """Merge results folders into one, which may be new; raises DataError where they contradict.

    Everything is checked before anything is written. With ``keep_first`` the earliest of several answers to one request
    stays in the store. ``store`` is its folder where ``into`` is on a network file system.
    """
    for source in sources:
        if not source.is_dir():
            raise DataError(f"{source} is not a folder; give results folders")
        if source.resolve() == into.resolve():
            raise DataError(f"{source} is the folder to merge into; leave it out")
        if into.resolve().is_relative_to(source.resolve()):
            raise DataError(f"{into} is inside {source}; give a folder beside it with --into")
        if not (
            (source / STORE).is_file() or any(folders_of(source)) or any((source / kind).is_dir() for kind in _COPIED)
        ):
            raise DataError(f"{source} has no results; leave it out")
    models = {
        name: _union([folder for folder in folders if folder.is_dir()]) for name, folders in _by_name(sources, into)
    }
    copies = list(_copies(sources, into))
    with writing(into):
        into.mkdir(parents=True, exist_ok=True)
    stores = [source / STORE for source in sources if (source / STORE).is_file()]
    n_answers = 0
    if stores:
        with open_store(into, store) as opened:
            n_answers = opened.merge(stores, keep_first=keep_first)
    grown = [name for name, union in models.items() if _write(union, into / name)]
    for source, target in copies:
        _copy(source, target)
    return Merged(n_answers, [*grown, *(str(target.relative_to(into)) for _, target in copies)])


def _by_name(sources: Sequence[Path], into: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield each model folder's name with the folders to join, that of ``into`` first."""
    for name in dict.fromkeys(folder.name for source in sources for folder in folders_of(source)):
        yield name, [root / name for root in (into, *sources) if (root / name / SCORES_FILE).is_file()]


def _copies(sources: Sequence[Path], into: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (from, to) of what is copied whole; raises DataError where a different one exists."""
    taken: dict[Path, Path] = {}
    for source in sources:
        for kind in _COPIED:
            for folder in sorted((source / kind).glob("[!.]*")):
                target = into / kind / folder.name
                other = taken.get(target, target)
                if not other.exists():
                    taken[target] = folder
                    yield folder, target
                elif _content(folder) != _content(other):
                    raise DataError(f"{folder} and {other} have different contents; {_REMEDY}")


def _content(folder: Path) -> list[tuple[str, str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path.relative_to(folder)), files_sha256([path])) for path in files]


# One model -------------------------------------------------------------------------------------------

_Suites = dict[str, tuple[dict[str, Any], SuiteEntry]]


@dataclass(slots=True)
class _Union:
    """A model's folders joined: ``judged`` has by judge what ``plain`` has of suites without one."""

    folders: list[Path]
    scores: Scores
    manifest: Manifest
    plain: _Suites = field(default_factory=dict)
    judged: dict[str, tuple[JudgeEntry, _Suites]] = field(default_factory=dict)
    rows: dict[str, tuple[Header, list[Row]]] = field(default_factory=dict)
    exports: dict[str, Path] = field(default_factory=dict)
    """The folder that a suite's files are copied from."""
    grown: bool = False


def _union(folders: Sequence[Path]) -> _Union:
    """Join the folders of one model; raises DataError where they contradict."""
    first, *others = folders
    scores, manifest = _documents(first)
    union = _Union(list(folders), scores, manifest)
    union.plain, union.judged = _parts(scores, manifest)
    for folder in others:
        if figures_sha256(folder) != figures_sha256(first):
            _add(union, folder)
    return union


def _documents(folder: Path) -> tuple[Scores, Manifest]:
    scores = stored_scores(folder)
    if scores is None:
        raise DataError(f"{folder} has no {SCORES_FILE}; {_REMEDY}")
    return scores, stored_manifest(folder)


def _parts(scores: Scores, manifest: Manifest) -> tuple[_Suites, dict[str, tuple[JudgeEntry, _Suites]]]:
    """Return the figures of suites without a judge, and those of each judge, with their entries of the manifest."""

    def entries(suites: Mapping[str, Any], known: Mapping[str, SuiteEntry]) -> _Suites:
        return {key: (figures, known.get(key) or SuiteEntry()) for key, figures in suites.items()}

    top = set() if scores.judge is None else set(scores.judge.methods or {})
    whole = entries(scores.suites, manifest.suites)
    judged = {}
    if scores.judge is not None:
        judged[scores.judge.key] = (scores.judge, {key: whole[key] for key in whole if key in top})
    known = {entry.judge.key: entry.suites for entry in manifest.judged}
    for other in scores.judged:
        judged[other.judge.key] = (other.judge, entries(other.suites, known.get(other.judge.key, {})))
    return {key: entry for key, entry in whole.items() if key not in top}, judged


def _add(union: _Union, folder: Path) -> None:
    """Add what a further folder of the model has."""
    scores, manifest = _documents(folder)
    pins = {key: entry.data_pins for key, entry in manifest.suites.items()}
    told = {**scores.model.model_dump(), "chat_format": manifest.model.get("chat_format")}
    settings = {} if manifest.settings is None else manifest.settings
    if said := differences(
        union.scores, union.manifest, data=scores.data, limit=scores.limit, settings=settings, pins=pins, model=told
    ):
        raise DataError(f"{union.folders[0]} contains figures with {', '.join(said)} in {folder}; {_REMEDY}")
    plain, judged = _parts(scores, manifest)
    for key, entry in plain.items():
        if not any(key in suites for _, suites in union.judged.values()):
            _take(union, union.plain, key, entry, folder)
    for name, (judge, suites) in judged.items():
        known, into = union.judged.setdefault(name, (judge, {}))
        for key, entry in suites.items():
            _take(union, into, key, entry, folder)
            # Answers that waited for a judge now have one.
            union.plain.pop(key, None)
        methods = {**(known.methods or {}), **(judge.methods or {})}
        union.judged[name] = (known.model_copy(update={"methods": methods or None}), into)


def _take(union: _Union, into: _Suites, key: str, entry: tuple[dict[str, Any], SuiteEntry], folder: Path) -> None:
    """Take a suite's figures over; incomplete ones are replaced by complete ones."""
    known, new = into.get(key), entry
    if known is not None and known[0] == new[0]:
        _join_rows(union, key, folder)
        return
    if known is not None and known[1].answer_key == new[1].answer_key:
        lacks, lacked = (any(map(is_retried, reasons_in(figures))) for figures in (known[0], new[0]))
        if lacked and not lacks:
            return
        if lacks == lacked:
            raise DataError(
                f"{folder} has different figures for {key} than {union.folders[0]} for the same answers; {_REMEDY}"
            )
    elif known is not None and not _has_parts_of(known[1], new[1]):
        raise DataError(f"{folder} has figures of {key} with different settings from {union.folders[0]}; {_REMEDY}")
    into[key] = entry
    union.grown = True
    union.exports[key] = folder
    _join_rows(union, key, folder)


def _has_parts_of(known: SuiteEntry, new: SuiteEntry) -> bool:
    """Whether figures are of more parts of a suite, the known ones among them."""
    parts, more = (set(entry.options.get("parts") or ()) for entry in (known, new))
    return bool(parts) and (not more or parts < more)


def _join_rows(union: _Union, key: str, folder: Path) -> None:
    """Join the rows of a suite: the verdicts of all judges; raises DataError where an answer is another."""
    path = records_path(folder, key)
    if not path.is_file():
        return
    new = RecordsFile(path)
    if key not in union.rows:
        old = next(
            (RecordsFile(records_path(one, key)) for one in union.folders if records_path(one, key).is_file()), new
        )
        union.rows[key] = (old.header, old.rows())
        if old.path == path:
            return
    header, rows = union.rows[key]
    known = {(row.part, row.item_id): row for row in rows}
    for row in new.rows():
        other = known.get((row.part, row.item_id))
        if other is not None and other.draws and row.draws and answer_texts(other) != answer_texts(row):
            raise DataError(f"{folder} has a different answer to {row.item_id} of {key}; {_REMEDY}")
    joined = merged(rows, new.rows())
    union.grown |= [len(row.verdicts) for row in joined] != [len(row.verdicts) for row in rows]
    judges = {**header.judges, **new.header.judges}
    union.rows[key] = (msgspec.structs.replace(new.header, judges=judges), joined)


def _write(union: _Union, target: Path) -> bool:
    """Write a joined model; return whether the folder is new or has grown."""
    if is_new := not target.exists():
        _copy(union.folders[0], target)
    if not union.grown:
        return is_new
    with exclusive(target):
        for key, (header, rows) in union.rows.items():
            write_records(records_path(target, key), header, rows)
        for key, folder in union.exports.items():
            if (folder / key).is_dir() and folder != target:
                with writing(target):
                    shutil.copytree(folder / key, target / key, dirs_exist_ok=True)
        write_results(target, *_joined(union))
    return True


def _joined(union: _Union) -> tuple[Scores, Manifest]:
    """Return the documents of a joined model: the first judge at the top, the others under ``judged``."""
    by_judge = list(union.judged.values())
    top, others = by_judge[0] if by_judge else None, by_judge[1:]
    suites = {**union.plain, **({} if top is None else top[1])}
    figures = {key: entry[0] for key, entry in suites.items()}
    kept = [_documents(folder)[0].answers for folder in reversed(union.folders)]
    scores = union.scores.model_copy(
        update={
            "judge": None if top is None else top[0],
            "suites": figures,
            "average": averages(figures),
            "answers": {key: value for answers in kept for key, value in answers.items()},
        }
    )
    plain = {key: entry[0] for key, entry in union.plain.items()}
    more = [
        (judge, {key: entry[0] for key, entry in own.items()}, {key: entry[1] for key, entry in own.items()})
        for judge, own in others
    ]
    scores = scores.with_given(
        judged=tuple(Judged(judge=judge, suites=own, average=averages({**plain, **own})) for judge, own, _ in more)
    )
    manifest = union.manifest.model_copy(
        update={"judge": scores.judge, "suites": {key: entry[1] for key, entry in suites.items()}}
    ).with_given(judged=tuple(JudgedEntry(judge=judge, suites=entries) for judge, _, entries in more))
    return scores, manifest


def _copy(source: Path, target: Path) -> None:
    """Copy a folder under a temporary name, then rename it."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            shutil.copytree(source, partial, dirs_exist_ok=True)
            # A read-only folder could not be moved to another parent.
            partial.chmod(source.stat().st_mode)
            rename(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
