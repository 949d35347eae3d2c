"""``evalsuite import``: recorded results of the peers become a folder of results/, marked as imported.

The figures are computed here from the recorded file; the items are copied in the form that a run of ours writes.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evalsuite.config import SuiteSpec, parse_suite
from evalsuite.errors import DataError, StoreError, UsageError, unknown
from evalsuite.files import read_json, read_jsonl, reading_recorded, write_json, write_jsonl
from evalsuite.report.items import openllm_part
from evalsuite.results.folder import SCHEMA, averages, environment, stored_manifest, stored_scores, write_results
from evalsuite.suites.base import Scores, SuiteOptions, finite_number
from evalsuite.suites.harness.files import date_of, read_results, results_file, without_nan

log = logging.getLogger("evalsuite")

FULL_COUNTS: Mapping[str, int] = {"mt_bench": 160, "alpaca_eval": 805, "mixeval": 4000, "mixeval_hard": 1000}
"""Observations of a whole set: MT-Bench's judgments, AlpacaEval's instructions, MixEval's items."""

_ENOUGH = 0.99
"""Published files lack a few rows; such a file still counts as the whole set, with what is missing unscored."""

_SAMPLES = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d\d-\d\dT.*))?\.jsonl")
_RECORDED_BY, _NOT_RECORDED = "recorded by ", "not recorded"
_UNNAMED = "its file does not name it, so it is taken for no other; name it with evalsuite import --judge NAME --fresh"
_PROTECTED_KEYS = frozenset({"doc_id", "doc_hash", "prompt_hash", "target_hash", "filter", "metrics", "filtered_resps"})


