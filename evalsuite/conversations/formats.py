"""Convert a row of a data set to a conversation, or to the reason why that is impossible; pure.

Four formats are supported, detected from the columns:

    chat              conversation | messages: list of {role, content}    WildChat, LMSYS, Tulu, `generate` output
    sharegpt          conversations: list of {from, value}                ShareGPT
    multiple_choice   question, choices, answer                           MMLU's auxiliary train set
    prompt_answer     prompt | instruction (+ input) | question | turns, optionally an answer; prompt and answer may be
                      lists of {role, content}, as in TRL's prompt/completion and prompt/chosen/rejected

A ``system`` or ``system_prompt`` column is the system turn, ``developer`` is the system role, and the content of a turn
may be a list of text parts. Thoughts, tool calls and weights of turns and the tools of a row are read by ``fields``; a
thought that is in the content between its marks is taken out of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from evalsuite.conversations.fields import call_of, calls_of, is_thought, thought_of, tools_of, weight_of
from evalsuite.errors import DataError
from evalsuite.fingerprint import text_sha256
from judges.thoughts import split_thought
from judges.types import Message, Role, ToolCall, Unscored

Format = Literal["chat", "sharegpt", "multiple_choice", "prompt_answer"]
Thinking = Literal["keep", "drop", "mixed"]
"""What happens to thoughts: they are kept, dropped, or dropped in half of the conversations, chosen by their hash."""

_CHAT_COLUMNS = ("conversation", "messages")
_PROMPT_COLUMNS = ("prompt", "instruction", "question", "turns")
_ANSWER_COLUMNS = ("completion", "response", "answer", "output", "chosen")
_SYSTEM_COLUMNS = ("system", "system_prompt")
_TURN_COLUMNS = (*_CHAT_COLUMNS, "conversations", "prompt", "completion", "chosen", "rejected")
_CONTENT_KEYS = ("content", "value", "text")
_TEXT_PARTS = ("text", "input_text", "output_text")
_CALLERS = ("function_call", "tool_call")
"""Roles of ShareGPT's turns whose text is the JSON of a call, or of a list of calls."""
_ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", *_CALLERS), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
}
SUPPORTED = (
    "'conversation' or 'messages' (lists of role and content), 'conversations' (lists of from and value), "
    "'question' with 'choices' and 'answer', or 'prompt', 'instruction', 'question', 'turns' or 'chosen', "
    "optionally with an answer"
)
_MOST_LISTED = 12
COMPLETE = (None, "stop", "tool_calls")
"""How an answer ended that was not cut; None is not recorded."""
READ_COLUMNS = frozenset(
    {*_TURN_COLUMNS, *_PROMPT_COLUMNS, *_ANSWER_COLUMNS, *_SYSTEM_COLUMNS}
    | {"choices", "input", "language", "lang", "conversation_hash", "tools"}
)
"""Every column that a row's conversation may depend on."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation: user, assistant and tool turns, starting with the user's, and system turns among them.

    ``hash`` is the row's ``conversation_hash`` if it has one, else 32 hex digits of the SHA-256 of
    its roles and texts. ``finish_reasons`` has one entry per message, None if unknown. ``had_empty_system``: a system
    turn without text was left out. ``tools`` is the JSON text of the tools that it may call.
    """

    hash: str
    messages: tuple[Message, ...]
    language: str | None
    finish_reasons: tuple[str | None, ...]
    had_empty_system: bool = False
    tools: str | None = None

    @property
    def uses_tools(self) -> bool:
        return self.tools is not None or any(turn.role == "tool" or turn.tool_calls for turn in self.messages)


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn of the row; ``text`` is None for a missing answer."""

    role: str
    text: str | None
    finish_reason: str | None = None
    thought: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    weight: float | None = None
    name: str = ""
    tool_call_id: str = ""

    def message(self, role: Role) -> Message:
        """Return the turn as a message, a thought in its text taken out."""
        thought, text = self.thought, self.text or ""
        if role == "assistant" and thought is None:
            thought, answer = split_thought(text)
            text = text if thought is None else answer or ""
        return Message(role, text, thought or None, self.tool_calls, self.weight, self.name, self.tool_call_id)


def detect_format(columns: Sequence[str], source: str) -> Format:
    """Detect the format from the columns; raises DataError with the columns of ``source`` and the supported ones."""
    known = set(columns)
    if known & set(_CHAT_COLUMNS):
        return "chat"
    if "conversations" in known:
        return "sharegpt"
    if {"question", "choices", "answer"} <= known:
        return "multiple_choice"
    if known & {*_PROMPT_COLUMNS, "chosen"}:
        return "prompt_answer"
    more = f" and {len(known) - _MOST_LISTED} more" if len(known) > _MOST_LISTED else ""
    named = ", ".join(sorted(known)[:_MOST_LISTED]) or "none"
    raise DataError(f"{source} has the columns {named}{more}; supported are {SUPPORTED}")


def conversation_of(row: Mapping[str, Any], format: Format) -> Conversation | Unscored:  # noqa: A002 - the established name
    """Read a row as a complete conversation, in which every turn has text.

    Unscored: "empty" (no user turn, or a turn without text), "no_answer" (a recorded answer is missing),
    "starts_with_assistant", "bad_roles", "malformed_row". A conversation may end with a user turn.
    """
    prompts = prompts_of(row, format)
    if isinstance(prompts, Unscored):
        return prompts
    turns = _turns(row, format)
    if not isinstance(turns, tuple):
        return turns
    for number, (message, turn) in enumerate(zip(prompts.messages, turns[-len(prompts.messages) :], strict=True), 1):
        if message.role in ("system", "tool") or message.content.strip() or message.tool_calls:
            continue
        if message.thought is not None:
            return Unscored("unfinished_thinking", f"turn {number} has thinking and no answer")
        if turn.text is None:
            return Unscored("no_answer", f"turn {number} has no answer ({turn.finish_reason or 'no reason given'})")
        return Unscored("empty", f"turn {number} ({turn.role}) has no text")
    return prompts


def prompts_of(row: Mapping[str, Any], format: Format) -> Conversation | Unscored:  # noqa: A002 - the established name
    """Read a row as ``conversation_of`` does, but turns may be empty: for generation, which replaces the answers."""
    try:
        turns, tools = _turns(row, format), tools_of(row)
    except ValueError as error:
        return Unscored("malformed_row", str(error))
    if isinstance(turns, Unscored):
        return turns
    messages: list[Message] = []
    for number, turn in enumerate(turns, 1):
        role = _ROLES.get(turn.role.lower())
        fault = f"unknown role {turn.role!r}" if role is None else _misplaced(role, messages)
        if fault:
            return Unscored("bad_roles", f"turn {number}: {fault}")
        messages.append(turn.message(role or "user"))
    roles = [message.role for message in messages if message.role != "system"]
    if "user" not in roles:
        return Unscored("empty", "the conversation has no user turn")
    if roles[0] == "assistant":
        return Unscored("starts_with_assistant", "the conversation starts with the assistant")
    texts = [[message.role, turn.text or ""] for message, turn in zip(messages, turns, strict=True)]
    start = int(messages[0].role == "system" and not messages[0].content.strip())
    finish_reasons = tuple(turn.finish_reason for turn in turns[start:])
    name = conversation_hash(row, texts)
    return Conversation(name, tuple(messages[start:]), language_of(row), finish_reasons, bool(start), tools)


def with_thoughts(conversation: Conversation, thinking: Thinking) -> Conversation:
    """Return a conversation with its thoughts or without."""
    half = int(text_hash(["thinking", conversation.hash])[:8], 16) % 2
    if thinking == "keep" or (thinking == "mixed" and half):
        return conversation
    without = tuple(msgspec.structs.replace(message, thought=None) for message in conversation.messages)
    return replace(conversation, messages=without)


def _misplaced(role: Role, before: Sequence[Message]) -> str:
    if role == "assistant" and before and before[-1].role == "assistant":
        return "two assistant turns in a row"
    if role == "tool" and not (before and (before[-1].role == "tool" or before[-1].tool_calls)):
        return "a tool's turn that follows no tool call"
    return ""


def conversation_hash(row: Mapping[str, Any], texts: Sequence[Sequence[str]]) -> str:
    """Return the row's ``conversation_hash``, else the first 32 hex digits of the SHA-256 of its roles and texts."""
    recorded = row.get("conversation_hash")
    return recorded if isinstance(recorded, str) and recorded else text_hash(texts)


