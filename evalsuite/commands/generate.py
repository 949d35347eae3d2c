"""``evalsuite generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from evalsuite.commands.console import TOO_MANY_UNSCORED, JsonOption, answering, print_json, showing_progress, tell
from evalsuite.commands.options import (
    AllowPickleOption,
    BaseUrlOption,
    ChatTemplateOption,
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


def generate(
    models: ModelsArgument,
    prompts: Annotated[
        str,
        typer.Option(
            "--prompts",
            help="Hub data set org/name, or org/name:config@split; a file or folder (Parquet, JSONL, JSON); or "
            "mt_bench, alpaca_eval, mixeval.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the shards; several models get a folder each in it.")],
    policy: Annotated[
        Literal["own", "teacher-forced"],
        typer.Option("--policy", help="What later turns see: the model's own answers, or the original ones."),
    ] = "own",
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Tokens an answer at most.")] = 2048,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="0 is greedy; the checkpoint's own settings by default.")
    ] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", help="Nucleus, with --temperature; 1 by default.")] = None,
    seed: SeedOption = 0,
    system: Annotated[
        str | None, typer.Option("--system", help="System turn of every conversation, in place of its own.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Conversations; for trying out.")] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="Only rows of this language, in the data set's own words.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", help="i/n: answer every n-th conversation, on one of n machines with the same --out."),
    ] = None,
    shard_size: Annotated[int, typer.Option("--shard-size", help="Conversations a Parquet file.")] = 5000,
    logprobs: Annotated[
        bool, typer.Option("--logprobs/--no-logprobs", help="Record each answer's cumulative log-probability.")
    ] = True,
    push_to: Annotated[
        str | None, typer.Option("--push-to", help="Hub data set org/name to upload the finished folder to.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="With --push-to: make a new data set public; it is private by default.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Set the folder's earlier answers aside and begin anew.")
    ] = False,
    base_url: BaseUrlOption = None,
    dtype: DtypeOption = "auto",
    max_model_len: MaxModelLenOption = None,
    tensor_parallel_size: TensorParallelOption = 1,
    data_parallel_size: DataParallelOption = 1,
    vllm_arg: VllmArgOption = None,
    chat_template: ChatTemplateOption = None,
    max_unscored: MaxUnscoredOption = 0.01,
    in_flight: InFlightOption = None,
    allow_pickle: AllowPickleOption = False,
    trust_remote_code: TrustRemoteCodeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer every user turn of every conversation with each MODEL, into Parquet shards.

    Killed or interrupted, it goes on where it was: run the same command again.

    [bold]evalsuite generate ckpt/ --prompts allenai/WildChat-1M --language English --out answers/[/]
    [bold]evalsuite generate demo ckpt/ --prompts chats.jsonl --temperature 0.7 --out answers/ --shard 1/4[/]
    """
    from evalsuite.config import read_as
    from evalsuite.generation.run import generate as answer
    from evalsuite.generation.settings import GenerateConfig

    with answering():
        config = read_as(
            GenerateConfig,
            {
                "models": models,
                "prompts": prompts,
                "out": out,
                "policy": policy,
                "max_new_tokens": max_new_tokens,
                "temperature": temperature,
                "top_p": top_p,
                "seed": seed,
                "system": system,
                "limit": limit,
                "language": language,
                "shard": shard,
                "shard_size": shard_size,
                "logprobs": logprobs,
                "push_to": push_to,
                "public": public,
                "fresh": fresh,
                "base_url": base_url,
                "dtype": dtype,
                "max_model_len": max_model_len,
                "tensor_parallel_size": tensor_parallel_size,
                "data_parallel_size": data_parallel_size,
                "vllm_args": vllm_arg or [],
                "chat_template": chat_template,
                "max_unscored": max_unscored,
                "in_flight": in_flight,
                "allow_pickle": allow_pickle,
                "trust_remote_code": trust_remote_code,
            },
        )
        with showing_progress() as progress:
            generated = answer(config, progress)
            if config.push_to is not None:
                from evalsuite.generation.card import push

                progress.step(f"uploading to {config.push_to}")
                tell(f"uploaded to {push(config.push_to, generated, public=config.public)}")
                progress.step("")
        if as_json:
            print_json({"models": [dict(manifest) for manifest in generated.manifests]})
        else:
            _print(generated)
        if generated.unscored_share > max_unscored:
            tell(
                f"{generated.unscored_share:.1%} of the answers are missing, more than --max-unscored "
                f"{max_unscored:g} allows; the manifest counts the reasons"
            )
            raise typer.Exit(TOO_MANY_UNSCORED)


def _print(generated: Any) -> None:
    from rich.console import Console

    from evalsuite.generation.tables import print_generated

    print_generated(Console(), generated)
