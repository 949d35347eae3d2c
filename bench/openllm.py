"""Open LLM Leaderboard v2 part by part: through evalsuite, and through lm-eval's own back ends.

    EVALSUITE_MIRROR=... python -m bench.openllm [--limit 2] [--dtype float32] [--chat both] [--parts bbh,musr]
    ... --against local-completions,vllm,hf --repeats 3    # alternating, medians
    ... --parts bbh --by-task [--tasks leaderboard_bbh_navigate,...]   # a long part by task, in several sessions

All run lm-eval's own tasks with the same seeds and weights, each from an empty prefix cache, and evalsuite's store is
empty. The first line of a part is evalsuite's. Those below it have parity (equal metrics, the largest difference of two
log-likelihoods, equal answers), the seconds without loading, what they are of evalsuite's, and the prompt tokens that
were prefilled, also per distinct one: a node of the trie of all contexts with their choices.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from bench.choices import n_nodes
from bench.offline import GPU_SHARE
from bench.opponents import OPPONENTS, Opponent
from bench.served import Cost, Served, served, versions
from evalsuite.serving.device import installed_vllm
from evalsuite.suites.harness.run import HarnessLoaded, lm_eval_seeds, quiet_harness, run_tasks
from evalsuite.suites.harness.suite import LmEvalOptions
from evalsuite.suites.openllm.scores import PARTS
from evalsuite.suites.openllm.suite import OpenLLM

OURS = "evalsuite"


@dataclass(slots=True)
class Run:
    """One way through a part: the costs of its repeats, and the metrics and responses of the last one."""

    costs: list[Cost] = field(default_factory=list)
    metrics: dict[tuple[str, str], float] = field(default_factory=dict)
    responses: dict[tuple[str, int], list[Any]] = field(default_factory=dict)
    distinct: int = 0

    def add(self, results: dict[str, Any], samples: dict[str, Any], cost: Cost) -> None:
        self.costs.append(cost)
        self.metrics = {
            (task, name): value
            for task, row in results["results"].items()
            for name, value in row.items()
            if isinstance(value, float) and "stderr" not in name
        }
        self.responses = {}
        for task, rows in samples.items():
            for row in rows:
                first = [response[0] for response in row["resps"]]
                is_scored = isinstance(first[0], (tuple, list))
                self.responses[task, row["doc_id"]] = [float(value[0]) for value in first] if is_scored else first

    def median(self, name: str) -> float:
        return float(statistics.median(getattr(cost, name) for cost in self.costs))

    def spread(self) -> str:
        seconds = sorted(cost.seconds for cost in self.costs)
        return f"{self.median('seconds'):.1f}" + (f" ({seconds[0]:.1f} to {seconds[-1]:.1f})" if seconds[1:] else "")


def load(options: LmEvalOptions, task: str | None) -> HarnessLoaded:
    """Load the tasks of a part, or one of them without the group's own row."""
    loaded = OpenLLM().load(options)
    if task is None:
        return loaded
    return replace(loaded, parts={options.parts[0]: (task,)}, tasks={task: loaded.tasks[task]}, groups={})


def ours(bench: Served, options: LmEvalOptions, task: str | None, run: Run) -> None:
    loaded, chat = load(options, task), options.chat_template_on_openllm
    with bench.client() as client:
        work = partial(run_tasks, loaded, client, bench.thread.loop, chat_template=chat, limit=options.limit)
        result, cost = bench.cost_of(work)
    run.add(dict(result.results), dict(result.samples), cost)
    tokenizer = bench.session.client.tokenizer
    texts = (
        request[0] + (request[1] if isinstance(request[1], str) else "")
        for rows in result.samples.values()
        for row in rows
        for request in row["arguments"]
    )
    run.distinct = n_nodes(tokenizer(text, verbose=False).input_ids[:-1] for text in dict.fromkeys(texts))


def theirs(opponent: Opponent, options: LmEvalOptions, task: str | None, run: Run) -> None:
    from lm_eval.evaluator import evaluate

    loaded = load(options, task)
    with quiet_harness(), lm_eval_seeds():
        result, cost = opponent.cost_of(
            lambda: evaluate(
                lm=opponent.lm,
                task_dict={"tasks": dict(loaded.tasks), "groups": dict(loaded.groups)},
                limit=options.limit,
                bootstrap_iters=0,
                apply_chat_template=options.chat_template_on_openllm,
                fewshot_as_multiturn=options.chat_template_on_openllm,
            )
        )
    run.add(result, result["samples"], cost)


def measured(ways: dict[str, Callable[[Run], None]], repeats: int) -> dict[str, Run]:
    """Run all ways in turn, each repeat beginning with another one."""
    runs = {name: Run() for name in ways}
    for repeat in range(repeats):
        names = [*ways][repeat % len(ways) :] + [*ways][: repeat % len(ways)]
        for name in names:
            ways[name](runs[name])
    return runs


