"""How a model thinks, determined once before anything starts: its style, on or off, and its budget.

The chat template and the tokenizer tell it; ``--thinking`` and ``--reasoning-style`` override them. Prompts are written
here and not by the server, so a thought has its own budget, the answer keeps its benchmark's token limit, and
thinking is switched off the way the template does it or, without a switch, by an empty, closed thought.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.errors import CheckpointError, UsageError, unknown
from evalsuite.serving.chat_format import ChatFormat, load_chat_format
from evalsuite.serving.config import DEFAULT_BUDGET, ServeConfig
from judges.thoughts import STYLES, Style
from judges.types import Message

_SWITCHES = ("enable_thinking", "thinking")
"""The variables by which chat templates switch thinking on and off."""
_HELLO = [Message("user", "Hello")]
_THOUGHT, _ANSWER = "\ue000thought\ue001", "\ue000answer\ue001"


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How one model thinks.

    ``style`` is None for a model that is not known to think, and ``found`` says where the style was found. ``mode`` is
    what was asked for. ``budget`` and ``cap`` are in tokens: a thought is asked up to ``cap`` and cut at ``budget``
    (they differ in a sweep, whose budgets share one thought). ``opening`` and ``closing`` are what the template writes
    around a thought. ``is_opened`` says that the prompt ends in an open one, so that every answer begins in it, and
    ``is_off`` that the template closes it unless thinking is switched on. ``on`` and ``off`` are the template with
    thinking and without.
    """

    style: Style | None = None
    found: str = ""
    mode: str = "auto"
    budget: int = DEFAULT_BUDGET
    cap: int = DEFAULT_BUDGET
    closes: bool = True
    sampling: str = "auto"
    max_answer_tokens: int | None = None
    effort: str | None = None
    template_args: Mapping[str, Any] = field(default_factory=dict)
    opening: str = ""
    closing: str = ""
    is_opened: bool = False
    is_off: bool = False
    on: ChatFormat | None = None
    off: ChatFormat | None = None
    notes: tuple[str, ...] = ()

    @property
    def thinks(self) -> bool:
        """Whether thoughts are asked for."""
        return self.style is not None and self.mode != "off" and not self.is_off

    @property
    def after_thought(self) -> str:
        """What the template writes between the end mark and the answer."""
        return "" if self.style is None else self.closing.rpartition(self.style.end)[2]

    def key(self) -> dict[str, Any]:
        """Return what distinguishes figures of one model; empty for one that does not think, with the defaults."""
        document = self.document()
        if self.style is None and self.on is not None:
            # Nothing of how it would think changes an answer.
            document = {name: document[name] for name in _WITHOUT_THOUGHTS if document.get(name) not in (None, "auto")}
        elif self.style is None and document == NO_REASONING.document():
            document = {}
        return {name: value for name, value in document.items() if name != "found"}

    def document(self) -> dict[str, Any]:
        """Return what scores.json and the manifest say."""
        described = {
            "thinking": self.mode,
            "thinks": self.thinks,
            "style": None if self.style is None else self.style.name,
            "found": self.found or None,
            "budget": self.budget,
            "closes": self.closes,
            "sampling": self.sampling,
        }
        if self.thinks:
            # Log-likelihoods have no place for a thought.
            described["choices"] = "behind a closed, empty thought"
        further = {
            "max_answer_tokens": self.max_answer_tokens,
            "reasoning_effort": self.effort,
            "chat_template_kwargs": dict(self.template_args),
        }
        return described | {name: value for name, value in further.items() if value}


_WITHOUT_THOUGHTS = ("sampling", "max_answer_tokens", "reasoning_effort", "chat_template_kwargs")
"""The settings that change the answers of a model that does not think."""
NO_REASONING = Reasoning()
"""A model that is not known to think, with the default settings."""


def settled(checkpoint: Checkpoint, serve: ServeConfig, budget: int | None = None) -> Reasoning:
    """Return how a model thinks before it is served; ``budget`` is one of a sweep's.

    The tokenizer is loaded only where the options, the template or the tokenizer's file speak of thinking.
    """
    speaks = checkpoint.path is not None and (_is_asked_to_think(serve) or _mentions_thinking(checkpoint))
    chat_format = load_chat_format(checkpoint, serve.fastchat_template) if speaks else None
    reasoning = settle(checkpoint, serve, chat_format)
    return reasoning if budget is None else replace(reasoning, budget=budget)


def _is_asked_to_think(serve: ServeConfig) -> bool:
    asked = serve.thinking == "on" or serve.reasoning_style or serve.reasoning_effort
    return bool(asked or serve.chat_template_kwargs)


