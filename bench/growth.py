"""Seconds, CPU seconds and memory of the commands against n: items, conversations, rows or prompts.

    python bench/growth.py [--sizes 1000,10000,100000] [--only run,mix] [--charts FOLDER]

Each command is a process of its own. ``run``, ``generate`` and ``compare`` ask an endpoint of another process that
answers at once, so that only evalsuite is measured. ``report`` reads ten models with n items together, and
``similarity`` compares four models on n / 4 prompts. The last column is what CPU time grows by for each tenfold n:
1.0 is linear. ``--charts`` writes an SVG per command.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.client import AnswersAtOnce, serve
from bench.mix import measured, write_rows
from bench.similarity import write_answers
from bench.synthetic_results import write_synthetic
from evalsuite.files import write_jsonl
from tests.evalsuite.scripted_endpoint import http_reply

_TOP = [{"token": token, "logprob": -1.0 - index / 10} for index, token in enumerate("AmBM")]
_REPLY = {
    "object": "list",
    "data": [{"id": "stub", "max_model_len": 4096}],
    "model": "stub",
    "choices": [
        {
            "message": {"role": "assistant", "content": "42"},
            "finish_reason": "stop",
            "logprobs": {"content": [{**_TOP[0], "top_logprobs": _TOP}]},
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1},
}
_SUITE = "name: growth\ntitle: Growth\nprompts: prompts.jsonl\nscore: exact_match\n"
_RECIPE = "name: growth\nmix: {{sources: [{{name: s, data: {data}}}]}}\n"


class Stub(AnswersAtOnce):
    """Answers every request with a number, and a judge's with log-probabilities too."""

    reply = http_reply(200, json.dumps(_REPLY).encode())


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command works, and the endpoint that it asks."""

    folder: Path
    url: str


def write_prompts(place: Place, n: int) -> Path:
    path = place.folder / "prompts.jsonl"
    write_jsonl(path, ({"id": str(i), "prompt": f"What is {i} plus one?", "reference": str(i + 1)} for i in range(n)))
    return path


def run(place: Place, n: int) -> list[str]:
    write_prompts(place, n)
    (place.folder / "growth.yaml").write_text(_SUITE)
    return [
        "run",
        f"stub@{place.url}",
        "--suite",
        str(place.folder / "growth.yaml"),
        "--results",
        str(place.folder / "r"),
    ]


def generate(place: Place, n: int) -> list[str]:
    path = place.folder / "conversations.jsonl"
    turns = (f"Tell me about the number {i}." for i in range(n))
    write_jsonl(path, ({"messages": [{"role": "user", "content": turn}]} for turn in turns))
    return ["generate", f"stub@{place.url}", "--prompts", str(path), "--out", str(place.folder / "out")]


def compare(place: Place, n: int) -> list[str]:
    names = []
    for model in "ab":
        rows = ({"prompt": f"What is {i} plus one?", "answer": f"{model} says {i + 1}"} for i in range(n))
        write_jsonl(place.folder / f"{model}.jsonl", rows)
        names.append(f"{model}={place.folder / f'{model}.jsonl'}")
    judged = ["--judge", f"stub@{place.url}", "--results", str(place.folder / "r")]
    return ["compare", *names, "--prompts", str(write_prompts(place, n)), *judged]


def report(place: Place, n: int) -> list[str]:
    write_synthetic(place.folder / "r", 10, n // 10)
    return ["report", "--results", str(place.folder / "r"), "--json"]


def _rows(place: Place, n: int) -> Path:
    (place.folder / "data").mkdir()
    write_rows(place.folder / "data" / "rows.parquet", n)
    return place.folder / "data"


def mix(place: Place, n: int) -> list[str]:
    recipe = place.folder / "recipe.yaml"
    recipe.write_text(_RECIPE.format(data=_rows(place, n)))
    return ["mix", str(recipe), "--out", str(place.folder / "out"), "--contamination", "off"]


def contamination(place: Place, n: int) -> list[str]:
    data = str(_rows(place, n))
    return ["analyze", "contamination", data, "--data", "mini", "--results", str(place.folder / "r")]


def similarity(place: Place, n: int) -> list[str]:
    names = write_answers(place.folder, 4, n // 4, 100)
    return ["analyze", "similarity", *names, "--results", str(place.folder / "r")]


COMMANDS: dict[str, Callable[[Place, int], list[str]]] = {
    each.__name__: each for each in (run, generate, compare, report, mix, contamination, similarity)
}


def exponents(points: list[tuple[int, float]]) -> str:
    """Return what the CPU time grows by per tenfold n, as the exponent between each two sizes."""
    return ", ".join(f"{math.log(b / a) / math.log(m / n):.2f}" for (n, a), (m, b) in pairwise(points))


def chart(title: str, points: list[tuple[int, float, float]]) -> str:
    """Return an SVG: CPU seconds (solid) and GB (dashed) against n, both axes logarithmic."""
    width, height, left, top = 420, 260, 56, 34
    low_n, high_n = math.log10(points[0][0]), math.log10(points[-1][0])
    values = [value for _, *each in points for value in each]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def at(n: float, value: float) -> tuple[float, float]:
        x = left + (math.log10(n) - low_n) / max(high_n - low_n, 1e-9) * (width - left - 20)
        return x, height - 30 - (math.log10(value) - low) / max(high - low, 1) * (height - 30 - top)

    lines = []
    for index, dash in ((1, ""), (2, ' stroke-dasharray="5 4"')):
        places = " ".join("{:.1f},{:.1f}".format(*at(point[0], point[index])) for point in points)
        lines.append(f'<polyline points="{places}" fill="none" stroke="#1f5fa8" stroke-width="2"{dash}/>')
    for power in range(low, high + 1):
        _, y = at(points[0][0], 10.0**power)
        lines.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
        lines.append(f'<line x1="{left}" x2="{width - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
    for n, *_ in points:
        x, _ = at(n, values[0])
        lines.append(f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle">{n:,}</text>')
    size = f'width="{width}" height="{height}" font-family="sans-serif" font-size="11"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    words = f'<text x="{left}" y="18" font-size="13">{title}: CPU seconds (solid), GB (dashed) against n</text>'
    return "\n".join([head, words, *lines, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--only", default=",".join(COMMANDS))
    parser.add_argument("--charts", type=Path, help="folder for an SVG per command")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    port, sender = multiprocessing.Pipe()
    stub = multiprocessing.Process(target=serve, args=(sender, Stub), daemon=True)
    stub.start()
    url = f"http://127.0.0.1:{port.recv()}/v1"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    print("| command | n | seconds | CPU seconds | CPU ms per item | GB | exponent |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for name in arguments.only.split(","):
        points: list[tuple[int, float, float]] = []
        for n in sizes:
            with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
                command = [sys.executable, "-m", "evalsuite", *COMMANDS[name](Place(Path(folder), url), n)]
                seconds, cpu, peak = measured(command, environment)
            points.append((n, cpu, peak))
            grown = exponents([(size, each) for size, each, _ in points])
            cells = f"{seconds:,.1f} | {cpu:,.1f} | {1000 * cpu / n:.2f} | {peak:.2f} | {grown}"
            print(f"| {name} | {n:,} | {cells} |", flush=True)
        if arguments.charts:
            arguments.charts.mkdir(parents=True, exist_ok=True)
            (arguments.charts / f"growth-{name}.svg").write_text(chart(name, points))
    stub.terminate()


if __name__ == "__main__":
    main()
