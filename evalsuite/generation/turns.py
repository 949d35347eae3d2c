"""Answering one conversation: the history of each user turn, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalsuite.conversations.formats import Conversation
from evalsuite.errors import TemplateError
from evalsuite.generation.settings import GenerateConfig
from evalsuite.serving.requests import Chat, Completion, Sampling, derive_seed
from judges.types import Message, Role, Unscored


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the answered conversation in the output.

    A missing answer is an assistant turn whose ``content`` is None and whose ``finish_reason`` is the
    reason (a key of ``judges.types.REASONS``). ``completion_tokens`` are the answer's without its thought,
    ``thought_closed`` says that the thought used up its budget.
    """

    role: Role
    content: str | None
    finish_reason: str | None = None
    cumulative_logprob: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_content: str | None = None
    thought_tokens: int | None = None
    thought_closed: bool | None = None

    @property
    def unscored(self) -> str | None:
        return self.finish_reason if self.role == "assistant" and self.content is None else None


SERVER_REASONS = frozenset(
    {
        "request_failed", "timeout", "malformed_reply", "unfinished_reply", "empty_reply", "wrong_model",
        "non_finite_logprob",
    }
)  # fmt: skip
"""Why an answer is missing through the server's fault: asked again by the next call."""


async def answer_conversation(
    conversation: Conversation, model: Chat, config: GenerateConfig, *, sample: int = 0, earlier: Sequence[Turn] = ()
) -> tuple[Turn, ...]:
    """Answer every user turn, in order.

    ``own``: the history contains the model's answers, and turns after a failed one are "no_answer". ``teacher-forced``:
    the history contains the original assistant turns, as in WILDCHAT-50M's script, and every turn is asked even if an
    earlier one failed. User texts are sent unchanged; ``system`` replaces the conversation's system turn. What
    ``earlier`` answered stays, and so do its failures that are not the server's, unless ``retry_failed``.
    """
    recorded = [turn for turn in earlier if turn.role == "assistant"]
    first_system = conversation.messages[0].content if conversation.messages[0].role == "system" else None
    system = config.system or first_system
    history = [Message("system", system)] if system else []
    turns = [Turn("system", system)] if system else []
    failed = None
    number = 0
    for place, message in enumerate(conversation.messages):
        if message.role == "system" and place:
            history.append(message)
            turns.append(Turn("system", message.content))
        if message.role == "assistant" and config.policy == "teacher-forced":
            history.append(message)
        if message.role != "user":
            continue
        number += 1
        history.append(message)
        turns.append(Turn("user", message.content))
        known = recorded[number - 1] if number <= len(recorded) else None
        if known is not None and (known.content is not None or _stays(known, config)):
            turns.append(known)
            if known.content is None:
                failed = failed or number
            elif config.policy == "own":
                history.append(Message("assistant", known.content, thought=known.reasoning_content))
            continue
        reply: Completion | Unscored
        if failed is not None and config.policy == "own":
            reply = Unscored("no_answer", f"turn {failed} has no answer")
        else:
            sampling = Sampling(
                config.max_new_tokens,
                temperature=config.temperature,
                top_p=config.top_p,
                # The first sample's seed is that of a run with one sample.
                seed=derive_seed(config.seed, "generate", conversation.hash, number, *([sample] if sample else [])),
                logprobs=config.logprobs,
            )
            reply = await _ask(history, model, sampling)
            if isinstance(reply, Completion) and not reply.text.strip():
                reply = Unscored("empty", f"the answer to turn {number} has no text")
        if isinstance(reply, Unscored):
            failed = failed or number
            turns.append(Turn("assistant", None, reply.reason))
            continue
        turns.append(_answered(reply, config))
        if config.policy == "own":
            history.append(Message("assistant", reply.text, thought=reply.thought))
    return tuple(turns)


def _answered(reply: Completion, config: GenerateConfig) -> Turn:
    logprob = reply.cumulative_logprob
    thinks = reply.thought is not None
    return Turn(
        "assistant",
        reply.text,
        _finish(reply, config),
        None if logprob is None else round(logprob, 4),
        reply.prompt_tokens,
        reply.completion_tokens,
        reply.thought,
        reply.thought_tokens if thinks else None,
        reply.thought_closed if thinks else None,
    )


def _stays(turn: Turn, config: GenerateConfig) -> bool:
    """Whether a recorded failure is kept; ``no_answer`` follows from the turns before it."""
    return turn.finish_reason not in {*SERVER_REASONS, "no_answer"} and not config.retry_failed


def _finish(reply: Completion, config: GenerateConfig) -> str:
    """Return how the answer ended; one of ``max_new_tokens`` was cut, even where the server says "stop"."""
    at_cap = reply.finish_reason == "stop" and reply.completion_tokens >= config.max_new_tokens
    return "length" if at_cap else reply.finish_reason


async def _ask(history: Sequence[Message], model: Chat, sampling: Sampling) -> Completion | Unscored:
    text = history[-1].content
    if not text.strip():
        return Unscored("empty", "the user turn has no text")
    try:
        return await model.chat(history, sampling)
    except TemplateError as error:
        # The template works for other conversations, but rejects this one.
        return Unscored("bad_roles", str(error))
