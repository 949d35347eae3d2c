"""Write docs/images/table.png, compare.png and thinking.png: the report's views in a browser (Debian's chromium).

python docs/site/pictures.py [RESULTS]

The models of the table and of the comparison are invented. The picture of thinking shows RESULTS, in which one
reasoning model was run in two or more ways (--thinking, --thinking-budget); without RESULTS it stays as it is.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from bench.synthetic_results import write_synthetic
from evalsuite.report.build import build_report
from tests.browser.conftest import CHROMIUM

IMAGES = ROOT / "docs" / "images"


@contextmanager
def report_page(results: Path, folder: Path) -> Iterator[Any]:
    """Open the report of ``results`` in a window of 1400 × 820 points."""
    page_file = build_report(results, folder / f"{results.name}.html").html
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 820})
        page.goto(page_file.resolve().as_uri())
        page.wait_for_selector("html[data-ready]")
        yield page
        browser.close()


def main(results: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        invented = folder / "invented"
        write_synthetic(invented, 10, 7000, exports=False)
        with report_page(invented, folder) as page:
            page.screenshot(path=IMAGES / "table.png")
            first, second = page.evaluate("index.models.slice(0, 2).map(model => model.slug)")
            page.evaluate("address => { location.hash = address }", f"view=compare&a={first}&b={second}")
            page.wait_for_selector("#view h2:has-text('Compare')")
            # The heading has the focus, for readers of the keyboard; its frame is not part of the picture.
            page.evaluate("document.activeElement.blur()")
            page.screenshot(path=IMAGES / "compare.png")
        for thinking in map(Path, results):
            with report_page(thinking, folder) as page:
                page.set_viewport_size({"width": 760, "height": 820})  # one chart beside the other would be small
                page.locator("details.thinking").first.screenshot(path=IMAGES / "thinking.png")


if __name__ == "__main__":
    main(sys.argv[1:2])
