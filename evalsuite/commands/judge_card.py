"""``evalsuite judge-card``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands.console import JsonOption, ResultsOption, answering, print_json, showing_progress
from evalsuite.commands.options import (
    AllowPickleOption,
    DataParallelOption,
    DtypeOption,
    InFlightOption,
    MaxJudgeTokensOption,
    MaxModelLenOption,
    MethodOption,
    TemplateOption,
    TensorParallelOption,
    TrustRemoteCodeOption,
    VllmArgOption,
)


def judge_card(
    judge: Annotated[
        str, typer.Argument(metavar="JUDGE", help="Checkpoint folder, hub id org/name, demo or NAME@URL.")
    ],
    pairs: Annotated[
        str | None,
        typer.Option(
            "--pairs",
            help="Labelled pairs: mt_bench (the default), llmbar_natural, or a .json or .jsonl file with input, "
            "output_1, output_2 and label 1 or 2.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Pairs; for trying out.")] = None,
    method: MethodOption = "verdict",
    max_judge_tokens: MaxJudgeTokensOption = None,
    template: TemplateOption = None,
    repeats: Annotated[int, typer.Option("--repeats", min=0, help="Pairs that are asked a second time.")] = 50,
    attacked: Annotated[int, typer.Option("--attacked", min=0, help="Questions that the attacks are tried on.")] = 10,
    results: ResultsOption = Path("results"),
    dtype: DtypeOption = "auto",
    max_model_len: MaxModelLenOption = None,
    tensor_parallel_size: TensorParallelOption = 1,
    data_parallel_size: DataParallelOption = 1,
    vllm_arg: VllmArgOption = None,
    in_flight: InFlightOption = None,
    allow_pickle: AllowPickleOption = False,
    trust_remote_code: TrustRemoteCodeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a judge: agreement with people, position and length bias, noise, resistance to attack.

    The card is kept in results/judges/ and shown beside what the judge decides.

    [bold]evalsuite judge-card judge-ckpt/[/]
    [bold]evalsuite judge-card judge-ckpt/ --pairs my_pairs.jsonl --method reasoned[/]
    """
    from evalsuite.comparison.card import CardConfig
    from evalsuite.comparison.card import judge_card as measure
    from evalsuite.config import read_config

    with answering():
        config = read_config(
            {
                "models": (judge,),
                "limit": limit,
                "results": results,
                "dtype": dtype,
                "max_model_len": max_model_len,
                "tensor_parallel_size": tensor_parallel_size,
                "data_parallel_size": data_parallel_size,
                "vllm_args": vllm_arg or [],
                "in_flight": in_flight,
                "allow_pickle": allow_pickle,
                "trust_remote_code": trust_remote_code,
            }
        )
        with showing_progress() as progress:
            card, path = measure(
                CardConfig(config, pairs, method, template, max_judge_tokens, repeats, attacked), progress
            )
        if as_json:
            print_json(card)
            return
        from rich.console import Console

        from evalsuite.comparison.tables import print_card

        console = Console()
        print_card(console, card)
        console.print(f"written to {path}", highlight=False)
