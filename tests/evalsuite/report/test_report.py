"""The report as a whole: its figures, its files, its policy, and what happens to broken folders."""

from __future__ import annotations

import base64
import csv
import errno
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from evalsuite.api import load_items, load_results
from evalsuite.cli import app
from evalsuite.commands.console import reporting_errors
from evalsuite.documents import Manifest
from evalsuite.errors import DataError
from evalsuite.files import write_json
from evalsuite.records.rows import Draw, Header, Reply, Row
from evalsuite.report.build import build_report
from evalsuite.report.figures import columns_of
from evalsuite.report.page import template_folder
from evalsuite.report.texts import visible, without_folders
from evalsuite.results.reading import lineage_of
from evalsuite.suites import registry
from evalsuite.suites.base import Suite, marked
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.types import Item, Loaded
from judges.types import Message
from tests.evalsuite.report_results import (
    JUDGE,
    index_of,
    mixeval_scores,
    mt_bench_scores,
    unpack,
    write_model,
    write_rows,
)
from tests.evalsuite.synthetic_results import write_synthetic

runner = CliRunner()


@pytest.mark.parametrize("more", [{}, {"ci95": [1.0, 1.0]}])
def test_an_interval_without_a_width_is_not_shown(tmp_path: Path, more: dict[str, Any]) -> None:
    write_model(tmp_path, "m", {"mixeval": {**mixeval_scores(1.0, 0.0, n=2), **more}})
    page = build_report(tmp_path).html.read_text(encoding="utf-8")
    cell = re.search(r'<td data-column="mixeval"[^>]*>(.*?)</td>', page, re.DOTALL)
    assert cell is not None
    assert cell[1] == '<span title="n = 2">1.000</span>'


def test_texts_beyond_the_limit_go_into_pages_beside(tmp_path: Path) -> None:
    write_synthetic(tmp_path, 3, 300)
    limit = 500_000
    report = build_report(tmp_path, limit_bytes=limit)
    assert report.html_bytes < limit
    assert report.pages
    beside = [
        block for part in index_of(report.html)["parts"] for block in part["blocks"] if block[2].endswith(".html")
    ]
    assert {tmp_path / block[2] for block in beside} == set(report.pages)
    assert "do not fit in this file" in report.html.read_text(encoding="utf-8")
    own = index_of(report.pages[0])
    assert own["home"] == "../leaderboard.html"
    items = json.loads(unpack(report.pages[0].read_text(encoding="utf-8"), own["parts"][0]["blocks"][0][2]))
    assert len(items[0]["a"]) == 3
    smaller = build_report(tmp_path, limit_bytes=50_000_000)
    assert not smaller.pages
    assert not (tmp_path / "leaderboard_items").exists()


def test_only_pages_of_an_earlier_report_are_removed(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_synthetic(results, 3, 300)
    folder, foreign = tmp_path / "data_items", {"notes.txt": "mine", "page-1.html": "<title>my page</title>"}
    folder.mkdir()
    for name, text in foreign.items():
        (folder / name).write_text(text, encoding="utf-8")
    assert build_report(results, tmp_path / "data.html", limit_bytes=500_000).pages
    assert not build_report(results, tmp_path / "data.html", limit_bytes=50_000_000).pages
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == foreign


@pytest.mark.parametrize("name", ["data.csv", "data_items/{page}"])
def test_a_file_that_no_report_wrote_is_never_replaced(tmp_path: Path, name: str) -> None:
    results = tmp_path / "results"
    write_synthetic(results, 3, 300)
    page = build_report(results, limit_bytes=500_000).pages[0].name
    foreign = tmp_path / name.format(page=page)
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("years,of,work\n", encoding="utf-8")
    words = ["report", "--results", str(results), "--out", str(tmp_path / "data.html"), "--max-mb", "0.5"]
    done = runner.invoke(app, words)
    assert done.exit_code == 2
    assert str(foreign) in done.stderr.replace("\n", "")
    assert foreign.read_text(encoding="utf-8") == "years,of,work\n"
    assert not (tmp_path / "data.html").exists()


def test_the_policy_allows_the_inlined_scripts_by_hash_and_nothing_else(tmp_path: Path) -> None:
    write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(7.0)})
    page = build_report(tmp_path).html.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = policy[1].replace("&#39;", "'")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    assert set(re.findall(r"'sha256-([^']*)'", rules.split("style-src")[0])) == hashes
    assert "default-src 'none'" in rules
    assert "unsafe" not in rules
    assert "http" not in rules
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)


