"""``evalsuite report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydantic
import typer

from evalsuite.commands.console import print_error, print_json, suggest
from evalsuite.commands.options import from_config
from evalsuite.config import Config, Results
from evalsuite.text import plural

SOMETHING_LEFT_OUT = 1


class ReportConfig(Config):
    """A whole ``evalsuite report``."""

    results: Results = Path("results")
    out: Path | None = None
    """HTML file to write. Default: RESULTS/leaderboard.html."""
    data: tuple[str, ...] = pydantic.Field(default=(), json_schema_extra={"path": True})
    """Folder of generate or mix, or other conversations, to show; repeatable."""
    max_mb: float = pydantic.Field(default=5.0, ge=0.5)
    """Max size of the HTML file; the rest goes into pages beside it."""


@from_config(ReportConfig)
def report(config: ReportConfig, *, as_json: bool) -> None:
    """Write the leaderboard: one HTML file that works offline, and a CSV with the same figures.

    Exits with 1 when something in the folder could not be read; the rest is in the report.

    [bold]evalsuite report --out leaderboard.html[/]
    [bold]evalsuite report --data answers/ --data mixes/mine[/]
    """
    from evalsuite.report.build import build_report

    _describe(config.data, config.results)
    written = build_report(config.results, config.out, limit_bytes=round(config.max_mb * 1e6))
    for fault in written.faults:
        print_error(f"evalsuite: left out: {fault}")
    if as_json:
        print_json(written.as_json())
    else:
        beside = f" and {plural(len(written.pages), 'page')} with items beside it" if written.pages else ""
        size = f"{written.html_bytes / 1e6:.1f} MB"
        typer.echo(
            f"{written.html} ({size}){beside}: {plural(written.models, 'model')}, {plural(written.items, 'item')}"
        )
        typer.echo(str(written.csv))
        suggest("view --open", "export --to markdown", results=config.results)
    if written.faults:
        raise typer.Exit(SOMETHING_LEFT_OUT)


def _describe(data: Sequence[str], results: Path) -> None:
    """Write the analyses of folders of conversations, which the report then has with the others."""
    if not data:
        return
    from evalsuite.analysis.document import write_analysis
    from evalsuite.report.data import data_analysis

    for analysis in [data_analysis(spec) for spec in data]:
        write_analysis(results, analysis)
