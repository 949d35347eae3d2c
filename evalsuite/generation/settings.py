"""The options of ``evalsuite generate``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import pydantic

from evalsuite.config import Config, MaxUnscored, Seed
from evalsuite.placement import Placed, StoreFolder
from evalsuite.serving.config import BaseUrl, ServeConfig, check_endpoints

Policy = Literal["own", "teacher-forced"]
SHARD_ROWS = 5000


class Slice(pydantic.BaseModel):
    """One machine's part of the work: every ``of``-th conversation, counted from ``number`` (1 is the first)."""

    model_config = pydantic.ConfigDict(frozen=True)

    number: int = 1
    of: int = 1

    @property
    def suffix(self) -> str:
        """What file names carry: "1of4", and "" for the whole."""
        return "" if self.of == 1 else f"{self.number}of{self.of}"

    def holds(self, position: int) -> bool:
        return position % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


class GenerateConfig(Config, Placed):
    """A whole ``evalsuite generate``; a ``temperature`` or ``top_p`` of None is the checkpoint's own."""

    command: ClassVar[str] = "generate"

    models: tuple[str, ...] = pydantic.Field(min_length=1, json_schema_extra={"argument": "MODEL", "path": True})
    """Checkpoint folder, hub id org/name, demo, or NAME@URL (NAME@URL1,URL2 for several servers of one model)."""
    prompts: str = pydantic.Field(json_schema_extra={"path": True})
    """Hub data set org/name or org/name:config@split; a file or folder (Parquet, JSONL, JSON, CSV); or a suite."""
    out: Path
    """Folder for the shards; with several models, each gets a subfolder."""
    policy: Policy = "own"
    """What later turns see: the model's own answers, or the original ones."""
    max_new_tokens: int = pydantic.Field(default=2048, ge=1)
    """Max tokens per answer."""
    temperature: float | None = pydantic.Field(default=None, ge=0)
    """0 is greedy; default: the checkpoint's own settings."""
    top_p: float | None = pydantic.Field(default=None, gt=0, le=1)
    """Nucleus sampling, with --temperature; default 1."""
    seed: Seed = 0
    system: str | None = None
    """System prompt of every conversation, instead of its own."""
    limit: int | None = pydantic.Field(default=None, ge=1)
    """Max conversations (quick trial)."""
    language: str | None = None
    """Only rows in this language, as the data set names it."""
    shard: Slice = pydantic.Field(default=Slice(), json_schema_extra={"metavar": "i/n"})
    """Answer every n-th conversation: n machines with the same --out share the work."""
    shard_size: int = pydantic.Field(default=SHARD_ROWS, ge=1)
    """Conversations per Parquet file."""
    samples: int = pydantic.Field(default=1, ge=1)
    """Answers per conversation, one row each (column `sample`, from 0)."""
    logprobs: bool = True
    """Record each answer's cumulative log-probability."""
    chunks: Path | None = pydantic.Field(default=None, json_schema_extra={"resolved": False})
    """File that says which Parquet files a unit of work writes (``generation.chunks``)."""
    store: StoreFolder = None
    push_to: str | None = None
    """Hub data set org/name to upload the finished folder to."""
    public: bool = False
    """With --push-to: make a new data set public; it is private by default."""
    fresh: bool = pydantic.Field(default=False, json_schema_extra={"resolved": False})
    """Move the folder's earlier answers aside and start again."""
    retry_failed: bool = pydantic.Field(default=False, json_schema_extra={"resolved": False})
    """Retry every missing answer, even if the server was not the cause."""
    base_url: BaseUrl = None
    max_unscored: MaxUnscored = 0.01
    serve: ServeConfig = pydantic.Field(default_factory=ServeConfig)

    @pydantic.field_validator("shard", mode="before")
    @classmethod
    def _read_shard(cls, given: object) -> Any:
        if not isinstance(given, str):
            return given
        match = re.fullmatch(r"(\d+)/(\d+)", given.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"{given!r} is not i/n with i from 1 to n, as in 1/4")
        return Slice(number=int(match[1]), of=int(match[2]))

    @pydantic.field_validator("push_to")
    @classmethod
    def _check_repo(cls, repo: str | None) -> str | None:
        if repo is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
            raise ValueError(f"{repo!r} is not a hub id; give org/name")
        return repo

    @pydantic.field_validator("system")
    @classmethod
    def _check_system(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("it is empty; leave it out for no system turn")
        return text

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        check_endpoints(self.base_url, self.models)
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("--samples with --temperature 0 gives the same answer each time; raise the temperature")
        if self.top_p is not None and self.temperature is None:
            raise ValueError("--top-p without --temperature; give both, or neither for the checkpoint's own")
        return self