def test_vendored_libraries_are_the_pinned_ones() -> None:
    folder = template_folder() / "vendor"
    rows = re.findall(r"\| `([^`]+\.js)` \|.*\| ([0-9a-f]{64}) \|", (folder / "README.md").read_text(encoding="utf-8"))
    assert {name for name, _ in rows} == {path.name for path in folder.glob("*.js")}
    for name, sha256 in rows:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256


def test_names_are_escaped_and_hidden_characters_shown(tmp_path: Path) -> None:
    write_model(tmp_path, "<script>x</script>\u202eevil", {"mt_bench": mt_bench_scores(7.0)})
    page = build_report(tmp_path).html.read_text(encoding="utf-8")
    assert "<script>x" not in page
    assert "⟦U+202E⟧evil" in page
    assert "\u202e" not in page.split("<script>")[0]


def test_quantised_weights_are_named_beside_the_model(tmp_path: Path) -> None:
    for name, more in (("whole", {}), ("packed", {"quantization": "gptq 4-bit"})):
        file = write_model(tmp_path, name, {"mt_bench": mt_bench_scores(7.0)}) / "scores.json"
        scores = json.loads(file.read_text())
        file.write_text(json.dumps(scores | {"model": {**scores["model"], **more}}))
    page = build_report(tmp_path).html.read_text(encoding="utf-8")
    assert page.count('title="quantised weights">gptq 4-bit</span>') == 1


def test_paths_of_the_machine_stay_at_home(tmp_path: Path) -> None:
    write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(7.0)})
    report = build_report(tmp_path)
    assert "somebody" not in json.dumps(index_of(report.html))
    assert without_folders({"a": ["/home/x/ckpt", "http://host/v1", "1/2"]}) == {
        "a": ["…/ckpt", "http://host/v1", "1/2"]
    }


def test_visible_marks_every_direction_character() -> None:
    assert visible("a\u2066b\u200fc\x00d\ne") == "a⟦U+2066⟧b⟦U+200F⟧c⟦U+0000⟧d\ne"


def test_a_missing_part_is_a_dash_with_its_reason(tmp_path: Path) -> None:
    openllm = {"bbh": None, "unscored": {"bbh": "the data could not be had"}}
    write_model(tmp_path, "m", {"openllm": openllm, "mt_bench": mt_bench_scores(7.0)})
    page = build_report(tmp_path).html.read_text(encoding="utf-8")
    assert '<abbr title="the data could not be had">–</abbr>' in page
    assert "<b>BBH</b>: the data could not be had" in page
    assert "<b>MixEval</b>: mixeval was not run" in page


def test_nothing_right_is_no_certainty() -> None:
    part = {"score": 0.0, "stderr": 0.0, "n": 10, "unscored": {}}
    ifeval = next(column for column in columns_of([], []) if column.key == "ifeval")
    assert ifeval.figure({"ifeval": part}).ci95 == pytest.approx((0.0, 0.277533), abs=1e-6)
    some = ifeval.figure({"ifeval": {**part, "score": 0.5, "stderr": 0.1}})
    # Wilson 1927 for 25 observations, which have a standard error of 0.1 at 0.5.
    assert some.ci95 == pytest.approx((0.3175, 0.6825), abs=1e-4)


