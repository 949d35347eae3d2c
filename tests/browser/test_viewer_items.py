"""Lists of items and single items in the page: walked by keys, filtered, counted, compared and explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from evalsuite.report.build import Report, build_report
from tests.browser.conftest import settle, until
from tests.browser.test_report_pages import slugs
from tests.browser.test_viewer_pages import PART, Visits, address, items, pair_list, views
from tests.evalsuite.report_results import (
    index_of,
    mt_bench_row,
    mt_bench_scores,
    write_model,
    write_rows,
)
from tests.evalsuite.runs.test_panel_run import Judged, rates
from tests.evalsuite.stub_endpoint import text_reply


def test_a_list_of_ten_models_has_a_readable_question(ten: Report, visit: Visits) -> None:
    address_of_list = f"view=items&part={PART}&models={','.join(slugs(ten))}"
    page = visit(viewport={"width": 1400, "height": 900}).open(ten.html, address_of_list)
    box = page.locator("#view .question-cell").first.bounding_box()
    assert box["width"] >= 300
    assert page.locator("#view table.items tbody tr").nth(1).bounding_box()["height"] <= 60
    region = page.locator("#view [aria-label=Items]")
    region.evaluate("one => { one.scrollLeft = 500; one.scrollTop = 300 }")
    left = region.bounding_box()["x"]
    assert page.locator("#view tbody .pinned").nth(9).bounding_box()["x"] == pytest.approx(left, abs=1)
    assert page.locator("#view thead th").last.bounding_box()["y"] == pytest.approx(region.bounding_box()["y"], abs=1)


def test_a_phone_shows_a_list_on_few_screens(ten: Report, visit: Visits) -> None:
    page = visit(viewport={"width": 390, "height": 800}).open(ten.html, views(ten, 2)["items"])
    assert page.evaluate("document.documentElement.scrollHeight") < 3000


def test_next_and_previous_walk_the_filtered_list_in_its_order(pair: Report, visit: Visits) -> None:
    page = visit().open(pair.html, pair_list(pair, "&order=a-first&only=differ"))
    assert items(page) == ["1", "2", "3"]
    page.locator("#view table.items a").first.click()
    page.wait_for_selector("#view h2:has-text('item 1')")
    for key, heading in (("ArrowRight", "item 2"), ("j", "item 3"), ("k", "item 2"), ("ArrowLeft", "item 1")):
        page.keyboard.press(key)
        page.wait_for_selector(f"#view h2:has-text('{heading}')")
    page.get_by_role("link", name="The filtered list").click()
    page.wait_for_selector("#view table.items")
    assert items(page) == ["1", "2", "3"]


def test_the_items_filters_are_in_the_address(pair: Report, visit: Visits) -> None:
    page = visit().open(pair.html, pair_list(pair))
    page.fill("#view input.search", "250k")
    settle(page, "q=")
    page.select_option("#view [data-control=only]", "unscored")
    page.wait_for_selector("#view table.items tbody tr:only-child")
    assert items(page) == ["5"]
    again = visit().open(pair.html, address(page))
    assert items(again) == ["5"]
    assert again.locator("#view [data-control=only]").input_value() == "unscored"
    again.select_option("#view [data-control=only]", "")
    until(again, "document.querySelectorAll('#view table.items tbody tr').length === 6")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("fields=both", ["0"]),
        ("fields=a", ["1", "2"]),
        ("fields=b", ["3"]),
        ("fields=none", ["4"]),
        ("unscored=no_rating", ["5"]),
        ("only=closed", ["0"]),
        ("only=guided", ["2"]),
        ("q=answer+3", ["3"]),
        ("score=0", ["1", "2", "3", "4"]),
        ("category=TriviaQA", ["0", "1", "2", "3", "4", "5"]),
    ],
)
def test_filters_find_the_items(pair: Report, visit: Visits, state: str, expected: list[str]) -> None:
    page = visit().open(pair.html, pair_list(pair, f"&{state}"))
    assert items(page) == expected


def test_an_item_says_that_its_verdict_was_forced(pair: Report, visit: Visits) -> None:
    page = visit().open(pair.html, pair_list(pair, "&only=guided").replace("view=items", "view=item") + "&item=2")
    shown = page.locator("#view .verdict").first.inner_text()
    assert "completed under guided output: the text named another verdict" in shown


def test_the_four_fields_count_and_test(pair: Report, visit: Visits) -> None:
    """A alone is right on 2 items and B alone on 1: the exact two-sided p of 1 in 3 is 1."""
    page = visit().open(pair.html, pair_list(pair))
    assert page.locator("#view .fields b").all_inner_texts() == ["1", "2", "1", "1"]
    assert "p = 1.000 (2 against 1)" in page.locator("#view").inner_text()
    assert page.evaluate("mcnemar(0, 5)") == pytest.approx(2 / 32)
    assert page.evaluate("mcnemar(3, 9)") == pytest.approx(0.1459961, abs=1e-6)
    page.locator("#view .fields a").nth(1).click()
    until(page, "document.querySelectorAll('#view table.items tbody tr').length === 2")
    assert items(page) == ["1", "2"]


def test_preferences_keep_their_caveats(pair: Report, visit: Visits) -> None:
    page = visit().open(pair.html, "view=preferences")
    caveats = " ".join(page.locator("#view .caveat").all_inner_texts())
    for words in ("is one of the models", "has no card", "shown first wins 100.0 % of 16 games"):
        assert words in caveats
    text = page.locator("#view").inner_text()
    assert "62.5 (5–1–2)" in text
    assert "0.121" in text
    assert "66.7 (2–0–1)" in text


def test_a_pair_of_answers_has_its_word_diff(pair: Report, visit: Visits) -> None:
    there = visit()
    page = there.open(pair.html, pair_list(pair, "&item=1&diff=1").replace("view=items", "view=item"))
    assert (
        page.locator("#view article del").all_inner_texts() == ["50k"[:0] + "-50k"[1:]]
        or page.locator("#view del").count()
    )
    assert page.evaluate("wordDiff('a b c d', 'a x c')") == [
        ["=", "a "],
        ["-", "b"],
        ["+", "x"],
        ["=", " c"],
        ["-", " d"],
    ]
    assert page.evaluate("wordDiff('', 'x')") == [["+", "x"]]
    assert page.evaluate("wordDiff('x', 'x')") == [["=", "x"]]
    there.go("view=preferences", "Preferences")
    page.locator("#view .verdict-row summary").click()
    page.locator("#view .verdict-row button", has_text="Word diff").click()
    assert page.locator("#view .verdict-row del").all_inner_texts() == ["first"]
    assert page.locator("#view .verdict-row ins").all_inner_texts() == ["last"]


def test_thoughts_are_folded_with_their_tokens(pair: Report, visit: Visits) -> None:
    page = visit().open(pair.html, f"view=item&part={PART}&item=0")
    thought = page.locator("#view details.thought").first
    assert thought.get_attribute("open") is None
    assert "40 thought tokens · 4 answer tokens · thinking cut at its budget" in page.locator("#view").inner_text()
    thought.locator("summary").click()
    assert "let me think" in thought.inner_text()


def test_turns_of_all_answers_stand_beside_each_other(tmp_path: Path, visit: Visits) -> None:
    for name, first in (("short", "one line"), ("long", "many lines\n\n" * 30)):
        folder = write_model(tmp_path, name, {"mt_bench": mt_bench_scores(7.0)})
        write_rows(folder, "mt_bench", [mt_bench_row([first, "second answer"])])
    page = visit().open(build_report(tmp_path).html, "view=item&part=mt_bench&item=0")
    tops = [one.bounding_box()["y"] for one in page.locator("#view h4", has_text="Answer, turn 2").all()]
    assert tops[0] == pytest.approx(tops[1], abs=1)


def test_choices_are_bars_with_the_right_one_marked(ten: Report, visit: Visits) -> None:
    part = next(one["name"] for one in index_of(ten.html)["parts"] if "bbh" in one["name"])
    page = visit().open(ten.html, f"view=item&part={part.replace('/', '%2F')}&item=0")
    table = page.locator("#view article table").first
    assert "✓ right" in table.inner_text()
    assert table.locator(".bar").count() == table.locator("tbody tr").count()
    assert page.locator("#view .read dt").all_inner_texts()[:2] == ["most likely", "right"]


def test_the_difference_is_of_the_items_that_both_have(pair: Report, visit: Visits) -> None:
    """On the five items that both were marked on, A has 3 and B 2; all items of B are six."""
    one, two = sorted(slugs(pair), key=len)
    page = visit().open(pair.html, f"view=compare&a={one}&b={two}")
    cells = page.locator("#view table").first.locator("tr", has_text="MixEval").locator("td").all_inner_texts()
    assert cells[:3] == ["0.600", "0.400", "0.200"]
    assert (cells[4], cells[5]) == ("5", "shared, paired")
    assert cells[6:] == ["0.500", "0.500"]


def test_the_items_on_which_judges_disagree_are_found(tmp_path: Path, visit: Visits) -> None:
    """Two judges and their panel: one of them rates the bakery's item 9 and the others 5, the other rates all 5."""

    def by_category(_: str, body: Any) -> tuple[int, Any]:
        text = "\n".join(message["content"] for message in body["messages"])
        return 200, text_reply(f"Rating: [[{9 if 'bakery' in text else 5}]]")

    with Judged(tmp_path, one=by_category, other=rates(5)) as judged:
        [disputed] = judged.run()["suites"]["mt_bench"]["panel"]["disputed_items"]
    report = build_report(tmp_path)
    names = [model["slug"] for model in index_of(report.html)["models"]]
    assert len(names) == 3
    for name in names:
        page = visit().open(report.html, f"view=items&part=mt_bench&models={quote(name)}")
        assert len(items(page)) == 5
        page.select_option("#view [data-control=only]", label="where judges disagree")
        page.wait_for_selector("#view table.items tbody tr:only-child")
        assert items(page) == [disputed]
