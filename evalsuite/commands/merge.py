"""``evalsuite merge``."""

from __future__ import annotations

from pathlib import Path

import pydantic
import typer

from evalsuite.commands.console import print_json, suggest
from evalsuite.commands.options import from_config
from evalsuite.config import Config
from evalsuite.text import plural


class MergeConfig(Config):
    """A whole ``evalsuite merge``."""

    sources: tuple[Path, ...] = pydantic.Field(min_length=1, json_schema_extra={"argument": "RESULTS"})
    """Results folders."""
    into: Path
    """Results folder to merge into; may be new."""
    keep_first: bool = False
    """If there are several stored answers to one request, keep the earliest."""
    store: Path | None = None
    """Local folder for the store of --into."""


@from_config(MergeConfig)
def merge(config: MergeConfig, *, as_json: bool) -> None:
    """Merge results folders: answers by content key; suites, judges and verdicts by model.

    Merging again adds nothing. Folders that contradict each other are refused, and nothing is written.

    [bold]evalsuite merge node-1/ node-2/ --into results/[/]
    [bold]evalsuite merge earlier-results/ --into results/ --keep-first[/]
    """
    from evalsuite.results.merging import merge_results

    into = config.into
    merged = merge_results(config.sources, into, keep_first=config.keep_first, store=config.store)
    if as_json:
        print_json({"into": str(into), "answers": merged.answers, "folders": list(merged.folders)})
    else:
        folders = f": {', '.join(merged.folders)}" if merged.folders else ""
        grown = plural(len(merged.folders), "folder")
        typer.echo(f"{plural(merged.answers, 'new answer')}, {grown} new or grown in {into}/{folders}")
        suggest("report", results=into)