def text_hash(value: object) -> str:
    """Return 32 hex digits of the SHA-256 of a value's JSON, with ``str`` of what JSON cannot represent."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return text_sha256(text)[:32]


def content_hash(messages: Sequence[Message]) -> str:
    """Return 32 hex digits of the SHA-256 of the turns' roles and texts, without thoughts.

    By it the scores of an answer are found, whatever ``conversation_hash`` its row has recorded.
    """
    return text_hash([[message.role, message.content] for message in messages])


def language_of(row: Mapping[str, Any]) -> str | None:
    """Return the row's ``language`` or ``lang`` as written in the data set, None without one."""
    return next((row[name] for name in ("language", "lang") if isinstance(row.get(name), str) and row[name]), None)


def _turns(row: Mapping[str, Any], layout: Format) -> tuple[_Turn, ...] | Unscored:
    """Return the row's turns; its system column is the first."""
    turns = _turns_of(row, layout)
    name = next((name for name in _SYSTEM_COLUMNS if row.get(name) is not None), None)
    if name is None or isinstance(turns, Unscored):
        return turns
    system = row[name]
    if not isinstance(system, str):
        return Unscored("malformed_row", f"the column {name!r} is {type(system).__name__}, not text")
    first = turns[0].text or "" if turns and _ROLES.get(turns[0].role.lower()) == "system" else None
    if not system.strip() or (first or "").strip() == system.strip():
        return turns
    if first and first.strip():
        return Unscored("bad_roles", f"the column {name!r} and the system turn have different texts")
    return _Turn("system", system), *(turns if first is None else turns[1:])


