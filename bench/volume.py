"""Hundreds of thousands of log-likelihood requests through the harness: memory and progress.

    python bench/volume.py [--requests 200000]

The model is a checkpoint folder's tokenizer with synthetic log-probabilities that are available at once, so only
evalsuite is measured: tokenising, grouping, the window of open contexts, the store. Memory is read at every tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from evalsuite.checkpoint import resolve
from evalsuite.serving.chat_format import load_chat_format
from evalsuite.serving.continuations import NextToken
from evalsuite.serving.loop import LoopThread
from evalsuite.store import Store, content_key
from evalsuite.suites.harness.lm import EvalsuiteLM


class AtOnce:
    """A token server without a model; its answers are stored like real ones."""

    model_name = "made up"
    max_model_len = 4096
    has_logprob_token_ids = True
    scores_continuations = False
    max_in_flight = 128
    named_format = None

    def __init__(self, tokenizer: object, store: Store) -> None:
        self.tokenizer = tokenizer
        self._store = store

    async def next_token_logprobs(self, prompt: Sequence[int], ids: Sequence[int]) -> NextToken:
        await asyncio.sleep(0)
        answer = {"logprobs": {str(token): -float(token % 97) for token in ids}, "top_id": ids[0]}
        self._store.put(content_key({"prompt": list(prompt), "ids": list(ids)}), answer)
        return NextToken({token: -float(token % 97) for token in ids}, ids[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=200_000)
    n = parser.parse_args().requests
    from lm_eval.api.instance import Instance

    shared = "The harbour has a lamp and the lamp has a letter. " * 12
    requests = [
        Instance(
            "loglikelihood",
            {},
            (f"{shared}Question {i // 10}:", f" {'ABCDEFGHIJ'[i % 10]}"),
            i % 10,
            metadata=("t", i // 10, 1),
        )
        for i in range(n)
    ]
    process, moved = psutil.Process(), [0]
    marks: list[int] = []

    def on_progress(_: str, done: int, total: int, __: int) -> None:
        moved[0] += 1
        if done % (total // 10) == 0:
            marks.append(process.memory_info().rss)

    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "store.sqlite") as store, LoopThread() as thread:
        tokenizer = load_chat_format(resolve("demo")).tokenizer
        lm = EvalsuiteLM(AtOnce(tokenizer, store), thread.loop, on_progress=on_progress)
        began, cpu = time.perf_counter(), time.process_time()
        lm.loglikelihood(requests)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(f"{n:,} requests ({n // 10:,} questions): {seconds:.0f} s, {n / cpu:,.0f} per CPU second")
    print(f"the progress line was updated {moved[0]:,} times")
    print("MiB after each tenth: " + ", ".join(f"{rss / 2**20:.0f}" for rss in marks))


if __name__ == "__main__":
    main()
