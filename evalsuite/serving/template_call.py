"""What a chat template is given besides the messages: a fixed date, and text as parts where it wants that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

Turns = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class TemplateCall:
    """Replaces a tokenizer's ``apply_chat_template``, so that everything that renders renders alike.

    ``on`` is what ``strftime_now`` writes: with today's date, a run resumed after midnight would mix two prompts.
    ``parts`` says that the template reads text as ``[{"type": "text", "text": ...}]`` only.
    """

    apply: Callable[..., Any]
    on: date
    parts: bool = False

    def __call__(self, conversation: Turns, *args: Any, **options: Any) -> Any:
        turns = [_in_parts(turn) for turn in conversation] if self.parts else conversation
        return self.apply(turns, *args, strftime_now=datetime.combine(self.on, time()).strftime, **options)


def adapt_template(tokenizer: Any, template: str, on: date) -> None:
    """Let ``tokenizer`` render conversations with ``template`` as of a date, with text as parts if it must."""
    tokenizer.chat_template = template
    plain = TemplateCall(tokenizer.apply_chat_template, on)
    in_parts = TemplateCall(tokenizer.apply_chat_template, on, parts=True)
    tokenizer.apply_chat_template = in_parts if not _writes_text(plain) and _writes_text(in_parts) else plain


def _writes_text(call: TemplateCall) -> bool:
    text = "A question."
    try:
        return text in call([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
    except Exception:  # a template is untrusted code, which may refuse by raising anything
        return False


def _in_parts(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    content = turn.get("content")
    return {**turn, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else turn
