"""Asking a judge in a published judge's form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evalsuite.comparison.formats import FormatWatch
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.requests import Chat, Sampling, derive_seed
from judges.formats import JudgeFormat
from judges.types import Message, Unscored
from judges.verdicts import Game, Request


async def play_format(
    judge: Chat,
    form: JudgeFormat,
    watch: FormatWatch,
    request: Request,
    first: Sequence[str],
    second: Sequence[str],
    *,
    salt: int = 0,
) -> Game | Unscored:
    """Play one game in the form; of a rating of each answer, the higher one wins. Raises UsageError as ``watch``."""
    if form.kind == "rating":
        asked = [form.rating_messages(request, texts, salt=salt) for texts in (first, second)]
        rated = await gather_or_cancel(_mean(judge, form, watch, messages, form.rating) for messages in asked)
        (one, text, thought), (other, further, second_thought) = rated
        if isinstance(one, Unscored):
            return one
        if isinstance(other, Unscored):
            return other
        return Game(
            0.5 if one == other else float(one > other),
            f"{text}\n\n{further}",
            thought=_joined([thought, second_thought]),
        )
    messages = form.pair_messages(request, first, second, salt=salt)
    preference, text, thought = await _mean(judge, form, watch, messages, form.preference)
    return preference if isinstance(preference, Unscored) else Game(preference, text, thought=thought)


async def _mean(
    judge: Chat,
    form: JudgeFormat,
    watch: FormatWatch,
    messages: Sequence[Message],
    read: Callable[[str], float | Unscored],
) -> tuple[float | Unscored, str, str | None]:
    """Ask for the samples of one prompt: the mean of those that can be read or why none can, texts and thoughts."""
    values: list[float] = []
    texts: list[str] = []
    thoughts: list[str | None] = []
    failure: Unscored | None = None
    for number in range(form.samples):
        seed = derive_seed(0, "judge format", number)
        reply = await judge.chat(messages, Sampling(form.max_new_tokens, temperature=form.temperature, seed=seed))
        if isinstance(reply, Unscored):
            failure = failure or reply
            continue
        value = read(reply.text)
        watch.saw(reply.text, is_read=not isinstance(value, Unscored) or value.reason == "rating_out_of_range")
        texts.append(reply.text)
        thoughts.append(reply.thought)
        if isinstance(value, Unscored):
            failure = failure or value
        else:
            values.append(value)
    if not values:
        return failure or Unscored("no_verdict"), "", None
    return sum(values) / len(values), "\n\n".join(texts), _joined(thoughts)


def _joined(thoughts: Sequence[str | None]) -> str | None:
    return "\n\n".join(filter(None, thoughts)) or None