def test_the_columns_are_those_of_the_default_suites_in_their_order() -> None:
    main = ["mt_bench", "alpaca_eval", "bbh", "gpqa", "math", "musr", "ifeval", "mmlu_pro", "mixeval"]
    others = ["mt_bench_turn_1", "mt_bench_turn_2", "alpaca_win_rate", "musr_subtasks", "mixeval_hard"]
    faults: list[str] = []
    columns = columns_of([], faults)
    assert [column.key for column in columns] == main + others
    assert [column.key for column in columns if column.main] == main
    assert not faults


LM_EVAL = {"lm_eval": {"tasks": {"arc_easy": {"alias": "arc_easy", "acc,none": 0.625, "acc_stderr,none": 0.05}}}}


def test_tasks_of_lm_eval_have_columns_where_a_model_ran_them(tmp_path: Path) -> None:
    write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(7.0)})
    assert not [column for column in index_of(build_report(tmp_path).html)["columns"] if "arc" in column["key"]]
    write_model(tmp_path, "n", {"mt_bench": mt_bench_scores(6.0)} | LM_EVAL)
    report = build_report(tmp_path)
    assert not report.faults
    index = index_of(report.html)
    column = next(column for column in index["columns"] if column["key"] == "lm_eval/arc_easy")
    assert column["main"]
    assert [model["figures"]["lm_eval/arc_easy"][0] for model in index["models"]] == [None, 0.625]
    assert "lm_eval was not run" in report.html.read_text(encoding="utf-8")
    with report.csv.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["lm_eval/arc_easy"] for row in rows] == ["", "0.625"]


def test_figures_of_a_suite_that_is_not_installed_are_named(tmp_path: Path) -> None:
    write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(7.0), "toy": {"score": 0.5}})
    report = build_report(tmp_path)
    assert report.models == 1
    assert report.faults == ["the figures of 'toy': no suite of that name is installed here; install its package"]
    assert "toy" not in report.csv.read_text(encoding="utf-8")


def test_a_column_to_switch_on_is_shown_where_it_alone_has_a_figure(tmp_path: Path) -> None:
    alpaca_eval = {"win_rate": 40.0, "standard_error": 1.0, "lc_win_rate": None, "n_total": 100, "unscored": {}}
    write_model(tmp_path, "m", {"alpaca_eval": alpaca_eval})
    write_model(tmp_path, "n", {"alpaca_eval": alpaca_eval | {"lc_win_rate": 41.0}}, data="mini")
    page = build_report(tmp_path).html.read_text(encoding="utf-8")
    heads = re.findall(r'<th scope="col" data-column="alpaca_win_rate"[^>]*>', page)
    assert ['class="off"' in head for head in heads] == [False, True]


class Toy(Suite):
    """A suite of somebody's own package: right or wrong by one word."""

    name, title = "toy", "Toy"

    def load(self, options: SuiteOptions) -> Loaded:
        return Loaded([], {})

    async def answer(self, item: Item, loaded: Any, model: Any, options: Any) -> Draw:
        raise NotImplementedError

    def row(self, item: Item, loaded: Any) -> Row:
        raise NotImplementedError

    def mark(self, row: Row, header: Header) -> Row:
        return marked(row, score=float(row.replies[0].text == "yes"))


class BrokenToy(Toy):
    """A suite whose pages and columns cannot be made."""

    def columns(self, scores: Any) -> Any:
        raise RuntimeError(f"no columns of {sorted(scores)}")

    def answer_page(self, row: Row, header: Header) -> Any:
        raise RuntimeError("no page")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[type[Suite]], None]]:
    """Install a suite as an entry point of another package."""

    def install(kind: type[Suite]) -> None:
        entry = SimpleNamespace(name="toy", value="toys:Toy", dist=None, load=lambda: kind)
        monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [entry])
        registry.installed_suites.cache_clear()

    yield install
    registry.installed_suites.cache_clear()
    registry.broken_suites.cache_clear()


def write_toy(results: Path) -> None:
    folder = write_model(results, "m", {"toy": mixeval_scores(0.5, n=2), "mt_bench": mt_bench_scores(7.0)})
    replies = [("1", "yes"), ("2", "no")]
    rows = [Row(item, prompt=(Message("user", "Is it?"),), draws=(Draw((Reply(text),)),)) for item, text in replies]
    write_rows(folder, "toy", rows)


