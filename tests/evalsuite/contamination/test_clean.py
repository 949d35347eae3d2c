"""Figures on the items that are not in the training data."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.contamination.clean import clean_table
from evalsuite.records.rows import Row
from evalsuite.suites.figures import ReportPart
from evalsuite.suites.types import CheckedItem
from judges.types import Message
from tests.evalsuite.runs.test_runner import config, obliging, run
from tests.evalsuite.stub_endpoint import StubEndpoint


class Records:
    suite = SimpleNamespace(report_part=lambda key, part: ReportPart(part, key, scale=100.0))

    def __init__(self, rows):
        self._rows = rows

    def rows(self):
        return self._rows


def model(name, marks):
    rows = [
        Row(
            str(rank),
            prompt=(Message("system", "Be brief."), Message("user", f"Question  {rank}?"), Message("user", "Sure?")),
            marks={"score": (mark,)},
        )
        for rank, mark in enumerate(marks)
    ]
    return SimpleNamespace(name=name, suites={"quiz": {}}, records=lambda key: Records(rows))


ITEMS = [CheckedItem("quiz", f"id-{rank}", (f"question {rank}",)) for rank in range(6)]


def test_figures_are_given_with_and_without_the_items_in_the_data():
    # The last item was not checked; of the six checked ones two were found, and one has no mark.
    table = clean_table([model("m", [1.0, 1.0, 0.0, 1.0, 0.0, None, 1.0])], ITEMS, {"quiz": ["id-0", "id-1"]})
    [row] = table.rows
    assert (row["model"], row["figure"], row["n"], row["n_clean"]) == ("m", "quiz", 5, 3)
    assert (row["all"], row["clean"]) == (pytest.approx(60.0), pytest.approx(100 / 3))
    assert row["difference"] == pytest.approx(60 - 100 / 3)
    # Two fifths of (100 - 33.3); the found ones do not vary, the clean ones have variance 3333.3 over 3.
    half = 12.706 * 0.4 * (3333.333 / 3) ** 0.5
    assert row["difference_ci95"] == pytest.approx([60 - 100 / 3 - half, 60 - 100 / 3 + half], abs=0.01)


def test_without_found_items_both_figures_are_one_and_with_all_found_there_is_a_reason():
    [row] = clean_table([model("m", [1.0, 0.0])], ITEMS[:2], {}).rows
    assert (row["all"], row["clean"], row["difference"]) == (50.0, 50.0, 0.0)
    [row] = clean_table([model("m", [1.0, 0.0])], ITEMS[:2], {"quiz": ["id-0", "id-1"]}).rows
    assert (row["clean"], row["clean_why"]) == (None, "all items are in the data")
    assert clean_table([model("m", [1.0])], [CheckedItem("quiz", "x", ("something else",))], {}) is None


def test_the_command_shows_them_for_the_models_in_results(tmp_path):
    with StubEndpoint(obliging) as stub:
        outcome = run(config(stub, tmp_path / "results", suites=["mt_bench"]))
    [folder] = outcome.folders
    first = json.loads((folder / "records/mt_bench.jsonl").read_text().splitlines()[1])["prompt"]
    rows = [{"messages": [*first[:1], {"role": "assistant", "content": "Yes."}]}]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["analyze", "contamination", str(tmp_path / "data.jsonl"), "--data", "mini", "--suite", "mt_bench"]
    words += ["--results", str(tmp_path / "results")]
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    [row] = found["clean"]
    assert (row["model"], row["figure"], row["n"], row["n_clean"]) == ("stub", "mt_bench", 5, 4)
    assert "all minus these" in " ".join(CliRunner().invoke(app, words, env={"COLUMNS": "200"}).stdout.split())
