"""lm-eval's files, results*.json and samples_<task>.jsonl: written for its readers, and read into rows.

Nothing else in evalsuite parses them.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from evalsuite.errors import DataError, plain_fault
from evalsuite.files import iter_lines, parse_json, plain_name, read_json, without_nan, write_json, write_jsonl
from evalsuite.records.rows import Row, replaced
from evalsuite.suites.harness import merging
from evalsuite.suites.harness.rows import (
    is_protected,
    sample_row,
    thoughts_of,
    with_missing_marks,
    with_replies,
    without_text,
)
from evalsuite.suites.peer_files import finite_number, written_reason
from judges.types import Unscored

if TYPE_CHECKING:
    from evalsuite.suites.harness.run import HarnessResult

log = logging.getLogger("evalsuite")

_DATED = re.compile(r".*_(\d{4}-\d\d-\d\dT[\d:.-]+)\.json")
"""``results_<date>.json``, and ``llama_<date>.json`` where lm-eval was given ``--output_path llama.json``."""
_SAMPLES = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d\d-\d\dT.*))?\.jsonl")
_UNREAD = frozenset({"arguments", "prompt_hash", "target_hash"})
"""Fields of a sample that no row needs; the first holds the few-shot prompt, once per choice."""

_samples = msgspec.json.Decoder(dict[str, msgspec.Raw])
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
_RowT = TypeVar("_RowT")


class _Counts(msgspec.Struct):
    sample_len: _Count | None = None
    effective: _Count | None = None
    original: _Count | None = None


class _Notes(msgspec.Struct):
    missing: dict[str, str] = {}
    unscored: dict[str, dict[str, int]] = {}


class _Document(msgspec.Struct):
    """What is read of an lm-eval results document; every other key is kept as it is."""

    results: dict[str, _Counts]
    configs: dict[str, dict[str, Any]] = {}
    sizes: dict[str, _Counts] = msgspec.field(default_factory=dict, name="n-samples")
    group_subtasks: dict[str, list[str]] = {}
    config: dict[str, Any] | None = None
    evalsuite: _Notes | None = None


def results_document(result: HarnessResult) -> dict[str, Any]:
    """Return lm-eval's results document with evalsuite's notes, JSON-ready."""
    notes = {"missing": result.missing, "unscored": result.unscored, "truncated": result.truncated, "late": result.late}
    return _json_ready({**result.results, "evalsuite": notes})


def result_rows(result: HarnessResult, parts: Mapping[str, str]) -> list[Row]:
    """Return the rows of a run, of the tasks in ``parts`` (task -> part) and in their order."""
    rows: list[Row] = []
    for task, part in parts.items():
        protected = is_protected(result.results, task)
        of_task = []
        for sample in result.samples[task]:
            written = _as_written({key: value for key, value in sample.items() if key != "arguments"})
            row = sample_row(written, part, protected=protected, fault=_fault(sample))
            key = (task, sample["doc_id"])
            if (marks := result.marks.get(key)) and not row.unscored:
                # Those of every answer, where an item was answered several times.
                row = replaced(row, marks={**row.marks, **marks})
            of_task.append(with_replies(row, result.replies.get(key, {})))
        rows += with_missing_marks(of_task)
    return rows


def write_results(result: HarnessResult, document: Mapping[str, Any], folder: Path) -> None:
    """Write results.json and samples_<task>.jsonl with the fields of lm-eval's ``EvaluationTracker``.

    Samples of GPQA hold ids, hashes, log-likelihoods and metrics only: its authors ask that no text
    of it is published. Source: lm-eval 0.4.13 lm_eval/loggers/evaluation_tracker.py.
    """
    for task in result.samples:
        write_jsonl(folder / f"samples_{task}.jsonl", written_samples(result, task))
    write_json(folder / "results.json", document)


def written_samples(result: HarnessResult, task: str) -> Iterator[dict[str, Any]]:
    """Yield the samples of one task as lm-eval writes them; an unscored one also says why."""
    protected = is_protected(result.results, task)
    for sample in result.samples[task]:
        arguments = {
            f"gen_args_{index}": {f"arg_{rank}": value for rank, value in enumerate(arguments)}
            for index, arguments in enumerate(sample["arguments"])
        }
        row = _as_written({**sample, "arguments": arguments})
        if thoughts := thoughts_of(result.replies.get((task, sample["doc_id"]), {})):
            row["reasoning_content"] = thoughts
        yield without_text(row) if protected else row


def _as_written(sample: Mapping[str, Any]) -> dict[str, Any]:
    from lm_eval.utils import sanitize_list

    fault = _fault(sample)
    row = {
        **sample,
        "resps": sanitize_list(sample["resps"]),
        "filtered_resps": sanitize_list([] if fault else sample["filtered_resps"]),
        "target": str(sample["target"]),
    }
    return _json_ready(row if fault is None else {**row, **written_reason(fault)})


def _fault(sample: Mapping[str, Any]) -> Unscored | None:
    return next((one for one in sample["filtered_resps"] if isinstance(one, Unscored)), None)


def _json_ready(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``value`` in JSON's own types: NaN and infinities become None, foreign objects text (as in lm-eval)."""
    from lm_eval.utils import handle_non_serializable

    ready: dict[str, Any] = without_nan(json.loads(json.dumps(value, default=handle_non_serializable)))
    return ready


