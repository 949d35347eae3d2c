"""Preference pairs that DPO trains on, from a comparison's verdicts or from scored answers.

    DIR/train.jsonl     prompt, chosen, rejected (lists of messages), and where they come from
    DIR/dropped.jsonl   every other pair, with the reason
    DIR/prefer.json     counts, options, the data's hash, contamination; written last

The columns are TRL's conversational preference format with an explicit prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from evalsuite.contamination.index import OverlapRule
from evalsuite.contamination.measure import Meter, load_meter
from evalsuite.conversations.fields import fields_of
from evalsuite.documents import SCHEMA
from evalsuite.errors import UsageError
from evalsuite.files import write_json, write_jsonl
from evalsuite.prefer.pair import DOCUMENT, Pair, Row
from evalsuite.prefer.samples import sampled_pairs
from evalsuite.prefer.settings import PreferConfig
from evalsuite.prefer.verdicts import compared_pairs
from judges.types import user_texts

PAIRS, DROPPED = "train.jsonl", "dropped.jsonl"


def prefer(config: PreferConfig) -> dict[str, Any]:
    """Write the preference pairs of a comparison, or with ``by`` of scored answers, and return prefer.json.

    Each pair is in train.jsonl or, with a reason, in dropped.jsonl. Raises UsageError for a benchmark's prompts unless
    they are asked for, DataError for data that cannot be read.
    """
    if config.out.exists() and any(config.out.iterdir()) and not (config.out / DOCUMENT).is_file():
        raise UsageError(f"--out {config.out} contains other files; give a new folder")
    pairs, origin = compared_pairs(config) if config.by is None else sampled_pairs(config)
    meter = None if config.contamination == "off" else load_meter(config.contamination, OverlapRule())
    kept: list[Row] = []
    dropped: list[Row] = []
    found: Counter[str] = Counter()
    seen: set[tuple[str, ...]] = set()
    for pair in (_filtered(pair, config) for pair in pairs):
        reason = pair.dropped or _duplicate(pair, seen)
        overlaps = [] if reason or meter is None else meter.index.overlaps(user_texts(pair.prompt))
        overlapping = {overlap.item.suite for overlap in overlaps}
        found.update(overlapping)
        if overlapping and not config.benchmark_prompts:
            reason = "contaminated"
        if reason:
            dropped.append({**pair.where, "reason": reason})
        else:
            kept.append(_row(pair))
    written = {
        "schema": SCHEMA,
        **origin,
        "options": config.model_dump(mode="json", exclude={"comparison", "out", "results", "scores"}),
        "n_verdicts" if config.by is None else "n_prompts": len(kept) + len(dropped),
        "n_pairs": len(kept),
        "dropped": dict(sorted(Counter(row["reason"] for row in dropped).items())),
        "chosen": dict(sorted(Counter(row["chosen_model"] for row in kept).items())),
        "characters": _mean_lengths(kept),
        "contamination": None if meter is None else _contamination(meter, found),
    }
    _write(config.out, kept, dropped, written)
    return written


def _filtered(pair: Pair, config: PreferConfig) -> Pair:
    if pair.dropped:
        return pair
    short, long = sorted(len(answer.content) for answer in (pair.chosen, pair.rejected))
    reason = ""
    if pair.margin < config.min_margin:
        reason = "margin"
    elif config.max_length_ratio is not None and long > config.max_length_ratio * short:
        reason = "length_ratio"
    elif config.max_characters is not None and long > config.max_characters:
        reason = "too_long"
    return replace(pair, dropped=reason)


def _duplicate(pair: Pair, seen: set[tuple[str, ...]]) -> str:
    texts = (*(message.content for message in pair.prompt), pair.chosen.content, pair.rejected.content)
    if texts in seen:
        return "duplicate"
    seen.add(texts)
    return ""


def _row(pair: Pair) -> Row:
    return {
        "prompt": [fields_of(message) for message in pair.prompt],
        "chosen": [fields_of(pair.chosen)],
        "rejected": [fields_of(pair.rejected)],
        **pair.about,
        "margin": round(pair.margin, 6),
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
