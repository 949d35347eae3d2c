"""Speed and memory of the client alone, against a stub that answers at once.

    python bench/client.py [--requests 20000] [--in-flight 256] [--server external]

The stub runs in its own process. Every request is new, so each also writes one row to the store.
Goal: at least 1,500 requests per second on one core, flat memory.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import psutil

from evalsuite.serving.client import Client, Endpoint, Target
from evalsuite.serving.requests import Sampling
from evalsuite.store import Store
from judges.types import Message
from tests.evalsuite.scripted_endpoint import Connection, http_reply

BODY = (
    b'{"choices":[{"text":"hi","message":{"content":"hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":1}}'
)


class AnswersAtOnce(Connection):
    """Answers every request with the same text."""

    reply = http_reply(200, BODY)

    def asked(self, method: str, path: str, body: bytes) -> None:  # noqa: ARG002
        self.transport.write(self.reply)


def serve(pipe: Pipe, answering: type[AnswersAtOnce] = AnswersAtOnce) -> None:
    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(answering, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


async def measure(url: str, folder: Path, n_requests: int, in_flight: int, *, is_managed: bool = True) -> None:
    async def connect() -> Endpoint:
        return Endpoint(url, "key", "stub", end=(lambda: None) if is_managed else None)

    with Store(folder / "store.sqlite") as store:
        client = Client(Target("stub", {"weights": "w"}), connect, store, in_flight=in_flight)
        process, memory = psutil.Process(), []
        await client.chat([Message("user", "warm up")], Sampling(8))
        began, cpu = time.perf_counter(), process.cpu_times()
        for start in range(0, n_requests, 5000):
            block = range(start, min(start + 5000, n_requests))
            await asyncio.gather(*(client.chat([Message("user", f"question {i}")], Sampling(8)) for i in block))
            memory.append(process.memory_info().rss / 2**20)
        seconds = time.perf_counter() - began
        used = process.cpu_times()
        await client.close()
    busy = used.user + used.system - cpu.user - cpu.system
    print(f"{n_requests} requests in {seconds:.1f} s: {n_requests / seconds:.0f}/s, {n_requests / busy:.0f}/CPU s")
    print(f"memory after each 5,000: {', '.join(f'{value:.0f}' for value in memory)} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--server", choices=("managed", "external"), default="managed", help="how the stub is treated")
    arguments = parser.parse_args()
    port, sender = multiprocessing.Pipe()
    stub = multiprocessing.Process(target=serve, args=(sender,), daemon=True)
    stub.start()
    with tempfile.TemporaryDirectory() as folder:
        url = f"http://127.0.0.1:{port.recv()}/v1"
        is_managed = arguments.server == "managed"
        asyncio.run(measure(url, Path(folder), arguments.requests, arguments.in_flight, is_managed=is_managed))
    stub.terminate()


if __name__ == "__main__":
    main()
