"""The document of an analysis: what is written is what is read, and contradictions are refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.analysis.document import (
    Analysis,
    Chart,
    Column,
    Table,
    analysis_name,
    as_json,
    read_analysis,
    table_csv,
    write_analysis,
    written,
)
from evalsuite.errors import DataError

COLUMNS = (Column("model", "Model"), Column("rate", "Rate", "percent1"), Column("count", "Count", "float3"))
ROWS = (
    {"model": "=1+1", "rate": 0.25, "rate_ci95": [0.1, 0.4], "count": 741},
    {"model": "b", "rate": None, "rate_why": "no answers", "count": 0.815},
)


def document(**changed: object) -> Analysis:
    table = Table("rates", "Rates", COLUMNS, ROWS, source="a paper, Table 1", notes=("a note",))
    chart = Chart("rates", "Rates", "bars", "rates", "model", ("rate",))
    own = Analysis("style", "a-vs-b", "A title", "About it.", {"seed": 0}, (table,), (chart,), {"b": [{"model": "b"}]})
    return replace(own, **changed)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    folder = write_analysis(tmp_path, document())
    assert folder == tmp_path / "analyses" / "style-a-vs-b"
    assert as_json(read_analysis(folder)) == as_json(document())


def test_a_csv_has_intervals_reasons_and_no_formula(tmp_path: Path) -> None:
    folder = write_analysis(tmp_path, document())
    rows = list(csv.DictReader((folder / "rates.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0] == {
        "model": "'=1+1",
        "rate": "0.25",
        "rate_ci_low": "0.1",
        "rate_ci_high": "0.4",
        "rate_why": "",
        "count": "741",
    }
    assert rows[1]["rate"] == ""
    assert rows[1]["rate_why"] == "no answers"


def test_an_old_table_does_not_survive_beside_a_new_document(tmp_path: Path) -> None:
    folder = write_analysis(tmp_path, document())
    other = replace(document().tables[0], id="other")
    write_analysis(tmp_path, document(tables=(other,), charts=()))
    assert sorted(path.name for path in folder.glob("*.csv")) == ["other.csv"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "../x"}, "not a plain file name"),
        ({"charts": (Chart("c", "C", "bars", "gone", "model", ("rate",)),)}, "'gone', which does not exist"),
        ({"charts": (Chart("c", "C", "bars", "rates", "model", ("speed",)),)}, "'speed', which is not a column"),
        ({"tables": (Table("rates", "R", COLUMNS, ({"model": "a", "rate": float("nan")},)),)}, "expected a number"),
        ({"tables": (Table("rates", "R", COLUMNS, ({"model": "a", "rate_ci95": [2, 1]},)),)}, "two numbers in order"),
        ({"tables": (Table("rates", "R", (*COLUMNS, COLUMNS[0]), ()),)}, "same key"),
    ],
)
def test_a_document_that_contradicts_itself_is_refused(change: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        write_analysis(tmp_path, document(**change))
    assert not (tmp_path / "analyses").exists()


def test_an_analysis_of_a_newer_version_is_not_called_damaged(tmp_path):
    (tmp_path / "analysis.json").write_text('{"schema": 9}')
    with pytest.raises(DataError, match=r"has schema 9; this evalsuite reads up to 1: upgrade evalsuite$"):
        read_analysis(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 0}', '{"schema": 1, "kind": "style"}'])
def test_a_broken_file_is_named_in_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "analysis.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"analysis\.json") as caught:
        read_analysis(path)
    assert "\n" not in str(caught.value)


def test_a_foreign_kind_or_a_chart_without_its_table_is_a_data_error(tmp_path: Path) -> None:
    good = as_json(document())
    for change in ({"kind": "magic"}, {"tables": []}):
        path = tmp_path / "analysis.json"
        path.write_text(json.dumps(good | change), encoding="utf-8")
        with pytest.raises(DataError):
            read_analysis(path)


@pytest.mark.parametrize(
    ("value", "form", "words"),
    [
        (None, "int", "–"),
        (1217, "float3", "1,217"),
        (1.0, "float3", "1.000"),
        (0.815, "float3", "0.815"),
        (0.256, "percent1", "25.6 %"),
        (2, "signed1", "+2.0"),
        ("x", "float1", "x"),
    ],
)
def test_values_are_written_as_their_column_says(value: object, form: str, words: str) -> None:
    assert written(value, form) == words


@settings(deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_any_names_make_a_plain_folder_name(names: list[str]) -> None:
    name = analysis_name(names)
    as_json(document(name=name))
    assert len(name) <= 60


def test_table_csv_of_no_rows_has_its_head() -> None:
    assert table_csv(Table("t", "T", COLUMNS, ())) == "model,rate,count\n"
