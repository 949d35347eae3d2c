from __future__ import annotations

import json
import os
import struct

import pytest

from evalsuite.checkpoint import resolve, weight_bytes
from evalsuite.errors import CheckpointError, EvalsuiteError, UsageError
from tests.evalsuite.tiny_checkpoint import TEMPLATE, write_checkpoint, write_safetensors, write_tokenizer


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))


def error_of(folder, kind=CheckpointError, **options):
    with pytest.raises(kind) as error:
        resolve(str(folder), **options)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    return str(error.value)


def test_a_complete_checkpoint(tmp_path):
    checkpoint = resolve(str(write_checkpoint(tmp_path / "my ckpt")))
    assert checkpoint.name == "my ckpt"
    assert checkpoint.slug == f"my-ckpt-{checkpoint.fingerprint[:8]}"
    assert checkpoint.context_length == 2048
    assert checkpoint.chat_template == TEMPLATE
    assert len(checkpoint.fingerprint) == 64


def test_the_fingerprint_depends_on_the_weights_and_not_on_the_path(tmp_path):
    one = resolve(str(write_checkpoint(tmp_path / "a" / "ckpt")))
    other = resolve(str(write_checkpoint(tmp_path / "b" / "ckpt")))
    assert one.fingerprint == other.fingerprint
    weights = tmp_path / "b" / "ckpt" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    os.utime(weights, ns=(1, 1))
    assert resolve(str(tmp_path / "b" / "ckpt")).fingerprint != one.fingerprint


def test_missing_or_damaged_files_are_named(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "config.json" in error_of(empty)

    no_weights = write_checkpoint(tmp_path / "no_weights")
    (no_weights / "model.safetensors").unlink()
    assert "no weights" in error_of(no_weights)

    no_tokenizer = write_checkpoint(tmp_path / "no_tokenizer")
    (no_tokenizer / "tokenizer.json").unlink()
    assert "no tokenizer" in error_of(no_tokenizer)

    cut = write_checkpoint(tmp_path / "cut")
    write_safetensors(cut / "model.safetensors", cut=5)
    assert "truncated" in error_of(cut)

    html = write_checkpoint(tmp_path / "html")
    (html / "model.safetensors").write_bytes(b"<html>not found</html>")
    assert "truncated" in error_of(html)

    broken = write_checkpoint(tmp_path / "broken")
    (broken / "config.json").write_text("{")
    assert "config.json" in error_of(broken)


def test_a_missing_shard_is_named(tmp_path):
    folder = write_checkpoint(tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    write_safetensors(folder / "model-00001-of-00002.safetensors", name="a")
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "model-00002-of-00002" in error_of(folder)
    write_safetensors(folder / "model-00002-of-00002.safetensors", name="b")
    assert resolve(str(folder)).fingerprint


def test_pickled_weights_need_allow_pickle(tmp_path):
    folder = write_checkpoint(tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    assert "--allow-pickle" in error_of(folder)
    assert resolve(str(folder), allow_pickle=True).fingerprint


def test_a_lora_adapter_uses_its_base(tmp_path):
    base = write_checkpoint(tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"base_model_name_or_path": str(base), "r": 8}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    assert "adapter_model.safetensors" in error_of(adapter)
    write_safetensors(adapter / "adapter_model.safetensors")
    checkpoint = resolve(str(adapter))
    assert (checkpoint.path, checkpoint.adapter) == (base, adapter)
    assert checkpoint.fingerprint != resolve(str(base)).fingerprint
    assert checkpoint.chat_template == TEMPLATE
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "gone/away/x"}))
    assert "gone/away/x" in error_of(adapter)


def test_a_spec_that_is_not_a_model_is_rejected(tmp_path):
    assert "demo, or NAME@URL" in error_of("no-such-folder", UsageError)
    file = tmp_path / "model.gguf"
    file.write_text("x")
    assert "is a file" in error_of(file)


