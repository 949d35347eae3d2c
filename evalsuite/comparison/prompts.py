"""What the models are asked, and how: the items of a suite, asked as a run does, or a file of prompts.

A line of such a file is an object with ``prompt``, ``instruction``, ``question`` or ``turns`` (a text, or a list of one
per turn) or ``messages``, and perhaps ``id``, ``category``, ``system``, ``reference``, ``rubric`` and ``group``:

    {"id": "tea-1", "category": "writing", "prompt": "Write an invitation to a tea tasting."}
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from evalsuite.assets.asset import Pin
from evalsuite.comparison.answer_rows import read_rows, text_of
from evalsuite.comparison.requests import dialogue_of, group_of, grouped
from evalsuite.errors import DataError, UsageError, unknown
from evalsuite.files import exists
from evalsuite.fingerprint import read_sha256
from evalsuite.records.rows import Row
from evalsuite.serving.requests import Chat, Completion, Guide, Sampling, derive_seed
from evalsuite.suites.base import no_answer
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.peer_files import id_text
from evalsuite.suites.registry import SuiteSpec, parse_suite, prompt_suites
from evalsuite.suites.types import Pins
from evalsuite.text import plural
from evalsuite.validation import repeated
from judges.types import Message, Unscored
from judges.verdicts import Request

Texts = tuple[str, ...] | Unscored
"""A model's answers to one question, one text per turn."""

Turns = Literal["first", "both"]

FULL_MAX_NEW_TOKENS, MINI_MAX_NEW_TOKENS = 2048, 96


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt: its id (unique in the set), what it asks, and its category and group where it has one."""

    id: str
    request: Request
    category: str | None = None
    group: str | None = None

    @property
    def turns(self) -> tuple[str, ...]:
        return self.request.turns


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The questions of a comparison, where they came from, and how a model answers one.

    ``answer`` asks exactly as ``evalsuite run`` does, so that its answers are found in the store.
    ``left_out`` are a file's prompts beyond the limit, to which recorded answers may exist.
    ``key`` is the suite's key in scores.json, "" for a file.
    """

    name: str
    questions: tuple[Question, ...]
    pins: Pins
    answer: Callable[[Question, Chat], Awaitable[Texts]]
    left_out: tuple[Question, ...] = ()
    key: str = ""
    notes: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each question; questions with the same text are one."""
        return self._grouped()[0]

    @property
    def copies(self) -> list[str]:
        """Notes on questions that are the same."""
        return self._grouped()[1]

    def _grouped(self) -> tuple[tuple[str, ...], list[str]]:
        return grouped([(question.id, question.request, question.group) for question in self.questions])


class FirstTurnOnly:
    """A model that is asked no later turns: a suite's own ``answer`` then stops after the first."""

    def __init__(self, model: Chat) -> None:
        self._model = model

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, guide: Guide | None = None
    ) -> Completion | Unscored:
        if any(message.role == "assistant" for message in messages):
            return Unscored("no_answer", "only first turns are compared")
        return await self._model.chat(messages, sampling, guide)

    async def label_logprobs(
        self, messages: Sequence[Message], labels: Sequence[str], spellings: Sequence[str] = ()
    ) -> Mapping[str, float] | Unscored:
        return await self._model.label_logprobs(messages, labels, spellings)


def load_prompts(spec: str, options: SuiteOptions, *, turns: Turns = "first") -> PromptSet:
    """Load a suite's prompts (``NAME``, ``NAME:PART`` or FILE.yaml) or a file; raises UsageError or DataError.

    Of ``options`` the ones that all suites share count. ``turns`` first keeps the first turn of every conversation, as
    the paper's comparison does.
    """
    if spec.partition(":")[0] in prompt_suites() or spec.endswith((".yaml", ".yml")):
        return _suite_prompts(parse_suite(spec), options, turns)
    path = Path(spec).expanduser()
    if not exists(path) or not path.is_file():
        if path.suffix in {".json", ".jsonl"}:
            raise DataError(f"cannot read {path}: no such file; give a JSON or JSONL file of prompts")
        raise UsageError(
            f"{unknown('prompt set', spec, prompt_suites())}, or give a .json, .jsonl or benchmark's .yaml file"
        )
    return _file_prompts(path, options, turns)


