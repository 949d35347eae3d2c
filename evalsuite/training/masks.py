"""Which tokens of a conversation are trained on: the answers and the token that ends each, nothing else.

The mask needs no generation marks in the chat template. Every answer's place is found by asking
what ``evalsuite run`` would send before it: those prompt tokens must be a real prefix of the
conversation's tokens, the answer runs from there to its end-of-turn token, and what the mask
lets through is decoded again and compared with the answer's text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evalsuite.errors import CheckpointError
from evalsuite.serving.chat_format import ChatFormat
from judges.types import Message

DROP_REASONS: dict[str, str] = {
    "no_answer": "it has no answer to learn from",
    "bad_roles": "an answer follows an answer, or none of the roles is known",
    "too_long": "it is longer than the window",
    "template_refused": "the chat template refused it",
    "boundary_merges": "the template writes no answer of it where it would be asked for it",
    "mask_mismatch": "the tokens of its last answer do not read as the answer",
}
"""Why a conversation is not trained on, in words."""

IGNORED = -100
"""The label of a token without loss, as torch's cross entropy counts it."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A conversation in tokens: ``answers`` are (start, end) of each answer with its end-of-turn token.

    ``n_without_loss`` answers are read but not trained on, since the template writes them
    differently in hindsight than where they would be asked for. ``is_cut`` says that later turns were left out.
    """

    ids: Sequence[int]
    answers: Sequence[tuple[int, int]]
    n_without_loss: int = 0
    is_cut: bool = False

    def labels(self) -> list[int]:
        """Return one label a token: its id inside an answer, else IGNORED."""
        labels = [IGNORED] * len(self.ids)
        for start, end in self.answers:
            labels[start:end] = self.ids[start:end]
        return labels

    @property
    def n_loss_tokens(self) -> int:
        return sum(end - start for start, end in self.answers)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A conversation that is not trained on; ``reason`` is a key of DROP_REASONS or of the judges' REASONS."""

    reason: str
    detail: str = ""


def end_of_turn(form: ChatFormat) -> int:
    """Return the id of the token that ends an answer in this format.

    Raises CheckpointError where the checkpoint has no chat template of its own, or one that ends
    an answer with ordinary text: a model trained on that would not know when to stop.
    """
    if form.source != "checkpoint":
        raise CheckpointError(
            "the base has no chat template; name one in the recipe: sft: chat_template: FILE.jinja, "
            "or a model whose template to take"
        )
    messages = [Message("user", "Say yes."), Message("assistant", "Yes")]
    prompt, whole = form.prompt_tokens(messages[:1]), form.conversation_tokens(messages)
    if whole[: len(prompt)] != prompt:
        raise CheckpointError(
            "the chat template writes an answer elsewhere than where it asks for one; give another chat_template"
        )
    control = control_ids(form)
    found = next((token for token in whole[len(prompt) :] if token in control), None)
    if found is None:
        raise CheckpointError(
            "the chat template ends an answer with no control token, so a model could not learn to stop; "
            "give another chat_template"
        )
    return found


def control_ids(form: ChatFormat) -> frozenset[int]:
    added = {number for number, token in form.tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(added | set(form.tokenizer.all_special_ids))


def mark_answers(form: ChatFormat, messages: Sequence[Message], end_id: int) -> Marked | Dropped:
    """Tokenise a conversation exactly as it would be served and find every answer in it.

    ``end_id`` is ``end_of_turn(form)``. Turns after the last answer are left out. An earlier answer that the
    template rewrites in hindsight (without its reasoning, say) is read without loss, as it is when served.
    """
    places = [place for place, message in enumerate(messages) if message.role == "assistant"]
    if not places:
        return Dropped("no_answer")
    if any(place == 0 or messages[place - 1].role == "assistant" for place in places):
        return Dropped("bad_roles")
    try:
        ids = form.conversation_tokens(messages[: places[-1] + 1])
        prompts = [form.prompt_tokens(messages[:place]) for place in places]
    except CheckpointError as error:
        return Dropped("template_refused", str(error))
    answers = []
    for place, prompt in zip(places, prompts, strict=True):
        start = len(prompt)
        if ids[:start] != prompt or end_id not in ids[start:]:
            continue
        end = ids.index(end_id, start) + 1
        if _reads_as(form, ids[start : end - 1], messages[place].content):
            answers.append((start, end))
        elif place == places[-1]:
            return Dropped("mask_mismatch", messages[place].content[:80])
    if not answers:
        return Dropped("boundary_merges", messages[places[0]].content[:80])
    # What the template writes after the last end-of-turn token is never generated: it is left out.
    return Marked(ids[: answers[-1][1]], answers, len(places) - len(answers))


def mark_fitting(
    form: ChatFormat, messages: Sequence[Message], end_id: int, max_length: int, *, cut: bool
) -> Marked | Dropped:
    """Mark a conversation's answers where it fits into ``max_length`` tokens, as ``mark_answers`` does.

    A longer one is dropped, or with ``cut`` ended after the last answer with which it fits, as if nothing had come
    behind that one: never inside a turn.
    """
    whole = mark_answers(form, messages, end_id)
    if isinstance(whole, Dropped) or len(whole.ids) <= max_length:
        return whole
    beginning = _beginning(form, messages, end_id, whole, max_length) if cut else None
    return beginning or Dropped("too_long", f"{len(whole.ids):,} tokens")


def _beginning(
    form: ChatFormat, messages: Sequence[Message], end_id: int, whole: Marked, max_length: int
) -> Marked | None:
    if not whole.n_without_loss:
        # Every answer stands as it was given, so what ends with it is the beginning of what is marked already.
        fitting = [(start, end) for start, end in whole.answers if end <= max_length]
        return Marked(whole.ids[: fitting[-1][1]], fitting, is_cut=True) if fitting else None
    places = [place for place, message in enumerate(messages) if message.role == "assistant"]
    for place in reversed(places[:-1]):
        if len(form.prompt_tokens(messages[:place])) >= max_length:
            continue
        # What the template left out of an answer in hindsight stands there when it is the last one.
        marked = mark_answers(form, messages[: place + 1], end_id)
        if isinstance(marked, Marked) and len(marked.ids) <= max_length:
            return replace(marked, is_cut=True)
    return None


def _reads_as(form: ChatFormat, ids: Sequence[int], content: str) -> bool:
    """Compare decoded tokens with the text, but for outer spaces (templates trim) and Unicode form (tokenizers do)."""
    read = form.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return _bare(read) == _bare(content)


def _bare(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()
