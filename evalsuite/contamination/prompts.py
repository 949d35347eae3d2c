"""The prompts of every suite, as texts to look for in training data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evalsuite.errors import DataError

DataKind = Literal["full", "mini"]


@dataclass(frozen=True, slots=True)
class BenchmarkItem:
    """One item: its suite, its id, and its prompts (one a turn).

    ``options`` are a multiple-choice item's; they count where the question alone is short.
    """

    suite: str
    id: str
    turns: tuple[str, ...]
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """All items that could be had, their data's pins, and in one line why a suite is missing."""

    items: tuple[BenchmarkItem, ...]
    pins: Mapping[str, Mapping[str, Any]]
    missing: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Suite:
    """Where a suite's rows are (pinned assets; files of the mini data) and what of a row is asked."""

    assets: Sequence[str]
    mini: Sequence[str]
    read: Callable[[str, Mapping[str, Any]], BenchmarkItem]


def _id(row: Mapping[str, Any], key: str) -> str:
    return str(row.get(key, ""))


def _plain(key: str) -> Callable[[str, Mapping[str, Any]], BenchmarkItem]:
    return lambda suite, row: BenchmarkItem(suite, "", (row[key],))


def _choices(suite: str, row: Mapping[str, Any]) -> BenchmarkItem:
    return BenchmarkItem(suite, "", (row["question"],), tuple(row["options"]))


def _mt_bench(suite: str, row: Mapping[str, Any]) -> BenchmarkItem:
    return BenchmarkItem(suite, _id(row, "question_id"), tuple(row["turns"]))


def _gpqa(suite: str, row: Mapping[str, Any]) -> BenchmarkItem:
    if "question" in row:
        return _choices(suite, row)
    options = tuple(str(row[f"Incorrect Answer {number}"]) for number in (1, 2, 3))
    return BenchmarkItem(suite, "", (row["Question"],), (str(row["Correct Answer"]), *options))


def _musr(suite: str, row: Mapping[str, Any]) -> BenchmarkItem:
    return BenchmarkItem(suite, "", (f"{row['narrative']}\n{row['question']}",))


def _ifeval(suite: str, row: Mapping[str, Any]) -> BenchmarkItem:
    return BenchmarkItem(suite, _id(row, "key"), (row["prompt"],))


def _mixeval(suite: str, row: Mapping[str, Any]) -> BenchmarkItem:
    prompt = "\n".join(text for text in (row.get("context"), row["prompt"]) if text)
    return BenchmarkItem(suite, f"{row['problem_type']}/{row['id']}", (prompt,), tuple(row.get("options") or ()))


_SUITES: Mapping[str, _Suite] = {
    "mt_bench": _Suite(("mt_bench/question",), ("mt_bench/mini/question.jsonl",), _mt_bench),
    "alpaca_eval": _Suite(("alpaca_eval/baseline",), ("alpaca_eval/mini/baseline.json",), _plain("instruction")),
    "mixeval": _Suite(
        ("mixeval/2024-06-01/mixeval/free_form", "mixeval/2024-06-01/mixeval/multiple_choice"),
        ("mixeval/mini/free_form.json", "mixeval/mini/multiple_choice.json"),
        _mixeval,
    ),
    "mixeval_hard": _Suite(
        ("mixeval/2024-06-01/mixeval_hard/free_form", "mixeval/2024-06-01/mixeval_hard/multiple_choice"), (), _mixeval
    ),
    "bbh": _Suite(("openllm/bbh",), ("openllm/mini/mini_bbh.jsonl",), _plain("input")),
    "gpqa": _Suite(("openllm/gpqa",), ("openllm/mini/mini_gpqa.jsonl",), _gpqa),
    "math": _Suite(("openllm/math",), ("openllm/mini/mini_math.jsonl",), _plain("problem")),
    "musr": _Suite(("openllm/musr",), ("openllm/mini/mini_musr.jsonl",), _musr),
    "ifeval": _Suite(("openllm/ifeval",), ("openllm/mini/mini_ifeval.jsonl",), _ifeval),
    "mmlu_pro": _Suite(("openllm/mmlu_pro",), ("openllm/mini/mini_mmlu_pro.jsonl",), _choices),
}

SUITES: tuple[str, ...] = tuple(_SUITES)
"""The names under which contamination is counted: Open LLM's parts each stand for themselves."""


def load_benchmarks(data: DataKind = "full", suites: Sequence[str] = SUITES) -> Benchmarks:
    """Read the prompts of the suites whose data are on this machine; the others are named in ``missing``.

    Nothing is downloaded: ``evalsuite data pull`` does that. An item's id is its benchmark's own where
    it has one, else its place in the pinned rows (from 0).
    """
    items: list[BenchmarkItem] = []
    pins: dict[str, Mapping[str, Any]] = {}
    missing: dict[str, str] = {}
    for name in suites:
        suite = _SUITES[name]
        try:
            rows, own_pins = _rows(suite, data)
        except DataError:
            missing[name] = _why_missing(suite)
            continue
        pins |= own_pins
        if not rows:
            continue
        for place, row in enumerate(rows):
            item = suite.read(name, row)
            items.append(item if item.id else BenchmarkItem(name, str(place), item.turns, item.options))
    return Benchmarks(tuple(items), pins, missing)


def is_here(suite: str, data: DataKind) -> bool:
    """Whether a suite's prompts can be read on this machine."""
    try:
        return bool(_rows(_SUITES[suite], data)[0])
    except DataError:
        return False


def _why_missing(suite: _Suite) -> str:
    """Say what to type, without the folders of this machine: the words stand in files that travel."""
    from evalsuite import assets
    from evalsuite.assets.asset import remedy

    return f"its data are not on this machine; {remedy(assets.PINS[suite.assets[0]])}"


def _rows(suite: _Suite, data: DataKind) -> tuple[list[dict[str, Any]], dict[str, Mapping[str, Any]]]:
    from evalsuite import assets
    from evalsuite.assets.find import locate
    from evalsuite.suites.mini_data import mini_rows

    rows: list[dict[str, Any]] = []
    pins: dict[str, Mapping[str, Any]] = {}
    if data == "mini":
        for filename in suite.mini:
            own, pin = mini_rows(Path(__file__).parents[1] / "suites" / filename)
            rows += own
            pins[f"mini/{filename}"] = pin
        return rows, pins
    for asset in suite.assets:
        found, own = locate(assets.PINS[asset], fetch=False, with_rows=True)
        # Few-shot examples stand behind the scored rows.
        rows += own[: found.rows]
        pins[asset] = {"sha256": found.sha256, "pinned": found.pinned}
    return rows, pins
