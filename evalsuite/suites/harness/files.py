"""Open LLM results on disk, in lm-eval's own fields: written for its readers, and read back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from evalsuite.errors import DataError
from evalsuite.files import read_json, write_json, write_jsonl
from evalsuite.suites.harness.run import HarnessResult
from judges.types import Unscored

OWN_KEY = "evalsuite"
"""The key of lm-eval's results document under which stands what lm-eval has no field for."""

_PROTECTED = re.compile(r"gpqa", re.IGNORECASE)
_FREE_OF_TEXT = frozenset(
    {"doc_id", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash", "target_hash"}
)
_DATED = re.compile(r".*_(\d{4}-\d\d-\d\dT[\d:.-]+)\.json")
"""``results_<date>.json``, and ``llama_<date>.json`` where lm-eval was given ``--output_path llama.json``."""


def write_results(result: HarnessResult, folder: Path) -> None:
    """Write results.json and samples_<task>.jsonl with the fields of lm-eval's ``EvaluationTracker``.

    Samples of GPQA hold ids, hashes, responses and metrics only: its authors ask that no text
    of it is published. Source: lm-eval 0.4.13 lm_eval/loggers/evaluation_tracker.py.
    """
    for task in result.samples:
        write_jsonl(folder / f"samples_{task}.jsonl", sample_rows(result, task))
    own = {
        "missing": dict(result.missing),
        "unscored": {task: dict(counts) for task, counts in result.unscored.items()},
        "truncated": dict(result.truncated),
    }
    write_json(folder / "results.json", json_ready({**result.results, OWN_KEY: own}))


def sample_rows(result: HarnessResult, task: str) -> Iterator[dict[str, Any]]:
    """Yield the samples of one task as lm-eval writes them; an unscored one also says why."""
    config = result.results.get("configs", {}).get(task, {})
    protected = bool(_PROTECTED.search(str(config.get("dataset_path", ""))))
    for sample in result.samples[task]:
        fault = next((one for one in sample["filtered_resps"] if isinstance(one, Unscored)), None)
        row = {
            **sample,
            "arguments": {
                f"gen_args_{index}": {f"arg_{place}": value for place, value in enumerate(arguments)}
                for index, arguments in enumerate(sample["arguments"])
            },
            "resps": _as_words(sample["resps"]),
            "filtered_resps": _as_words([] if fault else sample["filtered_resps"]),
            "target": str(sample["target"]),
        }
        if protected:
            row = {key: value for key, value in row.items() if key in _FREE_OF_TEXT | set(sample["metrics"])}
        if fault is not None:
            row["unscored"] = fault.reason
        yield json_ready(row)


def read_results(path: Path) -> dict[str, Any]:
    """Read an lm-eval results document: the file, or the newest results*.json or *_<date>.json in a folder.

    "Newest" goes by the date that lm-eval writes into the name, else by the file's time. A figure that is no number
    (NaN, infinite) is None. Raises DataError when there is none, when the folder holds results of several models,
    or when it is not lm-eval's.
    """
    file = results_file(path)
    document = read_json(file)
    if not isinstance(document, dict) or not isinstance(document.get("results"), dict):
        raise DataError(f"{file} is not an lm-eval results document: it has no object 'results'")
    for task, row in document["results"].items():
        if not isinstance(row, dict):
            raise DataError(f"{file}: results[{task!r}] is not an object of metrics; give lm-eval's own results*.json")
    _check_shapes(document, file)
    finite: dict[str, Any] = without_nan(document)
    return finite


def results_file(path: Path) -> Path:
    """Return the results document that ``path`` means: itself, or the newest in the folder; see ``read_results``."""
    return path if path.is_file() else _newest(path)


def date_of(file: Path) -> str | None:
    """Return the date in the name of a results document, which its samples share; None where it has none."""
    match = _DATED.fullmatch(file.name)
    return match[1] if match else None


def _check_shapes(document: Mapping[str, Any], file: Path) -> None:
    """Raise DataError for a part that is not what lm-eval writes, such as a group that holds itself."""
    for key, kind in (("configs", dict), ("n-samples", dict), ("group_subtasks", list)):
        part = document.get(key, {})
        if not isinstance(part, dict) or not all(isinstance(own, kind) for own in part.values()):
            raise DataError(f"{file}: {key!r} is not what lm-eval writes; give lm-eval's own results*.json")
    counts = [own.get("effective") for own in document.get("n-samples", {}).values()]
    counts += [row.get("sample_len") for row in document["results"].values()]
    if not all(count is None or (isinstance(count, int) and 0 <= count < 2**53) for count in counts):
        raise DataError(f"{file} counts documents by something that is no number; give lm-eval's own results*.json")
    groups = document.get("group_subtasks", {})
    if not all(isinstance(task, str) for own in groups.values() for task in own):
        raise DataError(f"{file}: 'group_subtasks' names something that is no task; give lm-eval's own results*.json")
    try:
        tuple(TopologicalSorter(groups).static_order())
    except CycleError as error:
        raise DataError(f"{file}: the group {error.args[1][0]!r} holds itself; give lm-eval's own results") from error
    for key in ("missing", "unscored"):
        own = document.get(OWN_KEY)
        notes = own.get(key, {}) if isinstance(own, dict) else own
        inner = notes.values() if isinstance(notes, dict) else ()
        counted = key == "missing" or all(
            isinstance(counts, dict) and all(isinstance(n, int) for n in counts.values()) for counts in inner
        )
        if not counted or not isinstance(notes, dict | None):
            raise DataError(f"{file}: {OWN_KEY!r} is not what evalsuite writes; run the model again")


def json_ready(value: Any) -> Any:
    """Return ``value`` in JSON's own types: NaN and infinities become None, foreign objects text (as in lm-eval)."""
    from lm_eval.utils import handle_non_serializable

    return without_nan(json.loads(json.dumps(value, default=handle_non_serializable)))


def without_nan(value: Any) -> Any:
    """Return a JSON document in which NaN and infinities, which JSON has no word for, are None."""
    if isinstance(value, dict):
        return {key: without_nan(own) for key, own in value.items()}
    if isinstance(value, list):
        return [without_nan(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_words(value: Any) -> Any:
    return [_as_words(own) for own in value] if isinstance(value, list | tuple) else str(value)


def _newest(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; give lm-eval's results*.json or the folder that holds it")
    # With a file's name as --output_path, lm-eval puts the date behind that name.
    found = sorted(file for file in folder.rglob("*.json") if file.name.startswith("results") or date_of(file))
    if not found:
        raise DataError(f"{folder} holds no results*.json; give the folder that lm_eval --output_path wrote to")
    if len(found) > 1:
        _refuse_several_models(folder, found)
    dated = {date: file for file in found if (date := date_of(file))}
    return dated[max(dated)] if dated else max(found, key=lambda file: file.stat().st_mtime)


def _refuse_several_models(folder: Path, files: Sequence[Path]) -> None:
    """Raise DataError where files are about different models: the newest would speak for all of them."""
    folders: dict[str, Path] = {}
    for file in files:
        try:
            document = read_json(file)
        except DataError:
            # An unreadable older file is no reason to refuse the newest, which is read again and speaks for itself.
            continue
        name = document.get("model_name") if isinstance(document, dict) else None
        if isinstance(name, str) and name:
            folders.setdefault(name, file.parent)
    if len(folders) > 1:
        example = next(iter(folders.values()))
        raise DataError(
            f"{folder} holds results of {len(folders)} models ({', '.join(sorted(folders))}); "
            f"give the folder or the file of one, such as {example}"
        )


def own_notes(document: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """Return (missing, unscored) as evalsuite recorded them in its own export; empty for lm-eval's files."""
    notes = document.get(OWN_KEY) or {}
    return dict(notes.get("missing", {})), dict(notes.get("unscored", {}))
