"""The cost of answering: speed, memory and start of each model, from recorded runs, and a projection to a larger job.

All figures come from manifests. Rates are the server's work over the seconds of generation (its start is a separate
column), also for a run that was killed and resumed: a kill loses the last seconds of both. Conversations per hour
follow from the output rate and the mean length of a conversation's answers, so answers from the store do not count as
work. The rate is that after the warm-up where the run was long enough to measure it. The projection is linear: the same
prompts and settings on any number of the same devices; its interval is that of the mean length and of the rate. It
corresponds to the efficiency section of WILDCHAT-50M (arXiv 2501.18511).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite.analysis.document import Analysis, Chart, Column, Table, analysis_name
from evalsuite.analysis.settings import EfficiencyConfig
from evalsuite.errors import DataError
from evalsuite.files import exists
from evalsuite.fingerprint import file_sha256
from evalsuite.generation.manifest import manifests_in
from evalsuite.generation.measured import Measured, rate, read_measured
from evalsuite.text import plural
from judges.statistics import student_ci

PAPER = "WILDCHAT-50M, efficiency"
_EXTERNAL = "external server"
_NOT_ASKED = "all answers came from the store: nothing was measured"
_TOO_SHORT = "the run is too short to tell its warm-up apart"
_NO_CONVERSATIONS = "a run of benchmarks counts items, not conversations"


def efficiency_analysis(config: EfficiencyConfig) -> Analysis:
    """Make the table of recorded runs; ``dollars_per_hour`` is the price of one device (a GPU, or the machine).

    A folder is one of ``generate`` (of one model or several), a model's folder in ``results`` or its name there. Raises
    DataError where there is no manifest.
    """
    conversations, dollars_per_hour = config.conversations, config.dollars_per_hour
    paths = [path for folder in config.folders for path in find_manifests(folder, config.results)]
    read = [read_measured(path) for path in paths]
    rows = [efficiency_row(measured, conversations, dollars_per_hour) for measured in read]
    columns = _columns(conversations, dollars_per_hour)
    notes = _notes(conversations, read)
    table = Table("efficiency", "Cost of answering", columns, rows, PAPER, notes)
    charts = [Chart("speed", "Output tokens per second", "bars", table.id, "model", ["tokens_out_per_s"])]
    return Analysis(
        kind="efficiency",
        name=analysis_name((config.name,) if config.name else [str(row["model"]) for row in rows]),
        title="Efficiency",
        about="Speed, memory and start time of each model, from recorded runs, and a projection to "
        f"{conversations:,} conversations.",
        provenance={
            "runs": [_provenance(measured, path) for measured, path in zip(read, paths, strict=True)],
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


def efficiency_row(measured: Measured, conversations: int, dollars_per_hour: float | None) -> dict[str, Any]:
    """Compute one model's row; an unknown figure is None, and ``<key>_why`` says why."""
    generated, usage = measured.is_generated, measured.usage
    seconds = measured.seconds.generate
    span = seconds if usage.completion_tokens else 0.0
    attached = measured.served_on == "endpoint" or bool(measured.arguments.base_url)
    gpus = measured.hardware.gpus
    # A machine without a GPU counts as one device.
    parallel = (measured.arguments.tensor_parallel_size or 1) * (measured.arguments.data_parallel_size or 1)
    device = gpus[0] if gpus else f"CPU{', ' + plural(cores, 'core') if (cores := measured.hardware.cpu_count) else ''}"
    name = measured.model.name
    row: dict[str, Any] = {
        "model": name if measured.shard == "1/1" else f"{name} ({measured.shard})",
        "device": _EXTERNAL if attached else device,
        "devices": None if attached else parallel if gpus else 1,
        "conversations": measured.counts.conversations if generated else None,
        "seconds": seconds,
        "tokens_in_per_s": rate(usage.prompt_tokens, span),
        "tokens_out_per_s": rate(usage.completion_tokens, span),
        "cached_share": usage.cached_tokens / usage.prompt_tokens if usage.prompt_tokens else None,
        "start_s": measured.start_s,
        "peak_gib": measured.peak_memory.gib,
    }
    if generated:
        row |= _per_answer(measured)
    row |= _projected(measured, conversations, row["devices"], dollars_per_hour)
    return row | _reasons(row, generated=generated, attached=attached)


def _projected(
    measured: Measured, conversations: int, devices: int | None, dollars_per_hour: float | None
) -> dict[str, Any]:
    """Return the figures that follow from the rate and the mean length of a conversation, and what they rest on."""
    steady = measured.steady_speed
    speed = measured.answer_speed if steady is None else steady[0]
    count = measured.counts.conversations
    per_hour = 3600 * speed * count / measured.answer_tokens if speed and measured.answer_tokens and count else None
    hours = conversations / per_hour * devices if per_hour and devices else None
    dollars = hours * dollars_per_hour if hours is not None and dollars_per_hour is not None else None
    row: dict[str, Any] = {"steady_tokens_per_s": None if steady is None else steady[0]}
    factors = _error_factors(measured)
    if steady is not None:
        low, high = (math.exp(end) for end in student_ci(0.0, steady[1], len(measured.stretches) - 1))
        row["steady_tokens_per_s_ci95"] = [steady[0] * low, steady[0] * high]
    for key, value in (("conversations_per_hour", per_hour), ("device_hours", hours), ("dollars", dollars)):
        row[key] = value
        if factors is not None and value is not None:
            # The factors are symmetric on the logarithmic scale: the same for a figure and its inverse.
            row[f"{key}_ci95"] = [value * factors[0], value * factors[1]]
    return row | {"basis": _basis(measured) if per_hour else None}


