"""Measuring style: from recorded answers or judged pages to one row of counts per answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.analysis.answers import Answers, check_names, find_path, prompt_hash, read_answers, split_name
from evalsuite.analysis.markup import ELEMENTS, Block, markdown_counts, read_page
from evalsuite.errors import DataError, UsageError, first_line
from evalsuite.fingerprint import files_sha256

FEATURES = (*ELEMENTS, "chars", "tokens")
"""The columns of a model's counts: elements, length in characters, length in tokens (NaN where undefined)."""

_IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_LETTER = re.compile(r"[^\W\d_]")
_MAX_UNSPACED_SHARE = 0.2
"""From this share of Thai, Lao, Khmer or Burmese letters on, spaces do not separate a text's words."""


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """How length in tokens is counted: the unit, and a function that counts (None where the count is undefined)."""

    unit: str
    count: Callable[[str], int | None]


@dataclass(frozen=True, slots=True)
class Measured:
    """A model's measured answers. ``counts`` has one row per answer, columns ``FEATURES``.

    ``prompts`` are the prompts' hashes and ``clusters`` the conversations, one per row; ``unit`` is that of ``chars``.
    """

    name: str
    prompts: tuple[str, ...]
    clusters: tuple[str, ...]
    counts: NDArray[np.float64]
    unit: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def rows_of(self, wanted: Sequence[str]) -> NDArray[np.float64]:
        """Return the counts of the given prompts in their order; of a prompt asked twice, the first answer."""
        rows = {prompt: row for row, prompt in reversed(list(enumerate(self.prompts)))}
        return self.counts[[rows[prompt] for prompt in wanted]]


def common_prompts(given: Sequence[Measured]) -> list[str]:
    """Return the prompts that all models answered, each once, in the first model's order."""
    shared = set(given[0].prompts).intersection(*(one.prompts for one in given[1:]))
    return [prompt for prompt in dict.fromkeys(given[0].prompts) if prompt in shared]


def clusters_of(one: Measured, prompts: Sequence[str]) -> list[str]:
    """Return the conversation of each prompt."""
    known = dict(zip(one.prompts, one.clusters, strict=True))
    return [known[prompt] for prompt in prompts]


def token_counter(tokenizer: str | None) -> TokenCounter:
    """Return a counter of the tokenizer's tokens, without a tokenizer of words (:func:`count_words`).

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
        raise UsageError(
            f"cannot load the tokenizer {tokenizer} ({first_line(error)}); give a checkpoint folder"
        ) from error

    def count(text: str) -> int:
        return len(loaded(text, add_special_tokens=False, verbose=False)["input_ids"])

    return TokenCounter(f"tokens of {Path(tokenizer).name}", count)


def count_words(text: str) -> int | None:
    """Return the number of words between whitespace, each Chinese or Japanese character being one.

    None for text with a fifth or more of its letters in a script without spaces between words.
    """
    letters = len(_LETTER.findall(text))
    if letters and len(_UNSPACED.findall(text)) / letters >= _MAX_UNSPACED_SHARE:
        return None
    spaced, ideographs = _IDEOGRAPH.subn(" ", text)
    return len(spaced.split()) + ideographs


def measure(
    specs: Sequence[str], results: Path, counter: TokenCounter, *, as_published: bool, sources: Sequence[str] = ()
) -> list[Measured]:
    """Measure the answers of each spec; raises DataError or UsageError.

    A spec is what :func:`evalsuite.analysis.answers.read_answers` reads, or a folder of judged HTML pages. Of pages
    only the answer counts, unless ``as_published``: then the whole page, as in the paper.
    ``sources`` keeps only the answers of these suites or files.
    """
    measured = [_measure(spec, results, counter, as_published=as_published, sources=sources) for spec in specs]
    check_names([one.name for one in measured])
    if len({one.unit for one in measured}) > 1:
        raise UsageError("pages of HTML and recorded answers are counted differently; give only one of the two kinds")
    return measured


def _measure(
    spec: str, results: Path, counter: TokenCounter, *, as_published: bool, sources: Sequence[str]
) -> Measured:
    name, place = split_name(spec)
    path = find_path(place, results)
    # A results folder has a page too, its report.
    has_results = (path / "scores.json").is_file() or any(path.glob("*/scores.json"))
    pages = sorted(path.glob("*.html")) if path.is_dir() and not has_results else []
    if pages:
        return _measure_pages(name or path.name, pages, counter, as_published=as_published)
    if as_published:
        raise UsageError(
            f"{path} is not a folder of judged .html pages, and --as-published counts whole pages as the paper did; "
            "drop the option to count the answers"
        )
    return _measure_answers(read_answers(spec, results), counter, sources)


def _measure_answers(given: Answers, counter: TokenCounter, sources: Sequence[str]) -> Measured:
    kept = [answer for answer in given.answers if not sources or answer.source in sources]
    if not kept:
        known = ", ".join(sorted({answer.source for answer in given.answers}))
        raise DataError(f"{given.name} has no answers from {', '.join(sources)}; it has those from {known}")
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
    blocks = [_block_of(path, as_published=as_published) for path in pages]
    rows = [_row(block.counts, len(block.html), counter.count(block.text)) for block in blocks]
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
        raise DataError(f'{path} has no <div class="answer">; give judged pages, or count whole pages (--as-published)')
    return page.blocks["answer"]


def _row(counts: Mapping[str, int], chars: int, tokens: int | None) -> list[float]:
    return [*(counts.get(element, 0) for element in ELEMENTS), chars, np.nan if tokens is None else tokens]
