"""Small results folders for the report's tests: figures chosen by hand, in the files of a run."""

from __future__ import annotations

import base64
import json
import random
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from evalsuite.files import write_json, write_jsonl
from evalsuite.report import item_pages, packing
from evalsuite.report.build import Report, build_report
from evalsuite.results.folder import averages

JUDGE = {"name": "judge-x", "fingerprint": "f" * 64, "methods": {"mt_bench": "single_answer_rating_1_to_10"}}


def mixeval_scores(score: float | None, stderr: float | None = 0.01, n: int = 100, **more: Any) -> dict[str, Any]:
    return {"score": score, "stderr": stderr, "ci95": None, "n": n, "n_scored": n, "unscored": {}, **more}


def write_model(
    results: Path,
    name: str,
    suites: Mapping[str, Any],
    *,
    judge: Mapping[str, Any] | None = JUDGE,
    data: str = "full",
    limit: int | None = None,
    pins: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write scores.json and manifest.json of one model."""
    folder = results / f"{name.replace(' ', '_').replace('/', '_')}-{len(list(results.glob('*'))):08x}"
    model = {"name": name, "path": "/home/somebody/secret/ckpt", "fingerprint": "a" * 64, "dtype": "bfloat16"}
    scores = {
        "schema": 1,
        "model": {**model, "chat_template_sha256": None},
        "judge": judge,
        "data": data,
        "limit": limit,
    }
    scores |= {"suites": dict(suites), "average": averages(suites), "seconds": {"generate": 1.5}, "tokens": {}, **more}
    entries: dict[str, Any] = {suite: {"data_pins": {}, "options": dict(options or {})} for suite in suites}
    for asset, sha256 in (pins or {}).items():
        # An asset's name begins with its suite's.
        entry = entries.setdefault(asset.partition("/")[0], {"data_pins": {}})
        entry["data_pins"][asset] = {"sha256": sha256, "source": "hub", "pinned": True}
    manifest = {"schema": 1, "model": {**model, "training": training}, "suites": entries}
    write_json(folder / "scores.json", scores)
    write_json(folder / "manifest.json", manifest)
    return folder


def write_free_form(folder: Path, answers: Sequence[tuple[str, str, float | None]], *, echo: bool = False) -> None:
    """Write MixEval's free-form split: (id, answer, the judge's score or None for an unscored item).

    ``echo`` repeats the answer in the question and in the judge's words.
    """
    write_jsonl(
        folder / "mixeval" / "free_form.jsonl",
        (
            {
                "id": item,
                "problem_type": "free-form",
                "prompt": f"Question {item}?" + answer * echo,
                "target": ["right"],
            }
            | {
                "benchmark_name": "TriviaQA",
                "context": None,
                "response": answer,
                "judge_response": answer if echo else "because",
            }
            | {"judge_score": score, "unscored": None if score is not None else {"reason": "no_rating", "detail": ""}}
            for item, answer, score in answers
        ),
    )


def write_many_pages(results: Path, monkeypatch: pytest.MonkeyPatch, count: int = 40) -> Report:
    """Build a report whose answers, which do not compress, need several pages for one part."""
    monkeypatch.setattr(packing, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(item_pages, "PAGE_BYTES", 60_000)
    folder = write_model(results, "m", {"mixeval": mixeval_scores(0.5, n=count)})
    noise = random.Random(0)
    write_free_form(folder, [(str(n), noise.randbytes(4000).hex(), 0.5) for n in range(count)])
    return build_report(results, limit_bytes=1)


def write_mt_bench(folder: Path, turns: Sequence[str], judgment: str = "Rating: [[7]]", score: float = 7) -> None:
    write_jsonl(
        folder / "mt_bench" / "model_answer.jsonl",
        [
            {
                "question_id": 9001,
                "model_id": "m",
                "choices": [{"index": 0, "turns": list(turns)}],
                "unscored": [None, None],
            }
        ],
    )
    row = {"question_id": 9001, "user_prompt": "p", "judgment": judgment, "score": score, "category": "writing"}
    write_jsonl(
        folder / "mt_bench" / "model_judgment.jsonl",
        [{**row, "turn": turn, "unscored": None, "model": "m", "judge": ["judge-x", "single-v1"]} for turn in (1, 2)],
    )


def mt_bench_scores(score: float, stderr: float = 0.1) -> dict[str, Any]:
    return {"score": score, "stderr": stderr, "ci95": [score - 0.2, score + 0.2], "n": 2, "n_scored": 2} | {
        "unscored": {},
        "turn_1": score,
        "turn_2": score,
        "categories": {"writing": {"score": score, "stderr": stderr, "n": 2}},
    }


def unpack(page: str, block: str) -> bytes:
    """Unpack an embedded block of a page."""
    found = re.search(rf'<script type="application/octet-stream" id="{block}">([^<]*)</script>', page)
    assert found is not None
    return zlib.decompress(base64.b64decode(found[1]), wbits=-15)


def index_of(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(unpack(path.read_text(encoding="utf-8"), "index"))
    return document
