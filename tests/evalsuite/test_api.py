"""The Python verbs: what they show of themselves, and their tables."""

from __future__ import annotations

import inspect
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import evalsuite
from evalsuite.config import RunConfig, options_by_key
from evalsuite.errors import DataError
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """MT-Bench's mini data, answered and judged by a script that always rates 7."""
    folder = tmp_path_factory.mktemp("results")
    with StubEndpoint(lambda *_: (200, text_reply("Rating: [[7]]"))) as stub:
        model = f"stub@{stub.url}"
        return folder, evalsuite.run(model, suites=["mt_bench"], judge=model, data="mini", results=folder)


def test_the_verbs_are_listed_and_every_option_is_in_the_signature():
    assert {"run", "compare", "score", "report", "load_results", "load_items"} <= set(dir(evalsuite))
    shown = inspect.signature(evalsuite.run).parameters
    assert options_by_key(RunConfig).keys() - {"models"} <= shown.keys()
    assert shown["limit"].annotation == "int | None"
    assert "options" not in shown


def test_the_types_of_the_options_are_those_of_the_models():
    script = ROOT / "docs" / "site" / "options.py"
    written = runpy.run_path(str(script))["written"]()
    formatted = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "-", "--line-length", "120"],
        input=written, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert (ROOT / "evalsuite" / "api_options.py").read_text() == formatted, f"run {script}"


def test_results_are_the_json_and_a_table_in_a_notebook(ran):
    _, results = ran
    [scores] = results
    assert json.loads(json.dumps(scores))["suites"]["mt_bench"]["score"] == 7.0
    page = results._repr_html_()
    assert "MT-Bench" in page
    assert "7.00" in page


def test_items_have_a_row_each(ran):
    folder, [scores] = ran
    items = evalsuite.load_items(folder)
    assert isinstance(items, pd.DataFrame)
    assert len(items) == scores["suites"]["mt_bench"]["n"] / 2  # an item has two turns
    assert set(items["suite"]) == {"mt_bench"}
    assert (items["mark"] == 7.0).all()
    assert evalsuite.load_items(folder, suite="mixeval").empty
    with pytest.raises(DataError, match="unknown model 'stubb'; did you mean 'stub'"):
        evalsuite.load_items(folder, model="stubb")


def test_short_results_have_the_figure_its_interval_and_n(ran):
    folder, _ = ran
    [row] = evalsuite.load_results(folder, short=True).to_dict("records")
    assert (row["model"], row["judge"], row["data"], row["mt_bench"]) == ("stub", "stub", "mini", 7.0)
    assert evalsuite.load_results(folder)["mt_bench.score"].tolist() == [7.0]


def test_a_report_says_what_it_holds(ran):
    folder, _ = ran
    written = evalsuite.report(folder)
    assert (written.models, written.faults) == (1, [])
    assert written.html.is_file()
