"""Where the work of a command runs: the options ``--on`` and ``--jobs``, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pydantic

from evalsuite.errors import UsageError, unknown

_KEYS = {
    "ray": ("gpus",),
    "slurm": ("partition", "account", "qos", "constraint", "reservation", "time", "mem", "cpus", "gpus", "nodelist"),
}
_FORMS = "give local, ray[:ADDRESS][,gpus=N], slurm, or slurm:partition=NAME,account=NAME,gpus=N,time=HH:MM:SS"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where units run: ``kind`` (local, ray, slurm), a Ray ``address``, Slurm's ``settings``, and a unit's ``gpus``.

    ``gpus`` of None are those that its model needs.
    """

    kind: str
    address: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    gpus: int | None = None


def read_placement(text: str) -> Placement:
    """Read the value of ``--on``; raises UsageError with the known forms.

    >>> read_placement("slurm:partition=gpu,gpus=2").settings
    {'partition': 'gpu'}
    """
    kind, _, rest = text.strip().partition(":")
    if kind == "local" and not rest:
        return Placement("local")
    if kind not in ("ray", "slurm"):
        raise UsageError(f"{text!r} is not a place to run; {_FORMS}")
    items, address = [*filter(None, rest.split(","))], None
    if kind == "ray" and items and "=" not in items[0]:
        address = items.pop(0)
    settings: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if key not in _KEYS[kind]:
            raise UsageError(unknown(f"setting of {kind}", key, _KEYS[kind]))
        if not equals or not re.fullmatch(r"[\w.:+@/-]+", value):
            raise UsageError(f"{item!r} is not key=value; {_FORMS}")
        settings[key] = value
    gpus = settings.pop("gpus", None)
    if gpus is not None and not gpus.isdecimal():
        raise UsageError(f"gpus={gpus} is not a number; {_FORMS}")
    return Placement(kind, address, settings, None if gpus is None else int(gpus))


def _check(text: object) -> Any:
    if isinstance(text, str):
        try:
            read_placement(text)
        except UsageError as error:
            raise ValueError(str(error)) from error
    return text


_UNRECORDED = {"resolved": False}
StoreFolder = Annotated[
    Path | None,
    pydantic.Field(
        description="Local folder for the store, for results on a network file system; the store is copied to the "
        "results every five minutes and at the end.",
        json_schema_extra=_UNRECORDED,
    ),
]
On = Annotated[
    str | None,
    pydantic.AfterValidator(_check),
    pydantic.Field(
        description="Where to run, a unit of work per model: local, ray[:ADDRESS][,gpus=N], or "
        "slurm[:KEY=VALUE,...] (partition, account, gpus, time).",
        json_schema_extra={**_UNRECORDED, "metavar": "PLACE"},
    ),
]
Jobs = Annotated[
    int | None,
    pydantic.Field(ge=1, description="With --on: max units at once.", json_schema_extra=_UNRECORDED),
]
SlurmTemplate = Annotated[
    Path | None,
    pydantic.Field(
        description="With --on slurm: Jinja file of the batch script (modules, container, scratch folder).",
        json_schema_extra=_UNRECORDED,
    ),
]
_Detach = Annotated[
    bool,
    pydantic.Field(
        description="With --on slurm: leave the jobs running and exit; run the same command again to attach to them.",
        json_schema_extra=_UNRECORDED,
    ),
]


class Placed(pydantic.BaseModel):
    """The options of a command whose work can run elsewhere."""

    model_config = pydantic.ConfigDict(defer_build=True)

    on: On = None
    jobs: Jobs = None
    slurm_template: SlurmTemplate = None
    detach: _Detach = False
