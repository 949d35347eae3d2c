"""The view of analyses: any document becomes tables and drawings, and a broken one is named."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from evalsuite.analysis.document import Analysis, Chart, Column, Table, table_csv, write_analysis
from evalsuite.report.analyses import MAX_ROWS, read_analyses, show_analysis
from evalsuite.report.build import build_report
from tests.evalsuite.report_results import index_of, mixeval_scores, write_model

COLUMNS = (
    Column("model", "Model"),
    Column("size", "conversations", "int"),
    Column("own", "Own", "float3"),
    Column("gap", "Gap", "signed1"),
    Column("share", "Share", "percent1"),
)


def row(model: str, size: int, own: float | None, gap: float, share: float, **more: Any) -> dict[str, Any]:
    return {"model": model, "size": size, "own": own, "gap": gap, "share": share, **more}


ROWS = (
    row("alpha", 100, 0.5, -2.0, 0.25, own_ci95=[0.4, 0.6]),
    row("alpha", 1000, 0.75, 3.0, 0.5),
    row("<b>beta</b>", 100, None, 1.0, 0.125, own_why="no common <prompts>"),
)


def document(**changed: Any) -> Analysis:
    charts = (
        Chart("bars", "Bars", "bars", "t", "model", ("own", "gap")),
        Chart("heat", "Heat", "heatmap", "t", "model", ("own", "gap", "share"), source="a paper, Table 9"),
        Chart("web", "Web", "spider", "t", "model", ("own", "size", "share")),
        Chart("line", "Line", "lines", "t", "model", ("share",), x="size"),
    )
    examples = {"alpha": [{"model": "m", "prompt": "<i>p</i>", "text": "<script>1</script>"}]}
    own = Analysis(
        "study", "s", "A study", "About.", {"at": "/secret/place/x"}, (Table("t", "T", COLUMNS, ROWS),), charts
    )
    return replace(own, examples=examples, **changed)


def test_every_kind_of_chart_is_drawn_as_well_formed_svg() -> None:
    shown = show_analysis("study-s", document())
    assert [chart.key for chart in shown.charts] == ["bars-own", "bars-gap", "heat", "web-spider", "line"]
    for chart in shown.charts:
        ET.fromstring(f"<g>{chart.drawing}</g>")
        assert chart.rows
        assert {len(cells) for cells in chart.rows} == {len(chart.head)}


def test_a_bar_of_a_negative_value_lies_left_of_zero() -> None:
    (chart,) = [chart for chart in show_analysis("x", document()).charts if chart.key == "bars-gap"]
    svg = ET.fromstring(str(chart.drawing))
    name = "{http://www.w3.org/2000/svg}"
    bars = [(float(one.get("x")), float(one.get("width"))) for one in svg.iter(f"{name}rect")]
    zero = max(float(one.get("x1")) for one in svg.iter(f"{name}line"))
    positive, smaller, negative = bars
    assert positive[0] == pytest.approx(zero, abs=0.01)
    assert negative[0] + negative[1] == pytest.approx(zero, abs=0.02)
    assert positive[1] == pytest.approx(3 * smaller[1], rel=0.01)


def test_a_chart_without_any_value_is_left_out() -> None:
    rows = [one | {"own": None, "gap": None, "share": None} for one in ROWS]
    empty = document(tables=(Table("t", "T", COLUMNS, rows),))
    assert show_analysis("x", empty).charts == []


def test_cells_carry_interval_reason_and_examples() -> None:
    first, _, last = show_analysis("x", document()).tables[0].rows
    assert (first[0].text, first[0].example) == ("alpha", "alpha")
    assert (first[2].text, first[2].spread) == ("0.500", "0.400 to 0.600")
    assert (last[2].text, last[2].why) == ("–", "no common <prompts>")
    assert [box.text for box in last[3:]] == ["+1.0", "12.5 %"]


def test_a_long_table_is_cut_in_the_page_and_whole_in_the_csv() -> None:
    rows = [row(f"m{n}", 1, 1.0, 1.0, 1.0) for n in range(MAX_ROWS + 7)]
    shown = show_analysis("x", document(tables=(Table("t", "T", COLUMNS, rows),)))
    assert shown.tables[0].hidden == 7
    assert shown.csv["t"].count("\n") == MAX_ROWS + 8


def test_the_page_holds_tables_exact_csv_and_examples_and_no_markup_of_theirs(tmp_path: Path) -> None:
    write_analysis(tmp_path, document())
    (tmp_path / "analyses" / "broken").mkdir()
    (tmp_path / "analyses" / "broken" / "analysis.json").write_text("{}", encoding="utf-8")
    report = build_report(tmp_path)
    page = report.html.read_text(encoding="utf-8")
    static = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "A study" in static
    assert "&lt;b&gt;beta&lt;/b&gt;" in static
    assert "<b>beta" not in static
    assert "/secret/place" not in page
    assert [fault for fault in report.faults if "broken" in fault]
    (analysis,) = index_of(report.html)["analyses"]
    assert analysis["folder"] == "study-s"
    assert set(analysis) == {"folder", "tables", "examples"}
    assert table_csv(document().tables[0]).count("\n") == 4


def test_what_does_not_fit_is_left_out_and_the_tables_stand(tmp_path: Path) -> None:
    text = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=300_000))
    write_analysis(tmp_path, big(text))
    small = build_report(tmp_path, limit_bytes=400_000)
    (analysis,) = index_of(small.html)["analyses"]
    assert analysis["examples"] is None
    assert analysis["tables"] is not None
    assert small.html_bytes < 400_000


def big(text: str) -> Analysis:
    return replace(document(), examples={"alpha": [{"model": "m", "prompt": "p", "text": text}]})


def test_no_analyses_no_view(tmp_path: Path) -> None:
    write_model(tmp_path, "m", {"mixeval": mixeval_scores(0.5)})
    faults: list[str] = []
    assert read_analyses(tmp_path, faults) == []
    assert faults == []
    assert 'id="analyses"' not in build_report(tmp_path).html.read_text(encoding="utf-8")