def parity(own: Run, their: Run) -> tuple[str, list[str]]:
    """Return the cells that say how equal the figures are, and a line per metric that is not."""
    assert own.responses.keys() == their.responses.keys()
    scored = {key for key, values in own.responses.items() if isinstance(values[0], float)}
    apart = [abs(a - b) for key in scored for a, b in zip(own.responses[key], their.responses[key], strict=True)]
    written = own.responses.keys() - scored
    same = sum(own.responses[key] == their.responses[key] for key in written)
    unequal = [
        f"{task} {name}: {OURS} {own.metrics[task, name]:.4f}, lm-eval {value:.4f}"
        for (task, name), value in their.metrics.items()
        if not math.isclose(value, own.metrics[task, name], abs_tol=1e-9)
    ]
    metrics = f"{len(their.metrics) - len(unequal)} of {len(their.metrics)}"
    values = f"{len(apart):,} | {max(apart):.1e} | {sum(each > 1e-3 for each in apart)}" if apart else "| |"
    return f"{metrics} | {values} | {f'{same} of {len(written)}' if written else ''}", unequal


def print_part(label: str, runs: dict[str, Run]) -> list[str]:
    """Print a part's rows and return its unequal metrics."""
    own, notes = runs[OURS], []
    for name, run in runs.items():
        cells, unequal = ("| | | |", []) if run is own else parity(own, run)
        notes += [f"{name}: {line}" for line in unequal]
        ratio = "" if run is own else f"{run.median('seconds') / own.median('seconds'):.2f}×"
        prefilled = f"{run.median('prefilled'):,.0f} | {run.median('prefilled') / own.distinct:.2f}"
        costs = f"{run.spread()} | {ratio} | {run.median('requests'):,.0f} | {prefilled}"
        print(f"| {label} | {name} | {len(own.responses):,} | {cells} | {costs} |", flush=True)
    return notes


_HEAD = """
| part | way | documents | metrics equal | log-likelihoods | largest difference | beyond 1e-3 | answers equal \
| seconds | of evalsuite's | requests | prefilled | per distinct |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def all_parts(bench: Served, arguments: argparse.Namespace, opponents: Sequence[Opponent], chat: bool) -> None:
    print(f"\n{'With' if chat else 'Without'} chat template:\n{_HEAD}", flush=True)
    seconds: dict[str, float] = dict.fromkeys([OURS, *(each.name for each in opponents)], 0.0)
    notes: list[str] = []
    for part in arguments.parts.split(","):
        options = LmEvalOptions(
            data=arguments.data,
            limit=arguments.limit,
            parts=(part,),
            chat_template_on_openllm=chat,
            fewshot_as_multiturn=chat,
        )
        for task in _tasks(options, arguments):
            ways = {OURS: partial(ours, bench, options, task)}
            ways |= {each.name: partial(theirs, each, options, task) for each in opponents}
            runs = measured(ways, arguments.repeats)
            notes += print_part(task or part, runs)
            for name, run in runs.items():
                seconds[name] += run.median("seconds")
    total = ", ".join(f"{name} {value:.1f} s ({value / seconds[OURS]:.2f}×)" for name, value in seconds.items())
    print("\n".join(["", f"All: {total}", *notes]), flush=True)


def _tasks(options: LmEvalOptions, arguments: argparse.Namespace) -> list[str | None]:
    chosen = set(filter(None, arguments.tasks.split(",")))
    if not arguments.by_task:
        return [None]
    return [task for task in sorted(OpenLLM().load(options).tasks) if not chosen or task in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--limit", type=int, default=2, help="documents per task")
    parser.add_argument("--parts", default=",".join(part for part in PARTS if part != "gpqa"))
    parser.add_argument("--by-task", action="store_true", help="rows per task, without those of groups")
    parser.add_argument("--tasks", default="", help="with --by-task, these alone")
    parser.add_argument("--chat", choices=("yes", "no", "both"), default="both")
    parser.add_argument("--data", choices=("full", "mini"), default="full")
    parser.add_argument("--against", default="local-completions", help=", ".join(OPPONENTS))
    parser.add_argument("--repeats", type=int, default=1, help="of every way; seconds are medians")
    parser.add_argument("--concurrency", type=int, default=8, help="requests that local-completions has in flight")
    arguments = parser.parse_args()
    names = arguments.against.split(",")
    shares_gpu = installed_vllm().kind == "cuda" and {"vllm", "hf"} & set(names)
    vllm_args = [("gpu_memory_utilization", GPU_SHARE)] if shares_gpu else []
    with served(arguments.model, arguments.dtype, vllm_args=vllm_args) as bench:
        print(f"{arguments.dtype}, --limit {arguments.limit}, repeats {arguments.repeats}; {versions()}", flush=True)
        with ExitStack() as stack:
            opponents = []
            for name in names:
                opponents.append(OPPONENTS[name](bench, arguments.dtype, arguments.concurrency))
                stack.callback(opponents[-1].close)
            for chat in {"yes": (True,), "no": (False,), "both": (False, True)}[arguments.chat]:
                all_parts(bench, arguments, opponents, chat)


if __name__ == "__main__":
    main()
