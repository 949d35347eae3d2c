"""The view of analyses in a real browser: figures are saved as CSV and SVG, a word opens its examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from evalsuite.analysis.document import table_csv, write_analysis
from evalsuite.report.build import Report, build_report
from tests.browser.conftest import Visit
from tests.browser.hostile import ANSWERS
from tests.evalsuite.report.test_analyses import document

Visits = Callable[..., Visit]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    results = tmp_path_factory.mktemp("analyses")
    examples = {"alpha": [{"model": text[:30], "prompt": text, "text": text} for text in ANSWERS]}
    write_analysis(results, replace(document(), examples=examples, title=ANSWERS[0]))
    write_analysis(results, replace(document(), kind="paper", name="p", title="Published"))
    return build_report(results)


def test_tables_and_charts_are_saved_whole(report: Report, visit: Visits) -> None:
    there = visit(accept_downloads=True)
    page = there.open(report.html, "analyses")
    page.evaluate("document.querySelectorAll('.analysis').forEach(one => { one.open = true })")
    with page.expect_download() as saved:
        page.locator("#analysis-1 [data-table=t]").click()
    assert saved.value.suggested_filename == "study-s-t.csv"
    assert Path(saved.value.path()).read_text(encoding="utf-8") == table_csv(document().tables[0])
    for key in ("bars-own", "heat", "web-spider", "line"):
        with page.expect_download() as saved:
            page.locator(f"#chart-a1-{key} [data-save=svg]").click()
        ET.parse(saved.value.path())


def test_a_word_opens_its_examples_as_text(report: Report, visit: Visits) -> None:
    there = visit()
    page = there.open(report.html, "analyses")
    page.evaluate("document.querySelectorAll('.analysis').forEach(one => { one.open = true })")
    word = page.locator("#analysis-1 [data-example=alpha]").first
    word.click()
    page.wait_for_selector("#analysis-1 .examples details")
    assert page.locator("#analysis-1 .examples details").count() == len(ANSWERS)
    page.evaluate("document.querySelectorAll('.examples details').forEach(one => { one.open = true })")
    assert page.locator(".examples script, .examples img, .examples iframe, .examples form").count() == 0
    assert word.get_attribute("aria-expanded") == "true"
    word.click()
    assert page.locator("#analysis-1 .examples details").count() == 0


def test_the_view_fits_a_phone(report: Report, visit: Visits) -> None:
    there = visit(viewport={"width": 390, "height": 800})
    page = there.open(report.html, "analyses")
    page.evaluate("document.querySelectorAll('.analysis').forEach(one => { one.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
