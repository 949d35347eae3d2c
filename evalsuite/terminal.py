"""The console that everything is printed on: text from servers and files never controls the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.errors import MarkupError
from rich.segment import Segment
from rich.text import Text

from evalsuite.text import printable


class Console(rich.console.Console):
    """A rich console that drops terminal controls from printed text; its own colours and cursor moves stay."""

    def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
        for segment in super().render(*arguments, **options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a text with markup; brackets in a name that are not valid markup are printed as they are."""
        try:
            return super().render_str(text, **options)
        except MarkupError:
            return super().render_str(text, **{**options, "markup": False})
