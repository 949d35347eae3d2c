"""A real browser for the report's pages: the system's Chromium, driven by Playwright, cut off from any network."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from evalsuite.analysis.document import write_analysis
from evalsuite.files import write_json, write_jsonl
from evalsuite.records.rows import Draw, Reply, Row
from evalsuite.report.build import Report, build_report
from evalsuite.report.data import data_analysis
from tests.evalsuite.report.test_curves import write_run
from tests.evalsuite.report_results import free_form_row, mixeval_scores, write_model, write_rows
from tests.evalsuite.synthetic_results import write_synthetic

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
_QUIET += ("--disable-component-update", "--disable-sync")


def until(page: Any, condition: str, argument: Any = None, seconds: float = 20.0) -> None:
    """Wait until a JavaScript expression is true on the page.

    It is asked from here: Playwright's ``wait_for_function`` evaluates a string inside the page whenever its
    first try is false, which the report's Content Security Policy forbids.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(condition, argument):
        assert time.monotonic() < end, f"not true after {seconds:g} seconds: {condition}"
        page.wait_for_timeout(20)


def settle(page: Any, part: str) -> None:
    """Wait until ``part`` is in the address and the page shows what its address says."""
    until(
        page, "part => location.hash.includes(part) && document.documentElement.dataset.shown === location.hash", part
    )


class Visit:
    """One page with everything that it must not do: requests, dialogs, errors, console messages."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.trouble: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.trouble.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.trouble.append(f"error: {error}"))
        page.on("dialog", self._dismiss)

    def _dismiss(self, dialog: Any) -> None:
        self.trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, path: Path, address: str = "") -> Any:
        """Open a page from disk at ``#address`` and wait until its script is done."""
        self.page.goto("about:blank")
        self.page.goto(f"{path.resolve().as_uri()}#{address}")
        self.page.wait_for_selector("html[data-ready]", timeout=20_000)
        return self.page

    def go(self, address: str, heading: str) -> Any:
        """Follow an address inside the page and wait for the view's heading."""
        self.page.evaluate("address => { location.hash = address }", address)
        self.page.wait_for_selector(f"#view h2:has-text({heading!r})")
        return self.page

    def left_the_page(self) -> list[str]:
        """Requests other than for the page itself and blobs made for a download."""
        return [url for url in self.requests if not url.startswith(("file:", "blob:", "about:"))]


# Not for the whole session: while Playwright's synchronous API is up, its event loop counts as
# running in this thread, and no asynchronous test can start one.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install evalsuite[dev])")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_QUIET))
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Make visits; at the end nothing may have run, complained or left the page."""
    visits: list[Visit] = []
    contexts: list[Any] = []

    def make(**options: Any) -> Visit:
        context = browser.new_context(**{"viewport": {"width": 1300, "height": 900}, **options})
        contexts.append(context)
        # Whatever tried to leave the page would be seen, and would not get out.
        context.route("http://**/*", lambda route: route.abort())
        context.route("https://**/*", lambda route: route.abort())
        visits.append(Visit(context.new_page()))
        return visits[-1]

    yield make
    for one in visits:
        assert one.trouble == []
        assert one.left_the_page() == []
        assert one.page.evaluate("window.__pwned") is None
    for context in contexts:
        context.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests take seconds each: pre-commit leaves them out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


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
