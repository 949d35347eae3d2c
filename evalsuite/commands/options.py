"""Options that several commands share: which prompts, and how models are served and asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

ModelsArgument = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="Checkpoint folder, hub id org/name, demo, or NAME@URL.")
]
BaseUrlOption = Annotated[
    str | None,
    typer.Option(
        "--base-url", help="Attach to a running OpenAI-compatible server that serves MODEL, http://host:port/v1."
    ),
]
PromptsOption = Annotated[
    str, typer.Option("--prompts", help="mt_bench, alpaca_eval, or a .json or .jsonl file of prompts.")
]
TurnsOption = Annotated[
    Literal["first", "both"], typer.Option("--turns", help="Look at first turns, or at whole conversations.")
]
MethodOption = Annotated[
    Literal["verdict", "reasoned"],
    typer.Option("--method", help="verdict: one token with its probability; reasoned: words, then a verdict."),
]
MaxJudgeTokensOption = Annotated[
    int | None,
    typer.Option("--max-judge-tokens", min=1, help="Tokens of a judge's words before its verdict; 1024 by default."),
]
TemplateOption = Annotated[
    Path | None, typer.Option("--template", help="Jinja file of the judge's prompt, instead of ours.")
]
DataOption = Annotated[
    Literal["full", "mini"], typer.Option("--data", help="full: the real prompts; mini: a few of our own.")
]
DtypeOption = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="bfloat16, float16, float32 or auto: the checkpoint's own, and float32 on a CPU without bfloat16.",
    ),
]
MaxModelLenOption = Annotated[
    int | None, typer.Option("--max-model-len", help="Context in tokens; the checkpoint's up to 32,768 by default.")
]
TensorParallelOption = Annotated[int, typer.Option("--tensor-parallel-size", "-tp", help="GPUs a replica.")]
DataParallelOption = Annotated[int, typer.Option("--data-parallel-size", "-dp", help="Replicas.")]
VllmArgOption = Annotated[
    list[str] | None, typer.Option("--vllm-arg", help="Passed on to vLLM as --key value; key=value.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of all sampled answers.")]
ChatTemplateOption = Annotated[
    str | None,
    typer.Option("--chat-template", help="Of the models: a Jinja file, or fastchat:NAME (one of FastChat's)."),
]
MaxUnscoredOption = Annotated[
    float, typer.Option("--max-unscored", help="Share of unscored items above which the exit code is 1.")
]
InFlightOption = Annotated[int | None, typer.Option("--in-flight", help="Requests in flight at once.")]
TrustRemoteCodeOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the code that a checkpoint brings; it can do all that you can.")
]
AllowPickleOption = Annotated[
    bool, typer.Option("--allow-pickle", help="Serve pickled weights, which can run code when loaded.")
]