@dataclass(frozen=True)
class Recording:
    """The results documents of a file or a folder as one, and where its tasks' samples are.

    ``files`` has the tasks that were taken from each document; None for the newest one, which gives all of its own.
    """

    document: dict[str, Any]
    files: Mapping[Path, frozenset[str] | None]

    def samples(self, is_wanted: Callable[[str], bool], *, warn: bool = True) -> dict[str, Path]:
        """Return the samples of the wanted tasks by task, as :func:`samples_of` finds them."""
        found: dict[str, Path] = {}
        for file, tasks in self.files.items():
            found = {**samples_of(file, partial(_is_taken, is_wanted, tasks), warn=warn), **found}
        return found


def read_recording(path: Path) -> Recording:
    """Read an lm-eval results document, or those of a folder (:func:`results_files`): lm-eval writes one a run.

    Of a task that several hold, the newest counts; what is taken from where, and what is left out, is logged. NaN and
    infinities are None. Raises DataError for a newest one that is not lm-eval's, or files of several models.
    """
    newest, *others = results_files(path)
    document = read_results(newest)
    older: dict[Path, dict[str, Any]] = {}
    said = []
    for file in others:
        try:
            older[file] = read_results(file)
        except DataError as error:
            # An unreadable older file does not disqualify the newest.
            said.append(str(error))
    _refuse_several_models(path, {newest: document, **older})
    files: dict[Path, frozenset[str] | None] = {newest: None}
    for file, one in older.items():
        if fault := merging.difference(document, one):
            said.append(f"{file.name} is left out: it has {fault}")
            continue
        document, added, stale = merging.joined(document, one)
        if added:
            files[file] = frozenset(added)
        taken = ", ".join(merging.top_tasks(one, added)) or "nothing"
        said.append(
            f"{taken} from {file.name}" + (f", without {', '.join(stale)} (run again in part)" if stale else "")
        )
    if said:
        log.warning("%s contains %d results files; read: %s; %s", path, len(others) + 1, newest.name, "; ".join(said))
    return Recording(document, files)


def _is_taken(is_wanted: Callable[[str], bool], tasks: frozenset[str] | None, task: str) -> bool:
    return is_wanted(task) and (tasks is None or task in tasks)


def read_results(file: Path) -> dict[str, Any]:
    """Read one results document; raises DataError for one that is not lm-eval's, with the faulty field."""
    document: dict[str, Any] = without_nan(read_json(file))
    try:
        groups = msgspec.convert(document, _Document).group_subtasks
        tuple(TopologicalSorter(groups).static_order())
    except (msgspec.ValidationError, UnicodeError) as error:
        raise DataError(
            f"{file} is not what lm-eval writes ({plain_fault(error)}); give lm-eval's own results*.json"
        ) from error
    except CycleError as error:
        group = error.args[1][0]
        raise DataError(f"{file}: the group {group!r} contains itself; give lm-eval's own results*.json") from error
    return document


def results_files(path: Path) -> list[Path]:
    """Return the results documents that ``path`` means, newest first: itself, or all results*.json or *_<date>.json.

    "Newest" goes by the date that lm-eval writes into the name, else by the file's time. Raises DataError where there
    is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; give lm-eval's results*.json or the folder that holds it")
    # With a file's name as --output_path, lm-eval puts the date behind that name.
    found = [file for file in path.rglob("*.json*") if plain_name(file).endswith(".json")]
    files = [file for file in found if file.name.startswith("results") or _date_of(file)]
    if not files:
        raise DataError(f"{path} has no results*.json; give the folder that lm_eval --output_path wrote to")
    return sorted(files, key=lambda file: (_date_of(file) or "", file.stat().st_mtime, file.name), reverse=True)


def _refuse_several_models(folder: Path, documents: Mapping[Path, Mapping[str, Any]]) -> None:
    """Raise DataError where files are about different models: the newest would stand for all of them."""
    folders: dict[str, Path] = {}
    for file, document in documents.items():
        name = document.get("model_name")
        if isinstance(name, str) and name:
            folders.setdefault(name, file.parent)
    if len(folders) > 1:
        example = next(iter(folders.values()))
        raise DataError(
            f"{folder} contains results of {len(folders)} models ({', '.join(sorted(folders))}); "
            f"give the folder or the file of one, such as {example}"
        )


def notes_of(document: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """Return (missing parts, unscored documents by task and reason) from evalsuite's notes; empty without them."""
    notes = document.get("evalsuite") or {}
    return dict(notes.get("missing", {})), dict(notes.get("unscored", {}))