def _turns_of(row: Mapping[str, Any], layout: Format) -> tuple[_Turn, ...] | Unscored:
    if layout == "multiple_choice":
        return _multiple_choice(row)
    if layout == "prompt_answer":
        return _prompt_answer(row)
    names = ("conversations",) if layout == "sharegpt" else _CHAT_COLUMNS
    name = next((name for name in names if row.get(name) is not None), names[0])
    return _chat(row.get(name), name)


def _chat(value: object, column: str) -> tuple[_Turn, ...] | Unscored:
    """Read a list of turns; both spellings of a turn's fields are accepted in every format."""
    if not isinstance(value, list | tuple):
        return Unscored("malformed_row", f"{column!r} is {type(value).__name__}, not a list of turns")
    turns = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping):
            return Unscored("malformed_row", f"turn {number} of {column!r} is not an object")
        role = next((turn[key] for key in ("role", "from") if turn.get(key) is not None), None)
        text = joined_text(next((turn[key] for key in _CONTENT_KEYS if turn.get(key) is not None), None))
        if not isinstance(role, str) or not isinstance(text, str | None):
            return Unscored("malformed_row", f"turn {number} of {column!r} has no role, or its content is not text")
        try:
            turns.append(_turn(turn, role, text))
        except ValueError as error:
            return Unscored("malformed_row", f"turn {number} of {column!r}: {error}")
    return tuple(turns)


def _turn(turn: Mapping[str, Any], role: str, text: str | None) -> _Turn:
    """Return a turn with all its fields; raises ValueError for calls or weights that cannot be read."""
    finish, name, answered = (turn.get(key) for key in ("finish_reason", "name", "tool_call_id"))
    if turn.get("thought_closed") is True and finish == "stop":
        # Nothing should be learned from a cut thought, as from a cut answer.
        finish = "thought_closed"
    read = _Turn(
        role,
        text,
        finish if isinstance(finish, str) else None,
        thought_of(turn),
        calls_of(turn),
        weight_of(turn),
        name if isinstance(name, str) else "",
        answered if isinstance(answered, str) else "",
    )
    if role.lower() not in _CALLERS:
        return read
    given = json.loads(text or "null")
    calls = given if isinstance(given, list) else [given]
    return replace(read, text="", tool_calls=tuple(call_of(call) for call in calls))


