"""FastChat's MT-Bench files: read into rows, and written so that its own tools agree.

FastChat marks a failed answer with ``$ERROR$`` and a failed judgment with score -1, which its ``show_result`` drops.
The exports keep both because its tools need them, and add ``unscored`` with the reason (null if there is none).
"""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from evalsuite.errors import DataError
from evalsuite.files import plain_name, read_objects, write_jsonl
from evalsuite.fingerprint import text_sha256
from evalsuite.records.rows import Draw, Header, Reply, Row, Verdict
from evalsuite.suites import peer_files
from evalsuite.suites.base import verdict_on
from evalsuite.suites.judging import JUDGED_WITHOUT_VALUE, verdict_of
from evalsuite.suites.mt_bench.assets import known_questions, read_rows
from evalsuite.suites.mt_bench.scores import TURNS, Turn, turns_of
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.patching import patched
from evalsuite.suites.peer_files import Rows, finite_number
from evalsuite.suites.types import Recorded
from evalsuite.text import well_formed
from judges.parse import contradicts_itself, parse_rating
from judges.pointwise import judge_messages, needs_reference, prompt_name
from judges.types import Message, Rating, Unscored

log = logging.getLogger("evalsuite")

ANSWER_FILE, JUDGMENT_FILE = "model_answer.jsonl", "model_judgment.jsonl"
FASTCHAT_FAILED_TEXT, FASTCHAT_FAILED_SCORE = "$ERROR$", -1


class _Judgment(msgspec.Struct):
    question_id: Any
    model: Any
    judge: Any
    score: float | None
    turn: Literal[1, 2]


class _Choice(msgspec.Struct):
    turns: list[Any]


class _Answer(msgspec.Struct):
    question_id: Any
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]


def read_recorded(path: Path, options: SuiteOptions, model: str | None = None) -> Recorded:
    """Read a model_judgment.jsonl with the answers beside it, or unjudged answers.

    ``path`` is a file, or the folder that holds it. The answers are those of model_answer.jsonl, or of
    ``../model_answer/<model>.jsonl`` as FastChat keeps them; without these, what the judge was shown. A file with
    several models needs ``model``, and one with several judges ``options.annotator``. A turn that was judged again
    counts as in FastChat's ``show_result``: failed judgments are left out where another one has a score, and each
    of several scores counts, as a verdict with its own ``repeat``. A question that lacks a turn which others have
    counts as ``recorded_failure``. ``as_published`` takes the recorded scores as they are, except -1.

    Raises DataError with the row or the names that are at fault, and UsageError for an unknown ``model``.
    """
    judgments, answers = read_files(path, model, options.annotator)
    published = options.as_published
    by_question: dict[str, dict[int, list[Mapping[str, Any]]]] = {}
    for judgment in _counted(judgments, path):
        by_question.setdefault(question_id_of(judgment), {}).setdefault(judgment["turn"], []).append(judgment)
    draws = {question_id_of(answer): _draw(answer) for answer in answers}
    ids = list(dict.fromkeys([*by_question, *draws]))
    questions = known_questions(ids)
    judge = judge_name(judgments[0]) if judgments else None
    turns = sorted({judgment["turn"] for judgment in judgments})
    rows = []
    for question_id in ids:
        judged, question = by_question.get(question_id, {}), questions.get(question_id)
        prompts = {turn: text_of(same[0].get("user_prompt")) for turn, same in judged.items()}
        draw = draws.get(question_id) or shown_answers(prompts)
        judged_turns = [turn for turn in turns if judged and (turn in judged or not published)]
        rows.append(
            Row(
                question_id,
                prompt=tuple(Message("user", str(text)) for text in question["turns"][:2]) if question else (),
                facts=_facts(question, judged, prompts),
                draws=(draw,) if draw.turns else (),
                verdicts=tuple(
                    _verdict(judgment, turn, repeat, judge or "", as_published=published)
                    for turn in judged_turns
                    for repeat, judgment in enumerate(judged.get(turn, [None]))
                ),
            )
        )
    _note_other_scores(rows, path)
    return peer_files.recorded_by(judge, "mt_bench", rows, options)


def _note_other_scores(rows: Sequence[Row], path: Path) -> None:
    """Say how many recorded scores are not what their judgment's text says, which is what counts."""
    recorded = [one for row in rows for one in row.verdicts if one.recorded not in (None, FASTCHAT_FAILED_SCORE)]
    if n := sum(one.value != one.recorded for one in recorded):
        log.warning(
            "%s: the text of %d of %d judgments gives another rating than their score, or none; the text counts "
            "(with --as-published the score)",
            path,
            n,
            len(recorded),
        )


