"""Open LLM Leaderboard v2 on one server: through evalsuite and through lm-eval's own client, part by part.

    EVALSUITE_MIRROR=... python bench/openllm.py [--limit 2] [--dtype float32] [--chat both] [--parts bbh,musr]
    ... --parts bbh --by-task [--skip leaderboard_bbh_navigate,...]   # a long part by task, in several sessions

Both run lm-eval's own tasks with the same seeds on the same vLLM, each from an empty prefix cache. A row is printed
when both have finished a part: parity (equal metrics, the largest difference of two log-likelihoods, equal answers),
the seconds of both and the tokens that the server prefilled. The last row of a mode is the whole group.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from bench.served import Cost, Served, served, versions
from evalsuite.suites.harness.run import HarnessLoaded, lm_eval_seeds, quiet_harness, run_tasks
from evalsuite.suites.harness.suite import LmEvalOptions
from evalsuite.suites.openllm.scores import PARTS
from evalsuite.suites.openllm.suite import OpenLLM


def theirs_on(bench: Served, options: LmEvalOptions, concurrency: int, task: str | None = None) -> dict[str, Any]:
    from lm_eval.evaluator import evaluate

    loaded = load(options, task)
    with quiet_harness(), lm_eval_seeds():
        return evaluate(
            lm=bench.lm_eval_client(concurrency),
            task_dict={"tasks": dict(loaded.tasks), "groups": dict(loaded.groups)},
            limit=options.limit,
            bootstrap_iters=0,
            apply_chat_template=options.chat_template_on_openllm,
            fewshot_as_multiturn=options.chat_template_on_openllm,
        )


def load(options: LmEvalOptions, task: str | None) -> HarnessLoaded:
    """Load the tasks of a part, or one of them without the group's own row."""
    loaded = OpenLLM().load(options)
    if task is None:
        return loaded
    return replace(loaded, parts={options.parts[0]: (task,)}, tasks={task: loaded.tasks[task]}, groups={})


def responses(samples: dict[str, Any]) -> dict[tuple[str, int], list[Any]]:
    """Return (task, document) -> the log-likelihoods of its choices, or its answers."""
    found = {}
    for task, rows in samples.items():
        for row in rows:
            first = [response[0] for response in row["resps"]]
            scored = isinstance(first[0], (tuple, list))
            found[task, row["doc_id"]] = [float(value[0]) for value in first] if scored else first
    return found