def test_a_suite_of_another_package_has_columns_items_and_stars(tmp_path: Path, installed: Any) -> None:
    installed(Toy)
    write_toy(tmp_path)
    report = build_report(tmp_path)
    assert not report.faults
    index = index_of(report.html)
    assert [column["key"] for column in index["columns"] if column["main"]][-1] == "toy"
    [part] = index["parts"]
    assert (part["name"], part["title"], part["column"], part["titles"]) == ("toy", "Toy", "toy", ["Is it?"] * 2)
    assert part["marks"]["levels"] == [0.0, 1.0]


def test_a_suite_that_fails_leaves_the_others(tmp_path: Path, installed: Any) -> None:
    installed(BrokenToy)
    write_toy(tmp_path)
    report = build_report(tmp_path)
    assert (report.models, report.items) == (1, 0)
    assert report.faults == [
        "the columns of toy: RuntimeError: no columns of ['mt_bench', 'toy']; upgrade its package",
        "the items of toy: RuntimeError: no page; upgrade the package of the suite",
    ]


def test_the_csv_holds_the_same_figures_unrounded(tmp_path: Path) -> None:
    write_model(tmp_path, "=cmd()", {"mt_bench": mt_bench_scores(7.123456)}, training={"base": "L8B", "dgm": "Q72"})
    report = build_report(tmp_path)
    with report.csv.open(encoding="utf-8", newline="") as lines:
        row = next(csv.DictReader(lines))
    assert row["model"] == "'=cmd()"
    assert float(row["mt_bench"]) == 7.123456
    assert row["mt_bench_n"] == "2"
    assert (row["base"], row["dgm"]) == ("L8B", "Q72")
    assert row["bbh"] == ""
    assert row["bbh_missing"] == "openllm was not run"


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"base_model": "L8B", "dgm": "Q72", "n_conversations": 500}, ("L8B", "Q72", 500)),
        ({"recipe": {"base": "L8B"}, "dgm": ["Q72", "C32"]}, ("L8B", "Q72, C32", None)),
        (None, ("S", "D", None)),
    ],
)
def test_lineage_comes_from_the_manifest_else_from_the_name(training: Any, expected: tuple[Any, ...]) -> None:
    found = lineage_of("S : D", Manifest(model={"training": training}))
    assert (found.base, found.dgm, found.size) == expected


def test_scaling_lines_need_one_series_with_two_sizes(tmp_path: Path) -> None:
    for size in (50_000, 100_000):
        training = {"base": "L8B", "dgm": "Q72", "n_conversations": size}
        write_model(tmp_path, f"m{size}", {"mt_bench": mt_bench_scores(7.0 + size / 1e6)}, training=training)
    page = build_report(tmp_path).html.read_text(encoding="utf-8")
    assert "chart-1-scaling-mt_bench" in page
    assert "chart-1-scaling-bbh" not in page


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        *product(("missing", "empty"), ("report", "export --to markdown", "export --to parquet")),
        # The paper's tables need no figures of yours, and the live report waits for them.
        *product(("missing",), ("paper", "view")),
    ],
)
def test_no_results_are_one_sentence_and_exit_2(tmp_path: Path, command: str, folder: str) -> None:
    """Nothing is written, not even the folder."""
    if folder == "empty":
        (tmp_path / folder).mkdir()
    done = runner.invoke(app, [*command.split(), "--results", str(tmp_path / folder)])
    assert (done.exit_code, done.stdout) == (2, "")
    what = "has no results" if folder == "empty" else "does not exist"
    assert done.stderr == (
        f"evalsuite: {tmp_path / folder} {what}; run `evalsuite run demo --data mini` first, or give --results DIR\n"
    )
    assert [path.name for path in tmp_path.rglob("*")] == (["empty"] if folder == "empty" else [])


