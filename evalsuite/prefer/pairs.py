"""A comparison's verdicts become preference pairs that DPO trains on.

    DIR/train.jsonl     prompt, chosen, rejected (lists of messages), and where they come from
    DIR/dropped.jsonl   every other verdict, with the reason
    DIR/prefer.json     counts, options, the comparison's hash, contamination; written last

The columns are TRL's conversational preference format with an explicit prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

from evalsuite.comparison_documents import GameRow, Preferences, VerdictRow, read_verdict_rows
from evalsuite.contamination.index import OverlapRule
from evalsuite.contamination.measure import Meter, load_meter
from evalsuite.documents import SCHEMA, validated
from evalsuite.errors import DataError, UsageError, unknown
from evalsuite.files import exists, read_json, write_json, write_jsonl
from evalsuite.fingerprint import file_sha256
from evalsuite.prefer.settings import PreferConfig
from evalsuite.suites.registry import suites

PAIRS, DROPPED, DOCUMENT = "train.jsonl", "dropped.jsonl", "prefer.json"
Row = dict[str, Any]


class _Verdict(NamedTuple):
    """All judges' verdicts on one pair of answers: the model preferred, by how much, or why there is no pair."""

    row: VerdictRow
    winner: Literal["a", "b"] = "a"
    margin: float = 0.0
    dropped: str = ""


def prefer(config: PreferConfig) -> dict[str, Any]:
    """Write the preference pairs of a comparison and return prefer.json.

    Of a panel all judges have to agree. Each verdict is in train.jsonl or, with a reason, in dropped.jsonl. Raises
    UsageError for a benchmark's prompts unless they are asked for, DataError for a folder that is not a comparison.
    """
    folder = _comparison_folder(config.comparison, config.results)
    file = folder / "preferences.json"
    document = validated(Preferences, read_json(file), file, "run `evalsuite compare` again")
    _check(config, document, folder)
    meter = None if config.contamination == "off" else load_meter(config.contamination, OverlapRule())
    verdicts = [_filtered(verdict, config) for verdict in _verdicts(read_verdict_rows(folder / "verdicts.jsonl"))]
    kept: list[Row] = []
    dropped: list[Row] = []
    found: Counter[str] = Counter()
    seen: set[tuple[str, str, str]] = set()
    for verdict in verdicts:
        reason = verdict.dropped or _duplicate(verdict, seen)
        overlapping = [] if reason or meter is None else _overlapping(verdict.row, meter)
        found.update(overlapping)
        if overlapping and not config.benchmark_prompts:
            reason = "contaminated"
        if reason:
            dropped.append(_where(verdict.row) | {"reason": reason})
        else:
            kept.append(_pair(verdict))
    written = {
        "schema": SCHEMA,
        "comparison": folder.name,
        "verdicts_sha256": file_sha256(folder / "verdicts.jsonl"),
        "prompts": document.prompts,
        "judge": None if document.judge is None else document.judge.name,
        "options": config.model_dump(mode="json", exclude={"comparison", "out", "results"}),
        "n_verdicts": len(verdicts),
        "n_pairs": len(kept),
        "dropped": dict(sorted(Counter(row["reason"] for row in dropped).items())),
        "chosen": dict(sorted(Counter(row["chosen_model"] for row in kept).items())),
        "characters": _mean_lengths(kept),
        "contamination": None if meter is None else _contamination(meter, found),
    }
    _write(config.out, kept, dropped, written)
    return written


def _comparison_folder(spec: str, results: Path) -> Path:
    folders = [Path(spec).expanduser(), results / "comparisons" / spec]
    for folder in folders:
        if exists(folder / "preferences.json") and exists(folder / "verdicts.jsonl"):
            return folder
    known = sorted(path.parent.name for path in (results / "comparisons").glob("*/verdicts.jsonl"))
    raise DataError(
        f"{unknown('comparison', spec, known)}; give a folder with preferences.json and verdicts.jsonl"
        if known
        else f"{spec} is not a comparison; give a folder with preferences.json and verdicts.jsonl"
    )


def _check(config: PreferConfig, document: Preferences, folder: Path) -> None:
    suite = document.prompts.partition(":")[0]
    if suite in suites() and not config.benchmark_prompts:
        raise UsageError(
            f"{folder} compares answers to the prompts of {suite}, a benchmark: a model trained on them has no figure "
            "on it any more; compare on other prompts (--prompts FILE), or pass --benchmark-prompts"
        )
    if document.turns not in (None, "first"):
        raise UsageError(f"{folder} compares whole conversations; prefer needs first turns: compare --turns first")
    if config.out.exists() and any(config.out.iterdir()) and not (config.out / DOCUMENT).is_file():
        raise UsageError(f"--out {config.out} holds other files; give a new folder")


