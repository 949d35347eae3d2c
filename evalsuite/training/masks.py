"""The loss mask of a conversation: its answers and the token that ends each, nothing else.

The chat template needs no ``{% generation %}`` marks. Each answer is located by the prompt tokens that
``evalsuite run`` would send before it: they must be a prefix of the conversation's tokens, the
answer extends from there to its end-of-turn token, and its tokens are decoded and compared with its text.

A thought before an answer is written by some templates and dropped by others, and its marks may be in the prompt or
in the answer. So prompts are compared up to their marks. If the template does not write the last answer as a model
would after the prompt, with its thought or behind an empty one, thought and marks are inserted between the two.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from evalsuite.errors import CheckpointError
from evalsuite.serving.chat_format import ChatFormat
from evalsuite.training.template import TrainingTemplate
from judges.types import Message, ToolCall

TrainOn = Literal["all", "last"]

DROP_REASONS: dict[str, str] = {
    "no_answer": "no answer to learn from",
    "no_weight": "all answers have weight 0",
    "partial_weight": "an answer has a weight other than 0 and 1",
    "bad_roles": "an answer follows an answer or starts the conversation",
    "too_long": "longer than the window",
    "template_refused": "rejected by the chat template",
    "boundary_merges": "the chat template does not write its answers right after the generation prompt",
    "mask_mismatch": "the tokens of its last answer do not decode to the answer",
    "thinking_off": "its last answer has a thought, but template_args switch thinking off",
    "calls_not_shown": "the chat template does not write the tool calls of its last answer",
    "tools_not_shown": "the chat template does not list its tools",
    "turn_not_shown": "the chat template leaves out a turn or changes its text",
    "control_token": "a tool or a tool call contains a control token",
}
"""Reasons for dropping a conversation, with descriptions."""

SHOWING = ("calls_not_shown", "tools_not_shown", "turn_not_shown")
"""Reasons that lie in the chat template alone."""

IGNORED = -100
"""The label of a token without loss, the default ``ignore_index`` of torch's cross entropy."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A tokenised conversation: ``answers`` are (start, end) of each answer with its end-of-turn token.

    ``n_without_loss`` answers are context but not trained on, because the template rewrites them once
    later turns follow. ``is_cut`` says that later turns were removed. ``has_thought``: a thought has loss.
    """

    ids: Sequence[int]
    answers: Sequence[tuple[int, int]]
    n_without_loss: int = 0
    is_cut: bool = False
    has_thought: bool = False

    def labels(self) -> list[int]:
        """Return one label per token: its id inside an answer, else IGNORED."""
        labels = [IGNORED] * len(self.ids)
        for start, end in self.answers:
            labels[start:end] = self.ids[start:end]
        return labels

    @property
    def n_loss_tokens(self) -> int:
        return sum(end - start for start, end in self.answers)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A conversation that is not trained on; ``reason`` is a key of DROP_REASONS or ``judges.types.REASONS``."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Place:
    """An answer in a conversation's tokens.

    ``prompt`` are the tokens of the prompt for it, ``header`` their number without a thought's marks, ``is_prefix``
    whether all of them are in the conversation. The answer without its thought is at ``[start, end)``, with its
    end-of-turn token; ``thought`` is what is before it, None without marks. ``fault`` is a reason for dropping if
    its text is not the message's.
    """

    prompt: Sequence[int]
    header: int
    is_prefix: bool
    thought: str | None
    start: int
    end: int
    fault: str


def mark_answers(
    template: TrainingTemplate,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] = (),
    train_on: TrainOn = "all",
) -> Marked | Dropped:
    """Tokenise a conversation exactly as it would be served and locate every answer in it.

    Turns after the last answer with loss are removed. An earlier answer that the template rewrites once later turns
    follow (without its thought, for example) has no loss. ``train_on`` "last": only the last answer has loss.
    """
    turns = [turn for turn, message in enumerate(messages) if message.role == "assistant"]
    weighted = [turn for turn in turns if messages[turn].weight != 0][-1 if train_on == "last" else 0 :]
    if (reason := _unusable(template.on, messages, turns, weighted, tools)) is not None:
        return Dropped(reason)
    if tools:
        template = template.with_tools(tools)
    shown = messages[: weighted[-1] + 1]
    form = template.on if shown[-1].thought else template.off
    try:
        whole = form.conversation_tokens(shown)
        places = {turn: _place(template, form, whole, shown, turn) for turn in weighted}
    except CheckpointError as error:
        return Dropped("template_refused", str(error))
    if (last := places.pop(weighted[-1])) is None:
        return Dropped("boundary_merges", shown[-1].content[:80])
    if last.fault:
        return Dropped(last.fault, shown[-1].content[:80])
    if (reason := _not_shown(template.decode(whole), shown, tools)) is not None:
        return Dropped(reason)
    finished = _last_answer(template, whole, last, shown)
    if isinstance(finished, Dropped):
        return finished
    earlier = [_earlier_answer(place, messages[turn]) for turn, place in places.items()]
    answers = [answer for answer in earlier if answer is not None]
    return replace(finished, answers=[*answers, *finished.answers], n_without_loss=len(earlier) - len(answers))


def _unusable(
    form: ChatFormat, messages: Sequence[Message], turns: Sequence[int], weighted: Sequence[int], tools: Any
) -> str | None:
    """Return the reason why a conversation cannot be trained on whatever the template, None if it can."""
    if not weighted:
        return "no_weight" if turns else "no_answer"
    if any(turn == 0 or messages[turn - 1].role == "assistant" for turn in turns):
        return "bad_roles"
    if any(messages[turn].weight not in (None, 0, 1) for turn in turns):
        return "partial_weight"
    calls = [f"{call.name} {call.arguments}" for message in messages for call in message.tool_calls]
    if form.quotes_control_tokens([Message("user", text) for text in (*calls, json.dumps(tools, ensure_ascii=False))]):
        return "control_token"
    return None


def _place(
    template: TrainingTemplate, form: ChatFormat, whole: Sequence[int], messages: Sequence[Message], turn: int
) -> _Place | None:
    """Locate an answer behind the prompt for it; None if the template writes something else there."""
    prompt = form.prompt_tokens(messages[:turn])
    header = template.header_length(prompt)
    if whole[:header] != prompt[:header] or template.end_id not in whole[header:]:
        return None
    end = whole.index(template.end_id, header) + 1
    body = whole[header : end - 1]
    text = template.decode(body)
    thought, at = _thought_in(text, template)
    start = template.length_of(body, text[:at])
    if start is None:
        return None
    fault = _fault(text[at:], messages[turn])
    return _Place(prompt, header, whole[: len(prompt)] == prompt, thought, header + start, end, fault)


def _thought_in(text: str, template: TrainingTemplate) -> tuple[str | None, int]:
    """Return the thought before an answer, None without marks, and where the answer begins."""
    begun = text.lstrip()
    if not begun.startswith((template.style.start, template.style.end)):
        return None, 0
    before, mark, answer = begun.removeprefix(template.style.start).partition(template.style.end)
    return (before.strip(), len(text) - len(answer.lstrip())) if mark else (None, 0)


def _fault(text: str, message: Message) -> str:
    """Compare an answer's text with the message, except for outer spaces and Unicode normalisation."""
    found, wanted = _normalized(text), _normalized(message.content)
    if not message.tool_calls:
        return "" if found == wanted else "mask_mismatch"
    if not found.startswith(wanted):
        return "mask_mismatch"
    rest = found[len(wanted) :]
    for call in message.tool_calls:
        before, name, rest = rest.partition(_normalized(call.name))
        if not name or not all(_is_in(before + rest, value) for value in _values(call)):
            return "calls_not_shown"
    return ""


