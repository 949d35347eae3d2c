"""WordNet, where it is on this machine: synonyms for METEOR, and which words are adjectives."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from evalsuite.assets.locations import mirror_root

PLACE = "corpora/wordnet"


class WordNet:
    """NLTK's reader of WordNet 3.0. Each word is looked up once."""

    def __init__(self, reader: Any, version: str) -> None:
        self._reader = reader
        self.version = version
        self._synonyms: dict[str, frozenset[str]] = {}

    def synonyms(self, word: str) -> frozenset[str]:
        """Return the single words that share a meaning with ``word``, as NLTK's METEOR takes them."""
        if word not in self._synonyms:
            self._synonyms[word] = frozenset(
                name for synset in self._reader.synsets(word) for name in synset.lemma_names() if "_" not in name
            )
        return self._synonyms[word]

    def words(self) -> list[str]:
        """Return every single word of WordNet that is written in a-z, in alphabetical order."""
        return sorted({name for name in self._reader.all_lemma_names() if name.isascii() and name.isalpha()})

    def is_adjective(self, word: str) -> bool:
        """Whether ``word``, or what it is a form of, is used as an adjective at least as often as anything else.

        How often is WordNet's own count over tagged text; for a word that it never counted, by its meanings.
        """
        uses = {"a": 0, "other": 0}
        meanings = {"a": 0, "other": 0}
        for synset in self._reader.synsets(word):
            kind = "a" if synset.pos() in {"a", "s"} else "other"
            meanings[kind] += 1
            base = self._reader.morphy(word, synset.pos()) or word
            uses[kind] += sum(lemma.count() for lemma in synset.lemmas() if lemma.name().lower() == base)
        counted = uses if any(uses.values()) else meanings
        return meanings["a"] > 0 and counted["a"] >= counted["other"]


def find_wordnet() -> WordNet | None:
    """Return WordNet from NLTK_DATA, the mirror's ``nltk_data`` or NLTK's usual folders; None where it is in none.

    A folder that NLTK refuses, because others may write to it, is passed over; NLTK itself warns of it.
    """
    import nltk  # type: ignore[import-untyped]

    mirror = mirror_root()
    named = [folder for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    folders = [*named, *([str(mirror / "nltk_data")] if mirror else []), *nltk.data.path]
    for folder in dict.fromkeys(str(Path(folder).expanduser()) for folder in folders):
        for form, inside in ((PLACE, f"{PLACE}/"), (f"{PLACE}.zip", f"{PLACE}.zip/wordnet/")):
            if (Path(folder) / form).exists():
                try:
                    return _open(nltk.data.find(inside, paths=[folder]))
                except LookupError:
                    continue
    return None


def _open(root: Any) -> WordNet:
    from nltk.corpus.reader.wordnet import WordNetCorpusReader  # type: ignore[import-untyped]

    class EnglishReader(WordNetCorpusReader):  # type: ignore[misc]
        """NLTK's reader without the map to other versions, which takes longer to build than all the rest."""

        def map_wn(self, version: str = "wordnet") -> None:  # noqa: ARG002 - called by the reader's own constructor
            return None

    with warnings.catch_warnings():
        # It says that other languages are not there; only English is asked for.
        warnings.simplefilter("ignore", UserWarning)
        reader = EnglishReader(root, None)
    return WordNet(reader, str(reader.get_version()))
