"""What ``evalsuite generate`` was asked to do: frozen, every fault reported at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pydantic

from evalsuite.config import RunConfig

Policy = Literal["own", "teacher-forced"]
SHARD_ROWS = 5000


class Slice(pydantic.BaseModel):
    """One machine's part of the work: every ``of``-th conversation, counted from ``number`` (1 is the first)."""

    model_config = pydantic.ConfigDict(frozen=True)

    number: int = 1
    of: int = 1

    @property
    def word(self) -> str:
        """What file names carry: "1of4", and "" for the whole."""
        return "" if self.of == 1 else f"{self.number}of{self.of}"

    def holds(self, position: int) -> bool:
        return position % self.of == self.number - 1


class GenerateConfig(RunConfig):
    """A whole ``evalsuite generate``; see its ``--help`` for what each field does.

    A ``temperature``, ``top_p`` or ``top_k`` of None is the checkpoint's own.
    """

    prompts: str
    out: Path
    policy: Policy = "own"
    max_new_tokens: int = pydantic.Field(default=2048, ge=1)
    temperature: float | None = pydantic.Field(default=None, ge=0, allow_inf_nan=False)
    top_p: float | None = pydantic.Field(default=None, gt=0, le=1)
    system: str | None = None
    language: str | None = None
    shard: Slice = Slice()
    shard_size: int = pydantic.Field(default=SHARD_ROWS, ge=1)
    logprobs: bool = True
    push_to: str | None = None
    public: bool = False

    @pydantic.field_validator("shard", mode="before")
    @classmethod
    def _read_shard(cls, word: Any) -> Any:
        if not isinstance(word, str):
            return word
        match = re.fullmatch(r"(\d+)/(\d+)", word.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"--shard {word!r}: give i/n with i from 1 to n, as in 1/4")
        return Slice(number=int(match[1]), of=int(match[2]))

    @pydantic.field_validator("push_to")
    @classmethod
    def _check_repo(cls, word: str | None) -> str | None:
        if word is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", word):
            raise ValueError(f"--push-to {word!r}: give a hub id org/name")
        return word

    @pydantic.field_validator("system")
    @classmethod
    def _check_system(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("--system is empty; leave it out for no system turn")
        return text

    @pydantic.model_validator(mode="after")
    def _check_nucleus(self) -> GenerateConfig:
        if self.top_p is not None and self.temperature is None:
            raise ValueError("--top-p without --temperature; give both, or neither for the checkpoint's own")
        return self
