"""``evalsuite import``: recorded results of other tools become a folder of results/, marked as imported.

A suite reads its benchmark's own files into rows; the figures are computed here from those rows.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

import evalsuite
from evalsuite.documents import RECORDED_BY, JudgeEntry, Manifest, ModelEntry, Scores, SuiteEntry
from evalsuite.errors import DataError, UsageError
from evalsuite.files import reading_recorded, rename, writing
from evalsuite.fingerprint import text_sha256
from evalsuite.records.files import RecordsFile, encoded, records_path, write_records
from evalsuite.records.rows import Header, Row
from evalsuite.results.averages import averages
from evalsuite.results.environment import environment
from evalsuite.results.folder import (
    entry_of,
    folders_of,
    limit_text,
    model_folder,
    stored_manifest,
    stored_scores,
    write_results,
)
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.registry import SuiteSpec, in_order, options_of, parse_suite, require_packages
from evalsuite.suites.types import Recorded
from evalsuite.text import well_formed

_NOT_RECORDED = "not recorded"
_UNNAMED = (
    "its file does not name it, so it counts as a judge of its own; name it with evalsuite import --judge NAME --fresh"
)


def import_results(
    suite: str,
    source: Path,
    model: str,
    results: Path,
    *,
    judge: str | None = None,
    annotator: str | None = None,
    data: str = "full",
    fresh: bool = False,
    suite_options: Mapping[str, Any] | None = None,
) -> tuple[Path, Scores]:
    """Score a recorded file and add it to the imported model ``model``; return its folder and its scores.json.

    A file with several models gives the rows of ``model``, one with several judges those of ``annotator``. The
    fingerprint is a hash of the recorded rows; further suites of the same name join the same folder. A set that is
    not whole gets its size as limit.
    Raises DataError or UsageError, naming the file and the remedy; nothing is written then.
    """
    spec = parse_suite(suite, recorded=True)
    require_packages(spec)
    source, model, judge = source.expanduser(), well_formed(model), judge and well_formed(judge)
    if not model.strip():
        raise UsageError("--model is empty; give the model's name in the table")
    given = {"data": data, "parts": spec.parts, "annotator": annotator}
    options = options_of(spec.suite, given, suite_options or {}, has_judge=True)
    with reading_recorded(source):
        if not source.exists():
            raise DataError(f"{source} does not exist; give the recorded file or folder of {spec.name}")
        recorded = spec.suite.read_peer(source, options, model)
    header = msgspec.structs.replace(
        recorded.header, suite=spec.key, n_items=len(recorded.rows), evalsuite=evalsuite.__version__
    )
    rows = [spec.suite.mark(row, header) for row in recorded.rows]
    judge_name = judge or _recorded_judge(spec, header, options)
    return _Import(results, spec, options, source, model, judge_name, header, rows).write(fresh=fresh)


def _recorded_judge(spec: SuiteSpec, header: Header, options: SuiteOptions) -> str | None:
    """Return the name of the judge that a file was judged by; None where none was needed, or none has judged."""
    if not spec.suite.needs_judge(options) or not header.judges:
        return None
    names = [entry.name for entry in header.judges.values()]
    return ", ".join(name for name in names if name) or _NOT_RECORDED


@dataclass(frozen=True)
class _Import:
    """One recorded file being imported into a results folder."""

    results: Path
    spec: SuiteSpec
    options: SuiteOptions
    source: Path
    model: str
    judge: str | None
    header: Header
    rows: Sequence[Row]
    files: str = ""
    """The names of the files that were joined: an earlier import's and this one."""

    @property
    def is_joined(self) -> bool:
        return bool(self.files)

    def _joined(self, folder: Path, file: str) -> _Import:
        """Return this import with the parts of the earlier one in ``folder``; raises UsageError where both have one."""
        earlier = RecordsFile(records_path(folder, self.spec.key))
        both = self.spec.suite.joined(Recorded(earlier.header, earlier.rows()), Recorded(self.header, self.rows))
        if both is None:
            raise UsageError(
                f"{folder} contains a different import of {self.spec.key}; pass --fresh to replace it, or another "
                "--model"
            )
        names = [name for name in (*file.split(", "), self.source.name) if name]
        return replace(self, header=both.header, rows=both.rows, files=", ".join(dict.fromkeys(names)))

    @cached_property
    def sha256(self) -> str:
        """The identity of what was recorded: a results document without samples has no rows."""
        digest = hashlib.sha256(msgspec.json.encode(self.header.document))
        for row in self.rows:
            digest.update(encoded(row).encode())
        return digest.hexdigest()

    def write(self, *, fresh: bool) -> tuple[Path, Scores]:
        """Put the rows, the exports and the figures into the model's folder."""
        key, suite = self.spec.key, self.spec.suite
        folder = _folder(self.results, self.model, self.sha256)
        stored, manifest = stored_scores(folder), stored_manifest(folder)
        recorded = entry_of(manifest, key).recorded
        is_other = recorded.get("sha256") not in (None, self.sha256) and records_path(folder, key).is_file()
        if is_other and not fresh and not self.is_joined:
            return self._joined(folder, str(recorded.get("file", ""))).write(fresh=False)
        limit = None if self.options.data == "mini" else suite.recorded_limit(self.header, self.rows)
        if stored is not None and (stored.data, stored.limit) != (self.options.data, limit):
            raise UsageError(
                f"{folder} contains figures on data {stored.data}, {limit_text(stored.limit)}; these have data "
                f"{self.options.data}, {limit_text(limit)}: import them under another --model"
            )
        scores = self._scores(stored, manifest, limit)
        entry = SuiteEntry(
            options={**self.options.model_dump(mode="json"), **self.header.options},
            data_pins={},
            recorded={"file": self.files or self.source.name, "sha256": self.sha256},
        )
        manifest = Manifest(
            schema=1,
            imported=True,
            **environment(),
            model={**scores.model.model_dump(mode="json"), "fingerprint_covers": "the first recorded rows"},
            judge=scores.judge,
            suites={**manifest.suites, key: entry},
        )
        with _staging(self.results) as staging:
            if self.is_joined:
                shutil.copytree(folder / key, staging / key)
            suite.copy_peer(self.source, self.header, staging / key, self.model)
            if self.is_joined:
                suite.write_peer(self.header, self.rows, staging / key, model=self.model, judge=self.judge)
            write_records(records_path(folder, key), self.header, self.rows)
            _replace(folder / key, staging / key)
        write_results(folder, scores, manifest)
        return folder, scores

    def _scores(self, stored: Scores | None, manifest: Manifest, limit: int | None) -> Scores:
        key = self.spec.key
        suites = {**(stored.suites if stored is not None else {}), key: self.spec.suite.score(self.header, self.rows)}
        files = {name: str(entry.recorded.get("sha256")) for name, entry in manifest.suites.items()}
        return Scores(
            schema=1,
            imported=True,
            model=ModelEntry(
                name=self.model,
                path=None,
                fingerprint=stored.model.fingerprint if stored is not None else self.sha256,
                dtype=None,
                chat_template_sha256=None,
            ),
            judge=_judges(stored, key, self.judge, {**files, key: self.sha256}),
            data=self.options.data,
            limit=limit,
            suites=suites,
            average=averages(suites),
            seconds={},
            tokens={},
        )