def recorded_rating(judgment: Mapping[str, Any], *, as_published: bool = False) -> Rating | Unscored:
    """Read the rating of a recorded judgment, by the one rule for figures, pages and analyses.

    The rating is parsed again from the text with our parser. A score that only the published rule finds in the text
    ("see [1]. Rating: 7", scored 1) is unscored, and so is one whose text contradicts itself. A score that neither rule
    finds in the text stands if it is within 1-10. Rows that have our own field ``unscored`` are not parsed again.
    A score that is null or not finite is unscored. ``as_published`` takes any score but -1.
    """
    score, text = finite_number(judgment["score"]), text_of(judgment.get("judgment"))
    if score is None:
        return Unscored("recorded_failure", f"score {judgment['score']}")
    if not as_published:
        if judgment.get("unscored") is not None:
            return peer_files.recorded_reason(judgment["unscored"], judgment.get(peer_files.DETAIL))
        if "unscored" in judgment and 1 <= score <= 10:
            return Rating(score, text)
        if text.strip() and text != FASTCHAT_FAILED_TEXT:
            parsed, published = parse_rating(text), parse_rating(text, as_published=True)
            is_settled = isinstance(parsed, Rating) or parsed.reason == "rating_out_of_range"
            is_footnote = isinstance(published, Rating) and published.value == score
            if is_settled or is_footnote or score == FASTCHAT_FAILED_SCORE or contradicts_itself(text, "rating"):
                return parsed
    if score == FASTCHAT_FAILED_SCORE:
        return Unscored("recorded_failure", "score -1")
    in_range = as_published or 1 <= score <= 10
    return Rating(score, text) if in_range else Unscored("rating_out_of_range", f"score {score:g}")


def fastchat_means(judgments: Rows) -> dict[str, float | None]:
    """Let FastChat's ``show_result`` compute score, turn_1 and turn_2 of one model's judgments.

    The function prints its tables and returns nothing, so ``print`` is replaced in its module and receives the
    tables themselves, unrounded. Source: fschat 0.2.36, fastchat/llm_judge/show_result.py (display_result_single).
    """
    from argparse import Namespace

    import pandas as pd
    from fastchat.llm_judge import show_result

    printed: list[Any] = []
    # A score that is not finite is null: both are NaN in its table.
    shown = [
        {**{name: row[name] for name in ("model", "turn")}, "score": finite_number(row["score"])} for row in judgments
    ]
    file = io.StringIO("\n".join(map(json.dumps, shown)))
    arguments = Namespace(bench_name="mt_bench", input_file=file, judge_model=None, model_list=None)
    with patched(show_result, print=lambda *values: printed.extend(values)):
        show_result.display_result_single(arguments)
    tables = [value for value in printed if isinstance(value, pd.DataFrame)]
    means = [finite_number(float(table["score"].iloc[0])) if len(table) else None for table in tables]
    return dict(zip(("turn_1", "turn_2", "score"), means, strict=True))


def read_files(path: Path, model: str | None, judge: str | None = None) -> tuple[Rows, Rows]:
    """Return one judge's judgments of one model and its answers, as they are recorded."""
    file = peer_files.file_of(path, JUDGMENT_FILE, ANSWER_FILE)
    rows: Rows = read_objects(file)
    if rows and "choices" in rows[0]:
        return [], _checked_answers(peer_files.rows_of_model(rows, "model_id", model, file, "give a file of one"), file)
    expected = f"expected FastChat's {JUDGMENT_FILE}, one JSON object per line"
    if not rows:
        raise DataError(f"{file} has no judgments; {expected}")
    rows = peer_files.rows_of_model(rows, "model", model, file, "keep the lines of one model, or name it")
    for number, row in enumerate(rows, 1):
        peer_files.conform(row, _Judgment, f"{file} judgment {number}", expected)
    rows = peer_files.rows_of_judge(rows, list(map(judge_name, rows)), judge, file)
    name = str(rows[0]["model"])
    # A model's name may hold a slash, so that its file is searched for instead of opened.
    found = (file.parent.parent / "model_answer").glob("*.json*")
    shared = [other for other in found if Path(plain_name(other)).stem == name]
    for answer_file in (*peer_files.forms_of(file.with_name(ANSWER_FILE)), *shared):
        if answer_file.is_file():
            answers = [row for row in read_objects(answer_file) if str(row.get("model_id", name)) == name]
            return rows, _checked_answers(answers, answer_file)
    return rows, []


