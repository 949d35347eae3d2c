"""A tokenizer that names the wrong class is served as its tokenizer.json says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from evalsuite.checkpoint import resolve
from evalsuite.serving import server as server_module
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.device import Device
from evalsuite.serving.served_tokenizer import corrected_tokenizer
from evalsuite.serving.server import Server
from tests.evalsuite.tiny_checkpoint import write_checkpoint

TEXT = "Name three rivers of the naïve ☃."


@pytest.fixture
def folder(tmp_path):
    """A byte-level tokenizer that calls itself Llama's, as DeepSeek-R1-Distill-Llama's does."""
    folder = write_checkpoint(tmp_path / "distilled")
    change(folder / "config.json", model_type="llama")
    change(folder / "tokenizer_config.json", tokenizer_class="LlamaTokenizerFast")
    return folder


def change(path: Path, **settings: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_vllm_decodes_a_byte_level_tokenizer_of_the_wrong_class(folder):
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    ids = PreTrainedTokenizerFast.from_pretrained(folder)(TEXT, add_special_tokens=False)["input_ids"]
    assert "Ġ" in AutoTokenizer.from_pretrained(folder).decode(ids), "transformers reads it rightly: no longer needed"
    corrected = corrected_tokenizer(resolve(str(folder)))
    assert AutoTokenizer.from_pretrained(corrected.name).decode(ids) == TEXT
    corrected.cleanup()


def test_the_server_is_given_the_corrected_tokenizer_and_removes_it(folder, tmp_path, monkeypatch):
    made = []
    command = server_module._command

    def keep(*given):
        made.append(command(*given))
        return [sys.executable, "-c", "pass"]

    monkeypatch.setattr(server_module, "_command", keep)
    monkeypatch.setattr(server_module, "installed_vllm", lambda: Device("cpu", "0"))
    with Server(resolve(str(folder)), ServeConfig(), tmp_path / "log"):
        given = Path(made[0][made[0].index("--tokenizer") + 1])
        assert (given / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert not given.exists()


@pytest.mark.parametrize("change_to", ["its class", "its decoder", "no settings"])
def test_a_tokenizer_of_its_own_class_is_left_alone(folder, change_to):
    if change_to == "its class":
        change(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    elif change_to == "its decoder":
        steps = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}]
        change(folder / "tokenizer.json", decoder={"type": "Sequence", "decoders": steps})
    else:
        (folder / "tokenizer_config.json").unlink()
    assert corrected_tokenizer(resolve(str(folder))) is None
