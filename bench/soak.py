"""A long run of the client against an endpoint that fails on purpose: every item accounted for, flat memory.

    python bench/soak.py [--requests 50000] [--faults 0.05] [--in-flight 256]

The endpoint runs in its own process and logs what it did to each request. At the end its log is compared with the
client's results: every request is answered, or unscored with the reason of its last fault.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import psutil

from evalsuite.serving.client import Client, Endpoint, Target
from evalsuite.serving.requests import Sampling
from evalsuite.store import Store
from judges.types import Message, Unscored
from tests.evalsuite.scripted_endpoint import LASTING, Behaviour, ScriptedEndpoint

_SAMPLE_EVERY = 1000
_ANSWERED = "answered"


async def ask_all(url: str, store: Store, n_requests: int, in_flight: int) -> tuple[Counter[str], list[float], float]:
    """Ask ``n_requests`` different questions, half for words and half for log-probabilities.

    Returns (outcomes by name, resident memory in MiB after each 1,000, seconds).
    """

    async def connect() -> Endpoint:
        return Endpoint(url, "key", "candidate")

    client = Client(Target("candidate", {"weights": "w"}), connect, store, in_flight=in_flight)

    async def one(number: int) -> str:
        messages = [Message("user", f"question {number}")]
        answer: Any = (
            await client.chat(messages, Sampling(8))
            if number % 2
            else await client.label_logprobs(messages, ("m", "M"))
        )
        return answer.reason if isinstance(answer, Unscored) else _ANSWERED

    outcomes: Counter[str] = Counter()
    process, memory, began = psutil.Process(), [], time.perf_counter()
    numbers = iter(range(n_requests))

    async def worker() -> None:
        for number in numbers:
            outcomes[await one(number)] += 1
            if outcomes.total() % _SAMPLE_EVERY == 0:
                memory.append(process.memory_info().rss / 2**20)

    await asyncio.gather(*(worker() for _ in range(2 * in_flight)))
    seconds = time.perf_counter() - began
    await client.close()
    return outcomes, memory, seconds


def expected_outcomes(endpoint: ScriptedEndpoint) -> tuple[Counter[str], Counter[str]]:
    """Return (outcomes that the endpoint's notes demand, faults by kind)."""
    faults: Counter[str] = Counter()
    last: dict[str, str | None] = {}
    for event in endpoint.events():
        if event["event"] == "sent":
            last[event["id"]] = event["fault"]
            faults.update([event["fault"]] if event["fault"] else [])
    return Counter(LASTING.get(fault or "", _ANSWERED) for fault in last.values()), faults


def print_soak(
    n_requests: int, seconds: float, memory: list[float], outcomes: Mapping[str, int], faults: Mapping[str, int]
) -> None:
    quarter = max(1, len(memory) // 4)
    first, last = mean(memory[:quarter]), mean(memory[-quarter:])
    print("| requests | faults | seconds | requests/s | MiB, first quarter | MiB, last quarter | growth |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    print(
        f"| {n_requests:,} | {sum(faults.values()):,} | {seconds:.0f} | {n_requests / seconds:.0f} "
        f"| {first:.1f} | {last:.1f} | {(last / first - 1) * 100:+.1f} % |"
    )
    print(f"\nfaults: {', '.join(f'{kind} {count}' for kind, count in sorted(faults.items()))}")
    print(f"outcomes: {', '.join(f'{name} {count}' for name, count in sorted(outcomes.items()))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--faults", type=float, default=0.05, help="share of requests that fail")
    parser.add_argument("--in-flight", type=int, default=256)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        ScriptedEndpoint(Behaviour(fault_share=arguments.faults), Path(folder) / "asked.jsonl") as endpoint,
        Store(Path(folder) / "store.sqlite") as store,
    ):
        asked = ask_all(endpoint.url, store, arguments.requests, arguments.in_flight)
        outcomes, memory, seconds = asyncio.run(asked)
        expected, faults = expected_outcomes(endpoint)
        print_soak(arguments.requests, seconds, memory, outcomes, faults)
        store.check()
        remembered = len(store)
    print(f"store: {remembered:,} answers, intact")
    if outcomes != expected or sum(outcomes.values()) != arguments.requests or remembered != outcomes[_ANSWERED]:
        raise SystemExit(f"not accounted for: the endpoint's notes demand {dict(expected)}")


if __name__ == "__main__":
    main()
