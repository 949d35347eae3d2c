"""Recorded conversations (the output of ``generate`` or ``mix``) as prompts and the answers to them."""

from __future__ import annotations

from pathlib import Path

from evalsuite.assets.asset import Pin
from evalsuite.comparison.prompts import PromptSet, Question, Texts, Turns
from evalsuite.comparison.recorded import Recorded
from evalsuite.conversations.formats import COMPLETE, Conversation, content_hash, conversation_of, detect_format
from evalsuite.conversations.source import open_source
from evalsuite.errors import DataError
from evalsuite.files import exists
from evalsuite.serving.requests import Chat
from judges.types import Message, Unscored
from judges.verdicts import Request


def conversations_in(spec: str, turns: Turns, limit: int | None) -> tuple[PromptSet, Recorded] | None:
    """Read a folder with Parquet files, or such a file, as prompts and answers; None for anything else.

    A question's id is its ``content_hash`` with the answer, by which mixes and pairs find the rating; its group is that
    of the prompt, which its samples share. Equal ones are read once, and rows without a whole answer are left out.
    With ``turns`` first it is the first exchange. Raises DataError for damaged data and if there is nothing to rate.
    """
    path = Path(spec).expanduser()
    if not exists(path) or not (path.suffix == ".parquet" if path.is_file() else any(path.glob("*.parquet"))):
        return None
    rows = open_source(spec)
    layout = detect_format(rows.columns, spec)
    questions: dict[str, Question] = {}
    answers: dict[str, Texts] = {}
    for row in rows:
        conversation = conversation_of(row, layout)
        messages = None if isinstance(conversation, Unscored) else _rated(conversation, turns)
        if messages is None:
            continue
        users, replies, systems = ([m.content for m in messages if m.role == role] for role in _ROLES)
        name = content_hash(messages)
        request = Request(tuple(users), system="\n\n".join(systems))
        questions[name] = Question(name, request, group=content_hash(messages[:-1]))
        answers[name] = tuple(replies)
        if len(questions) == limit:
            break
    if not questions:
        raise DataError(f"{spec} has no complete answers to rate; give a folder of 'evalsuite generate'")
    name = path.resolve().name

    async def answer(_question: Question, _model: Chat) -> Texts:
        raise AssertionError("recorded answers are not asked for")

    pins = {name: Pin(rows.fingerprint, "file")}
    recorded = Recorded(name, rows.fingerprint, answers)
    return PromptSet(name, tuple(questions.values()), pins, answer), recorded


_ROLES = ("user", "assistant", "system")


def _rated(conversation: Conversation, turns: Turns) -> tuple[Message, ...] | None:
    """Return the messages that are rated, which end with an answer; None if it was cut, or for other turns."""
    messages = conversation.messages
    ends = [place for place, message in enumerate(messages) if message.role == "assistant"]
    if not ends or conversation.uses_tools or any(message.role == "system" for message in messages[1:]):
        return None
    end = ends[0] if turns == "first" else ends[-1]
    if any(conversation.finish_reasons[place] not in COMPLETE for place in ends if place <= end):
        return None
    return messages[: end + 1]
