"""Pairs of answers from a comparison: what all judges in both orders say of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from evalsuite.comparison_documents import GameRow, Preferences, VerdictRow, read_verdict_rows
from evalsuite.documents import validated
from evalsuite.errors import DataError, UsageError, unknown
from evalsuite.files import exists, read_json
from evalsuite.fingerprint import file_sha256
from evalsuite.prefer.pair import Pair
from evalsuite.prefer.settings import PreferConfig
from evalsuite.suites.registry import suites
from judges.types import Message


def compared_pairs(config: PreferConfig) -> tuple[list[Pair], dict[str, Any]]:
    """Return a comparison's pairs in the file's order; of a panel all judges have to agree. Raises as ``prefer``."""
    folder = _comparison_folder(config.comparison, config.results)
    file = folder / "preferences.json"
    remedy = "run `evalsuite compare` again"
    document = validated(Preferences, read_json(file, remedy=remedy), file, remedy)
    _check(config, document, folder)
    pairs = list(_pairs(read_verdict_rows(folder / "verdicts.jsonl")))
    origin = {
        "comparison": folder.name,
        "verdicts_sha256": file_sha256(folder / "verdicts.jsonl"),
        "prompts": document.prompts,
        "judge": None if document.judge is None else document.judge.name,
    }
    return pairs, origin


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
            f"{folder} compares answers to the prompts of {suite}, a benchmark: its score means nothing for a model "
            "trained on them; compare on other prompts (--prompts FILE), or pass --benchmark-prompts"
        )
    if document.turns not in (None, "first"):
        raise UsageError(f"{folder} compares whole conversations; prefer needs first turns: compare --turns first")


def _pairs(rows: Iterable[VerdictRow]) -> Iterator[Pair]:
    """Yield what all judges together say of each pair of answers, in the file's order."""
    by_pair: dict[tuple[str, str, str], list[VerdictRow]] = {}
    for row in rows:
        by_pair.setdefault((row.prompt_id, row.a, row.b), []).append(row)
    for (prompt_id, a, b), panel in by_pair.items():
        row = panel[0]
        reason = next((reason for one in panel if (reason := _no_pair(one))), "")
        if not reason and len({one.winner for one in panel}) > 1:
            reason = "judges_disagree"
        sides = [(a, row.answer_a or ""), (b, row.answer_b or "")]
        chosen, rejected = sides if row.winner == "a" else sides[::-1]
        yield Pair(
            {"prompt_id": prompt_id, "a": a, "b": b},
            (Message("user", row.prompt),),
            Message("assistant", chosen[1]),
            Message("assistant", rejected[1]),
            {"prompt_id": prompt_id, "chosen_model": chosen[0], "rejected_model": rejected[0]},
            fmean(abs(2 * (one.preference_a or 0.0) - 1) for one in panel),
            reason,
        )


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
