"""From messages to token ids, on our side of the wire.

Prompts are rendered and tokenised here, not in the server, for three reasons: what was asked
is known exactly (and is the store's key), a prompt that does not fit is seen before it is
sent, and text that looks like a control token stays text. An answer that contains
"<|im_end|>" must not end the turn it is quoted in, least of all in a judge's prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.errors import CheckpointError
from judges.types import Message

_FASTCHAT_BASE_ADAPTER = "BaseModelAdapter"


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """A checkpoint's tokenizer with its way of writing a conversation.

    ``source`` says where the way comes from: "checkpoint", "fastchat:<name>", or None for a
    base model, which has none. ``stop`` are extra stop strings that the format needs. ``named``
    says that the user chose one of FastChat's, which the tokenizer knows nothing of.
    """

    tokenizer: Any
    source: str | None
    template: str | None = None
    stop: tuple[str, ...] = ()
    named: bool = False
    _control_words: tuple[str, ...] = field(default=(), repr=False)

    def prompt_tokens(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of the prompt that the next assistant turn continues.

        When the last message is the assistant's, its text is left open and continued. Control
        tokens inside message contents become ordinary text (never dropped, never rewritten).
        Raises CheckpointError when the checkpoint has no chat format.
        """
        turns, opened = _split_open_turn(messages)
        if any(word in turn.content for turn in messages for word in self._control_words):
            ids = self._guarded_tokens(turns)
            return ids + (self._plain_tokens(opened) if opened else [])
        return self.encode(self.render(turns) + opened)

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """Return the prompt as text; the assistant's last message is left open. For lm-eval, which tokenises itself."""
        turns, opened = _split_open_turn(messages)
        return self.render(turns) + opened

    def conversation_tokens(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of a whole conversation, whose last turn is closed: what training reads.

        Control tokens inside contents become ordinary text, as in ``prompt_tokens``. Raises
        CheckpointError when the checkpoint has no chat format.
        """
        if any(word in turn.content for turn in messages for word in self._control_words):
            return self._guarded_tokens(messages, closed=True)
        return self.encode(self.render(messages, closed=True))

    def render(self, messages: Sequence[Message], *, closed: bool = False) -> str:
        """Return the prompt as text, up to and including the header of the assistant's turn.

        ``closed`` leaves that header out: the text ends with the last turn.
        """
        if self.source is None:
            raise CheckpointError(
                "the checkpoint has no chat template; pass --chat-template FILE (or fastchat:NAME), "
                "or run only suites that do not chat (--suite openllm)"
            )
        if self.source.startswith("fastchat:"):
            return _render_fastchat(self.source.removeprefix("fastchat:"), messages, closed=closed)
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._apply(turns, closed=closed)
        except Exception as error:  # a template is foreign code: whatever it raises, try it without a system turn first
            if turns and turns[0]["role"] == "system":
                merged = [Message(turn["role"], turn["content"]) for turn in _system_into_user(turns)]  # type: ignore[arg-type]
                return self.render(merged, closed=closed)
            raise CheckpointError(
                f"the chat template failed ({error}); pass another one with --chat-template"
            ) from error

    def encode(self, text: str) -> list[int]:
        """Tokenise rendered text: control tokens count, and no BOS is added to the template's own."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _apply(self, turns: list[dict[str, str]], *, closed: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(
            turns, chat_template=self.template, tokenize=False, add_generation_prompt=not closed
        )
        return text

    def _plain_tokens(self, text: str) -> list[int]:
        """Tokenise foreign text with control tokens read as ordinary characters."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def _guarded_tokens(self, messages: Sequence[Message], *, closed: bool = False) -> list[int]:
        """Tokenise the template's own words as control text and every content as plain text.

        Contents are stood in for by marks while the template renders. A template that trims
        contents would not trim a mark, so contents are trimmed alike when it is seen to do so.
        """
        marks = [f"\ue000{index}\ue001" for index in range(len(messages))]
        probe = self.render(
            [Message(m.role, f" {mark} ") for m, mark in zip(messages, marks, strict=True)], closed=closed
        )
        trims = bool(messages) and f" {marks[-1]} " not in probe
        rendered = self.render([Message(m.role, mark) for m, mark in zip(messages, marks, strict=True)], closed=closed)
        ids: list[int] = []
        rest = rendered
        for message, mark in zip(messages, marks, strict=True):
            before, found, rest = rest.partition(mark)
            if not found:
                raise CheckpointError(
                    "the chat template does not write out every message; pass another with --chat-template"
                )
            ids += self.encode(before)
            ids += self._plain_tokens(message.content.strip() if trims else message.content)
        return ids + self.encode(rest)


def load_chat_format(checkpoint: Checkpoint, template_word: str | None = None) -> ChatFormat:
    """Load the tokenizer of a local checkpoint and settle how conversations are written.

    Order: ``--chat-template`` (a file already read into the checkpoint, or ``fastchat:NAME``),
    the checkpoint's own template, then FastChat's conversation template when its adapters know
    the model by name. A model that none of them knows is a base model.
    """
    if checkpoint.path is None:
        raise CheckpointError(f"{checkpoint.name} is an endpoint: its tokenizer is on the other side")
    tokenizer = load_tokenizer(checkpoint.path, trust_remote_code=checkpoint.trust_remote_code)
    words = tuple(sorted({str(token) for token in tokenizer.all_special_tokens} | _added_control_words(tokenizer)))
    if template_word and template_word.startswith("fastchat:"):
        name = template_word.removeprefix("fastchat:")
        return ChatFormat(tokenizer, f"fastchat:{name}", stop=_fastchat_stops(name), named=True, _control_words=words)
    if checkpoint.chat_template is not None:
        # lm-eval asks the tokenizer itself; an overridden template must reach it there too.
        tokenizer.chat_template = checkpoint.chat_template
        return ChatFormat(tokenizer, "checkpoint", checkpoint.chat_template, _control_words=words)
    if known := _fastchat_name(checkpoint.name):
        return ChatFormat(tokenizer, f"fastchat:{known}", stop=_fastchat_stops(known), _control_words=words)
    return ChatFormat(tokenizer, None, _control_words=words)


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Load a tokenizer; the fast class alone where the folder has tokenizer.json.

    ``transformers.AutoTokenizer`` imports the model zoo (over ten seconds), which the fast
    tokenizer does not need.
    """
    try:
        if (folder / "tokenizer.json").is_file():
            from transformers import PreTrainedTokenizerFast

            return PreTrainedTokenizerFast.from_pretrained(folder)
        from transformers import AutoTokenizer

        # Said in so many words: left open, transformers asks on the terminal.
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises whatever its backends raise; all of it means: unreadable
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"cannot load the tokenizer in {folder} ({reason}); copy the base model's tokenizer files"
        ) from error


