"""Measuring style: from recorded answers or judged pages to one row of counts an answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.analysis.answers import Answers, find_place, prompt_hash, read_answers, split_name
from evalsuite.analysis.markup import ELEMENTS, Block, markdown_counts, read_page
from evalsuite.errors import DataError, UsageError
from evalsuite.fingerprint import files_sha256

FEATURES = (*ELEMENTS, "chars", "tokens")
"""The columns of a model's counts: elements, length in characters, length in tokens (NaN where it has no meaning)."""

_IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_LETTER = re.compile(r"[^\W\d_]")
_MAX_UNSPACED_SHARE = 0.2
"""Above this share of Thai, Lao, Khmer or Burmese letters, a text has no number of words that spaces could tell."""


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """How length in tokens is counted: the unit in words, and a count (None where the unit has no meaning)."""

    unit: str
    count: Callable[[str], int | None]


@dataclass(frozen=True, slots=True)
class Measured:
    """A model's measured answers. ``counts`` has one row an answer, columns ``FEATURES``.

    ``prompts`` are the prompts' hashes and ``clusters`` the conversations, one a row; ``unit`` says what ``chars``
    are of.
    """

    name: str
    prompts: tuple[str, ...]
    clusters: tuple[str, ...]
    counts: NDArray[np.float64]
    unit: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def rows_of(self, wanted: Sequence[str]) -> NDArray[np.float64]:
        """Return the counts of the given prompts in their order; of a prompt asked twice, the first answer."""
        places: dict[str, int] = {}
        for place, prompt in enumerate(self.prompts):
            places.setdefault(prompt, place)
        return self.counts[[places[prompt] for prompt in wanted]]


def common_prompts(given: Sequence[Measured]) -> list[str]:
    """Return the prompts that all answered, each once, in the first one's order."""
    shared = set(given[0].prompts).intersection(*(one.prompts for one in given[1:]))
    return [prompt for prompt in dict.fromkeys(given[0].prompts) if prompt in shared]


def clusters_of(one: Measured, prompts: Sequence[str]) -> list[str]:
    """Return the conversation of each prompt."""
    known = dict(zip(one.prompts, one.clusters, strict=True))
    return [known[prompt] for prompt in prompts]


def token_counter(tokenizer: str | None) -> TokenCounter:
    """Return a counter of the tokenizer's tokens, or without one of words (:func:`count_words`).

    ``tokenizer`` is a model's folder, a hub id or ``demo``, as in a mix. Raises UsageError when it cannot be loaded.
    """
    if tokenizer is None:
        return TokenCounter("words (a Chinese or Japanese character is one)", count_words)
    from evalsuite.assets import demo_checkpoint

    folder = str(demo_checkpoint()) if tokenizer == "demo" and not Path("demo").exists() else tokenizer
    try:
        from transformers import AutoTokenizer

        loaded = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # the hub, the file system and the tokenizer's code each have their own errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"cannot load the tokenizer {tokenizer} ({reason}); give a checkpoint folder") from error

    def count(text: str) -> int:
        return len(loaded(text, add_special_tokens=False, verbose=False)["input_ids"])

    return TokenCounter(f"tokens of {Path(tokenizer).name}", count)


def count_words(text: str) -> int | None:
    """Return the number of words between whitespace, each Chinese or Japanese character being one.

    None for text of which a fifth or more of the letters are of a script that puts no spaces between its words.
    """
    letters = len(_LETTER.findall(text))
    if letters and len(_UNSPACED.findall(text)) / letters >= _MAX_UNSPACED_SHARE:
        return None
    spaced, ideographs = _IDEOGRAPH.subn(" ", text)
    return len(spaced.split()) + ideographs


def measure(
    words: Sequence[str], results: Path, counter: TokenCounter, *, as_published: bool, sources: Sequence[str] = ()
) -> list[Measured]:
    """Measure each word's answers; raises DataError or UsageError in one sentence.

    A word is what :func:`evalsuite.analysis.answers.read_answers` reads, or a folder of judged HTML pages. Of pages
    the answer alone counts, unless ``as_published``: then all of every page, which is what the paper counts.
    ``sources`` keeps the answers of these suites or files only.
    """
    measured = [_measure(word, results, counter, as_published=as_published, sources=sources) for word in words]
    names = [one.name for one in measured]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two of the answers are called {twice[0]!r}; tell them apart as NAME=PATH")
    if len({one.unit for one in measured}) > 1:
        raise UsageError("pages of HTML and recorded answers are counted differently; give only one of the two kinds")
    return measured


def _measure(
    word: str, results: Path, counter: TokenCounter, *, as_published: bool, sources: Sequence[str]
) -> Measured:
    name, place = split_name(word)
    path = find_place(place, results)
    pages = sorted(path.glob("*.html")) if path.is_dir() and not (path / "scores.json").is_file() else []
    if pages:
        return _measure_pages(name or path.name, pages, counter, as_published=as_published)
    if as_published:
        raise UsageError(
            f"{path} is no folder of judged .html pages, and --as-published counts whole pages as the paper did; "
            "leave the option out to count the answers"
        )
    return _measure_answers(read_answers(word, results), counter, sources)


def _measure_answers(given: Answers, counter: TokenCounter, sources: Sequence[str]) -> Measured:
    kept = [answer for answer in given.answers if not sources or answer.source in sources]
    if not kept:
        known = ", ".join(sorted({answer.source for answer in given.answers}))
        raise DataError(f"{given.name} has no answers of {', '.join(sources)}; it has {known}")
    rows = [_row(markdown_counts(answer.text), len(answer.text), counter.count(answer.text)) for answer in kept]
    return Measured(
        given.name,
        tuple(answer.prompt_hash for answer in kept),
        tuple(answer.cluster for answer in kept),
        np.array(rows, dtype=np.float64),
        "characters of the answer",
        given.as_provenance() | {"n_measured": len(kept)},
    )


def _measure_pages(name: str, pages: Sequence[Path], counter: TokenCounter, *, as_published: bool) -> Measured:
    rows = []
    for path in pages:
        block = _block_of(path, as_published=as_published)
        rows.append(_row(block.counts, len(block.html), counter.count(block.text)))
    keys = tuple(prompt_hash([f"page:{path.stem}"]) for path in pages)
    part = "the whole page" if as_published else "the answer"
    provenance = {"name": name, "fingerprint": files_sha256(pages), "n_answers": len(pages), "counted": part}
    return Measured(name, keys, keys, np.array(rows, dtype=np.float64), f"characters of HTML of {part}", provenance)


def _block_of(path: Path, *, as_published: bool) -> Block:
    try:
        page = read_page(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} ({error}); give pages in UTF-8") from error
    if as_published:
        return page.whole
    if "answer" not in page.blocks:
        raise DataError(f'{path} has no <div class="answer">; give judged pages, or count whole ones (--as-published)')
    return page.blocks["answer"]


def _row(counts: Mapping[str, int], chars: int, tokens: int | None) -> list[float]:
    return [*(counts.get(element, 0) for element in ELEMENTS), chars, np.nan if tokens is None else tokens]
