"""``evalsuite study``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic
import typer

from evalsuite.commands.console import print_error, print_json, showing_progress
from evalsuite.commands.options import from_config
from evalsuite.config import Config, Results
from evalsuite.placement import Jobs, On, SlurmTemplate
from evalsuite.text import plural

if TYPE_CHECKING:
    from evalsuite.study.run import Outcome
    from evalsuite.terminal import Console


class StudyConfig(Config):
    """A whole ``evalsuite study``."""

    file: Path = pydantic.Field(json_schema_extra={"argument": "STUDY.yaml"})
    """DGMs, targets, sizes, blends and settings."""
    results: Results = Path("results")
    dry_run: bool = False
    """Show the plan: finished and pending stages, projected hours."""
    only: tuple[str, ...] = ()
    """A kind of stage (sft) or one stage ('sft T-D-500'); repeatable."""
    on: On = pydantic.Field(
        default=None, description="Where models run: local, ray[:ADDRESS][,gpus=N], slurm[:KEY=VALUE,...]."
    )
    jobs: Jobs = None
    slurm_template: SlurmTemplate = None


@from_config(StudyConfig)
def study(config: StudyConfig, *, as_json: bool) -> None:
    """Run a whole study: generate, mix, sft, run, compare, analyze, the paper's tables, report.

    After a change only the stages that depend on it run again. Killed or interrupted, it resumes. A failed stage is
    reported with its reason, and only stages that depend on it are skipped: exit code 1, 3 if a model or server failed,
    75 if a limit or a lock was in the way.

    [bold]evalsuite study recipes/demo-study.yaml --dry-run[/]
    [bold]evalsuite study recipes/demo-study.yaml --results study/[/]
    """
    from evalsuite.study.file import read_study
    from evalsuite.study.projection import plan_document
    from evalsuite.study.run import plan_only, run_study
    from evalsuite.terminal import Console

    read, results = read_study(config.file), config.results
    if config.dry_run:
        document = plan_document(read, plan_only(read, results, only=config.only), results)
        if as_json:
            print_json(document)
        else:
            _print_plan(Console(), document)
        return
    template = None if config.slurm_template is None else str(config.slurm_template)
    placed = {"on": config.on, "jobs": config.jobs, "slurm_template": template}
    with showing_progress() as progress:
        outcome = run_study(read, results, only=config.only, progress=progress, placed=placed)
    if as_json:
        print_json(_outcome_document(outcome))
    else:
        _print_outcome(Console(), outcome)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _print_plan(console: Console, document: dict[str, Any]) -> None:
    from evalsuite.tables import print_rows

    device = f"{document['device']}-hours"
    rows: list[dict[str, Any]] = [
        {
            "stage": row["stage"],
            "state": row["status"],
            "time": _time(row["hours"]),
            device: None if row["device_hours"] is None else _amount(row["device_hours"]),
            "based on": row["basis"] or row["reason"] or "",
        }
        for row in document["stages"]
    ]
    print_rows(console, rows)
    console.print(
        f"{document['to_do']} of {len(rows)} stages to do: about {_time(document['hours'])} in sequence, "
        f"{_amount(document['device_hours'])} {device}, {plural(document['servers_started'], 'server start')}.",
        highlight=False,
    )
    if stages := document["critical_path"]["stages"]:
        hours = _time(document["critical_path"]["hours"])
        console.print(f"Critical path, given enough machines: {hours}: {' → '.join(stages)}.", highlight=False)
    console.print(
        "measured: from earlier runs in these results; stated: in the file; assumed: the demo model on two CPU cores.",
        highlight=False,
    )
    for note in document["notes"]:
        console.print(note, highlight=False)


def _time(hours: float | None) -> str | None:
    if hours is None:
        return None
    return f"{hours * 60:.1f} min" if hours < 1 else f"{hours:,.1f} h"


def _amount(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _outcome_document(outcome: Outcome) -> dict[str, Any]:
    return {
        "study": outcome.study,
        "folder": str(outcome.folder),
        "exit_code": outcome.exit_code,
        "stages": [cell.as_json() for cell in outcome.cells],
        "notes": list(outcome.notes),
    }


def _print_outcome(console: Console, outcome: Outcome) -> None:
    from evalsuite.tables import print_rows

    print_rows(
        console,
        [
            {
                "stage": cell.stage.name,
                "state": cell.status,
                "seconds": None if cell.seconds is None else f"{cell.seconds:,.0f}",
                "": "; ".join(cell.notes) or cell.reason,
            }
            for cell in outcome.cells
        ],
    )
    for cell in outcome.cells:
        if cell.status == "failed":
            print_error(f"evalsuite: {cell.stage.name} failed: {cell.reason}")
    for note in outcome.notes:
        console.print(note, highlight=False)
    counts = [f"{outcome.count(status)} {status}" for status in ("done", "kept", "failed", "skipped", "left out")]
    console.print(f"{', '.join(counts)}; the state is in {outcome.folder}/", highlight=False)
