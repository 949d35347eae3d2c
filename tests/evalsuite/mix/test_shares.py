"""What a recipe says of sizes: shares, repetitions, budgets of tokens; nested and the same in any order of rows."""

from __future__ import annotations

from collections import Counter

import pytest

from evalsuite.errors import DataError, UsageError
from evalsuite.recipes.recipe import recipe_of
from tests.evalsuite.mix.test_mix import build, chat, chat_of, first_prompts, rows_of, write
from tests.evalsuite.tiny_checkpoint import write_tokenizer


@pytest.fixture
def small(tmp_path):
    return write(tmp_path / "small.jsonl", [chat(number) for number in range(5)])


@pytest.fixture
def big(tmp_path):
    return write(tmp_path / "big.jsonl", [chat(number, answer="big") for number in range(100, 200)])


@pytest.mark.parametrize(("repeat", "expected"), [(1, [1] * 5), (2, [2] * 5), (2.4, [2, 2, 2, 3, 3]), (4, [4] * 5)])
def test_a_small_source_is_repeated(tmp_path, small, big, repeat, expected):
    sources = [{"data": small, "repeat": repeat}, {"data": big, "count": 20}]
    document = build(tmp_path / "out", sources)
    counts = Counter(row["messages"][0]["content"] for row in rows_of(tmp_path / "out") if row["source"] == "small")
    assert sorted(counts.values()) == expected
    source = document["sources"][0]
    assert (source["taken"], source["unique"]) == (sum(expected), 5)
    assert document["n_rows"] == sum(expected) + 20


def test_twenty_rows_of_five_need_repeat(tmp_path, small):
    with pytest.raises(DataError, match=r"asks for 20 conversations of source 'small', which has 5 .*repeat"):
        build(tmp_path / "out", [{"data": small, "count": 20}])
    build(tmp_path / "out", [{"data": small, "count": 20, "repeat": 4}])
    assert set(Counter(first_prompts(tmp_path / "out")).values()) == {4}


def test_repeated_draws_are_nested_and_do_not_depend_on_the_order_of_rows(tmp_path):
    rows = [chat(number) for number in range(7)]
    drawn = []
    for name, given, count in (("a", rows, 9), ("b", rows[::-1], 9), ("c", rows, 17)):
        path = write(tmp_path / "c.jsonl", given)
        build(tmp_path / name, [{"data": path, "count": count, "repeat": 3}])
        drawn.append(first_prompts(tmp_path / name))
    assert drawn[0] == drawn[1]
    assert not Counter(drawn[0]) - Counter(drawn[2])
    assert drawn[2] != sorted(drawn[2]), "copies are shuffled too"


def test_weights_share_the_total(tmp_path, small, big):
    sources = [{"data": small, "weight": 1, "repeat": 10}, {"data": big, "weight": 3}]
    document = build(tmp_path / "out", sources, total=41)
    # 10.25 and 30.75: the larger remainder is rounded up.
    assert [source["taken"] for source in document["sources"]] == [10, 31]


def test_a_budget_of_tokens_is_the_longest_draw_within_it(tmp_path):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    write_tokenizer(folder, template=None)  # one token per letter
    # Every conversation has 13 tokens.
    path = write(tmp_path / "c.jsonl", [chat_of(f"question{number:02}", "yes") for number in range(30)])
    built = {}
    for budget in (50, 52, 64, 200):
        document = build(tmp_path / f"out{budget}", [{"data": path, "tokens": budget}], tokenizer=str(folder))
        source = document["sources"][0]
        built[budget] = set(first_prompts(tmp_path / f"out{budget}"))
        assert (source["asked_tokens"], source["taken"], source["tokens"]) == (budget, budget // 13, budget // 13 * 13)
    assert built[50] < built[52] == built[64] < built[200]
    with pytest.raises(DataError, match="asks for 400 tokens of source 'c', which has 30"):
        build(tmp_path / "more", [{"data": path, "tokens": 400}], tokenizer=str(folder))
    document = build(tmp_path / "r", [{"data": path, "tokens": 400, "repeat": 2}], tokenizer=str(folder))
    assert (document["n_rows"], document["sources"][0]["unique"]) == (30, 30)


def test_tokens_are_shared_by_weight_and_left_out_rows_are_no_duplicates(tmp_path):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    write_tokenizer(folder, template=None)
    words = [" ".join(f"w{number}x{place}" for place in range(30)) for number in range(20)]
    a = write(tmp_path / "a.jsonl", [chat_of(text, "yes") for text in words])
    b = write(tmp_path / "b.jsonl", [chat_of(f"{text} more", "yes") for text in words])
    sources = [{"data": a, "weight": 1}, {"data": b, "weight": 3}]
    document = build(tmp_path / "out", sources, tokenizer=str(folder), total_tokens=3000, duplicates={"near": 0.7})
    sizes = [source["tokens"] for source in document["sources"]]
    assert 550 < sizes[0] <= 750
    assert 2050 < sizes[1] <= 2250
    taken = [source["taken"] for source in document["sources"]]
    # Only what the first source gave is a near-duplicate for the second.
    assert document["sources"][1]["refused"] == {"near_duplicate": taken[0]}


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({"sources": [{"data": "a", "weight": 1}]}, "weights need total or total_tokens"),
        ({"sources": [{"data": "a", "weight": 1, "count": 2}], "total": 3}, "count and weight cannot be used together"),
        ({"sources": [{"data": "a", "tokens": 9}]}, "tokens need a tokenizer"),
        ({"sources": [{"data": "a", "repeat": 0.5}]}, "repeat"),
        (
            {"sources": [{"data": "a", "fraction": 1}], "total": 3, "total_tokens": 9, "tokenizer": "demo"},
            "cannot be used together",
        ),
        ({"sources": [{"data": "a", "weight": 1}, {"data": "b"}], "total": 3}, "or every source a weight"),
    ],
)
def test_shares_that_do_not_add_up_are_refused(mix, message):
    with pytest.raises(UsageError, match=message):
        recipe_of({"name": "r", "mix": mix})
