"""The ways in which lm-eval itself runs a model, for the benchmarks that compare with them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import metadata
from typing import Any
from unittest import mock

from bench.offline import GPU_SHARE
from bench.served import Cost, Served
from evalsuite.serving.device import installed_vllm


class Opponent(ABC):
    """One of lm-eval's back ends, loaded once; ``cost_of`` is as ``Served.cost_of``."""

    name: str
    lm: Any

    @abstractmethod
    def cost_of(self, work: Callable[[], Any]) -> tuple[Any, Cost]: ...

    def close(self) -> None:  # noqa: B027 (most have started nothing)
        """End what was started for this opponent alone."""


class LocalCompletions(Opponent):
    """lm-eval's client for the same server: one ``prompt_logprobs`` request a choice."""

    name = "local-completions"

    def __init__(self, bench: Served, dtype: str, concurrency: int) -> None:  # noqa: ARG002
        self.lm = bench.lm_eval_client(concurrency)
        self._bench = bench

    def cost_of(self, work: Callable[[], Any]) -> tuple[Any, Cost]:
        return self._bench.cost_of(work)


class Transformers(Opponent):
    """lm-eval's ``hf``, which asks a context's one-token choices at once, with batches of one as it has by default."""

    name = "hf"

    def __init__(self, bench: Served, dtype: str, concurrency: int) -> None:  # noqa: ARG002
        from lm_eval.models.huggingface import HFLM

        device = "cuda" if installed_vllm().kind == "cuda" else "cpu"
        checkpoint = str(bench.session.checkpoint.path)
        length = bench.session.client.max_model_len
        self.lm = HFLM(pretrained=checkpoint, dtype=dtype, batch_size=1, device=device, max_length=length)
        self._bench = bench
        self._calls: list[int] = []
        for name in ("_model_call", "_model_generate"):
            setattr(self.lm, name, self._counted(getattr(self.lm, name)))

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            tokens = given[0] if given else named.get("inps", named.get("context"))
            self._calls.append(tokens.numel())
            return method(*given, **named)

        return call

    def cost_of(self, work: Callable[[], Any]) -> tuple[Any, Cost]:
        self._calls.clear()
        result, cost = self._bench.timed(work)
        tokens = sum(self._calls)
        return result, Cost(cost.seconds, tokens, 0, len(self._calls), 0.0, cost.client_cpu_s)


class Offline(Opponent):
    """lm-eval's ``vllm``: an engine without a server, one ``prompt_logprobs`` request a choice."""

    name = "vllm"

    def __init__(self, bench: Served, dtype: str, concurrency: int) -> None:  # noqa: ARG002
        device = installed_vllm()
        settings: dict[str, Any] = {"gpu_memory_utilization": float(GPU_SHARE)}
        if device.kind == "cpu":
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
            settings |= {"enforce_eager": True}
        found = metadata.version

        def version(name: str) -> str:
            # lm-eval and vLLM look for the distribution "vllm", as which vLLM for CPUs is not published.
            return f"{found('vllm-cpu')}+cpu" if name == "vllm" and device.kind == "cpu" else found(name)

        with mock.patch.object(metadata, "version", version):
            from lm_eval.models.vllm_causallms import VLLM

            self.lm = VLLM(
                pretrained=str(bench.session.checkpoint.path),
                dtype=dtype,
                batch_size="auto",
                max_model_len=bench.session.client.max_model_len,
                **settings,
            )
        self._bench = bench
        self._outputs: list[Any] = []
        generate = self.lm.model.generate

        def counted(*given: Any, **named: Any) -> Any:
            # vLLM divides by the seconds of its progress bar, which are 0 where bars are switched off.
            outputs = generate(*given, **{**named, "use_tqdm": False})
            self._outputs += [(len(each.prompt_token_ids), each.num_cached_tokens or 0) for each in outputs]
            return outputs

        self.lm.model.generate = counted

    def cost_of(self, work: Callable[[], Any]) -> tuple[Any, Cost]:
        self.lm.model.reset_prefix_cache()
        self._outputs.clear()
        result, cost = self._bench.timed(work)
        prompts, cached = (sum(column) for column in zip(*self._outputs, strict=True))
        return result, Cost(cost.seconds, prompts, cached, len(self._outputs), cost.server_cpu_s, cost.client_cpu_s)

    def close(self) -> None:
        # Its engine's process would keep this one from ending.
        self.lm.model.llm_engine.engine_core.shutdown()


OPPONENTS: dict[str, type[Opponent]] = {each.name: each for each in (LocalCompletions, Transformers, Offline)}
