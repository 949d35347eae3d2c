"""A conversation partner that answers from a script: the one fake behind every suite test.

    chat = ScriptedChat("Rating: [[7]]")                       # always the same words
    chat = ScriptedChat(["first", Unscored("request_failed")])  # one after the other
    chat = ScriptedChat(lambda call: call.messages[-1].content.upper())
    chat = ScriptedChat(labels={"m": -0.1, "M": -2.3})

Every question is kept in ``chat.calls`` and ``chat.label_calls``. Under a guide the script's
words must obey it, as a real server's would; a script that runs out fails the test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evalsuite.serving.requests import Completion, Guide, Sampling
from judges.types import Message, Unscored

Reply = str | Completion | Unscored
LabelReply = Mapping[str, float] | Unscored


@dataclass(frozen=True)
class Call:
    """One question to ``chat``."""

    messages: tuple[Message, ...]
    sampling: Sampling
    guide: Guide | None

    @property
    def roles(self) -> list[str]:
        return [message.role for message in self.messages]


@dataclass(frozen=True)
class LabelCall:
    """One question to ``label_logprobs``."""

    messages: tuple[Message, ...]
    labels: tuple[str, ...]


class ScriptedChat:
    """Implements ``evalsuite.serving.requests.Chat`` without any server."""

    def __init__(
        self,
        script: Reply | Sequence[Reply] | Callable[[Call], Reply] = (),
        *,
        labels: LabelReply | Sequence[LabelReply] | Callable[[LabelCall], LabelReply] = (),
    ) -> None:
        self._script = script
        self._labels = labels
        self.calls: list[Call] = []
        self.label_calls: list[LabelCall] = []

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, guide: Guide | None = None
    ) -> Completion | Unscored:
        call = Call(tuple(messages), sampling, guide)
        self.calls.append(call)
        reply = _next_reply(self._script, call, len(self.calls))
        if isinstance(reply, str):
            reply = completion(reply, messages)
        if guide is not None and isinstance(reply, Completion):
            _check_guide(guide, reply.text)
        return reply

    async def label_logprobs(
        self, messages: Sequence[Message], labels: Sequence[str], spellings: Sequence[str] = ()
    ) -> Mapping[str, float] | Unscored:
        call = LabelCall(tuple(messages), tuple(labels))
        self.label_calls.append(call)
        reply = _next_reply(self._labels, call, len(self.label_calls))
        if not isinstance(reply, Unscored):
            is_asked = set(labels) <= set(reply) <= {*labels, *spellings}
            assert is_asked, f"asked for {labels}, scripted {set(reply)}"
        return reply


def completion(text: str, messages: Sequence[Message] = (), finish_reason: str = "stop") -> Completion:
    """Build a completion whose token counts are its words, which is enough for the suites."""
    prompt_tokens = sum(len(message.content.split()) for message in messages)
    return Completion(text, finish_reason, prompt_tokens, len(text.split()))


def _next_reply(script, call, number):
    if callable(script):
        return script(call)
    if isinstance(script, list | tuple):
        assert number <= len(script), f"question {number} was not scripted: {call}"
        return script[number - 1]
    return script


def _check_guide(guide: Guide, text: str) -> None:
    if guide.choice:
        assert text in guide.choice, f"scripted {text!r} breaks the guided choice {guide.choice}"
    if guide.regex:
        assert re.fullmatch(guide.regex, text), f"scripted {text!r} breaks the guided regex {guide.regex}"
