"""The words of a judgment: how they are split, negations included, and which of them describe an answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from evalsuite.analysis.wordnet import WordNet, find_wordnet
from evalsuite.errors import DataError

_WORD = re.compile(r"[a-z]+(?:['’][a-z]+)*(?:-[a-z]+)*")
_NEGATIONS = frozenset({"not", "no", "never", "without", "hardly", "cannot", "nor", "neither"})
_BETWEEN = frozenset(
    {"a", "an", "the", "very", "as", "so", "too", "quite", "fully", "entirely", "always", "particularly", "really"}
)
_EXCERPT = 140


def terms(text: str) -> list[str]:
    """Return the words of a judgment in lower case; a negated word is a separate one, as in ``not clear``.

    A word is negated right after not, no, never, without, hardly, cannot or a form with n't, small words skipped.
    """
    words: list[str] = []
    negated = False
    for match in _WORD.finditer(text.lower()):
        word = match.group().replace("’", "'")
        if word in _NEGATIONS or word.endswith("n't"):
            negated = True
            words.append(word)
            continue
        words.append(f"not {word}" if negated and word not in _BETWEEN else word)
        negated = negated and word in _BETWEEN
    return words


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Which words count: complaints, adjectives, a user's own, or all but function words."""

    complaints: frozenset[str]
    own: frozenset[str]
    listed: frozenset[str]
    function_words: frozenset[str]
    wordnet: WordNet | None
    all_words: bool
    adjectives: str
    notes: tuple[str, ...]

    def kind(self, term: str) -> str | None:
        """Return the kind of a term, None where it does not count."""
        word = term.removeprefix("not ")
        if term in self.own or word in self.own:
            return "own"
        if word in self.complaints:
            return "complaint"
        if word in self.function_words or len(word) < 3:
            return None
        if word in self.listed if self.wordnet is None else self.wordnet.is_adjective(word):
            return "adjective"
        return "word" if self.all_words else None

    def wanted(self, term: str) -> bool:
        return self.kind(term) is not None


def read_lexicon(own_words: Path | None = None, *, all_words: bool = False) -> Lexicon:
    """Return the words that count, with a user's own from a file; raises DataError when that cannot be read."""
    wordnet = find_wordnet()
    adjectives = f"WordNet {wordnet.get_version()}" if wordnet else "evalsuite's list"
    return Lexicon(
        complaints=frozenset(_shipped("complaints.txt")),
        own=frozenset(_read_words(own_words)) if own_words else frozenset(),
        listed=frozenset(_shipped("adjectives.txt")),
        function_words=frozenset(_shipped("function_words.txt")),
        wordnet=wordnet,
        all_words=all_words,
        adjectives=adjectives,
        notes=(f"adjectives are those of {adjectives}; complaint words are evalsuite's list (--words adds to it)",),
    )


def _shipped(name: str) -> list[str]:
    return _lines(files("evalsuite.analysis").joinpath("words", name).read_text(encoding="utf-8"))


def _lines(text: str) -> list[str]:
    return [line.strip().lower() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _read_words(path: Path) -> list[str]:
    try:
        words = _lines(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} ({error}); give a text file with one word per line") from error
    if not words:
        raise DataError(f"{path} has no words; give one per line")
    return words


def excerpt(text: str, term: str) -> str:
    """Return the text of a judgment around the first occurrence of ``term``."""
    word = term.removeprefix("not ")
    negated = r"(?:\w+n['’]t|not|no|never|without|hardly|cannot|nor|neither)(?:\W+\w+){0,3}?\W+" if term != word else ""
    match = re.search(rf"\b{negated}{re.escape(word)}\b", text, re.IGNORECASE)
    at = match.start() if match else 0
    start, end = max(0, at - _EXCERPT), min(len(text), at + len(word) + _EXCERPT)
    around = " ".join(text[start:end].split())
    return ("…" if start else "") + around + ("…" if end < len(text) else "")
