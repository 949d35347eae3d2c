"""Arena-Hard's own files: model_answer/ and model_judgment/, read into rows and written from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from evalsuite.errors import DataError
from evalsuite.files import read_objects, write_jsonl
from evalsuite.fingerprint import text_sha256
from evalsuite.records.rows import Draw, Reply, Row, Verdict
from evalsuite.suites import peer_files
from evalsuite.suites.arena_hard.assets import CREATIVE, HARD, answer_text, items_of, token_len, version_of
from evalsuite.suites.base import answer_of
from evalsuite.suites.games import ORDERS, game_verdicts
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.peer_files import Rows
from evalsuite.suites.types import Recorded
from judges.types import Message, Unscored

JUDGMENT_FILE, ANSWER_FILE = "model_judgment.jsonl", "model_answer.jsonl"
_EXPECTED = "expected JSON lines of arena-hard-auto's model_answer/ or model_judgment/"


class _Turn(msgspec.Struct):
    role: str
    content: Any


class _Answer(msgspec.Struct):
    uid: str
    model: str
    messages: list[_Turn]


class _Game(msgspec.Struct):
    score: str | None


class _Judgment(msgspec.Struct):
    uid: str
    model: str
    judge: str
    games: list[_Game | None]


def read_recorded(path: Path, options: SuiteOptions, model: str | None, key: str) -> Recorded:
    """Read a judgment file with the answers beside it, or an unjudged answer file, in the file's order.

    ``path`` is a file, or the folder that holds it; one with several judges needs ``options.annotator``. The answers to
    model_judgment/JUDGE/MODEL.jsonl are looked for in model_answer/MODEL.jsonl. Prompts and the baseline's answers
    come from the pinned data where they are on this
    machine. Raises DataError naming the row, the models or the question at fault, UsageError for an unknown ``model``.
    """
    judgments, answers = read_files(path, model, options.annotator)
    judge = str(judgments[0]["judge"]) if judgments else None
    known = _known_items(options)
    by_uid = {str(row["uid"]): row for row in answers}
    recorded = judgments or answers
    if known and not any(str(row["uid"]) in known for row in recorded):
        raise DataError(
            f"{path} has none of the questions of Arena-Hard {version_of(options.parts)}; "
            "give arena_hard for v2.0, arena_hard:v0.1 for v0.1"
        )
    rows = []
    for row in recorded:
        uid = str(row["uid"])
        item = known.get(uid, {"uid": uid, "category": row.get("category")})
        rows.append(_row(item, by_uid.get(uid), row if judgments else None, judge))
    return peer_files.recorded_by(judge, key, rows, options)


def read_files(path: Path, model: str | None, judge: str | None = None) -> tuple[Rows, Rows]:
    """Return one judge's judgments of one model and its answers, as they are recorded."""
    file = peer_files.file_of(path, JUDGMENT_FILE, ANSWER_FILE)
    rows = [_named(row) for row in read_objects(file)]
    if not rows:
        raise DataError(f"{file} has no rows; {_EXPECTED}")
    if "games" not in rows[0]:
        return [], _checked(rows, file, model, _Answer)
    of_judge = peer_files.rows_of_judge(rows, [str(row.get("judge") or "") for row in rows], judge, file)
    judgments = _checked(of_judge, file, model, _Judgment)
    name = str(judgments[0]["model"])
    beside = (file.with_name(ANSWER_FILE), file.parent.parent.parent / "model_answer" / file.name)
    answers = next(([_named(row) for row in read_objects(other)] for other in beside if other.is_file()), [])
    own = [row for row in answers if row.get("model") == name]
    return judgments, _checked(own, beside[0], None, _Answer) if own else []


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give rows of the first releases, which call it question_id, the name that they have now."""
    return {**row, "uid": row.get("uid", row.get("question_id"))}


def _checked(rows: Rows, path: Path, model: str | None, shape: type[msgspec.Struct]) -> Rows:
    for number, row in enumerate(rows, 1):
        peer_files.conform(row, shape, f"{path} line {number}", _EXPECTED)
        if "messages" in row and (not row["messages"] or not isinstance(answer_text(row), str | None)):
            raise DataError(f"{path} line {number}: the last message has no text; {_EXPECTED}")
    chosen = peer_files.rows_of_model(rows, "model", model, path, "score one file per model, or name the model")
    peer_files.refuse_duplicates((f"uid {row['uid']}" for row in chosen), path, "keep one row per question")
    return chosen


def _known_items(options: SuiteOptions) -> Mapping[str, Mapping[str, Any]]:
    """Return the pinned questions with their baseline's answers by uid; none where they are not on this machine."""
    try:
        (rows, _), _ = items_of(version_of(options.parts), options.data, fetch=False)
    except DataError:
        # The recorded verdicts can be counted without them; style control cannot, and says so.
        return {}
    return {row["uid"]: row for row in rows}


