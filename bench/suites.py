"""The default suites at once against one after the other: the gain from sharing one server's batch.

    python bench/suites.py [--model demo] [--judge demo] [--data full] [--limit 8] [--repeats 1]

Both are ``evalsuite run`` as a user starts it, each with an empty results folder and its own vLLM. The start of vLLM is
subtracted from both; one run instead of four also saves three starts. Goal: at most 0.75 of the time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from bench.served import versions
from evalsuite.api import run
from evalsuite.suites.registry import default_suites


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of one run, or of several after each other, and the tokens its server prefilled and decoded."""

    start: float = 0.0
    answers_and_verdicts: float = 0.0
    scoring: float = 0.0
    prefilled: int = 0
    decoded: int = 0

    def __add__(self, other: Took) -> Took:
        return Took(
            self.start + other.start,
            self.answers_and_verdicts + other.answers_and_verdicts,
            self.scoring + other.scoring,
            self.prefilled + other.prefilled,
            self.decoded + other.decoded,
        )

    def row(self, label: str) -> str:
        seconds = f"{self.start:.0f} | {self.answers_and_verdicts:.1f} | {self.scoring:.1f}"
        return f"| {label} | {seconds} | {self.prefilled:,} | {self.decoded:,} |"


def timed(arguments: argparse.Namespace, suites: Sequence[str]) -> Took:
    """Run ``suites`` in one command with an empty store."""
    with tempfile.TemporaryDirectory() as name:
        (scores,) = run(
            arguments.model,
            suites=list(suites),
            judge=arguments.judge,
            data=arguments.data,
            limit=arguments.limit,
            dtype=arguments.dtype,
            results=name,
        )
    seconds, tokens = scores["seconds"], scores["tokens"]
    return Took(
        seconds["serve"],
        seconds["generate"] + seconds["judge"],
        seconds["score"],
        tokens["prompt"] - tokens["cached"],
        tokens["completion"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--judge", default="demo")
    parser.add_argument("--data", choices=("full", "mini"), default="full")
    parser.add_argument("--limit", type=int, default=8, help="items per suite, documents per task of Open LLM")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument(
        "--suite", action="append", dest="suites", metavar="SUITE", help="repeatable; the default suites"
    )
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    suites = arguments.suites or [spec.name for spec in default_suites()]
    print(f"--data {arguments.data} --limit {arguments.limit}, dtype {arguments.dtype}; {versions()}\n")
    print("| run | start of vLLM, s | answers and verdicts, s | scoring, s | prefilled | decoded |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    ratios = []
    for _ in range(arguments.repeats):
        together = timed(arguments, suites)
        print(together.row("all at once"), flush=True)
        alone = Took()
        for suite in suites:
            took = timed(arguments, [suite])
            print(took.row(f"{suite} alone"), flush=True)
            alone += took
        print(alone.row("one after the other"), flush=True)
        ratios.append(together.answers_and_verdicts / alone.answers_and_verdicts)
    print(f"\nat once / one after the other: {statistics.median(ratios):.2f} (answers and verdicts)")


if __name__ == "__main__":
    main()
