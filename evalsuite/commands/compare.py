"""``evalsuite compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands.console import (
    TOO_MANY_UNSCORED,
    JsonOption,
    ResultsOption,
    answering,
    print_json,
    showing_progress,
    tell,
)
from evalsuite.commands.options import (
    AllowPickleOption,
    ChatTemplateOption,
    DataOption,
    DataParallelOption,
    DtypeOption,
    InFlightOption,
    MaxJudgeTokensOption,
    MaxModelLenOption,
    MaxUnscoredOption,
    MethodOption,
    PromptsOption,
    SeedOption,
    TemplateOption,
    TensorParallelOption,
    TrustRemoteCodeOption,
    TurnsOption,
    VllmArgOption,
)


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL MODEL...",
            help="Checkpoint folder, hub id org/name, demo or NAME@URL; or recorded answers: a .json or .jsonl file, "
            "NAME=FILE, or a model's folder in results/.",
        ),
    ],
    judge: Annotated[
        list[str] | None, typer.Option("--judge", help="Model in the judge's role; several make a panel.")
    ] = None,
    prompts: PromptsOption = "mt_bench",
    turns: TurnsOption = "first",
    method: MethodOption = "verdict",
    tie_margin: Annotated[
        float, typer.Option("--tie-margin", help="A mean preference this near to 0.5 is a tie, 0 to 0.5.")
    ] = 0.0,
    max_judge_tokens: MaxJudgeTokensOption = None,
    template: TemplateOption = None,
    lineage: Annotated[
        Path | None, typer.Option("--lineage", help="YAML of 'sft: dgm', which model made which one's data.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Folder under results/comparisons/.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Prompts; for trying out.")] = None,
    data: DataOption = "full",
    results: ResultsOption = Path("results"),
    dtype: DtypeOption = "auto",
    max_model_len: MaxModelLenOption = None,
    tensor_parallel_size: TensorParallelOption = 1,
    data_parallel_size: DataParallelOption = 1,
    vllm_arg: VllmArgOption = None,
    seed: SeedOption = 0,
    chat_template: ChatTemplateOption = None,
    max_unscored: MaxUnscoredOption = 0.01,
    in_flight: InFlightOption = None,
    allow_pickle: AllowPickleOption = False,
    trust_remote_code: TrustRemoteCodeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare models pairwise: every pair in both orders, preference rates with intervals, flips, a ranking.

    Answers that a run has produced are reused. Killed or interrupted, it goes on where it was.

    [bold]evalsuite compare ckpt-a/ ckpt-b/ --judge judge-ckpt/[/]
    [bold]evalsuite compare a/ b/ dgm/ --judge j1/ --judge j2/ --lineage lineage.yaml --method reasoned[/]
    """
    from evalsuite.comparison.compare import compare as run_comparison
    from evalsuite.comparison.compare import read_compare_config

    with answering():
        config = read_compare_config(
            models,
            judge or [],
            prompts=prompts,
            turns=turns,
            method=method,
            tie_margin=tie_margin,
            max_judge_tokens=max_judge_tokens,
            template=template,
            lineage=lineage,
            name=name,
            limit=limit,
            data=data,
            results=results,
            dtype=dtype,
            max_model_len=max_model_len,
            tensor_parallel_size=tensor_parallel_size,
            data_parallel_size=data_parallel_size,
            vllm_args=vllm_arg or [],
            seed=seed,
            chat_template=chat_template,
            in_flight=in_flight,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
        )
        with showing_progress() as progress:
            outcome = run_comparison(config, progress)
        if as_json:
            print_json(outcome.document)
        else:
            from rich.console import Console

            from evalsuite.comparison.tables import print_preferences

            console = Console()
            print_preferences(console, outcome.document)
            console.print(f"written to {outcome.folder}/", highlight=False)
        if outcome.unscored_share > max_unscored:
            tell(f"{outcome.n_unscored} of {outcome.n_items} pairs are unscored, more than --max-unscored allows")
            raise typer.Exit(TOO_MANY_UNSCORED)