def _last_answer(
    template: TrainingTemplate, whole: Sequence[int], place: _Place, messages: Sequence[Message]
) -> Marked | Dropped:
    """Return the tokens with the last answer as a model writes it after the prompt, and only its loss."""
    prompt, thought = place.prompt, messages[-1].thought
    answer = whole[place.start : place.end]
    if thought and template.is_closed(prompt):
        return Dropped("thinking_off", thought[:80])
    if thought and (not place.is_prefix or not _is_same(place.thought, thought)):
        opening = "" if len(prompt) > place.header else template.opening
        begun = [*messages[:-1], Message("assistant", "", thought=thought.strip())]
        ids = [*template.on.open_turn_tokens(begun, (opening, template.closing)), *answer]
    elif thought or (place.is_prefix and len(prompt) <= place.start):
        ids = list(whole[: place.end])
    else:
        ids = [*prompt, *answer]
    start = len(prompt) if thought else len(ids) - len(answer)
    if not thought and template.trains_empty_thoughts:
        asked = template.on.prompt_tokens(messages[:-1])
        start = len(asked) if ids[: len(asked)] == asked else start
    return Marked(ids, [(start, len(ids))], has_thought=bool(thought))


def _earlier_answer(place: _Place | None, message: Message) -> tuple[int, int] | None:
    """Return the tokens with loss of an answer before the last one, None if the template rewrites it."""
    if place is None or place.fault:
        return None
    if not message.thought:
        return place.start, place.end
    if place.is_prefix and _is_same(place.thought, message.thought):
        return len(place.prompt), place.end
    return None


