"""FastChat's files of the pairwise mode: a baseline's answers and judgments of pairs are read, judgments written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from evalsuite.errors import DataError, UsageError, unknown
from evalsuite.files import read_objects, write_jsonl
from evalsuite.records.rows import Header, Order, Row, Verdict
from evalsuite.suites import peer_files
from evalsuite.suites.mt_bench.assets import known_questions
from evalsuite.suites.mt_bench.peer import (
    ANSWER_FILE,
    FASTCHAT_FAILED_TEXT,
    judge_name,
    question_id_of,
    read_files,
    shown_answers,
    text_of,
)
from evalsuite.suites.mt_bench.scores import TURNS, Turn
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.peer_files import Rows
from evalsuite.suites.types import Recorded
from judges.fastchat_pair import PREFERENCES, pair_prompt_name, parse_winner
from judges.pointwise import needs_reference
from judges.types import Choice, Message, Unscored
from judges.verdicts import winner_of

PAIR_FILE = "model_pair.jsonl"
_FIRST, _SECOND = "model_1", "model_2"
_Winner = Literal["model_1", "model_2", "tie", "error"]
_GAMES: tuple[tuple[str, str], tuple[str, str]] = (("g1", _FIRST), ("g2", _SECOND))
"""FastChat's two games, and whose answer each shows first."""


class _Pair(msgspec.Struct):
    question_id: Any
    model_1: str
    model_2: str
    g1_winner: _Winner
    g2_winner: _Winner
    judge: Any
    turn: Literal[1, 2]


def read_answers(path: Path) -> tuple[str, dict[str, Sequence[str]]]:
    """Read a model's name and its answers by question id, one text per turn; failed answers are left out.

    Raises DataError for a file that is not FastChat's, or that holds no answers.
    """
    _, rows = read_files(path, None)
    if not rows:
        raise DataError(f"{path} has no answers; give FastChat's {ANSWER_FILE}, or a model's folder in results/")
    answers = {question_id_of(row): row["choices"][0]["turns"] for row in rows}
    known: dict[str, Sequence[str]] = {
        question: tuple(turns)
        for question, turns in answers.items()
        if len(turns) >= len(TURNS) and all(isinstance(one, str) and one != FASTCHAT_FAILED_TEXT for one in turns)
    }
    return str(rows[0].get("model_id") or path.stem), known


def read_pairs(path: Path, model: str | None, judge: str | None) -> tuple[str, Rows]:
    """Return a model and one judge's pairs of it, as they are recorded in FastChat's ``JUDGE_pair.jsonl``.

    ``path`` is the file, or a folder with a ``model_pair.jsonl``. Without ``model``, or with a name that is not in the
    file, it is the one first in every pair. Raises DataError with the row or the names that are at fault, and
    UsageError for a model that must be chosen.
    """
    file = peer_files.file_of(path, PAIR_FILE)
    rows: Rows = read_objects(file)
    expected = "expected FastChat's judgments of pairs, one JSON object per line"
    if not rows:
        raise DataError(f"{file} has no judgments; {expected}")
    for number, row in enumerate(rows, 1):
        peer_files.conform(row, _Pair, f"{file} pair {number}", expected)
    rows = peer_files.rows_of_judge(rows, list(map(judge_name, rows)), judge, file)
    names = {str(row[side]) for row in rows for side in (_FIRST, _SECOND)}
    firsts = {str(row[_FIRST]) for row in rows}
    if model not in names:
        if len(firsts) > 1 and model is not None:
            raise UsageError(f"{file} compares {len(names)} models; {unknown('model', model, names)}")
        peer_files.single("model", firsts, file, "import one of them with evalsuite import --model NAME")
        model = firsts.pop()
    own = [row for row in rows if model in (row[_FIRST], row[_SECOND])]
    judged = [
        f"judgment of turn {row['turn']} of question {row['question_id']} against {_other(row, model)}" for row in own
    ]
    peer_files.refuse_duplicates(judged, file, "keep one of them")
    return model, own