def _error_factors(measured: Measured) -> tuple[float, float] | None:
    """Return the factors from the projection to the ends of its interval; None without a known length error."""
    if (length := measured.length_error) is None:
        return None
    steady = measured.steady_speed
    error, units = length if steady is None else (math.hypot(length[0], steady[1]), len(measured.stretches))
    low, high = student_ci(0.0, error, min(length[1], units) - 1)
    return math.exp(low), math.exp(high)


def _basis(measured: Measured) -> str:
    """Say from how much a projection was made."""
    counted = plural(measured.counts.conversations, "conversation")
    if measured.steady_speed is None:
        if measured.length_error is None:
            return f"{counted}, warm-up included, no interval"
        return f"{counted}, warm-up included; ± from the lengths only, since speed was measured once"
    seconds = math.fsum(seconds for seconds, _ in measured.stretches)
    return f"{counted}, {seconds:,.0f} of {measured.seconds.generate:,.0f} s: excluding warm-up and tail"


def _per_answer(measured: Measured) -> dict[str, Any]:
    """Return the mean tokens of an answer and of the thought before it, over the answers that are there."""
    counts = measured.counts
    answered = counts.answers - (sum(counts.unscored.values()) - counts.rows_unscored)
    row: dict[str, Any] = {
        "answer_tokens": measured.tokens.completion / answered if answered else None,
        "thought_tokens": measured.tokens.thought / answered
        if answered and measured.tokens.thought is not None
        else None,
    }
    why = "not recorded" if answered else "no answer was recorded"
    return row | {f"{key}_why": why for key, value in row.items() if value is None}


def _reasons(row: Mapping[str, Any], *, generated: bool, attached: bool) -> dict[str, str]:
    """Return the reason for every missing figure."""
    projected = ("conversations_per_hour", "device_hours", "basis")
    rates = ("tokens_in_per_s", "tokens_out_per_s", "cached_share")
    reasons = {f"{key}_why": _NOT_ASKED for key in (*rates, *projected) if row[key] is None}
    if not generated:
        keys = ("conversations", "answer_tokens", "thought_tokens", "steady_tokens_per_s", *projected)
        reasons |= dict.fromkeys((f"{key}_why" for key in keys), _NO_CONVERSATIONS)
    elif row["steady_tokens_per_s"] is None:
        reasons["steady_tokens_per_s_why"] = _TOO_SHORT
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
    return [
        Column("model", "model"),
        Column("device", "device"),
        Column("devices", "devices", "int"),
        Column("conversations", "conversations", "int"),
        Column("seconds", "seconds", "int"),
        Column("tokens_in_per_s", "tokens in/s", "float1"),
        Column("cached_share", "cached", "percent1"),
        Column("tokens_out_per_s", "tokens out/s", "float1"),
        Column("steady_tokens_per_s", "after warm-up", "float1"),
        Column("answer_tokens", "tokens per answer", "float1"),
        Column("thought_tokens", "tokens per thought", "float1"),
        Column("conversations_per_hour", "conversations/h", "int"),
        Column("peak_gib", "peak GiB", "float2"),
        Column("start_s", "start s", "float1"),
        Column("device_hours", f"device hours for {conversations:,}", "float1"),
        *([] if dollars_per_hour is None else [Column("dollars", "cost $", "float2")]),
        Column("basis", "projected from"),
    ]


def _notes(conversations: int, read: Sequence[Measured]) -> list[str]:
    notes = [
        f"The hours for {conversations:,} conversations are a linear projection of one measurement per row. Its 95 % "
        "interval is that of the mean tokens of a conversation and, after the warm-up, of the speed; it does "
        "not cover another day, machine or kind of prompts.",
        "The paper reports about 10,000 H100 hours for 50 models on 1M conversations: 200 per model.",
    ]
    kinds = dict.fromkeys(measured.peak_memory.what for measured in read)
    notes += [f"Peak memory: {kind}." for kind in kinds if kind]
    if not all(measured.complete for measured in read):
        notes.append("The table has a run that is not finished yet.")
    return notes


def _provenance(measured: Measured, path: Path) -> dict[str, Any]:
    given = measured.model_extra or {}
    return {
        "model": measured.model.name,
        "fingerprint": measured.model.fingerprint,
        **{key: given.get(key) for key in ("written_at", "versions", "source")},
        "manifest_sha256": file_sha256(path),
    }
