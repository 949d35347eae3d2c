"""The page as researchers use it: the address is the state, keys walk, filters find, nothing is cut off."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from msgspec.structs import replace

from evalsuite.analysis.document import write_analysis
from evalsuite.files import write_json, write_jsonl
from evalsuite.records.rows import Draw, Reply, Row
from evalsuite.report.build import Report, build_report
from evalsuite.report.data import data_analysis
from tests.browser.conftest import Visit, settle
from tests.browser.test_report_pages import slugs
from tests.evalsuite.report.test_curves import write_run
from tests.evalsuite.report.test_tabs import by_two_judges
from tests.evalsuite.report_results import (
    free_form_row,
    index_of,
    mixeval_scores,
    mt_bench_row,
    mt_bench_scores,
    write_model,
    write_rows,
)
from tests.evalsuite.runs.test_panel_run import Judged, rates
from tests.evalsuite.stub_endpoint import text_reply
from tests.evalsuite.synthetic_results import write_synthetic

Visits = Callable[..., Visit]
PART = "mixeval%2Ffree_form"


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Report:
    results = tmp_path_factory.mktemp("ten")
    write_synthetic(results, 10, 150)
    return build_report(results)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Two models with long names that end differently, on six items of known marks, and a comparison of both."""
    results = tmp_path_factory.mktemp("pair")
    names = [f"llama-3.1-8b-instruct-wildchat-rewild-distilled-{size}" for size in ("50k", "250k")]
    marks = {names[0]: [1.0, 1.0, 1.0, 0.0, 0.0, None], names[1]: [1.0, 0.0, 0.0, 1.0, 0.0, 1.0]}
    for name, own in marks.items():
        folder = write_model(results, name, {"mixeval": mixeval_scores(0.5, n=6)})
        rows = [
            free_form_row(str(place), f"answer {place} of {name.split('-')[-1]}", mark)
            for place, mark in enumerate(own)
        ]
        rows[0] = _thinking(rows[0])
        rows[2] = replace(rows[2], verdicts=(replace(rows[2].verdicts[0], closed_by_guide=True, contradicts=True),))
        write_rows(folder, "mixeval", rows)
    document = {"models": names, "judge": {"name": "j", "is_candidate": True}, "n_prompts": 8} | {
        "pairs": [
            {"a": names[0], "b": names[1], "wins_a": 5, "wins_b": 2, "ties": 1, "unscored": 0, "position_flips": 3}
            | {"rate_a": 0.625, "rate_b": 0.25, "ci95_a": [0.3, 0.86], "p_value": 0.04, "p_value_holm": 0.121}
            | {"categories": {"coding": {"wins_a": 2, "wins_b": 1, "ties": 0, "rate_a": 0.667, "rate_b": 0.333}}}
        ],
        "flips": [],
        "position_bias": {"first_rate": 1.0, "ci95": [0.8, 1.0], "n_games": 16},
    }
    write_json(results / "comparisons" / "c" / "preferences.json", document)
    verdict = {"prompt_id": "1", "prompt": "P", "a": names[0], "b": names[1], "winner": "a", "position_flip": True}
    verdict |= {"answer_a": "the same first word", "answer_b": "the same last word", "unscored": None}
    write_jsonl(results / "comparisons" / "c" / "verdicts.jsonl", [verdict | {"a_first": {"preference_first": 0.9}}])
    return build_report(results)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Three checkpoints of a training run, and two pages of conversations with near-duplicates."""
    results = tmp_path_factory.mktemp("described")
    write_run(results, [10, 200, 1000])
    for name, n in (("first", 12), ("second", 30)):
        data = results.parent / f"{name}.jsonl"
        chats = [
            {"messages": [{"role": "user", "content": "word " * (n + place)}, {"role": "assistant", "content": "So."}]}
            for place in range(n)
        ]
        data.write_text("".join(json.dumps(chat) + "\n" for chat in chats), "utf-8")
        write_analysis(results, data_analysis(str(data)))
    return build_report(results)


def _thinking(row: Row) -> Row:
    reply = Reply(row.replies[0].text, thought="let me think", thought_tokens=40, answer_tokens=4, thought_closed=True)
    return replace(row, draws=(Draw((reply,)),))


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
    again.wait_for_function("document.querySelectorAll('#view table.items tbody tr').length === 6")


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
    page.wait_for_function("document.querySelectorAll('#view table.items tbody tr').length === 2")
    assert items(page) == ["1", "2"]


def test_an_empty_filter_says_so_and_charts_follow_it(ten: Report, visit: Visits) -> None:
    page = visit().open(ten.html)
    drawn = page.locator("#chart-1-bars-mt_bench g[data-model]")
    assert drawn.count() == 10
    page.fill("#filter", "100k")
    settle(page, "filter")
    page.wait_for_function("document.querySelectorAll('.board tr[data-slug]:not([hidden])').length < 10")
    left = page.locator(".board tr[data-slug]:visible").count()
    assert sum(one.is_visible() for one in drawn.all()) == left
    page.fill("#filter", "nothing like it")
    page.wait_for_selector("section.tab .nothing:visible")
    assert "No model matches" in page.locator("section.tab .nothing").inner_text()
    page.get_by_role("button", name="Clear the filter").click()
    page.wait_for_function("document.querySelectorAll('.board tr[data-slug]:not([hidden])').length === 10")
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
