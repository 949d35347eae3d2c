"""The cost of answering: speed, memory and start of each model, from recorded runs, and a projection to a larger job.

All figures come from manifests. Rates are the server's work over the seconds of generation (its start is a separate
column), also for a run that was killed and resumed: a kill loses the last seconds of both. Conversations per hour
follow from the output rate and the mean length of a conversation's answers, so answers from the store do not count as
work. The projection is linear: the same prompts and settings on any number of the same devices. It corresponds to the
efficiency section of WILDCHAT-50M (arXiv 2501.18511).
"""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite.analysis.document import Analysis, Chart, Column, Table, analysis_name
from evalsuite.errors import DataError, UsageError
from evalsuite.files import exists, read_json
from evalsuite.generation.manifest import manifests_in, read_manifest

PAPER = "WILDCHAT-50M, efficiency"
DEFAULT_CONVERSATIONS = 1_000_000
_MOST = 10**12
_TEXTS = {"model", "device"}
_EXTERNAL = "external server"
_NOT_ASKED = "all answers came from the store: nothing was measured"
_NO_CONVERSATIONS = "a run of benchmarks counts items, not conversations"


def efficiency_analysis(
    specs: Sequence[str],
    results: Path,
    *,
    conversations: int = DEFAULT_CONVERSATIONS,
    dollars_per_hour: float | None = None,
    name: str | None = None,
) -> Analysis:
    """Make the table of recorded runs; ``dollars_per_hour`` is the price of one device (a GPU, or the machine).

    A spec is a ``generate`` folder (of one model or several), a model's folder in ``results`` or
    its name there. Raises DataError where there is no manifest, UsageError for numbers out of range.
    """
    if not 1 <= conversations <= _MOST:
        raise UsageError(f"--conversations {reprlib.repr(conversations)}: give a number from 1 to {_MOST:,}")
    if dollars_per_hour is not None and not 0 <= dollars_per_hour <= _MOST:
        raise UsageError(f"--dollars-per-hour {dollars_per_hour}: give a number from 0 to {_MOST:,}")
    paths = [path for spec in specs for path in find_manifests(spec, results)]
    read = [(path, _read(path)) for path in paths]
    rows = [_checked_row(path, manifest, conversations, dollars_per_hour) for path, manifest in read]
    columns = _columns(conversations, dollars_per_hour)
    notes = _notes(conversations, [manifest for _, manifest in read])
    table = Table("efficiency", "Cost of answering", columns, rows, PAPER, notes)
    charts = [Chart("speed", "Output tokens per second", "bars", table.id, "model", ["tokens_out_per_s"])]
    return Analysis(
        kind="efficiency",
        name=analysis_name((name,) if name else [str(row["model"]) for row in rows]),
        title="Efficiency",
        about="Speed, memory and start time of each model, from recorded runs, and a projection to "
        f"{conversations:,} conversations.",
        provenance={
            "runs": [_provenance(manifest) for _, manifest in read],
            "conversations": conversations,
            "dollars_per_hour": dollars_per_hour,
        },
        tables=[table],
        charts=charts,
    )


def find_manifests(spec: str, results: Path) -> list[Path]:
    """Return the manifests of a spec; raises DataError when there is none."""
    for folder in (Path(spec).expanduser(), results / spec):
        if not exists(folder) or not folder.is_dir():
            continue
        manifests = manifests_in(folder) or sorted(folder.glob("*/_manifest*.json"))
        if manifests:
            return manifests
        if (folder / "manifest.json").is_file():
            return [folder / "manifest.json"]
    raise DataError(
        f"{spec} is not a recorded run (no _manifest.json or manifest.json); give a folder of 'evalsuite generate' or "
        "'evalsuite run'"
    )


def _read(path: Path) -> Mapping[str, Any]:
    if path.name != "manifest.json":
        return read_manifest(path)
    document = read_json(path)
    if not (isinstance(document, dict) and {"model", "seconds", "usage", "hardware"} <= set(document)):
        raise DataError(f"{path} is not a manifest of 'evalsuite run'; run the model again")
    return document


def _checked_row(
    path: Path, manifest: Mapping[str, Any], conversations: int, dollars_per_hour: float | None
) -> dict[str, Any]:
    """Compute a row; raises DataError for a manifest with missing or invalid values."""
    try:
        row = efficiency_row(manifest, conversations, dollars_per_hour)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path} is not a valid manifest ({type(error).__name__}: {error}); run the model again"
        ) from error
    for key, value in row.items():
        is_amount = isinstance(value, int | float) and math.isfinite(value) and value >= 0
        if key not in _TEXTS and not key.endswith("_why") and value is not None and not is_amount:
            raise DataError(f"{path} is not a valid manifest ({key} is {value!r}); run the model again")
    return row


