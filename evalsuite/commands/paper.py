"""``evalsuite paper``."""

from __future__ import annotations

from pathlib import Path

import pydantic

from evalsuite.commands.console import write_and_print
from evalsuite.commands.options import from_config
from evalsuite.config import Config, Results


class PaperConfig(Config):
    """A whole ``evalsuite paper``."""

    tables: tuple[str, ...] = pydantic.Field(default=(), json_schema_extra={"argument": "TABLE"})
    """table1 to table7, figure2 (all by default), or the leaderboard of the example."""
    row_map: Path | None = pydantic.Field(default=None, json_schema_extra={"flag": "map"})
    """YAML mapping 'row: own model' (or table4/row), and 'aliases: {L8B: own base, ...}'."""
    results: Results = Path("results")


@from_config(PaperConfig)
def paper(config: PaperConfig, *, as_json: bool) -> None:
    """Print the paper's published tables with your own figures beside them, and whether they agree within the interval.

    A published leaderboard names its judge; your figures are shown beside it only if that judge gave them.

    [bold]evalsuite paper[/] [bold]evalsuite paper table2 table6 --results results --map rows.yaml[/]
    [bold]evalsuite paper arena_hard_v0_1[/]
    """
    from evalsuite.wildchat.own_results import read_map
    from evalsuite.wildchat.side_by_side import paper_analysis

    chosen = read_map(config.row_map) if config.row_map else None
    analysis = paper_analysis(config.results, chosen, config.tables)
    write_and_print(config.results, analysis, as_json=as_json)
