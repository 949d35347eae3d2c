"""Asking a model that thinks: the thought up to its end mark or its budget, then the answer behind it.

Two requests instead of one, the second on the first's tokens, which are in the prefix cache. So the thought's budget
and the answer's token limit are exact, a benchmark's stop strings apply to the answer alone, and a thought that runs
out is closed and still answered. vLLM's own ``thinking_token_budget`` bounds thought and answer together only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

from evalsuite.serving.reasoning import Reasoning
from evalsuite.serving.requests import Completion, Guide, Sampling
from judges.thoughts import STARTS, Style, split_thought
from judges.types import Unscored

_LEADING_BLANKS = 2
"""Tokens of blanks that a model may write before it opens its thought."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model generated, with its token ids; ``found_stop`` says that it ended in the requested stop string."""

    text: str
    ids: tuple[int, ...]
    is_cut: bool
    found_stop: bool
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Thought:
    """A thought and the ``context`` that the answer follows: the prompt, the thought and its end, in token ids.

    ``text`` is None where a model answers at once, but says that it is answering (gpt-oss's final channel).
    A model that ended its thought writes the blank lines before its answer itself. ``separator`` are those of the
    template, for what has to begin with the answer: labels, guided output, stop strings that would end at the blanks.
    """

    text: str | None
    context: tuple[int, ...]
    separator: tuple[int, ...]
    n_tokens: int
    ended_by: Literal["model", "budget", "stop"]
    is_short: bool
    cached_tokens: int = 0


class Engine(Protocol):
    """The requests that thinking needs; ``client.Client`` has them."""

    @property
    def reasoning(self) -> Reasoning: ...

    @property
    def tokenizer(self) -> Any: ...

    @property
    def max_model_len(self) -> int: ...

    async def generate(
        self, prompt: Sequence[int], max_tokens: int, sampling: Sampling, stop: str, depth: int
    ) -> Generated | Unscored: ...

    async def complete(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        guide: Guide | None = None,
        stop: Sequence[str] = (),
        skip_special_tokens: bool = True,
        depth: int = 0,
    ) -> Completion | Unscored: ...


async def answer(
    engine: Engine,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    guide: Guide | None = None,
    stop: Sequence[str] = (),
    skip_special_tokens: bool = True,
    depth: int = 0,
) -> Completion | Unscored:
    """Answer a prompt that ends in the assistant's header, after a thought if the model has one."""
    reasoning = engine.reasoning
    if reasoning.max_answer_tokens is not None and guide is None:
        sampling = replace(sampling, max_new_tokens=reasoning.max_answer_tokens)
    ask = partial(engine.complete, guide=guide, stop=stop, skip_special_tokens=skip_special_tokens)
    thought = await think(engine, prompt, sampling, depth) if reasoning.thinks else None
    if thought is None:
        asked = of_model(sampling) if reasoning.sampling == "model" and guide is None else sampling
        plain = await ask(prompt, asked, depth=depth)
        if isinstance(plain, Unscored):
            return plain
        if not (reasoning.thinks and reasoning.style and plain.text.lstrip().startswith(reasoning.style.start)):
            return without_inline_thought(plain, engine.tokenizer)
        # Sampled as the benchmark says, it has opened a thought after all: this answer has one.
        thought = await think(engine, prompt, sampling, depth, opens=True)
    if thought is None or isinstance(thought, Unscored):
        return thought or Unscored("unfinished_thinking", "the context leaves no room for a thought")
    if thought.ended_by != "model" and not reasoning.closes:
        return Unscored("unfinished_thinking", f"no end of the thought within {thought.n_tokens} tokens")
    asked = sampling if reasoning.sampling == "benchmark" or guide is not None else of_model(sampling)
    is_stopped = any(text in reasoning.after_thought or not text.strip() for text in (*sampling.stop, *stop))
    context = thought.context + thought.separator if guide is not None or is_stopped else thought.context
    reply = await ask(context, asked, depth=depth + 1)
    # Some models think again before they answer.
    rest = reply if isinstance(reply, Unscored) else without_inline_thought(reply, engine.tokenizer)
    return rest if isinstance(rest, Unscored) else _joined(thought, rest, len(prompt))


def _joined(thought: Thought, reply: Completion, n_prompt: int) -> Completion:
    """Return an answer together with the thought that it was asked after."""
    texts = (thought.text, reply.thought)
    return replace(
        reply,
        text=reply.text.lstrip("\n"),
        prompt_tokens=n_prompt,
        cached_tokens=thought.cached_tokens,
        thought="\n\n".join(thoughts) if (thoughts := [text for text in texts if text is not None]) else None,
        thought_tokens=thought.n_tokens + reply.thought_tokens,
        thought_closed=thought.ended_by != "model",
        thought_short=thought.is_short,
    )