@dataclass(slots=True)
class Row:
    """Both results for one part, or for several together."""

    n_documents: int = 0
    n_metrics: int = 0
    unequal: list[str] = field(default_factory=list)
    n_values: int = 0
    largest: float = 0.0
    n_apart: int = 0
    """Log-likelihoods that differ by more than 1e-3."""
    n_written: int = 0
    n_other_words: int = 0
    seconds: tuple[float, float] = (0.0, 0.0)
    prefilled: tuple[int, int] = (0, 0)

    def add(self, other: Row) -> None:
        for name in ("n_documents", "n_metrics", "n_values", "n_apart", "n_written", "n_other_words", "unequal"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = max(self.largest, other.largest)
        self.seconds = (self.seconds[0] + other.seconds[0], self.seconds[1] + other.seconds[1])
        self.prefilled = (self.prefilled[0] + other.prefilled[0], self.prefilled[1] + other.prefilled[1])

    def cells(self) -> str:
        metrics = f"{self.n_metrics - len(self.unequal)} of {self.n_metrics}"
        apart = f"{self.n_values:,} | {self.largest:.1e} | {self.n_apart}" if self.n_values else "| |"
        written = f"{self.n_written - self.n_other_words} of {self.n_written}" if self.n_written else ""
        seconds = f"{self.seconds[0]:.1f} | {self.seconds[1]:.1f} | {self.seconds[1] / self.seconds[0]:.1f}×"
        prefilled = f"{self.prefilled[0]:,} | {self.prefilled[1]:,}"
        return f"{self.n_documents:,} | {metrics} | {apart} | {written} | {seconds} | {prefilled} |"


def compared(ours: Any, cost: Cost, theirs: dict[str, Any], other: Cost) -> Row:
    """Compare the two runs of one part."""
    own, their = responses(ours.samples), responses(theirs["samples"])
    assert own.keys() == their.keys()
    scored = [key for key, values in own.items() if isinstance(values[0], float)]
    written = [key for key in own if key not in scored]
    apart = [abs(a - b) for key in scored for a, b in zip(own[key], their[key], strict=True)]
    metrics = [
        (task, name, value, ours.results["results"][task][name])
        for task, row in theirs["results"].items()
        for name, value in row.items()
        if isinstance(value, float) and "stderr" not in name
    ]
    return Row(
        n_documents=len(own),
        n_metrics=len(metrics),
        unequal=[
            f"{task} {name}: lm-eval {theirs_:.4f}, evalsuite {ours_:.4f}"
            for task, name, theirs_, ours_ in metrics
            if not math.isclose(theirs_, ours_, abs_tol=1e-9)
        ],
        n_values=len(apart),
        largest=max(apart, default=0.0),
        n_apart=sum(difference > 1e-3 for difference in apart),
        n_written=len(written),
        n_other_words=sum(own[key] != their[key] for key in written),
        seconds=(cost.seconds, other.seconds),
        prefilled=(cost.prefilled, other.prefilled),
    )


def both_ways(bench: Served, options: LmEvalOptions, concurrency: int, task: str | None = None) -> Row:
    """Run one part, or one task of it, through evalsuite, then through lm-eval."""
    loaded = load(options, task)
    with bench.client() as client:
        chat = options.chat_template_on_openllm
        run = partial(run_tasks, loaded, client, bench.thread.loop, chat_template=chat, limit=options.limit)
        ours, cost = bench.cost_of(run)
    theirs, other = bench.cost_of(partial(theirs_on, bench, options, concurrency, task))
    return compared(ours, cost, theirs, other)


_HEAD = """
| part | documents | metrics equal | log-likelihoods | largest difference | beyond 1e-3 | answers equal \
| evalsuite, s | lm-eval, s | ratio | prefilled | by lm-eval |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--limit", type=int, default=2, help="documents per task")
    parser.add_argument("--parts", default=",".join(part for part in PARTS if part != "gpqa"))
    parser.add_argument("--by-task", action="store_true", help="a row per task, without the rows of groups")
    parser.add_argument("--skip", default="", help="tasks to leave out, with --by-task")
    parser.add_argument("--chat", choices=("yes", "no", "both"), default="both")
    parser.add_argument("--data", choices=("full", "mini"), default="full")
    parser.add_argument("--concurrency", type=int, default=8, help="requests that lm-eval has in flight")
    arguments = parser.parse_args()
    with served(arguments.model, arguments.dtype) as bench:
        print(f"{arguments.dtype}, --limit {arguments.limit} per task; {versions()}")
        for chat in {"yes": (True,), "no": (False,), "both": (False, True)}[arguments.chat]:
            print(f"\n{'With' if chat else 'Without'} chat template:\n{_HEAD}", flush=True)
            group = Row()
            for part in arguments.parts.split(","):
                options = LmEvalOptions(
                    data=arguments.data,
                    limit=arguments.limit,
                    parts=(part,),
                    chat_template_on_openllm=chat,
                    fewshot_as_multiturn=chat,
                )
                tasks = sorted(OpenLLM().load(options).tasks) if arguments.by_task else [None]
                for task in tasks:
                    if task in arguments.skip.split(","):
                        continue
                    row = both_ways(bench, options, arguments.concurrency, task)
                    group.add(row)
                    print(f"| {task or part} | {row.cells()}", flush=True)
            print(f"| **all** | {group.cells()}\n")
            print("\n".join(group.unequal), flush=True)


if __name__ == "__main__":
    main()
