"""The page of a folder of conversations: its figures from the rows, and its samples in the report."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from evalsuite.analysis.document import as_json, read_analysis
from evalsuite.cli import app
from evalsuite.conversations.summary import _distribution, edges
from evalsuite.errors import DataError
from evalsuite.report.data import MOST_ROWS, _bins, data_analysis
from tests.evalsuite.mix.test_mix import build, chat, chat_of, write

TEXT = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "


def tables_of(spec):
    document = as_json(data_analysis(spec))
    return {table["id"]: table["rows"] for table in document["tables"]}, document


def test_the_sources_of_a_mix_and_what_it_left_out(tmp_path):
    first = write(tmp_path / "a.jsonl", [*(chat(number) for number in range(6)), chat(7, turns=3)])
    second = write(tmp_path / "b.jsonl", [chat(number, turns=2) for number in range(10, 14)])
    third = write(tmp_path / "c.jsonl", [chat(number) for number in range(20, 24)])
    sources = [{"data": first, "repeat": 2, "filters": {"max_turns": 2}}, {"data": second}, {"data": third}]
    build(tmp_path / "out", sources)
    tables, document = tables_of(str(tmp_path / "out"))
    assert [(row["name"], row["taken"], row["share"]) for row in tables["sources"]] == [
        ("a", 12, 0.6),
        ("b", 4, 0.2),
        ("c", 4, 0.2),
    ]
    (dropped,) = tables["dropped"]
    assert (dropped["source"], dropped["rule"], dropped["rows"]) == ("a", "max_turns", 1)
    assert dropped["example"].startswith("answer 7")
    assert document["charts"][0]["id"] == "sources"
    turns = next(row for row in tables["lengths"] if row["of"] == "user turns")
    assert (turns["n"], turns["p50"], turns["max"]) == (20, 1, 2)


def test_near_duplicates_and_samples_open_their_texts(tmp_path):
    rows = [chat_of(TEXT * 2 + str(number), f"answer {number} {TEXT[number:]}") for number in range(5)]
    rows[3] = chat_of(TEXT * 2 + "0", f"answer 0 {TEXT}")
    tables, document = tables_of(write(tmp_path / "c.jsonl", rows))
    best = tables["near"][0]
    assert (best["pair"], best["similarity"]) == ("rows 0 and 3", 1.0)
    assert [shown["model"] for shown in document["examples"][best["pair"]]] == ["row 0", "row 3"]
    assert len(tables["sample"]) == 5
    for row in tables["sample"]:
        (shown,) = document["examples"][row["row"]]
        number = int(row["row"].split()[1])
        assert shown["text"].startswith(f"user:\n{rows[number]['messages'][0]['content']}")


@pytest.mark.parametrize("most", [0, 1, 2, 7, 100, 12_345])
def test_bins_are_labelled_with_the_whole_numbers_that_they_count(most):
    rows = _bins(most, _distribution(np.arange(most + 1))["histogram"])
    held = []
    for row in rows:
        low, _, high = row["range"].replace(",", "").partition(" to ")
        numbers = range(int(low), int(high or low) + 1)
        assert row["count"] == len(numbers)
        held += numbers
    assert held == list(range(most + 1))
    assert edges(most)[-1] == pytest.approx(most)


def test_the_command_puts_it_into_the_report(tmp_path):
    turn = {"role": "assistant", "content": "<script>alert(1)</script>", "finish_reason": "length"}
    row = {"messages": [{"role": "user", "content": "Hi?"}, turn], "language": "English", "model": "m"}
    data = write(tmp_path / "c.jsonl", [row, {"messages": 3}])
    words = ["report", "--data", data, "--results", str(tmp_path / "results"), "--json"]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output
    written = json.loads(ran.stdout)
    assert written["analyses"] == 1
    html = (tmp_path / "results" / "leaderboard.html").read_text()
    assert "Data: c.jsonl" in html
    assert "<script>alert" not in html
    analysis = read_analysis(tmp_path / "results" / "analyses" / "data-c.jsonl")
    tables = {table.id: table.rows for table in analysis.tables}
    assert tables["finish_reasons"][0] == {"range": "length", "count": 1, "share": 1.0}
    assert tables["unread"] == [{"range": "malformed_row", "count": 1, "share": 1.0}]
    assert tables["languages"][0]["range"] == "English"
    assert MOST_ROWS >= 1000


def test_a_folder_without_rows_or_a_damaged_mix_is_one_sentence(tmp_path):
    ran = CliRunner().invoke(app, ["report", "--data", "nowhere", "--results", str(tmp_path)])
    assert ran.exit_code == 2
    assert "nowhere" in ran.stderr
    build(tmp_path / "out", [{"data": write(tmp_path / "c.jsonl", [chat(1)])}])
    (tmp_path / "out" / "mix.json").write_text('{"sources": 3}')
    with pytest.raises(DataError, match="is damaged"):
        data_analysis(str(tmp_path / "out"))