def recorded_limit(document: Mapping[str, Any]) -> tuple[int | None, float | None]:
    """Return (limit, share): a run's ``--limit``, and the share of each task where no whole number says the same.

    lm-eval takes a limit below 1 as a share of every task, rounded up. The documents are those of ``--limit N`` only
    where all tasks got min(N, their size); else N is the most that a task got, and the share keeps the figures apart.
    Raises DataError where the document does not count its documents.
    """
    limit = finite_number((document.get("config") or {}).get("limit"))
    if not limit or limit < 0:
        return None, None
    if limit >= 1:
        return int(limit), None
    counts = list(document.get("n-samples", {}).values())
    if not counts or not all(count.get("effective") and count.get("original") for count in counts):
        raise DataError(
            f"the results have limit {limit:g}, a share of each task, and no n-samples that say how many documents "
            "that are; give results of lm-eval 0.4.3 or newer, or of a run with a whole number as limit"
        )
    most = int(max(count["effective"] for count in counts))
    exact = all(count["effective"] == min(most, count["original"]) for count in counts)
    return most, None if exact else limit


def _date_of(file: Path) -> str | None:
    """Return the date in the name of a results document, which its samples share; None where it has none."""
    match = _DATED.fullmatch(plain_name(file))
    return match[1] if match else None


def samples_of(file: Path, is_wanted: Callable[[str], bool], *, warn: bool = True) -> dict[str, Path]:
    """Return the samples of a results document by task, of the wanted tasks: those of its own folder and date.

    A document whose name has no date has the samples without one, as evalsuite writes them, or else was renamed: then
    the samples are its own where they are all of one date. With ``warn`` a warning says that none beside it fits.
    """
    matches = [(path, _SAMPLES.fullmatch(plain_name(path))) for path in sorted(file.parent.glob("samples_*.jsonl*"))]
    beside = [(path, match["task"], match["date"]) for path, match in matches if match and is_wanted(match["task"])]
    date, dates = _date_of(file), {date for _, _, date in beside}
    if date is None and len(dates) == 1:
        [date] = dates
    samples = {task: path for path, task, of in beside if of == date}
    if warn and beside and not samples:
        log.warning(
            "%s: none of the %d sample files beside it has its date in the name (%s), so no items are read; "
            "give the results file the date of its samples",
            file,
            len(beside),
            date or "none",
        )
    return samples


def read_rows(path: Path, part: str, *, protected: bool) -> list[Row]:
    """Read one task's samples into rows; of GPQA's no text is decoded.

    A document has one sample per filter: the last one counts, as in lm-eval's table. Raises DataError.
    """
    unread = _UNREAD | {"doc", "target"} if protected else _UNREAD
    rows = _converted(path, lambda line: sample_row(_without(line, unread), part, protected=protected))
    return with_missing_marks({row.item_id: row for row in rows}.values())


def copy_results(recording: Recording, is_wanted: Callable[[str], bool], folder: Path) -> None:
    """Write a recording as results.json and samples_<task>.jsonl; GPQA's without text."""
    write_json(folder / "results.json", recording.document)
    for task, path in recording.samples(is_wanted, warn=False).items():
        kept = without_text if is_protected(recording.document, task) else dict
        write_jsonl(folder / f"samples_{task}.jsonl", map(kept, _converted(path, _decoded)))


def _converted(path: Path, convert: Callable[[bytes], _RowT]) -> Iterator[_RowT]:
    """Yield the samples of a file; raises DataError with the line of one that cannot be converted."""
    for number, line in iter_lines(path):
        try:
            yield convert(line)
        except (msgspec.MsgspecError, KeyError, ValueError, RecursionError) as error:
            raise DataError(f"{path} line {number} is not a sample of lm-eval ({plain_fault(error)})") from error


def _decoded(line: bytes) -> dict[str, Any]:
    """Read an object that Python's json wrote: NaN is None, half of a surrogate pair is U+FFFD."""
    sample = without_nan(parse_json(line.decode("utf-8", "replace")))
    if not isinstance(sample, dict):
        raise ValueError("not an object")
    return sample


def _without(line: bytes, unread: Collection[str]) -> dict[str, Any]:
    """Read a sample without some of its fields, quickly where it is JSON to the letter."""
    try:
        return {key: msgspec.json.decode(raw) for key, raw in _samples.decode(line).items() if key not in unread}
    except (msgspec.DecodeError, UnicodeDecodeError):
        # msgspec reads neither NaN nor half of a surrogate pair.
        return {key: value for key, value in _decoded(line).items() if key not in unread}