def _not_shown(whole: str, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the reason if a turn's text or a tool's name is not in the whole text, None if all are."""
    text = _normalized(whole)
    names = [tool.get("function", tool).get("name", "") for tool in tools]
    if not all(_normalized(name) in text for name in names):
        return "tools_not_shown"
    others = (message.content for message in messages if message.role != "assistant")
    return None if all(_is_in(text, content) for content in others) else "turn_not_shown"


def _values(call: ToolCall) -> Iterator[Any]:
    """Yield all values of a call's arguments that have a text."""
    pending = [json.loads(call.arguments)]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            pending += [*value, *value.values()]
        elif isinstance(value, list):
            pending += value
        elif value is not None:
            yield value


def _is_in(text: str, value: object) -> bool:
    """Whether a value is in a normalised text as it is, as in JSON or as in Python."""
    forms = [value, json.dumps(value, ensure_ascii=False).strip('"'), json.dumps(value).strip('"'), str(value)]
    return any(_normalized(form) in text for form in forms if isinstance(form, str))


def _is_same(found: str | None, wanted: str) -> bool:
    return found is not None and _normalized(found) == _normalized(wanted)


def _normalized(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()


def mark_fitting(
    template: TrainingTemplate,
    messages: Sequence[Message],
    max_length: int,
    *,
    cut: bool,
    tools: Sequence[Mapping[str, Any]] = (),
    train_on: TrainOn = "all",
) -> Marked | Dropped:
    """Mark a conversation's answers as ``mark_answers`` does if it fits in ``max_length`` tokens.

    A longer one is dropped or, with ``cut``, ended after the last answer that fits, never inside a turn.
    """
    whole = mark_answers(template, messages, tools, train_on)
    if isinstance(whole, Dropped) or len(whole.ids) <= max_length:
        return whole
    turns = [turn for turn, message in enumerate(messages) if message.role == "assistant" and message.weight != 0]
    for turn in reversed(turns[:-1] if cut else []):
        if len(template.on.prompt_tokens(messages[:turn])) >= max_length:
            continue
        # An answer that the template rewrites later is unchanged when it is the last one.
        marked = mark_answers(template, messages[: turn + 1], tools, train_on)
        if isinstance(marked, Marked) and len(marked.ids) <= max_length:
            return replace(marked, is_cut=True)
    return Dropped("too_long", f"{len(whole.ids):,} tokens")
