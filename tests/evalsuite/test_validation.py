"""YAML of others: bounded, one sentence for whatever is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest
import yaml
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.comparison.formats import load_format, preset_names
from evalsuite.comparison.rater import load_factors
from evalsuite.config import RunConfig, read_as
from evalsuite.errors import DataError, EvalsuiteError
from evalsuite.recipes.recipe import read_recipe
from evalsuite.study.file import read_study
from evalsuite.suites.file.definition import read_benchmark
from evalsuite.validation import Described, read_yaml
from tests.processor_time import within

ROOT = Path(__file__).resolve().parents[2]


class Base(Described):
    n: int = pydantic.Field(
        default=1,
    )
    """How many.
    At least one."""
    own: int = pydantic.Field(default=0, description="given")
    """not taken"""
    bare: int = 0


class Derived(Base):
    more: int = 0
    """More of them."""
    bare: int = 1
    """Described here."""


def test_fields_are_described_by_the_texts_below_them():
    described = {name: field.description for name, field in Derived.model_fields.items()}
    assert described == {
        "n": "How many.\nAt least one.",
        "own": "given",
        "bare": "Described here.",
        "more": "More of them.",
    }
    assert Base.model_fields["bare"].description is None


def test_a_model_made_without_source_has_no_descriptions():
    scope = {"Described": Described, "__name__": "no_such_module"}
    exec("class Made(Described):\n    n: int = 0\n    'A text.'\n", scope)
    assert scope["Made"].model_fields["n"].description is None
    assert scope["Made"](n=2).n == 2


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
    with within(20):
        done = CliRunner().invoke(app, [names.get(part, part) for part in command])
    assert done.exit_code == 2, done.output
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


def test_half_a_surrogate_pair_is_replaced(tmp_path):
    path = tmp_path / "mix.yaml"
    path.write_text('name: "x\\ud83d"\n')
    assert read_yaml(path, "recipe") == {"name": "x\ufffd"}


KINDS = {
    "mix and sft": (read_recipe, "recipes/tiny.yaml"),
    "mix": (read_recipe, "recipes/re-wild.yaml"),
    "thinking": (read_recipe, "recipes/thinking.yaml"),
    "study": (read_study, "recipes/wildchat-50m-study.yaml"),
    "small study": (read_study, "recipes/demo-study.yaml"),
    "rated suite": (read_benchmark, "recipes/suites/support_tone.yaml"),
    "compared suite": (read_benchmark, "recipes/suites/short_copy.yaml"),
    "matched suite": (read_benchmark, "recipes/suites/shop_sums.yaml"),
    **{
        f"judge format {name}": (lambda path: load_format(str(path)), f"templates/judge/formats/{name}.yaml")
        for name in preset_names()
    },
    "factors": (lambda path: load_factors([str(path)]), "recipes/factors.yaml"),
    "config": (lambda path: read_as(RunConfig, {}, path), None),
}
NAMED_BY_THE_USER = {"dgms", "targets", "aliases", "factors", "levels", "labels", "where", "max_rows"}
"""Mappings whose keys are names and no options."""
CONFIG = "models: [m]\nsuites: [mt_bench]\njudge: [j]\nlimit: 3\ntensor_parallel_size: 2\n"


def keys_in(values, path=()):
    """Yield the place of every key that is an option."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        if isinstance(values, dict) and not (path and path[-1] in NAMED_BY_THE_USER):
            yield (*path, key)
        if isinstance(value, dict | list):
            yield from keys_in(value, (*path, key))


def misspelled(values, place):
    """Return the values with one key's last letter doubled."""
    first, *rest = place
    if isinstance(values, list):
        return [misspelled(one, rest) if number == first else one for number, one in enumerate(values)]
    if rest:
        return {key: misspelled(one, rest) if key == first else one for key, one in values.items()}
    return {f"{key}{key[-1]}" if key == first else key: one for key, one in values.items()}


@pytest.mark.parametrize(("read", "file"), KINDS.values(), ids=KINDS.keys())
def test_every_misspelled_key_is_named_with_the_nearest(tmp_path, read, file):
    text = CONFIG if file is None else (ROOT / file).read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    path = tmp_path / "changed.yaml"
    path.write_text(text)
    missed = []
    for place in keys_in(values):
        path.write_text(yaml.safe_dump(misspelled(values, place), sort_keys=False))
        with pytest.raises(EvalsuiteError) as raised:
            read(path)
        key = place[-1]
        if f"unknown key '{key}{key[-1]}'; did you mean '{key}'?" not in str(raised.value):
            missed.append((place, str(raised.value)))
    assert missed == []
