"""Merging results folders: what each has comes together, twice adds nothing, contradictions are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from evalsuite.documents import Scores
from evalsuite.errors import DataError, EvalsuiteError
from evalsuite.records.files import RecordsFile, records_path
from evalsuite.results.merging import merge_results
from evalsuite.runs.runner import run
from evalsuite.store import Store
from tests.evalsuite.runs.test_runner import config, folder_of, obliging, without_times
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply


def scores_of(results: Path) -> Scores:
    return Scores.model_validate_json((folder_of(results) / "scores.json").read_text())


def content(results: Path) -> dict[str, bytes]:
    files = (path for path in results.rglob("*") if path.is_file() and "store.sqlite" not in path.name)
    return {str(path.relative_to(results)): path.read_bytes() for path in files if ".locks" not in path.parts}


@pytest.fixture
def parts(tmp_path):
    """One model on two machines, one suite on each, and both suites on a third."""
    with StubEndpoint(obliging) as stub:
        run(config(stub, tmp_path / "a", suites=["mt_bench"]))
        run(config(stub, tmp_path / "b", suites=["mixeval"]))
        run(config(stub, tmp_path / "both", suites=["mt_bench", "mixeval"]))
        yield stub


def test_suites_of_two_machines_give_the_figures_of_one(parts, tmp_path):
    merged = merge_results([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    expected = scores_of(tmp_path / "both")
    got = scores_of(tmp_path / "c")
    assert without_times(got.suites) == without_times(expected.suites)
    assert got.average == expected.average
    assert got.judge == expected.judge
    assert got.answers == expected.answers
    assert merged.folders == [folder_of(tmp_path / "c").name]
    with Store(tmp_path / "both" / "store.sqlite") as whole, Store(tmp_path / "c" / "store.sqlite") as store:
        assert len(store) == len(whole) == merged.answers
    for suite in ("mt_bench", "mixeval"):
        rows = [RecordsFile(records_path(folder_of(tmp_path / name), suite)).rows() for name in ("c", "both")]
        assert rows[0] == rows[1]
    asked = len(parts.requests)
    run(config(parts, tmp_path / "c", suites=["mt_bench", "mixeval"]))
    assert len(parts.requests) == asked, "a run finds everything done"


def test_a_model_folder_is_renamed_beside_its_place(parts, tmp_path, monkeypatch):
    """Without write permission on it, a folder cannot be moved to another parent."""
    moved = []

    def renamed(source, target):
        moved.append((source, target, source.stat().st_mode))
        source.rename(target)

    monkeypatch.setattr("evalsuite.results.merging.rename", renamed)
    model = folder_of(tmp_path / "a")
    model.chmod(0o555)
    merge_results([tmp_path / "a"], tmp_path / "all")
    [(source, target, mode)] = [one for one in moved if one[1].name == model.name]
    assert source.parent == target.parent
    assert mode == model.stat().st_mode


def test_merging_again_in_any_order_changes_nothing(parts, tmp_path):
    merge_results([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    before = content(tmp_path / "c")
    again = merge_results([tmp_path / "b", tmp_path / "a", tmp_path / "both"], tmp_path / "c")
    assert (again.answers, list(again.folders)) == (0, [])
    assert content(tmp_path / "c") == before


def test_the_verdicts_of_two_judges_stand_together(tmp_path):
    with StubEndpoint(obliging) as stub, StubEndpoint(obliging, model="other") as judge:
        run(config(stub, tmp_path / "a", suites=["mt_bench"]))
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        shutil.copytree(tmp_path / "a", tmp_path / "both")
        other = f"other@{judge.url}"
        for name in ("b", "both"):
            run(config(stub, tmp_path / name, suites=["mt_bench"], judge=other))
    merge_results([tmp_path / "b"], tmp_path / "a")
    got, expected = (scores_of(tmp_path / name) for name in ("a", "both"))
    assert got.judge.name == "stub"
    assert [one.judge.name for one in got.judged] == ["other"]
    assert without_times(got.judged[0].suites) == without_times(expected.suites)
    rows = RecordsFile(records_path(folder_of(tmp_path / "a"), "mt_bench")).rows()
    assert {len({verdict.judge for verdict in row.verdicts}) for row in rows} == {2}


def test_answers_without_a_judge_get_the_verdicts_of_the_folder_that_has_one(tmp_path):
    with StubEndpoint(obliging) as stub:
        run(config(stub, tmp_path / "a", suites=["mt_bench"], judge=None, no_judge=True))
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        run(config(stub, tmp_path / "b", suites=["mt_bench"]))
    for order in (["a", "b"], ["b", "a"]):
        merge_results([tmp_path / name for name in order], tmp_path / "".join(order))
        got = scores_of(tmp_path / "".join(order))
        assert without_times(got.suites) == without_times(scores_of(tmp_path / "b").suites)
        assert got.judge == scores_of(tmp_path / "b").judge


def test_other_answers_are_refused_and_nothing_is_written(parts, tmp_path):
    def other(path, body):
        return (200, text_reply("Another.")) if "structured_outputs" not in body else obliging(path, body)

    with StubEndpoint(other) as stub:
        stub_folder = tmp_path / "d"
        run(config(stub, stub_folder, suites=["mt_bench"]))
    with pytest.raises(DataError, match=r"a different answer .* of mt_bench"):
        merge_results([tmp_path / "a", stub_folder], tmp_path / "c")
    assert not (tmp_path / "c").exists()
    with pytest.raises(DataError, match="is not a folder"):
        merge_results([tmp_path / "none"], tmp_path / "c")


def test_a_place_that_cannot_be_merged_into_is_one_sentence(tmp_path):
    """A folder inside a source would be copied into itself."""
    (tmp_path / "a" / "comparisons").mkdir(parents=True)
    (tmp_path / "file").touch()
    for into, said in (("a", "leave it out"), ("a/comparisons/x", "is inside"), ("file", "cannot write .*File exists")):
        with pytest.raises(EvalsuiteError, match=said) as error:
            merge_results([tmp_path / "a"], tmp_path / into)
        assert error.value.exit_code == 2
    assert not list((tmp_path / "a" / "comparisons").iterdir())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no results; leave it out"):
        merge_results([tmp_path / "a", tmp_path / "empty"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_other_data_are_refused(parts, tmp_path):
    run(config(parts, tmp_path / "d", suites=["mt_bench"], limit=1))
    with pytest.raises(DataError, match="no limit"):
        merge_results([tmp_path / "a", tmp_path / "d"], tmp_path / "c")


def test_comparisons_are_copied_and_other_ones_of_a_name_refused(tmp_path):
    for name, text in {"a": "1", "b": "1", "d": "2"}.items():
        folder = tmp_path / name / "comparisons" / "x"
        folder.mkdir(parents=True)
        (folder / "preferences.json").write_text(json.dumps(text))
    assert list(merge_results([tmp_path / "a", tmp_path / "b"], tmp_path / "c").folders) == ["comparisons/x"]
    with pytest.raises(DataError, match="different contents"):
        merge_results([tmp_path / "d"], tmp_path / "c")
