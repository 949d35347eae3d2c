"""The cards of judges in a results folder: where they are kept, what they conclude, and what weight a judge has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.errors import UsageError
from evalsuite.files import read_json

CARD_FILE = "card.json"
_CARD_FIGURES = ("verdict", "words")


def card_path(results: Path, checkpoint: Checkpoint, key: str | None = None) -> Path:
    """Return where the card of a judge is kept that was made under ``key``, or without one the last that was made."""
    return results / "judges" / checkpoint.slug / (CARD_FILE if key is None else f"card-{key}.json")


def card_summary(
    results: Path, checkpoint: Checkpoint, method: str | None = None, template_sha256: str | None = None
) -> dict[str, Any] | None:
    """Return what a stored card concludes; None without a card of this method and template (None: of any).

    Of several, on other pairs, it is the one with the most pairs.
    """
    cards = _largest_first(card_path(results, checkpoint).parent, "card*.json", "pairs", method, template_sha256)
    if (card := next(iter(cards), None)) is None:
        return None
    figures, pairs = card.get("agreement") or {}, card.get("pairs") or {}
    return {
        "method": card["judge"].get("method"),
        "pairs": f"{pairs.get('name')} ({pairs.get('n')} pairs)",
        **{name: figures.get(name) for name in ("accuracy", "ci95", "kappa")},
        **{name: (card.get("conclusions") or {}).get(name) for name in _CARD_FIGURES},
    }


def _largest_first(
    folder: Path, pattern: str, counted: str, method: str | None, template_sha256: str | None
) -> list[dict[str, Any]]:
    """Return the stored cards of a method and template (None: of any), those with most pairs or labels first."""
    cards = [read_json(path) for path in sorted(folder.glob(pattern))]
    judged = [card for card in cards if isinstance(card, dict) and isinstance(card.get("judge"), dict)]
    wanted = (method, template_sha256)
    fitting = [
        card
        for card in judged
        if method is None or (card["judge"].get("method"), card["judge"].get("template_sha256")) == wanted
    ]
    return sorted(fitting, key=lambda card: (card.get(counted) or {}).get("n") or 0, reverse=True)


def rating_card_path(results: Path, checkpoint: Checkpoint, key: str) -> Path:
    """Return where a card of ratings is kept: beside the cards of pairs."""
    return results / "judges" / checkpoint.slug / f"rating-card-{key}.json"


def rating_card_summary(
    results: Path, checkpoint: Checkpoint, method: str, template_sha256: str | None, factors: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what the stored card of ratings says that has the most labels, None without one.

    ``factors`` are those that are rated now, as they are described in a document: the correlation of each is given
    that was asked in the same words and scale.
    """
    cards = _largest_first(card_path(results, checkpoint).parent, "rating-card-*", "labels", method, template_sha256)
    if (card := next((one for one in cards if isinstance(one.get("factors"), dict)), None)) is None:
        return None
    labels = card.get("labels") or {}
    known = {
        name: {**figures["spearman"], "n": figures["n_scored"]}
        for name, figures in card["factors"].items()
        if factors.get(name) == figures.get("asked")
    }
    return {
        "method": method,
        "pairs": f"{labels.get('name')} ({labels.get('n')} answers rated by people)",
        "factors": known or None,
        **{name: (card.get("conclusions") or {}).get(name) for name in _CARD_FIGURES},
    }


def card_weights(names: Sequence[str], cards: Sequence[Mapping[str, Any] | None]) -> tuple[float, ...]:
    """Return the weight of each judge by the agreement with people on its card, the log-odds of being right.

    Raises UsageError for a judge without a card, and if no judge is right more often than chance.
    """
    known = [(card or {}).get("accuracy") for card in cards]
    for name, accuracy in zip(names, known, strict=True):
        if not isinstance(accuracy, int | float):
            raise UsageError(
                f"the judge {name} has no card to weigh it by; run evalsuite judge-card with the same --results, or "
                "leave out --judge-weights"
            )
    from judges.panel import weight_by_accuracy

    weights = tuple(weight_by_accuracy(float(accuracy)) for accuracy in known if accuracy is not None)
    if not any(weights):
        raise UsageError(f"by their cards, none of {', '.join(names)} is right more often than chance; choose others")
    return weights
