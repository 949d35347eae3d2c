"""Asking a judge in a published judge's form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evalsuite.comparison.formats import FormatWatch
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.requests import Chat, Sampling, derive_seed, thought_of
from judges.formats import JudgeFormat
from judges.labels import LabelReading, spellings
from judges.types import Message, Unscored
from judges.verdicts import Game, Request

_SAME_RATING = 1e-6
"""Expected ratings that differ by less than this are a tie: it is rounding error."""


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
    if form.logprobs:
        return await _by_labels(judge, form, request, first, second, salt=salt)
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


async def _by_labels(
    judge: Chat, form: JudgeFormat, request: Request, first: Sequence[str], second: Sequence[str], *, salt: int
) -> Game | Unscored:
    """Play one game by the probabilities of the labels; of expected ratings, the higher one wins."""

    async def ask(messages: Sequence[Message]) -> tuple[float, LabelReading, str | None] | Unscored:
        begun = [*messages, *([Message("assistant", form.lead_in)] if form.lead_in else [])]
        asked = await judge.label_logprobs(begun, form.asked_labels, spellings(form.asked_labels))
        read = asked if isinstance(asked, Unscored) else form.value_of_labels(asked)
        return read if isinstance(read, Unscored) else (*read, thought_of(asked))

    if form.kind == "rating":
        prompts = [form.rating_messages(request, texts, salt=salt) for texts in (first, second)]
        one, other = await gather_or_cancel(ask(messages) for messages in prompts)
        if isinstance(one, Unscored):
            return one
        if isinstance(other, Unscored):
            return other
        text = f"expected ratings {one[0]:.2f} and {other[0]:.2f}"
        winner = 0.5 if abs(one[0] - other[0]) < _SAME_RATING else float(one[0] > other[0])
        return Game(winner, text, mass=min(one[1].mass, other[1].mass), thought=_joined([one[2], other[2]]))
    read = await ask(form.pair_messages(request, first, second, salt=salt))
    if isinstance(read, Unscored):
        return read
    preference, labels, thought = read
    return Game(preference, logprobs=tuple(labels.logprobs.items()), mass=labels.mass, thought=thought)


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
