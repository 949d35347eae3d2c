"""The words that distinguish two models' judgments, as in Figures 3 and 4 of WILDCHAT-50M (arXiv 2501.18511).

The figures show common words of the judgments whose ratings differ between two models, negations separate. They rank by
raw frequency; here a word's log-odds ratio has an informative Dirichlet prior, the pooled words of both sides, which
keeps rare words from the top: Monroe, Colaresi and Quinn 2008, "Fightin' Words" (Political Analysis 16, 372-403).
The tests of all words are corrected together (Holm). Words of one judgment are not independent,
so the intervals resample whole questions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.analysis.document import Analysis, Chart, Column, Table, analysis_name, cell
from evalsuite.analysis.judge_words import Lexicon, excerpt, read_lexicon, terms
from evalsuite.analysis.judgments import Judgment, Judgments, read_judgments, read_verdicts
from evalsuite.analysis.settings import KeywordsConfig
from evalsuite.errors import DataError, UsageError
from evalsuite.text import plural
from judges.statistics import holm_correction, percentile_ci

PRIOR_WORDS = 500.0
N_BOOT, SEED = 2000, 0
_N_EXAMPLES = 3
Floats = NDArray[np.float64]


def keywords(config: KeywordsConfig) -> Analysis:
    """Compare the words of two models' judgments; raises UsageError or DataError."""
    a, b, notes = _sides(config)
    lexicon = read_lexicon(config.words, all_words=config.all_words)
    counted = [[(judgment, terms(judgment.text)) for judgment in side.judgments] for side in (a, b)]
    figures = distinguishing_words(
        [[(judgment.item, words) for judgment, words in side] for side in counted],
        lexicon.wanted,
        min_count=config.min_count,
    )
    if not figures:
        raise DataError(
            f"no word that counts occurs {plural(config.min_count, 'time')} in the judgments ({len(a.judgments)} and "
            f"{len(b.judgments)}); lower --min-count, or pass --all-words"
        )
    tables = [_sides_table(a, b, counted, [*notes, *lexicon.notes])]
    tables += [_words_table(side, (a, b), figures, config.top, lexicon) for side in (0, 1)]
    return Analysis(
        kind="keywords",
        name=analysis_name((config.name or f"{a.name}-vs-{b.name}",)),
        title=f"Words of the judgments: {a.name}, {b.name}",
        about="Log-odds ratios of words with the pooled words as prior, above 0 where a word is more common on that "
        "side. Intervals are 95 % bootstrap intervals over questions; p is corrected for the number of words.",
        provenance={
            "judgments": [
                {"name": s.name, "fingerprint": s.fingerprint, "n": len(s.judgments), "without_words": s.left_out}
                for s in (a, b)
            ],
            "comparison": config.comparison,
            "only_differing_ratings": not config.all_judgments and config.comparison is None,
            "adjectives": lexicon.adjectives,
            "min_count": config.min_count,
            "prior_words": PRIOR_WORDS,
            "n_words_tested": len(figures),
            "bootstrap": {"n": N_BOOT, "seed": SEED, "unit": "question"},
            "versions": {"evalsuite": metadata.version("evalsuite")},
        },
        tables=tables,
        charts=[Chart(table.id, table.title, "bars", table.id, "word", ("z",), table.source) for table in tables[1:]],
        examples=_examples(tables[1:], (a, b), counted),
    )


def _sides(config: KeywordsConfig) -> tuple[Judgments, Judgments, list[str]]:
    if config.comparison is not None:
        if len(config.judgments) not in {0, 2}:
            raise UsageError(f"give two models of the comparison, or none (got {len(config.judgments)})")
        a, b = read_verdicts(config.comparison, config.results, config.judgments)
        return a, b, ["a judgment of two answers counts for the preferred one; ties are left out"]
    if len(config.judgments) != 2:
        raise UsageError(f"keywords compare two models' judgments; give two (got {len(config.judgments)})")
    a, b = (read_judgments(spec, config.results) for spec in config.judgments)
    if a.name == b.name:
        raise UsageError(f"both are called {a.name!r}; name them as NAME=PATH")
    notes = [f"{s.name}: left out without text: {plural(s.left_out, 'judgment')}" for s in (a, b) if s.left_out]
    if config.all_judgments:
        return a, b, notes
    a, b, note = only_differing(a, b)
    return a, b, [*notes, note]