@contextmanager
def _staging(results: Path) -> Iterator[Path]:
    """Make a folder inside ``results`` that is gone afterwards; raises StoreError where none can be made."""
    with writing(results):
        results.mkdir(parents=True, exist_ok=True)
        staging = tempfile.TemporaryDirectory(prefix=".import-", dir=results)
    with staging as name:
        yield Path(name)


def _replace(target: Path, staged: Path) -> None:
    with writing(target):
        shutil.rmtree(target, ignore_errors=True)
        if staged.is_dir():
            rename(staged, target)


def _folder(results: Path, model: str, sha256: str) -> Path:
    """Return the folder of an earlier import of this name, else a new one."""
    for folder in folders_of(results):
        scores = stored_scores(folder)
        if scores is not None and scores.imported and not scores.variant and scores.model.name == model:
            return folder
    plain = model_folder(results, model, "").name
    slug = "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "-" for one in plain).strip("-.")
    folder = results / f"{slug[:80] or 'model'}-{sha256[:8]}"
    if stored_scores(folder) is None:
        return folder
    # The same rows were imported under a name that only differs in what a folder's name cannot hold.
    return results / f"{slug[:80] or 'model'}-{text_sha256(f'{sha256} {model}')[:8]}"


def _judges(stored: Scores | None, key: str, judge: str | None, files: Mapping[str, str]) -> JudgeEntry | None:
    """Name the judges of all imported suites together: another judge of any suite makes other figures.

    In the order of the suites, whatever was imported first. ``files`` is the recorded rows' SHA-256 by suite: a
    unnamed judge is identified by its file alone, so it equals no other judge.
    """
    by_suite = dict((stored.judge.methods or {}) if stored is not None and stored.judge is not None else {})
    by_suite.pop(key, None)
    if judge is not None:
        by_suite[key] = RECORDED_BY + judge
    if not by_suite:
        return None
    by_suite = {suite: by_suite[suite] for suite in in_order(list(by_suite))}
    names = {suite: text.removeprefix(RECORDED_BY) for suite, text in by_suite.items()}
    known = {
        suite: f"{name} ({files.get(suite, '')})" if name == _NOT_RECORDED else name for suite, name in names.items()
    }
    same = len(set(known.values())) == 1
    identity = next(iter(known.values())) if same else "; ".join(f"{suite}: {name}" for suite, name in known.items())
    name = ", ".join(dict.fromkeys(names.values()))
    entry = JudgeEntry(name=name, fingerprint=f"recorded:{identity}", methods=by_suite)
    return entry.with_given(note=_UNNAMED if _NOT_RECORDED in names.values() else "")
