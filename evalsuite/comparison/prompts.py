"""What the models are asked, and how: a suite's own prompts in its own way, or a file of the user's.

A line of such a file is an object with ``prompt``, ``instruction`` or ``question`` (one turn) or
``turns`` (several), and perhaps ``id`` and ``category``:

    {"id": "tea-1", "category": "writing", "prompt": "Write an invitation to a tea tasting."}
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evalsuite.errors import DataError, UsageError, unknown
from evalsuite.files import exists, read_json, read_jsonl
from evalsuite.serving.requests import Chat, Completion, Guide, Sampling, derive_seed
from evalsuite.suites.base import Loaded, SuiteOptions
from judges.types import Message, Unscored

Texts = tuple[str, ...] | Unscored
"""A model's answers to one question, one text a turn."""

Turns = Literal["first", "both"]

PROMPT_SUITES = ("mt_bench", "alpaca_eval")
FULL_MAX_NEW_TOKENS, MINI_MAX_NEW_TOKENS = 2048, 96


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt: its id (unique in the set), the user's turns, and its category where it has one."""

    id: str
    turns: tuple[str, ...]
    category: str | None = None


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The questions of a comparison, where they came from, and how a model answers one.

    ``answer`` asks exactly as ``evalsuite run`` does, so that its answers are found in the store.
    ``left_out`` are a file's prompts beyond the limit: recorded answers to them may be at hand, too.
    """

    name: str
    questions: tuple[Question, ...]
    pins: Mapping[str, Mapping[str, Any]]
    answer: Callable[[Question, Chat], Awaitable[Texts]]
    left_out: tuple[Question, ...] = ()


class FirstTurnOnly:
    """A model whose later turns are not asked: a suite's own ``answer`` then stops after the first."""

    def __init__(self, model: Chat) -> None:
        self._model = model

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, guide: Guide | None = None
    ) -> Completion | Unscored:
        if any(message.role == "assistant" for message in messages):
            return Unscored("no_answer", "only first turns are compared")
        return await self._model.chat(messages, sampling, guide)

    async def label_logprobs(
        self, messages: Sequence[Message], labels: Sequence[str]
    ) -> Mapping[str, float] | Unscored:
        return await self._model.label_logprobs(messages, labels)


def load_prompts(word: str, options: SuiteOptions, *, turns: Turns = "first") -> PromptSet:
    """Load ``mt_bench``, ``alpaca_eval`` or a file; raises UsageError or DataError in one sentence.

    ``turns`` first keeps the first turn of every conversation, as the paper's comparison does.
    """
    if word == "mt_bench":
        return _mt_bench(options, turns)
    if word == "alpaca_eval":
        return _alpaca_eval(options)
    path = Path(word).expanduser()
    if not exists(path) or not path.is_file():
        if path.suffix in {".json", ".jsonl"}:
            raise DataError(f"cannot read {path}: no such file; give a JSON or JSONL file of prompts")
        raise UsageError(f"{unknown('prompt set', word, PROMPT_SUITES)}, or give a .json or .jsonl file")
    return _file(path, options, turns)


def _mt_bench(options: SuiteOptions, turns: Turns) -> PromptSet:
    from evalsuite.suites.mt_bench.suite import MT_BENCH

    loaded = MT_BENCH.load(options)
    kept = 1 if turns == "first" else 2
    items = {item.id: item for item in loaded.items}

    async def answer(question: Question, model: Chat) -> Texts:
        asked = FirstTurnOnly(model) if turns == "first" else model
        replies = await MT_BENCH.answer(items[question.id], loaded, asked, options)
        return _texts(replies.turns[:kept])

    questions = tuple(
        Question(item.id, tuple(item.data["turns"][:kept]), item.data.get("category")) for item in loaded.items
    )
    return PromptSet("mt_bench", questions, loaded.data_pins, answer)


def _alpaca_eval(options: SuiteOptions) -> PromptSet:
    from evalsuite.suites.alpaca_eval.suite import ALPACA_EVAL

    loaded: Loaded = ALPACA_EVAL.load(options)
    items = {item.id: item for item in loaded.items}

    async def answer(question: Question, model: Chat) -> Texts:
        return _texts([await ALPACA_EVAL.answer(items[question.id], loaded, model, options)])

    questions = tuple(Question(item.id, (item.data["instruction"],), item.data.get("dataset")) for item in loaded.items)
    return PromptSet("alpaca_eval", questions, loaded.data_pins, answer)


def _file(path: Path, options: SuiteOptions, turns: Turns) -> PromptSet:
    questions = read_questions(path)
    if turns == "first":
        questions = [Question(question.id, question.turns[:1], question.category) for question in questions]
    asked = tuple(questions[: options.limit])
    cap = MINI_MAX_NEW_TOKENS if options.data == "mini" else FULL_MAX_NEW_TOKENS

    async def answer(question: Question, model: Chat) -> Texts:
        """Ask every turn with the checkpoint's own sampling settings and its own history."""
        messages: list[Message] = []
        replies: list[Completion | Unscored] = []
        for number, text in enumerate(question.turns, 1):
            messages.append(Message("user", text))
            seed = derive_seed(options.seed, "prompts", question.id, number)
            reply = await model.chat(messages, Sampling(cap, temperature=None, top_p=None, seed=seed))
            replies.append(reply)
            if isinstance(reply, Unscored):
                break
            messages.append(Message("assistant", reply.text))
        return _texts(replies)

    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    pin = {"sha256": sha256, "source": "file", "pinned": False}
    return PromptSet(path.stem, asked, {path.name: pin}, answer, tuple(questions[len(asked) :]))


def _texts(replies: Sequence[Completion | Unscored]) -> Texts:
    for reply in replies:
        if isinstance(reply, Unscored):
            return Unscored("no_answer", f"{reply.reason}: {reply.detail}" if reply.detail else reply.reason)
    return tuple(reply.text for reply in replies if isinstance(reply, Completion))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a .jsonl file or a .json list of objects; raises DataError."""
    rows = read_jsonl(path) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} is not a list of objects; give a .jsonl file or a .json list")
    if not rows:
        raise DataError(f"{path} is empty; give at least one object")
    return rows


def user_turns(row: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the user's turns that a row holds under any of the known names, None when it has none."""
    turns = row.get("turns")
    if isinstance(turns, list) and turns and all(isinstance(turn, str) for turn in turns):
        return tuple(turns)
    for name in ("prompt", "instruction", "question"):
        if isinstance(row.get(name), str) and row[name].strip():
            return (row[name],)
    return None


def read_questions(path: Path) -> list[Question]:
    """Read a file of prompts; raises DataError that names the row at fault."""
    questions = []
    for number, row in enumerate(read_rows(path), 1):
        turns = user_turns(row)
        if turns is None:
            raise DataError(
                f"{path} row {number} has no prompt; give it 'prompt', 'instruction' or 'question' (a text) "
                "or 'turns' (a list of texts)"
            )
        category = row.get("category")
        questions.append(
            Question(str(row.get("id", row.get("question_id", number))), turns, str(category) if category else None)
        )
    ids = [question.id for question in questions]
    if twice := sorted({one for one in ids if ids.count(one) > 1}):
        raise DataError(f"{path} has the id {twice[0]!r} more than once; give every prompt its own")
    return questions
