"""Fetching pinned wheels from PyPI and taking single files out of them.

pip does the fetching, as a process of its own, so the user's index, certificates and proxies
are honoured and every byte is checked against the pinned hash before anything is read.
Nothing of a wheel is ever installed or run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from evalsuite.assets.asset import InWheel, Wheel
from evalsuite.assets.locations import Absent, cache_root, locked, make_folder, no_network
from evalsuite.assets.pins import PINS
from evalsuite.errors import DataError

_FETCH_TIMEOUT_S = 1800


def extracted_path(place: InWheel) -> Path:
    """Return where the file (or folder) of a wheel stands in the cache once it was fetched."""
    return cache_root() / "wheels" / f"{place.wheel.name}-{place.wheel.version}" / place.member.rstrip("/")


def installed_path(place: InWheel) -> Path | None:
    """Return the file inside an installed package of the wheel's exact version, or None."""
    try:
        package = distribution(place.wheel.name)
    except PackageNotFoundError:
        return None
    path = Path(str(package.locate_file(place.member)))
    return path if package.version == place.wheel.version and path.exists() else None


def fetched_path(place: InWheel) -> Path:
    """Return the file of a wheel in the cache, fetching the wheel when it is not there; raises Absent."""
    path = extracted_path(place)
    if path.exists():
        return path
    if no_network():
        raise Absent("EVALSUITE_OFFLINE is set")
    with locked(f"{place.wheel.name}-{place.wheel.version}"):
        if not path.exists():
            _fetch(place.wheel)
    if not path.exists():
        raise Absent(f"the wheel has no {place.member}")
    return path


def _fetch(wheel: Wheel) -> None:
    """Fetch the wheel and move every member that the pins name into the cache, all at once."""
    target = cache_root() / "wheels" / f"{wheel.name}-{wheel.version}"
    parent = make_folder(target.parent)
    members = [p.member for a in PINS.values() for p in a.places if isinstance(p, InWheel) and p.wheel == wheel]
    try:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=parent) as scratch:
            file = _download(wheel, Path(scratch))
            unpacked = make_folder(Path(scratch) / "members")
            extract(file, members, unpacked)
            shutil.rmtree(target, ignore_errors=True)
            unpacked.replace(target)
    except OSError as error:
        raise DataError(
            f"cannot store the wheel {wheel.name} in {parent} ({error.strerror or error}); "
            "free some space or set EVALSUITE_CACHE to another folder"
        ) from error


def _download(wheel: Wheel, folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "-q"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(requirements), "-d", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise Absent(f"pip gave up after {_FETCH_TIMEOUT_S} s") from error
    files = list(folder.glob("*.whl"))
    if done.returncode or len(files) != 1:
        raise Absent(f"pip: {last_words(done.stderr)}")
    return files[0]


def last_words(stderr: str) -> str:
    """Return the last line of pip's complaints that says something, without its ERROR: mark."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("WARNING", "[notice]"))] or lines
    return telling[-1].removeprefix("ERROR:").strip() if telling else "no reason given"


def extract(archive: Path, members: list[str], folder: Path) -> None:
    """Copy the named members of a wheel below ``folder``; a member ending in a slash brings its files.

    Raises DataError for a member whose path is absolute or climbs out of ``folder``, before
    anything is written. A member that the wheel lacks is left out.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            names = [
                name
                for name in zipped.namelist()
                if not name.endswith("/")
                and any(name == member or (member.endswith("/") and name.startswith(member)) for member in members)
            ]
            targets = {name: safe_target(folder, name) for name in names}
            for name, target in targets.items():
                make_folder(target.parent)
                with zipped.open(name) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive.name} is not a wheel ({error}); remove it and fetch it again") from error


def safe_target(folder: Path, member: str) -> Path:
    """Return where a member goes below ``folder``; raises DataError when that would be outside."""
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts or "\\" in member or ":" in member:
        raise DataError(f"the wheel's member {member!r} points outside its folder; the wheel is not to be trusted")
    target = folder / path
    if not target.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"the wheel's member {member!r} points outside its folder; the wheel is not to be trusted")
    return target
