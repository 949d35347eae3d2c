"""AlpacaEval's pairwise comparison: two outputs labelled m and M, and a single-token verdict."""

from __future__ import annotations

import random
import re
from typing import cast, get_args

from judges.templates import fill, placeholders_of
from judges.types import Message, Role

LABELS = ("m", "M")
"""The labels of the outputs in prompt order; each must be a single token."""

IDENTICAL_PREFERENCE = 1.5
"""The preference between two identical outputs, which are not sent to the judge."""

_BLOCK_END = "<|im_end|>"
_BLOCK = re.compile(r"\s*<\|im_start\|>[ \t]*(\w+)[ \t]*\n(.*)", re.DOTALL)
_PLACEHOLDERS = frozenset({"instruction", "output_1", "output_2"})


def is_switched(instruction: str) -> bool:
    """Return whether AlpacaEval shows the model's output first for this instruction (406 of its 805).

    Source: alpaca-eval 0.6.6, processors.py (SwitchTwoColumnsProcessor), seed 0.
    """
    return random.Random(f"is_switched_outputs{instruction}0").choices([False, True])[0]


def parse_chatml_template(text: str) -> list[tuple[Role, str]]:
    """Split a ChatML prompt file into (role, text) pairs, each text stripped of outer white space.

    Raises ValueError if the text is not a sequence of ``<|im_start|>role ... <|im_end|>`` blocks
    with the roles system, user and assistant. Source: alpaca-eval 0.6.6, utils.py (prompt_to_chatml).
    """
    *parts, rest = text.split(_BLOCK_END)
    blocks = [match.groups() for part in parts if (match := _BLOCK.fullmatch(part))]
    if not blocks or len(blocks) < len(parts) or rest.strip():
        raise ValueError("the prompt is not ChatML; expected blocks of <|im_start|>role, text, <|im_end|>")
    for role, _ in blocks:
        if role not in get_args(Role):
            raise ValueError(f"unknown role {role!r} in a ChatML prompt; expected one of {', '.join(get_args(Role))}")
    return [(cast("Role", role), content.strip()) for role, content in blocks]


def comparison_messages(
    template_text: str, instruction: str, output_1: str, output_2: str, switched: bool
) -> list[Message]:
    """Return the prompt that asks which of two outputs is better, from the text of ``alpaca_eval_clf.txt``.

    ``output_1`` is the baseline's and is shown as ``m`` unless ``switched``. Raises ValueError if the
    template is not ChatML or its placeholders are not instruction, output_1 and output_2.
    Source: alpaca-eval 0.6.6, utils.py (make_prompts, prompt_to_chatml). Deviation: the template is
    split into messages before it is filled in one pass, so that neither ``<|im_end|>`` nor
    ``{output_2}`` inside an output can change the prompt; ordinary prompts are identical byte for byte.
    """
    blocks = parse_chatml_template(template_text)
    placeholders = frozenset[str]().union(*(placeholders_of(text) for _, text in blocks))
    if placeholders != _PLACEHOLDERS:
        raise ValueError(
            f"the comparison prompt has the placeholders {', '.join(sorted(placeholders)) or 'none'}; "
            f"expected {', '.join(sorted(_PLACEHOLDERS))}"
        )
    first, second = (output_2, output_1) if switched else (output_1, output_2)
    values = {"instruction": instruction, "output_1": first, "output_2": second}
    return [Message(role, fill(text, {name: values[name] for name in placeholders_of(text)})) for role, text in blocks]