def of_model(sampling: Sampling) -> Sampling:
    """Return the sampling of the checkpoint's generation_config with this length, seed and stop strings."""
    return replace(sampling, temperature=None, top_p=None, top_k=None)


def without_inline_thought(reply: Completion, tokenizer: Any) -> Completion | Unscored:
    """Take the thoughts out of an answer that begins with any; a text without an answer is unscored."""
    thoughts: list[str] = []
    text: str | None = reply.text
    while text is not None and text.lstrip().startswith(STARTS):
        thought, text = split_thought(text)
        thoughts.append(thought or "")
    if not thoughts:
        return reply
    if text is None:
        return Unscored(
            "unfinished_thinking",
            "there is thinking but no answer within the token limit; for a model that is not known to think, pass "
            "--thinking on with --reasoning-style",
        )
    joined = "\n\n".join(thoughts)
    n_tokens = len(tokenizer.encode(joined, add_special_tokens=False))
    n_answer = max(0, reply.completion_tokens - n_tokens)
    return replace(reply, text=text, thought=joined, thought_tokens=n_tokens, completion_tokens=n_answer)


async def think(
    engine: Engine, prompt: Sequence[int], sampling: Sampling, depth: int, *, opens: bool = False
) -> Thought | Unscored | None:
    """Ask for the thought before an answer; None where the model answers at once, unless the thought is opened for it.

    The context must also hold the answer, ``sampling.max_new_tokens``: what is left of it bounds the thought too.
    """
    reasoning = engine.reasoning
    style = reasoning.style
    if style is None:
        return None
    asked = sampling if reasoning.sampling == "benchmark" else of_model(sampling)
    asked = replace(asked, stop=(), logprobs=False)
    around = len(_ids(engine, reasoning.opening + reasoning.closing))
    room = engine.max_model_len - len(prompt) - sampling.max_new_tokens - around
    budget, cap = min(reasoning.budget, room), min(reasoning.cap, room)
    begun: Generated | None = None
    if opens:
        prompt = [*prompt, *_ids(engine, reasoning.opening)]
    elif not reasoning.is_opened:
        n_first = len(_ids(engine, style.start)) + _LEADING_BLANKS
        if room < n_first:
            return None
        first = await engine.generate(prompt, n_first, asked, style.end, depth)
        if isinstance(first, Unscored):
            return first
        if not first.text.lstrip().startswith(style.start):
            if not style.answer:
                return None
            context = (*prompt, *_ids(engine, style.answer))
            return Thought(None, context, (), 0, "model", is_short=False, cached_tokens=first.cached_tokens)
        begun = first
    if budget < 1:
        return _closed(
            engine, style, prompt, Generated("", (), is_cut=True, found_stop=False), is_short=True, opened=opens
        )
    written = begun or Generated("", (), is_cut=True, found_stop=False)
    if cap > len(written.ids) and not written.found_stop and written.is_cut:
        rest = await engine.generate([*prompt, *written.ids], cap - len(written.ids), asked, style.end, depth)
        if isinstance(rest, Unscored):
            return rest
        cached = rest.cached_tokens if begun is None else begun.cached_tokens
        ids = written.ids + rest.ids
        written = Generated(written.text + rest.text, ids, rest.is_cut, rest.found_stop, cached)
    if len(written.ids) > budget:
        ids = written.ids[:budget]
        text = str(engine.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        written = replace(written, text=text, ids=ids, is_cut=True, found_stop=False)
    return _closed(engine, style, prompt, written, is_short=room < reasoning.budget, opened=opens)


def _closed(
    engine: Engine, style: Style, prompt: Sequence[int], written: Generated, *, is_short: bool, opened: bool
) -> Thought:
    """Return a thought with the end that it lacks: its mark, and what the template writes before the answer."""
    reasoning = engine.reasoning
    if written.found_stop:
        # The tokens may reach past the mark, as in ">\n".
        decoded = engine.tokenizer.decode(written.ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        beyond = str(decoded).rpartition(style.end)[2] if style.end in decoded else ""
        missing = reasoning.after_thought
        ending, separator = "", missing.removeprefix(beyond) if missing.startswith(beyond) else ""
    else:
        opening = "" if written.ids or opened or reasoning.is_opened else reasoning.opening
        ending, separator = opening + reasoning.closing, ""
    text = written.text.lstrip()
    thought = text.removeprefix(style.start).removesuffix(style.end).strip()
    return Thought(
        text=thought,
        context=(*prompt, *written.ids, *_ids(engine, ending)),
        separator=tuple(_ids(engine, separator)),
        n_tokens=len(written.ids),
        ended_by="model" if written.found_stop else "budget" if written.is_cut else "stop",
        is_short=is_short,
        cached_tokens=written.cached_tokens,
    )


def _ids(engine: Engine, text: str) -> list[int]:
    ids: list[int] = engine.tokenizer.encode(text, add_special_tokens=False) if text else []
    return ids
