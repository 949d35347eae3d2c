"""``evalsuite suite check FILE``: what is wrong with a benchmark's file, all at once, and what a run of it asks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from evalsuite.errors import EvalsuiteError, UsageError
from evalsuite.suites.file.baseline import baseline_answers
from evalsuite.suites.file.definition import Benchmark, rating_template, read_benchmark
from evalsuite.suites.file.prompts import items_of, read_prompts
from evalsuite.suites.file.scoring import found_by, function_sha256
from evalsuite.validation import faults_of

_CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Checked:
    """The result: ``faults`` keep a run from starting, ``notes`` do not. ``cost`` is what one model's run asks."""

    name: str
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    cost: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        return {"suite": self.name, "faults": list(self.faults), "notes": list(self.notes), "cost": dict(self.cost)}


def check_file(path: Path, taken: Collection[str] = ()) -> Checked:
    """Check a file, its data, template, function and baseline; runs no code of the file's author.

    ``taken`` are names that it must not have, those of installed suites.
    """
    try:
        benchmark = read_benchmark(path)
    except EvalsuiteError as error:
        cause = error.__cause__
        each = faults_of(cause, Benchmark) if isinstance(cause, pydantic.ValidationError) else [str(error)]
        return Checked(path.stem, tuple(each), (), {})
    faults: list[str] = []
    items: list[dict[str, Any]] = []
    if benchmark.name in taken:
        faults.append(f"the name {benchmark.name!r} is taken by an installed suite; give the benchmark another")
    for check in (rating_template, _check_function, _check_example):
        try:
            check(benchmark)
        except EvalsuiteError as error:
            faults.append(str(error))
    try:
        rows, _ = read_prompts(benchmark)
        items, problems = items_of(benchmark, rows)
        faults += problems
        faults += baseline_answers(benchmark, items)[2]
    except EvalsuiteError as error:
        faults.append(str(error))
    return Checked(benchmark.name, tuple(faults), tuple(_notes(benchmark, items)), _cost(benchmark, items))


def _check_function(benchmark: Benchmark) -> None:
    if benchmark.score.function is not None:
        function_sha256(benchmark)


def _check_example(benchmark: Benchmark) -> None:
    spec = benchmark.score.regex
    if spec is not None and spec.example is not None and found_by(spec, spec.example) is None:
        raise UsageError(f"score.regex: the pattern '{spec.pattern}' matches nothing in its example '{spec.example}'")


def _notes(benchmark: Benchmark, items: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    if benchmark.score.function is not None:
        notes.append("it is scored by its author's code: a run needs --trust-suite-code")
    if (spec := benchmark.score.regex) is not None and spec.example is None:
        references = [text for item in items for text in item["reference"]]
        if not any(found_by(spec, text) is not None for text in references):
            notes.append(
                f"the pattern '{spec.pattern}' matches nothing in any reference; "
                "set example: to an answer that it should match"
            )
    made = sum(item["id"] == item["content"] for item in items)
    if made:
        notes.append(f"{made} of {len(items)} rows have no id; they get one from their content")
    return notes


def _cost(benchmark: Benchmark, items: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return counts of one model's run; tokens are upper bounds, prompts at four characters per token."""
    turns = sum(sum(message.role == "user" for message in item["prompt"]) for item in items)
    prompt_chars = sum(len(message.content) for item in items for message in item["prompt"])
    rating, pairwise = benchmark.score.rating, benchmark.score.pairwise
    judgments = len(items) * (1 if rating else 2 if pairwise else 0)
    per_judgment = rating.max_judge_tokens if rating else pairwise.max_judge_tokens if pairwise else 0
    return {
        "items": len(items),
        "answers": turns,
        "judgments": judgments,
        "prompt_tokens": prompt_chars // _CHARS_PER_TOKEN,
        "max_answer_tokens": turns * benchmark.sampling.max_new_tokens,
        "max_judge_tokens": judgments * per_judgment,
    }
