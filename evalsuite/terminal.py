"""The console that everything is printed on: text from servers and files never controls the terminal.

Tables are printed whole: as wide as they are into a pipe, and as blocks where a terminal is too narrow for their words.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import rich.console
from rich.errors import MarkupError
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from evalsuite.text import csv_text, printable

TABLES = "EVALSUITE_TABLES"
"""The environment variable that --format sets: table, markdown or csv."""
_PIPE_WIDTH = 10_000
_SIGNED = re.compile(r"[+-]\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII)


class Console(rich.console.Console):
    """A rich console that drops terminal controls from printed text; its own colours and cursor moves stay."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not self.is_terminal and "COLUMNS" not in os.environ and "width" not in options:
            self.width = _PIPE_WIDTH

    def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
        for segment in super().render(*arguments, **options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a text with markup; brackets in a name that are not valid markup are printed as they are."""
        try:
            return super().render_str(text, **options)
        except MarkupError:
            return super().render_str(text, **{**options, "markup": False})

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; a table in the format that --format names, and so that no word of it is torn."""
        chosen = os.environ.get(TABLES, "table")
        if len(objects) == 1 and isinstance(objects[0], Table):
            if chosen in {"markdown", "csv"}:
                self.file.write(printable(_written(self, objects[0], chosen)) + "\n")
                return
            objects = (_fitting(self, objects[0]),)
        elif chosen == "csv" and self.file is sys.stdout:
            # Notes beside a table would make it no CSV.
            Console(stderr=True).print(*objects, **options)
            return
        super().print(*objects, **options)


def _plain_rows(console: Console, table: Table) -> tuple[list[str], list[list[str]]]:
    """Return a table's headers and its rows as plain text."""

    def plain(cell: Any) -> str:
        return console.render_str(cell).plain if isinstance(cell, str) else getattr(cell, "plain", str(cell))

    columns = [[plain(cell) for cell in column.cells] for column in table.columns]
    return [plain(column.header) for column in table.columns], [list(row) for row in zip(*columns, strict=True)]


def _written(console: Console, table: Table, form: str) -> str:
    headers, rows = _plain_rows(console, table)
    if form == "csv":
        # A signed number is not a formula, and an apostrophe would make it a text.
        numbers = [[Decimal(cell) if _SIGNED.fullmatch(cell) else cell for cell in row] for row in rows]
        return csv_text([headers, *numbers]).rstrip("\n")
    import pandas as pd

    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return str(pd.DataFrame(cells, columns=headers).to_markdown(index=False, disable_numparse=True))


def _fitting(console: Console, table: Table) -> Table | Text:
    """Return a table whose words fit the console, or its rows as blocks of a line per cell."""
    wide = console.options.update(max_width=_PIPE_WIDTH)
    least, most = [], []
    for column in table.columns:
        cells = [column.header, *column.cells] if table.show_header else list(column.cells)
        widths = [Measurement.get(console, wide, cell) for cell in cells]
        most.append(max([column.min_width or 0, *(width.maximum for width in widths)]))
        least.append(max([column.min_width or 0, *(width.minimum for width in widths)]))
        least[-1] = most[-1] if column.no_wrap else least[-1]
    room = console.width - (Measurement.get(console, wide, table).maximum - sum(most))
    if sum(least) <= room:
        for column, width in zip(table.columns, _shared(least, most, room), strict=True):
            column.width = width
        return table
    if not table.show_header:
        return Text("\n").join(Text("  ".join(row)) for row in _plain_rows(console, table)[1])
    return Text("\n").join(_blocks(console, table))


def _shared(least: Sequence[int], most: Sequence[int], room: int) -> list[int]:
    """Share a width of characters among columns: the widest give way first, none below its longest word.

    rich's own choice may leave a column less than its longest word, and then cuts the table off at the right.
    """
    widths = [min(width, room) for width in most]
    while sum(widths) > room:
        widest = max((number for number, width in enumerate(widths) if width > least[number]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _blocks(console: Console, table: Table) -> Iterator[Text]:
    headers, rows = _plain_rows(console, table)
    if table.title:
        yield Text(console.render_str(table.title).plain if isinstance(table.title, str) else str(table.title), "bold")
    for first, *others in rows:
        yield Text(first, "bold")
        yield from (Text(f"  {name}: {cell}") for name, cell in zip(headers[1:], others, strict=True) if cell.strip())
