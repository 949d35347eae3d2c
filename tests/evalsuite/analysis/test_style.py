"""Style: marks counted by their definition, ratios and intervals, and the paper's own pages met exactly."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from evalsuite.analysis.document import Analysis, read_analysis
from evalsuite.analysis.lineage import inheritance_score, style_distance
from evalsuite.analysis.markup import ELEMENTS, markdown_counts, read_page
from evalsuite.analysis.measuring import count_words
from evalsuite.analysis.style import StyleOptions, style_analysis
from evalsuite.cli import app
from evalsuite.errors import DataError, UsageError
from evalsuite.files import write_jsonl
from judges.statistics import bootstrap_ci, bootstrap_ratio_ci
from tests.evalsuite.report_results import write_model
from tests.evalsuite.tiny_checkpoint import write_tokenizer

TEXT = """# Title

Some **bold**, *soft* and `code`.

```python
# no heading
- no list
```

- a
- b
  1. c

|x|y|
|-|-|
|1|2|
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXT, {"h1": 1, "p": 1, "strong": 1, "em": 1, "code": 2, "ul": 1, "ol": 1, "li": 3, "table": 1}),
        ("- a\n\n- b", {"ul": 1, "li": 2, "p": 2}),
        ("    # indented code", {"code": 1}),
        (r"\# no heading, \*no em\*", {"p": 1}),
        ("2 * 3 * 4", {"p": 1}),
        ("Title\n---\n###### six", {"h2": 1, "h6": 1}),
        ("***both***", {"p": 1, "em": 1, "strong": 1}),
        ("", {}),
    ],
)
def test_marks_are_those_that_commonmark_renders(text: str, expected: dict[str, int]) -> None:
    assert dict(markdown_counts(text)) == expected


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_has_counts(text: str) -> None:
    assert set(markdown_counts(text)) <= set(ELEMENTS)


PIECES = st.lists(
    st.sampled_from(["<p>a</p>", "<p>open", "</div>", "<div>", "# p", "&lt;p&gt;", "<strong>", "<ul><li>"])
)


@settings(deadline=None)
@given(PIECES, PIECES)
def test_each_mark_of_a_page_is_counted_in_its_own_block(question: list[str], answer: list[str]) -> None:
    """Stray tags of an answer neither end its block nor open another."""
    inside = "".join(answer)
    page = read_page(
        f'<p>x</p><div class="question">{"".join(question)}</div><div class="message answer">{inside}</div>'
    )
    marks = [sum(piece.startswith("<p>") for piece in pieces) for pieces in (question, answer)]
    assert [page.blocks[name].counts["p"] for name in ("question", "answer")] == marks
    assert page.whole.counts["p"] == 1 + sum(marks)


@pytest.mark.parametrize(
    ("text", "n"),
    [("two words", 2), ("", 0), ("我喜欢茶", 4), ("tea 茶", 2), ("ฉันชอบดื่มชามาก", None), ("차를 좋아해요", 2)],
)
def test_words_of_any_script(text: str, n: int | None) -> None:
    assert count_words(text) == n


