"""The judges of a comparison: who they are, how each is asked, and what is known about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.comparison.games import (
    FULL_MAX_NEW_TOKENS,
    MINI_MAX_NEW_TOKENS,
    Judging,
    hides_probabilities,
    pair_template,
)
from evalsuite.comparison.servers import Servers
from evalsuite.errors import UsageError
from evalsuite.files import read_json
from evalsuite.progress import Progress
from evalsuite.runs.documents import DEMO_NOTE
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.requests import Chat
from judges.verdicts import LABELS, Method

CARD_FILE = "card.json"
_CARD_FIGURES = ("believable", "told_from_chance", "position_dominates", "attacks_gain", "words")


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge with its way of judging; ``notes`` say what a reader must know about it."""

    name: str
    checkpoint: Checkpoint
    how: Judging
    notes: tuple[str, ...] = ()

    def described(self, results: Path) -> dict[str, Any]:
        """Return what stands in every file that rests on this judge."""
        return {
            "name": self.name,
            "fingerprint": self.checkpoint.fingerprint,
            "method": self.how.method,
            "template_sha256": self.how.template.sha256,
            "tie_margin": self.how.margin,
            "max_judge_tokens": self.how.max_new_tokens if self.how.method == "reasoned" else None,
            "notes": list(self.notes),
            "card": card_summary(results, self.checkpoint, self.how.method),
        }


def card_path(results: Path, checkpoint: Checkpoint, method: str | None = None) -> Path:
    """Return where a judge's card of one method is kept, or without a method the card that was made last."""
    return results / "judges" / checkpoint.slug / (CARD_FILE if method is None else f"card-{method}.json")


def card_summary(results: Path, checkpoint: Checkpoint, method: str | None = None) -> dict[str, Any] | None:
    """Return what a stored card concludes, with the accuracy it rests on; None without a card.

    The card of this very method comes first; another one says by its ``method`` that it is another.
    """
    paths = (card_path(results, checkpoint, method), card_path(results, checkpoint))
    card = next((read_json(path) for path in paths if path.is_file()), None)
    if card is None:
        return None
    agreement, conclusions = card.get("agreement") or {}, card.get("conclusions") or {}
    return {
        "method": (card.get("judge") or {}).get("method"),
        **{name: agreement.get(name) for name in ("accuracy", "ci95", "kappa")},
        **{name: conclusions.get(name) for name in _CARD_FIGURES},
    }


def resolve_judges(specs: Sequence[str], serve: ServeConfig, progress: Progress) -> list[Checkpoint]:
    """Find the judges' checkpoints; raises UsageError for a duplicate one."""
    judges = [serve.resolve(spec, on_step=progress.step) for spec in specs]
    keys = [(judge.fingerprint, judge.chat_template) for judge in judges]
    if duplicates := [judge.name for judge, key in zip(judges, keys, strict=True) if keys.count(key) > 1]:
        raise UsageError(f"duplicate judge {duplicates[0]}")
    return judges


def settle_judge(
    checkpoint: Checkpoint,
    servers: Servers,
    *,
    method: Method,
    template: Path | None,
    data: str = "full",
    margin: float = 0.0,
    max_new_tokens: int | None = None,
    progress: Progress,
) -> Judge:
    """Settle how a judge is asked and log its notes; one that hides its probabilities falls back to ``reasoned``."""
    notes = [DEMO_NOTE] if checkpoint.name == "demo" else []
    if method == "verdict" and (why := why_no_probabilities(checkpoint, servers, LABELS)):
        method = "reasoned"
        notes.append(f"it gives no log-probabilities for A and B ({why}), so it reasons and then chooses")
        if template is not None:
            notes.append(f"{template.name} asks for one letter, so our own reasoned template is used")
            template = None
    usual = MINI_MAX_NEW_TOKENS if data == "mini" else FULL_MAX_NEW_TOKENS
    how = Judging(method, pair_template(template, method), max_new_tokens or usual, margin)
    for note in notes:
        progress.log(f"judge {checkpoint.name}: {note}")
    return Judge(checkpoint.name, checkpoint, how, tuple(notes))


def why_no_probabilities(checkpoint: Checkpoint, servers: Servers, labels: Sequence[str]) -> str | None:
    """Ask a judge once for the probabilities of ``labels``; None when it gives them, else why not."""
    answers: list[str | None] = []

    async def probe(client: Chat) -> None:
        answers.append(await hides_probabilities(client, labels))

    servers.ask_all(checkpoint, lambda client: [probe(client)], candidate=False)
    return answers[-1]
