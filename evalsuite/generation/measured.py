"""What a manifest says of speed and cost: one type for the manifests of ``generate`` and of runs of benchmarks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from evalsuite.documents import Document, validated
from evalsuite.errors import DataError
from evalsuite.files import read_json
from evalsuite.generation.manifest import read_manifest
from evalsuite.generation.pace import speed_of

_REMEDY = "run the model again"
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]
_Parallel = Annotated[int, Field(ge=1)] | None


class Usage(Document):
    """What a server did: tokens read and written, and those of its prefix cache."""

    prompt_tokens: _Amount = 0.0
    completion_tokens: _Amount = 0.0
    cached_tokens: _Amount = 0.0


class Training(Document):
    """What a training measured: the fingerprint of its base, and its speed."""

    base_fingerprint: str | None = None
    tokens_per_second: _Amount | None = None


class _Model(Document):
    name: str = ""
    fingerprint: str | None = None
    training: Training | None = None


class _Seconds(Document):
    serve: _Amount
    generate: _Amount


class _Arguments(Document):
    base_url: str | None = None
    samples: Annotated[int, Field(ge=1)] = 1
    tensor_parallel_size: _Parallel = None
    data_parallel_size: _Parallel = None


class _Hardware(Document):
    cpu_count: int | None = None
    gpus: tuple[str, ...] = ()


class _Counts(Document):
    conversations: _Count
    answers: _Count = 0
    rows_unscored: _Count = 0
    unscored: Mapping[str, _Count] = Field(default_factory=dict)


class _Tokens(Document):
    completion: _Amount = 0.0
    thought: _Amount | None = None


class _Costs(Document):
    usage: Usage
    starts: _Count
    stretches: tuple[tuple[_Amount, _Amount], ...] = ()


class _Peak(Document):
    gib: _Amount | None = None
    what: str = ""


class _Shard(Document):
    squared_tokens: _Amount | None = None


class _RunUsage(Document):
    candidate: Usage | None = None


class Measured(Document):
    """What is measured in the manifests of a run (``run_usage``) and of generated answers (``costs``)."""

    kind: str = "run"
    complete: bool = True
    shard: str = "1/1"
    served_on: str | None = None
    model: _Model
    seconds: _Seconds
    arguments: _Arguments = _Arguments()
    hardware: _Hardware = _Hardware()
    counts: _Counts = Field(default_factory=lambda: _Counts(conversations=0))
    tokens: _Tokens = _Tokens()
    costs: _Costs | None = None
    run_usage: _RunUsage = Field(_RunUsage(), validation_alias="usage")
    server_restarts: _Count = 0
    peak_memory: _Peak = _Peak()
    shards: tuple[_Shard, ...] = ()

    @property
    def usage(self) -> Usage:
        return self.costs.usage if self.costs is not None else self.run_usage.candidate or Usage()

    @property
    def stretches(self) -> tuple[tuple[_Amount, _Amount], ...]:
        return () if self.costs is None else self.costs.stretches

    @property
    def is_generated(self) -> bool:
        return self.kind == "generate"

    @property
    def answer_speed(self) -> float | None:
        """Answer tokens per second over all of generation, None where everything came from the store."""
        return rate(self.usage.completion_tokens, self.seconds.generate)

    @property
    def start_s(self) -> float | None:
        """Mean seconds of one start of the server, None where none was started."""
        return rate(self.seconds.serve, 1 + self.server_restarts if self.costs is None else self.costs.starts)

    @property
    def answer_tokens(self) -> float:
        """Tokens of all answers, with their thoughts, wherever they came from."""
        return self.tokens.completion + (self.tokens.thought or 0.0)

    @property
    def steady_speed(self) -> tuple[float, float] | None:
        """Answer tokens per second without warm-up and end, and the standard error of its logarithm; None if short."""
        return speed_of(self.stretches)

    @property
    def length_error(self) -> tuple[float, int] | None:
        """The standard error of the logarithm of the mean tokens of a conversation, and the number of conversations.

        Answers of one conversation (``samples``) are one unit. None for fewer than two, for a manifest of an earlier
        version, which has no squares, and where all are equally long.
        """
        squares = [shard.squared_tokens for shard in self.shards]
        n = self.counts.conversations // self.arguments.samples
        known = math.fsum(square for square in squares if square is not None)
        if n < 2 or not self.answer_tokens or None in squares or not squares:
            return None
        variance = max(0.0, (known - self.answer_tokens**2 / n) / (n - 1))
        return (math.sqrt(variance / n) / (self.answer_tokens / n), n) if variance > 0 else None


def rate(amount: float | None, span: float | None) -> float | None:
    """Divide, None where either is missing or zero."""
    return amount / span if amount and span else None


def read_measured(path: Path) -> Measured:
    """Read what a manifest measured; raises DataError for one that is damaged or of neither command."""
    document = read_json(path)
    given: set[str] = set(document) if isinstance(document, dict) else set()
    if path.name == "manifest.json":
        if not {"model", "seconds", "usage", "hardware"} <= given:
            raise DataError(f"{path} is not a manifest of 'evalsuite run'; run the model again")
    else:
        read_manifest(path)
        if missing := sorted({"counts", "tokens", "costs"} - given):
            raise DataError(f"{path} is not a valid manifest (no {missing[0]}); run the model again")
    return validated(Measured, document, path, _REMEDY)
