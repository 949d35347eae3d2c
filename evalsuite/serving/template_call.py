"""What a chat template is given besides the messages: a fixed date, and text as parts where it wants that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from functools import partial
from typing import Any


def adapt_template(tokenizer: Any, template: str, on: date) -> None:
    """Let everything that renders with ``tokenizer`` use ``template`` as of a date, with text as parts if it must.

    ``strftime_now`` writes that date: with today's, a run resumed after midnight would mix two prompts.
    """
    tokenizer.chat_template = template
    plain = partial(tokenizer.apply_chat_template, strftime_now=datetime.combine(on, time()).strftime)
    in_parts = partial(_with_parts, plain)
    tokenizer.apply_chat_template = in_parts if not _writes_text(plain) and _writes_text(in_parts) else plain


def _with_parts(
    apply: Callable[..., Any], conversation: Sequence[Mapping[str, Any]], *args: Any, **options: Any
) -> Any:
    """Render with contents as ``[{"type": "text", "text": ...}]``, which is all that some templates read."""
    turns = [
        {**turn, "content": [{"type": "text", "text": content}]}
        if isinstance(content := turn.get("content"), str)
        else turn
        for turn in conversation
    ]
    return apply(turns, *args, **options)


def _writes_text(render: Callable[..., Any]) -> bool:
    text = "A question."
    try:
        return text in render([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
    except Exception:  # a template is untrusted code, which may refuse by raising anything
        return False
