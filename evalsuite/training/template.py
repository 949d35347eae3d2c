"""The chat template in training: how it renders conversations with and without thinking, and what ends an answer."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.errors import CheckpointError
from evalsuite.serving.chat_format import ChatFormat
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.reasoning import settle
from judges.thoughts import STYLES, Style
from judges.types import Message

_USUAL_STYLE = "deepseek_r1"
"""The style of thoughts in a template that does not know any: ``<think>`` and ``</think>``."""
_ANSWER = "Yes"
_LONGEST_TAIL = 48
"""No template's marks of an empty thought are longer, in tokens."""


@dataclass(frozen=True, slots=True)
class TrainingTemplate:
    """A chat template with what training has to know of it.

    ``on`` renders conversations whose last answer has a thought, ``off`` the others. ``opening`` and ``closing`` are
    written around a thought. ``end_id`` ends an answer. ``trains_empty_thoughts``: the empty thought before an answer
    without one has loss.
    """

    on: ChatFormat
    off: ChatFormat
    style: Style
    opening: str
    closing: str
    end_id: int = -1
    trains_empty_thoughts: bool = False

    @property
    def tokenizer(self) -> Any:
        return self.on.tokenizer

    def with_tools(self, tools: Sequence[Mapping[str, Any]]) -> TrainingTemplate:
        """Return the template with the tools that a conversation may call."""
        on, off = (
            replace(form, template_args={**form.template_args, "tools": list(tools)}) for form in (self.on, self.off)
        )
        return replace(self, on=on, off=off)

    def header_length(self, prompt: Sequence[int]) -> int:
        """Return the length in tokens of a prompt without an opened or closed thought at its end."""
        start, end = re.escape(self.style.start), re.escape(self.style.end)
        text = self.decode(prompt[-_LONGEST_TAIL:])
        tail = re.search(rf"(?:{start}|(?:{start}\s*)?{end})\s*\Z", text)
        cut = None if tail is None else self.length_of(prompt[-_LONGEST_TAIL:], text[: tail.start()])
        return len(prompt) if cut is None else max(0, len(prompt) - _LONGEST_TAIL) + cut

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def length_of(self, ids: Sequence[int], beginning: str) -> int | None:
        """Return how many tokens decode to ``beginning``, None if it ends inside a token."""
        length = bisect_left(range(len(ids)), len(beginning), key=lambda n: len(self.decode(ids[:n])))
        return length if self.decode(ids[:length]) == beginning else None

    def is_closed(self, prompt: Sequence[int]) -> bool:
        """Return whether a prompt ends in a closed thought."""
        return self.decode(prompt[-_LONGEST_TAIL:]).rstrip().endswith(self.style.end)


def open_template(
    base: Checkpoint, form: ChatFormat, template_args: Mapping[str, Any], *, trains_empty_thoughts: bool = False
) -> TrainingTemplate:
    """Find out how a chat template writes thoughts and ends answers.

    Raises CheckpointError if the checkpoint has no chat template, for one that writes an answer as several messages
    (gpt-oss), and for one that ends an answer with ordinary text: a model trained on that would not learn to stop.
    """
    if form.source != "checkpoint":
        raise CheckpointError(
            "the base has no chat template; set chat_template in the recipe's sft section to a Jinja file "
            "or to a model with a template"
        )
    serve = ServeConfig.model_validate({"chat_template_kwargs": dict(template_args)})
    reasoning = settle(base, serve, form)
    if reasoning.style is not None and reasoning.style.name == "openai_gptoss":
        raise CheckpointError(
            "the chat template writes an answer as several messages on channels (gpt-oss's harmony), "
            "which cannot be trained on; give another base or chat_template"
        )
    on, off = reasoning.on or form, reasoning.off or form
    style, opening, closing = reasoning.style or STYLES[_USUAL_STYLE], reasoning.opening, reasoning.closing
    if reasoning.style is None:
        opening, closing = f"{style.start}\n", f"\n{style.end}\n\n"
    elif reasoning.is_off and False not in template_args.values():
        on = settle(base, serve.model_copy(update={"thinking": "on"}), form).on or on
    if off.generation_suffix and not reasoning.is_opened:
        # Without an opened thought in the prompt, an answer follows the header as the template writes it.
        off = on
    template = TrainingTemplate(on, off, style, opening, closing, trains_empty_thoughts=trains_empty_thoughts)
    return replace(template, end_id=_end_of_turn(template))


def _end_of_turn(template: TrainingTemplate) -> int:
    """Return the id of the token that ends an answer."""
    messages = [Message("user", "Say yes."), Message("assistant", _ANSWER)]
    prompt, whole = template.off.prompt_tokens(messages[:1]), template.off.conversation_tokens(messages)
    header = template.header_length(prompt)
    if whole[:header] != prompt[:header]:
        raise CheckpointError(
            "the chat template does not write an answer right after its generation prompt; give another chat_template"
        )
    tokens = template.tokenizer.added_tokens_decoder.items()
    control = {number for number, token in tokens if token.special} | set(template.tokenizer.all_special_ids)
    control -= {number for number, token in tokens if token.content in (template.style.start, template.style.end)}
    end = next((token for token in whole[header:] if token in control), None)
    if end is None:
        raise CheckpointError(
            "the chat template does not end an answer with a special token, so a model could not learn to stop; "
            "give another chat_template"
        )
    return end
