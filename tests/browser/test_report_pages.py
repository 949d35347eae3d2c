"""The leaderboard in a real browser: hostile answers stay text, every view opens, sorting and saving work."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from scipy.special import stdtrit

from evalsuite.files import write_json, write_jsonl
from evalsuite.records.files import RecordsFile, records_path
from evalsuite.report.build import Report, build_report
from tests.browser.conftest import Visit, until
from tests.browser.hostile import ANSWERS, HOST, RUN
from tests.evalsuite.report.test_tabs import by_two_judges
from tests.evalsuite.report_results import (
    JUDGE,
    index_of,
    mixeval_scores,
    mt_bench_scores,
    write_free_form,
    write_many_pages,
    write_model,
)
from tests.evalsuite.synthetic_results import BBH_TASK, write_synthetic

Visits = Callable[..., Visit]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Two models whose names, answers, prompts, judgments and verdicts are all hostile."""
    results = tmp_path_factory.mktemp("hostile")
    names = [f"<img src=x onerror={RUN}>", f"</script><script>{RUN}</script>\u202e"]
    for name in names:
        judge = {**JUDGE, "name": names[0], "note": f"<script>{RUN}</script>"}
        training = {"base": names[1], "dgm": names[0], "n_conversations": 100 * len(name)}
        suites = {"mixeval": mixeval_scores(0.5), "mt_bench": mt_bench_scores(7.0)}
        folder = write_model(results, name, suites, judge=judge, training=training, hostile=list(ANSWERS))
        write_free_form(folder, [(f"{n} {ANSWERS[1]}", answer, 0.5) for n, answer in enumerate(ANSWERS)], echo=True)
    pair = {"a": names[0], "b": names[1], "wins_a": 1, "wins_b": 0, "ties": 0, "unscored": 0, "rate_a": 1, "rate_b": 0}
    document = {"models": names, "judge": {"name": names[0]}, "n_prompts": 1, "pairs": [pair], "flips": []}
    write_json(results / "comparisons" / "c" / "preferences.json", document)
    write_jsonl(
        results / "comparisons" / "c" / "verdicts.jsonl",
        [
            {"prompt_id": str(place), "prompt": answer, "a": names[0], "b": names[1], "category": answer[:40]}
            | {"answer_a": answer, "answer_b": answer, "winner": "a", "position_flip": True, "unscored": None}
            | {"a_first": {"preference_first": 0.7, "logprobs": {answer[:20]: -0.1}, "text": answer}, "b_first": None}
            for place, answer in enumerate(ANSWERS)
        ],
    )
    card = {"judge": {"fingerprint": JUDGE["fingerprint"]}, "x": list(ANSWERS)}
    write_json(results / "judges" / "j-ffffffff" / "card.json", card)
    return build_report(results)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Report:
    results = tmp_path_factory.mktemp("synthetic")
    write_synthetic(results, 5, 150)
    return build_report(results)


def folders(report: Report) -> list[str]:
    return sorted(path.parent.name for path in report.html.parent.glob("*/scores.json"))


def slugs(report: Report) -> list[str]:
    """The names in addresses."""
    return [name.replace(",", "_") for name in folders(report)]


def test_no_hostile_answer_runs_loads_or_leaves(hostile: Report, visit: Visits) -> None:
    there = visit()
    page = there.open(hostile.html)
    assert hostile.items == 2 * len(ANSWERS)
    for item in range(len(ANSWERS)):
        there.go(f"view=item&part=mixeval%2Ffree_form&item={item}", f", item {item} ")
        assert page.locator("#view script, #view img, #view svg, #view iframe, #view style, #view form").count() == 0
        assert page.locator("#view .answer [style], #view .answer [class*=language], #view .answer a").count() == 0
        page.get_by_role("button", name="Raw text").click()
        page.get_by_role("button", name="Raw text").click()
        for link in page.locator("#view .answer u").all():
            link.click(force=True)
    assert page.url.startswith("file:")


def test_hostile_names_judgments_and_verdicts_stay_text(hostile: Report, visit: Visits) -> None:
    there = visit()
    page = there.open(hostile.html)
    assert page.locator("main img, main script").count() == 0
    page.locator(".board a.name").first.click()
    page.wait_for_selector("#view h2")
    page.evaluate("document.querySelectorAll('#view details').forEach(one => { one.open = true })")
    there.go("view=preferences", "Preferences")
    page.evaluate("document.querySelectorAll('#view details').forEach(one => { one.open = true })")
    page.wait_for_selector("#view .verdict-row article")
    assert page.locator("#view img, #view script, #view iframe").count() == 0
    there.go("view=items", "Items")
    assert page.locator("#view img").count() == 0


