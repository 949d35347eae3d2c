"""How suites ask a judge, and what its verdicts become in a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from evalsuite.errors import UsageError
from evalsuite.records.rows import Verdict
from evalsuite.serving.requests import Chat, Guide, Sampling
from judges.labels import MASS_HALF, read_labels, spellings
from judges.types import Choice, Message, Preference, Rating, Unscored
from judges.written import named_option, named_rating

VerdictT = TypeVar("VerdictT", bound=Rating | Choice)
JUDGED_WITHOUT_VALUE = ("no_rating", "rating_out_of_range", "no_option")
"""Reasons of a judgment that has a text and no valid verdict."""


async def reason_then_choose(
    judge: Chat,
    messages: Sequence[Message],
    sampling: Sampling,
    parse: Callable[[str], VerdictT | Unscored],
    lead_in: str,
    choices: Sequence[str],
) -> VerdictT | Unscored:
    r"""Ask for a free judgment and, only where it has no valid verdict or contradicts itself, for a guided closing.

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
        return verdict if reply.thought is None else replace(verdict, thought=reply.thought)
    judgment = reply.text.rstrip() + lead_in
    closing = await judge.chat(
        [*messages, Message("assistant", judgment, thought=reply.thought)],
        replace(sampling, max_new_tokens=16),
        Guide(choice=tuple(choices)),
    )
    if isinstance(closing, Unscored):
        return closing if closing.reason != "context_length" else verdict
    # Only the closing is parsed: the judgment before it may hold an invalid "[[11]]".
    chosen = parse(lead_in + closing.text)
    if isinstance(chosen, Unscored):
        return chosen
    return replace(chosen, text=judgment + closing.text, thought=reply.thought, closed_after=reply.text)


def verdict_of(judged: Rating | Choice | Preference | Unscored, turn: int = 1) -> Verdict:
    """Turn what a judge said of a turn into a verdict of a row; a judgment without a value keeps its text.

    A guided closing contradicts its text where that names one other rating or option; games are told apart by
    :func:`judges.verdicts.against_text`.
    """
    if isinstance(judged, Preference):
        return Verdict(value=judged.value, turn=turn, label_logprobs=dict(judged.logprobs))
    if not isinstance(judged, Unscored):
        value, named = (judged.letter, named_option) if isinstance(judged, Choice) else (judged.value, named_rating)
        before = judged.closed_after
        return Verdict(
            value=value,
            turn=turn,
            text=judged.text,
            thought=judged.thought,
            closed_by_guide=before is not None,
            contradicts=before is not None and named(before) not in (None, value),
        )
    if judged.reason in JUDGED_WITHOUT_VALUE:
        return Verdict(turn=turn, text=judged.detail, unscored=Unscored(judged.reason))
    return Verdict(turn=turn, unscored=judged)


async def probe_labels(
    judge: Chat, labels: Sequence[str], question: Sequence[Message] = ()
) -> tuple[str | None, float | None]:
    """Ask one question: why a judge does not give the probabilities of ``labels`` (None when it does), and their mass.

    The mass in [0, 1] is the total probability of the labels in any spelling. Without a ``question`` it is told to
    write the first label.
    """
    asked = question or [Message("user", f"Write the letter {labels[0]} and nothing else.")]
    try:
        logprobs = await judge.label_logprobs(asked, labels, spellings(labels))
    except UsageError as error:
        return str(error), None
    if isinstance(logprobs, Unscored):
        return (f"{logprobs.reason}: {logprobs.detail}" if logprobs.detail else logprobs.reason), None
    if not logprobs:
        return "its server returns no log-probabilities", None
    return None, read_labels(logprobs, labels).mass


def low_mass_note(mass: float | None, labels: Sequence[str]) -> list[str]:
    """Return a note where a judge that was told to write a label would mostly write something else."""
    if mass is None or mass >= MASS_HALF:
        return []
    named = f"{labels[0]} to {labels[-1]}" if len(labels) > 2 else " and ".join(labels)
    return [f"asked one trial question, it gives {named} a total probability of only {mass:.1%}"]