def import_results(
    suite: str,
    source: Path,
    model: str,
    results: Path,
    *,
    judge: str | None = None,
    data: str = "full",
    mixeval_parser: str = "judge",
    fresh: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Score a recorded file and add it to the imported model ``model``; return its folder and its scores.json.

    A file with several models gives the rows of ``model``. The fingerprint is the SHA-256 of the recorded files;
    further suites of the same name join the same folder. A set that is not whole gets its size as limit.
    Raises DataError or UsageError, naming the file and the remedy; nothing is written then.
    """
    spec = _spec(suite)
    source = source.expanduser()
    if not model.strip():
        raise UsageError("--model is empty; give the name that the model shall have in the table")
    options = SuiteOptions(data=_kind(data), parts=spec.parts, mixeval_parser=_parser(mixeval_parser))
    with reading_recorded(source):
        if not source.exists():
            raise DataError(f"{source} does not exist; give the recorded file or folder of {spec.name}")
    with _staging(results) as staging:
        staged = staging / spec.key
        staged.mkdir()
        with reading_recorded(source):
            path = _stage(spec, source, model, staged, options)
            scores = _scorer(spec.name).score_recorded(path, options)
        judge_name = judge or _recorded_judge(spec, staged, options)
        return _join(results, spec, options, scores, staged, source, model, judge_name, fresh=fresh)


@contextmanager
def _staging(results: Path) -> Iterator[Path]:
    """Make a folder inside ``results`` that is gone afterwards; raises StoreError where none can be made."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        staging = tempfile.TemporaryDirectory(prefix=".import-", dir=results)
    except OSError as error:
        raise StoreError(
            f"cannot write in {results}: {error.strerror or error}; give a writable folder with --results"
        ) from error
    with staging as name:
        yield Path(name)


def _spec(suite: str) -> SuiteSpec:
    try:
        spec = parse_suite(suite)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if spec.name not in (*FULL_COUNTS, "openllm"):
        raise UsageError(unknown("suite", spec.name, [*FULL_COUNTS, "openllm"]))
    return spec


def _kind(data: str) -> Any:
    if data not in ("full", "mini"):
        raise UsageError(f"data is {data!r}; expected 'full' or 'mini'")
    return data


def _parser(parser: str) -> Any:
    if parser not in ("judge", "rule"):
        raise UsageError(unknown("MixEval parser", parser, ("judge", "rule")))
    return parser


def _scorer(name: str) -> Any:
    from evalsuite.suites.registry import HARNESS, SUITES

    return SUITES.get(name) or HARNESS[name]


def _stage(spec: SuiteSpec, source: Path, model: str, staged: Path, options: SuiteOptions) -> Path:
    """Copy the recorded items in our form; return the path to score (the source itself where nothing was chosen)."""
    if spec.name == "mt_bench":
        return _stage_mt_bench(source, model, staged)
    if spec.name == "alpaca_eval":
        return _stage_alpaca(source, model, staged)
    if spec.name == "mixeval":
        return _stage_mixeval(source, staged, options)
    return _stage_openllm(source, staged)


def _only(rows: Sequence[Mapping[str, Any]], key: str, model: str, path: Path) -> list[Mapping[str, Any]]:
    """Return the rows of one model: all, where the file knows one only."""
    names = sorted({str(row.get(key)) for row in rows})
    if len(names) < 2:
        return list(rows)
    if model not in names:
        raise UsageError(f"{path} holds {len(names)} models; {unknown('model', model, names)}")
    return [row for row in rows if str(row.get(key)) == model]


def _stage_mt_bench(source: Path, model: str, staged: Path) -> Path:
    path = source / "model_judgment.jsonl" if source.is_dir() else source
    rows = _rows(path)
    own = _only(rows, "model", model, path)
    write_jsonl(staged / "model_judgment.jsonl", own)
    beside = [path.with_name("model_answer.jsonl"), *(path.parent.parent / "model_answer").glob("*.jsonl")]
    names = {str(row.get("model")) for row in own}
    for answers in beside:
        if answers.is_file() and (answers.stem in names or answers.name == "model_answer.jsonl"):
            write_jsonl(staged / "model_answer.jsonl", (a for a in _rows(answers) if a.get("model_id") in names))
            break
    return staged if len(own) != len(rows) else path


def _stage_alpaca(source: Path, model: str, staged: Path) -> Path:
    path = source / "annotations.json" if source.is_dir() else source
    rows = without_nan(read_json(path))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return path  # the scorer says what is wrong with it
    own = _only(rows, "generator_2", model, path)
    write_json(staged / "annotations.json", own)
    if (outputs := path.with_name("model_outputs.json")).is_file() and len(own) == len(rows):
        write_json(staged / outputs.name, without_nan(read_json(outputs)))
    return staged if len(own) != len(rows) else path


def _stage_mixeval(source: Path, staged: Path, options: SuiteOptions) -> Path:
    from evalsuite.suites.mixeval.peer import recorded_records

    records = recorded_records(source, options)
    for kind, split in (("free-form", "free_form"), ("multiple-choice", "multiple_choice")):
        rows = [without_nan(dict(record.item.data)) for record in records if record.item.data["problem_type"] == kind]
        if rows:
            write_jsonl(staged / f"{split}.jsonl", rows)
    return source


def _stage_openllm(source: Path, staged: Path) -> Path:
    """Stage a results document with its samples."""
    file = results_file(source)
    write_json(staged / "results.json", read_results(file))
    for path, task in _samples_of(file):
        rows = _rows(path)
        protected = openllm_part(task) == "gpqa"
        write_jsonl(staged / f"samples_{task}.jsonl", (_without_text(row) for row in rows) if protected else rows)
    return file


def _samples_of(file: Path) -> list[tuple[Path, str]]:
    """Return the samples of a results document, each with its task: those of its own folder and date.

    A document whose name has no date has the samples without one, as evalsuite writes them, or else was renamed: then
    the samples are its own where they are all of one date. A warning says so where none of those beside it fits.
    """
    matches = [(path, _SAMPLES.fullmatch(path.name)) for path in sorted(file.parent.glob("samples_*.jsonl"))]
    beside = [(path, match["task"], match["date"]) for path, match in matches if match and openllm_part(match["task"])]
    date, dates = date_of(file), {date for _, _, date in beside}
    if date is None and len(dates) == 1:
        [date] = dates
    own = [(path, task) for path, task, of in beside if of == date]
    if beside and not own:
        log.warning(
            "%s: none of the %d sample files beside it belongs to it by the date in its name (%s), so no items come "
            "along; give the results file the date of its samples",
            file,
            len(beside),
            date or "none",
        )
    return own


def _rows(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a NaN, which Python's json writes and JSON has no word for, is null."""
    return [without_nan(row) for row in read_jsonl(path)]


def _without_text(row: Mapping[str, Any]) -> dict[str, Any]:
    """Keep ids, hashes, metrics and log-probabilities of a GPQA sample: its authors ask that no text is published."""
    metrics = row.get("metrics")
    names = set(metrics) if isinstance(metrics, list) else {"acc", "acc_norm", "exact_match"}
    kept = {key: value for key, value in row.items() if key in _PROTECTED_KEYS | names}
    if not _only_numbers(kept.get("filtered_resps")):
        kept.pop("filtered_resps", None)
    return kept


def _only_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return all(_only_numbers(one) for one in value)
    return value in ("True", "False") or bool(re.fullmatch(r"-?(\d+\.?\d*(e-?\d+)?|inf)", str(value)))


def _recorded_judge(spec: SuiteSpec, staged: Path, options: SuiteOptions) -> str | None:
    """Name the judge that a file tells of; None where none was needed."""
    if spec.name == "openllm" or (spec.name == "mixeval" and options.mixeval_parser == "rule"):
        return None
    if spec.name == "mt_bench":
        row: Mapping[str, Any] = read_jsonl(staged / "model_judgment.jsonl")[0]
        named = row["judge"]
        named = named[0] if isinstance(named, list) and named else named
        return str(named or _NOT_RECORDED)
    if spec.name == "alpaca_eval":
        row = read_json(staged / "annotations.json")[0]
        return str(row.get("annotator") or _NOT_RECORDED)
    return _NOT_RECORDED


def _join(
    results: Path,
    spec: SuiteSpec,
    options: SuiteOptions,
    scores: Scores,
    staged: Path,
    source: Path,
    model: str,
    judge: str | None,
    *,
    fresh: bool,
) -> tuple[Path, dict[str, Any]]:
    """Put the staged items and the figures into the model's folder."""
    sha256 = _content_sha256(staged)
    folder = _folder(results, model, sha256)
    stored, manifest = stored_scores(folder), stored_manifest(folder)
    recorded = (manifest.get("suites") or {}).get(spec.key) or {}
    if recorded and recorded["recorded"]["sha256"] != sha256 and not fresh:
        raise UsageError(f"{folder} holds another import of {spec.key}; pass --fresh to replace it, or another --model")
    limit = None if options.data == "mini" else _limit(spec, scores, staged)
    if stored is not None and (stored["data"], stored.get("limit")) != (options.data, limit):
        raise UsageError(
            f"{folder} holds figures on data {stored['data']}, limit {stored.get('limit')}; these have data "
            f"{options.data}, limit {limit}: import them under another --model"
        )
    suites = {**(stored or {}).get("suites", {}), spec.key: scores}
    recorded_options = _recorded_options(spec, options, staged)
    files = {key: str((one.get("recorded") or {}).get("sha256")) for key, one in (manifest.get("suites") or {}).items()}
    judges = _judges(stored, spec.key, judge, {**files, spec.key: sha256})
    document = _document(model, sha256, stored, suites, judges, options.data, limit)
    target = folder / spec.key
    try:
        shutil.rmtree(target, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        staged.rename(target)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}; give another --results") from error
    entry = {"recorded": {"file": source.name, "sha256": sha256}, "options": recorded_options, "data_pins": {}}
    suites_manifest = {**(manifest.get("suites") or {}), spec.key: entry}
    write_results(folder, document, {**_manifest(document), "suites": suites_manifest})
    return folder, document


def _content_sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _folder(results: Path, model: str, sha256: str) -> Path:
    """Return the folder of an earlier import of this name, else a new one."""
    for path in sorted(results.glob("*/scores.json")):
        document = stored_scores(path.parent) or {}
        if document.get("imported") and document["model"]["name"] == model:
            return path.parent
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.") or "model"
    return results / f"{words[:80]}-{sha256[:8]}"


def _limit(spec: SuiteSpec, scores: Scores, staged: Path) -> int | None:
    """Return the ``--limit`` that would give so small a set (items; per split for MixEval), None for a whole one."""
    if spec.name == "openllm":
        return _openllm_limit(read_json(staged / "results.json"))[0]
    n = scores.get("n") or (scores.get("n_total") or 0) + sum((scores.get("unscored") or {}).values())
    if n >= _ENOUGH * FULL_COUNTS[spec.key]:
        return None
    if spec.name == "mt_bench":
        return len({row["question_id"] for row in read_jsonl(staged / "model_judgment.jsonl")})
    if spec.name == "mixeval":
        return max(len(read_jsonl(path)) for path in staged.glob("*.jsonl"))
    return int(n)


def _openllm_limit(document: Mapping[str, Any]) -> tuple[int | None, float | None]:
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
    counts = list((document.get("n-samples") or {}).values())
    if not counts or not all(finite_number(count.get(key)) for count in counts for key in ("effective", "original")):
        raise DataError(
            f"the results have limit {limit:g}, a share of each task, and no n-samples that say how many documents "
            "that are; give results of lm-eval 0.4.3 or newer, or of a run with a whole number as limit"
        )
    most = int(max(count["effective"] for count in counts))
    exact = all(count["effective"] == min(most, count["original"]) for count in counts)
    return most, None if exact else limit


def _recorded_options(spec: SuiteSpec, options: SuiteOptions, staged: Path) -> dict[str, Any]:
    """Return the options as far as a recorded file tells them; None where it does not."""
    known = {**asdict(options), "mixeval_version": None, "chat_template_on_openllm": None, "fewshot_as_multiturn": None}
    if spec.name != "openllm":
        return known
    document = read_json(staged / "results.json")
    known["limit_fraction"] = _openllm_limit(document)[1] or 0
    if "chat_template" in document:
        known["chat_template_on_openllm"] = bool(document["chat_template"])
        known["fewshot_as_multiturn"] = bool(document.get("fewshot_as_multiturn"))
    return known


def _judges(
    stored: Mapping[str, Any] | None, key: str, judge: str | None, files: Mapping[str, str]
) -> dict[str, Any] | None:
    """Name the judges of all imported suites together: other judges anywhere make other figures.

    In the order of the suites, whatever was imported first. ``files`` is the recorded files' SHA-256 by suite: a
    judge that nobody named is known by its file only, and so is the same as no other.
    """
    by_suite = dict(((stored or {}).get("judge") or {}).get("methods") or {})
    by_suite.pop(key, None)
    if judge is not None:
        by_suite[key] = _RECORDED_BY + judge
    if not by_suite:
        return None
    by_suite = {suite: by_suite[suite] for suite in sorted(by_suite, key=_place_of)}
    names = {suite: words.removeprefix(_RECORDED_BY) for suite, words in by_suite.items()}
    known = {
        suite: f"{name} ({files.get(suite, '')})" if name == _NOT_RECORDED else name for suite, name in names.items()
    }
    same = len(set(known.values())) == 1
    told = next(iter(known.values())) if same else "; ".join(f"{suite}: {name}" for suite, name in known.items())
    judges = {
        "name": ", ".join(dict.fromkeys(names.values())),
        "fingerprint": f"recorded:{told}",
        "methods": by_suite,
    }
    return judges | {"note": _UNNAMED} if _NOT_RECORDED in names.values() else judges


def _place_of(suite: str) -> tuple[int, str]:
    order = list(FULL_COUNTS)
    return (order.index(suite) if suite in order else len(order)), suite


def _document(
    model: str,
    sha256: str,
    stored: Mapping[str, Any] | None,
    suites: Mapping[str, Any],
    judge: Mapping[str, Any] | None,
    data: str,
    limit: int | None,
) -> dict[str, Any]:
    fingerprint = stored["model"]["fingerprint"] if stored else sha256
    return {
        "schema": SCHEMA,
        "imported": True,
        "model": {
            "name": model,
            "path": None,
            "fingerprint": fingerprint,
            "dtype": None,
            "chat_template_sha256": None,
        },
        "judge": judge,
        "data": data,
        "limit": limit,
        "suites": dict(suites),
        "average": averages(suites),
        "seconds": {},
        "tokens": {},
    }


def _manifest(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "imported": True,
        **environment(),
        "model": {**document["model"], "fingerprint_covers": "the first recorded files"},
        "judge": document["judge"],
    }