def test_hidden_characters_are_shown(hostile: Report, visit: Visits) -> None:
    there = visit()
    place = next(place for place, answer in enumerate(ANSWERS) if "\u2066" in answer)
    page = there.open(hostile.html, f"view=item&part=mixeval%2Ffree_form&item={place}")
    shown = page.locator("#view article .answer").first.inner_text()
    assert "⟦U+202E⟧evil" in shown
    assert "⟦U+2066⟧hidden" in shown
    assert "\u202e" not in page.locator("body").inner_text()


def test_markdown_is_rendered_and_links_show_their_address(hostile: Report, visit: Visits) -> None:
    there = visit()
    place = next(place for place, answer in enumerate(ANSWERS) if answer.startswith(f"<{HOST}"))
    page = there.open(hostile.html, f"view=item&part=mixeval%2Ffree_form&item={place}")
    answer = page.locator("#view article .answer").first
    assert "named" in answer.locator("u").all_inner_texts()
    assert f"{HOST}/ref" in answer.inner_text()
    table = next(place for place, answer in enumerate(ANSWERS) if answer.startswith("|a|b|"))
    there.go(f"view=item&part=mixeval%2Ffree_form&item={table}", f", item {table} ")
    assert page.locator("#view article .answer table td").count() >= 2


def test_the_policy_itself_stops_a_script_that_got_in(hostile: Report, browser: Any) -> None:
    page = browser.new_page()
    page.goto(hostile.html.resolve().as_uri())
    page.wait_for_selector("html[data-ready]")
    violations = page.evaluate(
        """async () => {
          const seen = [];
          document.addEventListener("securitypolicyviolation", (event) => seen.push(event.violatedDirective));
          const script = document.createElement("script");
          const refused = () => seen.push("trusted types");
          try { script.textContent = "window.__pwned = 1"; document.body.append(script); } catch { refused(); }
          try { document.body.innerHTML += "<img src=x onerror='window.__pwned=1'>"; } catch { refused(); }
          try { await fetch("https://evil.example/"); } catch { seen.push("fetch refused"); }
          const image = new Image(); image.src = "https://evil.example/p.png"; document.body.append(image);
          await new Promise((done) => setTimeout(done, 200));
          return seen;
        }"""
    )
    assert page.evaluate("window.__pwned") is None
    assert "fetch refused" in violations
    assert "img-src" in violations
    assert "trusted types" in violations
    page.close()


def test_every_view_opens(synthetic: Report, visit: Visits) -> None:
    there = visit()
    page = there.open(synthetic.html)
    one, two = slugs(synthetic)[:2]
    assert page.locator(".board tbody tr").count() == 5
    there.go(f"view=model&model={one}", "B0 : G0")
    assert "MT-Bench" in page.locator("#view").inner_text()
    there.go(f"view=compare&a={one}&b={two}", "Compare two models")
    assert page.locator("#view table").first.locator("tbody tr").count() >= 9
    there.go("view=items", "Items")
    there.go(f"view=item&part=openllm%2Fbbh%2F{BBH_TASK}&item=0", "item 0")
    assert page.locator("#view article table tbody tr").count() == 2 * 2
    there.go("view=preferences", "Preferences")
    there.go("view=item&part=nothing", "Not here")
    page.evaluate("location.hash = 'table'")
    page.wait_for_selector("#home:not([hidden])")


def test_the_browser_computes_the_same_difference(synthetic: Report, visit: Visits) -> None:
    """The paired difference of AlpacaEval's win rate is recomputed here from the recorded preferences."""
    one, two = slugs(synthetic)[:2]
    recorded = [synthetic.html.parent / name for name in folders(synthetic)[:2]]
    files = [RecordsFile(records_path(folder, "alpaca_eval")) for folder in recorded]
    preferences = [[float(row.verdicts[0].value or 0) for row in file.rows()] for file in files]
    gaps = [100 * (a - b) for a, b in zip(*preferences, strict=True)]
    mean = sum(gaps) / len(gaps)
    error = (sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1) / len(gaps)) ** 0.5
    page = visit().open(synthetic.html, f"view=compare&a={one}&b={two}")
    cells = page.locator("#view table").first.locator("tr", has_text="AlpacaEval 2 WR").locator("td").all_inner_texts()
    assert float(cells[2]) == pytest.approx(mean, abs=0.01)
    low, high = (float(end) for end in cells[3].split(" to "))
    half = stdtrit(len(gaps) - 1, 0.975) * error
    assert (low, high) == (pytest.approx(mean - half, abs=0.02), pytest.approx(mean + half, abs=0.02))
    assert cells[4] == str(len(gaps))


