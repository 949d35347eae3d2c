"""``evalsuite analyze``: one subcommand per analysis."""

from __future__ import annotations

import typer

from evalsuite.commands.analyze_contamination import analyze_contamination
from evalsuite.commands.analyze_efficiency import analyze_efficiency
from evalsuite.commands.analyze_keywords import analyze_keywords
from evalsuite.commands.analyze_similarity import analyze_similarity
from evalsuite.commands.analyze_style import analyze_style
from evalsuite.commands.options import with_config_file

analyze_app = typer.Typer(
    no_args_is_help=True,
    help="The analyses of WILDCHAT-50M on recorded answers: style, similarity, keywords, efficiency, contamination.",
)
analyze_app.command("style")(with_config_file(analyze_style))
analyze_app.command("efficiency")(with_config_file(analyze_efficiency))
analyze_app.command("contamination")(with_config_file(analyze_contamination))
analyze_app.command("similarity")(with_config_file(analyze_similarity))
analyze_app.command("keywords")(with_config_file(analyze_keywords))