def _row(
    item: Mapping[str, Any], answer: Mapping[str, Any] | None, judgment: Mapping[str, Any] | None, judge: str | None
) -> Row:
    text = None if answer is None else answer_text(answer)
    reply = Reply(unscored=Unscored("no_answer")) if text is None else Reply(text)
    facts = {
        "category": item.get("subcategory"),
        "reference": [item["baseline_answer"]] if "baseline_answer" in item else None,
        "baseline": item.get("baseline") or (judgment or {}).get("baseline"),
        "token_len": _lengths(item, answer),
    }
    prompt = item.get("prompt") or _prompt_of(answer)
    return Row(
        str(item["uid"]),
        part=str(item["category"]) if item.get("category") in (HARD, CREATIVE) else "",
        content=text_sha256(f"{item.get('prompt', '')}\x1f{item.get('baseline_answer', '')}")[:16],
        prompt=(Message("user", prompt),) if prompt else (),
        facts={name: value for name, value in facts.items() if value is not None},
        draws=(Draw((reply,)),),
        verdicts=game_verdicts(judgment["games"], judge or "") if judgment is not None else (),
    )


def _lengths(item: Mapping[str, Any], answer: Mapping[str, Any] | None) -> list[int] | None:
    """Return both recorded lengths, which were counted by the same tokenizer; None where either is missing."""
    own, other = (None if answer is None else token_len(answer)), item.get("baseline_tokens")
    return [own, other] if own is not None and other is not None else None


def _prompt_of(answer: Mapping[str, Any] | None) -> str:
    first = (answer or {}).get("messages", [{}])[0].get("content")
    return first if isinstance(first, str) else ""


def write_files(rows: Sequence[Row], folder: Path, *, model: str, judge: str | None) -> None:
    """Write model_answer.jsonl and, where the judge gave labels, model_judgment.jsonl.

    A question without an answer is left out of the answers, a game without a label has the score null, both as the
    original writes them. ``metadata`` has the recorded length, else counts words and punctuation marks instead of
    GPT-4o's tokens.
    """
    answers = [_answer(row, text, model) for row in rows if (text := answer_of(row)) is not None]
    write_jsonl(folder / ANSWER_FILE, answers)
    labels = [verdict.value for row in rows for verdict in row.verdicts]
    if judge is not None and not any(isinstance(label, float) for label in labels):
        write_jsonl(folder / JUDGMENT_FILE, [_judgment(row, model, judge) for row in rows if row.verdicts])


def _answer(row: Row, text: str, model: str) -> dict[str, Any]:
    from judges.style_control import style_counts

    counts = style_counts(text)
    prompt = row.prompt[0].content if row.prompt else ""
    return {
        "uid": row.item_id,
        "ans_id": text_sha256(f"{model}\x1f{text}")[:22],
        "model": model,
        "messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": {"answer": text}}],
        "metadata": {
            "token_len": (row.facts.get("token_len") or [counts.length])[0],
            "header_count": counts.headers,
            "list_count": counts.lists,
            "bold_count": counts.bold,
        },
    }


def _judgment(row: Row, model: str, judge: str) -> dict[str, Any]:
    by_order = {verdict.order: verdict for verdict in row.verdicts}
    games = [by_order.get(order, Verdict()) for order in ORDERS]
    return {
        "uid": row.item_id,
        "category": row.part or "arena-hard-v0.1",
        "judge": judge,
        "model": model,
        "baseline": row.facts.get("baseline"),
        "games": [{"score": game.value, "judgment": {"answer": game.text}} for game in games],
    }
