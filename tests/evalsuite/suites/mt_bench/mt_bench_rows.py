"""Rows of the mini data with scripted answers and ratings, and recorded judgments in FastChat's format."""

import json
from pathlib import Path

from evalsuite.records.rows import Draw, Header, Reply, Row, Verdict, replaced
from evalsuite.suites.mt_bench.suite import MtBench
from evalsuite.suites.options import SuiteOptions
from judges.types import Unscored

MT_BENCH = MtBench()
MINI = SuiteOptions(data="mini", seed=3)
PUBLISHED = SuiteOptions(data="mini", as_published=True)
CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
HEADER = Header("mt_bench", 5, options={"data": "mini"}, judges={"j": {"name": "my-judge"}})
GAP = Unscored("no_rating")
PAIRS = [(9, 8), (7, GAP), (5, 2), (GAP, GAP), (10, 4)]


def answered(first="one", second="two") -> Draw:
    return Draw(tuple(Reply(reply) if isinstance(reply, str) else Reply(unscored=reply) for reply in (first, second)))


def rated(*ratings: float | Unscored) -> tuple[Verdict, ...]:
    return tuple(
        Verdict("j", turn=turn, unscored=rating)
        if isinstance(rating, Unscored)
        else Verdict("j", float(rating), turn=turn, text=f"Rating: [[{rating}]]")
        for turn, rating in enumerate(ratings, 1)
    )


def rows_rated(pairs, draw=None) -> list[Row]:
    """One row per mini question; a pair of None is an unjudged question."""
    loaded = MT_BENCH.load(MINI)
    rows = [MT_BENCH.row(item, loaded) for item in loaded.items]
    judged = [
        replaced(row, draws=(draw or answered(),), verdicts=() if pair is None else rated(*pair))
        for row, pair in zip(rows, pairs, strict=True)
    ]
    return [MT_BENCH.mark(row, HEADER) for row in judged]


def judgment(question_id, turn, score, text="", **other):
    return {
        "question_id": question_id,
        "model": "vicuna-13b",
        "judge": ["gpt-4", "single-v1"],
        "user_prompt": "",
        "judgment": text,
        "score": score,
        "turn": turn,
        "tstamp": 1.0,
        **other,
    }


def write(path: Path, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
