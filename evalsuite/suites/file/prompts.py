"""The prompts of a benchmark's file: rows of a file or of the hub, checked, each with its own id."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite import assets
from evalsuite.assets.asset import Asset, OnHub, Part, Pin, remedy
from evalsuite.assets.rows import plain, rows_sha256
from evalsuite.errors import DataError, first_line
from evalsuite.files import read_objects, without_nan
from evalsuite.fingerprint import text_sha256
from evalsuite.suites.file.definition import Benchmark
from evalsuite.suites.peer_files import id_text
from evalsuite.validation import located
from judges.types import Message

_ON_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.-]+))?(?:@(?P<split>[\w.-]+))?")
_NEEDS_REFERENCE = ("exact_match", "choice", "numeric", "math_verify")
_SHOWN = 5


def read_prompts(benchmark: Benchmark) -> tuple[list[dict[str, Any]], Pin]:
    """Return the rows as they are, and their pin: no other content is expected. Raises DataError."""
    source = located(benchmark.prompts, benchmark.folder)
    path = Path(source).expanduser()
    if path.is_file():
        rows = _from_parquet(path) if path.suffix == ".parquet" else read_objects(path)
        rows = [{key: without_nan(plain(value)) for key, value in row.items()} for row in rows]
        return rows, Pin(rows_sha256(rows), "file", pinned=True)
    found = _ON_HUB.fullmatch(benchmark.prompts)
    if found is None:
        raise DataError(
            f"prompts {source} not found; give a .jsonl, .json or .parquet file, or org/name[:config][@split]"
        )
    part = Part(found["config"], found["split"] or "train")
    names = tuple(benchmark.fields.model_dump().values())
    asset = Asset(
        benchmark.prompts, benchmark.name, "", "dataset", (OnHub(found["repo"]),), fields=names, parts=(part,)
    )
    try:
        rows, where = assets.records(asset)
    except DataError as error:
        # Only pinned assets can be pulled by name.
        looked = str(error).removesuffix(f"; {remedy(asset)}")
        raise DataError(f"{looked}; check its name, config and split, or run it once with network access") from error
    kept = [{key: value for key, value in row.items() if value is not None} for row in rows]
    return kept, Pin(where.sha256, where.source, pinned=True)


def _from_parquet(path: Path) -> list[dict[str, Any]]:
    from pyarrow import ArrowException, parquet

    try:
        return [dict(row) for row in parquet.read_table(path).to_pylist()]
    except (OSError, ArrowException) as error:
        raise DataError(f"{path} is not a Parquet file ({first_line(error)})") from error


def items_of(benchmark: Benchmark, rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the items (id, prompt, reference, category, options) of rows, and all that is wrong with them."""
    items: list[dict[str, Any]] = []
    problems: list[str] = [] if rows else ["there are no rows"]
    if rows and all(row.get(benchmark.fields.prompt) is None for row in rows):
        known = sorted({str(key) for row in rows[:_SHOWN] for key in row})
        missing = f"no row has the field {benchmark.fields.prompt!r} with its prompt"
        return [], [f"{missing}; name another one of {', '.join(known) or 'the data'} under fields: {{prompt: ...}}"]
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        item, faults = _item(benchmark, row)
        problems += [f"row {number}: {fault}" for fault in faults]
        if (first := seen.setdefault(item["id"], number)) != number:
            problems.append(f"row {number}: duplicate of row {first} ({item['id']!r})")
        items.append(item)
    return items, problems


def shown_problems(problems: Sequence[str]) -> str:
    """Print problems in one sentence, the first few of many."""
    rest = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return "; ".join(problems[:_SHOWN]) + rest


def _item(benchmark: Benchmark, row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    fields, faults = benchmark.fields, []
    given = row.get(fields.prompt)
    messages = list(_messages(given))
    if given is None:
        faults.append(f"no prompt in the field {fields.prompt!r}")
    elif not any(message.role == "user" for message in messages) or not all(m.content.strip() for m in messages):
        faults.append("the prompt is empty, or not a text, a list of texts or a list of {role, content}")
    system = row.get(fields.system, benchmark.system)
    if system and not any(message.role == "system" for message in messages):
        messages.insert(0, Message("system", str(system)))
    options = row.get(fields.options)
    texts = [str(option) for option in options] if isinstance(options, list) else []
    right = row.get(fields.reference)
    references = [id_text(value) for value in (right if isinstance(right, list) else [] if right is None else [right])]
    faults += _reference_faults(benchmark, references, texts)
    if texts:
        lettered = "\n".join(f"{chr(ord('A') + i)}. {text}" for i, text in enumerate(texts[:26]))
        messages[-1:] = [Message(m.role, f"{m.content}\n\n{lettered}") for m in messages[-1:]]
    prompt = tuple(messages)
    said = json.dumps([[message.role, message.content] for message in prompt], ensure_ascii=False)
    content = text_sha256(said)[:16]
    item_id = row.get(fields.id)
    category = row.get(fields.category)
    return {
        "id": content if item_id is None else id_text(item_id),
        "content": content,
        "prompt": prompt,
        "reference": references,
        "category": None if category is None else str(category),
        "options": texts,
        "row": dict(row),
    }, faults


def _messages(given: object) -> Iterator[Message]:
    if isinstance(given, str):
        yield Message("user", given)
        return
    for turn in given if isinstance(given, list) else ():
        if isinstance(turn, str):
            yield Message("user", turn)
        elif isinstance(turn, Mapping) and turn.get("role") == "assistant":
            # The model answers itself.
            continue
        elif isinstance(turn, Mapping) and turn.get("role") in ("system", "user"):
            content = turn.get("content")
            yield Message(turn["role"], content if isinstance(content, str) else "")
        else:
            yield Message("user", "")


def _reference_faults(benchmark: Benchmark, references: Sequence[str], options: Sequence[str]) -> list[str]:
    method = benchmark.method
    if method in _NEEDS_REFERENCE and not references:
        return [f"{method} needs a reference in the field {benchmark.fields.reference!r}"]
    if method == "choice":
        if not 2 <= len(options) <= 26:
            return [f"choice needs 2 to 26 options in the field {benchmark.fields.options!r}"]
        if right_letter(references[0], options) is None:
            return [f"the reference {references[0][:60]!r} is neither an option nor its letter"]
    if method == "numeric" and (wrong := [text for text in references if last_number(text) is None]):
        return [f"the reference {wrong[0][:60]!r} is not a number"]
    return []


def right_letter(reference: str, options: Sequence[str]) -> str | None:
    """Return the letter of the right option, which the reference names by its letter or by its text."""
    letters = [chr(ord("A") + i) for i in range(len(options))]
    if reference in options:
        return letters[options.index(reference)]
    return reference.upper() if reference.upper() in letters else None


def last_number(text: str) -> float | None:
    """Return the last number of a text, with or without thousands separators or an exponent; None without one.

    A hyphen right after a digit is not a sign: "3-4" ends in 4. The sign may be U+2212, as models write it.
    """
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "").replace("\u2212", "-")) if found else None


_NUMBER = re.compile(r"(?:(?<!\d)[-\u2212])?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+(?!\w))?")