def _counted(judgments: Rows, path: Path) -> Rows:
    """Return the judgments that count, and say how many turns were judged again.

    Source: lm-sys/FastChat@0e6d3e4:fastchat/llm_judge/show_result.py drops the score -1, and pandas' mean drops NaN.
    """
    by_turn: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for judgment in judgments:
        by_turn.setdefault((question_id_of(judgment), judgment["turn"]), []).append(judgment)
    again = {turn: same for turn, same in by_turn.items() if len(same) > 1}
    if not again:
        return judgments
    for turn, same in again.items():
        scored = [one for one in same if finite_number(one["score"]) not in (None, FASTCHAT_FAILED_SCORE)]
        by_turn[turn] = scored or same[-1:]
    counted = [judgment for same in by_turn.values() for judgment in same]
    log.warning(
        "%s: %d of %d turns are judged more than once; as in FastChat's show_result, %d failed judgments are left out "
        "and every score counts (%d judgments)",
        path,
        len(again),
        len(by_turn),
        len(judgments) - len(counted),
        len(counted),
    )
    return counted


def _checked_answers(rows: Rows, path: Path) -> Rows:
    expected = "expected FastChat's format: 'question_id' and 'choices' with 'turns'"
    for number, row in enumerate(rows, 1):
        peer_files.conform(row, _Answer, f"{path} answer {number}", expected)
    return rows


def question_id_of(row: Mapping[str, Any]) -> str:
    return peer_files.id_text(row["question_id"])


def judge_name(judgment: Mapping[str, Any]) -> str:
    """Return the name of the judge's model, "" where it is not recorded; FastChat writes [model, prompt name]."""
    judge = judgment["judge"]
    judge = judge[0] if isinstance(judge, list) and judge else judge
    return str(judge) if judge else ""


def text_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def _facts(
    question: Mapping[str, Any] | None, judged: Mapping[int, Rows], prompts: Mapping[int, str]
) -> dict[str, Any]:
    """Return the category, and of an unknown question the prompts that the judge was shown."""
    recorded = [row["category"] for same in judged.values() for row in same if isinstance(row.get("category"), str)]
    category = well_formed(recorded[0]) if recorded else question["category"] if question else None
    facts: dict[str, Any] = {} if category is None else {"category": category}
    shown = {str(turn): text for turn, text in sorted(prompts.items()) if text}
    return facts if question or not shown else facts | {"judge_prompts": shown}


def _draw(answer: Mapping[str, Any]) -> Draw:
    choice, reasons = answer["choices"][0], answer.get("unscored")
    texts, thoughts = choice["turns"], choice.get("reasoning_content")
    replies = []
    known = (reasons, answer.get(peer_files.DETAIL), thoughts)
    columns = [column[: len(texts)] if isinstance(column, list) else () for column in known]
    for text, reason, words, thought in zip_longest(texts, *columns):
        answered = reason is None and isinstance(text, str) and text != FASTCHAT_FAILED_TEXT
        known_thought = thought if isinstance(thought, str) else None
        lost = peer_files.recorded_reason(reason, words)
        replies.append(Reply(text, known_thought) if answered else Reply(unscored=lost))
    return Draw(tuple(replies))


def shown_answers(prompts: Mapping[int, str], letter: str = "A", whose: str = "Assistant") -> Draw:
    """Read the answers from FastChat's judge prompts by turn; an empty draw for prompts of another form.

    ``letter`` names the assistant in conversations, ``whose`` the one of a first answer.
    """
    heading, title = f"### Assistant {letter}:\n", f"Assistant {letter}'s Conversation with User|>"
    starts = (f"<|The Start of {title}\n\n", heading)
    one = _between(prompts.get(1, ""), (f"[The Start of {whose}'s Answer]\n",), f"\n[The End of {whose}'s Answer]")
    both = _between(prompts.get(2, ""), starts, f"\n\n<|The End of {title}")
    texts = [] if one is None else [one]
    if both is not None:
        texts = texts or [both.partition("\n\n### User:\n")[0]]
        _, has_second, second = both.removeprefix(texts[0]).partition(f"\n\n{heading}")
        texts += [second] if has_second and both.startswith(texts[0]) else []
    return Draw(tuple(map(Reply, texts)))


def _between(text: str, starts: Sequence[str], end: str) -> str | None:
    """Return the text after the first of each of ``starts``, one behind the other, up to the last ``end``."""
    for start in starts:
        _, separator, text = text.partition(start)
        if not separator:
            return None
    inside, separator, _ = text.rpartition(end)
    return inside if separator else None


