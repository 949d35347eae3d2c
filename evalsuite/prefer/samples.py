"""Pairs of answers to the same prompt by their scores: the best of each prompt's answers against the worst."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from evalsuite.conversations.formats import (
    COMPLETE,
    READ_COLUMNS,
    Conversation,
    content_hash,
    conversation_of,
    detect_format,
)
from evalsuite.conversations.scores import Scores, finite, read_scores
from evalsuite.conversations.source import Rows, open_source
from evalsuite.errors import DataError, UsageError
from evalsuite.generation.manifest import manifests_in, read_manifest
from evalsuite.prefer.pair import Pair
from evalsuite.prefer.settings import PreferConfig
from judges.types import Unscored

_Sides = tuple[int, int, float]
"""Rows of the best and of the worst answer, and the difference of their scores."""


def sampled_pairs(config: PreferConfig) -> tuple[Iterator[Pair], dict[str, Any]]:
    """Return the pairs of a source's rows with equal prompts, and what they come from.

    Rows whose last answer was cut, or that have no score, are left out and counted in the document under ``rows``. The
    source is read twice; a row takes 24 bytes in between. Raises as ``prefer``.
    """
    answers = _Answers.opened(config)
    left_out: Counter[str] = Counter()
    sides, singles = answers.sides(left_out)
    origin = {
        "answers": answers.rows.name,
        "fingerprint": answers.rows.fingerprint,
        "prompts": _prompts(config),
        "scores": None if answers.scores is None else answers.scores.name,
        "rows": {"n": answers.n_rows, "left_out": dict(sorted(left_out.items()))},
    }
    return answers.pairs(sides, singles), origin


def _prompts(config: PreferConfig) -> str | None:
    """Return the source of a generate folder's prompts, None for other data; raises UsageError for a benchmark's."""
    folder = Path(config.comparison).expanduser()
    manifests = manifests_in(folder) if folder.is_dir() else []
    source = read_manifest(manifests[0]).get("source") if manifests else None
    if not isinstance(source, dict):
        return None
    if source.get("kind") == "suite" and not config.benchmark_prompts:
        raise UsageError(
            f"{folder} answers the prompts of {source.get('word')}, a benchmark: its score means nothing for a model "
            "trained on them; generate on other prompts, or pass --benchmark-prompts"
        )
    return str(source.get("word"))


@dataclass(slots=True)
class _Answers:
    rows: Rows
    scores: Scores | None
    by: str
    n_rows: int = 0

    @classmethod
    def opened(cls, config: PreferConfig) -> Self:
        by = config.by or ""
        scores = None if config.scores is None else read_scores(str(config.scores))
        rows = open_source(config.comparison, READ_COLUMNS | {by, "model"})
        columns = (*rows.columns, *(() if scores is None else scores.columns))
        if by not in columns:
            raise DataError(
                f"{config.comparison} has no column {by!r} to prefer by; its columns are {', '.join(columns)}; "
                "give --scores a folder of 'evalsuite rate'"
            )
        return cls(rows, scores if scores is not None and by in scores.columns else None, by)

    def sides(self, left_out: Counter[str]) -> tuple[list[_Sides], list[int]]:
        """Return each prompt's best and worst row in the source's order, and the rows that are alone with theirs."""
        keys, values, numbers = array("Q"), array("d"), array("q")
        for number, row, conversation in self._read(left_out):
            score = self._score(row, conversation)
            if score is None:
                left_out["no_score"] += 1
                continue
            keys.append(int(content_hash(conversation.messages[:-1])[:16], 16))
            values.append(score)
            numbers.append(number)
        order = np.lexsort((numbers, values, keys))
        ordered = np.frombuffer(keys, dtype=np.uint64)[order] if keys else np.zeros(0, dtype=np.uint64)
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else ordered
        ends = np.r_[starts[1:], len(order)]
        pairs, singles = [], []
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            worst, best = int(order[start]), int(order[end - 1])
            if end - start == 1:
                singles.append(numbers[best])
            else:
                pairs.append((numbers[best], numbers[worst], values[best] - values[worst]))
        return sorted(pairs), sorted(singles)

    def pairs(self, sides: Sequence[_Sides], singles: Sequence[int]) -> Iterator[Pair]:
        """Yield the pairs, then the prompts with a single answer as dropped."""
        wanted = {number for best, worst, _ in sides for number in (best, worst)} | set(singles)
        read = {number: (row, each) for number, row, each in self._read(Counter()) if number in wanted}
        for best, worst, margin in sides:
            (row, chosen), (other, rejected) = read[best], read[worst]
            same = chosen.messages[-1].content == rejected.messages[-1].content
            yield Pair(
                {"conversation_hash": chosen.hash, "rows": [best, worst]},
                chosen.messages[:-1],
                chosen.messages[-1],
                rejected.messages[-1],
                {
                    "conversation_hash": chosen.hash,
                    "chosen_model": str(row.get("model") or ""),
                    "rejected_model": str(other.get("model") or ""),
                    "chosen_score": self._score(row, chosen),
                    "rejected_score": self._score(other, rejected),
                },
                margin,
                "identical" if same else "tie" if margin == 0 else "",
            )
        for number in singles:
            yield Pair({"conversation_hash": read[number][1].hash, "rows": [number]}, dropped="single_answer")

    def _read(self, left_out: Counter[str]) -> Iterator[tuple[int, Mapping[str, Any], Conversation]]:
        """Yield number, row and conversation of the rows that end with a whole answer."""
        layout = detect_format(self.rows.columns, self.rows.spec)
        self.n_rows = 0
        for number, row in enumerate(self.rows):
            self.n_rows += 1
            conversation = conversation_of(row, layout)
            if isinstance(conversation, Unscored):
                left_out[conversation.reason] += 1
            elif conversation.messages[-1].role != "assistant":
                left_out["ends_with_user"] += 1
            elif conversation.finish_reasons[-1] not in COMPLETE:
                left_out["finish_reason"] += 1
            else:
                yield number, row, conversation

    def _score(self, row: Mapping[str, Any], conversation: Conversation) -> float | None:
        found = row if self.scores is None else self.scores.of(conversation.messages)
        return finite(found.get(self.by))
