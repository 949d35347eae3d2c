"""The page as researchers use it: the address is the state, keys walk, filters find, nothing is cut off."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalsuite.report.build import Report, build_report
from tests.browser.conftest import Visit, settle, until
from tests.browser.test_report_pages import slugs
from tests.evalsuite.report.test_tabs import by_two_judges
from tests.evalsuite.report_results import (
    index_of,
    mixeval_scores,
    write_model,
)

Visits = Callable[..., Visit]
PART = "mixeval%2Ffree_form"


def pair_list(report: Report, more: str = "") -> str:
    """Return the address of the pair's list, the model of 50k first."""
    small, large = sorted(slugs(report), key=len)
    return f"view=items&part={PART}&models={small},{large}{more}"


def items(page: Any) -> list[str]:
    names: list[str] = page.locator("#view table.items tbody th").all_inner_texts()
    return names


def address(page: Any) -> str:
    return str(page.evaluate("location.hash.slice(1)"))


def views(report: Report, n: int = 10) -> dict[str, str]:
    one, two, *_ = found = slugs(report)
    part = index_of(report.html)["parts"][0]["name"].replace("/", "%2F")
    return {
        "table": "",
        "model": f"view=model&model={one}",
        "compare": f"view=compare&a={one}&b={two}",
        "items": f"view=items&part={part}&models={','.join(found[:n])}",
        "item": f"view=item&part={part}&item=0&models={one},{two}",
        "categories": "view=categories",
        "tokens": "view=tokens",
        "preferences": "view=preferences",
    }


UNFOLD = "document.querySelectorAll('details:not(.popup)').forEach((one) => { one.open = true })"

CUT_OFF = """() => [...document.querySelectorAll("td, th, summary, button, a, h2, h3, label, dt, dd")]
  .filter((one) => one.offsetParent && getComputedStyle(one).display !== "inline")
  .filter((one) => one.scrollWidth > one.clientWidth + 1)
  .map((one) => one.tagName + " " + one.className + " " + one.textContent.trim().slice(0, 60))"""


