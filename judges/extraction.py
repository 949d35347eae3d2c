"""MixEval's answer extraction: the published rule parser, and prompts for a judge."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from judges.templates import judge_template, nonce
from judges.types import Choice, Message, Unscored

SCORE_LEAD_IN = "\n\nScore: [["
"""Appended to a free-form judgment without a valid score; the judge then completes it with one of the choices."""

SCORE_CHOICES = tuple(f"{tenths / 10:.1f}]]" for tenths in range(11))

OPTION_LEAD_IN = "\n\nOption: [["
"""Appended to an option judgment without a valid letter; the judge then completes it with one of the choices."""

_OUTER_MARKS = ",.!?;:'"
_ANSWER_CUES = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_BARE_MARKS = frozenset(":,.!?;'")
_GROUPED_NUMBER = re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b")
# A number starts at the first of its digits and takes all of them: what the published patterns find, in linear time.
_SCIENTIFIC_NUMBER = re.compile(r"-?(?<!\d)\d++(?:\.\d++)?+[eE][+-]?\d+")
_PLAIN_NUMBER = re.compile(
    r"""-? (?: (?<!\d)\d++\.\d++ | \.\d++ | (?<!\d)\d++\b )
        (?! [eE][+-]?\d )      # the mantissa of a scientific number
        (?! [,\d] )            # the head of a grouped or longer number
    """,
    re.VERBOSE,
)


def _letters(options: Sequence[str]) -> str:
    if not 1 <= len(options) <= 26:
        raise ValueError(f"{len(options)} options; expected 1 to 26, one letter each")
    return "".join(chr(ord("A") + i) for i in range(len(options)))


def option_choices(n_options: int) -> tuple[str, ...]:
    """Return the guided completions of an option judgment, ``A]]`` and so on; ``n_options`` in [1, 26]."""
    return tuple(f"{letter}]]" for letter in _letters([""] * n_options))


def parse_choice_by_rule(response: str, options: Sequence[str]) -> Choice | Unscored:
    """Read the chosen option from a response by MixEval's rule, without a judge.

    The earliest standalone letter wins: surrounded by white space (with or without a full stop), in parentheses, or
    next to a bold mark. Otherwise a response of more than five words is searched for the option texts, and the earliest
    match wins (the first option if tied). No match is ``Unscored("no_option")``, where the published code draws at
    random; see :func:`choice_as_published`. Raises ValueError without options or with more than 26. Source:
    Psycoy/MixEval@7c52b41:mix_eval/utils/metric_utils.py (parse_multi_choice_response_rule, chat models). Deviation: an
    empty option text never matches.
    """
    letters = _letters(options)
    text = response
    for mark in _OUTER_MARKS:
        text = text.strip(mark)
    text = f" {text} "
    alone = re.search(
        rf"[ \n]([{letters}])\.?[ \n] | \(([{letters}])\) | \*\*([{letters}])\.?[ ] | [ ]([{letters}])\.?\*\*",
        text,
        re.VERBOSE,
    )
    if alone:
        return Choice(next(letter for letter in alone.groups() if letter), response)
    if len(text.split()) > 5:
        lowered = text.lower()
        matches = [(lowered.find(o.lower()), i) for i, o in enumerate(options) if o and o.lower() in lowered]
        if matches:
            return Choice(letters[min(matches)[1]], response)
    return Unscored("no_option", response)


def choice_as_published(response: str, options: Sequence[str], rng: random.Random) -> Choice:
    """Read the chosen option as the published code does: by rule, otherwise one drawn from ``rng``.

    Start with ``random.Random(42)`` and process the recorded file in order; ``rng`` is only used when the rule finds
    nothing. Source: Psycoy/MixEval@7c52b41:mix_eval/utils/metric_utils.py.
    """
    choice = parse_choice_by_rule(response, options)
    return choice if isinstance(choice, Choice) else Choice(rng.choice(_letters(options)), response)


def _tail_after_last_cue(line: str, cues: Sequence[str]) -> str:
    """Return the shortest of the texts after each cue's last occurrence in ``line``, "" if none.

    An empty text counts as no match, so a later cue replaces it regardless of length: the order of
    the cues matters, as in the published rule.
    """
    shortest = ""
    for cue in cues:
        if cue in line:
            tail = line.rsplit(cue, 1)[-1].strip()
            if not shortest or len(tail) < len(shortest):
                shortest = tail
    return shortest


def _answer_passages(response: str) -> list[str]:
    """Return the parts of a response that may contain its answer, in lower case.

    The published code also tries to split sentences, but looks for capitals after lowercasing the
    text, so it only ever splits lines. An equals sign is a cue in the last line only.
    """
    text = response.strip().strip(".").lower()
    *earlier, last = text.split("\n")
    passages = [_tail_after_last_cue(line, _ANSWER_CUES) for line in earlier]
    passages.append(_tail_after_last_cue(last, (*_ANSWER_CUES, "=")))
    return [passage for passage in passages if passage and passage not in _BARE_MARKS] or [text]


def _normalize(text: str) -> list[str | float]:
    """Return a number rounded to 2 places, or the text in lower case.

    A single character is returned with a space before it and with a space after it, so that it
    only matches at a word boundary.
    """
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        lowered = text.lower()
        return [f" {lowered}", f"{lowered} "] if len(lowered) == 1 else [lowered]


def free_form_is_correct_by_rule(response: str, targets: Sequence[str]) -> bool:
    """Return whether a free-form response contains one of the gold answers by MixEval's rule.

    A gold text matches if it occurs in an answer passage; a gold number if it equals, to 2 places, a passage or a
    number in one. Raises ValueError without targets. Source: Psycoy/MixEval@7c52b41:mix_eval/utils/metric_utils.py
    (parse_freeform_response_rule, eval_freeform_rule, chat models).
    """
    if not targets:
        raise ValueError("no gold answers; expected at least one")
    golds = [gold for target in targets for gold in _normalize(target)]
    passages = _answer_passages(response)
    numbers = [
        number
        for pattern in (_GROUPED_NUMBER, _SCIENTIFIC_NUMBER, _PLAIN_NUMBER)
        for passage in passages
        for number in pattern.findall(passage)
    ]
    for value in (value for text in (*passages, *numbers) for value in _normalize(text)):
        if isinstance(value, float):
            if value in golds:
                return True
        elif any(isinstance(gold, str) and gold in value for gold in golds):
            return True
    return False


def free_form_judge_messages(prompt: str, targets: Sequence[str], response: str) -> list[Message]:
    """Return the prompt that asks how well a free-form response agrees with the gold answers, from 0.0 to 1.0.

    ``prompt`` is the question without its context, as in MixEval. Each text is enclosed in delimiters
    with a key derived from all texts, so no text can close its own block. Raises ValueError without
    targets. Templates: ``mixeval_free_form`` and ``mixeval_free_form_system``.
    """
    if not targets:
        raise ValueError("no gold answers; expected at least one")
    key = nonce(prompt, *targets, response)
    template = judge_template("mixeval_free_form")
    return template.messages(prompt=prompt, targets=list(targets), response=response, nonce=key)


def option_judge_messages(prompt: str, options: Sequence[str], response: str) -> list[Message]:
    """Return the prompt that asks which option a multiple-choice response chose.

    The correct option is not shown to the judge. Delimiters as in :func:`free_form_judge_messages`. Raises ValueError
    without options or with more than 26. Templates: ``mixeval_option`` and ``mixeval_option_system``.
    """
    lettered = list(zip(_letters(options), options, strict=True))
    key = nonce(prompt, *options, response)
    template = judge_template("mixeval_option")
    return template.messages(prompt=prompt, options=lettered, response=response, nonce=key)
