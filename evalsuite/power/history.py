"""Tokens and seconds that earlier answers and verdicts took, from the records and manifests in ``results/``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from evalsuite.records.rows import Row
from evalsuite.results.reading import ModelResult


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of earlier requests: of ``n_items`` items with ``n_calls`` calls, read and written in all."""

    n_items: int = 0
    n_calls: int = 0
    prompt: int = 0
    written: int = 0

    @property
    def per_item(self) -> float | None:
        """The mean number of tokens written per item; None where no records say it."""
        return self.written / self.n_items if self.n_items else None

    def of_calls(self, n: int | None) -> tuple[int | None, int | None]:
        """Return the tokens in and out of ``n`` calls like these; None where nothing is known."""
        if n is None or not self.n_calls:
            return (0, 0) if n == 0 else (None, None)
        return round(n * self.prompt / self.n_calls), round(n * self.written / self.n_calls)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that a role took in earlier runs for each of ``n`` written tokens (answers) or calls (verdicts).

    ``on_gpus`` says that these runs had their own GPUs.
    """

    seconds: float = 0.0
    n: int = 0
    on_gpus: bool = False

    def of(self, n: int | None) -> float | None:
        """Return the seconds of ``n`` more; None where nothing is known."""
        return 0.0 if n == 0 else None if n is None or not self.n else self.seconds * n / self.n


def pace_of(models: Iterable[ModelResult], phase: Literal["generate", "judge"]) -> Pace:
    """Return how fast models answered, or judges with their own server judged; without their servers' start."""
    role, unit = ("candidate", "completion_tokens") if phase == "generate" else ("judge", "requests")
    seconds, n, on_gpus = 0.0, 0, False
    for manifest in {id(model.manifest): model.manifest for model in models}.values():
        used = [usage for name, usage in manifest.usage.items() if name.partition(" ")[0] == role]
        done = sum(int(usage.get(unit) or 0) for usage in used if isinstance(usage, dict))
        took = manifest.seconds.get(phase, 0.0)
        if not done or took <= 0:
            continue
        seconds, n = seconds + took, n + done
        on_gpus |= bool(manifest.hardware.get("gpus")) and not manifest.model.get("served")
    return Pace(seconds, n, on_gpus)


def answer_tokens(models: Iterable[ModelResult], suite: str) -> Tokens:
    """Count the tokens of recorded answers to a suite; items whose record has none are left out."""
    n_items = n_calls = prompt = written = 0
    for model in models:
        records = model.records(suite)
        for row in [] if records is None else records.records.rows():
            if (own := _written(row)) > 0:
                n_items, written = n_items + 1, written + own
                n_calls += len(row.replies)
                prompt += sum(reply.prompt_tokens for reply in row.replies)
    return Tokens(n_items, n_calls, prompt, written)


def verdict_tokens(models: Sequence[ModelResult]) -> Tokens:
    """Count the tokens of the judges' requests, of all suites together, as the manifests have them."""
    requests = prompt = written = 0
    for usage in (
        usage for model in models for name, usage in model.manifest.usage.items() if name.startswith("judge")
    ):
        if isinstance(usage, dict) and isinstance(n := usage.get("requests"), int):
            requests += n
            prompt += int(usage.get("prompt_tokens") or 0)
            written += int(usage.get("completion_tokens") or 0)
    return Tokens(requests, requests, prompt, written)


def _written(row: Row) -> int:
    return sum(reply.answer_tokens + reply.thought_tokens for reply in row.replies)
