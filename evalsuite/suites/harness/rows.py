"""A sample of lm-eval's as a row of records: one document with its responses and its metrics.

A sample is the JSON object that lm-eval writes into samples_<task>.jsonl; few-shot prompts are never read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from evalsuite.records.rows import Draw, Reply, Row, replaced
from evalsuite.suites.peer_files import DETAIL, finite_number, recorded_reason
from judges.types import Unscored

PROTECTED_NOTE = "GPQA's authors ask that no text of it is published: ids, log-probabilities and marks only"

_NUMBER = re.compile(r"-?(inf|\d++\.?+\d*+(e[+-]?\d+)?)")
_FLAGS = {"True": True, "False": False}
_PLAIN_FIELDS = frozenset({"doc_id", "filter", "metrics", "doc_hash", "prompt_hash", "target_hash", "unscored"})
_RESPONSES = frozenset({"resps", "filtered_resps"})
NOT_METRICS = _PLAIN_FIELDS | _RESPONSES | {"doc", "target", "arguments", "reasoning_content"}
"""The fields of a sample; every other one is a metric."""


def is_protected(results: Mapping[str, Any], task: str) -> bool:
    """Whether a task's texts must not be published, by its name and its data set in lm-eval's results document."""
    dataset = results.get("configs", {}).get(task, {}).get("dataset_path")
    return "gpqa" in f"{task} {dataset}".lower()


def sample_row(sample: Mapping[str, Any], part: str, *, protected: bool, fault: Unscored | None = None) -> Row:
    """Convert one sample; ``fault`` says in full why it is unscored, where the caller knows.

    Of a protected sample the row holds ids, log-likelihoods and marks. Raises KeyError for one without a doc_id.
    """
    if fault is None and sample.get("unscored"):
        fault = recorded_reason(sample["unscored"], sample.get(DETAIL))
    row = Row(
        item_id=str(sample["doc_id"]),
        part=part,
        content=str(sample.get("doc_hash") or ""),
        prompt=None if protected else (),
        facts={} if protected else _facts(sample),
    )
    if fault is not None:
        return replaced(row, draws=(Draw((Reply(unscored=fault),)),), unscored=(fault,))
    marks = {name: (value,) for name, value in metric_values(sample).items()}
    return replaced(row, draws=_draws(sample, protected=protected), marks=marks)


def with_missing_marks(rows: Iterable[Row]) -> list[Row]:
    """Give the unscored rows of one task the metrics of the others, with None for each."""
    known = list(rows)
    nothing = {name: (None,) for row in known for name in row.marks}
    return [replaced(row, marks=nothing) if row.unscored and nothing else row for row in known]


def metric_values(sample: Mapping[str, Any]) -> dict[str, float | None]:
    """Return a sample's metrics that are numbers; of a list of flags (one per instruction of IFEval) the mean.

    A null, which stands for NaN, is None; pairs such as those that perplexities and F1 are computed from are left out.
    """
    values: dict[str, float | None] = {}
    for name, value in sample.items():
        if name in NOT_METRICS:
            continue
        if isinstance(value, list) and value and all(isinstance(flag, bool) for flag in value):
            values[name] = sum(value) / len(value)
        elif value is None or isinstance(value, int | float):
            values[name] = float(value) if isinstance(value, bool) else finite_number(value)
    return values


def without_text(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return a protected sample with ids, hashes, log-likelihoods and numeric metrics alone."""
    metrics = metric_values(sample)
    return {
        key: value
        for key, value in sample.items()
        if key in _PLAIN_FIELDS or key in metrics or (key in _RESPONSES and _only_numbers(value))
    }


def _only_numbers(value: object) -> bool:
    texts = [None if one is None else str(one) for one in _leaves(value)]
    return all(text is not None and (text in _FLAGS or _NUMBER.fullmatch(text)) for text in texts)


