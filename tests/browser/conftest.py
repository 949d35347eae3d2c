"""A real browser for the report's pages: the system's Chromium, driven by Playwright, cut off from any network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
_QUIET += ("--disable-component-update", "--disable-sync")


def settle(page: Any, part: str) -> None:
    """Wait until ``part`` is in the address and the page shows what its address says."""
    page.wait_for_function(
        "part => location.hash.includes(part) && document.documentElement.dataset.shown === location.hash", arg=part
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