def test_the_browser_knows_students_t(synthetic: Report, visit: Visits) -> None:
    """Published two-sided 5 % points (Fisher and Yates): 2.042 for 30, 2.000 for 60, 1.980 for 120 items less one."""
    page = visit().open(synthetic.html)
    points = page.evaluate("[1, 2, 10, 21, 30, 60, 120, null].map(t95)")
    assert points == pytest.approx([12.7062, 4.3027, 2.2281, 2.0796, 2.0423, 2.0003, 1.9799, 1.96], abs=1e-4)
    assert page.evaluate("pairedDifference([0.7, 0.3], [0.6, 0.2]).clear") is False
    assert page.evaluate("pairedDifference(Array(6).fill(1), Array(6).fill(0)).clear") is True


def test_no_interval_is_shown_where_all_items_differ_alike(tmp_path: Path, visit: Visits) -> None:
    for name, mark in (("good", 1.0), ("bad", 0.0)):
        folder = write_model(tmp_path, name, {"mixeval": mixeval_scores(mark, 0.0, n=2)}, limit=2)
        write_free_form(folder, [("1", "x", mark), ("2", "x", mark)])
    report = build_report(tmp_path)
    assert "significantly best" not in report.html.read_text("utf-8")
    one, two = slugs(report)
    page = visit().open(report.html, f"view=compare&a={one}&b={two}")
    row = page.locator("#view table").first.locator("tr", has_text="MixEval")
    assert row.locator("td").all_inner_texts()[3] == "–"
    assert row.locator("b").count() == 0


def test_a_model_of_two_judges_is_two_models_of_the_page(tmp_path: Path, visit: Visits) -> None:
    by_two_judges(tmp_path)
    report = build_report(tmp_path)
    one, two = (model["slug"] for model in index_of(report.html)["models"])
    there = visit()
    page = there.open(report.html)
    assert page.locator("#tabs a").count() == 2
    for slug, figure in ((one, "7.00"), (two, "3.00")):
        there.go(f"view=model&model={quote(slug)}", "m")
        assert figure in page.locator("#view table", has_text="MT-Bench").first.inner_text()
    there.go(f"view=compare&a={quote(one)}&b={quote(two)}", "Compare two models")
    assert "different tabs" in page.locator("#view .note").inner_text()
    assert page.locator("#view select").nth(1).locator("option").all_inner_texts()[1:] == [
        "m (judge judge-x)",
        "m (judge judge-y)",
    ]


def test_categories_of_every_suite_are_tables_of_the_model(tmp_path: Path, visit: Visits) -> None:
    tasks = {"tasks": {"arc_easy": {"alias": "arc_easy", "acc,none": 0.5, "acc_stderr,none": 0.05}}}
    benchmarks = {"benchmarks": {"TriviaQA": {"score": 0.5, "n": 10}}}
    suites = {"mt_bench": mt_bench_scores(7.0), "mixeval": mixeval_scores(0.5, **benchmarks), "lm_eval": tasks}
    folder = write_model(tmp_path, "m", suites)
    there = visit()
    page = there.open(build_report(tmp_path).html)
    there.go(f"view=model&model={folder.name}", "m")
    captions = page.locator("#view caption").all_text_contents()
    assert {"MT-Bench by category", "MixEval by benchmark", "lm-eval tasks"} <= set(captions)


def column_values(page: Any, column: str) -> list[float]:
    cells = page.locator(f".board tbody td[data-column={column}]")
    return [float(value) for value in cells.evaluate_all("cells => cells.map(cell => cell.dataset.value)")]


def test_sorting_filtering_grouping_and_columns(synthetic: Report, visit: Visits) -> None:
    there = visit()
    page = there.open(synthetic.html)
    assert column_values(page, "mt_bench") == sorted(column_values(page, "mt_bench"), reverse=True)
    heading = page.locator(".board th[data-column=bbh] button")
    heading.focus()
    for key, way in (("Enter", "descending"), ("Space", "ascending")):
        page.keyboard.press(key)
        page.wait_for_selector(f".board th[data-column=bbh][aria-sort={way}]")
        assert column_values(page, "bbh") == sorted(column_values(page, "bbh"), reverse=way == "descending")
    assert page.locator(".board th[aria-sort]").count() == 1
    page.fill("#filter", "100k")
    until(page, "document.querySelectorAll('.board tr[data-slug]:not([hidden])').length === 1")
    assert page.locator(".board tbody tr[data-slug]:visible").count() == 1
    page.fill("#filter", "")
    page.select_option("#group", "base")
    page.wait_for_selector(".board tr.group", state="attached")
    assert (
        page.locator(".board tr.group").all_inner_texts() == ["B0", "B1"]
        or page.locator(".board tr.group").count() == 2
    )
    page.click("#columns summary")
    page.uncheck("#columns input[value=bbh]")
    page.wait_for_selector(".board th[data-column=bbh]", state="hidden")
    page.click("#columns summary")
    boxes = page.locator(".board .pick")
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.click("#compare-chosen")
    page.wait_for_selector("#view h2:has-text('Compare')")


