"""MixEval's items and how each becomes the text that a model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Annotated, Any, Literal

import msgspec

from evalsuite.errors import DataError
from evalsuite.fingerprint import text_sha256
from evalsuite.records.rows import Row
from evalsuite.suites.peer_files import conform
from judges.types import Message

Split = Literal["free_form", "multiple_choice"]
SPLITS: tuple[Split, ...] = ("free_form", "multiple_choice")

SPLIT_OF_PROBLEM_TYPE: Mapping[str, Split] = {"free-form": "free_form", "multiple-choice": "multiple_choice"}

FACTS = ("problem_type", "context", "prompt", "options", "target", "benchmark_name")
"""The fields of an item that a row keeps; ``prompt`` is the question alone."""


class _FreeForm(msgspec.Struct, tag_field="problem_type", tag="free-form"):
    id: str
    prompt: str
    benchmark_name: str
    target: Annotated[list[Any], msgspec.Meta(min_length=1)]


class _MultipleChoice(_FreeForm, tag="multiple-choice"):
    # Options are named by one capital letter each.
    options: Annotated[list[Any], msgspec.Meta(min_length=2, max_length=26)]


INSTRUCTION_LINES: Mapping[str, str] = {
    "multiple-choice": "MULTI_CHOICE_PROMPT",
    "free-form": "FREE_FORM_PROMPT",
    **{name: f"FREE_FORM_PROMPT_{name.upper()}" for name in ("BBH", "GSM8k", "MATH")},
}
"""The lines that close a prompt, as MixEval names them: by problem type, and of benchmarks that ask for reasoning."""

MINI_INSTRUCTIONS: Mapping[str, str] = {
    "multiple-choice": "Reply with nothing but the letter of the right option.",
    "free-form": "Reply with a few words only.",
    **dict.fromkeys(("BBH", "GSM8k", "MATH"), "Work it out step by step, then give the result in the last line."),
}
"""Our own lines for the mini data, so that a demo needs no download."""


def instructions_from(constants: Mapping[str, str], origin: str) -> dict[str, str]:
    """Pick MixEval's instruction lines out of named constants; raises DataError naming what ``origin`` lacks."""
    missing = [name for name in INSTRUCTION_LINES.values() if not isinstance(constants.get(name), str)]
    if missing:
        lacks = f"{origin} lacks MixEval's instruction lines {', '.join(missing)}"
        raise DataError(f"{lacks}; fetch it again with 'evalsuite data pull mixeval'")
    return {use: constants[name] for use, name in INSTRUCTION_LINES.items()}


def formatted_prompt(item: Mapping[str, Any], instructions: Mapping[str, str]) -> str:
    """Return the user message for one item, equal to the ``formated_input`` that MixEval records.

    Multiple choice: context, question, lettered options, instruction, one per line. Free-form: "Question: ", context,
    question, instruction. Source: Psycoy/MixEval@7c52b41:mix_eval/prompts/evaluation_prompts.py.
    """
    context = context_of(item)
    head = [context] if context else []
    if item["problem_type"] == "multiple-choice":
        lettered = [f"{letter}. {option}" for letter, option in zip(ascii_uppercase, item["options"], strict=False)]
        return "\n".join([*head, item["prompt"], *lettered, instructions["multiple-choice"]])
    instruction = instructions.get(item["benchmark_name"], instructions["free-form"])
    return "Question: " + "\n".join([*head, item["prompt"], instruction])


def context_of(item: Mapping[str, Any]) -> str:
    """Return an item's context; "" for one spelt "none" or "null" or made of spaces, which MixEval takes as none."""
    context = item.get("context")
    text = "" if context is None else str(context)
    return "" if text.lower() in ("none", "null") or not text.replace(" ", "") else text


def item_row(item: Mapping[str, Any], prompt: str) -> Row:
    """Return the unanswered row of a checked item; ``prompt`` is the whole user message."""
    return Row(
        item["id"],
        part=SPLIT_OF_PROBLEM_TYPE[item["problem_type"]],
        content=text_sha256(item["prompt"])[:16],
        prompt=(Message("user", prompt),),
        facts={name: item[name] for name in FACTS if name in item},
    )


def checked_item(item: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return a copy of ``item`` in MixEval's own types, or say in one line what is wrong with it.

    The hub's Parquet files hold the index of the right option as text; it becomes a number here, and ``options`` is
    dropped where an item has none. ``origin`` names file and row. Raises DataError.
    """
    expected = "expected an item of MixEval with 'target' and, for multiple choice, 2 to 26 'options'"
    conform(item, _FreeForm | _MultipleChoice, origin, expected)
    if item["problem_type"] == "free-form":
        rest = {name: value for name, value in item.items() if name != "options"}
        return {**rest, "target": [str(answer) for answer in item["target"]]}
    options = [str(option) for option in item["options"]]
    return {**item, "options": options, "target": [_index(item["target"], options, origin)]}


def _index(target: Sequence[Any], options: Sequence[Any], origin: str) -> int:
    try:
        index = int(target[0])
    except (TypeError, ValueError, OverflowError):
        index = -1
    if len(target) != 1 or not 0 <= index < len(options):
        raise DataError(f"{origin}: 'target' is {list(target)!r}; expected the index of one of {len(options)} options")
    return index


def right_letter(facts: Mapping[str, Any]) -> str:
    return ascii_uppercase[facts["target"][0]]
