"""Recorded answers in place of a model: which prompt each answer belongs to, and what is refused."""

import json

import pytest

from evalsuite.comparison.prompts import load_prompts
from evalsuite.comparison.recorded import find_recorded
from evalsuite.errors import DataError
from evalsuite.files import write_json
from evalsuite.records.rows import Draw, Reply, Row
from evalsuite.suites.options import SuiteOptions
from judges.types import Unscored
from tests.evalsuite.comparison.test_comparison import messages, models_and, run
from tests.evalsuite.comparison_judges import judge, prefers
from tests.evalsuite.report_results import write_model, write_rows


def recorded(path, answers, **more):
    rows = [{"question_id": number, "choices": [{"turns": [text]}], **more} for number, text in answers.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_recorded_answers_are_compared_on_the_prompts_that_all_have(tmp_path):
    file = recorded(tmp_path / "old.jsonl", {9001: "good", 9002: "$ERROR$", 9003: ""}, model_id="old")
    with models_and(umpire=judge(prefers("good"))) as stubs:
        outcome = run(stubs, tmp_path, "umpire", models=("plain", file))
        [pair] = outcome.document["pairs"]
        assert len(stubs["plain"].requests) == 3
    assert outcome.document["models"] == ["plain", "old"]
    [note] = outcome.document["notes"]
    assert note == "3 of 5 prompts are compared: old lacks 2 ('9004', '9005')"
    assert (pair["wins_b"], pair["ties"], pair["unscored_reasons"]) == (1, 1, {"recorded_failure": 1})


def test_the_note_names_recorded_answers_that_match_no_prompt(tmp_path):
    prompts, file = tmp_path / "prompts.jsonl", tmp_path / "old.jsonl"
    asked = [{"prompt": "One?"}, {"turns": ["Two?", "More?"]}, {"prompt": "Three?"}]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in asked))
    rows = [
        {"prompt": "One?", "answer": "good"},
        {"prompt": ["Two?", "More?"], "answers": ["good", "good"]},
        {"prompt": "Another?", "answer": "good"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with models_and(umpire=judge(prefers("good"))) as stubs:
        outcome = run(stubs, tmp_path, "umpire", models=("plain", str(file)), prompts=prompts, turns="both")
    reason = "old lacks 1 ('3'), and 1 of its answers match no prompt by text or id"
    assert f"2 of 3 prompts are compared: {reason}" in outcome.document["notes"]


def test_recorded_answers_without_a_common_prompt_are_refused(tmp_path):
    one = recorded(tmp_path / "one.jsonl", {9001: "x"})
    two = recorded(tmp_path / "two.jsonl", {9002: "x"})
    with models_and(umpire=judge(prefers("good"))) as stubs, pytest.raises(DataError, match="no prompt of mt_bench"):
        run(stubs, tmp_path, "umpire", models=(one, two))


def prompt_file(tmp_path, *texts, first_id=0, limit=None):
    path = tmp_path / "prompts.jsonl"
    rows = [{"id": number, "prompt": text} for number, text in enumerate(texts, first_id)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_prompts(str(path), SuiteOptions(limit=limit))


def answers_in(tmp_path, prompts, *rows):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(rows))
    return find_recorded(str(path), prompts).answers


def test_recorded_answers_belong_to_the_prompt_whose_words_they_have(tmp_path):
    prompts = prompt_file(tmp_path, "Zero?", "One?", "Two?")
    # The file numbers its rows from 1, the prompts theirs from 0.
    rows = [
        {"id": n, "instruction": text, "output": f"to {text}"} for n, text in enumerate(("Zero?", "One?", "Two?"), 1)
    ]
    assert answers_in(tmp_path, prompts, *rows) == {"0": ("to Zero?",), "1": ("to One?",), "2": ("to Two?",)}
    # Of fewer prompts than the file answers, the others are left out, whatever number they have.
    [last] = prompt_file(tmp_path, "Two?", first_id=2).questions
    fewer = answers_in(tmp_path, prompt_file(tmp_path, "Two?", first_id=2), *rows)
    assert fewer == {last.id: ("to Two?",)}


def test_an_id_counts_where_a_row_has_no_words_of_its_own_or_two_prompts_have_the_same(tmp_path):
    prompts = prompt_file(tmp_path, "Again?", "Again?", "Other?")
    assert answers_in(tmp_path, prompts, {"id": 2, "answer": "x"}) == {"2": ("x",)}
    rows = [{"id": 1, "prompt": "Again?", "answer": "b"}, {"prompt": "Again?", "answer": "a"}]
    assert answers_in(tmp_path, prompts, *rows) == {"1": ("b",), "0": ("a",)}


def test_of_prompts_with_the_same_words_a_row_without_an_id_takes_one_that_no_id_claims(tmp_path):
    prompts = prompt_file(tmp_path, "Again?", "Again?")
    rows = [{"prompt": "Again?", "answer": "b"}, {"id": 0, "prompt": "Again?", "answer": "a"}]
    assert answers_in(tmp_path, prompts, *rows) == {"0": ("a",), "1": ("b",)}
    with pytest.raises(DataError, match="row 3 answers '0' a second time"):
        answers_in(tmp_path, prompts, *rows, {"prompt": "Again?", "answer": "c"})
    with pytest.raises(DataError, match="row 3 answers '0' a second time"):
        answers_in(tmp_path, prompts, *rows, {"id": 0, "prompt": "Again?", "answer": "c"})


def test_answers_to_prompts_beyond_the_limit_are_no_second_answers(tmp_path):
    prompts = prompt_file(tmp_path, "Again?", "Again?", "Other?", limit=1)
    rows = [{"prompt": text, "answer": answer} for text, answer in (("Again?", "a"), ("Again?", "b"), ("Other?", "c"))]
    assert answers_in(tmp_path, prompts, *rows) == {"0": ("a",)}
    assert answers_in(tmp_path, prompts, {"id": 1, **rows[1]}, rows[0]) == {"0": ("a",)}
    with pytest.raises(DataError, match="row 4 answers '0' a second time"):
        answers_in(tmp_path, prompts, *rows, rows[0])


def test_an_id_that_contradicts_its_rows_words_is_refused(tmp_path):
    prompts = prompt_file(tmp_path, "Zero?", "One?")
    rows = [{"id": 0, "prompt": "Zero?", "answer": "a"}, {"id": 1, "prompt": "One, or two?", "answer": "b"}]
    with pytest.raises(DataError, match="row 2 has the id '1', under which prompts has a different prompt"):
        answers_in(tmp_path, prompts, *rows)


def test_a_path_may_hold_an_equals_sign(tmp_path):
    prompts = prompt_file(tmp_path, "Zero?")
    folder = tmp_path / "lr=1e-5"
    folder.mkdir()
    file = folder / "out=1.json"
    file.write_text(json.dumps([{"prompt": "Zero?", "answer": "a"}]))
    assert find_recorded(str(file), prompts).name == "out=1"
    assert find_recorded(f"mine={file}", prompts).name == "mine"
    with pytest.raises(DataError, match=r"cannot read .*lr=1e-5/gone\.json: no such file"):
        find_recorded(str(folder / "gone.json"), prompts)


def alpaca_outputs(questions):
    return [{"instruction": one.turns[0], "output": f"good {one.id}", "generator": "g"} for one in questions]


def test_a_results_folder_and_alpaca_evals_own_file_stand_in_for_a_model(tmp_path):
    prompts = load_prompts("alpaca_eval", SuiteOptions(data="mini"))
    folder = write_model(tmp_path, "imported", {"alpaca_eval": {"win_rate": 50.0}}, data="mini", imported=True)
    write_json(folder / "alpaca_eval" / "model_outputs.json", alpaca_outputs(prompts.questions))
    with models_and(umpire=judge(prefers("good"))) as stubs:
        outcome = run(stubs, tmp_path, "umpire", models=(str(folder), "plain"), prompts="alpaca_eval")
        by_name = run(stubs, tmp_path, "umpire", models=("imported", "plain"), prompts="alpaca_eval")
    assert outcome.document["models"] == ["imported", "plain"]
    assert outcome.document["pairs"][0]["wins_a"] == len(prompts.questions)
    assert by_name.folder == outcome.folder, "an imported model is found by its name in the results folder"
    named = find_recorded(f"mine={folder / 'alpaca_eval' / 'model_outputs.json'}", prompts)
    assert (named.name, len(named.answers)) == ("mine", len(prompts.questions))
    assert find_recorded("demo", prompts, tmp_path) is None
    with pytest.raises(DataError, match="no such file"):
        find_recorded("gone.jsonl", prompts)


def test_records_stand_in_for_a_model(tmp_path):
    prompts = load_prompts("mt_bench", SuiteOptions(data="mini"), turns="both")
    first, second = prompts.questions[:2]
    folder = write_model(tmp_path, "m", {"mt_bench": {"score": 5.0}}, data="mini")
    failed = Draw((Reply("c"), Reply(unscored=Unscored("timeout"))))
    rows = [
        Row(first.id, draws=(Draw((Reply("a"), Reply("b"))),)),
        Row("x", prompt=messages(*second.turns), draws=(failed,)),
    ]
    write_rows(folder, "mt_bench", rows)
    answers = find_recorded(str(folder), prompts).answers
    assert answers == {first.id: ("a", "b"), second.id: Unscored("timeout", "no answer")}
    write_rows(folder, "mt_bench", [Row(first.id, prompt=messages("Other words?"), draws=(failed,))])
    with pytest.raises(DataError, match=f"row 1 has the id '{first.id}', under which mt_bench has"):
        find_recorded(str(folder), prompts)
