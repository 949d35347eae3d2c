"""Arena-Hard's data: questions, the baselines' answers and the judge's prompts, pinned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from evalsuite import assets
from evalsuite.assets.asset import Asset, InMirror, OnHub, Pin, by_name, remedy
from evalsuite.errors import DataError
from evalsuite.files import read_json
from evalsuite.suites.local_rows import RowsAndPins, mini_rows
from evalsuite.suites.options import DataKind
from evalsuite.validation import read_mapping

V2, V01 = "v2.0", "v0.1"
HARD, CREATIVE = "hard_prompt", "creative_writing"
BASELINES: Mapping[str, Mapping[str, str]] = {
    V2: {HARD: "o3-mini-2025-01-31", CREATIVE: "gemini-2.0-flash-001"},
    V01: {"arena-hard-v0.1": "gpt-4-0314"},
}
"""The model that every answer is compared with, by version and category (utils/judge_utils.py)."""

MINI = Path(__file__).parent / "mini" / "items.jsonl"

_REPO = "lmarena-ai/arena-hard-auto"
_asset = partial(Asset, suite="arena_hard", licence="Apache-2.0")


def _file(version: str, path: str) -> tuple[InMirror, OnHub]:
    name = f"arena-hard-{version}/{path}"
    return InMirror(f"arena_hard/{name}"), OnHub(_REPO, f"data/{name}")


def _answer_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Take the answer and its recorded length in tokens out of a row of model_answer/."""
    return {"uid": row["uid"], "model": row["model"], "answer": answer_text(row), "token_len": token_len(row)}


def answer_text(row: Mapping[str, Any]) -> Any:
    """Return the last turn of a row of model_answer/: its content is a text, or holds it under "answer"."""
    content = row["messages"][-1]["content"]
    return content.get("answer") if isinstance(content, Mapping) else content


def token_len(row: Mapping[str, Any]) -> int | None:
    """Return an answer's recorded length in tokens of GPT-4o, None where it is not recorded."""
    metadata = row.get("metadata")
    length = metadata.get("token_len") if isinstance(metadata, Mapping) else None
    return length if isinstance(length, int) and length > 0 else None


def _questions(version: str, rows: int, sha256: str) -> Asset:
    fields = ("uid", "category", "subcategory", "cluster", "prompt")
    locations = _file(version, "question.jsonl")
    return _asset(
        name=f"arena_hard/{version}/question", kind="rows", locations=locations, rows=rows, sha256=sha256, fields=fields
    )


def _answers(version: str, model: str, rows: int | None, sha256: str | None) -> Asset:
    return _asset(
        name=f"arena_hard/{version}/{model}",
        kind="rows",
        locations=_file(version, f"model_answer/{model}.jsonl"),
        rows=rows,
        sha256=sha256,
        fields=("uid", "model", "answer", "token_len"),
        normalize=_answer_row,
        remark="the baseline's answers",
    )


PROMPTS = _asset(
    name="arena_hard/judge_settings",
    kind="file",
    locations=(InMirror("arena_hard/judge_settings.json"),),
    sha256="0b7998f82ea73430f9684e3bfc0afd5d982271b90c1478298fb5b28a1b903a8d",
    remark="the judge's system prompts, from utils/judge_utils.py; the hub has none",
)
CONFIG = _asset(
    name="arena_hard/config",
    kind="file",
    locations=(InMirror("arena_hard/config/arena-hard-v2.0.yaml"),),
    sha256="ee68e5c6ac98a79720bf11014fc3f7fc3c3e5899153b3b08efe3db0e174215a0",
    remark="the template of a game; the hub has none",
)
ASSETS: Mapping[str, Asset] = by_name(
    _questions(V2, 750, "a856b31cfa5d9b01c6610d4d6f69d02940854176f89d5fce84c2c0a519e3179a"),
    _answers(V2, BASELINES[V2][HARD], 750, "136881cb20bf7078d0764106d27d61fc44223c614a6b768661dcd1747585149c"),
    _answers(V2, BASELINES[V2][CREATIVE], 750, None),
    _questions(V01, 500, "83b9a0e90d5ba7440ca9dd762d9d43b9524840c900a1a862b71efe66d14e55c5"),
    _answers(
        V01, BASELINES[V01]["arena-hard-v0.1"], 500, "e8df68977097760a8f285254e87896ad53753126d7b2da6d39c340239074c806"
    ),
    PROMPTS,
    CONFIG,
)


def question_asset(version: str) -> Asset:
    return ASSETS[f"arena_hard/{version}/question"]


def version_of(parts: Sequence[str]) -> str:
    return V01 if V01 in parts else V2


@dataclass(frozen=True, slots=True)
class JudgePrompts:
    """The published prompts: a system prompt per category, and the template of a game."""

    systems: Mapping[str, str]
    template: str


def published_prompts() -> tuple[JudgePrompts | None, Mapping[str, Pin]]:
    """Return the published prompts of the judge and their pins; none where the mirror does not hold them.

    Only their pinned content counts as published.
    """
    try:
        found = {asset.name: assets.find(asset) for asset in (PROMPTS, CONFIG)}
    except DataError:
        return None, {}
    if not all(one.pinned for one in found.values()):
        return None, {}
    settings, config = found[PROMPTS.name].path, found[CONFIG.name].path
    systems = {name: str(entry["system_prompt"]) for name, entry in read_json(settings)["settings"].items()}
    template = str(read_mapping(config, "config")["prompt_template"])
    return JudgePrompts(systems, template), {name: assets.data_pin(one) for name, one in found.items()}


def items_of(version: str, data: DataKind, *, fetch: bool = True) -> tuple[RowsAndPins, Mapping[str, str]]:
    """Return the questions with the baseline's answers, their pins, and the categories that are missing with reasons.

    A row has uid, category, subcategory, prompt, baseline, baseline_answer and baseline_tokens. Raises DataError when
    the questions, or the answers of the first category's baseline, are not available.
    """
    if data == "mini":
        rows, pin = mini_rows(MINI)
        return (rows, {"arena_hard/mini/items": pin}), {}
    questions, found = assets.records(question_asset(version), fetch=fetch)
    pins = {question_asset(version).name: assets.data_pin(found)}
    rows, missing = [], {}
    for number, (category, baseline) in enumerate(BASELINES[version].items()):
        asset = ASSETS[f"arena_hard/{version}/{baseline}"]
        try:
            answers, found = assets.records(asset, fetch=fetch)
        except DataError:
            if number == 0:
                raise
            missing[category] = f"no answers of its baseline {baseline} ({remedy(asset)})"
            continue
        pins[asset.name] = assets.data_pin(found)
        by_uid = {answer["uid"]: answer for answer in answers}
        rows += [_compared(row, baseline, by_uid) for row in questions if row["category"] == category]
    return (rows, pins), missing


def _compared(question: Mapping[str, Any], baseline: str, answers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    answer = answers.get(question["uid"])
    if answer is None or not isinstance(answer["answer"], str):
        raise DataError(f"{baseline} has no answer to {question['uid']}; pull its answers again")
    topic = question["subcategory"] or question["cluster"]
    return {
        "uid": question["uid"],
        "category": question["category"],
        "subcategory": topic,
        "prompt": question["prompt"],
        "baseline": baseline,
        "baseline_answer": answer["answer"],
        "baseline_tokens": answer["token_len"],
    }
