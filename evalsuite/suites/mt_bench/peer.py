"""FastChat's MT-Bench files: writing them so that its own tools agree, and scoring recorded ones.

FastChat marks a failed answer as ``$ERROR$`` and a failed judgment by score -1, which its
``show_result`` drops. The exports keep these words because its tools need them, and add a field
``unscored`` with the reason (null where all is well), so that nothing of ours has to guess.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite import assets
from evalsuite.errors import DataError
from evalsuite.files import read_jsonl, write_jsonl
from evalsuite.serving.requests import Completion
from evalsuite.suites.base import Record, Scores, finite_number, recorded_reason
from evalsuite.suites.mini_data import mini_rows
from evalsuite.suites.mt_bench.scores import Judgment, score_judgments
from evalsuite.suites.mt_bench.turns import MINI, TURNS, MtBenchContext, judgments_of, messages_to_judge
from evalsuite.suites.patching import replaced
from judges.parse import parse_rating
from judges.pointwise import needs_reference, prompt_name
from judges.types import Rating, Unscored

ANSWER_FILE, JUDGMENT_FILE = "model_answer.jsonl", "model_judgment.jsonl"
FASTCHAT_FAILED_TEXT, FASTCHAT_FAILED_SCORE = "$ERROR$", -1
_RATED_WITHOUT_SUCCESS = ("no_rating", "rating_out_of_range")


def write_answers(records: Sequence[Record], folder: Path, *, model: str) -> None:
    """Write model_answer.jsonl (fields of FastChat's gen_model_answer.py, and ``unscored`` by turn)."""
    now = time.time()
    write_jsonl(folder / ANSWER_FILE, (_answer_row(record, model, now) for record in records))


def write_judgments(
    records: Sequence[Record], context: MtBenchContext, folder: Path, *, model: str, judge: str
) -> None:
    """Write model_judgment.jsonl (fields of FastChat's play_a_match_single, ``category`` and ``unscored``)."""
    now = time.time()
    rows = [
        _judgment_row(record, judgment, context, now) | {"model": model, "judge": [judge, _prompt_of(record, judgment)]}
        for record in records
        for judgment in judgments_of(record)
    ]
    write_jsonl(folder / JUDGMENT_FILE, rows)


def score_judgment_file(path: Path, *, as_published: bool = False) -> Scores:
    """Score a model_judgment.jsonl, or the folder that holds one.

    The file must be about one model and one judge (their prompts may differ). Ours: the rating is read
    again from the row's ``judgment`` with our parser; a score that only the published rule finds in the
    text ("see [1]. Rating: 7", scored 1) is unscored, and a row whose score stands in no rule's reading
    of its text keeps it if it lies in 1-10, else it is unscored. Rows with our own ``unscored`` field are
    taken at their word. A question that lacks a turn which others have counts as
    ``recorded_failure``. ``as_published``: FastChat's own ``show_result`` computes the means (it drops
    -1, counts 11 as 11 and counts what is there).

    Raises DataError with the line or the names that are at fault.
    """
    path = path / JUDGMENT_FILE if path.is_dir() else path
    rows = _checked(read_jsonl(path), path)
    categories = _categories(rows)
    judgments = [
        Judgment(
            _storable(str(row["question_id"])),
            _category(row) or categories.get(str(row["question_id"])),
            int(row["turn"]),
            _published_rating(row) if as_published else recorded_rating(row),
        )
        for row in rows
    ]
    if as_published:
        return score_judgments(judgments) | fastchat_means(path)
    return score_judgments([*judgments, *_missing(judgments)])


def recorded_rating(row: Mapping[str, Any]) -> Rating | Unscored:
    """Read one recorded row's rating; see :func:`score_judgment_file` for the rule."""
    score = float(row["score"])
    text = row["judgment"] if isinstance(row.get("judgment"), str) else ""
    if row.get("unscored") is not None:
        return recorded_reason(row["unscored"])
    if "unscored" in row and 1 <= score <= 10:
        return Rating(score, text)
    if text.strip() and text != FASTCHAT_FAILED_TEXT:
        read = parse_rating(text)
        settled = isinstance(read, Rating) or read.reason == "rating_out_of_range" or score == FASTCHAT_FAILED_SCORE
        # A score that only the published rule reads from the text is a footnote, not a rating.
        published = parse_rating(text, as_published=True)
        if settled or (isinstance(published, Rating) and published.value == score):
            return read
    if score == FASTCHAT_FAILED_SCORE:
        return Unscored("recorded_failure", "score -1")
    return Rating(score, text) if 1 <= score <= 10 else Unscored("rating_out_of_range", f"score {score:g}")


def fastchat_means(path: Path) -> dict[str, float | None]:
    """Let FastChat's ``show_result`` compute score, turn_1 and turn_2 of a file with one model.

    Its function prints its tables and returns nothing, so ``print`` is replaced in that one
    module and receives the tables themselves, unrounded. Source: fschat 0.2.36,
    fastchat/llm_judge/show_result.py (display_result_single).
    """
    from argparse import Namespace

    import pandas as pd
    from fastchat.llm_judge import show_result

    shown: list[Any] = []
    arguments = Namespace(bench_name="mt_bench", input_file=str(path), judge_model=None, model_list=None)
    with replaced(show_result, print=lambda *values: shown.extend(values)):
        show_result.display_result_single(arguments)
    tables = [value for value in shown if isinstance(value, pd.DataFrame)]
    means = [float(table["score"].iloc[0]) if len(table) else None for table in tables]
    return dict(zip(("turn_1", "turn_2", "score"), means, strict=True))


def _answer_row(record: Record, model: str, now: float) -> dict[str, Any]:
    replies = record.answer.turns if record.answer is not None else (Unscored("no_answer"),) * 2
    texts = [reply.text if isinstance(reply, Completion) else FASTCHAT_FAILED_TEXT for reply in replies]
    identity = "\x1f".join([record.item.id, model, *texts]).encode("utf-8", "surrogatepass")
    return {
        "question_id": record.item.data["question_id"],
        "answer_id": hashlib.sha256(identity).hexdigest()[:22],
        "model_id": model,
        "choices": [{"index": 0, "turns": texts}],
        "tstamp": now,
        "unscored": [reply.reason if isinstance(reply, Unscored) else None for reply in replies],
    }


def _prompt_of(record: Record, judgment: Judgment) -> str:
    return prompt_name(
        turn=1 if judgment.turn == 1 else 2, with_reference=needs_reference(record.item.data["category"])
    )


def _judgment_row(record: Record, judgment: Judgment, context: MtBenchContext, now: float) -> dict[str, Any]:
    rating, turn = judgment.rating, TURNS[judgment.turn - 1]
    answered = record.answer is not None and all(isinstance(reply, Completion) for reply in record.answer.turns[:turn])
    if isinstance(rating, Rating):
        text, score = rating.text, int(rating.value) if rating.value.is_integer() else rating.value
    else:
        text = rating.detail if rating.reason in _RATED_WITHOUT_SUCCESS else FASTCHAT_FAILED_TEXT
        score = FASTCHAT_FAILED_SCORE
    return {
        "question_id": record.item.data["question_id"],
        "user_prompt": messages_to_judge(record.item, record.answer, turn, context)[-1].content if answered else None,
        "judgment": text,
        "score": score,
        "turn": judgment.turn,
        "tstamp": now,
        "category": judgment.category,
        "unscored": rating.reason if isinstance(rating, Unscored) else None,
    }


def _checked(rows: Sequence[Mapping[str, Any]], path: Path) -> Sequence[Mapping[str, Any]]:
    """Refuse a file that cannot be scored as one model judged by one judge."""
    if not rows:
        raise DataError(f"{path} holds no judgments; expected FastChat's {JUDGMENT_FILE}, one JSON object a line")
    seen: set[tuple[str, int]] = set()
    for number, row in enumerate(rows, 1):
        lacking = [key for key in ("question_id", "model", "judge", "score", "turn") if key not in row]
        if lacking:
            raise DataError(f"{path} judgment {number} has no {lacking[0]!r}; expected FastChat's {JUDGMENT_FILE}")
        if row["turn"] not in TURNS or finite_number(row["score"]) is None:
            raise DataError(
                f"{path} judgment {number} has turn {row['turn']!r} and score {row['score']!r}; "
                "expected turn 1 or 2 and a number"
            )
    _single("model", [str(row["model"]) for row in rows], path)
    _single("judge", [_judge_name(row["judge"]) for row in rows], path)
    for row in rows:
        key = (str(row["question_id"]), row["turn"])
        if key in seen:
            raise DataError(
                f"{path} judges question {key[0]} turn {key[1]} twice; keep one judgment of each turn in the file"
            )
        seen.add(key)
    return rows


def _single(what: str, values: Sequence[str], path: Path) -> None:
    names = sorted(set(values))
    if len(names) > 1:
        raise DataError(
            f"{path} mixes {len(names)} {what}s ({', '.join(names)}); expected one: "
            f"put the lines of one {what} into a file of their own, e.g. with grep '\"{names[0]}\"'"
        )


def _judge_name(judge: Any) -> str:
    """Name the judge's model; FastChat writes [model, prompt name]."""
    return str(judge[0]) if isinstance(judge, list) and judge else str(judge)


def _category(row: Mapping[str, Any]) -> str | None:
    category = row.get("category")
    return _storable(category) if isinstance(category, str) else None


def _storable(text: str) -> str:
    """Spell half of a surrogate pair out: the tables that figures are computed with cannot hold it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _categories(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Look the rows' categories up by question id, where the questions are on this machine."""
    if all(_category(row) for row in rows):
        return {}
    questions = mini_rows(MINI / "question.jsonl")[0]
    known = {str(question["question_id"]): str(question["category"]) for question in questions}
    if any(str(row["question_id"]) not in known for row in rows):
        try:
            questions = assets.records("mt_bench/question", fetch=False)[0]
        except DataError:
            # Categories are a detail of the figures; the file's own scores need no asset.
            return known
        known |= {str(question["question_id"]): str(question["category"]) for question in questions}
    return known


def _missing(judgments: Sequence[Judgment]) -> list[Judgment]:
    """Name the turns that a question lacks although other questions have them."""
    turns = {judgment.turn for judgment in judgments}
    have = {(judgment.question_id, judgment.turn) for judgment in judgments}
    categories = {judgment.question_id: judgment.category for judgment in judgments}
    absent = Unscored("recorded_failure", "the file has no judgment of this turn")
    return [
        Judgment(question_id, category, turn, absent)
        for question_id, category in categories.items()
        for turn in sorted(turns)
        if (question_id, turn) not in have
    ]


def _published_rating(row: Mapping[str, Any]) -> Rating | Unscored:
    score = float(row["score"])
    if score == FASTCHAT_FAILED_SCORE:
        return Unscored("recorded_failure", "score -1")
    return Rating(score, str(row.get("judgment") or ""))
