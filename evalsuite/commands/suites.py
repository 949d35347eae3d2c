"""``evalsuite suites`` and ``evalsuite suite check``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic
import typer

from evalsuite.commands.console import print_json
from evalsuite.commands.help import Group
from evalsuite.commands.options import from_config
from evalsuite.config import Config
from evalsuite.exits import UNUSABLE
from evalsuite.text import plural

if TYPE_CHECKING:
    from evalsuite.suites.base import Suite
    from evalsuite.suites.harness.groups import GroupFacts, TaskFacts

_FAULTS_SHOWN = 20

suite_app = typer.Typer(cls=Group, no_args_is_help=True, help="Your own benchmarks in YAML files.")


class CheckConfig(Config):
    """A whole ``evalsuite suite check``."""

    files: tuple[Path, ...] = pydantic.Field(min_length=1, json_schema_extra={"argument": "FILE"})
    """YAML file of a benchmark."""


@suite_app.command("check")
@from_config(CheckConfig)
def suite_check(config: CheckConfig, *, as_json: bool) -> None:
    """Report all faults of a benchmark's file, and what a run of it would ask; exits with 2 if there is a fault.

    Runs no code of the file and queries no model.

    [bold]evalsuite suite check my-benchmark.yaml[/]
    [bold]evalsuite suite check recipes/suites/support_tone.yaml --json[/]
    """
    from evalsuite.suites.file.check import check_file
    from evalsuite.suites.registry import installed_names
    from evalsuite.terminal import Console

    checked = [check_file(path, installed_names()) for path in config.files]
    if as_json:
        print_json({"suites": [one.as_json() for one in checked]})
    else:
        console = Console()
        for path, one in zip(config.files, checked, strict=True):
            state = plural(len(one.faults), "fault") if one.faults else "ok"
            console.print(f"{path}: {state}", highlight=False)
            for fault in one.faults[:_FAULTS_SHOWN]:
                console.print(f"  fault: {fault}", highlight=False)
            if (rest := len(one.faults) - _FAULTS_SHOWN) > 0:
                console.print(f"  and {rest} more, all with --json", highlight=False)
            for note in one.notes:
                console.print(f"  note: {note}", highlight=False)
            for name, count in one.cost.items():
                if count:
                    console.print(f"  {name.replace('_', ' '):<18} {count:>9,}", highlight=False)
    if any(one.faults for one in checked):
        raise typer.Exit(UNUSABLE)


@from_config(Config)
def list_suites(_: Config, *, as_json: bool) -> None:
    """List the installed suites, and groups of lm-eval tasks that suit chat models, with their requirements.

    [bold]evalsuite suites[/]
    [bold]evalsuite suites --json[/]
    """
    from evalsuite.suites.harness.groups import task_groups
    from evalsuite.suites.registry import suites

    groups = task_groups()
    if as_json:
        print_json(
            {"suites": [_suite_facts(suite) for suite in suites().values()], "groups": list(map(_group, groups))}
        )
    else:
        _print_suites(list(map(_suite_facts, suites().values())), groups)


def _suite_facts(suite: Suite) -> dict[str, Any]:
    return {
        "name": suite.name,
        "title": suite.title,
        "parts": list(suite.parts),
        "default": suite.in_default,
        "judge": suite.judge_method or None,
        "assets": sorted(suite.assets),
    }


def _group(group: GroupFacts) -> dict[str, Any]:
    return {
        "name": group.name,
        "options": list(group.options),
        "reported": group.reported or None,
        "tasks": [asdict(task) for task in group.tasks],
    }


def _print_suites(facts: Sequence[Mapping[str, Any]], groups: Sequence[GroupFacts]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from evalsuite.terminal import Console

    console = Console()
    table = Table("suite", "title", "parts", "judge", box=None, pad_edge=False)
    for one in facts:
        parts = ", ".join(one["parts"][:6])
        table.add_row(one["name"] + (" *" if one["default"] else ""), one["title"], parts, one["judge"] or "–")
    console.print(table)
    console.print("* runs without --suite. Your own YAML file is a suite too: --suite FILE.yaml", highlight=False)
    for group in groups:
        console.print(f"\n{group.name}: evalsuite run MODEL {' '.join(group.options)}", highlight=False)
        tasks = Table("task", "needs", box=None, pad_edge=False)
        for task in group.tasks:
            tasks.add_row(task.name, escape(_task_text(task)))
        console.print(tasks)
        if group.reported:
            console.print(f"published: {group.reported}", highlight=False)


def _task_text(task: TaskFacts) -> str:
    if task.absent:
        return "the installed lm-eval does not have it"
    texts = [f"data {', '.join(task.datasets)}{' (gated)' if task.gated else ''}", f"{task.fewshot}-shot"]
    texts.append(f"lm-eval's own limit {task.answer_tokens:,} tokens")
    texts += [f"ends at {', '.join(map(repr, task.stops))}"] if task.stops else []
    texts += [f"filters {', '.join(task.filters)}"] if task.filters else []
    texts += ["executes the model's code"] if task.unsafe_code else []
    return "; ".join(texts)
