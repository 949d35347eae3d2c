"""How a document of lm-eval's is shown: the question as asked, its choices with the right one, what was read."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.records.rows import Row
from evalsuite.suites.figures import as_object

_QUESTION = ("question", "input", "problem", "prompt", "query", "instruction", "ctx", "goal", "sentence", "claim")
_OTHER_QUESTION = ("text", "premise")
_BEFORE = ("narrative", "passage", "context", "article", "story", "paragraph")
_OPTIONS = ("choices", "options", "endings", "answer_choices")
_LETTERED = re.compile(r"^(?:\(?([A-Z])[.)]|(\d+)\.)\s+", re.MULTILINE)
_IN_TEXT = re.compile(r"^\([A-Z]\) .+$", re.MULTILINE)


def question_of(facts: Mapping[str, Any], choices: Sequence[str] = ()) -> dict[str, Any]:
    """Return the page of a document: ``messages``, ``fields`` before it, ``options``, ``right``, ``more``.

    Fields are told by their names, which most data sets share; without a known one the longest text is the question.
    ``choices`` are the continuations that the task scores, where it has the same for every document. ``right`` is the
    place of the right option. ``more`` are the other fields, for readers who look closer.
    """
    fields = [(str(name), str(text)) for name, text in facts.get("fields", ())]
    reference = [str(text) for text in facts.get("reference", ())]
    asked = _named(fields, (*_QUESTION, *_OTHER_QUESTION)) or max(fields, key=lambda field: len(field[1]), default=None)
    before = [field for field in fields if field[0].lower() in _BEFORE]
    options_field = _named(fields, _OPTIONS)
    listed = _options(options_field[1]) if options_field else []
    in_text = _IN_TEXT.findall(asked[1]) if asked else []
    options = next((one for one in (listed, in_text) if one and len(one) == (len(choices) or len(one))), list(choices))
    shown = {field[0] for field in (asked, options_field if options else None, *before) if field}
    return {
        "messages": [asked[1]] if asked else [],
        "fields": [list(field) for field in before],
        "options": options,
        "right": right_option(reference, options, choices),
        "reference": reference,
        "more": [list(field) for field in fields if field[0] not in shown],
    }


def choices_of(document: object, part: str) -> list[str]:
    """Return the choices of a task that are the same for every document, as lm-eval's results document lists them."""
    configs = as_object(as_object(document).get("configs"))
    choices = as_object(configs.get(part.rpartition("/")[2])).get("doc_to_choice")
    return [str(one) for one in choices] if isinstance(choices, list) else []


def answer_of(row: Row) -> dict[str, Any]:
    """Return ``choices`` ([log-likelihood, "True" where greedy]), or ``responses`` and what was ``extracted``."""
    page: dict[str, Any] = {}
    replies = [reply for draw in row.draws for reply in draw.turns]
    if choices := [choice for reply in replies for choice in reply.choices]:
        page["choices"] = [[value, str(is_greedy)] for value, is_greedy in choices]
        page["extracted"] = letter(max(range(len(choices)), key=lambda number: choices[number][0]))
    elif texts := [reply.text for reply in replies if reply.text is not None]:
        page["responses"] = texts
        if "filtered" in row.facts:
            page["extracted"] = "\n".join(map(str, row.facts["filtered"]))
    if row.unscored:
        page["unscored"] = row.unscored[0].reason
    return page


def letter(number: int) -> str:
    """Return A for 0, B for 1 and so on; the number itself beyond Z."""
    return chr(ord("A") + number) if number < 26 else str(number + 1)


def right_option(reference: Sequence[str], options: Sequence[str], choices: Sequence[str] = ()) -> int | None:
    """Return the place of the option that a target names: by its text, its place or its letter; None if by none.

    ``choices`` are the continuations that were scored, which may be letters where ``options`` are texts.
    """
    target = reference[0].strip() if len(reference) == 1 else None
    if target is None or not options:
        return None
    for texts in (options, choices):
        same = [number for number, text in enumerate(texts) if str(text).strip() == target]
        if len(same) == 1:
            return same[0]
    if target.isdigit() and int(target) < len(options):
        return int(target)
    named = re.fullmatch(r"\(?([A-Z])\)?\.?", target)
    place = ord(named[1]) - ord("A") if named else len(options)
    return place if place < len(options) else None


def _named(fields: Sequence[tuple[str, str]], names: Sequence[str]) -> tuple[str, str] | None:
    by_name = {name.lower(): (name, text) for name, text in reversed(fields)}
    return next((by_name[name] for name in names if name in by_name), None)


def _options(text: str) -> list[str]:
    """Read a field of options: the lettered lines that records hold, a JSON object, or Python's own list."""
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text) if text[:1] in "[{" and len(text) < 20_000 else None
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        listed = value.get("text") if isinstance(value, dict) else value
        if isinstance(listed, list):
            return [str(one) for one in listed]
    marks = list(_LETTERED.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return [text[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]