def efficiency_row(manifest: Mapping[str, Any], conversations: int, dollars_per_hour: float | None) -> dict[str, Any]:
    """Compute one model's row from its manifest; an unknown figure is None, and ``<key>_why`` says why."""
    generated = manifest.get("kind") == "generate"
    usage = manifest["costs"]["usage"] if generated else (manifest["usage"].get("candidate") or {})
    seconds = manifest["seconds"]["generate"]
    span = seconds if usage.get("completion_tokens") else 0
    asked = manifest.get("arguments", {})
    attached = manifest.get("served_on") == "endpoint" or bool(asked.get("base_url"))
    name, part = str(manifest["model"]["name"]), manifest.get("shard", "1/1")
    hardware = {} if attached else manifest["hardware"]
    gpus = hardware.get("gpus")
    # A machine without a GPU counts as one device.
    n_gpus = int(asked.get("tensor_parallel_size") or 1) * int(asked.get("data_parallel_size") or 1) if gpus else 1
    device = str(gpus[0]) if gpus else f"CPU, {hardware.get('cpu_count')} cores"
    row: dict[str, Any] = {
        "model": name if part == "1/1" else f"{name} ({part})",
        "device": _EXTERNAL if attached else device,
        "devices": None if attached else n_gpus,
        "conversations": manifest["counts"]["conversations"] if generated else None,
        "seconds": seconds,
        "tokens_in_per_s": _rate(usage.get("prompt_tokens"), span),
        "tokens_out_per_s": _rate(usage.get("completion_tokens"), span),
        "cached_share": _rate(usage.get("cached_tokens"), usage.get("prompt_tokens") or 0),
        "start_s": _start_seconds(manifest, generated=generated),
        "peak_gib": (manifest.get("peak_memory") or {}).get("gib"),
    }
    if generated:
        row |= _per_answer(manifest)
    row["conversations_per_hour"] = _conversations_per_hour(manifest, row["tokens_out_per_s"]) if generated else None
    per_hour, devices = row["conversations_per_hour"], row["devices"]
    row["device_hours"] = conversations / per_hour * devices if per_hour and devices else None
    hours = row["device_hours"]
    row["dollars"] = hours * dollars_per_hour if hours is not None and dollars_per_hour is not None else None
    return row | _reasons(row, generated=generated, attached=attached)


def _conversations_per_hour(manifest: Mapping[str, Any], tokens_per_s: float | None) -> float | None:
    count = manifest["counts"]["conversations"]
    tokens = manifest["tokens"]["completion"] + manifest["tokens"].get("thought", 0)
    return 3600 * tokens_per_s * count / tokens if tokens_per_s and tokens and count else None


def _per_answer(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mean tokens of an answer and of the thought before it, over the answers that are there."""
    counts, tokens = manifest["counts"], manifest["tokens"]
    missing = sum(counts.get("unscored", {}).values()) - counts.get("rows_unscored", 0)
    answered = counts.get("answers", 0) - missing
    row: dict[str, Any] = {
        "answer_tokens": _rate(tokens["completion"], answered),
        "thought_tokens": _rate(tokens.get("thought"), answered),
    }
    why = "not recorded" if answered else "no answer was recorded"
    return row | {f"{key}_why": why for key, value in row.items() if value is None}


def _start_seconds(manifest: Mapping[str, Any], *, generated: bool) -> float | None:
    """Return the mean seconds per start of the server, None where none was started."""
    serve = manifest["seconds"]["serve"]
    starts = manifest["costs"]["starts"] if generated else 1 + manifest.get("server_restarts", 0)
    return serve / starts if serve and starts else None


def _rate(amount: float | None, span: float) -> float | None:
    return amount / span if amount is not None and span else None


def _reasons(row: Mapping[str, Any], *, generated: bool, attached: bool) -> dict[str, str]:
    """Return the reason for every missing figure."""
    measured = ("tokens_in_per_s", "tokens_out_per_s", "cached_share", "conversations_per_hour", "device_hours")
    reasons = {f"{key}_why": _NOT_ASKED for key in measured if row[key] is None}
    if not generated:
        reasons |= {
            f"{key}_why": _NO_CONVERSATIONS
            for key in ("conversations", "answer_tokens", "thought_tokens", "conversations_per_hour", "device_hours")
        }
    if attached:
        reasons |= {f"{key}_why": _EXTERNAL for key in ("devices", "device_hours", "start_s", "peak_gib")}
    elif row["start_s"] is None:
        reasons["start_s_why"] = "no server was started"
    if row["peak_gib"] is None and not attached:
        reasons["peak_gib_why"] = "not recorded"
    if row["dollars"] is None and "device_hours_why" in reasons:
        reasons["dollars_why"] = reasons["device_hours_why"]
    return reasons


def _columns(conversations: int, dollars_per_hour: float | None) -> list[Column]:
    columns = [
        Column("model", "model"),
        Column("device", "device"),
        Column("devices", "devices", "int"),
        Column("conversations", "conversations", "int"),
        Column("seconds", "seconds", "int"),
        Column("tokens_in_per_s", "tokens in/s", "float1"),
        Column("cached_share", "cached", "percent1"),
        Column("tokens_out_per_s", "tokens out/s", "float1"),
        Column("answer_tokens", "tokens per answer", "float1"),
        Column("thought_tokens", "tokens per thought", "float1"),
        Column("conversations_per_hour", "conversations/h", "int"),
        Column("peak_gib", "peak GiB", "float2"),
        Column("start_s", "start s", "float1"),
        Column("device_hours", f"device hours for {conversations:,}", "float1"),
    ]
    return columns if dollars_per_hour is None else [*columns, Column("dollars", "cost $", "float2")]


def _notes(conversations: int, manifests: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = [
        f"One measurement per row, over the conversations and seconds given there; the hours for {conversations:,} "
        "conversations are a linear projection.",
        "The paper reports about 10,000 H100 hours for 50 models on 1M conversations: 200 per model.",
    ]
    kinds = dict.fromkeys(str((manifest.get("peak_memory") or {}).get("what") or "") for manifest in manifests)
    notes += [f"Peak memory: {kind}." for kind in kinds if kind]
    if any(manifest.get("kind") == "generate" and not manifest["complete"] for manifest in manifests):
        notes.append("The table has a run that is not finished yet.")
    return notes


def _provenance(manifest: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(manifest, sort_keys=True, default=str)
    return {
        "model": manifest["model"]["name"],
        "fingerprint": manifest["model"].get("fingerprint"),
        "written_at": manifest.get("written_at"),
        "versions": manifest.get("versions"),
        "source": manifest.get("source"),
        "manifest_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
