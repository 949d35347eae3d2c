"""The console that everything is printed on: text from servers and files never controls the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import override

import rich.console
from rich.segment import Segment

from evalsuite.text import printable


class Console(rich.console.Console):
    """A rich console that drops terminal controls from whatever is printed; colours of its own stay."""