def test_charts_and_tables_are_saved_from_the_page(synthetic: Report, visit: Visits, tmp_path: Path) -> None:
    page = visit(accept_downloads=True).open(synthetic.html)
    chart = page.locator("#chart-1-bars-mt_bench")
    with page.expect_download() as saved:
        chart.locator("[data-save=svg]").click()
    drawing = tmp_path / "chart.svg"
    saved.value.save_as(drawing)
    assert drawing.read_text("utf-8").startswith("<svg")
    with page.expect_download() as saved:
        chart.locator("[data-save=csv]").click()
    saved.value.save_as(tmp_path / "chart.csv")
    assert len(list(csv.reader((tmp_path / "chart.csv").read_text("utf-8").splitlines()))) == 6


def test_without_javascript_the_table_and_charts_read(synthetic: Report, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(synthetic.html.resolve().as_uri())
    assert page.locator(".board tbody tr").count() == 5
    assert page.locator(".board").is_visible()
    assert page.locator("#charts svg").first.is_visible()
    assert not page.locator("#compare-chosen").is_visible()
    context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1300, "light"), (1300, "dark"), (390, "light")])
def test_nothing_is_wider_than_the_window(synthetic: Report, visit: Visits, width: int, scheme: str) -> None:
    there = visit(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = there.open(synthetic.html)
    one, two = slugs(synthetic)[:2]
    views = [
        "",
        f"view=model&model={one}",
        f"view=compare&a={one}&b={two}",
        "view=items",
        "view=item&part=mt_bench&item=0",
    ]
    for view in views:
        page = there.open(synthetic.html, view)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_mode_and_print_change_the_paper(synthetic: Report, visit: Visits) -> None:
    def paper(page: Any) -> str:
        return str(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))

    light, dark = visit().open(synthetic.html), visit(color_scheme="dark").open(synthetic.html)
    assert paper(light) != paper(dark)
    dark.emulate_media(media="print")
    assert paper(dark) == "rgb(255, 255, 255)"
    assert not dark.locator("#filter").is_visible()


def test_item_pages_beside_the_file_work_by_themselves(tmp_path: Path, visit: Visits) -> None:
    write_synthetic(tmp_path, 3, 300)
    report = build_report(tmp_path, limit_bytes=500_000)
    part = next(one["name"] for one in index_of(report.html)["parts"] if one["blocks"][0][2].endswith(".html"))
    there = visit()
    page = there.open(report.html, f"view=item&part={quote(part, safe='')}&item=1")
    page.locator("#view a", has_text="leaderboard_items/").click()
    page.wait_for_selector("#view .side-by-side article")
    assert "leaderboard_items" in page.url
    page.get_by_role("link", name="Next →").click()
    page.wait_for_selector("#view h2:has-text('item 2')")
    assert page.locator("#view article").count() == 2
    page.locator("#view article h3 a").first.click()
    page.wait_for_selector("#view h2:has-text('B0')")
    assert page.url.split("#")[0].endswith("leaderboard.html")


def test_next_leads_into_the_neighbouring_page(tmp_path: Path, visit: Visits, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = write_many_pages(tmp_path, monkeypatch).pages[:2]
    last = index_of(second)["parts"][0]["blocks"][0][1] - 1
    page = visit().open(first, f"view=item&part=mixeval%2Ffree_form&item={last}")
    page.get_by_role("link", name="Next →").click()
    page.wait_for_selector(f"#view h2:has-text('item {last + 1}')")
    assert page.url.split("#")[0].endswith(second.name)
    assert page.locator("#view h2").inner_text() == f"MixEval, free-form, item {last + 1}"
    page.get_by_role("link", name="← Previous").click()
    page.wait_for_selector(f"#view h2:has-text('item {last}')")
    assert page.url.split("#")[0].endswith(first.name)
    assert page.locator("#view .side-by-side article").count() == 1
