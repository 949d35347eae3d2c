"""Where a model's thought ends and its answer begins; pure.

A reasoning model writes its thought between two marks before it answers. Styles carry the names of vLLM's
``--reasoning-parser``. A thought is never read as an answer or for a verdict, wherever the text comes from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Style:
    """The marks around a thought; ``is_special`` says that they are single tokens in every such model.

    ``answer`` is what such a model writes before an answer without a thought, which is no part of the answer.
    """

    name: str
    start: str
    end: str
    is_special: bool = False
    answer: str = ""


_ANGLE = ("<think>", "</think>")
_IN_ANGLES = "deepseek_r1 qwen3 olmo3 glm45 nemotron_v3 ernie45 kimi_k2 minimax_m2 mimo step3"
_FINAL = "<|channel|>final<|message|>"
_SPECIAL: Mapping[str, tuple[str, ...]] = {
    "mistral": ("[THINK]", "[/THINK]"),
    "seed_oss": ("<seed:think>", "</seed:think>"),
    "cohere_command3": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "openai_gptoss": ("<|channel|>analysis<|message|>", f"<|end|><|start|>assistant{_FINAL}", _FINAL),
}
STYLES: Mapping[str, Style] = {
    **{name: Style(name, *_ANGLE) for name in _IN_ANGLES.split()},
    **{name: Style(name, start, end, True, *answer) for name, (start, end, *answer) in _SPECIAL.items()},
}
"""The marks of each style, as vLLM 0.32's parsers have them (``reasoning_start_str``, ``reasoning_end_str``); for
mistral and openai_gptoss, where vLLM states none, as the models' chat templates write them."""

MARKS: tuple[tuple[str, str], ...] = tuple(dict.fromkeys((style.start, style.end) for style in STYLES.values()))
"""The distinct pairs of marks."""
STARTS = tuple(start for start, _ in MARKS)

_REPEATS, _LEAST_WORDS, _LONGEST_RUN = 4, 40, 200
_FENCE = re.compile(r"^[ \t]{0,3}(?:```|~~~)", re.MULTILINE)


def split_thought(text: str, *, is_opened: bool = False) -> tuple[str | None, str | None]:
    r"""Split an answer as the model wrote it into (thought, answer).

    The thought is None if there is none, and the answer is None where the thought does not end. Only a text that
    begins with a start mark holds a thought, or one whose first mark is an end mark outside code blocks: the chat
    template opened the thought then, which ``is_opened`` says for certain. Marks further on are text.

    >>> split_thought("<think>maybe [[3]]</think>\n\nRating: [[8]]")
    ('maybe [[3]]', 'Rating: [[8]]')
    >>> split_thought("Close it with `</think>`"), split_thought("<think>so")
    ((None, 'Close it with `</think>`'), ('so', None))
    """
    stripped = text.lstrip()
    for start, end in MARKS:
        if stripped.startswith(start):
            thought, mark, answer = stripped[len(start) :].partition(end)
            return thought.strip(), answer.lstrip("\n") if mark else None
    for start, end in MARKS:
        thought, mark, answer = text.partition(end)
        if mark and start not in thought and (is_opened or _is_bare(thought)):
            return thought.strip(), answer.lstrip("\n")
    return (text.strip(), None) if is_opened else (None, text)


def _is_bare(before: str) -> bool:
    """Whether an end mark after this text is not quoted: not in a code block, nor behind a backtick or quote."""
    return len(_FENCE.findall(before)) % 2 == 0 and not before.endswith(("`", '"', "'", "“", "\\"))


def answer_alone(text: str) -> str:
    """Return a recorded text without its thought; "" where the thought does not end."""
    return split_thought(text)[1] or ""


def is_loop(text: str) -> bool:
    """Return whether a text ends in the same words again and again.

    The last four or more copies of one run of at most 200 words must cover 40 words; the last copy may be cut. Meant
    for texts that ended at the token limit: a refrain that ends by itself is none.
    """
    words = text.split()[-(_REPEATS + 1) * _LONGEST_RUN :]
    for period in range(1, _LONGEST_RUN + 1):
        needed = max(_REPEATS * period, _LEAST_WORDS)
        if len(words) < needed:
            return False
        tail = words[-needed:]
        if all(one == other for one, other in zip(tail, tail[period:], strict=False)):
            return True
    return False
