"""``evalsuite doctor``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalsuite.commands.console import JsonOption, ResultsOption, answering, print_json, showing_progress
from evalsuite.commands.options import (
    AllowPickleOption,
    BaseUrlOption,
    ChatTemplateOption,
    DataOption,
    DataParallelOption,
    DtypeOption,
    MaxModelLenOption,
    TensorParallelOption,
    TrustRemoteCodeOption,
    VllmArgOption,
)

if TYPE_CHECKING:
    from evalsuite.doctor import Finding

FAULTS = 2
_MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "fault": "[red]fault[/]"}


def doctor(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="As for run; none: only what all models share.")
    ] = None,
    suite: Annotated[
        list[str] | None, typer.Option("--suite", help="Suites to be run, all four by default; as for run.")
    ] = None,
    judge: Annotated[str | None, typer.Option("--judge", help="Model in the judge's role.")] = None,
    data: DataOption = "full",
    results: ResultsOption = Path("results"),
    base_url: BaseUrlOption = None,
    dtype: DtypeOption = "auto",
    max_model_len: MaxModelLenOption = None,
    tensor_parallel_size: TensorParallelOption = 1,
    data_parallel_size: DataParallelOption = 1,
    vllm_arg: VllmArgOption = None,
    chat_template: ChatTemplateOption = None,
    allow_pickle: AllowPickleOption = False,
    trust_remote_code: TrustRemoteCodeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what would go wrong in a run, before it starts: template, context, memory, data, scorers, disk, versions.

    Exit code 0 without a fault, 2 with one. A run makes the quick ones of these checks by itself.

    [bold]evalsuite doctor ckpt/ --judge judge-ckpt/[/]
    [bold]evalsuite doctor --suite openllm:ifeval,math[/]
    """
    from evalsuite.config import read_config
    from evalsuite.doctor import examine

    with answering():
        config = read_config(
            {
                "models": models or ["demo"],
                "suites": suite,
                "judge": judge,
                "data": data,
                "results": results,
                "base_url": base_url,
                "dtype": dtype,
                "max_model_len": max_model_len,
                "tensor_parallel_size": tensor_parallel_size,
                "data_parallel_size": data_parallel_size,
                "vllm_args": vllm_arg or [],
                "chat_template": chat_template,
                "allow_pickle": allow_pickle,
                "trust_remote_code": trust_remote_code,
            }
        )
        with showing_progress() as progress:
            findings = examine(config, models or [], progress)
        faults = sum(finding.level == "fault" for finding in findings)
        if as_json:
            print_json({"faults": faults, "findings": [asdict(finding) for finding in findings]})
        else:
            _print(findings)
        if faults:
            raise typer.Exit(FAULTS)


def _print(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        remedy = f"; [bold]{escape(finding.remedy)}[/]" if finding.remedy else ""
        table.add_row(
            _MARKS[finding.level], escape(finding.check), f"{escape(finding.about)}: {escape(finding.words)}{remedy}"
        )
    console = Console(highlight=False)
    console.print(table)
    counts = {level: sum(finding.level == level for finding in findings) for level in ("fault", "warning")}
    console.print(f"{counts['fault']} faults, {counts['warning']} warnings, {len(findings)} findings")
