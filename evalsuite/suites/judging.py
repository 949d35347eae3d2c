"""How a judge is asked, for every suite: let it reason, then hold it to a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from evalsuite.serving.requests import Chat, Guide, Sampling
from judges.types import Choice, Message, Rating, Unscored

VerdictT = TypeVar("VerdictT", Rating, Choice)


async def reason_then_choose(
    judge: Chat,
    messages: Sequence[Message],
    sampling: Sampling,
    parse: Callable[[str], VerdictT | Unscored],
    lead_in: str,
    choices: Sequence[str],
) -> VerdictT | Unscored:
    r"""Ask for a free judgment and, only where it holds no valid verdict, for a guided closing.

    A judgment that parses is exactly the one that the published protocol would have seen. One
    that does not is continued by ``lead_in`` (for example "\n\nRating: [[") and the judge
    chooses one of ``choices`` under guided output, so that a verdict is missing only when the
    server failed or the context is full. ``parse`` reads a verdict with a ``text`` field.
    """
    reply = await judge.chat(messages, sampling)
    if isinstance(reply, Unscored):
        return reply
    verdict = parse(reply.text)
    if not isinstance(verdict, Unscored):
        return verdict
    words = reply.text.rstrip() + lead_in
    closing = await judge.chat(
        [*messages, Message("assistant", words)], replace(sampling, max_new_tokens=16), Guide(choice=tuple(choices))
    )
    if isinstance(closing, Unscored):
        return closing if closing.reason != "context_length" else verdict
    # Only the closing is read: the judgment before it may hold an invalid "[[11]]".
    chosen = parse(lead_in + closing.text)
    return chosen if isinstance(chosen, Unscored) else replace(chosen, text=words + closing.text)
