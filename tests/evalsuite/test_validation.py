"""YAML of others: bounded, one sentence for whatever is wrong with it."""

from __future__ import annotations

import time

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.errors import DataError
from evalsuite.validation import read_yaml


def bomb(first: str, entry: str) -> str:
    """Return eight levels of ten aliases each, a hundred million values once expanded."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} {entry.format(', '.join([f'*a{n - 1}'] * 10))}" for n in range(1, 9)]
    return "\n".join(lines) + "\n"


LISTS = bomb("[x]", "[{}]")
BOMBS = {
    "lists": LISTS,
    "merges": bomb("{k: v}", "{{<<: [{}]}}"),
    "itself": "a: &a [*a]\n",
    "many": "a: [" + "x, " * 100_001 + "]\n",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_an_alias_bomb_is_refused(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"study\.yaml is not YAML: more than 100,000 values"):
        read_yaml(path, "study")


@pytest.mark.parametrize(
    "command",
    [
        ["mix", "FILE", "--out", "OUT"],
        ["sft", "FILE", "--out", "OUT"],
        ["study", "FILE"],
        ["run", "demo", "--config", "FILE"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_refuses_an_alias_bomb_at_once(tmp_path, command):
    (tmp_path / "bomb.yaml").write_text(LISTS)
    names = {"FILE": str(tmp_path / "bomb.yaml"), "OUT": str(tmp_path / "out")}
    begun = time.monotonic()
    done = CliRunner().invoke(app, [names.get(part, part) for part in command])
    assert (done.exit_code, time.monotonic() - begun < 20) == (2, True), done.output
    assert "more than 100,000 values" in done.stderr


def test_aliases_and_merges_of_ordinary_size_are_read(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}\n")
    assert read_yaml(path, "study") == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a: !!int ''",
        "a: !!float ''",
        "a: !!bool x",
        "a: !!timestamp x",
        "a: 2020-99-99",
        "a: " + "1" * 5000,
    ],
    ids=lambda text: text[:16],
)
def test_values_that_are_not_what_they_claim_are_one_sentence(tmp_path, text):
    path = tmp_path / "mix.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"^the recipe .*mix\.yaml is not YAML"):
        read_yaml(path, "recipe")


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "mix.yaml"
    path.write_bytes(b"#" * ((1 << 22) + 1))
    with pytest.raises(DataError, match="more than 4,194,304 bytes"):
        read_yaml(path, "recipe")


def test_half_a_surrogate_pair_is_escaped(tmp_path):
    path = tmp_path / "mix.yaml"
    path.write_text('name: "x\\ud83d"\n')
    assert read_yaml(path, "recipe") == {"name": "x\\ud83d"}
