from __future__ import annotations

import io
import json

import pytest

from evalsuite.serving.chat_format import load_tokenizer
from evalsuite.training.inspection import token_texts
from tests.evalsuite.tiny_checkpoint import write_tokenizer

TEXT = "What is a lake? Still water."


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("tokenizer_class", ["LlamaTokenizer", None])
def test_a_tokenizer_model_alone_prints_words_with_their_spaces(tmp_path, tokenizer_class):
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT, "The oak has many leaves and the lake has water."] * 20),
        model_writer=model,
        vocab_size=80,
        model_type="bpe",
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    if tokenizer_class:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer_class}))
    tokenizer = load_tokenizer(tmp_path)
    texts = token_texts(tokenizer, tokenizer.encode(TEXT, add_special_tokens=False))
    assert "".join(texts) == TEXT
    assert " lake" in texts


def test_tokens_of_a_byte_level_tokenizer_are_as_before(tmp_path):
    write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    ids = tokenizer.encode("<|im_start|>user\nHi there", add_special_tokens=False)
    assert token_texts(tokenizer, ids) == [tokenizer.decode([number]) for number in ids]
    assert token_texts(tokenizer, []) == []
