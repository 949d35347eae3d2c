"""A served model for the benchmarks here: evalsuite's client, lm-eval's client, and the server's counters."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from evalsuite.checkpoint import resolve
from evalsuite.serving.client import Client
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.requests import Sampling
from evalsuite.serving.session import Session
from evalsuite.serving.wire import Endpoint
from evalsuite.store import Store
from judges.types import Message

_COUNTERS = {
    "prompt": "vllm:prompt_tokens_total",
    "cached": "vllm:prefix_cache_hits_total",
    "requests": "vllm:request_success_total",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a task: wall seconds, prompt tokens, those of them found in the prefix cache, and requests.

    ``requests`` are those of vLLM's engine; ``server_cpu_s`` and ``client_cpu_s`` are the CPU seconds of both sides,
    which depend less on other work on the machine than ``seconds``.
    """

    seconds: float
    prompt_tokens: int
    cached_tokens: int
    requests: int = 0
    server_cpu_s: float = 0.0
    client_cpu_s: float = 0.0

    @property
    def prefilled(self) -> int:
        return self.prompt_tokens - self.cached_tokens


class Served:
    """One vLLM for a whole benchmark; each client gets its own empty store."""

    def __init__(self, session: Session, thread: LoopThread, folder: Path) -> None:
        self.session = session
        self.thread = thread
        self._folder = folder
        self._stores = 0

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Yield a client with an empty store."""
        self._stores += 1
        server = self.session.server
        assert server is not None
        endpoint = Endpoint(server.base_url, server.api_key, server.model_name, end=server.stop)
        with Store(self._folder / f"store-{self._stores}.sqlite") as store:

            async def connect() -> Any:
                return endpoint

            client = Client(self.session.target, connect, store)
            self.thread.wait(client.detect_features())
            yield client
            self.thread.wait(client.close())

    def lm_eval_client(self, concurrency: int) -> Any:
        """Return lm-eval's client for this server: one ``prompt_logprobs`` request per choice."""
        from lm_eval.models.openai_completions import LocalCompletionsAPI

        server = self.session.server
        assert server is not None
        os.environ["OPENAI_API_KEY"] = server.api_key
        return LocalCompletionsAPI(
            base_url=f"{server.base_url}/completions",
            model=server.model_name,
            tokenizer=str(self.session.checkpoint.path),
            tokenizer_backend="huggingface",
            tokenized_requests=True,
            max_length=self.session.client.max_model_len,
            num_concurrent=concurrency,
            max_retries=1,
            timeout=3600,
        )

    def cost_of(self, work: Callable[[], Any]) -> tuple[Any, Cost]:
        """Empty the prefix cache, run ``work``, and return its result and cost."""
        server = self.session.server
        assert server is not None
        root = server.base_url.removesuffix("/v1")
        httpx.post(f"{root}/reset_prefix_cache", timeout=60).raise_for_status()
        before = _counters(root)
        result, cost = self.timed(work)
        spent = {word: value - before[word] for word, value in _counters(root).items()}
        return result, replace(
            cost, prompt_tokens=spent["prompt"], cached_tokens=spent["cached"], requests=spent["requests"]
        )

    @staticmethod
    def timed(work: Callable[[], Any]) -> tuple[Any, Cost]:
        """Run ``work``, and return its result and its cost in time alone."""
        cpu, began = _cpu_seconds(), time.perf_counter()
        result = work()
        seconds, used = time.perf_counter() - began, _cpu_seconds()
        return result, Cost(seconds, 0, 0, 0, *(later - earlier for later, earlier in zip(used, cpu, strict=True)))


@contextmanager
def served(
    model: str, dtype: str, max_model_len: int | None = None, vllm_args: Sequence[tuple[str, str]] = ()
) -> Iterator[Served]:
    """Serve a model for a benchmark."""
    # The prefix cache is emptied between methods, which only this mode allows.
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        serve = ServeConfig(dtype=dtype, max_model_len=max_model_len, vllm_args=tuple(vllm_args))
        with (
            Store(folder / "store.sqlite") as store,
            LoopThread() as thread,
            Session(resolve(model), store, serve, folder / "vllm.log") as session,
        ):
            thread.wait(session.client.chat([Message("user", "Say hi.")], Sampling(4)))
            yield Served(session, thread, folder)
            thread.wait(session.client.close())


def _counters(root: str) -> dict[str, int]:
    text = httpx.get(f"{root}/metrics", timeout=60).text
    return {
        word: int(sum(float(value) for value in re.findall(rf"^{re.escape(name)}{{.*}} (\S+)$", text, re.MULTILINE)))
        for word, name in _COUNTERS.items()
    }


def _cpu_seconds() -> tuple[float, float]:
    """Return the CPU seconds of all processes that this one started, which are the server's, and its own."""
    times = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times.append(process.cpu_times())
    return sum(each.user + each.system for each in times), time.process_time()


def versions() -> str:
    """Return the hardware and versions for the line under a table."""
    import platform
    from importlib import metadata

    import torch

    from evalsuite.serving.device import installed_vllm

    device = installed_vllm()
    place = f"{os.cpu_count()} cores, no GPU"
    if device.kind == "cuda" and torch.cuda.is_available():
        place = torch.cuda.get_device_name(0)
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "lm-eval"))
    return f"{place}; Python {platform.python_version()}, vLLM {device.vllm_version} ({device.kind}), {packages}"