def only_differing(a: Judgments, b: Judgments) -> tuple[Judgments, Judgments, str]:
    """Keep the judgments of items that both models have a rating for, and not the same; raises DataError for none."""
    rated = [{j.item: j.rating for j in side.judgments if j.rating is not None} for side in (a, b)]
    common = set(rated[0]) & set(rated[1])
    differing = {item for item in common if rated[0][item] != rated[1][item]}
    if not differing:
        raise DataError(
            f"{a.name} and {b.name} have {plural(len(common), 'rated judgment')} of the same items and no ratings that "
            "differ; pass --all-judgments to compare all words"
        )
    kept = [
        Judgments(s.name, s.fingerprint, tuple(j for j in s.judgments if j.item in differing), s.left_out)
        for s in (a, b)
    ]
    note = f"the judgments of {plural(len(differing), 'item')} whose ratings differ, of {len(common)} that both have"
    return kept[0], kept[1], note


@dataclass(frozen=True, slots=True)
class WordFigure:
    """One word with its counts on both sides. ``log_odds`` is above 0 where it is more common on the first side."""

    word: str
    counts: tuple[int, int]
    per_thousand: tuple[float, float]
    log_odds: float
    ci95: tuple[float, float] | None
    z: float
    p_holm: float


def log_odds(counts: Floats, totals: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """Return the log-odds ratios of words and their z-scores.

    ``counts`` is (2, words), ``totals`` (2,) the number of words per side, ``prior`` (words,) pseudo-counts out of
    :data:`PRIOR_WORDS`. Source: Monroe, Colaresi and Quinn 2008, the informative Dirichlet prior.
    """
    ratios = np.log(counts + prior) - np.log(totals[:, None] + PRIOR_WORDS - counts - prior)
    deviation = np.sqrt((1 / (counts + prior)).sum(axis=0))
    difference = ratios[0] - ratios[1]
    return difference, difference / deviation


def distinguishing_words(
    sides: Sequence[Sequence[tuple[str, Sequence[str]]]], wanted: Any, *, min_count: int
) -> list[WordFigure]:
    """Return a figure for every wanted word that occurs ``min_count`` times, the first side's words first.

    ``sides`` are two lists of (item, words of the judgment). The prior is computed from all words, wanted or not.
    """
    everything = [Counter(word for _, words in side for word in words) for side in sides]
    totals = np.array([sum(counter.values()) for counter in everything], dtype=np.float64)
    pooled = everything[0] + everything[1]
    words = sorted(word for word, count in pooled.items() if count >= min_count and wanted(word))
    if not words or not totals.all():
        return []
    counts = np.array([[counter[word] for word in words] for counter in everything], dtype=np.float64)
    prior = PRIOR_WORDS * counts.sum(axis=0) / totals.sum()
    difference, z = log_odds(counts, totals, prior)
    corrected = holm_correction([math.erfc(abs(each) / math.sqrt(2)) for each in z])
    intervals = _intervals(sides, words, prior)
    shares = 1000 * counts / totals[:, None]
    columns = (counts.T.astype(int), shares.T, difference, intervals, z, corrected)
    figures = [
        WordFigure(word, tuple(ns.tolist()), tuple(per_thousand.tolist()), float(odds), interval, float(score), p)
        for word, ns, per_thousand, odds, interval, score, p in zip(words, *columns, strict=True)
    ]
    return sorted(figures, key=lambda figure: (-figure.z, figure.word))


def _intervals(
    sides: Sequence[Sequence[tuple[str, Sequence[str]]]], words: Sequence[str], prior: Floats
) -> list[tuple[float, float] | None]:
    """Resample whole questions, with both sides' judgments of each; the prior is fixed."""
    items = {item: i for i, item in enumerate(dict.fromkeys(item for side in sides for item, _ in side))}
    if len(items) < 2:
        return [None] * len(words)
    column = {word: i for i, word in enumerate(words)}
    counts, totals = np.zeros((2, len(items), len(words))), np.zeros((2, len(items)))
    for number, side in enumerate(sides):
        for item, judgment in side:
            totals[number, items[item]] += len(judgment)
            for word in judgment:
                if word in column:
                    counts[number, items[item], column[word]] += 1
    rng = np.random.default_rng(SEED)
    weights = rng.multinomial(len(items), np.full(len(items), 1 / len(items)), size=N_BOOT).astype(np.float64)
    drawn, sizes = weights @ counts, weights @ totals[:, :, None]
    ratios = np.log(drawn + prior) - np.log(sizes + PRIOR_WORDS - drawn - prior)
    return [percentile_ci(replicates) for replicates in (ratios[0] - ratios[1]).T]


def _sides_table(
    a: Judgments, b: Judgments, counted: Sequence[Sequence[tuple[Judgment, list[str]]]], notes: Sequence[str]
) -> Table:
    rows: list[Mapping[str, Any]] = []
    for side, judged in zip((a, b), counted, strict=True):
        ratings = [j.rating for j in side.judgments if j.rating is not None]
        rating = sum(ratings) / len(ratings) if ratings else None
        n_words = sum(len(words) for _, words in judged)
        rows.append({"model": side.name, "judgments": len(side.judgments), "words": n_words, "rating": rating})
    columns = [Column("model", "Judgments of"), Column("judgments", "judgments", "int")]
    columns += [Column("words", "words", "int"), Column("rating", "mean rating", "float2")]
    return Table("judgments", "Compared judgments", columns, rows, notes=notes)


def _words_table(
    side: int, sides: Sequence[Judgments], figures: Sequence[WordFigure], top: int, lexicon: Lexicon
) -> Table:
    sign = 1 if side == 0 else -1
    ordered = [figure for figure in (figures if side == 0 else reversed(figures)) if sign * figure.log_odds > 0]
    rows: list[dict[str, Any]] = [
        {
            "word": figure.word,
            "kind": lexicon.kind(figure.word),
            "count": figure.counts[side],
            "count_other": figure.counts[1 - side],
            "per_thousand": figure.per_thousand[side],
            "per_thousand_other": figure.per_thousand[1 - side],
            "log_odds": sign * figure.log_odds,
            "z": sign * figure.z,
            "p": figure.p_holm,
        }
        | cell("log_odds", sign * figure.log_odds, figure.ci95 and sorted(sign * end for end in figure.ci95))
        for figure in ordered[:top]
    ]
    columns = [
        Column("word", "Word"),
        Column("kind", "kind"),
        Column("count", "count", "int"),
        Column("count_other", "other side", "int"),
        Column("per_thousand", "per 1,000 words", "float2"),
        Column("per_thousand_other", "other side", "float2"),
        Column("log_odds", "log-odds", "float2"),
        Column("z", "z", "float2"),
        Column("p", "p (Holm)", "float3"),
    ]
    significant = sum(row["p"] < 0.05 for row in rows)
    return Table(
        id="words_a" if side == 0 else "words_b",
        title=f"Words more common in judgments of {sides[side].name}",
        columns=columns,
        rows=rows,
        source=f"WILDCHAT-50M, Figure {3 + side}",
        notes=[
            f"{significant} of these {len(rows)} differ at p < 0.05 after correction for {len(figures)} tested words"
        ],
    )


def _examples(
    tables: Sequence[Table], sides: Sequence[Judgments], counted: Sequence[Sequence[tuple[Judgment, list[str]]]]
) -> dict[str, list[dict[str, Any]]]:
    """Return for every word of the tables up to three excerpts per side, the side where it is more common first."""
    examples: dict[str, list[dict[str, Any]]] = {}
    for number, table in enumerate(tables):
        for row in table.rows:
            word = str(row["word"])
            examples[word] = [
                {"model": sides[side].name, "text": excerpt(j.text, word), "prompt": j.prompt}
                for side in (number, 1 - number)
                for j in [judgment for judgment, words in counted[side] if word in words][:_N_EXAMPLES]
            ]
    return examples
