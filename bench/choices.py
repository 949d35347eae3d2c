"""Multiple choice by three methods on one server: evalsuite, the trie alone, and lm-eval's client.

    python bench/choices.py [--model demo] [--dtype float32] [--questions 8] [--repeats 3]

Two shapes of synthetic questions: ten one-letter choices after five worked examples (like MMLU-Pro's),
and five choices of several tokens (like BBH's, MuSR's and GPQA's). Each method starts with an empty prefix
cache and an empty store; the log-likelihoods of all methods are compared. Goals: 20 and 4 times faster
than lm-eval's client, and at most 1.15 prefilled tokens per distinct token.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench.served import Cost, Served, served, versions
from evalsuite.suites.harness.lm import EvalsuiteLM

NOUNS = """river stone market garden window letter winter paper bridge lamp doctor train copper island valley music
forest harbour engine signal ladder mirror basket captain thunder"""
WORDS = NOUNS.split()


@dataclass(frozen=True)
class Shape:
    """A kind of question: how long its context is, and what its choices look like."""

    name: str
    context_words: int
    choices: int
    choice_words: int


SHAPES = (
    Shape("10 choices of one token", 620, 10, 0),
    Shape("5 choices of several tokens", 160, 5, 4),
)


@dataclass
class Method:
    """One method's costs over the repeats, and its values of the last one."""

    costs: list[Cost] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return statistics.median(cost.seconds for cost in self.costs)


def questions(shape: Shape, n: int, seed: int) -> list[Any]:
    """Return lm-eval's requests, one per choice, in the order lm-eval builds them; they share the worked examples."""
    from lm_eval.api.instance import Instance

    rng = random.Random(f"{shape.name} {seed}")
    examples = " ".join(rng.choices(WORDS, k=shape.context_words * 5 // 6))
    requests = []
    for doc in range(n):
        context = f"{examples}\nQuestion: {' '.join(rng.choices(WORDS, k=shape.context_words // 6))}?\nAnswer:"
        for index in range(shape.choices):
            text = " ".join(rng.choices(WORDS, k=shape.choice_words)) if shape.choice_words else "ABCDEFGHIJ"[index]
            requests.append(Instance("loglikelihood", {}, (context, f" {text}"), index, metadata=("bench", doc, 1)))
    return requests


def distinct_tokens(lm: EvalsuiteLM, requests: Sequence[Any]) -> int:
    """Count the tokens that no cache can avoid: the nodes of the trie of all contexts with their choices.

    The last token of a choice is predicted but never prefilled, so it does not count.
    """
    return n_nodes(lm.tok_encode("".join(request.args))[:-1] for request in requests)


def n_nodes(sequences: Iterable[Sequence[int]]) -> int:
    """Count the nodes of a trie, by a hash of the path to each."""
    seen: set[int] = set()
    for tokens in sequences:
        path = 0
        for token in tokens:
            path = hash((path, token))
            seen.add(path)
    return len(seen)


def measure(bench: Served, shape: Shape, n: int, repeats: int, concurrency: int) -> dict[str, Method]:
    methods = {"evalsuite": Method(), "trie": Method(), "lm-eval": Method()}
    distinct = 0
    for repeat in range(repeats):
        requests = questions(shape, n, repeat)
        for name in ("evalsuite", "trie"):
            with bench.client() as client:
                lm = EvalsuiteLM(_TrieOnly(client) if name == "trie" else client, bench.thread.loop)
                values, cost = bench.cost_of(partial(lm.loglikelihood, requests))
                distinct = distinct_tokens(lm, requests)
            methods[name].costs.append(cost)
            methods[name].values = [value for value, _ in values]
        theirs = bench.lm_eval_client(concurrency)
        values, cost = bench.cost_of(partial(theirs.loglikelihood, requests, disable_tqdm=True))
        methods["lm-eval"].costs.append(cost)
        methods["lm-eval"].values = [value for value, _ in values]
        print(f"# {shape.name}, repeat {repeat}: ", end="")
        print(", ".join(f"{name} {method.costs[-1].seconds:.1f} s" for name, method in methods.items()), flush=True)
    reference = methods["lm-eval"]
    for name, method in methods.items():
        difference = max(abs(a - b) for a, b in zip(method.values, reference.values, strict=True))
        prefilled = statistics.median(cost.prefilled for cost in method.costs)
        print(
            f"| {shape.name} | {name} | {method.seconds:.2f} | {reference.seconds / method.seconds:.1f}× "
            f"| {statistics.median(cost.prompt_tokens for cost in method.costs):,.0f} | {prefilled:,.0f} "
            f"| {prefilled / distinct:.2f} | {difference:.1e} |"
        )
    return methods


class _TrieOnly:
    """The client without evalsuite's scoring endpoint, as with any other vLLM."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.scores_continuations = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=8, help="requests that lm-eval has in flight")
    options = parser.parse_args()
    with served(options.model, options.dtype, 2048) as bench:
        print(f"{options.dtype}, {options.questions} questions, medians of {options.repeats}; {versions()}\n")
        print("| shape | method | seconds | lm-eval / it | prompt tokens | prefilled | per distinct | largest diff |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for shape in SHAPES:
            measure(bench, shape, options.questions, options.repeats, options.concurrency)


if __name__ == "__main__":
    main()