def _mentions_thinking(checkpoint: Checkpoint) -> bool:
    if (checkpoint.training or {}).get("reasoning_style"):
        return True
    marks = [mark for style in STYLES.values() for mark in (style.start, style.end)]
    if any(mark in (checkpoint.chat_template or "") for mark in (*marks, *_SWITCHES)):
        return True
    tokens = [f'"{mark}"'.encode() for mark in marks]
    for folder in (checkpoint.adapter, checkpoint.path):
        path = None if folder is None else folder / "tokenizer.json"
        if path is not None and path.is_file():
            text = path.read_bytes()
            if any(token in text for token in tokens):
                return True
    return False


def settle(checkpoint: Checkpoint, serve: ServeConfig, chat_format: ChatFormat | None) -> Reasoning:
    """Return how a model thinks; ``chat_format`` is None for a server that writes the prompts itself.

    Raises UsageError for a style or budget that does not fit the model, CheckpointError for a template that fails.
    """
    asked = Reasoning(
        mode=serve.thinking,
        budget=serve.budget,
        cap=max(serve.thinking_budget),
        closes=serve.close_thinking,
        sampling=serve.sampling,
        max_answer_tokens=serve.max_answer_tokens,
        effort=serve.reasoning_effort,
        template_args=serve.template_args,
    )
    style = _given_style(serve)
    if chat_format is None or chat_format.source is None:
        return replace(asked, style=style, found="--reasoning-style" if style else "")
    args = {**asked.template_args, **({"reasoning_effort": asked.effort} if asked.effort else {})}
    base = replace(chat_format, template_args={**chat_format.template_args, **args})
    base.render(_HELLO)
    notes = [
        f"the chat template of {checkpoint.name} does not use {name}"
        for name in args
        if not re.search(rf"\b{re.escape(name)}\b", base.template or "")
    ]
    own, found = _found_style(checkpoint, base)
    if style is None:
        style = own
    else:
        _require_marks(style, base, checkpoint)
        if own is not None and (own.start, own.end) != (style.start, style.end):
            notes.append(f"--reasoning-style {style.name}, but {found} of {checkpoint.name} has {own.start}")
        found = "--reasoning-style"
    if style is None:
        if asked.mode == "on":
            raise UsageError(
                f"--thinking on: neither the chat template nor the tokenizer of {checkpoint.name} shows how it "
                f"delimits thinking; pass --reasoning-style, one of {', '.join(STYLES)}"
            )
        return replace(asked, on=base, off=base, notes=tuple(notes))
    _check_room(asked, serve, checkpoint)
    return _written(replace(asked, style=style, found=found, notes=tuple(notes)), style, base)


def _given_style(serve: ServeConfig) -> Style | None:
    if serve.reasoning_style is None:
        return None
    if serve.reasoning_style not in STYLES:
        raise UsageError(unknown("reasoning style", serve.reasoning_style, STYLES))
    return STYLES[serve.reasoning_style]


def _found_style(checkpoint: Checkpoint, chat_format: ChatFormat) -> tuple[Style | None, str]:
    """Return the style and where it was found: training record, chat template, or tokens of the tokenizer's own."""
    recorded = (checkpoint.training or {}).get("reasoning_style")
    if isinstance(recorded, str) and recorded in STYLES:
        return STYLES[recorded], "its training record"
    template = chat_format.template or ""
    for name in ("qwen3", "mistral", "seed_oss", "cohere_command3", "openai_gptoss"):
        style = STYLES[name]
        if style.start in template or style.end in template:
            is_switched = any(switch in template for switch in _SWITCHES)
            return STYLES["deepseek_r1"] if name == "qwen3" and not is_switched else style, "its chat template"
    tokens = _own_tokens(chat_format)
    for style in STYLES.values():
        if {style.start, style.end} <= tokens:
            return style, "its tokenizer"
    return None, ""


def _own_tokens(chat_format: ChatFormat) -> set[str]:
    return {str(token) for token in chat_format.tokenizer.get_added_vocab()}


def _require_marks(style: Style, chat_format: ChatFormat, checkpoint: Checkpoint) -> None:
    if not style.is_special:
        return
    tokens = _own_tokens(chat_format)
    marks = re.findall(r"<\|[^|]{1,40}\|>|<[^<>]{1,40}>|\[[^\]]{1,40}\]", style.start + style.end)
    if missing := [mark for mark in dict.fromkeys(marks) if mark not in tokens]:
        raise UsageError(
            f"--reasoning-style {style.name}: the tokenizer of {checkpoint.name} has no token {missing[0]}; "
            "leave the option out to detect the style, or give another"
        )


