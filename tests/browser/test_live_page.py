"""`evalsuite view` in a browser: new figures appear, and a reader of an item is not interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalsuite.progress import KeptProgress, NoProgress
from evalsuite.viewing import server
from evalsuite.viewing.server import LiveReport, serving
from tests.evalsuite.report_results import mixeval_scores, write_free_form, write_model


def test_the_live_page_follows_the_folder(tmp_path: Path, browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LOOK_EVERY_S", 0.1)
    first = write_model(tmp_path, "first", {"mixeval": mixeval_scores(0.5, n=2)})
    write_free_form(first, [("1", "right", 1.0), ("2", "wrong", 0.0)])
    context = browser.new_context()
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    with serving(LiveReport(tmp_path)) as address, KeptProgress(NoProgress(), tmp_path, "evalsuite run") as progress:
        progress.update("first: MixEval", 3, 4)
        page.goto(address)
        frame = page.frame_locator("#report")
        frame.locator(".board tbody tr").first.wait_for()
        page.wait_for_selector("#running:has-text('first: MixEval 3 of 4')")
        assert frame.locator(".board tbody tr").count() == 1
        write_model(tmp_path, "second", {"mixeval": mixeval_scores(0.6, n=2)})
        frame.locator(".board tbody tr").nth(1).wait_for(timeout=15_000)
        frame.locator("nav a", has_text="Items").click()
        frame.locator("#view table.items").wait_for()
        assert "view=items" in page.url
        write_model(tmp_path, "third", {"mixeval": mixeval_scores(0.7, n=2)})
        page.wait_for_selector("#new:not([hidden])", timeout=15_000)
        assert frame.locator("#view table.items").is_visible()
        page.click("#new")
        frame.locator("#view table.items").wait_for()
    assert trouble == []
    context.close()
