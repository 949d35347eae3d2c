"""Two ways to give a thought a budget: evalsuite's two requests, and vLLM's own ``thinking_token_budget``.

    python bench/thinking.py --model CHECKPOINT [--prompts 24] [--budget 48] [--answer 32] [--repeats 3]

Each way starts with an empty prefix cache. The one request of vLLM's has one bound for thought and answer together:
its answers are compared with the benchmark's bound, which is what decides between the two.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.served import versions
from evalsuite.checkpoint import resolve
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.requests import Completion, Sampling
from evalsuite.serving.session import Session
from evalsuite.serving.transport import fetch_blocking
from evalsuite.store import Store
from judges.types import Message

SUBJECTS = """rivers bridges trains clocks bread maps stones lamps islands ladders gardens mirrors""".split()  # noqa: SIM905


def prompts(n: int) -> list[list[Message]]:
    """Return ``n`` different questions."""
    return [
        [Message("user", f"Tell me {number + 2} facts about {SUBJECTS[number % len(SUBJECTS)]}.")]
        for number in range(n)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--budget", type=int, default=48)
    parser.add_argument("--answer", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    checkpoint = resolve(given.model)
    style = {"reasoning_parser": "qwen3", "reasoning_start_str": "<think>", "reasoning_end_str": "</think>"}
    serve = ServeConfig(thinking_budget=(given.budget,), vllm_args=[("reasoning_config", json.dumps(style))])
    with tempfile.TemporaryDirectory() as name, LoopThread() as thread:
        folder = Path(name)
        with Store(folder / "first.sqlite") as store, Session(checkpoint, store, serve, folder / "log") as session:
            thread.wait(session.client.chat(prompts(1)[0], Sampling(4)))
            ways: dict[str, list[tuple[float, list[int]]]] = {"two requests": [], "one request": []}
            for repeat in range(given.repeats):
                ways["two requests"].append(_two_requests(session, thread, folder, given, repeat))
                ways["one request"].append(_one_request(session, thread, given))
            thread.wait(session.client.close())
    print(versions())
    print("| way | seconds, median | answer tokens, mean | answers beyond the bound |\n| --- | ---: | ---: | ---: |")
    for way, runs in ways.items():
        lengths = runs[-1][1]
        seconds = statistics.median(seconds for seconds, _ in runs)
        beyond = sum(length > given.answer for length in lengths)
        print(f"| {way} | {seconds:.1f} | {statistics.fmean(lengths):.1f} | {beyond} of {len(lengths)} |")


def _forget(session: Session) -> None:
    server = session.server
    assert server is not None
    url = server.base_url.removesuffix("/v1") + "/reset_prefix_cache"
    fetch_blocking(url, server.api_key, {}, is_managed=True, timeout_s=20)


def _two_requests(
    session: Session, thread: LoopThread, folder: Path, given: Any, repeat: int
) -> tuple[float, list[int]]:
    client = session.client.with_reasoning(session.reasoning)
    with Store(folder / f"{repeat}.sqlite") as store:
        client._store = store
        began = time.monotonic()
        replies = thread.wait(
            _all(client.chat(messages, Sampling(given.answer)) for messages in prompts(given.prompts))
        )
        seconds = time.monotonic() - began
    return seconds, [reply.completion_tokens for reply in replies if isinstance(reply, Completion)]


def _one_request(session: Session, thread: LoopThread, given: Any) -> tuple[float, list[int]]:
    chat_format = session.reasoning.on
    assert chat_format is not None

    async def ask(messages: list[Message]) -> int:
        body = {
            "prompt": chat_format.prompt_tokens(messages),
            "max_tokens": given.budget + given.answer,
            "thinking_token_budget": given.budget,
            "temperature": 0,
        }
        reply = await session.client._connection.ask("/completions", body)
        assert isinstance(reply, dict), reply
        text = reply["choices"][0]["text"].rpartition("</think>")[2]
        return len(session.client.tokenizer.encode(text, add_special_tokens=False))

    began = time.monotonic()
    lengths = thread.wait(_all(ask(messages) for messages in prompts(given.prompts)))
    return time.monotonic() - began, lengths


async def _all(work: Any) -> list[Any]:
    return list(await gather_or_cancel(work))


if __name__ == "__main__":
    main()