def _check_room(reasoning: Reasoning, serve: ServeConfig, checkpoint: Checkpoint) -> None:
    """Refuse a budget that was asked for and leaves nothing of the context; a default one is cut per item."""
    length = serve.max_model_len or checkpoint.plain_context
    if length is not None and reasoning.cap != DEFAULT_BUDGET and reasoning.cap >= length:
        raise UsageError(
            f"--thinking-budget {reasoning.cap} leaves no room for prompt and answer in the {length} tokens of context "
            f"of {checkpoint.name}; give a smaller one" + ("" if serve.max_model_len is None else " or --max-model-len")
        )


def _written(reasoning: Reasoning, style: Style, base: ChatFormat) -> Reasoning:
    """Find out from the template what it writes around a thought, and how it switches thinking on and off."""
    own = set(base.tokenizer.get_added_vocab())
    base = replace(base, marks=tuple(mark for mark in (style.start, style.end) if mark in own))
    switch = next((name for name in _SWITCHES if _switches(base, name)), "")
    on = _with_args(base, {switch: True} if switch and reasoning.mode == "on" else {})
    off = _with_args(base, {switch: False} if switch else {})
    opening, closing = _around_thought(on, style)
    prompt, silent, notes = on.render(_HELLO), off.render(_HELLO), list(reasoning.notes)
    is_opened, is_off = _ends_in(prompt, style.start), _ends_in(prompt, style.end)
    if _ends_in(silent, style.start):
        off = replace(off, generation_suffix=closing)
    elif not switch and not _ends_in(silent, style.end):
        off = replace(off, generation_suffix=opening + closing)
    if off.generation_suffix and reasoning.mode == "off":
        notes.append("the chat template has no switch for thinking: an empty, closed thinking block is written")
    if reasoning.mode == "on" and not is_opened:
        on, is_opened, is_off = replace(on, generation_suffix=opening), True, False
    return replace(
        reasoning,
        opening=opening,
        closing=closing,
        is_opened=is_opened,
        is_off=is_off,
        on=on,
        off=off,
        notes=tuple(notes),
    )


def _with_args(chat_format: ChatFormat, args: Mapping[str, Any]) -> ChatFormat:
    return replace(chat_format, template_args={**chat_format.template_args, **args})


def _switches(chat_format: ChatFormat, name: str) -> bool:
    """Whether a template writes another prompt with ``name`` off than on."""
    if not re.search(rf"\b{name}\b", chat_format.template or ""):
        return False
    try:
        texts = [_with_args(chat_format, {name: value}).render(_HELLO) for value in (False, True)]
    except CheckpointError:
        return False
    return texts[0] != texts[1]


def _around_thought(chat_format: ChatFormat, style: Style) -> tuple[str, str]:
    """Return what a template writes before and after the thought of its last turn.

    The usual marks and line breaks where it writes no thought.
    """
    usual = f"{style.start}\n", f"\n{style.end}\n\n"
    if style.name == "openai_gptoss":
        usual = style.start, style.end
    try:
        text = chat_format.render([*_HELLO, Message("assistant", _ANSWER, thought=_THOUGHT)], closed=True)
    except CheckpointError:
        return usual
    before, thought, rest = text.partition(_THOUGHT)
    after, answer, _ = rest.partition(_ANSWER)
    at = before.rfind(style.start)
    if not (thought and answer) or at < 0 or style.end not in after:
        return usual
    # GLM's template breaks the line before the mark too.
    begun = before.removeprefix(chat_format.render(_HELLO))
    return begun if begun.strip().startswith(style.start) else before[at:], after


def _ends_in(prompt: str, mark: str) -> bool:
    """Whether a mark ends the assistant's header, except for blanks."""
    return prompt.rstrip().endswith(mark.rstrip())


def described(reasoning: Reasoning, context: int | None) -> str:
    """Say how a model thinks; "" for one that is not known to. ``context`` is the served one, None if unknown."""
    if reasoning.style is None:
        return ""
    bound = f"up to {reasoning.budget:,} tokens"
    if context is not None and reasoning.budget >= context:
        # The budget then never applies: prompt and answer are reserved first.
        bound = f"in what the prompt and answer leave of {context:,} tokens of context"
    how = f"thinks, {bound}" if reasoning.thinks else "does not think"
    return f"{how} ({reasoning.style.name}, from {reasoning.found}; --thinking {reasoning.mode})"
