"""The item pages beside a report: their files, and which of an earlier report may be removed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalsuite.errors import StoreError, UsageError
from evalsuite.report.packing import Block, PackedPart

PAGE_BYTES = 12_000_000
"""About how large an item page gets."""

_NAME = re.compile(r"[\w.-]+-\d+\.html")
_TITLE = re.compile(r"<title>[^<]*, items \d+ to \d+ · evalsuite</title>")
_HEAD_BYTES = 16_384
_CSV_HEAD = b"tab,model,folder,"


@dataclass(frozen=True, slots=True)
class ItemPage:
    """One page: its file and the blocks of its part that it holds."""

    path: Path
    blocks: Sequence[Block]

    @property
    def first(self) -> int:
        return self.blocks[0].first

    @property
    def last(self) -> int:
        """The item after its last one."""
        return self.blocks[-1].last


def pages_of(part: PackedPart, folder: Path) -> list[ItemPage]:
    """Divide a part's blocks into pages of about ``PAGE_BYTES``."""
    pages: list[list[Block]] = [[]]
    for block in part.blocks:
        if pages[-1] and sum(one.base64_size for one in pages[-1]) + block.base64_size > PAGE_BYTES:
            pages.append([])
        pages[-1].append(block)
    name = part.index["name"].replace("/", "-")
    return [ItemPage(folder / f"{name}-{number}.html", blocks) for number, blocks in enumerate(pages, 1)]


def page_title(part_title: str, page: ItemPage) -> str:
    """Return the title by which a later report recognises a page."""
    return f"{part_title}, items {page.first + 1} to {page.last}"


def refuse_overwriting(paths: Iterable[Path]) -> None:
    """Raise UsageError where a page or a table would replace a file that no report wrote."""
    for path in paths:
        if _exists(path) and not _is_from_report(path):
            raise UsageError(
                f"{path} exists and was not written by evalsuite report; move it away or give another --out"
            )


def remove_old_pages(folder: Path) -> None:
    """Remove the pages of an earlier report, which would show answers that the new one does not know.

    Only what has both the name and the title of our pages goes; the folder goes when nothing is left in it.
    """
    try:
        if not folder.is_dir():
            return
        for path in list(folder.iterdir()):
            if _NAME.fullmatch(path.name) and _is_from_report(path):
                path.unlink()
        if not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise StoreError(f"cannot replace {folder}: {error.strerror or error}; give another --out") from error


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreError(f"cannot look at {path}: {error.strerror or error}; give another --out") from error
    return True


def _is_from_report(path: Path) -> bool:
    """Whether a file begins as the item pages or the tables that a report writes do."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    if path.suffix == ".csv":
        return not head or head.startswith(_CSV_HEAD)
    return bool(_TITLE.search(head.decode("utf-8", "replace")))
