"""ROUGE-1, ROUGE-L and METEOR of all pairs of answers to one prompt.

The figures are those of ``rouge-score`` 0.1.2 (stemmer on, F-measure) and of NLTK's ``meteor_score`` (alpha 0.9,
beta 3, gamma 0.5), which the paper used (penfever/wildchat-50m@285b20a:notebooks/textual_similarity.ipynb).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations, permutations

import numpy as np
from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]
from nltk.translate.meteor_score import single_meteor_score  # type: ignore[import-untyped]
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq

from evalsuite.analysis.wordnet import WordNet

Scores = NDArray[np.float64]
"""(n texts, n texts): row i, column j is text i scored against text j; NaN on the diagonal and without any word."""

_ROUGE_TOKEN = re.compile(r"[a-z0-9]+")
_STEM_FROM = 4


class _Stemmer(PorterStemmer):  # type: ignore[misc]
    """NLTK's stemmer with a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = lru_cache(maxsize=1 << 20)(super().stem)


class _NoSynonyms:
    def synsets(self, _word: str) -> list[object]:
        return []


_STEMMER = _Stemmer()


def rouge_tokens(text: str) -> list[str]:
    """Return a text's tokens as ``rouge-score`` does: runs of a-z and 0-9, stemmed from 4 characters on."""
    tokens = _ROUGE_TOKEN.findall(text.lower())
    return [_STEMMER.stem(token) if len(token) >= _STEM_FROM else token for token in tokens]


def rouge(texts: Sequence[Sequence[str]]) -> tuple[Scores, Scores]:
    """Return ROUGE-1 and ROUGE-L of tokenized texts, as F-measures in [0, 1]; both are symmetric.

    Source: Lin 2004, as rouge-score 0.1.2 computes it: twice the common tokens, or the length of the longest
    common subsequence, over the sum of both lengths.
    """
    rouge_1, rouge_l = np.full((2, len(texts), len(texts)), np.nan)
    counts = [Counter(text) for text in texts]
    for i, j in combinations(range(len(texts)), 2):
        if texts[i] and texts[j]:
            length = len(texts[i]) + len(texts[j])
            rouge_1[i, j] = rouge_1[j, i] = 2 * (counts[i] & counts[j]).total() / length
            rouge_l[i, j] = rouge_l[j, i] = 2 * LCSseq.similarity(texts[i], texts[j]) / length
    return rouge_1, rouge_l


def meteor(texts: Sequence[Sequence[str]], wordnet: WordNet | None) -> Scores:
    """Return METEOR in [0, 1]: row i is text i as the hypothesis, column j text j as the reference.

    Texts are lists of words, as the paper passed them: split at white space. Without ``wordnet`` synonyms do not match.
    Source: Lavie and Agarwal 2007, as nltk.translate.meteor_score computes it.
    """
    scores = np.full((len(texts), len(texts)), np.nan)
    for i, j in permutations(range(len(texts)), 2):
        if texts[i] and texts[j]:
            scores[i, j] = single_meteor_score(
                texts[j], texts[i], stemmer=_STEMMER, wordnet=_NoSynonyms() if wordnet is None else wordnet
            )
    return scores
