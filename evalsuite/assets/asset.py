"""What an asset is, where it may be found, and what it is once it was found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Source = Literal["mirror", "hub", "wheel", "package", "mini"]
Kind = Literal["rows", "file", "dataset", "corpus"]


@dataclass(frozen=True, slots=True)
class Wheel:
    """One exact file on PyPI."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class InMirror:
    """A file in the mirror folder: ``raw/<path>``, ``<path>``, or ``<path>`` without its first folder."""

    path: str


@dataclass(frozen=True, slots=True)
class OnHub:
    """A data set on the hub; ``pattern`` names one file in it (shell wildcards), empty means the whole."""

    repo: str
    pattern: str = ""
    gated: bool = False


@dataclass(frozen=True, slots=True)
class InWheel:
    """A file inside a wheel (or a folder, where ``member`` ends in a slash)."""

    wheel: Wheel
    member: str


@dataclass(frozen=True, slots=True)
class Part:
    """One split of one config of a hub data set; rows that are only few-shot examples are not counted."""

    config: str | None
    split: str
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset: what it is, where it may be found, and what it must contain.

    ``kind`` says how the content is hashed: ``rows`` and ``dataset`` by their canonical rows over
    ``fields``, ``file`` by its bytes, ``corpus`` by the names and bytes of its files.
    ``rows`` is the number of scored rows. ``file_sha256`` pins the bytes of the raw file where the
    hash of its rows is not known. ``only`` keeps the rows where a field has one value.
    """

    name: str
    suite: str
    licence: str
    kind: Kind
    places: tuple[InMirror | OnHub | InWheel, ...]
    rows: int | None = None
    sha256: str | None = None
    file_sha256: str | None = None
    fields: tuple[str, ...] = ()
    shape: Literal["", "mixeval"] = ""
    parts: tuple[Part, ...] = ()
    only: tuple[str, str] | None = None
    remark: str = ""

    @property
    def gated(self) -> bool:
        """Whether its authors give it out only on request."""
        return any(isinstance(place, OnHub) and place.gated for place in self.places)


@dataclass(frozen=True, slots=True)
class Found:
    """An asset on this machine.

    ``path`` is a file, a data set's snapshot folder or a data folder. ``sha256`` is that of the
    content really there; ``pinned`` says whether it is the expected one, and ``note`` why not.
    """

    name: str
    path: Path
    source: Source
    sha256: str
    pinned: bool
    rows: int | None = None
    note: str = ""


def remedy(asset: Asset) -> str:
    """Return what to type to get an asset, as the end of a sentence."""
    if asset.gated:
        repo = next(place.repo for place in asset.places if isinstance(place, OnHub))
        return f"ask for access to {repo} on its page, type 'hf auth login', then 'evalsuite data pull {asset.name}'"
    files = [place.path for place in asset.places if isinstance(place, InMirror)]
    if len(files) == len(asset.places):
        return f"set EVALSUITE_MIRROR to a folder with {files[0]}"
    pull = f"type 'evalsuite data pull {asset.name}' where there is a network"
    if all(isinstance(place, InWheel) for place in asset.places):
        return pull
    return f"set EVALSUITE_MIRROR to a folder that has it, or {pull}"
