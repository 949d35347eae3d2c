"""vLLM without a server, in a process of its own: one ``LLM.generate`` over all requests, as often as it is told.

    with RawEngine(checkpoint, requests, dtype="auto", max_model_len=4096, max_num_seqs=16) as raw:
        tokens, seconds = raw.run()

A request is a prompt in token ids and its ``SamplingParams`` as a mapping. Each run begins with an empty prefix cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.serving.device import cpu_kv_cache_gib, installed_vllm, served_dtype

GPU_SHARE = "0.4"
"""Of a GPU's memory for an offline engine, and as much for the server beside it."""
_MARK = "MEASURED "

Request = tuple[Sequence[int], Mapping[str, Any]]


class RawEngine(AbstractContextManager["RawEngine"]):
    """The engine, loaded and warm."""

    def __init__(
        self, checkpoint: Checkpoint, requests: Sequence[Request], dtype: str, max_model_len: int, max_num_seqs: int
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        engine: dict[str, Any] = {
            "model": str(checkpoint.path),
            # As evalsuite serves it: vLLM's own "auto" is three times as slow on some CPUs.
            "dtype": served_dtype(checkpoint, dtype, installed_vllm()) or "auto",
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "max_logprobs": 128,
            "generation_config": "vllm",
            "gpu_memory_utilization": float(GPU_SHARE),
        }
        environment = dict(os.environ)
        if installed_vllm().kind == "cpu":
            # As evalsuite starts vLLM there.
            engine |= {"block_size": 32, "enforce_eager": True, "enable_chunked_prefill": False}
            engine["max_num_batched_tokens"] = max(max_model_len, 4096)
            environment |= {"VLLM_CPU_KVCACHE_SPACE": str(cpu_kv_cache_gib()), "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        job, self._log = (Path(self._folder.name) / name for name in ("job.json", "log"))
        job.write_text(json.dumps({"engine": engine, "requests": [[list(ids), dict(how)] for ids, how in requests]}))
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(job)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._answer()

    def run(self) -> tuple[int, float]:
        """Return the tokens that were generated, and the seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        found = self._answer()
        return int(found["tokens"]), float(found["seconds"])

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_MARK):
                return dict(json.loads(line.removeprefix(_MARK)))
        raise SystemExit("offline vLLM failed:\n" + self._log.read_text()[-2000:])

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


def main(job: Path) -> None:
    """Load the engine, say so, and run all requests once per line of stdin."""
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    task = json.loads(job.read_text())
    llm = LLM(**task["engine"])
    prompts: list[Any] = [{"prompt_token_ids": ids} for ids, _ in task["requests"]]
    for _, how in task["requests"]:
        if "structured_outputs" in how:
            how["structured_outputs"] = StructuredOutputsParams(**how["structured_outputs"])
    settings = [SamplingParams(**how) for _, how in task["requests"]]
    warm = slice(task["engine"]["max_num_seqs"])
    llm.generate(prompts[warm], settings[warm], use_tqdm=False)
    print(f"{_MARK}{{}}", flush=True)
    for _ in sys.stdin:
        llm.reset_prefix_cache()
        began = time.perf_counter()
        outputs = llm.generate(prompts, settings, use_tqdm=False)
        seconds = time.perf_counter() - began
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        print(_MARK + json.dumps({"tokens": tokens, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