def _split_open_turn(messages: Sequence[Message]) -> tuple[list[Message], str]:
    if messages and messages[-1].role == "assistant":
        return list(messages[:-1]), messages[-1].content
    return list(messages), ""


def _system_into_user(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """Give the system text to the first user turn: some templates know no system role."""
    system, rest = turns[0]["content"], turns[1:]
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system}, *rest]
    return [{"role": "user", "content": f"{system}\n\n{rest[0]['content']}"}, *rest[1:]]


def _added_control_words(tokenizer: Any) -> set[str]:
    return {str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special}


def _render_fastchat(name: str, messages: Sequence[Message], *, closed: bool) -> str:
    from fastchat.conversation import get_conv_template

    conversation = get_conv_template(name)
    # Templates come with example turns ("one_shot"); only the conversation at hand is asked.
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
        from evalsuite.errors import UsageError, unknown

        raise UsageError(unknown("FastChat conversation template", name, conv_templates))
    stop = conv_templates[name].stop_str
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def _fastchat_name(model_name: str) -> str | None:
    """The conversation template that FastChat's adapters give a model of this name, if they know it."""
    from fastchat.model.model_adapter import get_model_adapter

    adapter: Any = get_model_adapter(model_name)
    if type(adapter).__name__ == _FASTCHAT_BASE_ADAPTER:
        return None
    return str(adapter.get_default_conv_template(model_name).name)