def _verdicts(rows: Iterable[VerdictRow]) -> Iterator[_Verdict]:
    """Yield what all judges together say of each pair of answers, in the file's order."""
    by_pair: dict[tuple[str, str, str], list[VerdictRow]] = {}
    for row in rows:
        by_pair.setdefault((row.prompt_id, row.a, row.b), []).append(row)
    for panel in by_pair.values():
        reason = next((reason for row in panel if (reason := _no_pair(row))), "")
        if not reason and len({row.winner for row in panel}) > 1:
            reason = "judges_disagree"
        winner = panel[0].winner
        if reason or winner is None or winner == "tie":
            yield _Verdict(panel[0], dropped=reason or "tie")
        else:
            yield _Verdict(panel[0], winner, fmean(abs(2 * (row.preference_a or 0.0) - 1) for row in panel))


def _no_pair(row: VerdictRow) -> str:
    """Say why a judge's verdict is not a preference; "" where both orders prefer the same answer."""
    if not row.answer_a or not row.answer_b:
        return "no_answer"
    if row.identical or row.answer_a == row.answer_b:
        return "identical"
    if row.unscored is not None or row.winner is None:
        return "unscored"
    if row.winner == "tie":
        return "tie"
    for_a = [_preference(row.a_first), _preference(row.b_first)]
    if any(one is None for one in for_a):
        return "one_order"
    first, second = (one or 0.0 for one in for_a)
    agree = first > 0.5 > second if row.winner == "a" else first < 0.5 < second
    return "" if agree else "orders_disagree"


def _preference(game: GameRow | None) -> float | None:
    """Return a game's preference for the answer that it showed first."""
    return game.preference_first if game is not None and isinstance(game.preference_first, float | int) else None


def _filtered(verdict: _Verdict, config: PreferConfig) -> _Verdict:
    if verdict.dropped:
        return verdict
    short, long = sorted(len(text or "") for text in (verdict.row.answer_a, verdict.row.answer_b))
    reason = ""
    if verdict.margin < config.min_margin:
        reason = "margin"
    elif config.max_length_ratio is not None and long > config.max_length_ratio * short:
        reason = "length_ratio"
    elif config.max_characters is not None and long > config.max_characters:
        reason = "too_long"
    return verdict._replace(dropped=reason)


def _duplicate(verdict: _Verdict, seen: set[tuple[str, str, str]]) -> str:
    texts = (verdict.row.prompt, *_ordered(verdict))
    if texts in seen:
        return "duplicate"
    seen.add(texts)
    return ""


def _ordered(verdict: _Verdict) -> tuple[str, str]:
    """Return the texts chosen and rejected."""
    a, b = verdict.row.answer_a or "", verdict.row.answer_b or ""
    return (a, b) if verdict.winner == "a" else (b, a)


def _overlapping(row: VerdictRow, meter: Meter) -> list[str]:
    return sorted({overlap.item.suite for overlap in meter.index.overlaps([row.prompt])})


def _where(row: VerdictRow) -> Row:
    return {"prompt_id": row.prompt_id, "a": row.a, "b": row.b}


def _pair(verdict: _Verdict) -> Row:
    row = verdict.row
    chosen, rejected = _ordered(verdict)
    models = (row.a, row.b) if verdict.winner == "a" else (row.b, row.a)
    return {
        "prompt": [{"role": "user", "content": row.prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "prompt_id": row.prompt_id,
        "chosen_model": models[0],
        "rejected_model": models[1],
        "margin": round(verdict.margin, 6),
    }


def _mean_lengths(rows: Sequence[Row]) -> dict[str, float] | None:
    """Return the mean lengths in characters; a large gap teaches a model to write longer."""
    sides = ("chosen", "rejected")
    return {side: fmean(len(row[side][0]["content"]) for row in rows) for side in sides} if rows else None


def _contamination(meter: Meter, found: Mapping[str, int]) -> Row:
    return {
        "data": meter.data,
        "rule": meter.index.describe(),
        "pairs_by_suite": dict(sorted(found.items())),
        "missing": dict(meter.benchmarks.missing),
        "pins": {name: asdict(pin) for name, pin in meter.benchmarks.pins.items()},
    }


def _write(out: Path, kept: Sequence[Row], dropped: Sequence[Row], document: Mapping[str, Any]) -> None:
    # An interrupted run leaves no document that speaks of other pairs.
    (out / DOCUMENT).unlink(missing_ok=True)
    write_jsonl(out / PAIRS, kept)
    write_jsonl(out / DROPPED, dropped)
    write_json(out / DOCUMENT, dict(document))
