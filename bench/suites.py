"""The default suites at once against one after the other, or against vLLM without a server.

    python bench/suites.py [--model demo] [--judge demo] [--data full] [--limit 8] [--repeats 3]
    python bench/suites.py --against offline      # the same requests in one offline batch; --judge is the model

Each run is ``evalsuite run`` as a user starts it, with an empty results folder and its own vLLM, whose start does not
count; one run instead of four also saves three starts. Offline, every request of that run is in one ``LLM.generate``,
second turns and verdicts too, without client, files, scoring or waiting for the turn before. Goals: at most 0.75 of the
time of one after the other, and at most 1.10 of offline.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from bench.offline import RawEngine, Request
from bench.ratios import summary
from bench.served import versions
from evalsuite.api import run
from evalsuite.checkpoint import resolve
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.connection import Connection
from evalsuite.serving.scoring_endpoint import Question, questions
from evalsuite.serving.server import context_length
from evalsuite.suites.registry import default_suites

_OF_THE_SERVER = ("prompt", "priority", "model", "return_token_ids", "return_tokens_as_token_ids")
"""Fields of a request that are not the engine's."""


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


@contextmanager
def recorded() -> Iterator[list[tuple[str, Mapping[str, Any]]]]:
    """Within a block, note the path and body of every request to a server."""
    asked: list[tuple[str, Mapping[str, Any]]] = []
    ask = Connection.ask

    async def noting(self: Connection, path: str, body: dict[str, Any], depth: int = 0) -> Any:
        asked.append((path, body))
        return await ask(self, path, body, depth)

    with mock.patch.object(Connection, "ask", noting):
        yield asked


def engine_requests(asked: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Request]:
    """Return the requests to vLLM's engine that a run's requests to the server were."""
    found: list[Request] = []
    for path, body in asked:
        if path == "/completions":
            ids = body.get("logprob_token_ids")
            how = {name: value for name, value in body.items() if name not in _OF_THE_SERVER}
            found.append((body["prompt"], how | ({"logprobs": len(ids)} if ids else {})))
        else:
            found += _scoring_requests(body["context"], questions(map(tuple, body["continuations"])))
    return found


def _scoring_requests(context: list[int], question: Question) -> list[Request]:
    """Return the requests that evalsuite's endpoint in the server asks the engine with."""
    how: dict[str, Any] = {"max_tokens": 1, "temperature": 0.0, "detokenize": False}
    how |= {"logprobs": len(question.ids), "logprob_token_ids": list(question.ids)}
    if question.start < len(question.path):
        how |= {"prompt_logprobs": 1, "skip_reading_prefix_cache": False}
    below = [request for each in question.below for request in _scoring_requests(context, each)]
    return [([*context, *question.path], how), *below]


def against_offline(arguments: argparse.Namespace, suites: Sequence[str]) -> list[float]:
    """Alternate whole runs and the offline batch of the first one's requests; return the ratios of their seconds."""
    if arguments.judge != arguments.model:
        raise SystemExit("--against offline needs one engine for everything: leave --judge to the model")
    with recorded() as asked:
        runs = [timed(arguments, suites)]
    checkpoint = resolve(arguments.model)
    length = context_length(checkpoint, ServeConfig()) or 4096
    ratios = []
    with RawEngine(checkpoint, engine_requests(asked), arguments.dtype, length, arguments.max_num_seqs) as raw:
        for repeat in range(arguments.repeats):
            if repeat:
                runs.append(timed(arguments, suites))
            tokens, seconds = raw.run()
            print(runs[-1].row("all at once"))
            print(f"| offline, {len(asked):,} requests | | {seconds:.1f} | | | {tokens:,} |", flush=True)
            ratios.append(runs[-1].answers_and_verdicts / seconds)
    return ratios


def against_one_by_one(arguments: argparse.Namespace, suites: Sequence[str]) -> list[float]:
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
    return ratios


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
    parser.add_argument("--against", choices=("one-by-one", "offline"), default="one-by-one")
    parser.add_argument("--max-num-seqs", type=int, default=64, help="of the offline engine; as the server's")
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    suites = arguments.suites or [spec.name for spec in default_suites()]
    print(f"--data {arguments.data} --limit {arguments.limit}, dtype {arguments.dtype}; {versions()}\n")
    print("| run | start of vLLM, s | answers and verdicts, s | scoring, s | prefilled | decoded |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    ratios = (against_offline if arguments.against == "offline" else against_one_by_one)(arguments, suites)
    other = "offline" if arguments.against == "offline" else "one after the other"
    print(f"\nat once / {other}: {summary(ratios)} (answers and verdicts)")


if __name__ == "__main__":
    main()
