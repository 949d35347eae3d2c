"""Similarity of models' answers to the same prompts: ROUGE-1, ROUGE-L and METEOR.

A model's intra-set average (WILDCHAT-50M, arXiv 2501.18511, appendix A and Table 5) is its mean similarity to the other
models. Ours is a true mean over every prompt and every other model. ``as_published`` follows the authors' notebook
(penfever/wildchat-50m@285b20a:notebooks/textual_similarity.ipynb): at most five sampled models to compare with, 500
prompts, and an exponential moving average (alpha 0.3) instead of the mean; there in the order of the conversations'
hashes, here of the prompts'. Where its alignment failed the notebook used the previous model's data, which we do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import combinations
from typing import Literal

import numpy as np

from evalsuite.analysis.answers import Answer, Answers, check_names, read_answers
from evalsuite.analysis.document import Analysis, analysis_name, listed
from evalsuite.analysis.overlap import meteor, rouge, rouge_tokens
from evalsuite.analysis.settings import SimilarityConfig
from evalsuite.analysis.similarity_tables import (
    METEOR,
    METEOR_WITHOUT_SYNONYMS,
    N_BOOT,
    ROUGE_1,
    ROUGE_L,
    SEED,
    Values,
    charts_of,
    matrix_tables,
    models_table,
    pairs_table,
    published_table,
)
from evalsuite.analysis.wordnet import WordNet, find_wordnet
from evalsuite.errors import DataError, UsageError
from evalsuite.progress import NoProgress, Progress
from evalsuite.text import plural

_PUBLISHED_PROMPTS = 500
_TASK = "similarity"


@dataclass(frozen=True, slots=True)
class Aligned:
    """The answers of every model to the prompts that all answered: ``answers[model][prompt]``."""

    names: tuple[str, ...]
    answers: tuple[tuple[Answer, ...], ...]
    notes: tuple[str, ...]

    @property
    def clusters(self) -> list[str]:
        """The conversation of each prompt."""
        return [answer.cluster for answer in self.answers[0]]


def similarity(config: SimilarityConfig, progress: Progress | None = None) -> Analysis:
    """Compare the answers of ``config.answers``; raises UsageError or DataError.

    METEOR uses synonyms where WordNet is on this machine. Without them its values are lower, so the figure has another
    name, key and note.
    """
    progress = progress or NoProgress()
    if len(config.answers) < 2:
        raise UsageError(f"similarity compares models; give two or more (got {' '.join(config.answers) or 'none'})")
    given = [read_answers(spec, config.results) for spec in config.answers]
    limit = min(config.limit or _PUBLISHED_PROMPTS, _PUBLISHED_PROMPTS) if config.as_published else config.limit
    aligned = align(given, turns=config.turns, limit=limit, sources=config.source)
    wordnet = find_wordnet() if config.synonyms else None
    values, notes = compare(aligned, wordnet, progress)
    return _document(config, given, aligned, values, wordnet, [*aligned.notes, *notes])


def align(
    given: Sequence[Answers],
    *,
    turns: Literal["first", "both"] = "first",
    limit: int | None = None,
    sources: Sequence[str] = (),
) -> Aligned:
    """Keep the prompts that every model answered, in the order of their hashes.

    Raises UsageError for two models of one name, DataError with the counts when no prompt is left.
    """
    names = tuple(one.name for one in given)
    check_names(names)

    def is_wanted(answer: Answer) -> bool:
        return (turns == "both" or answer.turn == 1) and (not sources or answer.source in sources)

    by_prompt = [{key: answer for key, answer in one.by_prompt.items() if is_wanted(answer)} for one in given]
    notes: list[str] = []
    for one in given:
        kept = [answer.prompt_hash for answer in one.answers if is_wanted(answer)]
        if repeated := len(kept) - len(set(kept)):
            notes.append(f"{one.name}: left out: {plural(repeated, 'repeated answer')} to the same prompt")
        notes += [f"{one.name}: {count} without an answer ({reason})" for reason, count in one.unscored.items()]
    common = set.intersection(*map(set, by_prompt))
    if not common:
        raise DataError(_nothing_common(names, by_prompt))
    largest = max(len(answers) for answers in by_prompt)
    if len(common) < largest:
        counts = ", ".join(f"{name} {len(answers)}" for name, answers in zip(names, by_prompt, strict=True))
        notes.append(f"only prompts that every model answered count: {len(common)} (answered: {counts})")
    order = sorted(common)[: limit or None]
    return Aligned(names, tuple(tuple(answers[key] for key in order) for answers in by_prompt), tuple(notes))


def _nothing_common(names: Sequence[str], by_prompt: Sequence[dict[str, Answer]]) -> str:
    pairs = combinations(range(len(names)), 2)
    shared, a, b = min((len(by_prompt[a].keys() & by_prompt[b].keys()), a, b) for a, b in pairs)
    of_all = f"no prompt is answered by all {len(names)} models" if len(names) > 2 else "the models share no prompt"
    return (
        f"{of_all}: {names[a]} answers {len(by_prompt[a])} and {names[b]} {len(by_prompt[b])}, {shared} in common; "
        "give answers to the same prompts"
    )


def compare(aligned: Aligned, wordnet: WordNet | None, progress: Progress) -> tuple[Values, list[str]]:
    """Score all pairs of models on every prompt: arrays (models, models, prompts), and notes on unscored answers."""
    n, n_prompts = len(aligned.names), len(aligned.answers[0])
    of_meteor = METEOR if wordnet else METEOR_WITHOUT_SYNONYMS
    values = {metric: np.full((n, n, n_prompts), np.nan) for metric in (ROUGE_1, ROUGE_L, of_meteor)}
    n_without_tokens = [0] * n
    progress.begin(_TASK, n_prompts)
    for prompt in range(n_prompts):
        texts = [answers[prompt].text for answers in aligned.answers]
        tokens = [rouge_tokens(text) for text in texts]
        n_without_tokens = [count + (not each) for count, each in zip(n_without_tokens, tokens, strict=True)]
        values[ROUGE_1][:, :, prompt], values[ROUGE_L][:, :, prompt] = rouge(tokens)
        values[of_meteor][:, :, prompt] = meteor([text.split() for text in texts], wordnet)
        progress.advance(_TASK)
    notes = []
    for name, answers, n_empty in zip(aligned.names, aligned.answers, n_without_tokens, strict=True):
        if n_empty:
            notes.append(f"{name}: {n_empty} of {n_prompts} answers have no a-z or 0-9 and are unscored by ROUGE")
        foreign = sum(_mostly_foreign(answer.text) for answer in answers) - n_empty
        if foreign > 0:
            notes.append(f"{name}: {plural(foreign, 'answer')} mostly in letters other than a-z, which ROUGE ignores")
    return values, notes


def _mostly_foreign(text: str) -> bool:
    letters = [letter for letter in text if letter.isalpha()]
    return 2 * sum(letter.isascii() for letter in letters) < len(letters) if letters else not text.isascii()


def _document(
    config: SimilarityConfig,
    given: Sequence[Answers],
    aligned: Aligned,
    values: Values,
    wordnet: WordNet | None,
    notes: Sequence[str],
) -> Analysis:
    names, clusters = aligned.names, aligned.clusters
    if wordnet is None:
        notes = [*notes, "METEOR without synonyms (WordNet was not used): not comparable with Table 5"]
    if config.as_published:
        tables = [published_table(names, values, notes)]
    else:
        tables = [
            models_table(names, values, clusters, notes),
            pairs_table(names, values, clusters),
            *matrix_tables(names, values),
        ]
    how = "Means over all prompts, with 95 % bootstrap intervals over conversations."
    return Analysis(
        kind="similarity",
        name=analysis_name((config.name,) if config.name else names) + ("-as-published" if config.as_published else ""),
        title=f"Similarity: {listed(names)}",
        about=f"Word overlap between the models' answers to {plural(len(clusters), 'prompt')}, from 0 to 1. "
        + ("Moving averages, as in the paper." if config.as_published else how),
        provenance={
            "answers": [one.as_provenance() for one in given],
            "n_prompts": len(clusters),
            "turns": config.turns,
            "limit": config.limit,
            "as_published": config.as_published,
            "meteor": f"WordNet {wordnet.get_version()}" if wordnet else "without synonyms",
            "bootstrap": None if config.as_published else {"n": N_BOOT, "seed": SEED, "unit": "conversation"},
            "versions": {name: metadata.version(name) for name in ("evalsuite", "nltk", "rapidfuzz")},
        },
        tables=tables,
        charts=charts_of(tables, len(names)),
    )