def _verdict(judgment: Mapping[str, Any] | None, turn: int, repeat: int, judge: str, *, as_published: bool) -> Verdict:
    if judgment is None:
        absent = Unscored("recorded_failure", "the file has no judgment of this turn")
        return Verdict(judge, turn=turn, unscored=absent)
    verdict = verdict_of(recorded_rating(judgment, as_published=as_published), turn)
    text = text_of(judgment.get("judgment"))
    text = "" if text == FASTCHAT_FAILED_TEXT else text
    recorded = finite_number(judgment["score"])
    return msgspec.structs.replace(verdict, judge=judge, repeat=repeat, text=text, recorded=recorded)


def write_files(header: Header, rows: Sequence[Row], folder: Path, *, model: str, judge: str | None) -> None:
    """Write FastChat's model_answer.jsonl and, with a judge, model_judgment.jsonl.

    The fields are those of gen_model_answer.py and play_a_match_single, and ``category`` and ``unscored``.
    The rows hold the verdicts of one judge.
    """
    now = time.time()
    write_jsonl(folder / ANSWER_FILE, (_answer_line(row, model, now) for row in rows))
    if judge is None:
        return
    try:
        data: Literal["full", "mini"] = "mini" if header.options.get("data") == "mini" else "full"
        prompts = {row["name"]: row for row in read_rows("judge_prompts", data, fetch=False)[0]}
    except DataError:
        # Without the prompts an export lacks ``user_prompt``, which no figure needs.
        prompts = {}
    lines = (_judgment_line(row, turn, model, judge, prompts, now) for row in rows for turn in turns_of(row))
    write_jsonl(folder / JUDGMENT_FILE, lines)


def _answer_line(row: Row, model: str, now: float) -> dict[str, Any]:
    replies = row.replies or (Reply(unscored=Unscored("no_answer")),) * len(TURNS)
    texts, details = _texts(replies), ["" if reply.unscored is None else reply.unscored.detail for reply in replies]
    return {
        "question_id": _recorded_id(row),
        "answer_id": text_sha256("\x1f".join([row.item_id, model, *texts]))[:22],
        "model_id": model,
        "choices": [_choice(0, replies), *(_choice(draw.repeat, draw.turns) for draw in row.draws[1:])],
        "tstamp": now,
        "unscored": [None if reply.unscored is None else reply.unscored.reason for reply in replies],
        **({peer_files.DETAIL: details} if any(details) else {}),
    }


def _choice(index: int, replies: Sequence[Reply]) -> dict[str, Any]:
    thoughts = [reply.thought for reply in replies]
    known = {"reasoning_content": thoughts} if any(thoughts) else {}
    return {"index": index, "turns": _texts(replies), **known}


def _texts(replies: Sequence[Reply]) -> list[str]:
    return [FASTCHAT_FAILED_TEXT if reply.text is None else reply.text for reply in replies]


def _judgment_line(
    row: Row, turn: Turn, model: str, judge: str, prompts: Mapping[str, Mapping[str, Any]], now: float
) -> dict[str, Any]:
    verdict, score, text = verdict_on(row, turn), float(FASTCHAT_FAILED_SCORE), FASTCHAT_FAILED_TEXT
    if isinstance(verdict.value, int | float):
        score, text = verdict.value, verdict.text
    elif verdict.unscored is not None and verdict.unscored.reason in JUDGED_WITHOUT_VALUE:
        text = verdict.text
    with_reference = needs_reference(str(row.facts.get("category")))
    return {
        "question_id": _recorded_id(row),
        "user_prompt": _user_prompt(row, turn, prompts),
        "judgment": text,
        "score": int(score) if float(score).is_integer() else score,
        "turn": turn,
        "tstamp": now,
        "category": row.facts.get("category"),
        **peer_files.written_reason(verdict.unscored),
        "model": model,
        "judge": [judge, prompt_name(turn=turn, with_reference=with_reference)],
    }


def _user_prompt(row: Row, turn: Turn, prompts: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return what the judge was shown of a turn; None where an answer or the data are missing."""
    shown = row.facts.get("judge_prompts", {})
    if str(turn) in shown:
        return str(shown[str(turn)])
    questions = [message.content for message in row.prompt or ()]
    answers = [reply.text for reply in row.replies[:turn] if reply.text is not None]
    reference = row.facts.get("reference")
    lacks_reference = reference is None and needs_reference(str(row.facts.get("category")))
    if not prompts or len(answers) < turn or len(questions) < turn or lacks_reference:
        return None
    return judge_messages(prompts, questions, answers, reference, turn=turn)[-1].content


def _recorded_id(row: Row) -> int | str:
    return int(row.item_id) if row.item_id.isdecimal() else row.item_id
