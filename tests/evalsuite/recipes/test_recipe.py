"""A recipe is right as a whole, or every fault in it is named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalsuite.errors import DataError, UsageError
from evalsuite.recipes.recipe import Duplicates, read_recipe, recipe_of
from evalsuite.study.file import read_study

RECIPES = Path(__file__).resolve().parents[3] / "recipes"


def read(tmp_path: Path, text: str):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path)


def fault(tmp_path: Path, text: str) -> str:
    with pytest.raises((UsageError, DataError)) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "recipe.yaml") in message
    return message


def mix_of(**mix):
    return recipe_of({"name": "r", "mix": mix}).mix


def test_the_smallest_recipe_takes_all_of_one_source(tmp_path):
    recipe = read(tmp_path, "name: small\nmix: {sources: [{data: folder/chats.jsonl}]}\n")
    source = recipe.mix.sources[0]
    assert (recipe.seed, recipe.sft, source.name, source.count) == (0, None, "chats", None)
    assert recipe.mix.asked() == [None]


def test_all_faults_are_named_at_once(tmp_path):
    message = fault(
        tmp_path,
        "name: two words\nseeds: 1\n"
        "mix:\n  sources:\n  - {data: a, fliters: {}, count: 0}\n  - {data: b, filters: {min_turn: 2}}\n"
        "sft: {bas: demo}\n",
    )
    for words in (
        "name must be a plain name of letters, digits, dots, underscores and dashes, not 'two words'",
        "unknown key 'seeds'; did you mean 'seed'?",
        "mix.sources[1]: unknown key 'fliters'; did you mean 'filters'?",
        "mix.sources[1].count must be at least 1, not 0",
        "mix.sources[2].filters: unknown key 'min_turn'; did you mean 'min_turns'?",
        "sft: unknown key 'bas'; did you mean 'base'?",
        "sft.base is missing",
    ):
        assert words in message
    assert "a list of at least" not in message


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{count: 1}", "give either data (one source) or blend"),
        ("{data: a, blend: [{data: b, dgm: B}, {data: c, dgm: C}]}", "give either data (one source) or blend"),
        ("{blend: [{data: b, dgm: B}]}", "at least two members"),
        ("{blend: [{data: b, dgm: B}, {data: c, dgm: B}]}", "duplicate DGM 'B'"),
        ("{dgm: X, blend: [{data: b, dgm: B}, {data: c, dgm: C}]}", "give dgm and format for each member"),
        ("{data: a, count: 2, fraction: 0.5}", "cannot be used together"),
        ("{data: a, fraction: 0.5}", "fractions need total"),
        ("{data: a, filters: {min_chars: 9, max_chars: 3}}", "no conversation can pass"),
        ("{data: a, filters: {max_tokens: 9}}", "needs a tokenizer"),
        ("{data: a, format: csv}", "'chat', 'sharegpt', 'multiple_choice' or 'prompt_answer'"),
        ("{data: a}, {data: b/a.parquet}", "duplicate source name 'a'"),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path, source, words):
    assert words in fault(tmp_path, f"name: r\nmix: {{sources: [{source}]}}\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n", "is not a mapping"),
        ("name: [\n", "is not YAML (line 2)"),
        ("name: a\nseed: 1\nseed: 2\n", "is not YAML (line 3): duplicate key 'seed'"),
        ("name: a\n", "neither a mix nor an sft section"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_sentence(tmp_path, text, words):
    assert words in fault(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mix: {sources: [{data: a, count: yes}]}", "mix.sources[1].count must be a whole number, not True"),
        ("mix: {total: yes, sources: [{data: a, fraction: 1}]}", "mix.total must be a whole number, not True"),
        ("mix: {duplicates: {near: yes}, sources: [{data: a}]}", "mix.duplicates.near must be a number, not True"),
        ("mix: {sources: [{data: a, filters: {min_turns: no}}]}", "min_turns must be a whole number, not False"),
        ("sft: {base: b, held_out: yes}", "sft.held_out must be a whole number, not True"),
        ("sft: {base: b, epochs: yes}", "sft.epochs: True is not a number"),
        ("sft: {base: b, epochs: .inf}", "sft.epochs must be a finite number, not inf"),
        ("sft: {base: b, weight_decay: .inf}", "sft.weight_decay must be a finite number, not inf"),
    ],
)
def test_a_number_is_a_finite_number_and_no_truth_value(tmp_path, text, words):
    assert words in fault(tmp_path, f"name: r\n{text}\n")


def test_numbers_are_read_as_yaml_writes_them(tmp_path):
    # YAML 1.1 reads 2e-5, which has no point, as a text.
    recipe = read(tmp_path, "name: r\nsft: {base: b, learning_rate: 2e-5, epochs: 2, max_grad_norm: 0.5}\n")
    assert (recipe.sft.learning_rate, recipe.sft.epochs, recipe.sft.max_grad_norm) == (2e-5, 2.0, 0.5)
    assert mix_of(total=10, sources=[{"data": "x", "fraction": 1}]).asked() == [10]


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    folder = tmp_path / "recipes"
    (folder / "base").mkdir(parents=True)
    for name in ("chats.jsonl", "a.jsonl", "t.jinja"):
        (folder / name).touch()
    (folder / "recipe.yaml").write_text(
        "name: r\nmix:\n  tokenizer: base\n  sources:\n  - {data: chats.jsonl}\n  - {data: org/chats@train}\n"
        "  - {name: both, blend: [{data: a.jsonl, dgm: A}, {data: ./gone.jsonl, dgm: B}]}\n"
        "sft: {base: base, chat_template: t.jinja}\n"
    )
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe(Path("recipes/recipe.yaml"))
    assert [data for source in recipe.mix.sources for data, _, _ in source.members] == [
        "recipes/chats.jsonl",
        "org/chats@train",
        "recipes/a.jsonl",
        "recipes/gone.jsonl",
    ]
    assert [source.name for source in recipe.mix.sources] == ["chats", "chats@train", "both"]
    assert (recipe.mix.tokenizer, recipe.sft.base, recipe.sft.chat_template) == (
        "recipes/base",
        "recipes/base",
        "recipes/t.jinja",
    )
    # What is written from here already, as the study's own recipes are, stays as it is.
    (tmp_path / "here.jsonl").touch()
    (folder / "recipe.yaml").write_text("name: r\nmix: {sources: [{data: here.jsonl}]}\nsft: {base: demo}\n")
    recipe = read_recipe(Path("recipes/recipe.yaml"))
    assert (recipe.mix.sources[0].data, recipe.sft.base) == ("here.jsonl", "demo")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*gone\.yaml: No such file"):
        read_recipe(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("fractions", "total", "expected"),
    # By largest remainder, worked out by hand: 3.34, 3.33, 3.33 of 10 leave one over, which 0.34 gets.
    [((0.5, 0.5), 10, [5, 5]), ((0.334, 0.333, 0.333), 10, [4, 3, 3]), ((0.25, 0.75), 3, [1, 2])],
)
def test_fractions_add_up_to_the_total(fractions, total, expected):
    sources = [{"name": f"s{i}", "data": "x", "fraction": share} for i, share in enumerate(fractions)]
    assert mix_of(sources=sources, total=total).asked() == expected


def test_fractions_that_are_not_a_whole_are_refused():
    with pytest.raises(UsageError, match=r"add up to 0\.9; make them 1"):
        mix_of(sources=[{"name": "a", "data": "x", "fraction": 0.9}], total=10)


def test_one_word_stands_for_a_list_of_one():
    mix = mix_of(sources=[{"data": "x", "filters": {"language": "English", "finish_reason": "stop"}}])
    assert mix.sources[0].filters.language == ("English",)
    assert mix.sources[0].filters.finish_reason == ("stop",)


def test_the_word_on_is_a_key_as_the_documentation_writes_it(tmp_path):
    recipe = read(
        tmp_path,
        "name: r\nmix:\n  duplicates: {exact: true, near: 0.8, on: prompts}\n  sources: [{data: x}]\n",
    )
    assert recipe.mix.duplicates == Duplicates(exact=True, near=0.8, on="prompts")
    message = fault(tmp_path, "name: r\nmix: {duplicates: {on: answers}, sources: [{data: x}]}\n")
    assert "mix.duplicates.on must be 'conversation' or 'prompts', not 'answers'" in message
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: s\njudge: demo\nsizes: [4]\ndgms: {a: {answers: chats.jsonl}}\ntargets: {t: {model: demo}}\n"
        "mix: {duplicates: {exact: false, on: prompts}}\n"
    )
    assert read_study(study).mix.duplicates == Duplicates(exact=False, on="prompts")


def test_re_wild_is_stated_as_in_the_papers_table_1():
    recipe = read_recipe(RECIPES / "re-wild.yaml")
    assert recipe.mix.asked() == [246_750, 99_800, 20_000]
    assert sum(recipe.mix.asked()) == 366_550
    assert [source.dgm for source in recipe.mix.sources] == ["Q72", None, None]


@pytest.mark.parametrize("name", ["tiny", "re-wild", "wildchat-250k-single-dgm"])
def test_every_recipe_of_the_project_is_valid(name):
    recipe = read_recipe(RECIPES / f"{name}.yaml")
    assert recipe.mix is not None
    assert recipe.sft is not None