@pytest.mark.parametrize("width", [390, 768, 1400, 1920])
@pytest.mark.parametrize("which", ["ten", "pair", "described"])
def test_no_text_is_cut_off_and_the_page_does_not_scroll_sideways(
    request: pytest.FixtureRequest, which: str, visit: Visits, width: int
) -> None:
    report = request.getfixturevalue(which)
    there = visit(viewport={"width": width, "height": 900}, color_scheme="dark" if width == 768 else "light")
    for name, view in views(report).items():
        page = there.open(report.html, view)
        page.evaluate(UNFOLD)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate(CUT_OFF) == [], name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_any_view(ten: Report, pair: Report, described: Report, browser: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe (pip install evalsuite[dev])")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    # The page's own policy would refuse the script of the test.
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    for report in (ten, pair, described):
        for name, view in views(report).items():
            page.goto("about:blank")
            page.goto(f"{report.html.resolve().as_uri()}#{view}")
            page.wait_for_selector("html[data-ready]")
            page.evaluate(UNFOLD)
            page.evaluate(script)
            found = page.evaluate(
                "axe.run().then((all) => all.violations.map((one) => [one.id, one.nodes[0].html.slice(0, 200)]))"
            )
            assert found == [], name
    context.close()


def test_back_and_reload_give_the_same_view(ten: Report, visit: Visits) -> None:
    page = visit().open(ten.html)
    page.fill("#filter", "b0")
    page.locator(".board th[data-column=bbh] button").click()
    page.select_option("#group", "dgm")
    page.click("#columns summary")
    page.uncheck("#columns input[value=mixeval]")
    page.keyboard.press("Escape")
    settle(page, "columns")
    state = page.locator(".board").inner_text()
    page.locator(".board tr:not([hidden]) a.name").nth(2).click()
    page.wait_for_selector("#view h2")
    assert page.title().startswith("B0")
    page.go_back()
    page.wait_for_selector("#home:not([hidden])")
    settle(page, "columns")
    assert page.locator(".board").inner_text() == state
    assert page.title() == "Leaderboard · evalsuite"
    assert page.evaluate("document.activeElement.className") == "name"
    there = visit().open(ten.html, address(page))
    assert there.locator(".board").inner_text() == state
    assert there.locator("#filter").input_value() == "b0"


def test_an_empty_filter_says_so_and_charts_follow_it(ten: Report, visit: Visits) -> None:
    page = visit().open(ten.html)
    drawn = page.locator("#chart-1-bars-mt_bench g[data-model]")
    assert drawn.count() == 10
    page.fill("#filter", "100k")
    settle(page, "filter")
    until(page, "document.querySelectorAll('.board tr[data-slug]:not([hidden])').length < 10")
    left = page.locator(".board tr[data-slug]:visible").count()
    assert sum(one.is_visible() for one in drawn.all()) == left
    page.fill("#filter", "nothing like it")
    page.wait_for_selector("section.tab .nothing:visible")
    assert "No model matches" in page.locator("section.tab .nothing").inner_text()
    page.get_by_role("button", name="Clear the filter").click()
    until(page, "document.querySelectorAll('.board tr[data-slug]:not([hidden])').length === 10")
    page = visit().open(ten.html, "view=items&q=nothing+like+it")
    assert "No item matches" in page.locator("#view .nothing").inner_text()


def test_the_saved_table_has_intervals_and_counts(ten: Report, visit: Visits) -> None:
    page = visit(accept_downloads=True).open(ten.html)
    with page.expect_download() as saved:
        page.click("#save-table")
    rows = list(csv.DictReader(Path(saved.value.path()).read_text("utf-8").splitlines()))
    assert len(rows) == 10
    assert {"bbh", "bbh_ci_low", "bbh_ci_high", "bbh_n"} <= set(rows[0])
    assert float(rows[0]["bbh_ci_low"]) < float(rows[0]["bbh"]) < float(rows[0]["bbh_ci_high"])


def test_popups_close_by_escape_and_by_a_click_outside(ten: Report, visit: Visits) -> None:
    page = visit().open(ten.html)
    popup = page.locator("#columns")
    page.click("#columns summary")
    page.keyboard.press("Escape")
    assert popup.get_attribute("open") is None
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.click("#columns summary")
    page.mouse.click(5, 500)
    assert popup.get_attribute("open") is None


def test_keys_search_and_list_themselves(ten: Report, visit: Visits) -> None:
    page = visit().open(ten.html)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "filter"
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.className") == "name"
    page.keyboard.press("?")
    assert "next item" in page.locator("dialog#keys").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("dialog#keys").is_visible()


def test_terms_explain_themselves_to_the_keyboard(ten: Report, visit: Visits) -> None:
    page = visit().open(ten.html)
    page.locator("section.tab .legend .term", has_text="DGM").focus()
    assert "Data generating model" in page.locator("#tip").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()
    page.get_by_role("link", name="Glossary", exact=True).click()
    assert {"DGM", "mark", "WR", "Mean of 7", "Mean of 9", "greedy", "unscored", "norm."} <= set(
        page.locator("#glossary dt").all_inner_texts()
    )


def test_targets_and_borders_are_large_and_clear_enough(ten: Report, visit: Visits) -> None:
    page = visit().open(ten.html)
    box = page.locator(".board .pick").first.bounding_box()
    assert min(box["width"], box["height"]) >= 24
    colours = page.locator("#filter").evaluate(
        "one => [getComputedStyle(one).borderColor, getComputedStyle(one).backgroundColor]"
    )
    assert contrast(*colours) >= 3


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_categories_have_intervals_and_sort_by_either_side(ten: Report, visit: Visits) -> None:
    page = visit().open(ten.html, "view=categories&of=mixeval")
    cell = page.locator("#view table.heat td a").first
    assert "95 % interval" in cell.get_attribute("title")
    page.locator("#view table.heat thead button").first.click()
    settle(page, "by=")
    values = page.locator("#view table.heat tbody tr td:nth-child(2)").evaluate_all(
        "all => all.map(one => Number(one.dataset.value))"
    )
    assert values == sorted(values, reverse=True)
    assert page.evaluate("wilson(0.5, 25)") == pytest.approx([0.3175, 0.6825], abs=1e-4)


def test_the_front_of_score_and_tokens_is_marked(ten: Report, visit: Visits) -> None:
    page = visit().open(ten.html, "view=tokens")
    points = [{"x": 1, "y": 1}, {"x": 2, "y": 3}, {"x": 3, "y": 2}, {"x": 4, "y": 4}]
    assert page.evaluate("points => frontOf(points)", points) == [points[0], points[1], points[3]]
    assert page.locator("#view svg circle").count() == 10
    assert "on the front" in page.locator("#view table").inner_text()


def test_print_shows_the_tab_and_begins_on_the_first_page(ten: Report, visit: Visits) -> None:
    page = visit().open(ten.html)
    page.emulate_media(media="print")
    assert page.locator(".board").bounding_box()["y"] < 300
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflow") == "visible"


def test_analyses_are_printed_unfolded_with_the_names_of_their_rows(described: Report, visit: Visits) -> None:
    page = visit().open(described.html)
    table = page.locator(".analysis .measured").first
    visible = "one => one.checkVisibility({ contentVisibilityAuto: true, visibilityProperty: true })"
    assert not table.evaluate(visible)
    page.emulate_media(media="print")
    assert table.evaluate(visible)
    assert page.locator(".analysis .word").first.evaluate(visible)


def test_the_tab_that_was_open_is_marked_in_print(tmp_path: Path, visit: Visits) -> None:
    by_two_judges(tmp_path)
    page = visit().open(build_report(tmp_path).html, "tab=2")
    page.emulate_media(media="print")
    borders = page.locator("#tabs a").evaluate_all("all => all.map((one) => getComputedStyle(one).borderTopWidth)")
    assert borders == ["1px", "2px"]


def test_bars_of_a_histogram_stand_in_the_order_of_its_ranges(described: Report, visit: Visits) -> None:
    """The prompts of the first file have 12 to 23 words of five letters: every bin of characters in rising order."""
    page = visit().open(described.html)
    chart = page.locator("figure.chart", has_text="Characters of a user turn").first
    heads = chart.locator("thead th").all_text_contents()
    starts = [int(text.split(" to ")[0].replace(",", "")) for text in chart.locator("tbody th").all_text_contents()]
    assert heads == ["characters of a user turn", "count"]
    assert starts == sorted(starts)
    assert sum(map(int, chart.locator("tbody td").all_text_contents())) == 12


def test_a_score_stands_against_the_seconds_that_it_took(tmp_path: Path, visit: Visits) -> None:
    """Of 10 s for 0.5, 20 s for 0.4 and 40 s for 0.9 the second is beaten by the first."""
    for name, score, seconds in (("quick", 0.5, 10.0), ("beaten", 0.4, 20.0), ("slow", 0.9, 40.0)):
        write_model(tmp_path, name, {"mixeval": mixeval_scores(score)}, seconds={"generate": seconds})
    page = visit().open(build_report(tmp_path).html, "view=tokens&cost=seconds")
    assert page.locator("#view [data-control=cost]").input_value() == "seconds"
    rows = [row.locator("th, td").all_inner_texts() for row in page.locator("#view table tbody tr").all()]
    assert rows == [
        ["quick", "10.0", "0.500", "on the front"],
        ["beaten", "20.0", "0.400", ""],
        ["slow", "40.0", "0.900", "on the front"],
    ]
    places = page.locator("#view svg circle").evaluate_all("all => all.map((one) => Number(one.getAttribute('cx')))")
    # A logarithmic axis: twice the seconds are the same step. Circles are drawn from the highest score down.
    slow, quick, beaten = places
    assert slow - beaten == pytest.approx(beaten - quick)


def test_the_ranks_of_the_page_are_those_of_the_tests(ten: Report, visit: Visits) -> None:
    """A rank is a range where the tests leave it open; the page writes it at first, and again in other columns."""
    index = index_of(ten.html)
    [tab], order = index["tabs"], [model["slug"] for model in index["models"]]
    page = visit().open(ten.html)
    for column in (tab["sort"], "alpaca_win_rate"):
        page.evaluate("sort => { location.hash = `sort=${sort}` }", column)
        page.wait_for_selector(f".board th[data-column={column}][aria-sort]", state="attached")
        ranks = tab["ranks"][column.replace("average_", "average.")]
        for row in page.locator(".board tr[data-slug]").all():
            low, high = ranks[str(order.index(row.get_attribute("data-slug")))]
            expected = str(low) if low == high else f"{low}–{high}"
            assert row.locator("[data-column=rank]").inner_text() == expected