def test_a_hub_id_with_a_revision_is_found_in_the_hub_cache(tmp_path, monkeypatch):
    """The layout that huggingface_hub writes: refs name commits, and snapshots hold one folder for each."""
    cache = tmp_path / "hub" / "models--org--name"
    for ref, commit in (("main", "1" * 40), ("v2", "2" * 40), ("refs/pr/3", "3" * 40)):
        (cache / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (cache / "refs" / ref).write_text(commit)
        write_checkpoint(cache / "snapshots" / commit, context=512 * int(commit[0]))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = {spec: resolve(spec) for spec in ("org/name", "org/name@v2", "org/name@refs/pr/3", f"org/name@{'2' * 40}")}
    assert [each.context_length for each in found.values()] == [512, 1024, 1536, 1024]
    assert [each.name for each in found.values()][:2] == ["name", "name@v2"]
    assert found["org/name@v2"].fingerprint == found[f"org/name@{'2' * 40}"].fingerprint
    with pytest.raises(CheckpointError, match=r"cannot download org/name@v3 from the hub .*check the id"):
        resolve("org/name@v3")


def test_an_unreachable_hub_is_one_sentence(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EvalsuiteError) as error:
        resolve("some-org/some-model-that-is-not-cached")
    assert "\n" not in str(error.value)


def test_an_endpoint_keeps_its_name_and_url():
    checkpoint = resolve("judge@http://127.0.0.1:8000/v1")
    assert (checkpoint.name, checkpoint.endpoint, checkpoint.path) == ("judge", "http://127.0.0.1:8000/v1", None)
    assert checkpoint.fingerprint == resolve("judge@http://127.0.0.1:8001/v1").fingerprint, "it may move"
    assert checkpoint.fingerprint != resolve("other@http://127.0.0.1:8000/v1").fingerprint


def test_a_template_file_overrides_that_of_the_checkpoint(tmp_path):
    folder = write_checkpoint(tmp_path / "ckpt")
    template = tmp_path / "custom.jinja"
    template.write_bytes(b"{{ messages }}\r\n")
    assert resolve(str(folder), chat_template_file=template).chat_template == "{{ messages }}\n"
    with pytest.raises(UsageError, match="--chat-template: cannot read"):
        resolve(str(folder), chat_template_file=tmp_path / "missing.jinja")


@pytest.mark.parametrize("file", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
def test_a_template_is_found_in_every_file_that_transformers_writes(tmp_path, file):
    folder = write_checkpoint(tmp_path / "ckpt", template=None)
    assert resolve(str(folder)).chat_template is None
    content = "{{ x }}" if file.endswith("jinja") else json.dumps({"chat_template": "{{ x }}"})
    (folder / file).write_text(content)
    assert resolve(str(folder)).chat_template == "{{ x }}"


def test_the_default_among_named_templates_is_taken(tmp_path):
    folder = write_checkpoint(tmp_path / "ckpt", template=None)
    write_tokenizer(folder, None)
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert resolve(str(folder)).chat_template == "d"


def test_a_second_copy_of_the_weights_is_not_the_checkpoint(tmp_path):
    """Mistral's repositories contain one, consolidated.safetensors, for its own loader."""
    folder = write_checkpoint(tmp_path / "one")
    index = {"weight_map": {"w": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    alone = resolve(str(folder))
    write_safetensors(folder / "consolidated.safetensors", n_values=8)
    both = resolve(str(folder))
    assert (both.fingerprint, weight_bytes(both)) == (alone.fingerprint, (folder / "model.safetensors").stat().st_size)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match=r"two formats .* vLLM would serve the consolidated one; move"):
        resolve(str(folder))
    (folder / "model.safetensors").unlink()
    assert weight_bytes(resolve(str(folder))) == (folder / "consolidated.safetensors").stat().st_size


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        ("config.json", DEEP, "nested more than 200 deep"),
        ("config.json", '{"a": ' + "[" * 300 + "]" * 300 + "}", "nested more than 200 deep"),
        ("config.json", b"\xff", "not UTF-8"),
        ("config.json", b" " * ((1 << 26) + 1), "more than 67,108,864 bytes"),
        ("config.json", "[]", "not a JSON object"),
        ("tokenizer_config.json", DEEP, "nested more than 200 deep"),
        ("training.json", DEEP, "nested more than 200 deep"),
        ("chat_template.jinja", b"{{ \xff }}", "not UTF-8"),
        ("chat_template.json", DEEP, "nested more than 200 deep"),
        ("model.safetensors.index.json", DEEP, "nested more than 200 deep"),
        ("model.safetensors.index.json", '{"weight_map": ["a"]}', "weight_map"),
        ("model.safetensors.index.json", '{"weight_map": {"a": ["b"]}}', "weight_map"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../model.safetensors"}}', "weight_map"),
        ("model.safetensors.index.json", '{"weight_map": {"a": ".."}}', "weight_map"),
        ("model.safetensors.index.json", '{"weight_map": null}', "weight_map"),
        ("model.safetensors", struct.pack("<Q", 7) + b'{"a":1}', "not a safetensors file"),
        ("model.safetensors", struct.pack("<Q", 2) + b"[]", "not a safetensors file"),
        ("model.safetensors", struct.pack("<Q", 100_000) + DEEP.encode(), "not a safetensors file"),
        ("model.safetensors", struct.pack("<Q", 34) + b'{"a": {"data_offsets": [0, "10"]}}', "not a safetensors file"),
        ("model.safetensors", struct.pack("<Q", 35) + b'{"a": {"data_offsets": [0, 1e999]}}', "not a safetensors file"),
    ],
)
def test_a_bad_file_of_a_checkpoint_is_one_sentence(tmp_path, file, content, fault):
    folder = write_checkpoint(tmp_path / "ckpt", template=None)
    if file == "chat_template.json":
        (folder / "tokenizer_config.json").unlink()
    (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    message = error_of(folder)
    assert fault in message
    assert len(message) < 500


def test_a_header_that_claims_8_gb_is_not_read(tmp_path):
    folder = write_checkpoint(tmp_path / "ckpt")
    with (folder / "model.safetensors").open("wb") as weights:
        weights.write(struct.pack("<Q", 8 << 30))
        weights.truncate(9 << 30)
    assert "claims 8,589,934,592 bytes" in error_of(folder)


def test_a_pipe_among_the_weights_does_not_block(tmp_path):
    folder = write_checkpoint(tmp_path / "ckpt")
    os.mkfifo(folder / "more.safetensors")
    assert resolve(str(folder)).fingerprint


@pytest.mark.parametrize("base", ["itself", "each other", "judge@http://127.0.0.1:1/v1", "\0", "n" * 5000, ""])
def test_the_base_of_an_adapter_is_a_full_checkpoint(tmp_path, base):
    folders = [tmp_path / "a", tmp_path / "b"]
    bases = {"itself": [folders[0]] * 2, "each other": folders[::-1]}.get(base, [base] * 2)
    for folder, spec in zip(folders, bases, strict=True):
        folder.mkdir()
        write_safetensors(folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(spec)}))
    fault = {"": "no base_model_name_or_path"}.get(base, "was not found" if len(set(bases)) == 1 else "")
    fault = "is an adapter itself" if base in ("itself", "each other") else fault
    assert fault in error_of(folders[0])


@pytest.mark.parametrize("rank", ["sixteen", 0, -1, None, [8], 8.5])
def test_the_rank_of_an_adapter_is_a_positive_number(tmp_path, rank):
    write_safetensors(tmp_path / "adapter_model.safetensors")
    settings = {"base_model_name_or_path": str(write_checkpoint(tmp_path / "base")), "r": rank}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    assert "rank" in error_of(tmp_path)


@pytest.mark.parametrize("config", [{"text_config": ["x"]}, {"max_position_embeddings": -1}, {"text_config": "x"}])
def test_a_context_length_that_is_none_is_unknown(tmp_path, config):
    folder = write_checkpoint(tmp_path / "ckpt")
    (folder / "config.json").write_text(json.dumps(config))
    assert resolve(str(folder)).context_length is None


def test_the_first_default_among_odd_named_templates_is_taken(tmp_path):
    folder = write_checkpoint(tmp_path / "ckpt", template=None)
    named = [{"name": ["x"]}, "x", {"name": "default", "template": "d"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert resolve(str(folder)).chat_template == "d"


def test_a_name_is_valid_unicode(tmp_path):
    assert resolve("x\ud83d@http://127.0.0.1:1/v1").name == "x\\ud83d"
    folder = write_checkpoint(tmp_path / "x").rename(tmp_path / os.fsdecode(b"x\xff"))
    assert resolve(str(folder)).name == "x\\udcff"
