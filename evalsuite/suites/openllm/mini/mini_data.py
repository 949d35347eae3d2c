"""What the mini tasks' YAML files refer to: their rows, and metrics that need nothing downloaded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def rows(file: str, subtask: str | None = None, fewshot: int = 0, **_: Any) -> dict[str, Any]:
    """Return the splits of a JSON-lines file beside this one; its first ``fewshot`` rows are the examples."""
    from datasets import Dataset

    text = (Path(__file__).parent / file).read_text(encoding="utf-8")
    every = [json.loads(line) for line in text.splitlines()]
    chosen = [row for row in every if subtask is None or row["subtask"] == subtask]
    splits = {"test": Dataset.from_list(chosen[fewshot:])}
    return {**splits, "fewshot": Dataset.from_list(chosen[:fewshot])} if fewshot else splits


def letters(doc: Mapping[str, Any]) -> list[str]:
    """Return one letter per option."""
    return list("ABCDEFGHIJ"[: len(doc["options"])])


def math_results(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Score an answer with the leaderboard's own MATH scorer."""
    from lm_eval.tasks.leaderboard.math.utils import process_results

    metrics: dict[str, Any] = process_results(doc, results)
    return {"exact_match": metrics["exact_match"]}


def instruction_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Check an answer against the document's instructions, strictly."""
    followed = [_CHECKS[check["kind"]](results[0], check["value"]) for check in doc["checks"]]
    return {"prompt_level_strict_acc": all(followed), "inst_level_strict_acc": followed}


def share_followed(items: Sequence[Sequence[bool]]) -> float:
    """Return the share of instructions that were followed, over all documents."""
    flat = [one for item in items for one in item]
    return sum(flat) / len(flat)


_CHECKS: Mapping[str, Callable[[str, str], bool]] = {
    "holds": lambda answer, text: text.lower() in answer.lower(),
    "lacks": lambda answer, text: bool(answer.strip()) and text.lower() not in answer.lower(),
    "starts": lambda answer, text: answer.strip().startswith(text),
    "ends": lambda answer, text: answer.strip().endswith(text),
    "at_most_words": lambda answer, number: 0 < len(answer.split()) <= int(number),
    "bullets": lambda answer, number: len(re.findall(r"^\s*[-*] ", answer, re.MULTILINE)) == int(number),
    "lowercase": lambda answer, _: bool(answer.strip()) and answer == answer.lower(),
}
