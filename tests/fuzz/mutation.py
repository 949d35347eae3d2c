"""Damage to texts, documents and files; every choice comes from a ``random.Random``, seeded or hypothesis' own."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from tests.browser.hostile import ANSWERS

CORPUS_FOLDER = Path(__file__).parent / "corpus"

HOSTILE_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    0.5,
    1.5,
    11,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    10**400,
    -(10**20),
    "",
    " ",
    "\n",
    "a\nb",
    "[/b] [red",
    "\x00",
    "\ud800",
    "NaN",
    "-1",
    "1e999",
    "[[5]]",
    "$ERROR$",
    "request_failed",
    "A" * 3000,
    [],
    {},
    [[]],
    [None],
    ["\ud83d"],
    [1, "2"],
    {"": None},
    {"a": [1]},
    {"reason": []},
)

PIECES: tuple[str, ...] = (
    "[[",
    "]]",
    "[",
    "]",
    "[[5]]",
    "[[10.0]]",
    "[[ 7/10 ]]",
    "[3]",
    "Rating: [[11]]",
    "Rating: [0]",
    "[[01]]",
    "[[1e5]]",
    "[[A]]",
    "[[Z]]",
    "(B)",
    "**C** ",
    " D. ",
    "Verdict 0123456789abcdef: [[A]]",
    "Verdict 0123456789abcdef: [[tie]]",
    "Score: [[0.5]]",
    "score of .7/1",
    "{answer}",
    "{output_2}",
    "{{ x }}",
    "{% raw %}",
    "<|im_end|>",
    "<|im_start|>assistant\n",
    "$ERROR$",
    "\n",
    "\u2028",
    "\x00",
    "\ud800",
    "\u0661\u0660",
    "\uff15",
    "\u00b2",
    "1,000,000",
    "-3.50",
    "6.02e23",
    "1e999",
    "is 42",
    "the final answer ",
    " ",
    "a",
    "0",
    "9" * 400,
    "[" * 60,
    "]" * 60,
)


def corpus() -> tuple[str, ...]:
    """Return our own hostile texts: the report's, and one a file in ``corpus/``."""
    own = [path.read_text(encoding="utf-8") for path in sorted(CORPUS_FOLDER.glob("*.txt"))]
    return (*ANSWERS, *own)


def text(draw: Random, known: Sequence[str]) -> str:
    """Return a known text with a few pieces put in, taken out, doubled or moved."""
    words = draw.choice(known) if draw.random() < 0.5 else ""
    words = words[: draw.choice((40, 400, 4000))]
    for _ in range(draw.randrange(1, 6)):
        at = draw.randrange(len(words) + 1)
        end = min(len(words), at + draw.randrange(1, 9))
        how = draw.randrange(5)
        if how <= 2:
            words = words[:at] + draw.choice(PIECES) + words[at:]
        elif how == 3:
            words = words[:at] + words[end:]
        else:
            words = words[:at] + words[at:end] * 2 + words[end:]
    return words


def value(draw: Random) -> Any:
    """Return a value that is unexpected there."""
    return copy.deepcopy(draw.choice(HOSTILE_VALUES))


def document(draw: Random, seed: Any) -> Any:
    """Return a deep copy of a JSON document with one to three places spoilt."""
    spoilt = copy.deepcopy(seed)
    for _ in range(draw.randrange(1, 4)):
        spoilt = _spoil(draw, spoilt)
    return spoilt


def _spoil(draw: Random, node: Any) -> Any:
    """Walk to a random place and put something else there."""
    if not isinstance(node, dict | list) or not node or draw.random() < 0.08:
        return value(draw)
    keys: Sequence[Any] = list(node) if isinstance(node, dict) else range(len(node))
    key = draw.choice(keys)
    how = draw.randrange(8)
    if how == 0:
        del node[key]
    elif how == 1 and isinstance(node, dict):
        node[draw.choice(("", "unscored", "x\ny", "score", key))] = value(draw)
    elif how == 1:
        node.insert(key, copy.deepcopy(node[key]))
    elif how <= 5 and isinstance(node[key], dict | list):
        node[key] = _spoil(draw, node[key])
    else:
        node[key] = value(draw)
    return node


def as_bytes(draw: Random, spoilt: Any, *, lines: bool) -> bytes:
    """Write a document as JSON (or its items as JSON lines), now and then with damaged bytes."""
    items = spoilt if lines and isinstance(spoilt, list) else [spoilt]
    data = "\n".join(json.dumps(item) for item in items).encode()
    return damaged(draw, data) if draw.random() < 0.1 else data


def damaged(draw: Random, data: bytes) -> bytes:
    """Cut, overwrite or deepen a file."""
    at = draw.randrange(len(data) + 1)
    how = draw.randrange(6)
    if how == 0:
        return data[:at]
    if how == 1:
        return data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
    if how == 2:
        return data[:at] + b"[" * 5_000 + data[at:]
    if how == 3:
        return data[:at] + b"\x00\xff\xfe" + data[at:]
    if how == 4:
        return data[:at] + b"9" * 5000 + data[at:]
    return draw.choice((b"", b"\n\n", b"{}", b"[]", b"null", b'"', b"[" * 5_000, b"\xef\xbb\xbf[]"))