def read_recorded_pairs(path: Path, options: SuiteOptions, suite: str, model: str | None) -> Recorded:
    """Read judged pairs of one model as rows, a question and the other model each; arguments as in :func:`read_pairs`.

    The verdict is the last one in the judgment, or the recorded one where the judgment has none; ``as_published`` it is
    always the recorded one. Answers are those that the judge was shown. A turn that is not in the file counts as
    ``recorded_failure``, and so does a game that ended in "error".
    """
    model, pairs = read_pairs(path, model, options.annotator)
    judge = judge_name(pairs[0])
    together: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for pair in pairs:
        together.setdefault((_other(pair, model), question_id_of(pair)), {})[pair["turn"]] = pair
    questions = known_questions(list(dict.fromkeys(question for _, question in together)))
    rows = []
    for (other, question_id), by_turn in together.items():
        question = questions.get(question_id)
        # Of each turn the game that shows the model's answer first.
        names = {turn: "g1" if pair[_FIRST] == model else "g2" for turn, pair in by_turn.items()}
        prompts = {turn: text_of(by_turn[turn].get(f"{name}_user_prompt")) for turn, name in names.items()}
        own, theirs = (shown_answers(prompts, letter, f"Assistant {letter}") for letter in "AB")
        facts: dict[str, Any] = {"category": question["category"]} if question else {}
        facts |= {"baseline": other} | ({"reference": [reply.text for reply in theirs.turns]} if theirs.turns else {})
        rows.append(
            Row(
                f"{other}/{question_id}",
                part=other,
                prompt=tuple(Message("user", str(text)) for text in question["turns"][:2]) if question else (),
                facts=facts,
                draws=(own,) if own.turns else (),
                verdicts=tuple(
                    _recorded(by_turn.get(turn), turn, game, model, judge, as_published=options.as_published)
                    for turn in TURNS
                    for game in _GAMES
                ),
            )
        )
    return peer_files.recorded_by(judge, suite, rows, options)


def _other(pair: Mapping[str, Any], model: str) -> str:
    return str(pair[_SECOND] if pair[_FIRST] == model else pair[_FIRST])


def _recorded(
    pair: Mapping[str, Any] | None, turn: Turn, game: tuple[str, str], model: str, judge: str, *, as_published: bool
) -> Verdict:
    """Return the verdict of one recorded game; "ab" shows the model's answer first."""
    name, shown_first = game
    if pair is None:
        order: Order = "ab" if shown_first == _FIRST else "ba"
        absent = Unscored("recorded_failure", "the file has no judgment of this turn")
        return Verdict(judge, turn=turn, order=order, unscored=absent)
    order = "ab" if pair[shown_first] == model else "ba"
    winner, text = pair[f"{name}_winner"], text_of(pair.get(f"{name}_judgment"))
    text = "" if text == FASTCHAT_FAILED_TEXT else text
    known = {"turn": turn, "order": order, "text": text, "recorded": winner}
    if winner == "error":
        reasons = pair.get("unscored")
        reason = reasons.get(name) if isinstance(reasons, Mapping) else None
        return Verdict(judge, unscored=peer_files.recorded_reason(reason), **known)
    parsed = Unscored("no_verdict") if as_published else parse_winner(text)
    value = 0.5 if winner == "tie" else float(winner == shown_first)
    return Verdict(judge, PREFERENCES[parsed.letter] if isinstance(parsed, Choice) else value, **known)


def write_pairs(header: Header, rows: Sequence[Row], folder: Path, *, model: str, judge: str | None) -> None:  # noqa: ARG001
    """Write FastChat's file of judged pairs; without a judge there is none.

    The fields are those of gen_judgment.py (play_a_match_pair), and ``unscored``. A game without a verdict is "error",
    which its ``show_result`` leaves out.
    """
    if judge is None:
        return
    now = time.time()
    write_jsonl(folder / PAIR_FILE, (_line(row, turn, model, judge, now) for row in rows for turn in TURNS))


def _line(row: Row, turn: Turn, model: str, judge: str, now: float) -> dict[str, Any]:
    games: dict[str, Verdict] = {
        verdict.order: verdict for verdict in row.verdicts if (verdict.turn, verdict.repeat) == (turn, 0)
    }
    question = row.item_id.removeprefix(f"{row.part}/")
    with_reference = needs_reference(str(row.facts.get("category")))
    return {
        "question_id": int(question) if question.isdecimal() else question,
        "model_1": model,
        "model_2": row.part,
        "g1_winner": _winner(games.get("ab"), "model_1", "model_2"),
        "g2_winner": _winner(games.get("ba"), "model_2", "model_1"),
        "judge": [judge, pair_prompt_name(turn=turn, with_reference=with_reference)],
        **_texts(games),
        "turn": turn,
        "tstamp": now,
    }


def _winner(verdict: Verdict | None, first: str, second: str) -> str:
    if verdict is None or not isinstance(verdict.value, int | float):
        return "error"
    return {"a": first, "b": second, "tie": "tie"}[winner_of(float(verdict.value))]


def _texts(games: Mapping[str, Verdict]) -> dict[str, Any]:
    shown = {f"g{number}": games.get(order) for number, order in ((1, "ab"), (2, "ba"))}
    texts = {f"{name}_judgment": "" if one is None else one.text for name, one in shown.items()}
    reasons = {name: one.unscored.reason for name, one in shown.items() if one is not None and one.unscored is not None}
    return {**texts, "unscored": reasons or None}
