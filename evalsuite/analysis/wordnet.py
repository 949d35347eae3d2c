"""WordNet, if it is on this machine: synonyms for METEOR, and which words are adjectives."""

from __future__ import annotations

import os
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import nltk  # type: ignore[import-untyped]
from nltk.corpus.reader.wordnet import WordNetCorpusReader  # type: ignore[import-untyped]

from evalsuite.assets.locations import mirror_root


class WordNet(WordNetCorpusReader):  # type: ignore[misc]
    """NLTK's reader of the English WordNet, with a cache."""

    def __init__(self, root: Any) -> None:
        with warnings.catch_warnings():
            # It warns that other languages are missing; only English is needed.
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(root, None)
        self.synsets = lru_cache(maxsize=1 << 20)(super().synsets)

    def map_wn(self, version: str = "wordnet") -> None:
        """Skip the map to other versions, which the constructor would build slowly."""

    def is_adjective(self, word: str) -> bool:
        """Whether ``word``, or its base form, is an adjective at least as often as all else together.

        Frequencies are WordNet's own counts over tagged text; for a word without counts, its number of meanings.
        """
        uses = {"a": 0, "other": 0}
        meanings = {"a": 0, "other": 0}
        for synset in self.synsets(word):
            kind = "a" if synset.pos() in {"a", "s"} else "other"
            meanings[kind] += 1
            base = self.morphy(word, synset.pos()) or word
            uses[kind] += sum(lemma.count() for lemma in synset.lemmas() if lemma.name().lower() == base)
        counted = uses if any(uses.values()) else meanings
        return meanings["a"] > 0 and counted["a"] >= counted["other"]


def find_wordnet() -> WordNet | None:
    """Return WordNet from NLTK_DATA, the mirror's ``nltk_data`` or NLTK's default folders; None if not found.

    A folder that NLTK refuses because others may write to it is skipped; NLTK itself warns about it.
    """
    mirror = mirror_root()
    named = [folder for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    folders = [*named, *([str(mirror / "nltk_data")] if mirror else []), *nltk.data.path]
    for folder in dict.fromkeys(str(Path(folder).expanduser()) for folder in folders):
        try:
            return WordNet(nltk.data.find("corpora/wordnet/", paths=[folder]))
        except LookupError:
            continue
    return None