def _suite_prompts(spec: SuiteSpec, shared: SuiteOptions, turns: Turns) -> PromptSet:
    suite = spec.suite
    values = {name: getattr(shared, name) for name in SuiteOptions.model_fields} | {"parts": spec.parts}
    options = suite.options_type(**values)
    loaded = suite.load_prompts(options)
    items = {item.id: item for item in loaded.items}
    whole = [_question(item.id, suite.row(item, loaded)) for item in loaded.items]
    if not all(question.turns for question in whole):
        raise DataError(
            f"{spec.name} has items without a prompt to show; give {' or '.join(prompt_suites())} or a file"
        )
    several = {question.id for question in whole if len(question.turns) > 1}

    async def answer(question: Question, model: Chat) -> Texts:
        asked = FirstTurnOnly(model) if turns == "first" and question.id in several else model
        draw = await suite.answer(items[question.id], loaded, asked, options)
        return texts_of(map(text_of, draw.turns[: len(question.turns)]))

    questions = _first_turns(whole) if turns == "first" else whole
    return PromptSet(spec.key, tuple(questions), loaded.data_pins, answer, key=spec.key)


def _question(item_id: str, row: Row) -> Question:
    said = {role: tuple(m.content for m in row.prompt or () if m.role == role) for role in ("user", "system")}
    category = row.facts.get("category")
    request = Request(said["user"], system="\n\n".join(said["system"]))
    return Question(item_id, request, None if category is None else str(category))


def _first_turns(questions: Iterable[Question]) -> list[Question]:
    """Return the questions without their later turns."""
    return [replace(one, request=replace(one.request, turns=one.turns[:1])) for one in questions]


def _file_prompts(path: Path, options: SuiteOptions, turns: Turns) -> PromptSet:
    questions = read_questions(path)
    cut = sum(len(question.turns) > 1 for question in questions) if turns == "first" else 0
    notes = (
        (f"{plural(cut, 'prompt has', 'prompts have')} more turns, which are not asked; --turns both asks them",)
        if cut
        else ()
    )
    if turns == "first":
        questions = _first_turns(questions)
    asked = tuple(questions[: options.limit])
    cap = MINI_MAX_NEW_TOKENS if options.data == "mini" else FULL_MAX_NEW_TOKENS

    async def answer(question: Question, model: Chat) -> Texts:
        """Ask every turn with the checkpoint's own sampling settings and the model's own earlier answers."""
        messages = [Message("system", question.request.system)] if question.request.system else []
        replies: list[str | Unscored] = []
        for number, text in enumerate(question.turns, 1):
            messages.append(Message("user", text))
            seed = derive_seed(options.seed, "prompts", question.id, number)
            reply = await model.chat(messages, Sampling(cap, temperature=None, top_p=None, seed=seed))
            if isinstance(reply, Unscored):
                return texts_of([reply])
            replies.append(reply.text)
            messages.append(Message("assistant", reply.text))
        return texts_of(replies)

    pin = Pin(read_sha256(path), "file")
    return PromptSet(path.stem, asked, {path.name: pin}, answer, tuple(questions[len(asked) :]), notes=notes)


def texts_of(replies: Iterable[str | Unscored]) -> Texts:
    """Return the texts of a question's turns, or the first failure: no later turn can be compared without it."""
    texts = []
    for reply in replies:
        if isinstance(reply, Unscored):
            return reply if reply.reason == "recorded_failure" else no_answer(reply)
        texts.append(reply)
    return tuple(texts)


def read_questions(path: Path) -> list[Question]:
    """Read a file of prompts; raises DataError that names the row at fault."""
    questions = []
    for number, row in enumerate(read_rows(path), 1):
        asked = dialogue_of(row, f"{path} row {number}")
        if asked is None or not asked.request.turns:
            raise DataError(
                f"{path} row {number} has no prompt; give it 'prompt', 'instruction', 'question' or 'turns' (a text, "
                "or a list of one per turn) or 'messages'"
            )
        if asked.replies:
            raise DataError(f"{path} row {number} has assistant messages; give user turns only")
        category = row.get("category")
        identity = id_text(row.get("id", row.get("question_id", number)))
        questions.append(Question(identity, asked.request, str(category) if category else None, group_of(row)))
    if duplicates := repeated(question.id for question in questions):
        raise DataError(f"{path}: duplicate id {duplicates[0]!r}; give every prompt its own")
    return questions
