"""The judges of a comparison: who they are, how each is asked, and what is known about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint, resolve
from evalsuite.comparison.games import (
    FULL_MAX_NEW_TOKENS,
    MINI_MAX_NEW_TOKENS,
    Judging,
    hides_probabilities,
    pair_template,
)
from evalsuite.comparison.servers import Servers
from evalsuite.config import RunConfig
from evalsuite.errors import UsageError
from evalsuite.files import read_json
from evalsuite.progress import Progress
from evalsuite.runs.documents import TOO_SMALL_TO_BELIEVE
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
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    card = read_json(path)
    agreement = card.get("agreement") or {}
    summary = {name: (card.get("conclusions") or {}).get(name) for name in _CARD_FIGURES}
    return {
        "method": (card.get("judge") or {}).get("method"),
        "accuracy": agreement.get("accuracy"),
        "ci95": agreement.get("ci95"),
        "kappa": agreement.get("kappa"),
        **summary,
    }


def resolve_judges(words: Sequence[str], config: RunConfig, progress: Progress) -> list[Checkpoint]:
    """Find the judges' checkpoints; raises UsageError for none, or for one that is given twice."""
    if not words:
        raise UsageError("no judge given; name one or several with --judge MODEL")
    found = [
        resolve(
            word,
            allow_pickle=config.allow_pickle,
            trust_remote_code=config.runs_remote_code,
            on_step=progress.step,
        )
        for word in words
    ]
    keys = [(judge.fingerprint, judge.chat_template) for judge in found]
    if twice := [judge.name for judge, key in zip(found, keys, strict=True) if keys.count(key) > 1]:
        raise UsageError(f"judge {twice[0]} is given twice; name each judge once")
    return found


def settle_judge(
    checkpoint: Checkpoint,
    servers: Servers,
    config: RunConfig,
    *,
    method: Method,
    template: Path | None,
    margin: float = 0.0,
    max_new_tokens: int | None = None,
    progress: Progress,
) -> Judge:
    """Settle how a judge is asked and say its notes; one that hides its probabilities falls to ``reasoned``."""
    notes = [TOO_SMALL_TO_BELIEVE] if checkpoint.name == "demo" else []
    if method == "verdict" and (why := why_no_probabilities(checkpoint, servers, LABELS)):
        method = "reasoned"
        notes.append(f"it gives no log-probabilities for A and B ({why}), so it reasons and then chooses")
        if template is not None:
            notes.append(f"{template.name} asks for one letter, so our own reasoned template is used")
            template = None
    usual = MINI_MAX_NEW_TOKENS if config.data == "mini" else FULL_MAX_NEW_TOKENS
    how = Judging(method, pair_template(template, method), max_new_tokens or usual, margin)
    for note in notes:
        progress.say(f"judge {checkpoint.name}: {note}")
    return Judge(checkpoint.name, checkpoint, how, tuple(notes))


def why_no_probabilities(checkpoint: Checkpoint, servers: Servers, labels: Sequence[str]) -> str | None:
    """Ask a judge once for the probabilities of ``labels``; None when it gives them, else why not."""
    answers: list[str | None] = []

    async def probe(client: Chat) -> None:
        answers.append(await hides_probabilities(client, labels))

    servers.ask_all(checkpoint, lambda client: [probe(client)], candidate=False)
    return answers[-1]
