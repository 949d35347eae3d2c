"""``evalsuite setup``: vLLM and what serving needs, installed into the environment that runs evalsuite.

``pip install 'evalsuite[gpu]'`` does the same for CUDA. vLLM for CPUs cannot be an extra: it needs overrides
(cpu-overrides.txt says which), and a wheel's metadata cannot hold any.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from evalsuite.errors import EvalsuiteError, UsageError, unknown

CPU_OVERRIDES = Path(__file__).with_name("cpu-overrides.txt")
CPU_REQUIREMENTS = Path(__file__).with_name("cpu-requirements.txt")
OWN = "evalsuite"


class InstallError(EvalsuiteError):
    """uv could not install the packages; it has said why on stderr."""


def requirements_of(extras: Sequence[str]) -> list[str]:
    """Return the requirements of evalsuite's ``extras`` on this machine, extras within extras written out.

    Raises UsageError for an extra that evalsuite does not have.
    """
    about = metadata.metadata(OWN)
    known = about.get_all("Provides-Extra") or []
    found: dict[str, None] = {}
    waiting, seen = list(extras), set[str]()
    while waiting:
        extra = waiting.pop(0)
        if extra not in known:
            raise UsageError(unknown("extra", extra, known))
        seen.add(extra)
        for line in metadata.requires(OWN) or []:
            required = Requirement(line)
            if required.marker is None or required.marker.evaluate({"extra": ""}):
                continue
            if not required.marker.evaluate({"extra": extra}):
                continue
            if canonicalize_name(required.name) == OWN:
                waiting += sorted(required.extras - seen)
                continue
            required.marker = None
            found[str(required)] = None
    return list(found)


def install_command(requirements: Path, uv: Sequence[str], *, cpu: bool) -> list[str]:
    """Return the command that installs the file ``requirements`` into this environment; for a CPU with overrides."""
    own = ["--override", str(CPU_OVERRIDES), "--requirement", str(CPU_REQUIREMENTS)] if cpu else []
    return [*uv, "pip", "install", "--python", sys.executable, *own, "--requirement", str(requirements)]


def environment_of_uv(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` with pip's index settings under uv's names, where uv has none of its own."""
    names = {"UV_FIND_LINKS": "PIP_FIND_LINKS", "UV_DEFAULT_INDEX": "PIP_INDEX_URL", "UV_INDEX": "PIP_EXTRA_INDEX_URL"}
    handed = {
        ours: environment[pips] for ours, pips in names.items() if pips in environment and ours not in environment
    }
    return {**environment, **handed}


def set_up(*, cpu: bool, extras: Sequence[str] = (), dry_run: bool = False) -> list[str]:
    """Install vLLM (for CPUs with ``cpu``, else for CUDA) and further ``extras``; return the command that did.

    uv is used where it is installed, and fetched into a temporary folder otherwise. Raises InstallError.
    """
    wanted = requirements_of(["local" if cpu else "gpu", *extras])
    with tempfile.TemporaryDirectory(prefix="evalsuite-setup-") as scratch:
        file = Path(scratch) / "requirements.txt"
        file.write_text("".join(f"{line}\n" for line in wanted))
        command = install_command(file, _uv(Path(scratch), fetch=not dry_run), cpu=cpu)
        if not dry_run and subprocess.run(command, check=False, env=environment_of_uv(os.environ)).returncode:
            raise InstallError("uv could not install vLLM (its message is above); nothing was changed")
    return [*command[:-2], *wanted]


def _uv(scratch: Path, *, fetch: bool) -> list[str]:
    """Return how uv is called: the module, the program, or a copy that pip puts into ``scratch``."""
    if find_spec("uv") is not None:
        return [sys.executable, "-m", "uv"]
    if program := shutil.which("uv"):
        return [program]
    if fetch:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, "--target", str(scratch / "uv"), "uv"], check=False).returncode:
            raise InstallError("pip could not fetch uv, which installs vLLM; install uv and run this again")
    return [str(scratch / "uv" / "bin" / "uv")] if fetch else ["uv"]