def _leaves(value: object) -> Iterator[Any]:
    """Yield what is inside lists of lists, in order and without recursion: a file may nest them to any depth."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, list):
            pending += reversed(one)
        else:
            yield one


def _draws(sample: Mapping[str, Any], *, protected: bool) -> tuple[Draw, ...]:
    choices = _choices(sample.get("filtered_resps"))
    if choices:
        # JSON has no infinity: such a document keeps its marks alone.
        finite = all(math.isfinite(value) for value, _ in choices)
        return (Draw((Reply(choices=choices),)),) if finite else ()
    responses = sample.get("resps")
    if protected or not isinstance(responses, list):
        return ()
    # One list per request of the document, with one response per repeat.
    requests = [one if isinstance(one, list) else [one] for one in responses]
    thoughts = _thoughts(sample.get("reasoning_content"))
    repeats = max((len(one) for one in requests), default=0)
    return tuple(
        Draw(
            tuple(
                Reply(str(one[repeat]), thought=thoughts.get((request, repeat)))
                for request, one in enumerate(requests)
                if repeat < len(one)
            ),
            repeat,
        )
        for repeat in range(repeats)
    )


def _thoughts(recorded: object) -> dict[tuple[int, int], str]:
    """Read what ``thoughts_of`` has written, by (request, repeat)."""
    requests = recorded if isinstance(recorded, list) else []
    return {
        (request, repeat): thought
        for request, repeats in enumerate(requests)
        for repeat, thought in enumerate(repeats if isinstance(repeats, list) else [])
        if isinstance(thought, str)
    }


def with_replies(row: Row, replies: Mapping[tuple[int, int], Reply]) -> Row:
    """Add to a row's texts how each answer ended, by (request, repeat)."""
    if not replies or not row.draws or row.unscored:
        return row
    draws = [
        msgspec.structs.replace(
            draw,
            turns=tuple(
                msgspec.structs.replace(replies.get((request, draw.repeat), Reply()), text=reply.text)
                for request, reply in enumerate(draw.turns)
            ),
        )
        for draw in row.draws
    ]
    return replaced(row, draws=tuple(draws))


def thoughts_of(replies: Mapping[tuple[int, int], Reply]) -> list[list[str | None]]:
    """Return the thoughts as lm-eval's samples hold responses: a list per request, one entry per repeat."""
    if all(reply.thought is None for reply in replies.values()):
        return []
    n_requests = max(request for request, _ in replies) + 1
    by_request = [sorted(repeat for one, repeat in replies if one == request) for request in range(n_requests)]
    return [[replies[request, repeat].thought for repeat in repeats] for request, repeats in enumerate(by_request)]


def _choices(responses: Any) -> tuple[tuple[float, bool], ...]:
    """Read (log-likelihood, is greedy) per choice; () where the responses are something else."""
    choices = []
    for one in responses if isinstance(responses, list) else []:
        value, flag = map(str, one) if isinstance(one, list) and len(one) == 2 else ("", "")
        if flag not in _FLAGS or not _NUMBER.fullmatch(value):
            return ()
        choices.append((float(value), _FLAGS[flag]))
    return tuple(choices)


def _facts(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document's fields as [name, text] pairs without the empty ones, its reference, and what was filtered."""
    document, target = sample.get("doc"), sample.get("target")
    known = document.items() if isinstance(document, dict) else ()
    fields = [[str(name), _field_text(value)] for name, value in known if value not in (None, "", [], {})]
    facts: dict[str, Any] = {"fields": fields, "reference": [] if target is None else [str(target)]}
    filtered, responses = sample.get("filtered_resps"), sample.get("resps")
    if not sample.get("unscored") and not _choices(filtered) and [filtered] != responses:
        facts["filtered"] = [str(one) for one in _leaves(filtered) if one is not None]
    return facts


def _field_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        lettered = len(value) <= 26
        return "\n".join(f"{chr(ord('A') + rank) if lettered else rank}. {one}" for rank, one in enumerate(value))
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()
