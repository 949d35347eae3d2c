"""The loss mask of a conversation: its answers and the token that ends each, nothing else.

The chat template needs no ``{% generation %}`` marks. Each answer is located by the prompt tokens that
``evalsuite run`` would send before it: they must be a prefix of the conversation's tokens, the answer
extends from there to its end-of-turn token, and its tokens are decoded and compared with its text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evalsuite.errors import CheckpointError
from evalsuite.serving.chat_format import ChatFormat
from judges.types import Message

DROP_REASONS: dict[str, str] = {
    "no_answer": "no answer to learn from",
    "bad_roles": "an answer follows an answer or starts the conversation",
    "too_long": "longer than the window",
    "template_refused": "rejected by the chat template",
    "boundary_merges": "the chat template writes its answers elsewhere than in a prompt for them",
    "mask_mismatch": "the tokens of its last answer do not decode to the answer",
}
"""Reasons for dropping a conversation, with descriptions."""

IGNORED = -100
"""The label of a token without loss, the default ``ignore_index`` of torch's cross entropy."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A tokenised conversation: ``answers`` are (start, end) of each answer with its end-of-turn token.

    ``n_without_loss`` answers are context but not trained on, because the template rewrites them once
    later turns follow. ``is_cut`` says that later turns were removed.
    """

    ids: Sequence[int]
    answers: Sequence[tuple[int, int]]
    n_without_loss: int = 0
    is_cut: bool = False

    def labels(self) -> list[int]:
        """Return one label per token: its id inside an answer, else IGNORED."""
        labels = [IGNORED] * len(self.ids)
        for start, end in self.answers:
            labels[start:end] = self.ids[start:end]
        return labels

    @property
    def n_loss_tokens(self) -> int:
        return sum(end - start for start, end in self.answers)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A conversation that is not trained on; ``reason`` is a key of DROP_REASONS or ``judges.types.REASONS``."""

    reason: str
    detail: str = ""


def end_of_turn(form: ChatFormat) -> int:
    """Return the id of the token that ends an answer in this format.

    Raises CheckpointError if the checkpoint has no chat template, or one that ends an answer with
    ordinary text: a model trained on that would not learn to stop.
    """
    if form.source != "checkpoint":
        raise CheckpointError(
            "the base has no chat template; set chat_template in the recipe's sft section to a Jinja file "
            "or to a model with a template"
        )
    messages = [Message("user", "Say yes."), Message("assistant", "Yes")]
    prompt, whole = form.prompt_tokens(messages[:1]), form.conversation_tokens(messages)
    if whole[: len(prompt)] != prompt:
        raise CheckpointError(
            "the chat template does not write an answer right after its generation prompt; give another chat_template"
        )
    tokenizer = form.tokenizer
    control = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    control.update(tokenizer.all_special_ids)
    end = next((token for token in whole[len(prompt) :] if token in control), None)
    if end is None:
        raise CheckpointError(
            "the chat template does not end an answer with a special token, so a model could not learn to stop; "
            "give another chat_template"
        )
    return end


def mark_answers(form: ChatFormat, messages: Sequence[Message], end_id: int) -> Marked | Dropped:
    """Tokenise a conversation exactly as it would be served and locate every answer in it.

    ``end_id`` is ``end_of_turn(form)``. Turns after the last answer are removed. An earlier answer that the
    template rewrites once later turns follow (without its reasoning, for example) has no loss.
    """
    if not (turns := _answer_turns(messages)):
        return Dropped("no_answer")
    if any(turn == 0 or messages[turn - 1].role == "assistant" for turn in turns):
        return Dropped("bad_roles")
    try:
        ids = form.conversation_tokens(messages[: turns[-1] + 1])
        prompts = [form.prompt_tokens(messages[:turn]) for turn in turns]
    except CheckpointError as error:
        return Dropped("template_refused", str(error))
    answers = []
    for turn, prompt in zip(turns, prompts, strict=True):
        start = len(prompt)
        if ids[:start] != prompt or end_id not in ids[start:]:
            continue
        end = ids.index(end_id, start) + 1
        if _decodes_to(form, ids[start : end - 1], messages[turn].content):
            answers.append((start, end))
        elif turn == turns[-1]:
            return Dropped("mask_mismatch", messages[turn].content[:80])
    if not answers:
        return Dropped("boundary_merges", messages[turns[0]].content[:80])
    # Tokens after the last end-of-turn token are never generated when served.
    return Marked(ids[: answers[-1][1]], answers, len(turns) - len(answers))


def _answer_turns(messages: Sequence[Message]) -> list[int]:
    return [turn for turn, message in enumerate(messages) if message.role == "assistant"]


def mark_fitting(
    form: ChatFormat, messages: Sequence[Message], end_id: int, max_length: int, *, cut: bool
) -> Marked | Dropped:
    """Mark a conversation's answers as ``mark_answers`` does if it fits in ``max_length`` tokens.

    A longer one is dropped or, with ``cut``, ended after the last answer that fits, never inside a turn.
    """
    whole = mark_answers(form, messages, end_id)
    if isinstance(whole, Dropped) or len(whole.ids) <= max_length:
        return whole
    start = _fitting_start(form, messages, end_id, whole, max_length) if cut else None
    return start or Dropped("too_long", f"{len(whole.ids):,} tokens")


def _fitting_start(
    form: ChatFormat, messages: Sequence[Message], end_id: int, whole: Marked, max_length: int
) -> Marked | None:
    if not whole.n_without_loss:
        # No answer was rewritten, so a shorter conversation is a prefix of the marked one.
        fitting = [(start, end) for start, end in whole.answers if end <= max_length]
        return Marked(whole.ids[: fitting[-1][1]], fitting, is_cut=True) if fitting else None
    for turn in reversed(_answer_turns(messages)[:-1]):
        if len(form.prompt_tokens(messages[:turn])) >= max_length:
            continue
        # An answer that the template rewrites later is unchanged when it is the last one.
        marked = mark_answers(form, messages[: turn + 1], end_id)
        if isinstance(marked, Marked) and len(marked.ids) <= max_length:
            return replace(marked, is_cut=True)
    return None


def _decodes_to(form: ChatFormat, ids: Sequence[int], content: str) -> bool:
    """Compare decoded tokens with the text, except for outer spaces and Unicode normalisation."""
    decoded = form.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return _normalized(decoded) == _normalized(content)


def _normalized(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()
