"""Asking a judge in a published judge's form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from evalsuite.comparison.formats import FormatWatch
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.requests import Chat, Completion, Sampling, derive_seed, thought_of
from judges.formats import JudgeFormat
from judges.labels import LabelReading, spellings
from judges.types import Message, Unscored
from judges.verdicts import Game, Request

_SAME_RATING = 1e-6
"""Ratings that differ by less than this are a tie: it is rounding error."""


class _Read(NamedTuple):
    """What the judge says to one prompt: the preference for the answer shown first, or the rating of the only one."""

    value: float
    text: str = ""
    thought: str | None = None
    labels: LabelReading | None = None


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
    ask = partial(_by_labels, judge, form) if form.logprobs else partial(_by_samples, judge, form, watch)
    if form.kind != "rating":
        read = await ask(form.pair_messages(request, first, second, salt=salt))
        if isinstance(read, Unscored):
            return read
        logprobs, mass = (tuple(read.labels.logprobs.items()), read.labels.mass) if read.labels else ((), None)
        return Game(read.value, read.text, logprobs, mass=mass, thought=read.thought)
    asked = [form.rating_messages(request, texts, salt=salt) for texts in (first, second)]
    one, other = await gather_or_cancel(ask(messages) for messages in asked)
    if isinstance(one, Unscored):
        return one
    if isinstance(other, Unscored):
        return other
    winner = 0.5 if abs(one.value - other.value) < _SAME_RATING else float(one.value > other.value)
    thought = _joined([one.thought, other.thought])
    if one.labels is None or other.labels is None:
        return Game(winner, f"{one.text}\n\n{other.text}", thought=thought)
    text = f"expected ratings {one.value:.2f} and {other.value:.2f}"
    return Game(winner, text, mass=min(one.labels.mass, other.labels.mass), thought=thought)


async def _by_labels(judge: Chat, form: JudgeFormat, messages: Sequence[Message]) -> _Read | Unscored:
    """Ask for the probabilities of the labels."""
    begun = [*messages, *([Message("assistant", form.lead_in)] if form.lead_in else [])]
    asked = await judge.label_logprobs(begun, form.asked_labels, spellings(form.asked_labels))
    read = asked if isinstance(asked, Unscored) else form.value_of_labels(asked)
    return read if isinstance(read, Unscored) else _Read(read[0], thought=thought_of(asked), labels=read[1])


async def _by_samples(
    judge: Chat, form: JudgeFormat, watch: FormatWatch, messages: Sequence[Message]
) -> _Read | Unscored:
    """Ask for the samples of one prompt: the mean of those that can be read, or why none can."""
    read = form.rating if form.kind == "rating" else form.preference
    values: list[float] = []
    replies: list[Completion] = []
    failure: Unscored | None = None
    for number in range(form.samples):
        seed = derive_seed(0, "judge format", number)
        reply = await judge.chat(messages, Sampling(form.max_new_tokens, temperature=form.temperature, seed=seed))
        if isinstance(reply, Unscored):
            failure = failure or reply
            continue
        value = read(reply.text)
        watch.saw(reply.text, is_read=not isinstance(value, Unscored) or value.reason == "rating_out_of_range")
        replies.append(reply)
        if isinstance(value, Unscored):
            failure = failure or value
        else:
            values.append(value)
    if not values:
        return failure or Unscored("no_verdict")
    text = "\n\n".join(reply.text for reply in replies)
    return _Read(sum(values) / len(values), text, _joined(reply.thought for reply in replies))


def _joined(thoughts: Iterable[str | None]) -> str | None:
    return "\n\n".join(filter(None, thoughts)) or None