@pytest.mark.parametrize("folder", ["missing", "."])
@pytest.mark.parametrize(
    "read",
    [load_results, partial(load_results, short=True), load_items, build_report],
    ids=["all", "short", "items", "report"],
)
def test_no_results_are_an_error_of_the_api(tmp_path: Path, read: Callable[[Path], object], folder: str) -> None:
    with pytest.raises(DataError, match="run `evalsuite run demo"):
        read(tmp_path / folder)


@pytest.mark.parametrize(
    "content",
    [
        '{"schema": 1, "suites": {"openllm": {"unscored": [1]}}, "data": "full", "model": {"name": "x"}}',
        '{"schema": 1, "suites": {}, "judge": "gpt-4", "data": "full", "model": {"name": "x"}}',
        "{",
        "[]",
        '{"schema": 0, "suites": {}}',
        '{"schema": 1, "suites": {}, "model": {}}',
        '{"schema": 1, "suites": {"mixeval": 3}, "data": "full", "model": {"name": "x"}}',
    ],
)
def test_broken_scores_are_named_skipped_and_exit_1(tmp_path: Path, content: str) -> None:
    write_model(tmp_path, "good", {"mt_bench": mt_bench_scores(7.0)})
    (tmp_path / "bad-00000000").mkdir()
    (tmp_path / "bad-00000000" / "scores.json").write_text(content, encoding="utf-8")
    done = runner.invoke(app, ["report", "--results", str(tmp_path), "--json"])
    assert done.exit_code == 1
    assert "bad-00000000" in done.stderr
    assert json.loads(done.stdout)["models"] == 1
    assert "bad-00000000" in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_looked_into_is_left_out_by_name(tmp_path: Path) -> None:
    """A link to itself fails like a closed folder, for the superuser too."""
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "scores.json").symlink_to("scores.json")
    write_model(tmp_path, "m", {"mixeval": mixeval_scores(0.5)})
    report = build_report(tmp_path)
    assert report.models == 1
    assert [fault for fault in report.faults if str(closed / "scores.json") in fault]
    done = runner.invoke(app, ["report", "--results", str(tmp_path)])
    assert done.exit_code == 1
    assert "left out" in done.stderr
    for other in tmp_path.glob("m-*/scores.json"):
        other.unlink()
    alone = runner.invoke(app, ["report", "--results", str(tmp_path)])
    assert alone.exit_code == 1
    assert "has no results" not in alone.stderr


def test_a_closed_folder_anywhere_ends_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left, reporting_errors():
        raise PermissionError(errno.EACCES, "Permission denied", "somewhere/file")
    assert left.value.exit_code == 2
    assert capsys.readouterr().err == (
        "evalsuite: cannot use somewhere/file: Permission denied; change its access rights and run again\n"
    )


def test_comparisons_and_judge_cards_are_shown(tmp_path: Path) -> None:
    write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(7.0)})
    pair = {"a": "m", "b": "k", "wins_a": 3, "wins_b": 1, "ties": 0, "unscored": 0, "rate_a": 0.75, "rate_b": 0.25}
    write_json(
        tmp_path / "comparisons" / "first" / "preferences.json",
        {
            "models": ["m", "k"],
            "judge": {"name": "judge-x"},
            "n_prompts": 4,
            "pairs": [pair],
            "flips": [],
            "ranking": [],
        },
    )
    write_json(tmp_path / "judges" / "judge-x-ffffffff" / "card.json", {"judge": {"fingerprint": JUDGE["fingerprint"]}})
    (tmp_path / "comparisons" / "broken").mkdir()
    (tmp_path / "comparisons" / "broken" / "preferences.json").write_text("[]", encoding="utf-8")
    report = build_report(tmp_path)
    assert len(report.faults) == 1
    page = report.html.read_text(encoding="utf-8")
    assert "Preferences: first" in page
    assert "75.0" in page
    index = index_of(report.html)
    assert list(index["cards"]) == ["judge-x-ffffffff"]
    assert index["comparisons"][0]["judge"] == "judge-x"
