"""Types shared by judges and suites.

Failures are data: an item that could not be answered, judged or parsed is an :class:`Unscored` with a
reason from :data:`REASONS`. It is counted and reported, and never given a made-up score.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool", "developer"]

REASONS: dict[str, str] = {
    "context_length": "the prompt does not fit in the model's context window",
    "request_failed": "the server rejected the request or failed it after all retries",
    "malformed_reply": "the server's reply could not be parsed",
    "non_finite_logprob": "a returned log-probability was NaN or minus infinity",
    "content_filter": "the server's content filter refused the question or the answer",
    "no_logprobs": "the server gives no log-probabilities",
    "label_mass": "the labels have too little of the next token's probability",
    "timeout": "the server did not answer in time",
    "wrong_model": "a different model answered than was requested",
    "unfinished_reply": "the server cut its answer off",
    "unfinished_thinking": "the model's thought did not end",
    "empty_reply": "the server returned no tokens",
    "no_answer": "the model's answer to judge is missing",
    "no_rating": "the judge gave no rating",
    "rating_out_of_range": "the judge's rating is outside the scale",
    "no_verdict": "the judge gave no verdict",
    "no_quorum": "no more than half of the panel's judges gave a verdict",
    "no_majority": "the panel's judges name different options",
    "no_option": "no option could be extracted from the answer",
    "no_judge": "no judge was given",
    "recorded_failure": "the recorded file marks this item as failed",
    "data_unavailable": "the benchmark's data is not available",
    "empty": "the conversation has no user turn, or an empty turn",
    "starts_with_assistant": "the conversation starts with an assistant turn",
    "bad_roles": "a turn has an unknown role, or roles do not alternate",
    "malformed_row": "the row does not match its columns",
    "no_score": "the scoring function or the reward model gave no score",
    "tool_turns": "the conversation has tools or a tool's turns, which a model cannot be asked for again",
}
"""Every reason an item can be unscored, with its description."""


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A call of a tool by the assistant; ``arguments`` is the JSON text of an object."""

    name: str
    arguments: str = "{}"
    id: str = ""


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One turn of a conversation.

    ``thought`` is what an assistant turn thinks before its content. ``weight`` is that of the turn's loss in training,
    None for 1. ``name`` and ``tool_call_id`` say which call a tool's turn answers.
    """

    role: Role
    content: str
    thought: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    weight: float | None = None
    name: str = ""
    tool_call_id: str = ""


def user_texts(messages: Iterable[Message]) -> list[str]:
    """Return what the user said, a text per turn."""
    return [message.content for message in messages if message.role == "user"]


@dataclass(frozen=True, slots=True)
class Unscored:
    """An item without a valid answer or verdict.

    ``reason`` is a key of :data:`REASONS`; ``detail`` is free text for people (an error
    message, the unparsable reply) and is ignored when counting.
    """

    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"unknown reason {self.reason!r}; expected one of {', '.join(sorted(REASONS))}")


@dataclass(frozen=True, slots=True)
class Rating:
    """A judge's rating on a named scale, with the text it was parsed from and the judge's thought before it.

    ``closed_after`` is the judgment before a closing under guided output, None where there was none.
    """

    value: float
    text: str
    thought: str | None = None
    closed_after: str | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    """A pairwise preference in AlpacaEval's convention.

    ``value`` lies in [1, 2]: 1 = the first output is certainly better, 2 = the second, 1.5 = a tie. ``logprobs`` holds
    the raw log-probability of each requested label (empty if the two outputs were identical and no judge was asked).
    """

    value: float
    logprobs: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """The option extracted from an answer, as a capital letter, or the label of a comparison; else as a Rating."""

    letter: str
    text: str = ""
    thought: str | None = None
    closed_after: str | None = None