def test_tokens_of_a_tokenizer_and_a_tokenizer_that_is_not_there(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    answers = write_answers(tmp_path, "a", {"p": "abc é"})
    analysis = style_analysis([answers], tmp_path, StyleOptions(tokenizer=str(tmp_path)))
    # A byte-level tokenizer without merges has one token a byte.
    assert table(analysis, "rates")[0]["tokens"] == len("abc é".encode())
    assert analysis.provenance["tokens"] == f"tokens of {tmp_path.name}"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text('{"version": 3}')
    for name in ("gone", "broken"):
        with pytest.raises(UsageError, match="cannot load the tokenizer") as caught:
            style_analysis([answers], tmp_path, StyleOptions(tokenizer=str(tmp_path / name)))
        assert "\n" not in str(caught.value)


def test_the_demo_model_is_a_tokenizer_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    write_tokenizer(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evalsuite.assets.demo_checkpoint", lambda: tmp_path / "model")
    answers = write_answers(tmp_path, "a", {"p": "abc é"})
    analysis = style_analysis([answers], tmp_path, StyleOptions(tokenizer="demo"))
    assert table(analysis, "rates")[0]["tokens"] == len("abc é".encode())
    assert analysis.provenance["tokens"] == "tokens of demo"


def test_whole_pages_meet_the_paper(shared: Path, tmp_path: Path) -> None:
    expected = json.loads((shared / "reference/style_expected.json").read_text(encoding="utf-8"))
    pages = f"Q72={shared / 'reference/paper/q72_pages'}"
    for as_published, key in ((True, "whole_file"), (False, "answer_only")):
        analysis = style_analysis([pages], tmp_path, StyleOptions(as_published=as_published))
        counts, rates = analysis.tables[0].rows[0], analysis.tables[1].rows[0]
        assert counts["n"] == 80
        assert {tag: counts[tag] for tag in expected[key]["tags"]} == expected[key]["tags"]
        assert rates["chars"] == pytest.approx(expected[key]["mean_html_len"], abs=1e-9)


def test_every_block_of_every_page_is_told_apart(shared: Path) -> None:
    expected = json.loads((shared / "reference/style_expected.json").read_text(encoding="utf-8"))
    for one in expected["per_file"]:
        path = shared / f"reference/paper/q72_pages/{one['question_id']}.html"
        page = read_page(path.read_text(encoding="utf-8"))
        assert {tag: page.blocks["answer"].counts[tag] for tag in one["answer"]} == one["answer"]
        assert len(page.blocks["answer"].html) == one["answer_html_len"]
        assert {tag: page.whole.counts[tag] for tag in one["whole"]} == one["whole"]
        assert len(page.whole.html) == one["html_len"]
        assert float(page.blocks["score"].text.split()[-1]) == one["score"]
    totals = {"question_block_only": "question", "judgment_block_only": "judgment", "score_block": "score"}
    for key, block in totals.items():
        found = dict.fromkeys(expected[key]["tags"], 0)
        for path in (shared / "reference/paper/q72_pages").glob("*.html"):
            counts = read_page(path.read_text(encoding="utf-8")).blocks[block].counts
            found = {tag: n + counts[tag] for tag, n in found.items()}
        assert found == expected[key]["tags"]


def write_answers(folder: Path, name: str, texts: dict[str, str]) -> str:
    write_jsonl(folder / f"{name}.jsonl", [{"prompt": prompt, "answer": text} for prompt, text in texts.items()])
    return f"{name}={folder / f'{name}.jsonl'}"


def bold(n: int) -> str:
    return " ".join(["**b**"] * n) or "plain"


def table(analysis: Analysis, name: str) -> list[dict[str, Any]]:
    return [dict(row) for one in analysis.tables if one.id == name for row in one.rows]


def test_frequencies_are_over_common_prompts_and_mirror(tmp_path: Path) -> None:
    a = write_answers(tmp_path, "a", {"p": bold(4), "q": bold(2), "only a": bold(50)})
    b = write_answers(tmp_path, "b", {"q": bold(1), "p": bold(2), "only b": "# x"})
    (row,) = table(style_analysis([a, b], tmp_path), "frequencies")
    (mirrored,) = table(style_analysis([b, a], tmp_path), "frequencies")
    assert (row["n"], row["strong"], mirrored["strong"]) == (2, 2.0, 0.5)
    assert "strong_ci95" not in row, "a writes twice as much for each prompt: nothing to draw from"
    assert row["em"] is None
    assert "0 over 0" in row["em_why"]


def test_models_without_a_common_prompt_have_no_frequency_and_say_so(tmp_path: Path) -> None:
    words = [write_answers(tmp_path, name, {name: bold(3)}) for name in ("a", "b")]
    (row,) = table(style_analysis(words, tmp_path), "frequencies")
    assert row["n"] == 0
    assert row["strong"] is None
    assert "no prompt in common" in row["strong_why"]


def test_one_model_and_empty_answers(tmp_path: Path) -> None:
    analysis = style_analysis([write_answers(tmp_path, "a", {"p": bold(3), "q": "", "r": bold(1)})], tmp_path)
    assert [one.id for one in analysis.tables] == ["counts", "rates"]
    assert table(analysis, "counts")[0]["left_out"] == 1
    assert table(analysis, "rates")[0]["strong"] == 2.0


def test_unknown_sources_same_names_and_mixed_kinds_are_refused(tmp_path: Path) -> None:
    a = write_answers(tmp_path, "a", {"p": "x"})
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "1.html").write_text('<div class="answer"><p>x</p></div>', encoding="utf-8")
    with pytest.raises(UsageError, match="two models are called 'a'"):
        style_analysis([a, a], tmp_path)
    with pytest.raises(DataError, match=r"no answers from mt_bench; it has those from a\.jsonl"):
        style_analysis([a], tmp_path, StyleOptions(sources=("mt_bench",)))
    with pytest.raises(UsageError, match="only one of the two kinds"):
        style_analysis([a, str(tmp_path / "pages")], tmp_path)
    with pytest.raises(UsageError, match="not a folder of judged"):
        style_analysis([a], tmp_path, StyleOptions(as_published=True))
    (tmp_path / "pages" / "2.html").write_text("<p>x</p>", encoding="utf-8")
    with pytest.raises(DataError, match=r"2\.html has no"):
        style_analysis([str(tmp_path / "pages")], tmp_path)


PUBLISHED = ["Strong", "Em", "Ol", "Ul", "h1", "h2", "h3", "h4", "p", "len"]


def published(shared: Path) -> dict[str, list[float]]:
    with (shared / "reference/paper/table3.csv").open(encoding="utf-8") as file:
        return {row["Model"]: [float(row[key]) for key in PUBLISHED] for row in csv.DictReader(file)}


def test_table_3_of_answers_that_hold_the_published_counts(shared: Path, tmp_path: Path) -> None:
    """Four models whose bold and second-level lists number as published give the published PF rows."""
    rows = published(shared)
    names = {"Q72 : None": "Q72", "L70 : None": "L70", "L8B : L70": "L8B : L70", "L8B : Q72": "L8B : Q72"}
    words = []
    for label, name in names.items():
        strong, em = int(rows[label][0]), int(rows[label][1])
        text = f"{bold(strong)} {' '.join(['*e*'] * em)}"
        write_jsonl(tmp_path / f"{len(words)}.jsonl", [{"prompt": "p", "answer": text}])
        words.append(f"{name}={tmp_path / f'{len(words)}.jsonl'}")
    lineage = {"L8B : L70": "L70", "L8B : Q72": "Q72"}
    analysis = style_analysis(words, tmp_path, StyleOptions(lineage=lineage))
    found = {row["model"]: row for row in table(analysis, "table3")}
    assert list(found) == ["L70 : None", "Q72 : None", "L8B : L70", "L8B : Q72", *list(rows)[4:]]
    for label in list(rows)[4:]:
        assert round(found[label]["strong"], 3) == rows[label][0]
        assert round(found[label]["em"], 3) == rows[label][1]
        assert found[label]["h2"] is None


def test_the_published_totals_lie_nearer_to_the_own_dgm(shared: Path) -> None:
    rows = {label: np.log1p(np.array(row)) for label, row in published(shared).items()}
    own = {"L8B : L70": "L70 : None", "L8B : Q72": "Q72 : None"}
    for sft, dgm in own.items():
        (other,) = (set(own.values())) - {dgm}
        near, far = (sum(abs(rows[sft] - rows[name])) for name in (dgm, other))
        score = inheritance_score(rows[sft], rows[dgm], [rows[other]])
        assert score == pytest.approx(1 - near / far)
        assert score > 0.2


vectors = st.lists(st.integers(0, 1000), min_size=4, max_size=4)


@settings(deadline=None)
@given(vectors, vectors)
def test_distance_is_symmetric_and_zero_for_equals(a: list[int], b: list[int]) -> None:
    assert style_distance(a, b) == pytest.approx(style_distance(b, a))
    assert style_distance(a, a) == 0
    if a != b:
        assert style_distance(a, b) > 0


def test_a_model_that_takes_most_answers_from_one_dgm_lies_nearest_to_it(tmp_path: Path) -> None:
    """Even where a few of its other answers hold more marks than all the rest."""
    plain = {str(n): bold(n % 3) for n in range(40)}
    rich = {str(n): f"# t\n\n{bold(10 + n % 3)}" for n in range(40)} | {"39": bold(2000)}
    sft = plain | {key: rich[key] for key in ("3", "21", "39")}
    words = [write_answers(tmp_path, name, texts) for name, texts in (("plain", plain), ("rich", rich), ("sft", sft))]
    words.append(write_answers(tmp_path, "other", rich))
    analysis = style_analysis(words, tmp_path, StyleOptions(lineage={"sft": "plain", "other": "rich"}))
    first, second = table(analysis, "inheritance")
    assert (first["nearest"], second["nearest"], second["score"]) == ("plain", "rich", 1.0)
    assert first["score"] > 0.5
    assert first["score_ci95"][0] <= first["score"] <= first["score_ci95"][1]


def test_inheritance_at_its_ends() -> None:
    near, far = np.array([10.0, 0, 3]), np.array([1.0, 7, 3])
    assert inheritance_score(near, near, [far]) == 1
    assert inheritance_score(near, far, [far]) == 0
    assert inheritance_score(near, far, [near]) is None


def test_scores_of_a_lineage_with_one_dgm_or_names_that_are_not_there(tmp_path: Path) -> None:
    words = [write_answers(tmp_path, name, {"p": bold(2), "q": bold(3)}) for name in ("dgm", "sft")]
    (row,) = table(style_analysis(words, tmp_path, StyleOptions(lineage={"sft": "dgm"})), "inheritance")
    assert row["score"] is None
    assert "no second DGM" in row["score_why"]
    with pytest.raises(DataError, match="the lineage names x, y"):
        style_analysis(words, tmp_path, StyleOptions(lineage={"x": "y"}))


def test_a_ratio_of_ones_is_the_mean_and_ratios_scale() -> None:
    values, clusters = [3.0, 1, 4, 1, 5, 9], ["a", "a", "b", "b", "c", "d"]
    assert bootstrap_ratio_ci(values, [1.0] * 6, clusters) == bootstrap_ci(values, clusters)
    low, high = bootstrap_ratio_ci(values, [2.0, 1, 2, 1, 2, 1], clusters) or (0, 0)
    assert bootstrap_ratio_ci([2 * v for v in values], [2.0, 1, 2, 1, 2, 1], clusters) == pytest.approx(
        (2 * low, 2 * high)
    )
    assert bootstrap_ratio_ci([2 * v for v in values], values, clusters) is None
    assert bootstrap_ratio_ci([1.0, 2], [0.0, 0]) is None
    assert bootstrap_ratio_ci([1.0], [1.0]) is None
    with pytest.raises(ValueError, match="expected equal lengths"):
        bootstrap_ratio_ci([1.0], [1.0, 2])


def test_the_command_writes_prints_and_names_its_faults(tmp_path: Path) -> None:
    a = write_answers(tmp_path, "a", {"p": bold(4)})
    b = write_answers(tmp_path, "b", {"p": bold(2)})
    results = tmp_path / "results"
    shown = CliRunner().invoke(app, ["analyze", "style", a, b, "--results", str(results), "--json"])
    assert shown.exit_code == 0, shown.output
    stored = read_analysis(results / "analyses" / "style-a-vs-b")
    assert (
        json.loads(shown.stdout)["tables"][2]["rows"][0]["strong"] == 2.0 == table(stored, "frequencies")[0]["strong"]
    )
    printed = CliRunner().invoke(app, ["analyze", "style", a, b, "--results", str(results)])
    assert "Proportional frequencies" in printed.output
    # The page in a results folder is its report, no judged page.
    write_model(results, "m", {})
    (results / "leaderboard.html").write_text("<p>a report</p>", encoding="utf-8")
    whole = CliRunner().invoke(app, ["analyze", "style", str(results), a])
    assert whole.exit_code == 2
    assert "results has the results of m-" in whole.output
    failed = CliRunner().invoke(app, ["analyze", "style", "nobody", "--results", str(results)])
    assert failed.exit_code == 2
    assert "no answers found for 'nobody'" in failed.output
