"""What a source of conversations is like: turns, lengths, languages and how answers ended."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.conversations.formats import detect_format, prompts_of
from evalsuite.conversations.source import Rows
from judges.types import REASONS, Unscored

_BARS = "▁▂▃▄▅▆▇█"
QUANTILES = (0.1, 0.5, 0.9, 0.99)
_N_BARS = 12
_MOST_LANGUAGES = 8


def summarised(rows: Rows, limit: int | None = None) -> dict[str, Any]:
    """Return counts and quantiles of a source's first ``limit`` rows (None: of all).

    ``lengths`` has, for user turns per conversation, characters per user turn and per answer, and tokens per answer
    where they are recorded: n, quantiles (p10, p50, p90, p99), the maximum and a histogram of equal steps of the
    logarithm. ``finish_reasons``, ``languages`` and ``unread`` count answers and rows.
    """
    layout = detect_format(rows.columns, rows.spec)
    lengths = {name: array("q") for name in ("user turns", "characters of a user turn", "characters of an answer")}
    tokens = array("q")
    ends: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    n_rows = 0
    for n_rows, row in enumerate(rows, 1):
        conversation = prompts_of(row, layout)
        if isinstance(conversation, Unscored):
            # A row that `generate` could not ask has no turns left, and says why.
            known = row.get("unscored")
            unread[known if isinstance(known, str) and known in REASONS else conversation.reason] += 1
        else:
            languages[conversation.language or "not given"] += 1
            users = [message for message in conversation.messages if message.role == "user"]
            lengths["user turns"].append(len(users))
            lengths["characters of a user turn"].extend(len(message.content) for message in users)
            for message, end in zip(conversation.messages, conversation.finish_reasons, strict=True):
                if message.role == "assistant":
                    ends[end or "not recorded"] += 1
                    if message.content:
                        lengths["characters of an answer"].append(len(message.content))
            tokens.extend(_answer_tokens(row))
        if n_rows == limit:
            break
    if tokens:
        lengths["tokens of an answer"] = tokens
    return {
        "n_rows": n_rows,
        "lengths": {name: _distribution(np.array(values)) for name, values in lengths.items() if len(values)},
        "finish_reasons": dict(ends.most_common()),
        "languages": dict(languages.most_common(_MOST_LANGUAGES)),
        "n_languages": len(languages),
        "unread": dict(sorted(unread.items())),
    }


def _answer_tokens(row: Mapping[str, Any]) -> Iterable[int]:
    empty: list[Any] = []
    turns = next((row[name] for name in ("messages", "conversation") if isinstance(row.get(name), list)), empty)
    counts = [turn.get("completion_tokens") for turn in turns if isinstance(turn, Mapping)]
    return [count for count in counts if isinstance(count, int)]


def _distribution(values: NDArray[np.int64]) -> dict[str, Any]:
    steps = np.linspace(0, np.log1p(values.max()), _N_BARS + 1)
    counts, _ = np.histogram(np.log1p(values), bins=steps if steps[-1] > 0 else _N_BARS)
    quantiles = {f"p{round(100 * q)}": int(np.quantile(values, q, method="inverted_cdf")) for q in QUANTILES}
    return {"n": len(values), **quantiles, "max": int(values.max()), "histogram": counts.tolist()}


def edges(most: int) -> list[float]:
    """Return the ends of a histogram's bins, for the largest value."""
    ends: list[float] = np.expm1(np.linspace(0, np.log1p(most), _N_BARS + 1)).tolist()
    return ends


def bars(counts: Sequence[int]) -> str:
    """Draw a histogram as a line of bars; what is there has at least the lowest.

    >>> bars([0, 1, 8])
    ' ▁█'
    """
    most = max(counts, default=0)
    return "".join(" " if not count else _BARS[min(7, 8 * count // (most + 1))] for count in counts)


def summary_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per measure for the terminal."""
    return [
        {
            "measure": name,
            "n": f"{each['n']:,}",
            **{key: f"{each[key]:,}" for key in ("p10", "p50", "p90", "p99", "max")},
            "histogram (log)": bars(each["histogram"]),
        }
        for name, each in summary["lengths"].items()
    ]


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the counts that have no quantiles, one line each."""
    lines = []
    for key, title in (("finish_reasons", "answers ended"), ("languages", "languages"), ("unread", "no conversation")):
        counts = [f"{name} {count:,}" for name, count in summary[key].items()]
        if key == "languages" and summary["n_languages"] > len(counts):
            counts.append(f"{summary['n_languages'] - len(counts)} more")
        if counts and list(summary[key]) != ["not given"] and list(summary[key]) != ["not recorded"]:
            lines.append(f"{title}: {', '.join(counts)}")
    return lines
