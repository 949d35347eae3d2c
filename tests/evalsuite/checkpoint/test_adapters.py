"""LoRA adapters as trainers leave them: their tokenizer, their base, their rank and their pickles."""

from __future__ import annotations

import json
import shutil

import pytest

from evalsuite.checkpoint import resolve
from evalsuite.errors import CheckpointError, EvalsuiteError
from evalsuite.serving.chat_format import load_chat_format
from judges.types import Message
from tests.evalsuite.tiny_checkpoint import (
    TEMPLATE,
    llama_shapes,
    write_checkpoint,
    write_safetensors,
    write_tensors,
    write_tokenizer,
)

ROWS = 258
HELLO = [Message("user", "Hi")]
OWN = TEMPLATE.replace("<|im_start|>", "<|new_start|>")


def write_base(folder, rows=ROWS):
    write_checkpoint(folder)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": rows, "num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2048}))
    write_tensors(folder / "model.safetensors", llama_shapes(rows=rows))
    return folder


def write_adapter(folder, base, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "adapter_model.safetensors")
    given = {"base_model_name_or_path": str(base), "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], **settings}
    (folder / "adapter_config.json").write_text(json.dumps(given))
    return folder


def with_added_token(folder, template=OWN):
    """Give an adapter a tokenizer with one more token, id 258, which its template writes."""
    write_tokenizer(folder, template)
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken("<|new_start|>", special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_an_adapters_own_tokenizer_renders_and_counts_in_its_identity(tmp_path):
    base = write_base(tmp_path / "base", rows=264)
    adapter = with_added_token(write_adapter(tmp_path / "adapter", base))
    checkpoint = resolve(str(adapter))
    assert checkpoint.tokenizer_folder == adapter
    assert checkpoint.tokenizer_sha256 != resolve(str(base)).tokenizer_sha256
    tokens = load_chat_format(checkpoint).prompt_tokens(HELLO)
    assert tokens[0] == tokens[-11] == 258, "the new token is one token, where the base's tokenizer spells it out"
    assert len(tokens) == len("Nuser\nHiE\nNassistant\n"), "every letter is a token, and so are N and E"


def test_a_tokenizer_that_is_the_bases_keeps_the_identity(tmp_path):
    """``evalsuite sft`` and trl write the base's tokenizer into the adapter: answers stored before stay valid."""
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base)
    alone = resolve(str(adapter))
    shutil.copy(base / "tokenizer.json", adapter)
    settings = json.loads((base / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (adapter / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    (adapter / "chat_template.jinja").write_text(TEMPLATE)
    checkpoint = resolve(str(adapter))
    assert (checkpoint.tokenizer_folder, checkpoint.own_tokenizer) == (base, False)
    assert checkpoint.tokenizer_sha256 == alone.tokenizer_sha256


def test_tokens_that_the_base_has_no_rows_for_are_refused(tmp_path):
    base = write_base(tmp_path / "base")
    for name, template in (("written", OWN), ("spare", TEMPLATE)):
        adapter = with_added_token(write_adapter(tmp_path / name, base), template)
        with pytest.raises(CheckpointError, match=r"258 rows in the embedding.*<\|new_start\|> is 258"):
            load_chat_format(resolve(str(adapter)))


def test_a_models_tokens_beyond_its_embedding_are_refused_where_a_prompt_can_have_them(tmp_path):
    written = with_added_token(write_base(tmp_path / "written"))
    with pytest.raises(CheckpointError, match="1 token beyond them"):
        load_chat_format(resolve(str(written)))
    # As in google/gemma-3-1b-it, whose tokenizer has a token for images: 262,145 tokens for 262,144 rows.
    spare = with_added_token(write_base(tmp_path / "spare"), TEMPLATE)
    assert load_chat_format(resolve(str(spare))).prompt_tokens(HELLO)
    small = write_base(tmp_path / "small", rows=200)
    with pytest.raises(CheckpointError, match="58 tokens beyond them"):
        load_chat_format(resolve(str(small)))


def test_a_base_is_found_beside_the_adapter(tmp_path, monkeypatch):
    base = write_base(tmp_path / "models" / "base")
    adapter = write_adapter(tmp_path / "models" / "adapter", "../base")
    monkeypatch.chdir(tmp_path)
    assert resolve(str(adapter)).path == base
    assert resolve("models/adapter").path == base


def test_base_plus_adapter_is_the_adapter_on_that_base(tmp_path):
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", "gone/away")
    checkpoint = resolve(f"{base}+{adapter}")
    assert (checkpoint.path, checkpoint.adapter, checkpoint.name) == (base, adapter, "adapter")
    with pytest.raises(EvalsuiteError, match="not found"):
        resolve(f"{base}+{tmp_path / 'none'}")
    odd = write_base(tmp_path / "a+b")
    assert resolve(str(odd)).path == odd


def test_a_pickled_adapter_gets_the_line_that_converts_it(tmp_path):
    adapter = write_adapter(tmp_path / "adapter", write_base(tmp_path / "base"))
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"safetensors\.torch import save_file.*--allow-pickle"):
        resolve(str(adapter))
    assert resolve(str(adapter), allow_pickle=True).adapter == adapter


@pytest.mark.parametrize("pattern", [{"q_proj": "8"}, {"q_proj": 0}, [8]])
def test_the_ranks_of_modules_are_positive_numbers(tmp_path, pattern):
    adapter = write_adapter(tmp_path / "adapter", write_base(tmp_path / "base"), rank_pattern=pattern)
    with pytest.raises(CheckpointError, match="has the rank"):
        resolve(str(adapter))
