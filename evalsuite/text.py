"""Text made by others, made safe to store, to show in a terminal and to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Controls of terminals (C0 without tab and newline, DEL, C1), line separators and changes of text direction."""
_FORMULA = re.compile(
    r"(?:^|(?<=[;\t\r\n]))(?=[\s\"'\u200b\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b]|[\t\r])"
)
"""Where a spreadsheet may see a cell begin with a formula; in many locales ``;`` separates cells."""


def well_formed(text: str) -> str:
    r"""Return ``text`` as valid Unicode: half of a surrogate pair is escaped as ``\udXXX``.

    Neither UTF-8 nor a tokenizer accepts lone surrogates, which JSON and YAML escapes can produce.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def well_formed_document(value: Any) -> Any:
    """Return a JSON document with every key and text in it :func:`well_formed`."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, dict):
        return {well_formed_document(key): well_formed_document(inner) for key, inner in value.items()}
    return [well_formed_document(inner) for inner in value] if isinstance(value, list | tuple) else value


def printable(text: str) -> str:
    r"""Return ``text`` without terminal controls, so that it cannot move the cursor, recolour or retitle.

    >>> printable("model\x1b[2J\x9b31m")
    'model[2J31m'
    """
    return _CONTROL.sub("", well_formed(text))


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV in which no text is a formula to a spreadsheet; numbers keep their full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([_FORMULA.sub("'", cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return out.getvalue()
