"""MixEval's items and how each becomes the text that a model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evalsuite.errors import DataError

Split = Literal["free_form", "multiple_choice"]
SPLITS: tuple[Split, ...] = ("free_form", "multiple_choice")

SPLIT_OF_PROBLEM_TYPE: Mapping[str, Split] = {"free-form": "free_form", "multiple-choice": "multiple_choice"}

MAX_OPTIONS = 26
"""Options are named by one capital letter each."""


@dataclass(frozen=True, slots=True)
class Instructions:
    """The line that closes a prompt: one for option letters, one for short answers, and by benchmark.

    ``by_benchmark`` holds those free-form benchmarks that ask for reasoning.
    """

    multiple_choice: str
    free_form: str
    by_benchmark: Mapping[str, str]


_MINI_STEPS = "Work it out step by step, then give the result in the last line."

MINI_INSTRUCTIONS = Instructions(
    multiple_choice="Reply with nothing but the letter of the right option.",
    free_form="Reply with a few words only.",
    by_benchmark={"BBH": _MINI_STEPS, "GSM8k": _MINI_STEPS, "MATH": _MINI_STEPS},
)
"""Our own lines for the mini data, so that a demo needs no download."""


def instructions_from(constants: Mapping[str, str], origin: str) -> Instructions:
    """Pick MixEval's instruction lines out of named constants; raises DataError naming what ``origin`` lacks."""
    names = (
        "MULTI_CHOICE_PROMPT",
        "FREE_FORM_PROMPT",
        "FREE_FORM_PROMPT_BBH",
        "FREE_FORM_PROMPT_GSM8K",
        "FREE_FORM_PROMPT_MATH",
    )
    absent = [name for name in names if not isinstance(constants.get(name), str)]
    if absent:
        raise DataError(
            f"{origin} lacks MixEval's instruction lines {', '.join(absent)}; fetch it again with "
            "'evalsuite data pull mixeval'"
        )
    return Instructions(
        multiple_choice=constants["MULTI_CHOICE_PROMPT"],
        free_form=constants["FREE_FORM_PROMPT"],
        by_benchmark={
            "BBH": constants["FREE_FORM_PROMPT_BBH"],
            "GSM8k": constants["FREE_FORM_PROMPT_GSM8K"],
            "MATH": constants["FREE_FORM_PROMPT_MATH"],
        },
    )


def letters(count: int) -> list[str]:
    """Return the first ``count`` capital letters, ``count`` in 0..26."""
    return [chr(ord("A") + index) for index in range(count)]


def formatted_prompt(row: Mapping[str, Any], instructions: Instructions) -> str:
    """Return the user message for one item, equal to the ``formated_input`` that MixEval records.

    Multiple choice: context, question, lettered options, instruction, one a line. Free-form:
    "Question: ", context, question, instruction.
    Source: Psycoy/MixEval@7c52b41:mix_eval/prompts/evaluation_prompts.py.
    """
    context = _context(row.get("context"))
    head = [] if context is None else [context]
    if row["problem_type"] == "multiple-choice":
        options = row["options"]
        lettered = [f"{letter}. {option}" for letter, option in zip(letters(len(options)), options, strict=True)]
        return "\n".join([*head, row["prompt"], *lettered, instructions.multiple_choice])
    instruction = instructions.by_benchmark.get(row["benchmark_name"], instructions.free_form)
    return "Question: " + "\n".join([*head, row["prompt"], instruction])


def _context(value: object) -> str | None:
    # MixEval takes a context spelt "none" or "null", or made of blanks, as no context.
    text = "" if value is None else str(value)
    return None if text.lower() in ("none", "null") or not text.replace(" ", "") else text


def checked_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a copy of ``row`` in MixEval's own types, or say in one line what is wrong with it.

    The hub's Parquet files hold the index of the right option as text; it becomes a number
    here, and ``options`` is dropped where an item has none. ``where`` names file and row.
    Raises DataError.
    """
    problem_type = row.get("problem_type")
    if not isinstance(problem_type, str) or problem_type not in SPLIT_OF_PROBLEM_TYPE:
        raise DataError(f"{where}: problem_type is {problem_type!r}; expected 'free-form' or 'multiple-choice'")
    for name in ("id", "prompt", "benchmark_name"):
        if not isinstance(row.get(name), str):
            raise DataError(f"{where}: {name!r} is {row.get(name)!r}; expected text")
    target = row.get("target")
    if not isinstance(target, list) or not target:
        raise DataError(f"{where}: 'target' is {target!r}; expected a list of right answers")
    if problem_type == "free-form":
        rest = {name: value for name, value in row.items() if name != "options"}
        return {**rest, "target": [str(answer) for answer in target]}
    options = row.get("options")
    if not isinstance(options, list) or not 2 <= len(options) <= MAX_OPTIONS:
        raise DataError(f"{where}: 'options' is {options!r}; expected a list of 2 to {MAX_OPTIONS} options")
    return {**row, "options": [str(option) for option in options], "target": [_index(target, options, where)]}


def _index(target: Sequence[Any], options: Sequence[Any], where: str) -> int:
    try:
        index = int(target[0])
    except (TypeError, ValueError, OverflowError):
        index = -1
    if len(target) != 1 or not 0 <= index < len(options):
        raise DataError(f"{where}: 'target' is {list(target)!r}; expected the index of one of {len(options)} options")
    return index


def right_letter(row: Mapping[str, Any]) -> str:
    """Return the letter of a multiple-choice item's right option."""
    index: int = row["target"][0]
    return letters(len(row["options"]))[index]