def joined_text(content: object) -> Any:
    r"""Return text parts as one text, joined by a line break as vLLM does; anything else as it is.

    >>> joined_text([{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}])
    'One.\nTwo.'
    """
    if not isinstance(content, list | tuple) or not content:
        return content
    content = [part for part in content if not is_thought(part)]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    kinds = [part.get("type") or "text" if isinstance(part, Mapping) else "text" for part in content]
    if all(isinstance(text, str) for text in texts) and all(kind in _TEXT_PARTS for kind in kinds):
        return "\n".join(map(str, texts))
    return content


def carried(row: Mapping[str, Any], name: str) -> Any:
    """Return a row's value of a column as it is stored beside the answers.

    In a column of turns, text parts are joined, and a value that is not such a list is None: otherwise the
    column's only common type would be JSON text, for all rows.
    """
    value = row.get(name)
    if name not in _TURN_COLUMNS:
        return value
    if not isinstance(value, list | tuple):
        return None if name in (*_CHAT_COLUMNS, "conversations") else value
    turns = []
    for turn in value:
        if not isinstance(turn, Mapping):
            return None
        joined = {key: joined_text(inner) if key in _CONTENT_KEYS else inner for key, inner in turn.items()}
        if not all(isinstance(joined.get(key), str | None) for key in _CONTENT_KEYS):
            return None
        turns.append(joined)
    return turns


def _multiple_choice(row: Mapping[str, Any]) -> tuple[_Turn, ...] | Unscored:
    """Return one user turn with lettered options, and the correct option with its letter as the answer."""
    question, choices, answer = row.get("question"), row.get("choices"), row.get("answer")
    if isinstance(choices, Mapping):
        # ARC's format nests the texts one level deeper.
        choices = choices.get("text")
    if not isinstance(question, str) or not isinstance(choices, list | tuple) or not 2 <= len(choices) <= 26:
        return Unscored("malformed_row", "expected a question and 2 to 26 choices")
    letters = [chr(ord("A") + index) for index in range(len(choices))]
    if (index := _answer_index(answer, letters)) is None:
        return Unscored("malformed_row", f"the answer {answer!r} is none of the {len(choices)} choices")
    lines = [f"{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True)]
    return _Turn("user", "\n".join([question, *lines])), _Turn("assistant", lines[index])


def _answer_index(answer: Any, letters: Sequence[str]) -> int | None:
    text = str(answer).strip().upper()
    if text in letters:
        return letters.index(text)
    return int(text) if text.isdecimal() and int(text) < len(letters) else None


def _prompt_answer(row: Mapping[str, Any]) -> tuple[_Turn, ...] | Unscored:
    answer_name = next((key for key in _ANSWER_COLUMNS if isinstance(row.get(key), str | list | tuple)), None)
    answer = None if answer_name is None else row[answer_name]
    name = next((name for name in _PROMPT_COLUMNS if row.get(name) is not None), None)
    if name is None and not isinstance(answer, list | tuple):
        return Unscored("malformed_row", f"none of {', '.join(_PROMPT_COLUMNS)} is set")
    turns = _prompt_turns(row, name)
    if isinstance(turns, Unscored) or answer is None or answer_name is None:
        return turns
    if isinstance(answer, str):
        return (*turns, _Turn("assistant", answer)) if name != "turns" or len(turns) == 1 else turns
    answers = _chat(answer, answer_name)
    if isinstance(answers, Unscored):
        return answers
    # TRL's preference data: the answer's list may repeat the prompt.
    asks_again = any(_ROLES.get(turn.role.lower()) == "user" for turn in answers[:2])
    return answers if asks_again else (*turns, *answers)


def _prompt_turns(row: Mapping[str, Any], name: str | None) -> tuple[_Turn, ...] | Unscored:
    if name is None:
        return ()
    given = row[name]
    if name != "turns" and isinstance(given, list | tuple):
        return _chat(given, name)
    prompts = given if name == "turns" else [given]
    if not isinstance(prompts, list | tuple) or not all(isinstance(text, str) for text in prompts):
        return Unscored("malformed_row", f"{name!r} is not text")
    extra = row.get("input")
    if name == "instruction" and isinstance(extra, str) and extra.strip():
        prompts = [f"{prompts[0]}\n\n{extra}"]
    return tuple(_Turn("user", text) for text in prompts)
