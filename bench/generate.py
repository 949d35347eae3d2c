"""``evalsuite generate`` against barriered batches and against vLLM itself, on the same prompts.

    python bench/generate.py                        the demo model on the multi-turn sample, a few minutes on two cores
    python bench/generate.py --model ckpt/ --prompts allenai/WildChat-1M --conversations 5000 --max-num-seqs 256

    evalsuite  the command itself, from reading the source to the shards, on a running server
    barriered  like WILDCHAT-50M's script: a batch of conversations, turn by turn, each turn waiting for the slowest
    offline    one LLM.generate over all prompts at once: the server's limit, without turns, client or files

Turns are teacher-forced, so that all three have the same prompts; answers are greedy, with log-probabilities,
and each method starts with an empty prefix cache. Only completion tokens count. The three take turns in each repeat,
beginning with another one each time; both engines are loaded all the while. Goals: 1.3 times
barriered, 0.95 of offline.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from bench.offline import GPU_SHARE, RawEngine, Request
from bench.ratios import summary
from evalsuite.checkpoint import Checkpoint, resolve
from evalsuite.config import read_as
from evalsuite.conversations.formats import Conversation, detect_format, prompts_of
from evalsuite.conversations.source import open_source
from evalsuite.generation.run import generate
from evalsuite.generation.settings import GenerateConfig
from evalsuite.serving.chat_format import load_chat_format
from evalsuite.serving.client import Client, Target
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.device import installed_vllm
from evalsuite.serving.requests import Completion, Sampling
from evalsuite.serving.server import Server, context_length
from evalsuite.serving.wire import Endpoint
from evalsuite.store import Store


def measured(words: str, tokens: int, seconds: float) -> float:
    print(f"  {words}: {tokens} tokens in {seconds:.1f} s", flush=True)
    return tokens / seconds


def turn_prompts(conversation: Conversation, chat_format: Any) -> list[list[int]]:
    """Return the prompts of a conversation's user turns, each with the original history."""
    messages = conversation.messages
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    return [chat_format.prompt_tokens(messages[: index + 1]) for index in users]


def read_conversations(word: str, limit: int) -> list[Conversation]:
    rows = open_source(word)
    layout = detect_format(rows.columns, word)
    found = (prompts_of(row, layout) for row in rows)
    usable = (talk for talk in found if isinstance(talk, Conversation))
    return [talk for _, talk in zip(range(limit), usable, strict=False)]


def forget_prefixes(server: Server) -> None:
    httpx.post(server.base_url.removesuffix("/v1") + "/reset_prefix_cache", timeout=60).raise_for_status()


def ours(arguments: argparse.Namespace, server: Server, folder: Path) -> float:
    config = read_as(
        GenerateConfig,
        {
            "models": [arguments.model],
            "prompts": arguments.prompts,
            "out": folder,
            "policy": "teacher-forced",
            "limit": arguments.conversations,
            "max_new_tokens": arguments.max_new_tokens,
            "temperature": 0.0,
            "base_url": server.base_url,
            "max_model_len": arguments.max_model_len,
            "in_flight": 4 * arguments.max_num_seqs,
        },
    )
    (manifest,) = generate(config).manifests
    # From the first request to the last file: loading a tokenizer once does not count in a long job.
    return measured("evalsuite", manifest["tokens"]["completion"], manifest["seconds"]["generate"])


def barriered(
    arguments: argparse.Namespace, server: Server, target: Target, prompts: Sequence[Sequence[list[int]]], folder: Path
) -> float:
    async def connect() -> Endpoint:
        return Endpoint(server.base_url, server.api_key, server.model_name, end=server.stop)

    async def ask_all() -> int:
        tokens = 0
        with Store(folder / "store.sqlite") as store:
            client = Client(target, connect, store, in_flight=arguments.batch)
            sampling = Sampling(arguments.max_new_tokens, logprobs=True)
            for start in range(0, len(prompts), arguments.batch):
                batch = prompts[start : start + arguments.batch]
                for turn in range(max(map(len, batch))):
                    asked = [turns[turn] for turns in batch if turn < len(turns)]
                    replies = await asyncio.gather(*(client.complete(prompt, sampling) for prompt in asked))
                    tokens += sum(reply.completion_tokens for reply in replies if isinstance(reply, Completion))
            await client.close()
        return tokens

    began = time.monotonic()
    tokens = asyncio.run(ask_all())
    return measured("barriered", tokens, time.monotonic() - began)


