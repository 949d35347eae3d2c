"""Recorded answers from every kind of place: the same prompt meets, and a missing answer is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalsuite.analysis.answers import prompt_hash, read_answers
from evalsuite.analysis.style import style_analysis
from evalsuite.errors import DataError
from evalsuite.files import write_json, write_jsonl
from evalsuite.records.rows import Draw, Reply, Row
from evalsuite.results.importing import import_results
from evalsuite.suites.registry import suite_named
from judges.types import Message, user_texts
from tests.evalsuite.report_results import mt_bench_row, write_free_form, write_model, write_rows

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


def fastchat_answers(**more: Any) -> list[dict[str, Any]]:
    choices = [{"index": 0, "turns": ["one", "$ERROR$"]}]
    return [{"question_id": 9001, "model_id": "toy", "choices": choices, "unscored": [None, "timeout"], **more}]


def test_a_run_of_version_0_1_is_found_by_folder_or_model(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "toy", {"mt_bench": {"score": 5.0}}, data="mini")
    write_jsonl(folder / "mt_bench" / "model_answer.jsonl", fastchat_answers())
    by_folder, by_name = read_answers(folder.name, tmp_path), read_answers("toy", tmp_path)
    assert by_folder == by_name
    assert by_folder.unscored == {"timeout": 1}
    assert by_folder.answers[0].source == "mt_bench"
    # The words of mini question 9001, which FastChat's file does not repeat.
    suite = suite_named("mt_bench")
    loaded = suite.load(suite.options_type(data="mini"))
    [row] = [suite.row(item, loaded) for item in loaded.items if item.id == "9001"]
    assert by_folder.answers[0].prompt_hash == prompt_hash(user_texts(row.prompt)[:1])


def test_the_records_of_every_suite_of_conversations_are_read(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m", {key: {"score": 0.5} for key in ("mt_bench", "mixeval", "openllm")})
    write_rows(folder, "mt_bench", [mt_bench_row(["a", "b"])])
    write_free_form(folder, [("0", "Mercury", 0.5), ("1", " ", None)])
    write_rows(
        folder, "openllm", [Row("0", "math/x", prompt=(Message("user", "1 + 1"),), draws=(Draw((Reply("2"),)),))]
    )
    found = read_answers("m", tmp_path)
    assert [(answer.source, answer.turn, answer.text) for answer in found.answers] == [
        ("mt_bench", 1, "a"),
        ("mt_bench", 2, "b"),
        ("mixeval/free_form", 1, "Mercury"),
    ]
    assert found.answers[1].prompt_hash == prompt_hash(["Question 1?", "Question 2?"])
    assert found.unscored == {"empty": 1}


def test_an_imported_model_has_its_own_answers(tmp_path: Path) -> None:
    rows = [
        {"instruction": text, "output_1": "base", "generator_1": "b", "output_2": f"**{text}**", "generator_2": "m"}
        | {"preference": 1.5, "annotator": "j"}
        for text in (TEA, SHORTER)
    ]
    write_json(tmp_path / "annotations.json", rows)
    import_results("alpaca_eval", tmp_path / "annotations.json", "imported", tmp_path / "results")
    found = read_answers("imported", tmp_path / "results")
    assert [answer.text for answer in found.answers] == [f"**{TEA}**", f"**{SHORTER}**"]
    assert found.answers[0].prompt_hash == prompt_hash([TEA])
    assert found.answers == read_answers(f"imported={tmp_path / 'annotations.json'}", tmp_path).answers
    style = style_analysis(["imported"], tmp_path / "results")
    assert [row["strong"] for row in style.tables[0].rows] == [2]


def test_two_variants_of_a_model_are_two_models(tmp_path: Path) -> None:
    for variant in ("", "seed-3"):
        folder = write_model(tmp_path, "m", {"mt_bench": {"score": 5.0}}, variant=variant)
        write_rows(folder, "mt_bench", [mt_bench_row([variant or "plain"])])
    assert read_answers("m", tmp_path).answers[0].text == "plain"
    assert read_answers("m (seed-3)", tmp_path).answers[0].text == "seed-3"


def test_benchmarks_own_files_are_read_by_their_suites(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "answers.jsonl", fastchat_answers())
    mixeval = {"id": "0", "problem_type": "free-form", "prompt": TEA, "target": ["x"], "benchmark_name": "B"}
    write_jsonl(tmp_path / "mixeval.jsonl", [mixeval | {"formated_input": f"Question: {TEA}", "response": "Come!"}])
    fastchat, responses = (read_answers(str(tmp_path / name), tmp_path) for name in ("answers.jsonl", "mixeval.jsonl"))
    assert (fastchat.name, fastchat.unscored, fastchat.answers[0].source) == ("toy", {"timeout": 1}, "mt_bench")
    assert (responses.name, responses.answers[0].prompt_hash) == ("mixeval", prompt_hash([f"Question: {TEA}"]))
    write_jsonl(tmp_path / "two.jsonl", [*fastchat_answers(), *fastchat_answers(question_id=9002, model_id="other")])
    assert len(read_answers(f"other={tmp_path / 'two.jsonl'}", tmp_path).answers) == 1
    with pytest.raises(DataError, match="contains answers from other, toy"):
        read_answers(str(tmp_path / "two.jsonl"), tmp_path)


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
    write_jsonl(tmp_path / "unasked.jsonl", [{"id": 3, "answer": "x"}])
    write_jsonl(tmp_path / "two.jsonl", [{"prompt": p, "answer": "x", "model": p} for p in "ab"])
    half = write_model(tmp_path, "half", {})
    one = write_model(tmp_path / "whole", "one", {})
    for n in (1, 2):
        write_generated(tmp_path / "many" / f"m{n}", [[turn("user", "a"), turn("assistant", "b")]])
    expected = {
        "gone": "no answers found for 'gone'",
        "empty": "has no answers",
        "x.txt": "is not a file of answers",
        "cut.parquet": "is not a complete Parquet file",
        "none.jsonl": "1 empty",
        "odd.jsonl": "row 1 has no answer",
        "two.jsonl": "contains answers from a, b",
        half.name: "has no answers",
        "unasked.jsonl": "row 1 has no prompt",
        "many": "several models",
        "whole": f"has the results of {one.name}; give one of these folders",
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
    with pytest.raises(DataError, match="no answers found for"):
        read_answers("x" * 300, tmp_path)
