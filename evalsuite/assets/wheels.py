"""Fetching pinned wheels from PyPI and extracting single files of them.

pip fetches them in a separate process, so the user's index, certificates and proxies are honoured and every byte is
checked against the pinned hash before anything is read. Nothing of a wheel is ever installed or run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from evalsuite.assets.asset import InWheel, Wheel
from evalsuite.assets.locations import OFFLINE, Absent, locked, make_folder, why_offline
from evalsuite.errors import DataError
from evalsuite.fingerprint import cache_folder

_FETCH_TIMEOUT_S = 1800


def extracted_path(location: InWheel) -> Path:
    """Return where the file (or folder) of a wheel is in the cache once it was fetched."""
    return _folder(location.wheel) / location.member.rstrip("/")


def _folder(wheel: Wheel) -> Path:
    return cache_folder() / "wheels" / f"{wheel.name}-{wheel.version}"


def installed_path(location: InWheel) -> Path | None:
    """Return the file inside an installed package of the wheel's exact version, or None."""
    try:
        package = distribution(location.wheel.name)
    except PackageNotFoundError:
        return None
    path = Path(str(package.locate_file(location.member)))
    return path if package.version == location.wheel.version and path.exists() else None


def fetched_path(location: InWheel) -> Path:
    """Return the file of a wheel in the cache, fetching the wheel when it is not there; raises Absent."""
    path = extracted_path(location)
    if path.exists():
        return path
    if reason := why_offline(OFFLINE):
        raise Absent(reason)
    with locked(_folder(location.wheel).name):
        if not path.exists():
            _fetch(location.wheel, [*location.wheel.members, location.member])
    if not path.exists():
        raise Absent(f"the wheel has no {location.member}")
    return path


def _fetch(wheel: Wheel, members: list[str]) -> None:
    """Fetch the wheel and move its members into the cache, each in one step."""
    parent = make_folder(_folder(wheel).parent)
    try:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=parent) as scratch:
            unpacked = Path(scratch) / "members"
            extract(_download(wheel, Path(scratch)), members, unpacked)
            for member in members:
                source, target = unpacked / member, _folder(wheel) / member
                if source.exists() and not target.exists():
                    make_folder(target.parent)
                    source.replace(target)
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
        raise Absent(f"pip: {last_line(done.stderr)}")
    return files[0]


def last_line(stderr: str) -> str:
    """Return the last line of a process's errors that is not a warning, without its ERROR: prefix."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if not line.startswith(("WARNING", "[notice]"))] or lines
    return errors[-1].removeprefix("ERROR:").strip() if errors else "no reason given"


def extract(archive: Path, members: list[str], folder: Path) -> None:
    """Copy the named members of a wheel below ``folder``; a member ending in a slash is a folder.

    Raises DataError for a member whose path is absolute or climbs out of ``folder``, before
    anything is written. A member that the wheel lacks is left out.
    """
    within = tuple(member for member in members if member.endswith("/"))
    try:
        with zipfile.ZipFile(archive) as zipped:
            names = [name for name in zipped.namelist() if name in members or name.startswith(within)]
            for name in names:
                inside = (folder / name).resolve().is_relative_to(folder.resolve())
                if not inside or "\\" in name or ":" in name:
                    raise DataError(f"the wheel's member {name!r} points outside its folder; do not trust this wheel")
            zipped.extractall(folder, names)
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive.name} is not a wheel ({error}); remove it and fetch it again") from error