def everything_offline(
    arguments: argparse.Namespace, checkpoint: Checkpoint, prompts: Sequence[list[int]]
) -> RawEngine:
    limit = arguments.max_model_len
    requests: list[Request] = [
        (
            prompt,
            {"temperature": 0, "max_tokens": min(arguments.max_new_tokens, limit - len(prompt)), "logprobs": 0},
        )
        for prompt in prompts
        if len(prompt) < limit
    ]
    return RawEngine(checkpoint, requests, arguments.dtype, limit, arguments.max_num_seqs)


def all_rates(
    arguments: argparse.Namespace, checkpoint: Checkpoint, target: Target, prompts: Any, folder: Path
) -> dict[str, list[float]]:
    """Measure the three ways in turn, after a warm-up; tokens per second of each repeat."""
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"  # opens /reset_prefix_cache
    vllm_args = [("max_num_seqs", str(arguments.max_num_seqs))]
    if installed_vllm().kind == "cuda":
        vllm_args.append(("gpu_memory_utilization", GPU_SHARE))
    serve = ServeConfig(dtype=arguments.dtype, max_model_len=arguments.max_model_len, vllm_args=tuple(vllm_args))
    with Server(checkpoint, serve, folder / "server.log") as server:
        print(f"server up after {server.wait_ready():.0f} s", flush=True)
        os.environ["EVALSUITE_API_KEY"] = server.api_key
        raw = everything_offline(arguments, checkpoint, [prompt for turns in prompts for prompt in turns])
        (folder / "warm").mkdir()
        first = [turns[:1] for turns in prompts[: arguments.max_num_seqs]]
        barriered(arguments, server, target, first, folder / "warm")

        def own(repeat: int) -> float:
            forget_prefixes(server)
            return ours(arguments, server, folder / f"ours-{repeat}")

        def waiting(repeat: int) -> float:
            forget_prefixes(server)
            (folder / f"barriered-{repeat}").mkdir()
            return barriered(arguments, server, target, prompts, folder / f"barriered-{repeat}")

        ways = {"evalsuite": own, "barriered": waiting, "offline": lambda _: measured("offline", *raw.run())}
        rates: dict[str, list[float]] = {name: [] for name in ways}
        with raw:
            for repeat in range(arguments.repeats):
                names = [*ways][repeat % len(ways) :] + [*ways][: repeat % len(ways)]
                for name in names:
                    rates[name].append(ways[name](repeat))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--prompts", default="local-sample/WildChat-1M-mini:qwen_2_5_72b")
    parser.add_argument("--conversations", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--max-model-len", type=int, default=4096)
    parser.add_argument("--max-num-seqs", type=int, default=16, help="the server's batch")
    parser.add_argument("--batch", type=int, default=32, help="conversations per barriered batch")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    checkpoint = resolve(arguments.model)
    chat_format = load_chat_format(checkpoint)
    length = context_length(checkpoint, ServeConfig(max_model_len=arguments.max_model_len))
    target = Target(checkpoint.name, {"bench": "generate"}, length, chat_format)
    conversations = read_conversations(arguments.prompts, arguments.conversations)
    prompts = [turn_prompts(conversation, chat_format) for conversation in conversations]
    every = [prompt for turns in prompts for prompt in turns]
    print(f"{len(prompts)} conversations, {len(every)} turns, {sum(map(len, every))} prompt tokens", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rates = all_rates(arguments, checkpoint, target, prompts, folder)
    print("\n| method | tokens/s | evalsuite / this |\n| --- | ---: | --- |")
    for name, each in rates.items():
        ratios = [mine / theirs for mine, theirs in zip(rates["evalsuite"], each, strict=True)]
        print(f"| {name} | {statistics.median(each):.1f} | {'' if name == 'evalsuite' else summary(ratios)} |")


if __name__ == "__main__":
    main()
