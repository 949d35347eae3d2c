"""MT-Bench's single-answer grading: choosing and filling the judge prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from judges.templates import fill, placeholders_of
from judges.types import Message

CATEGORIES_WITH_REFERENCE = frozenset({"math", "reasoning", "coding"})
"""Categories that are judged against a reference answer (FastChat's NEED_REF_CATS within MT-Bench)."""

RATING_LEAD_IN = "\n\nRating: [["
"""Appended to a judgment without a valid rating; the judge then completes it with one of the choices."""

RATING_CHOICES = tuple(f"{rating}]]" for rating in range(1, 11))


def needs_reference(category: str) -> bool:
    """Return whether answers of this MT-Bench category are judged against a reference."""
    return category in CATEGORIES_WITH_REFERENCE


def prompt_name(*, turn: Literal[1, 2], with_reference: bool) -> str:
    """Return the name of the judge_prompts.jsonl row for a turn, with or without a reference."""
    return f"single-{'math-v1' if with_reference else 'v1'}{'-multi-turn' if turn == 2 else ''}"


def _values(
    turns: Sequence[str], answers: Sequence[str], reference: Sequence[str] | None, turn: Literal[1, 2]
) -> dict[str, str]:
    for what, texts in (("questions", turns), ("answers", answers), ("reference answers", reference)):
        if texts is not None and len(texts) < turn:
            raise ValueError(f"{len(texts)} {what} for turn {turn}; expected at least {turn}")
    if turn == 1:
        values = {"question": turns[0], "answer": answers[0]}
    else:
        values = {"question_1": turns[0], "question_2": turns[1], "answer_1": answers[0], "answer_2": answers[1]}
    if reference is not None:
        values |= {f"ref_answer_{i + 1}": reference[i] for i in range(turn)}
    return values


def judge_messages(
    prompts: Mapping[str, Mapping[str, Any]],
    turns: Sequence[str],
    answers: Sequence[str],
    reference: Sequence[str] | None,
    *,
    turn: Literal[1, 2],
) -> list[Message]:
    """Return MT-Bench's prompt that asks for a rating of one turn's answer.

    ``prompts`` maps a name to its row of judge_prompts.jsonl (system_prompt, prompt_template); ``turns`` and
    ``answers`` hold the user's and the model's turns, ``reference`` the turns of the reference answer if the category
    needs one (see :func:`needs_reference`), else None. Texts are inserted unchanged, in one pass. Raises ValueError if
    a prompt or a turn is missing, or for unexpected placeholders. Source:
    lm-sys/FastChat@0e6d3e4:fastchat/llm_judge/gen_judgment.py and common.py.
    """
    name = prompt_name(turn=turn, with_reference=reference is not None)
    return filled_prompt(prompts, name, _values(turns, answers, reference, turn))


def filled_prompt(prompts: Mapping[str, Mapping[str, Any]], name: str, values: Mapping[str, str]) -> list[Message]:
    """Return a judge prompt with its placeholders filled; ValueError where it is missing, or has others."""
    if name not in prompts:
        raise ValueError(f"judge_prompts.jsonl has no prompt {name!r}; pull the asset mt_bench/judge_prompts again")
    template = str(prompts[name]["prompt_template"])
    if unfilled := sorted(placeholders_of(template) - set(values)):
        raise ValueError(
            f"the judge prompt {name!r} has the placeholder {{{unfilled[0]}}}, which MT-Bench does not define"
        )
    return [Message("system", str(prompts[name]["system_prompt"])), Message("user", fill(template, values))]
