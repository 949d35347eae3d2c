"""Small results folders for the report's tests: figures chosen by hand, in the files of a run.

Items are written by the real writer of records; ``write_exports`` writes them as version 0.1 did instead.
"""

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
from msgspec.structs import replace

from evalsuite.files import write_json
from evalsuite.records.files import records_path, write_records
from evalsuite.records.rows import Draw, Header, Reply, Row, Verdict
from evalsuite.report import item_pages, packing
from evalsuite.report.build import Report, build_report
from evalsuite.results.averages import averages
from evalsuite.suites.registry import suite_of_key
from judges.types import Message, Unscored

JUDGE = {"name": "judge-x", "fingerprint": "f" * 64, "methods": {"mt_bench": "single_answer_rating_1_to_10"}}
JUDGE_KEY = "judge-x-ffffffff"


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


def header_of(folder: Path, key: str, rows: Sequence[Row]) -> Header:
    """Return the header of a model's rows: the judge of its scores.json where there are verdicts."""
    judge = json.loads((folder / "scores.json").read_text("utf-8"))["judge"]
    keys = {verdict.judge for row in rows for verdict in row.verdicts}
    described = {name: judge[name] for name in ("name", "fingerprint")} if judge else {}
    return Header(key, len(rows), judges=dict.fromkeys(keys, described))


def write_rows(folder: Path, key: str, rows: Sequence[Row], **header: Any) -> Path:
    """Write the records of one suite of a model, unmarked."""
    path = records_path(folder, key)
    write_records(path, replace(header_of(folder, key, rows), **header), rows)
    return path


def write_exports(folder: Path, key: str, rows: Sequence[Row]) -> None:
    """Write the benchmark's own files and no records, as version 0.1 did."""
    suite = suite_of_key(key)
    assert suite is not None
    (folder / key).mkdir(parents=True)
    suite.write_peer(header_of(folder, key, rows), rows, folder / key, model="m", judge=JUDGE["name"])


def free_form_row(item: str, answer: str, score: float | None, *, echo: bool = False) -> Row:
    """Return an item of MixEval's free-form split; a score of None is an unscored item.

    ``echo`` repeats the answer in the question and in the judgment.
    """
    question = f"Question {item}?" + answer * echo
    unscored = None if score is not None else Unscored("no_rating")
    return Row(
        f"free_form/{item}",
        "free_form",
        prompt=(Message("user", question),),
        facts={
            "problem_type": "free-form",
            "prompt": question,
            "target": ["right"],
            "benchmark_name": "TriviaQA",
            "context": None,
        },
        draws=(Draw((Reply(answer),)),),
        verdicts=(Verdict(JUDGE_KEY, score, text=answer if echo else "because", unscored=unscored),),
    )


def write_free_form(folder: Path, answers: Sequence[tuple[str, str, float | None]], *, echo: bool = False) -> None:
    """Write MixEval's free-form split: (id, answer, the judge's score or None for an unscored item)."""
    write_rows(folder, "mixeval", [free_form_row(*answer, echo=echo) for answer in answers])


def write_many_pages(results: Path, monkeypatch: pytest.MonkeyPatch, count: int = 40) -> Report:
    """Build a report whose answers, which do not compress, need several pages for one part."""
    monkeypatch.setattr(packing, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(item_pages, "PAGE_BYTES", 60_000)
    folder = write_model(results, "m", {"mixeval": mixeval_scores(0.5, n=count)})
    noise = random.Random(0)
    write_free_form(folder, [(str(n), noise.randbytes(4000).hex(), 0.5) for n in range(count)])
    return build_report(results, limit_bytes=1)


def mt_bench_row(turns: Sequence[str], judgment: str = "Rating: [[7]]", score: float = 7) -> Row:
    """Return question 9001 with one rating for each answer."""
    verdicts = [Verdict(JUDGE_KEY, float(score), turn, text=judgment) for turn in range(1, len(turns) + 1)]
    return Row(
        "9001",
        prompt=tuple(Message("user", f"Question {turn}?") for turn in range(1, len(turns) + 1)),
        facts={"category": "writing"},
        draws=(Draw(tuple(Reply(text) for text in turns)),),
        verdicts=tuple(verdicts),
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
