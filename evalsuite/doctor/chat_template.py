"""A checkpoint's chat template, tried out: whether it writes every message, opens and ends turns correctly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from evalsuite.checkpoint import Checkpoint, generation_config
from evalsuite.checkpoint.text_part import end_tokens
from evalsuite.doctor.finding import Finding, Level, fault, ok
from evalsuite.errors import EvalsuiteError
from evalsuite.serving.chat_format import ChatFormat, load_chat_format
from judges.types import Message

Role = Literal["candidate", "judge"]

_SYSTEM, _USER, _ASSISTANT = "A system text.", "A question.", "An answer."
_HELLO = [Message("user", _USER)]
_OTHER = "--chat-template FILE"
_Problem = tuple[Level, str, str]
"""A finding's level, message and remedy."""


def check_template(
    checkpoint: Checkpoint, fastchat_template: str | None, role: Role, *, needs_chat: bool
) -> list[Finding]:
    """Render test conversations; ``needs_chat`` says whether a suite to be run needs a chat template."""
    try:
        chat_format = load_chat_format(checkpoint, fastchat_template)
        if chat_format.source is None:
            level: Level = "fault" if needs_chat or role == "judge" else "warning"
            message, remedy = "no chat template, so it looks like a base model", f"pass {_OTHER} or fastchat:NAME"
            return [Finding("template", checkpoint.name, level, message, remedy)]
        problems = list(_problems(chat_format, checkpoint, role))
    except EvalsuiteError as error:
        return [fault("template", checkpoint.name, str(error))]
    source = "the checkpoint's own" if chat_format.source == "checkpoint" else chat_format.source
    findings = [Finding("template", checkpoint.name, level, message, remedy) for level, message, remedy in problems]
    findings = findings or [ok("template", checkpoint.name, f"chat template OK ({source})")]
    if checkpoint.writes_date and chat_format.source == "checkpoint":
        message = f"its chat template writes today's date, which evalsuite fixes at {checkpoint.template_date}"
        findings.append(ok("date", checkpoint.name, f"{message}; --template-date sets another"))
    return findings


def _problems(chat_format: ChatFormat, checkpoint: Checkpoint, role: Role) -> Iterator[_Problem]:
    prompt, tokens = chat_format.render(_HELLO), chat_format.prompt_tokens(_HELLO)
    if _USER not in prompt:
        yield "fault", "its chat template omits user messages", f"pass {_OTHER}"
        return
    yield from _bos_problems(chat_format, tokens)
    if chat_format.render(_HELLO, closed=True) == prompt and not _answers_at_once(chat_format, prompt):
        message = "its chat template does not open the assistant's turn (add_generation_prompt has no effect)"
        yield "warning", message, f"answers may continue the user's turn; pass {_OTHER}"
    if chat_format.source == "checkpoint":
        yield from _system_problems(chat_format, role)
        yield from _end_problems(chat_format, checkpoint)


def _answers_at_once(chat_format: ChatFormat, prompt: str) -> bool:
    """Whether the template writes an answer right behind the user's turn, as [INST] ... [/INST] does."""
    whole = chat_format.render([*_HELLO, Message("assistant", _ASSISTANT)], closed=True)
    before, found, _ = whole.partition(_ASSISTANT)
    opening = prompt.partition(_USER)[2]
    return bool(found and opening.strip()) and before.rstrip() == prompt.rstrip() and not whole.endswith(opening)


def _bos_problems(chat_format: ChatFormat, tokens: list[int]) -> Iterator[_Problem]:
    """Check that BOS is written exactly once where the tokenizer adds it to plain text."""
    tokenizer = chat_format.tokenizer
    bos = tokenizer.bos_token_id
    if bos is None:
        return
    if tokens[:2] == [bos, bos]:
        message = f"its chat template writes the BOS token {tokenizer.bos_token} twice"
        yield "fault", message, f"remove one from the template, or pass {_OTHER}"
    elif tokenizer.encode(_USER)[:1] == [bos] != tokens[:1]:
        message = f"its tokenizer adds {tokenizer.bos_token} to plain text, but its chat template does not"
        yield "warning", message, "write {{ bos_token }} first if the model was trained with it"


def _system_problems(chat_format: ChatFormat, role: Role) -> Iterator[_Problem]:
    """Check that a system message reaches the model: a refused one goes into the user's, a dropped one is lost."""
    turns = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _USER}]
    try:
        text = chat_format.tokenizer.apply_chat_template(
            turns, chat_template=chat_format.template, tokenize=False, add_generation_prompt=True
        )
    except Exception:  # a template is untrusted code, which may refuse by raising anything
        yield (
            "warning",
            "its chat template takes no system message; it is prepended to the first user message instead",
            "",
        )
        return
    if _SYSTEM not in text:
        is_judge = role == "judge"
        remedy = f"judge with another model, or pass {_OTHER}" if is_judge else ""
        yield "fault" if is_judge else "warning", "its chat template silently drops system messages", remedy


def _end_problems(chat_format: ChatFormat, checkpoint: Checkpoint) -> Iterator[_Problem]:
    """Check that the server stops at the token that ends the assistant's turn."""
    special = set(chat_format.tokenizer.all_special_ids) | set(chat_format.tokenizer.added_tokens_decoder)

    def control_token_after(*turns: Message) -> int | None:
        text = chat_format.render([*_HELLO, Message("assistant", _ASSISTANT), *turns], closed=True)
        return next((token for token in chat_format.encode(text.partition(_ASSISTANT)[2]) if token in special), None)

    end = control_token_after()
    if end is None:
        following = control_token_after(*_HELLO)
        if following is not None and following in _stop_tokens(checkpoint, chat_format):
            # GLM's answers end where the next turn begins.
            return
        message = "its chat template ends the assistant's turn without a control token"
        yield "warning", message, "answers may run to their maximum length"
    elif end not in _stop_tokens(checkpoint, chat_format):
        token = chat_format.tokenizer.decode([end])
        message = f"{token}, which ends its turns, is not a stop token (eos_token_id of generation_config.json)"
        yield "warning", message, f"add {end} there, or answers run to their maximum length"


def _stop_tokens(checkpoint: Checkpoint, chat_format: ChatFormat) -> set[int]:
    """Return the token ids that vLLM stops at: the tokenizer's EOS and generation_config.json's, else config.json's."""
    # vLLM reads the base's, whatever is in an adapter's folder.
    config = generation_config(replace(checkpoint, adapter=None)) or checkpoint.config or {}
    return {chat_format.tokenizer.eos_token_id, *end_tokens(config)}
