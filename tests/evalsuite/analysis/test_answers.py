"""Recorded answers from every kind of place: the same prompt meets, and what is no answer is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalsuite.analysis.answers import prompt_hash, read_answers
from evalsuite.errors import DataError
from evalsuite.files import write_json, write_jsonl

TEA = "Write an invitation to a tea tasting."
SHORTER = "Now in one line."


def turn(role: str, content: str | None, finish: str | None = None) -> dict[str, Any]:
    return {"role": role, "content": content, "finish_reason": finish}


def write_generated(folder: Path, rows: list[list[dict[str, Any]]], model: str = "m") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(
        [{"conversation_hash": str(n), "model": model, "conversation": row} for n, row in enumerate(rows)]
    )
    pq.write_table(table, folder / "part-00000.parquet")
    return folder


def write_run(folder: Path, name: str, *, data: str = "mini") -> Path:
    write_json(folder / "scores.json", {"schema": 1, "model": {"name": name}, "data": data, "suites": {}})
    return folder


def test_the_same_prompt_meets_wherever_it_was_recorded(tmp_path: Path) -> None:
    generated = write_generated(
        tmp_path / "generated",
        [[turn("user", TEA), turn("assistant", "Come!"), turn("user", SHORTER), turn("assistant", "Tea?")]],
    )
    write_jsonl(tmp_path / "plain.jsonl", [{"prompt": TEA, "answer": "Hello"}])
    write_json(tmp_path / "alpaca.json", [{"instruction": TEA, "output": "Hi", "generator": "g"}])
    first = read_answers(str(generated), tmp_path)
    plain = read_answers(f"p={tmp_path / 'plain.jsonl'}", tmp_path)
    alpaca = read_answers(str(tmp_path / "alpaca.json"), tmp_path)
    assert (first.name, plain.name, alpaca.name) == ("m", "p", "g")
    assert {answer.prompt_hash for answer in (plain.answers[0], alpaca.answers[0], first.answers[0])} == {
        prompt_hash([TEA])
    }
    second = first.answers[1]
    assert (second.turn, second.text, second.prompt_hash) == (2, "Tea?", prompt_hash([TEA, SHORTER]))
    assert second.cluster == first.answers[0].cluster


def test_a_failed_or_empty_turn_is_counted_and_never_an_answer(tmp_path: Path) -> None:
    rows = [
        [turn("user", "a"), turn("assistant", None, "timeout")],
        [turn("user", "b"), turn("assistant", "  \n", "stop")],
        [turn("user", "c"), turn("assistant", "whole", "length")],
    ]
    found = read_answers(str(write_generated(tmp_path / "g", rows)), tmp_path)
    assert [answer.text for answer in found.answers] == ["whole"]
    assert found.unscored == {"timeout": 1, "empty": 1}


def test_a_run_is_found_by_folder_or_model_and_half_of_it_is_enough(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "toy-00000000", "toy")
    choices = [{"index": 0, "turns": ["one", "$ERROR$"]}]
    write_jsonl(
        folder / "mt_bench" / "model_answer.jsonl",
        [{"question_id": 9001, "model_id": "toy", "choices": choices, "unscored": [None, "timeout"]}],
    )
    by_folder, by_name = read_answers("toy-00000000", tmp_path), read_answers("toy", tmp_path)
    assert by_folder == by_name
    assert by_folder.unscored == {"timeout": 1}
    assert by_folder.answers[0].source == "mt_bench"
    # The words of mini question 9001, which FastChat's file does not repeat.
    assert "lift" in by_folder.answers[0].prompt


def test_a_question_whose_words_are_unknown_still_meets_its_like(tmp_path: Path) -> None:
    rows = [{"question_id": 12345, "choices": [{"turns": ["x"]}]}]
    for name in ("a", "b"):
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    a, b = (read_answers(str(tmp_path / f"{name}.jsonl"), tmp_path) for name in ("a", "b"))
    assert a.answers[0].prompt_hash == b.answers[0].prompt_hash != prompt_hash(["MT-Bench question 12345"])


def test_of_a_prompt_asked_twice_the_first_answer_stands_for_it(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"prompt": "p", "answer": "first"}, {"prompt": "p", "answer": "second"}])
    found = read_answers(str(tmp_path / "a.jsonl"), tmp_path)
    assert len(found.answers) == 2
    assert found.by_prompt[prompt_hash(["p"])].text == "first"


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"prompt": "p", "answer": "x"}])
    before = read_answers(str(tmp_path / "a.jsonl"), tmp_path).fingerprint
    assert read_answers(f"n={tmp_path / 'a.jsonl'}", tmp_path).fingerprint == before
    write_jsonl(tmp_path / "a.jsonl", [{"prompt": "p", "answer": "y!"}])
    assert read_answers(str(tmp_path / "a.jsonl"), tmp_path).fingerprint != before


def test_bad_places_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("x", encoding="utf-8")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 cut")
    write_jsonl(tmp_path / "none.jsonl", [{"prompt": "p", "answer": ""}])
    write_jsonl(tmp_path / "odd.jsonl", [{"question": 3}])
    write_jsonl(tmp_path / "two.jsonl", [{"prompt": p, "answer": "x", "model": p} for p in "ab"])
    write_run(tmp_path / "half-00000000", "half")
    for n in (1, 2):
        write_generated(tmp_path / "many" / f"m{n}", [[turn("user", "a"), turn("assistant", "b")]])
    expected = {
        "gone": "cannot find the answers of 'gone'",
        "empty": "holds no answers",
        "x.txt": "no file of answers",
        "cut.parquet": "no whole Parquet file",
        "none.jsonl": "1 empty",
        "odd.jsonl": "row 1 has no prompt with its answer",
        "two.jsonl": "holds answers of a, b",
        "half-00000000": "holds no answers",
        "many": "several models",
    }
    for place, words in expected.items():
        word = place if place == "gone" else str(tmp_path / place)
        with pytest.raises(DataError) as caught:
            read_answers(word, tmp_path)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_other_layouts_of_chats_are_read(tmp_path: Path) -> None:
    rows = [{"conversations": [{"from": "human", "value": TEA}, {"from": "gpt", "value": "Yes"}]}]
    (tmp_path / "s.json").write_text(json.dumps(rows), encoding="utf-8")
    found = read_answers(str(tmp_path / "s.json"), tmp_path)
    assert (found.answers[0].prompt_hash, found.answers[0].text) == (prompt_hash([TEA]), "Yes")


def test_a_name_too_long_for_a_path_is_a_name(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "q", "answer": "hi"}\n')
    assert read_answers(f"{'x' * 300}={tmp_path / 'a.jsonl'}", tmp_path).name == "x" * 300
    with pytest.raises(DataError, match="cannot find the answers"):
        read_answers("x" * 300, tmp_path)
