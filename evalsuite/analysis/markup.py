"""The marks of style in a text: CommonMark parsed by a library, or the HTML of a judged page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html import unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

ELEMENTS = ("strong", "em", "ol", "ul", "li", "h1", "h2", "h3", "h4", "h5", "h6", "p", "code", "table")
"""The counted elements, in the paper's order where it counts the same (arXiv 2501.18511, Table 3)."""

_CODE = ("code_inline", "fence", "code_block")
_BLOCKS = ("question", "answer", "judgment", "score")
_ICON = "icon"


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def markdown_counts(text: str) -> Counter[str]:
    """Count the elements that ``text`` renders to, as CommonMark with tables; elements that do not occur have no key.

    ``code`` is inline code, fenced and indented blocks; a paragraph inside a tight list does not count, as in the HTML.
    A ``#`` inside code is not a heading, and raw HTML is not Markdown.
    """
    counts: Counter[str] = Counter()
    for token in _parser().parse(text):
        _count(token, counts)
        for child in token.children or []:
            _count(child, counts)
    return counts


def _count(token: Token, counts: Counter[str]) -> None:
    if token.type in _CODE:
        counts["code"] += 1
    elif token.nesting == 1 and not token.hidden and token.tag in ELEMENTS:
        counts[token.tag] += 1


@dataclass(frozen=True, slots=True)
class Block:
    """Part of a page: its element counts, its HTML (without outer whitespace and icon) and its text."""

    counts: Mapping[str, int]
    html: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """A judged page: the whole file, and its blocks by name (``question``, ``answer``, ``judgment``, ``score``)."""

    whole: Block
    blocks: Mapping[str, Block] = field(default_factory=dict)


class _PageReader(HTMLParser):
    """Counts start tags by block. A block extends to the next one: answers may contain unbalanced tags."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._source = source
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", source))]
        self._whole: Counter[str] = Counter()
        self._texts: list[str] = []
        self._open: list[tuple[str, int, Counter[str], list[str]]] = []
        self._ends: list[int] = []
        self._in_icon = False
        # After the last ">" there is only text; the library would look for the end of a tag from every "<" of it.
        end = source.rfind(">") + 1
        self.feed(source[:end])
        self.close()
        self.handle_data(unescape(source[end:]))
        self._ends.append(len(source))

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        classes = (dict(attrs).get("class") or "").split()
        name = next((block for block in _BLOCKS if tag == "div" and block in classes), None)
        if name is not None:
            if self._open:
                self._ends.append(self._offset())
            start = self._offset() + len(self.get_starttag_text() or "")
            self._open.append((name, start, Counter(), []))
        self._in_icon = tag == "span" and _ICON in classes
        self._whole[tag] += 1
        if self._open:
            self._open[-1][2][tag] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "span":
            self._in_icon = False

    def handle_data(self, data: str) -> None:
        if self._in_icon:
            return
        self._texts.append(data)
        if self._open:
            self._open[-1][3].append(data)

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        try:
            return super().parse_marked_section(i, report)
        except AssertionError:  # raised for "<![x", which is a comment in HTML
            return self.parse_bogus_comment(i)

    def _offset(self) -> int:
        line, column = self.getpos()
        return self._line_starts[line - 1] + column

    def page(self) -> Page:
        blocks: dict[str, Block] = {}
        for (name, start, counts, texts), end in zip(self._open, self._ends, strict=False):
            inner = self._source[start:end].strip().removesuffix("</div>").strip()
            if inner.startswith(f'<span class="{_ICON}">'):
                inner = inner.partition("</span>")[2].strip()
            blocks.setdefault(name, Block(counts, inner, "".join(texts).strip()))
        return Page(Block(self._whole, self._source, "".join(self._texts).strip()), blocks)


def read_page(source: str) -> Page:
    """Read a page of question, answer, judgment and score, as in the paper's judged pages.

    The blocks are ``div``s with these names as their class. ``whole`` counts every tag of the file, as the
    paper's Table 3 does (penfever/wildchat-50m@297e4b9, model_responses/judged).
    """
    return _PageReader(source).page()
