"""``evalsuite gate``."""

from __future__ import annotations

import typer

from evalsuite.commands.console import print_error, print_json
from evalsuite.commands.options import from_config
from evalsuite.gate.settings import GateConfig


@from_config(GateConfig)
def gate(config: GateConfig, *, as_json: bool) -> None:
    """Check that a candidate is as good as a baseline: paired by item, corrected for the number of figures.

    Exits with 0 when it holds, with 1 and a sentence per figure that fell, and with 2 when the two cannot be compared.

    [bold]evalsuite gate results/base-1a2b3c4d results/new-5e6f7a8b --junit gate.xml[/]
    [bold]evalsuite gate base new --non-inferior 0.02[/]
    """
    from evalsuite.gate.decide import gate as decide
    from evalsuite.gate.junit import write_junit

    verdict = decide(config)
    if config.junit is not None:
        write_junit(config.junit, verdict)
    for note in verdict.notes:
        print_error(note)
    if as_json:
        print_json(verdict.as_json())
    else:
        from evalsuite.tables import print_rows
        from evalsuite.terminal import Console

        names = [verdict.baseline, verdict.candidate]
        if names[0] == names[1]:
            # Two runs of one model: a column per name would be one column.
            names = [f"{names[0]} (baseline)", f"{names[1]} (candidate)"]
        rows = [
            {
                "figure": test.title,
                names[0]: f"{test.baseline:.4g}",
                names[1]: f"{test.candidate:.4g}",
                "change": f"{test.difference:+z.3g}",
                "95 %": "" if test.ci95 is None else f"{test.ci95[0]:+z.3g} to {test.ci95[1]:+z.3g}",
                "n": "" if test.n is None else str(test.n),
                "p": f"{test.p_value:.2g}",
                "": "" if test.holds else "✗",
            }
            for test in verdict.tests
        ]
        print_rows(Console(), rows)
    for test in verdict.fell:
        print_error(test.sentence)
    if verdict.fell:
        raise typer.Exit(1)
