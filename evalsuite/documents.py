"""The documents of a results folder as types: scores.json, manifest.json, and what is in them.

Keys that are not known here are kept. ``validated`` turns pydantic's faults into one DataError.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

import pydantic

from evalsuite.assets.asset import Pin
from evalsuite.errors import DataError, refuse_newer
from evalsuite.validation import faults_of

SCHEMA: Final = 1
RECORDED_BY: Final = "recorded by "
"""What the method of an imported suite begins with; the name of its judge follows."""

DocumentT = TypeVar("DocumentT", bound="Document")


class Document(pydantic.BaseModel):
    """Base of every document: frozen, unknown keys kept."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow", protected_namespaces=(), defer_build=True)

    def as_json(self) -> dict[str, Any]:
        """Return the document in JSON's own types, without the fields that were never set."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def with_given(self, **fields: Any) -> Self:
        """Return the document with those of ``fields`` that hold something."""
        return self.model_copy(update={name: value for name, value in fields.items() if value})


class ModelEntry(Document):
    """The model of a scores.json."""

    name: str
    path: str | None = None
    fingerprint: str
    dtype: str | None = None
    quantization: str | None = None
    chat_template_sha256: str | None = None


class JudgeMember(Document):
    """A member of a panel: its weight, and the card that the weight rests on, if it rests on one."""

    name: str
    fingerprint: str | None = None
    weight: float = 1.0
    card: dict[str, Any] | None = None


class JudgeEntry(Document):
    """Who judged, by which method per suite; a panel's verdicts are the mean of its ``members``'."""

    name: str
    fingerprint: str | None = None
    methods: dict[str, str] | None = None
    note: str = ""
    members: tuple[JudgeMember, ...] = ()

    @property
    def key(self) -> str:
        """What tells judges apart: the fingerprint, else the name."""
        return self.fingerprint or f"name:{self.name}"

    def of_suite(self, key: str) -> JudgeEntry:
        """Return who judged one suite: an import names the judges of all its suites together."""
        method = (self.methods or {}).get(key, "")
        if not method.startswith(RECORDED_BY):
            return self
        name = method.removeprefix(RECORDED_BY)
        return self if name == self.name else self.model_copy(update={"name": name, "fingerprint": f"recorded:{name}"})


class Judged(Document):
    """The figures of a further judge over the same answers."""

    judge: JudgeEntry
    suites: dict[str, dict[str, Any]]
    average: dict[str, Any]


class Scores(Document):
    """scores.json. ``judge``, ``suites`` and ``average`` are of the last run's judge; ``judged`` has the others'.

    The objects under ``suites`` are the suites' own; see each suite's ``score``.
    """

    schema_: Literal[1] = pydantic.Field(default=SCHEMA, alias="schema")
    imported: pydantic.StrictBool = False
    model: ModelEntry
    variant: str = ""
    """What differs from the defaults, as in the folder's name: ``seed-3``; "" for the defaults."""
    judge: JudgeEntry | None
    data: Literal["full", "mini"]
    limit: pydantic.StrictInt | None
    suites: dict[str, dict[str, Any]]
    average: dict[str, Any]
    judged: tuple[Judged, ...] = ()
    seconds: dict[str, float] = {}
    tokens: dict[str, int] = {}
    training_step: dict[str, Any] | None = None
    """How far training had come, for a checkpoint saved along the way: its run, step, tokens, learning rate, loss."""
    reasoning: dict[str, Any] | None = None
    """How the model thinks: what was asked for, what was found, the budget, and whether it came to thoughts."""
    answers: dict[str, dict[str, Any]] = {}
    """How the answers of each suite ended: cut, thoughts closed, loops, mean tokens."""

    @property
    def name(self) -> str:
        """The model's name, with its variant where settings differ from the defaults."""
        return f"{self.model.name} ({self.variant})" if self.variant else self.model.name

    @pydantic.field_validator("suites")
    @classmethod
    def _check_suites(cls, suites: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, suite in suites.items():
            if not isinstance(suite.get("unscored", {}), dict | None):
                raise ValueError(f"suite {name} is not an object of figures")
        return suites

    @pydantic.field_validator("average")
    @classmethod
    def _check_average(cls, average: dict[str, Any]) -> dict[str, Any]:
        partial = average.get("partial") or {}
        parts = [part for part in partial.values() if part is not None] if isinstance(partial, dict) else [None]
        if not all(isinstance(part, dict) and isinstance(part.get("parts"), list) and "mean" in part for part in parts):
            raise ValueError("its partial averages cannot be read")
        return average


class SuiteEntry(Document):
    """What a manifest keeps of a suite: the keys of its answers and figures, options, data."""

    run_key: str | None = None
    answer_key: str | None = None
    options: dict[str, Any] = {}
    data_pins: dict[str, Pin] = {}
    served: dict[str, Any] = {}
    missing: dict[str, str] = {}
    applied: dict[str, Any] = {}
    recorded: dict[str, Any] = {}
    """Of an import: the file's name and the SHA-256 of its content."""


class JudgedEntry(Document):
    """A further judge's suites in a manifest."""

    judge: JudgeEntry
    suites: dict[str, SuiteEntry]


class Manifest(Document):
    """manifest.json: everything that a reader needs to reproduce or question the figures; written last."""

    schema_: Literal[1] = pydantic.Field(default=SCHEMA, alias="schema")
    imported: pydantic.StrictBool = False
    versions: dict[str, str] = {}
    git: dict[str, Any] | None = None
    hardware: dict[str, Any] = {}
    written_at: str = ""
    model: dict[str, Any] = {}
    training: dict[str, Any] | None = None
    judge: JudgeEntry | None = None
    suites: dict[str, SuiteEntry] = {}
    judged: tuple[JudgedEntry, ...] = ()
    seed: pydantic.StrictInt | None = None
    settings: dict[str, str] | None = None
    """What differs from the defaults (the folder's label unless --label named it); None in version 0.1."""
    arguments: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    tokens: dict[str, int] = {}
    usage: dict[str, Any] = {}
    server_restarts: int = 0


def validated(kind: type[DocumentT], document: object, path: Path, remedy: str) -> DocumentT:
    """Check what a file holds; raises DataError naming the file, every fault and the remedy.

    A document of a newer schema is refused with the advice to upgrade, whatever ``remedy`` says.
    """
    if not isinstance(document, Mapping):
        raise DataError(f"{path} is not an object; {remedy}")
    refuse_newer(path, document.get("schema"), SCHEMA)
    try:
        return kind.model_validate(dict(document))
    except pydantic.ValidationError as error:
        raise DataError(f"{path}: {'; '.join(faults_of(error, kind))}; {remedy}") from error
