"""What a server told of itself during a run, beside its answers: shown once, counted, and kept in the manifest."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from evalsuite.errors import ServerError
from evalsuite.serving.dialect import words_of
from evalsuite.text import printable
from judges.types import Unscored

ALIKE_LIMIT = 20
"""The first requests of a run, this many, may fail in the same way before the run is stopped."""
_OF_ONE_ITEM = frozenset({"context_length", "content_filter", "no_logprobs", "empty_reply"})
_MAX_KINDS = 50


@dataclass(slots=True)
class Refusal:
    """A kind of refusal: its first words and how often it came."""

    reason: str
    words: str
    count: int = 0


@dataclass(slots=True)
class Told:
    """What one server told; ``note`` shows a line to the user."""

    server: str
    note: Callable[[str], None]
    answered: int = 0
    """How many replies held what was asked for."""
    model: str | None = None
    fingerprints: dict[str, int] = field(default_factory=dict)
    greedy: list[list[str]] | None = None
    """Its answers to ``known_servers.QUESTIONS``, None if they were not asked."""
    changed: str | None = None
    """What it answers differently than in an earlier run."""
    _refusals: dict[tuple[str, str], Refusal] = field(default_factory=dict)
    _lost: dict[tuple[str, str], int] = field(default_factory=dict)

    def refused(self, reason: str, words: str) -> tuple[str, str]:
        """Count a refusal and show the first of its kind: the same words except for numbers and quoted names."""
        words = " ".join(printable(words_of(words)).split())
        kind = (reason, re.sub(r"\d+|'[^']*'|\"[^\"]*\"", "", words))
        if kind not in self._refusals and len(self._refusals) < _MAX_KINDS:
            self._refusals[kind] = Refusal(reason, words)
            self.note(f"{self.server}: {reason}: {words}")
        if kind in self._refusals:
            self._refusals[kind].count += 1
        return kind

    def failed(self, failure: Unscored) -> None:
        """Count a request that failed for good; raises ServerError if the first ones all fail in the same way."""
        kind = self.refused(failure.reason, failure.detail)
        if self.answered or failure.reason in _OF_ONE_ITEM:
            return
        self._lost[kind] = self._lost.get(kind, 0) + 1
        if len(self._lost) == 1 and self._lost[kind] >= ALIKE_LIMIT:
            why = f"{failure.reason}: {words_of(failure.detail)}"
            raise ServerError(
                f"{self.server} failed the first {ALIKE_LIMIT} requests in the same way ({why}); "
                "the run is stopped, check the model and its options with evalsuite doctor"
            )

    def counted(self) -> list[str]:
        """Return a line per kind of refusal that came more than once."""
        often = [each for each in self._refusals.values() if each.count > 1]
        return [f"{self.server}: {each.count} times {each.reason}: {each.words}" for each in often]

    def document(self) -> dict[str, Any]:
        refusals = [{"reason": r.reason, "words": r.words, "count": r.count} for r in self._refusals.values()]
        told = {"model": self.model, "system_fingerprints": dict(self.fingerprints), "refusals": refusals}
        return told | ({} if self.greedy is None else {"greedy": self.greedy, "changed": self.changed})
