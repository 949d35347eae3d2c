"""Imported answers are judged by a judge of one's own, and nobody is asked for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalsuite.config import read_config
from evalsuite.errors import UsageError
from evalsuite.records.files import RecordsFile, records_path
from evalsuite.report.build import read_contents
from evalsuite.results.importing import import_results
from evalsuite.runs.recorded import imported_folder
from evalsuite.runs.runner import run
from evalsuite.suites.arena_hard.suite import ArenaHard
from evalsuite.suites.options import SuiteOptions
from tests.evalsuite.runs.test_runner import obliging
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

NAME = "gpt-recorded"


def write_answers(folder: Path, *, leave_out: int = 0) -> Path:
    """Write answers to Arena-Hard's mini questions in the original's form, with a length that is not ours."""
    items = ArenaHard().load(ArenaHard.options_type(**SuiteOptions(data="mini").model_dump())).items
    rows = [
        {
            "uid": item.id,
            "model": NAME,
            "messages": [
                {"role": "user", "content": item.data["prompt"]},
                {"role": "assistant", "content": {"answer": f"Recorded {number}."}},
            ],
            "metadata": {"token_len": 77, "header_count": {}, "list_count": {}, "bold_count": {}},
        }
        for number, item in enumerate(items)
    ]
    path = folder / f"{NAME}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows[leave_out:])))
    return path


def imported(folder: Path, **changes: int) -> Path:
    target, scores = import_results("arena_hard", write_answers(folder, **changes), NAME, folder / "r", data="mini")
    assert scores.judge is None, "nobody has judged yet"
    return target


def labelling(path, body):
    return 200, text_reply("The first is better: [[A>B]]")


def settings(stub: StubEndpoint, folder: Path, name: str = "judge", **changes):
    values = {"models": [NAME], "suites": ["arena_hard"], "judge": f"{name}@{stub.url}", "data": "mini"}
    return read_config({**values, "results": folder / "r", **changes})


def test_recorded_answers_are_judged_and_a_second_run_asks_nothing(tmp_path):
    folder = imported(tmp_path)
    with StubEndpoint(labelling, model="judge") as judge:
        outcome = run(settings(judge, tmp_path))
        bodies = [body for _, body in judge.requests]
        again = run(settings(judge, tmp_path))
        assert len(judge.requests) == len(bodies)
    [scores] = outcome.models
    assert outcome.folders == [folder]
    n = scores.suites["arena_hard"]["n"] + scores.suites["arena_hard"]["creative_writing"]["n"]
    assert len([body for body in bodies if "Recorded" in json.dumps(body)]) == 2 * n, "both games of every answer"
    # The first answer wins every game: one of two.
    assert scores.suites["arena_hard"]["score"] == pytest.approx(50.0)
    assert scores.judge.name == "judge"
    assert (scores.imported, scores.model.path, scores.model.dtype) == (True, None, None)
    assert again.models[0].as_json() == scores.as_json()
    [shown] = read_contents(tmp_path / "r")[0].models
    assert shown.imported
    rows = RecordsFile(records_path(folder, "arena_hard")).rows()
    assert {row.facts["token_len"][0] for row in rows if "token_len" in row.facts} <= {77}
    exported = (folder / "arena_hard" / "model_answer.jsonl").read_text().splitlines()
    assert len(exported) == n


def test_another_judge_stands_beside_the_first_and_a_limit_is_a_variant(tmp_path):
    folder = imported(tmp_path)
    with StubEndpoint(labelling, model="judge") as judge, StubEndpoint(labelling, model="other") as other:
        run(settings(judge, tmp_path))
        [scores] = run(settings(other, tmp_path, "other")).models
        assert (scores.judge.name, [one.judge.name for one in scores.judged]) == ("other", ["judge"])
        limited = run(settings(judge, tmp_path, limit=1))
    assert limited.folders == [folder.with_name(f"{folder.name}~limit-1")]
    assert limited.models[0].suites["arena_hard"]["n"] == 1
    # A further import of the name still finds the import, not the variant.
    assert import_results("arena_hard", tmp_path / f"{NAME}.jsonl", NAME, tmp_path / "r", data="mini")[0] == folder


def test_another_models_broken_folder_does_not_matter(tmp_path):
    folder = imported(tmp_path)
    (tmp_path / "r" / "broken-0").mkdir()
    (tmp_path / "r" / "broken-0" / "scores.json").write_text("{")
    assert imported_folder(NAME, tmp_path / "r") == folder
    assert imported_folder(str(folder), tmp_path / "nowhere") == folder
    assert imported_folder("demo", tmp_path / "r") is None


def test_items_without_a_recorded_answer_are_left_out(tmp_path):
    imported(tmp_path, leave_out=1)
    with StubEndpoint(labelling, model="judge") as judge:
        [scores] = run(settings(judge, tmp_path)).models
    assert scores.suites["arena_hard"]["n"] == scores.suites["arena_hard"]["n_scored"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"judge": None}, "give the judge with --judge"),
        ({"judge": None, "suites": ["openllm:ifeval"]}, "openllm needs no judge; see its scores.json"),
        ({"data": "full"}, "--data mini"),
        ({"suites": ["mt_bench"]}, "no imported answers that a judge could judge in mt_bench"),
    ],
)
def test_what_cannot_be_judged_is_one_sentence(tmp_path, changes, words):
    imported(tmp_path)
    with StubEndpoint(obliging, model="judge") as judge, pytest.raises(UsageError, match=words):
        run(settings(judge, tmp_path, **changes))
