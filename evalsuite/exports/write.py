"""One results folder in one of the export formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.errors import UsageError
from evalsuite.exports.every_eval import evaluation_documents
from evalsuite.exports.tables import tables_text
from evalsuite.files import write_json, write_text
from evalsuite.report.build import read_contents
from evalsuite.report.index import Contents
from evalsuite.report.tables import csv_of
from evalsuite.results.reading import no_results
from evalsuite.text import well_formed


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: files or folders, or the ``text`` for stdout; ``address`` is a pull request on the hub."""

    paths: Sequence[Path]
    faults: Sequence[str]
    text: str | None = None
    address: str = ""

    def as_json(self) -> dict[str, Any]:
        document = {"paths": [str(path) for path in self.paths], "left_out": list(self.faults)}
        more = {"text": self.text, "address": self.address or None}
        return document | {name: value for name, value in more.items() if value is not None}


def write_export(results: Path, to: str, out: Path | None = None, push_to: str | None = None) -> Written:
    """Write ``results`` in the format ``to``; tables without ``out`` are returned as text.

    Raises DataError where there is nothing to export, and UsageError for options that do not fit the format.
    """
    if push_to is not None and to != "hub":
        raise UsageError(f"--push {push_to} needs --to hub; {to} is written to files only")
    contents, _ = read_contents(results)
    if not (contents.models or contents.faults):
        raise no_results(results)
    if to in ("markdown", "latex", "csv"):
        if to == "csv":
            text = csv_of(contents.tables, contents.columns, contents.figures)
        else:
            text = tables_text(contents, "latex" if to == "latex" else "markdown")
        text = well_formed(text)
        if out is None:
            return Written([], contents.faults, text)
        write_text(out, text)
        return Written([out], contents.faults)
    if to == "parquet":
        from evalsuite.exports.items import write_items

        out = out or results / "items.parquet"
        write_items(contents, out)
        return Written([out], contents.faults)
    return _folders(contents, to, out or results / "export" / to, push_to)


def _folders(contents: Contents, to: str, out: Path, push_to: str | None) -> Written:
    if to == "every-eval-ever":
        paths = []
        for name, document in evaluation_documents(contents).items():
            paths.append(out / f"{name}.json")
            write_json(paths[-1], document)
        return Written(paths, contents.faults)
    from evalsuite.exports.hub import push, write_hub_files

    folders, left_out = write_hub_files(contents, out)
    left_out = [*contents.faults, *left_out]
    if push_to is None:
        return Written(folders, left_out)
    if len(folders) != 1:
        raise UsageError(f"--push {push_to} needs the results of one model on full data; {out} has {len(folders)}")
    return Written(folders, left_out, address=push(folders[0], push_to))
