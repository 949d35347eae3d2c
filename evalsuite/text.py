"""Text made by others, made safe to store, to show in a terminal and to open in a spreadsheet; and plurals."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Controls of terminals (C0 without tab and newline, DEL, C1), line separators and changes of text direction."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_encoder = msgspec.json.Encoder()
_FORMULA = re.compile(
    r"(?<![\s;\"'\u200b\ufeff])([\s;\"'\u200b\ufeff]*+)(?=[=+\-@\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b])"
)
"""The blanks, quotes and separators before a sign that may begin a formula."""


def well_formed(text: str) -> str:
    r"""Return ``text`` as valid Unicode: half of a surrogate pair is escaped as ``\udXXX``.

    Neither UTF-8 nor a tokenizer accepts lone surrogates, which JSON and YAML escapes can produce.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def without_surrogates(text: str) -> str:
    """Return ``text`` with U+FFFD in place of half a surrogate pair, as decoders write it.

    For what files and servers say: an escape as in :func:`well_formed` adds letters and digits to an answer.
    """
    return _SURROGATE.sub("\ufffd", text)


def is_well_formed(document: object) -> bool:
    """Return whether no text in a JSON document has half of a surrogate pair."""
    try:
        _encoder.encode(document)
    except UnicodeEncodeError:
        return False
    return True


def mapped(value: object, change: Callable[[str], str]) -> Any:
    """Return a JSON document with ``change`` applied to every key and text in it."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {mapped(key, change): mapped(inner, change) for key, inner in value.items()}
    return [mapped(inner, change) for inner in value] if isinstance(value, list | tuple) else value


def printable(text: str) -> str:
    r"""Return ``text`` without terminal controls, so that it cannot move the cursor, recolour or retitle.

    >>> printable("model\x1b[2J\x9b31m")
    'model[2J31m'
    """
    return _CONTROL.sub("", well_formed(text))


def plural(count: int, one: str, several: str | None = None) -> str:
    """Return a count with its noun; ``several`` is the plural where it is not ``one`` with an s, or has a verb.

    >>> plural(1, "item"), plural(1200, "item"), plural(2, "retry", "retries")
    ('1 item', '1,200 items', '2 retries')
    """
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV in which no text is a formula to a spreadsheet; numbers keep their full precision."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(map(_csv_cell, row) for row in rows)
    return out.getvalue()


def _csv_cell(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    # csv does not quote a carriage return, at which readers end the row; printable() drops it.
    text = _FORMULA.sub(_guarded, printable(cell))
    return f"'{text}" if text.startswith("\t") else text


def _guarded(match: re.Match[str]) -> str:
    """Put an apostrophe where a cell begins: at the start, or after ``;``, which separates cells in many locales."""
    run = match[1]
    end = max(map(run.rfind, ";\t\n")) + 1
    return run if match.start() and not end else f"{run[:end]}'{run[end:]}"
