"""The page of ``evalsuite label`` in a browser: keys, memory, and the file that is saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evalsuite.comparison.human import read_labels
from evalsuite.labelling.settings import LabelConfig
from evalsuite.labelling.sheet import draw, write_sheet
from tests.evalsuite.labelling.test_sheet import row, write_comparison


def test_labels_are_given_by_keyboard_kept_and_saved(tmp_path: Path, visit: Callable[..., Any]) -> None:
    rows = [row(number, 0.5) for number in range(4)]
    rows[0] = row(0, 0.5, answer_a="<img src=x onerror='window.__pwned=1'>")
    folder, sheet = write_comparison(tmp_path / "pair", rows), tmp_path / "sheet.html"
    assert write_sheet(LabelConfig(comparison=folder, out=sheet)) == 4
    drawn = draw(rows, 100, 0)
    one = visit(accept_downloads=True)
    page = one.open(sheet)
    left = [each.row.answer_b if each.is_turned else each.row.answer_a for each in drawn]
    assert page.text_content("#left") == left[0]
    page.keyboard.press("a")
    assert page.text_content("#number") == "Pair 2 of 4"
    page.keyboard.press("B")
    page.keyboard.press("t")
    page.keyboard.press("ArrowLeft")
    assert page.get_attribute("[data-label=tie]", "aria-pressed") == "true"
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert (page.text_content("#number"), page.text_content("#progress")) == ("Pair 3 of 4", "3 of 4 labelled")
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "labels.jsonl"
    saved = tmp_path / "labels.jsonl"
    download.value.save_as(saved)
    lines = [json.loads(line) for line in saved.read_text().splitlines()]
    sides = [("b" if drawn[0].is_turned else "a"), ("a" if drawn[1].is_turned else "b"), "tie"]
    assert [line["label"] for line in lines] == sides
    assert [line["prompt_id"] for line in lines] == [each.row.prompt_id for each in drawn[:3]]
    assert {line["chance"] for line in lines} == {1.0}
    assert len(read_labels(saved, [("x", "y")], [str(number) for number in range(4)])["x", "y"]) == 3
