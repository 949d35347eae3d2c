"""The draw of pairs to be judged, and the page that they stand on."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.comparison_documents import VerdictRow
from evalsuite.labelling.sheet import draw


def row(number: int, preference: float, **more) -> VerdictRow:
    known = {"prompt": f"question {number}", "answer_a": f"left {number}", "answer_b": f"right {number}"}
    return VerdictRow(prompt_id=str(number), a="x", b="y", winner="a", preference_a=preference, **(known | more))


def write_comparison(folder: Path, rows) -> Path:
    folder.mkdir(parents=True)
    lines = [
        {
            "prompt_id": one.prompt_id, "a": one.a, "b": one.b, "prompt": one.prompt, "winner": one.winner,
            "answer_a": one.answer_a, "answer_b": one.answer_b, "preference_a": one.preference_a,
            "identical": one.identical,
        }
        for one in rows
    ]  # fmt: skip
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_pairs_are_drawn_as_often_as_their_chance_says_and_doubtful_ones_more_often():
    rows = [row(number, 0.5 if number < 10 else 0.95) for number in range(50)]
    counts: Counter[str] = Counter()
    for seed in range(2000):
        drawn = draw(rows, 12, seed)
        assert len(drawn) == 12
        counts.update(one.row.prompt_id for one in drawn)
    # Doubts 1 and 0.1 + 0.9 * 4 * 0.95 * 0.05 = 0.271 share 12 draws: 12 / (10 + 40 * 0.271) each times its doubt.
    each = 12 / (10 + 40 * 0.271)
    assert {round(one.chance / each, 6) for one in draw(rows, 12, 0)} == {1.0, 0.271}
    assert sum(counts[str(number)] for number in range(10)) / 2000 / 10 == pytest.approx(each, abs=0.02)
    assert sum(counts[str(number)] for number in range(10, 50)) / 2000 / 40 == pytest.approx(0.271 * each, abs=0.01)


def test_a_small_comparison_is_drawn_whole_and_what_cannot_be_judged_is_left_out():
    rows = [row(1, 0.9), row(2, 0.5, identical=True), row(3, 0.5, answer_a=None), row(4, 0.2)]
    assert sorted((one.row.prompt_id, one.chance) for one in draw(rows, 100, 0)) == [("1", 1.0), ("4", 1.0)]


def test_two_judges_of_a_panel_make_one_pair():
    assert len(draw([row(1, 0.9), row(1, 0.2), row(2, 0.5)], 9, 0)) == 2


def test_the_page_shows_no_models_name_and_holds_hostile_text_as_text(tmp_path):
    hostile = "</script><script>alert(1)</script>"
    folder = write_comparison(tmp_path / "comparisons" / "pair", [row(1, 0.9, answer_a=hostile)])
    words = ["label", str(folder), "--out", str(tmp_path / "sheet.html"), "--json"]
    assert json.loads(CliRunner().invoke(app, words).stdout)["n"] == 1
    page = (tmp_path / "sheet.html").read_text()
    assert hostile not in page
    body = page.partition("<main")[2].partition("</main>")[0]
    assert re.search(r"\b[xy]\b", re.sub(r"<[^>]*>", "", body)) is None


def test_what_is_no_comparison_is_one_sentence(tmp_path):
    found = CliRunner().invoke(app, ["label", str(tmp_path)])
    assert found.exit_code == 2
    assert "has no verdicts.jsonl" in found.output
    folder = write_comparison(tmp_path / "same", [row(1, 0.5, identical=True)])
    assert "no pair has two different answers" in CliRunner().invoke(app, ["label", str(folder)]).output
