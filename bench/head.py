"""What a float32 output layer costs and changes: two servers of one checkpoint, one with each layer.

    python bench/head.py --model CHECKPOINT [--rounds 9] [--reference]

The rounds alternate between the servers, with other prompts each, and are answered without a prefix in the cache:
scoring (choices of short questions) and writing (16 tokens each). ``--reference`` also scores with all of the model in
float32.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.served import versions
from evalsuite.checkpoint import resolve
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.requests import Sampling
from evalsuite.serving.session import Session
from evalsuite.store import Store
from judges.types import Message, Unscored

WORDS = "river bridge train clock bread map stone lamp island ladder garden mirror letter window".split()  # noqa: SIM905
HEADS: dict[str, dict[str, Any]] = {
    "the model's": {"head_dtype": "model"},
    "float32": {"head_dtype": "float32"},
    "all in float32": {"dtype": "float32"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--reference", action="store_true")
    given = parser.parse_args()
    checkpoint = resolve(given.model)
    heads = [name for name in HEADS if given.reference or name != "all in float32"]
    seconds: dict[tuple[str, str], list[float]] = {}
    scores: dict[str, list[float]] = {name: [] for name in heads}
    with tempfile.TemporaryDirectory() as folder, LoopThread() as thread, ExitStack() as stack:
        sessions = {}
        for place, name in enumerate(heads):
            store = stack.enter_context(Store(Path(folder) / f"{place}.sqlite"))
            serve = ServeConfig(**{"max_model_len": 1024, **HEADS[name]})
            sessions[name] = stack.enter_context(Session(checkpoint, store, serve, Path(folder) / f"{place}.log"))
        started = [session.client.chat([Message("user", "Hello")], Sampling(2)) for session in sessions.values()]
        thread.wait(_all(started))
        for number in range(given.rounds):
            for name in heads if number % 2 else heads[::-1]:
                for work in (_score, _write):
                    began = time.monotonic()
                    found = thread.wait(_all(work(sessions[name], number, given.prompts)))
                    seconds.setdefault((name, work.__name__.strip("_")), []).append(time.monotonic() - began)
                    if work is _score:
                        scores[name] += [value for one in found for value in one]
        for session in sessions.values():
            thread.wait(session.client.close())
    print(versions())
    for work in ("score", "write"):
        pairs = list(zip(seconds["float32", work], seconds["the model's", work], strict=True))
        ratios = sorted(float32 / own for float32, own in pairs)
        low, high = _median_interval(ratios)
        own, other = (statistics.median(side) for side in zip(*[(b, a) for a, b in pairs], strict=True))
        print(f"{work}: {own:.2f} s with the model's, {other:.2f} s with float32; ", end="")
        print(f"ratio {statistics.median(ratios):.3f}, [{low:.3f}, {high:.3f}] of {len(ratios)} alternating pairs")
    for name in heads[:-1] if given.reference else ():
        apart = [abs(a - b) for a, b in zip(scores[name], scores["all in float32"], strict=True)]
        beyond = sum(one > 1e-3 for one in apart)
        print(f"{name}: {beyond} of {len(apart)} log-likelihoods beyond 1e-3 of all in float32, ", end="")
        print(f"median difference {statistics.median(apart):.5f}, largest {max(apart):.5f}")


def _median_interval(ordered: list[float]) -> tuple[float, float]:
    """Return the order statistics that hold the median in at least 95 % of samples: the 2nd and 8th of 9."""
    import scipy.stats

    n = len(ordered)
    rank = int(scipy.stats.binom.ppf(0.025, n, 0.5))
    return ordered[max(0, rank - 1)], ordered[min(n - 1, n - rank)]


def _text(number: int, rank: int, n: int) -> str:
    drawn = random.Random(f"{number} {rank}")
    return " ".join(drawn.choice(WORDS) for _ in range(n))


def _score(session: Session, number: int, prompts: int) -> list[Any]:
    async def one(rank: int) -> list[float]:
        client = session.client
        await client.detect_features()
        tokens = client.tokenizer.encode(f"A story about the {_text(number, rank, 150)}")
        choices = [tuple(client.tokenizer.encode(f" {word}", add_special_tokens=False)[:1]) for word in WORDS[:4]]
        reply = await client.next_token_logprobs(tokens, [choice[0] for choice in choices])
        assert not isinstance(reply, Unscored), reply
        return [reply.logprobs[choice[0]] for choice in choices]

    return [one(rank) for rank in range(prompts)]


def _write(session: Session, number: int, prompts: int) -> list[Any]:
    messages = [[Message("user", f"Write about the {_text(number, rank + 1000, 30)}.")] for rank in range(prompts)]
    return [session.client.chat(one, Sampling(16)) for one in messages]


async def _all(work: Any) -> list[Any]:
    return list(await gather_or_cancel(work))


if __name__ == "__main__":
    main()
