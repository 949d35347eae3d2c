"""``evalsuite run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

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
    BaseUrlOption,
    ChatTemplateOption,
    DataOption,
    DataParallelOption,
    DtypeOption,
    InFlightOption,
    MaxModelLenOption,
    MaxUnscoredOption,
    ModelsArgument,
    SeedOption,
    TensorParallelOption,
    TrustRemoteCodeOption,
    VllmArgOption,
)
from evalsuite.errors import UsageError


def run(
    models: ModelsArgument,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            help="mt_bench, alpaca_eval, openllm, mixeval (all four by default); parts as openllm:ifeval,musr or "
            "mixeval:hard. May be given several times.",
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option("--judge", help="Model in the judge's role (same forms as MODEL). demo judges itself by default."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Items a suite (a split, a task); for trying out.")
    ] = None,
    data: DataOption = "full",
    results: ResultsOption = Path("results"),
    base_url: BaseUrlOption = None,
    dtype: DtypeOption = "auto",
    max_model_len: MaxModelLenOption = None,
    tensor_parallel_size: TensorParallelOption = 1,
    data_parallel_size: DataParallelOption = 1,
    vllm_arg: VllmArgOption = None,
    seed: SeedOption = 0,
    chat_template: ChatTemplateOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Set the model's earlier figures aside and score anew (answers are kept).")
    ] = False,
    as_published: Annotated[
        bool, typer.Option("--as-published", help="The benchmarks' own arithmetic where ours differs.")
    ] = False,
    mixeval_parser: Annotated[
        Literal["judge", "rule"] | None,
        typer.Option("--mixeval-parser", help="judge (default when there is one) or rule."),
    ] = None,
    mixeval_version: Annotated[str, typer.Option("--mixeval-version", help="2024-06-01 or 2024-08-11.")] = "2024-06-01",
    openllm_chat_template: Annotated[
        bool,
        typer.Option(
            "--openllm-chat-template/--no-openllm-chat-template", help="Use the chat template in Open LLM tasks."
        ),
    ] = True,
    fewshot_as_multiturn: Annotated[
        bool, typer.Option("--fewshot-as-multiturn/--no-fewshot-as-multiturn", help="Few-shot examples as chat turns.")
    ] = True,
    max_unscored: MaxUnscoredOption = 0.01,
    in_flight: InFlightOption = None,
    allow_pickle: AllowPickleOption = False,
    trust_remote_code: TrustRemoteCodeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Serve each MODEL with vLLM, run the suites at once, judge, score, write, print.

    Killed or interrupted, it goes on where it was: run the same command again.

    [bold]evalsuite run ckpt/ --judge judge-ckpt/[/]
    [bold]evalsuite run ckpt/ --suite openllm:ifeval,musr --limit 100[/]
    [bold]evalsuite run my-model@http://localhost:8000/v1 --suite mt_bench --judge judge-ckpt/[/]
    """
    from evalsuite.config import read_config
    from evalsuite.runs.runner import run as run_config

    with answering():
        if limit is not None and limit < 1:
            raise UsageError(f"--limit {limit}: give at least 1, or leave it out for all items")
        config = read_config(
            {
                "models": models,
                "suites": suite,
                "judge": judge,
                "limit": limit,
                "data": data,
                "results": results,
                "base_url": base_url,
                "dtype": dtype,
                "max_model_len": max_model_len,
                "tensor_parallel_size": tensor_parallel_size,
                "data_parallel_size": data_parallel_size,
                "vllm_args": vllm_arg or [],
                "seed": seed,
                "chat_template": chat_template,
                "fresh": fresh,
                "as_published": as_published,
                "mixeval_parser": mixeval_parser,
                "mixeval_version": mixeval_version,
                "openllm_chat_template": openllm_chat_template,
                "fewshot_as_multiturn": fewshot_as_multiturn,
                "max_unscored": max_unscored,
                "in_flight": in_flight,
                "allow_pickle": allow_pickle,
                "trust_remote_code": trust_remote_code,
            }
        )
        with showing_progress() as progress:
            outcome = run_config(config, progress)
        if as_json:
            print_json({"models": outcome.models})
        else:
            _print_outcome(outcome)
        if outcome.unscored_share > max_unscored:
            tell(
                f"{outcome.n_unscored} of {outcome.n_items} items are unscored, more than --max-unscored "
                f"{max_unscored:g} allows; the table gives the reasons"
            )
            raise typer.Exit(TOO_MANY_UNSCORED)


def _print_outcome(outcome: Any) -> None:
    from rich.console import Console

    from evalsuite.tables import print_models

    console = Console()
    print_models(console, outcome.models)
    for folder in outcome.folders:
        console.print(f"written to {folder}/ (scores.json, manifest.json, exports)", highlight=False)
