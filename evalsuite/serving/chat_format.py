"""Rendering and tokenising messages on the client side.

Prompts are tokenised here instead of in the server for three reasons: the exact prompt is known (and is the store's
key), a prompt that is too long is detected before it is sent, and text that looks like a control token stays text. An
answer that contains "<|im_end|>" must not end the turn that quotes it, least of all in a judge's prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from evalsuite.checkpoint import Checkpoint
from evalsuite.checkpoint.templates import check_bounds, check_tokenizer_bounds
from evalsuite.errors import CheckpointError, TemplateError, UsageError, first_line, unknown
from evalsuite.packages import missing_sentence
from evalsuite.serving.config import FASTCHAT
from evalsuite.text import plural, well_formed
from judges.types import Message

_FASTCHAT_BASE_ADAPTER = "BaseModelAdapter"
_PLACEHOLDER = re.compile("\ue000(\\d+)([ct])\ue001")


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """A checkpoint's tokenizer and chat template.

    ``source`` is the origin of the template: "checkpoint", "fastchat:<name>", or None for a base model,
    which has none. ``stop`` are extra stop strings that the format needs. ``named`` says that the user
    chose a FastChat template, which the tokenizer does not have. ``template_args`` are further variables of the
    template, such as ``tools`` or ``enable_thinking``. ``generation_suffix`` follows the header of the assistant's
    turn: the opening of a thought, or an empty one. ``marks`` are tokens around thoughts, which are text in contents.
    """

    tokenizer: Any
    source: str | None
    template: str | None = None
    stop: tuple[str, ...] = ()
    named: bool = False
    template_args: Mapping[str, Any] = field(default_factory=dict)
    generation_suffix: str = ""
    marks: tuple[str, ...] = ()
    _control_tokens: tuple[str, ...] = field(default=(), repr=False)

    def prompt_tokens(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of the prompt for the next assistant turn.

        If the last message is the assistant's, it is left open to be continued. Control tokens in
        message contents become ordinary text (never dropped or rewritten). Raises CheckpointError if
        the checkpoint has no chat template.
        """
        turns, open_text = _split_open_turn(messages)
        if self.quotes_control_tokens(messages):
            ids = self._guarded_tokens(turns)
            return ids + (self._plain_tokens(open_text) if open_text else [])
        return self.encode(self.render(turns) + open_text)

    def open_turn_tokens(self, messages: Sequence[Message], around_thought: tuple[str, str]) -> list[int]:
        """Return the token ids for continuing the last message, the assistant's, with its thought before it, if any.

        ``around_thought`` is the template's text before and after the thought.
        """
        *turns, last = messages
        ids = self.prompt_tokens(turns)
        if last.thought is not None:
            opening, closing = around_thought
            ids += self.encode(opening) + self._plain_tokens(last.thought) + self.encode(closing)
        return ids + self._plain_tokens(last.content)

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """Return the prompt as text, for lm-eval, which tokenises it; a final assistant message is left open."""
        turns, open_text = _split_open_turn(messages)
        return self.render(turns) + open_text

    def conversation_tokens(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of a complete conversation with its last turn closed, for training.

        Control tokens in contents become ordinary text, as in ``prompt_tokens``. Raises CheckpointError
        if the checkpoint has no chat template.
        """
        if self.quotes_control_tokens(messages):
            return self._guarded_tokens(messages, closed=True)
        return self.encode(self.render(messages, closed=True))

    def render(self, messages: Sequence[Message], *, closed: bool = False) -> str:
        """Return the prompt as text, up to and including the header of the assistant's turn.

        With ``closed`` the text ends with the last turn, without that header.
        """
        if self.source is None:
            raise CheckpointError(
                "the checkpoint has no chat template; pass --chat-template FILE (or fastchat:NAME), "
                "or run only suites that need no chat template"
            )
        if self.source.startswith(FASTCHAT):
            text = _render_fastchat(self.source.removeprefix(FASTCHAT), messages, closed=closed)
            return text if closed else text + self.generation_suffix
        try:
            text = self.tokenizer.apply_chat_template(
                [_template_turn(message) for message in messages],
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=not closed,
                **self.template_args,
            )
            return str(text) if closed else f"{text}{self.generation_suffix}"
        except Exception as error:  # a template is untrusted code and may raise anything; retry without a system turn
            if messages and messages[0].role == "system":
                return self.render(_system_into_user(messages), closed=closed)
            given = f" with {', '.join(self.template_args)}" if self.template_args else ""
            raise TemplateError(
                f"the chat template failed{given} ({first_line(error)}); pass another one with --chat-template"
            ) from error

    def encode(self, text: str) -> list[int]:
        """Tokenise rendered text with control tokens, without adding a BOS to the template's."""
        ids: list[int] = self.tokenizer.encode(well_formed(text), add_special_tokens=False)
        return ids

    def _plain_tokens(self, text: str) -> list[int]:
        """Tokenise a message's text with control tokens as ordinary characters."""
        # A mark that is a token, but not a special one, is cut after its first character.
        cuts = [match.start() + 1 for mark in self.marks for match in re.finditer(re.escape(mark), text)]
        ids: list[int] = []
        for start, end in pairwise([0, *sorted(cuts), len(text)]):
            piece = well_formed(text[start:end])
            ids += self.tokenizer(piece, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def quotes_control_tokens(self, messages: Sequence[Message]) -> bool:
        """Whether a content or thought contains what the tokenizer would read as a control token or a mark."""
        texts = [text for message in messages for text in (message.content, message.thought or "")]
        return any(token in text for text in texts for token in (*self._control_tokens, *self.marks))

    def _guarded_tokens(self, messages: Sequence[Message], *, closed: bool = False) -> list[int]:
        """Tokenise the template's text with control tokens and every content and thought as plain text.

        The template is rendered with placeholders for the texts. If it trims contents, which it would
        not do with a placeholder, contents are trimmed here. A template may leave out thoughts, but no content.
        """

        def render(pad: str) -> str:
            turns = [
                msgspec.structs.replace(
                    message,
                    content=message.content and f"{pad}\ue000{index}c\ue001{pad}",
                    thought=message.thought and f"\ue000{index}t\ue001",
                )
                for index, message in enumerate(messages)
            ]
            return self.render(turns, closed=closed)

        last = max((index for index, message in enumerate(messages) if message.content), default=-1)
        trims = last >= 0 and f" \ue000{last}c\ue001 " not in render(" ")
        ids: list[int] = []
        shown = set()
        # The pieces are template text, number and kind of a placeholder, template text, and so on.
        before, *pieces = _PLACEHOLDER.split(render(""))
        ids += self.encode(before)
        for number, kind, after in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
            message = messages[int(number)]
            text = message.content if kind == "c" else (message.thought or "").strip()
            shown |= {int(number)} if kind == "c" else set()
            ids += self._plain_tokens(text.strip() if trims else text) + self.encode(after)
        if any(message.content and index not in shown for index, message in enumerate(messages)):
            raise CheckpointError(
                "the chat template does not render every message; pass another one with --chat-template"
            )
        return ids


def load_chat_format(checkpoint: Checkpoint, fastchat_template: str | None = None) -> ChatFormat:
    """Load the tokenizer of a local checkpoint and choose its chat template.

    In this order: ``--chat-template`` (``fastchat:NAME``, or a file already read into the checkpoint), the checkpoint's
    template, FastChat's template if its adapters know the model by name. Otherwise the model is a base model.
    """
    if checkpoint.path is None:
        raise CheckpointError(f"{checkpoint.name} is an endpoint: no local tokenizer")
    folder = checkpoint.tokenizer_folder or checkpoint.path
    tokenizer = load_tokenizer(folder, trust_remote_code=checkpoint.trust_remote_code)
    _check_vocabulary(checkpoint, tokenizer)
    added = {str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special}
    control = tuple(sorted(added | set(map(str, tokenizer.all_special_tokens))))
    if fastchat_template is not None:
        stops = _fastchat_stops(fastchat_template.removeprefix(FASTCHAT))
        return ChatFormat(tokenizer, fastchat_template, stop=stops, named=True, _control_tokens=control)
    if checkpoint.chat_template is not None:
        check_bounds(checkpoint.chat_template)
        # Set on the tokenizer, because lm-eval renders with it too.
        _adapt_template(tokenizer, checkpoint.chat_template, checkpoint.template_date)
        return ChatFormat(tokenizer, "checkpoint", checkpoint.chat_template, _control_tokens=control)
    if checkpoint.template_names:
        raise CheckpointError(
            f"{checkpoint.name} has the chat templates {', '.join(checkpoint.template_names)} and none of them is the "
            "default; choose one with --chat-template NAME, or chat_template: NAME in a recipe"
        )
    if known := _fastchat_name(checkpoint.name):
        return ChatFormat(tokenizer, f"{FASTCHAT}{known}", stop=_fastchat_stops(known), _control_tokens=control)
    return ChatFormat(tokenizer, None, _control_tokens=control)


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Load a tokenizer, directly with the fast class if the folder has tokenizer.json.

    ``transformers.AutoTokenizer`` imports all model classes (over ten seconds), which the fast tokenizer does not need.
    """
    try:
        if (folder / "tokenizer.json").is_file():
            from transformers import PreTrainedTokenizerFast

            check_tokenizer_bounds(folder / "tokenizer.json")
            return PreTrainedTokenizerFast.from_pretrained(folder)
        from transformers import AutoTokenizer

        # Explicit, because transformers would prompt on the terminal otherwise.
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except CheckpointError:
        raise
    except Exception as error:  # transformers and its backends raise many types; all mean an unreadable tokenizer
        if sentence := missing_sentence(error):
            raise CheckpointError(f"cannot load the tokenizer in {folder}: {sentence}") from error
        raise CheckpointError(
            f"cannot load the tokenizer in {folder} ({first_line(error)}); copy the base model's tokenizer files"
        ) from error


def _check_vocabulary(checkpoint: Checkpoint, tokenizer: Any) -> None:
    """Raise CheckpointError where a prompt can have tokens beyond the embedding, which no row stands for.

    Control tokens that no prompt has are left alone: the tokenizer of Gemma 3's text models keeps one for images.
    """
    rows = checkpoint.embedding_rows
    beyond = {} if rows is None else {token: place for token, place in tokenizer.get_vocab().items() if place >= rows}
    if not beyond:
        return
    ends = {tokenizer.bos_token, tokenizer.eos_token}
    used = [
        token
        for token, place in beyond.items()
        if place not in tokenizer.added_tokens_decoder or token in ends or token in (checkpoint.chat_template or "")
    ]
    if not used and checkpoint.own_tokenizer and checkpoint.path is not None:
        base = load_tokenizer(checkpoint.path, trust_remote_code=checkpoint.trust_remote_code)
        used = sorted(beyond.keys() - base.get_vocab().keys())
    if not used:
        return
    whose, remedy = f"the weights of {checkpoint.name} have", "give the tokenizer that they were trained with"
    if checkpoint.own_tokenizer:
        whose = f"the base of {checkpoint.name} has"
        remedy = "write the adapter into it with evalsuite sft --merge ADAPTER --out FOLDER, and give that folder"
    raise CheckpointError(
        f"{whose} {rows:,} rows in the embedding, and the tokenizer in {checkpoint.tokenizer_folder} has "
        f"{plural(len(beyond), 'token')} beyond them ({used[0]} is {beyond[used[0]]:,}); {remedy}"
    )


def _adapt_template(tokenizer: Any, template: str, on: date) -> None:
    """Let everything that renders with ``tokenizer`` use ``template`` as of a date, with text as parts if it must.

    ``strftime_now`` writes that date: with today's, a run resumed after midnight would mix two prompts.
    """
    tokenizer.chat_template = template
    plain = partial(tokenizer.apply_chat_template, strftime_now=datetime.combine(on, time()).strftime)
    in_parts = partial(_with_parts, plain)
    tokenizer.apply_chat_template = in_parts if not _writes_text(plain) and _writes_text(in_parts) else plain


def _with_parts(
    apply: Callable[..., Any], conversation: Sequence[Mapping[str, Any]], *args: Any, **options: Any
) -> Any:
    """Render with contents as ``[{"type": "text", "text": ...}]``, which is all that some templates read."""
    turns = [
        {**turn, "content": [{"type": "text", "text": content}]}
        if isinstance(content := turn.get("content"), str)
        else turn
        for turn in conversation
    ]
    return apply(turns, *args, **options)


def _writes_text(render: Callable[..., Any]) -> bool:
    text = "A question."
    try:
        return text in render([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
    except Exception:  # a template is untrusted code, which may refuse by raising anything
        return False


def _template_turn(message: Message) -> dict[str, Any]:
    """Return a message as chat templates read it: fields that are not set are left out."""
    calls = [
        {"type": "function", "function": {"name": call.name, "arguments": json.loads(call.arguments)}}
        | ({"id": call.id} if call.id else {})
        for call in message.tool_calls
    ]
    turn: dict[str, Any] = {"role": message.role, "content": message.content, "tool_calls": calls, "name": message.name}
    # gpt-oss's and Magistral's templates call the thought "thinking", all others "reasoning_content".
    turn |= {"reasoning_content": message.thought, "thinking": message.thought, "tool_call_id": message.tool_call_id}
    return {key: value for key, value in turn.items() if value or key in {"role", "content"}}


def _split_open_turn(messages: Sequence[Message]) -> tuple[list[Message], str]:
    if messages and messages[-1].role == "assistant":
        return list(messages[:-1]), messages[-1].content
    return list(messages), ""


def _system_into_user(messages: Sequence[Message]) -> list[Message]:
    """Merge the system text into the first user turn, for templates without a system role."""
    system, rest = messages[0].content, messages[1:]
    if not rest or rest[0].role != "user":
        return [Message("user", system), *rest]
    return [Message("user", f"{system}\n\n{rest[0].content}"), *rest[1:]]


def _render_fastchat(name: str, messages: Sequence[Message], *, closed: bool) -> str:
    from fastchat.conversation import get_conv_template

    conversation = get_conv_template(name)
    # Remove the example turns of templates such as "one_shot".
    conversation.messages = []
    for message in messages:
        if message.role == "system":
            conversation.set_system_message(message.content)
        else:
            conversation.append_message(conversation.roles[0 if message.role == "user" else 1], message.content)
    if not closed:
        conversation.append_message(conversation.roles[1], None)
    prompt: str = conversation.get_prompt()
    return prompt


def _fastchat_stops(name: str) -> tuple[str, ...]:
    from fastchat.conversation import conv_templates

    if name not in conv_templates:
        raise UsageError(unknown("FastChat conversation template", name, conv_templates))
    stop = conv_templates[name].stop_str
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def _fastchat_name(model_name: str) -> str | None:
    """Return the conversation template of FastChat's adapter for a model name, None without one."""
    from fastchat.model.model_adapter import get_model_adapter

    adapter: Any = get_model_adapter(model_name)
    if type(adapter).__name__ == _FASTCHAT_BASE_ADAPTER:
        return None
    return str(adapter.get_default_conv_template(model_name).name)
