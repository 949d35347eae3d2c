"""Where the CPU time of a command goes: samples of client, API server and engine by phase.

    pip install py-spy
    python -m bench.where run demo --suite openllm --data mini --no-judge --results FOLDER
    python -m bench.where generate demo --prompts recipes/mini_chats.jsonl --out FOLDER
    ... --raw FILE        # also keep the stacks, for a flame graph (speedscope reads them)

A sample is a thread that uses the CPU, 50 times a second. It belongs to the first phase of ``PHASES`` that one of its
frames is of, and to "other" if none is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PHASES: dict[str, dict[str, str]] = {
    "engine": {
        "start: imports, weights, compilation, warm-up": r"_find_and_load|_import_module|load_model|compile_or_warm_up"
        r"|determine_avail|initialize_from_config|profile_run|_dummy_run|_initialize_kv",
        "log-probabilities and sampling": r"sampler\.py|sample/|logprobs|compute_logits|sample_tokens|_sample",
        "model: forward": r"forward \(|_model_forward|model_executor/",
        "preparing a batch": r"_prepare_inputs|_update_states|_build_attention|prepare_inputs|input_batch|_bookkeeping",
        "scheduler": r"core/sched/|kv_cache_",
        "messages between processes": r"process_input_sockets|process_output_sockets|serial_utils|zmq|msgpack",
    },
    "API server": {
        "start": r"_find_and_load|build_async_engine|_import_module|from_vllm_config|build_app",
        "detokenising and output": r"detokenizer|output_processor|logprobs",
        "scoring endpoint": r"scoring_endpoint",
        "messages between processes": r"core_client|serial_utils|zmq|msgpack",
        "requests: checking and answering": r"entrypoints/|pydantic|starlette|input_processor|renderers|tokenizers",
        "HTTP": r"uvicorn|h11|httptools|uvloop|asyncio",
    },
    "client": {
        "start: imports": r"_find_and_load|_import_module|importlib",
        "loading tasks and data": r"harness/(load|tasks|data)|datasets/|build_all_requests|suites/.*(load|data)",
        "templates and tokenising": r"tokeniz|chat_template|jinja2|rendering|checkpoint/template",
        "store": r"evalsuite/store",
        "HTTP and bodies": r"aiohttp|serving/wire|http_|msgspec|httpx|openai/|connect",
        "scoring": r"lm_eval/|metrics|evalsuite/suites|judges/|sympy|scipy|statistics|bootstrap\.py",
        "records, results, table": r"evalsuite/(records|results|runs|exports)|rich/|progress",
        "requests in flight": r"evalsuite/serving|asyncio",
    },
}


def stacks(raw: str) -> Iterator[tuple[str, list[str], int]]:
    """Yield the process, the frames and the samples of each stack.

    The first frames are the processes with their command lines, which may have line breaks and semicolons.
    """
    for found in re.finditer(r"^(process .*?) (\d+)$", raw, re.MULTILINE | re.DOTALL):
        command, _, frames = re.split(r"process \d+:", found[1])[-1].partition('";')
        is_engine = "v1/engine/core.py" in frames or "multiprocessing.spawn" in command
        who = "engine" if is_engine else "API server" if "vllm.entrypoints" in command else "client"
        yield who, frames.split(";"), int(found[2])


def phases_of(raw: str) -> dict[str, Counter[str]]:
    """Return the samples of each process by phase."""
    counts: dict[str, Counter[str]] = {who: Counter() for who in PHASES}
    for who, frames, n in stacks(raw):
        found = (name for name, frame in PHASES[who].items() if any(re.search(frame, one) for one in frames))
        counts[who][next(found, "other")] += n
    return counts


def main(words: list[str]) -> None:
    """Run the command under py-spy and print a table per process."""
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return
    if shutil.which("py-spy") is None:
        sys.exit("py-spy not found; pip install py-spy")
    keep = None
    if "--raw" in words:
        at = words.index("--raw")
        keep, words = Path(words[at + 1]), words[:at] + words[at + 2 :]
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "stacks"
        command = ["py-spy", "record", "--subprocesses", "--rate", "50", "--format", "raw", "--output", str(raw), "--"]
        command += [sys.executable, "-m", "evalsuite", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        text = raw.read_text("utf-8")
        if keep:
            shutil.copyfile(raw, keep)
    counts = phases_of(text)
    whole = sum(each.total() for each in counts.values())
    print("| process | phase | CPU seconds | share |\n| --- | --- | ---: | ---: |")
    for who, phases in counts.items():
        for name, n in phases.most_common():
            print(f"| {who} | {name} | {n / 50:.1f} | {n / whole:.1%} |")


if __name__ == "__main__":
    main(sys.argv[1:])
