"""What a build of a mix writes, keeps, replaces and refuses on disk."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.errors import DataError, StoreError, UsageError
from evalsuite.mix import build as mix_module
from evalsuite.training.data import open_training_data
from tests.evalsuite.mix.test_mix import build, chat, chat_of, first_prompts, rows_of, write
from tests.evalsuite.tiny_checkpoint import write_tokenizer


def test_a_complete_mix_is_kept_and_a_damaged_one_rebuilt(tmp_path):
    path = write(tmp_path / "c.jsonl", [chat(number) for number in range(20)])
    out = tmp_path / "out"
    first = build(out, [{"data": path, "count": 5}])
    shard = out / first["shards"][0]["file"]
    stamp = shard.stat().st_mtime_ns
    assert build(out, [{"data": path, "count": 5}]) == first
    assert shard.stat().st_mtime_ns == stamp
    shard.write_bytes(shard.read_bytes()[:-1])
    assert build(out, [{"data": path, "count": 5}]) == first
    assert hashlib.sha256(shard.read_bytes()).hexdigest() == first["shards"][0]["sha256"]


def test_changed_tokenizer_files_give_another_mix(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    # Row n has n words of ten letters, and "yes".
    rows = [chat_of(" ".join(["abcdefghij"] * number), "yes") for number in range(1, 6)]
    sources = [{"data": write(tmp_path / "c.jsonl", rows), "filters": {"max_tokens": 24}}]
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    write_tokenizer(folder, template=None)  # one token per letter
    built = build(tmp_path / "out", sources, tokenizer=str(folder))
    assert (built["n_rows"], built["tokens"]) == (2, (10 + 3) + (21 + 3))
    by_words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    by_words.pre_tokenizer = pre_tokenizers.Whitespace()
    by_words.save(str(folder / "tokenizer.json"))
    built = build(tmp_path / "out", sources, tokenizer=str(folder))
    assert (built["n_rows"], built["tokens"]) == (5, sum(number + 1 for number in range(1, 6)))


def test_a_missing_tokenizer_is_one_sentence(tmp_path):
    path = write(tmp_path / "c.jsonl", [chat(1)])
    for name in (str(tmp_path), "./nobody"):
        with pytest.raises(
            DataError, match=r"cannot load the tokenizer .*; give another model as mix.tokenizer"
        ) as error:
            build(tmp_path / "out", [{"data": path}], tokenizer=name)
        assert "\n" not in str(error.value)


def test_a_failure_keeps_the_old_mix(tmp_path, monkeypatch):
    path = write(tmp_path / "c.jsonl", [chat(number) for number in range(20)])
    out = tmp_path / "out"
    build(out, [{"data": path, "count": 5}])
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mix_module, "write_shards", fail)
    with pytest.raises(StoreError, match="No space left on device"):
        build(out, [{"data": path, "count": 6}])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.jsonl", "out"]


def test_a_large_mix_is_written_in_bounded_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(mix_module, "Spool", partial(mix_module.Spool, rows_per_shard=7))
    path = write(tmp_path / "c.jsonl", [chat(number) for number in range(20)])
    document = build(tmp_path / "out", [{"data": path}])
    assert [shard["rows"] for shard in document["shards"]] == [7, 7, 6]
    assert sorted(first_prompts(tmp_path / "out")) == sorted(chat(n)["messages"][0]["content"] for n in range(20))


def test_a_lone_surrogate_does_not_break_the_file(tmp_path):
    path = write(tmp_path / "c.jsonl", [chat(1, answer="half \ud83d of it")])
    build(tmp_path / "out", [{"data": path}])
    assert rows_of(tmp_path / "out")[0]["messages"][1]["content"] == "half \ufffd of it 1"


def test_sources_that_cannot_be_read_are_named_together(tmp_path):
    odd = write(tmp_path / "odd.jsonl", [{"a": 1, "b": 2}])
    with pytest.raises(DataError) as caught:
        build(tmp_path / "out", [{"data": odd}, {"data": str(tmp_path / "gone.parquet")}])
    assert "source 'odd'" in str(caught.value)
    assert "columns a, b" in str(caught.value)
    assert "source 'gone'" in str(caught.value)


def test_a_wrong_format_names_the_columns(tmp_path):
    path = write(tmp_path / "c.jsonl", [chat(1)])
    with pytest.raises(DataError, match=r"can be read as multiple_choice .*columns are messages"):
        build(tmp_path / "out", [{"data": path, "format": "multiple_choice"}])


def test_a_folder_with_other_files_is_rejected(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    path = write(tmp_path / "c.jsonl", [chat(1)])
    with pytest.raises(UsageError, match="contains files that are not a mix"):
        build(tmp_path / "out", [{"data": path}])


def test_only_a_mix_is_replaced(tmp_path):
    path = write(tmp_path / "c.jsonl", [chat(number) for number in range(9)])
    out = tmp_path / "out"
    build(out, [{"data": path, "count": 3}])
    (out / "model.safetensors").write_text("weights")
    with pytest.raises(
        UsageError, match=r"contains model.safetensors besides a mix; move it away, or give --out a new"
    ):
        build(out, [{"data": path, "count": 4}])
    assert (out / "model.safetensors").read_text() == "weights"
    assert len(rows_of(out)) == 3
    assert build(out, [{"data": path, "count": 3}])["n_rows"] == 3, "a complete mix is not written"


def test_files_that_appear_during_a_build_are_kept(tmp_path, monkeypatch):
    path = write(tmp_path / "c.jsonl", [chat(number) for number in range(9)])
    out = tmp_path / "out"
    monkeypatch.setattr(mix_module, "Spool", partial(mix_module.Spool, rows_per_shard=2))
    build(out, [{"data": path, "count": 5}])
    real = mix_module.write_shards

    def meanwhile(*arguments):
        (out / "notes.txt").write_text("mine")
        return real(*arguments)

    monkeypatch.setattr(mix_module, "write_shards", meanwhile)
    build(out, [{"data": path, "count": 4}])
    assert {path.name for path in out.iterdir()} == {
        "mix.json", "mix-00000-of-00002.parquet", "mix-00001-of-00002.parquet", "notes.txt",
    }  # fmt: skip
    assert len(rows_of(out)) == 4


def test_out_may_be_a_link_or_the_current_folder(tmp_path, monkeypatch):
    path = write(tmp_path / "c.jsonl", [chat(number) for number in range(9)])
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    for count in (3, 4):
        build(tmp_path / "link", [{"data": path, "count": count}])
        assert (tmp_path / "link").is_symlink()
        assert len(rows_of(tmp_path / "disk")) == count
    monkeypatch.chdir(tmp_path / "disk")
    build(Path(), [{"data": path, "count": 5}])
    assert len(rows_of(Path())) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.jsonl", "disk", "link"]


def test_an_interrupted_replacement_is_detected_and_rebuilt(tmp_path):
    path = write(tmp_path / "c.jsonl", [chat(number) for number in range(9)])
    out, new = tmp_path / "out", tmp_path / "new"
    build(out, [{"data": path, "count": 3}])
    document = build(new, [{"data": path, "count": 4}])
    # First a kill before the new mix.json is written, then one before an old shard is deleted.
    (new / "mix-00000-of-00001.parquet").replace(out / "mix-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"is not the one in its mix\.json"):
        open_training_data(str(out))
    assert build(out, [{"data": path, "count": 4}]) == document
    (out / "mix-00001-of-00002.parquet").write_bytes(b"old")
    assert build(out, [{"data": path, "count": 4}]) == document
    assert [sample.messages[0].content for sample in open_training_data(str(out))] == first_prompts(out)
    assert {path.name for path in out.iterdir()} == {"mix.json", "mix-00000-of-00001.parquet"}


def test_the_command_prints_one_document_or_one_sentence(tmp_path):
    path = write(tmp_path / "c.jsonl", [chat(number) for number in range(4)])
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"name: r\nmix: {{sources: [{{data: {path}, count: 9, allow_fewer: true}}]}}\n")
    arguments = ["mix", str(recipe), "--out", str(tmp_path / "out"), "--contamination", "off"]
    printed = CliRunner().invoke(app, [*arguments, "--json"])
    assert printed.exit_code == 0
    assert json.loads(printed.stdout) == json.loads((tmp_path / "out" / "mix.json").read_text())
    assert "c gave 4 of 9" in printed.stderr
    recipe.write_text("name: r\nmix: {sorces: []}\n")
    rejected = CliRunner().invoke(app, arguments)
    assert rejected.exit_code == 2
    assert "did you mean 'sources'?" in rejected.stderr
