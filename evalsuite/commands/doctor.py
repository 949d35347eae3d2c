"""``evalsuite doctor``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, ClassVar

import pydantic
import typer

from evalsuite.commands.console import print_json, showing_progress, suggest
from evalsuite.commands.options import from_config
from evalsuite.config import RunConfig
from evalsuite.errors import EvalsuiteError
from evalsuite.text import plural

if TYPE_CHECKING:
    from evalsuite.doctor import Finding

FAULTS = 2
_MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "fault": "[red]fault[/]"}


class DoctorConfig(RunConfig):
    """The options of a run, of which the models may be missing."""

    command: ClassVar[str] = "doctor"

    models: tuple[str, ...] = pydantic.Field(default=(), json_schema_extra={"argument": "MODEL", "path": True})
    """As for run; without models, only what does not depend on a model is checked."""
    ask_judge: bool = False
    """Start the judge's server (a minute or two) and ask it for one comparison: how much probability its labels get."""


@from_config(
    DoctorConfig, exclude=("limit", "label", "name", "seed", "ask_again", "fresh", "as_published", "max_unscored")
)
def doctor(config: DoctorConfig, *, as_json: bool) -> None:
    """Report what would go wrong in a run before it starts: template, context, memory, data, scorers, disk, versions.

    Also reports the smallest difference between two models that its items can show (see evalsuite plan).

    Exits with 0 if there is no fault, 2 otherwise. A run makes the quick checks by itself.

    [bold]evalsuite doctor ckpt/ --judge judge-ckpt/[/] [bold]evalsuite doctor --suite openllm:ifeval,math[/]
    """
    from evalsuite.doctor import examine
    from evalsuite.power.plan import findings as power_findings

    with showing_progress() as progress:
        findings = examine(config, config.models, progress, ask_judge=config.ask_judge)
        # Results that cannot be read are findings already.
        with suppress(EvalsuiteError):
            findings += power_findings(config)
    faults = sum(finding.level == "fault" for finding in findings)
    if as_json:
        print_json({"faults": faults, "findings": [asdict(finding) for finding in findings]})
    else:
        _print(findings)
        if config.models and not faults:
            judges = "".join(f" --judge {judge}" for judge in config.judge_specs)
            suggest(f"run {' '.join(config.models)}{judges}", results=config.results)
    if faults:
        raise typer.Exit(FAULTS)


def _print(findings: Sequence[Finding]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from evalsuite.terminal import Console

    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        remedy = f"; [bold]{escape(finding.remedy)}[/]" if finding.remedy else ""
        table.add_row(
            _MARKS[finding.level], escape(finding.check), f"{escape(finding.about)}: {escape(finding.message)}{remedy}"
        )
    console = Console(highlight=False)
    console.print(table)
    passed, warnings, faults = (sum(one.level == level for one in findings) for level in ("ok", "warning", "fault"))
    counts = ((passed, "check"), (warnings, "warning"), (faults, "fault"))
    said = [plural(n, word) for n, word in counts]
    console.print(f"{said[0]} passed, {said[1]}, {said[2]}")
