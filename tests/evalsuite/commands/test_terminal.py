"""What is printed: help that fits any width, tables whose words are whole, options that all commands share."""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path

import pytest
import typer
from rich.box import HEAVY, SIMPLE_HEAD, Box
from rich.table import Table
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.commands.console import QUIET, suggest
from evalsuite.commands.help import shared_first
from evalsuite.config import read_config
from evalsuite.results.folder import stored_scores
from evalsuite.tables import print_models
from evalsuite.terminal import TABLES, Console
from tests.evalsuite.report_results import mt_bench_scores, write_model


def commands() -> list[str]:
    root = typer.main.get_command(app)
    return [
        f"{name} {sub}".strip()
        for name, command in root.commands.items()
        for sub in ["", *getattr(command, "commands", ())]
    ] + [""]


@pytest.mark.parametrize("command", commands())
@pytest.mark.parametrize("width", [60, 80, 120])
def test_help_is_whole_at_any_width(command: str, width: int) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": str(width)})
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line for line in lines if len(line) > width and " " in line.strip(" -")] == []
    for torn in ("…", "<bool>", "[bold]", "[/]"):
        assert torn not in result.stdout
    assert "{" not in lines[0], "an argument's name in braces"


def test_help_of_the_whole_lists_every_command_under_a_title() -> None:
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).stdout
    sections = re.split(r"\n\n(\w[\w ]*):\n", text)
    of_title = dict(zip(sections[1::2], sections[2::2], strict=True))
    listed = [name for title in of_title if title not in {"Examples", "Options"} for name in
              re.findall(r"^  (\S+)", of_title[title], re.MULTILINE)]  # fmt: skip
    assert sorted(listed) == sorted(typer.main.get_command(app).commands)
    assert "Commands" not in of_title, "a command without a title"


def test_help_of_run_has_groups_examples_and_the_environment() -> None:
    text = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "80"}).stdout
    order = [text.index(f"\n{name}:") for name in ("Examples", "Arguments", "Model", "Judge", "Serving", "Output")]
    assert order == sorted(order)
    assert text.count("\n  evalsuite run ") >= 2
    for name in ("EVALSUITE_API_KEY", "EVALSUITE_CACHE", "EVALSUITE_MIRROR", "EVALSUITE_OFFLINE"):
        assert name in text


def printed(width: int | None, form: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(TABLES, form)
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table("model", "what it is like", "score")
    table.add_row("llama-3.1-8b-rewild-250k", "a model of eight billion parameters", "7.412")
    table.add_row("=HYPERLINK(1)", "a | b", "0.5")
    out = io.StringIO()
    Console(file=out, **({} if width is None else {"width": width, "force_terminal": True, "no_color": True})).print(
        table
    )
    return out.getvalue()


def test_a_table_is_whole_in_a_pipe_and_blocks_where_it_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, narrow = printed(None, "table", monkeypatch), printed(36, "table", monkeypatch)
    row = next(line for line in pipe.splitlines() if "llama" in line)
    assert "a model of eight billion parameters" in row
    assert "7.412" in row
    assert "  score: 7.412" in narrow
    assert "llama-3.1-8b-rewild-250k" in narrow
    wrapped = printed(58, "table", monkeypatch)
    assert all(word in wrapped for word in ("llama-3.1-8b-rewild-250k", "parameters", "7.412"))


@pytest.mark.parametrize("box", [None, SIMPLE_HEAD, HEAVY])
@pytest.mark.parametrize("width", range(30, 70))
def test_no_word_of_a_table_is_cut_at_any_width(width: int, box: Box | None) -> None:
    """The widest column gives way first, and not the one whose words are long."""
    table = Table("suite", "words", "judge", box=box, pad_edge=box is not None)
    table.add_row("a", "some short words in one cell of it", "single_rating_1_to_10")
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    assert "single_rating_1_to_10" in out.getvalue()
    assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= width


def test_a_table_as_csv_and_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(csv.reader(io.StringIO(printed(80, "csv", monkeypatch))))
    assert rows[0] == ["model", "what it is like", "score"]
    assert rows[2] == ["'=HYPERLINK(1)", "a | b", "0.5"]
    assert "a \\| b" in printed(80, "markdown", monkeypatch)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["data", "list", "--format", "csv", "-q"], ["--format", "csv", "-q", "data", "list"]),
        (["run", "m", "--debug"], ["--debug", "run", "m"]),
        (["gate", "a", "b", "--format=json"], ["gate", "a", "b", "--json"]),
        (["run", "--", "--debug"], ["run", "--", "--debug"]),
    ],
)
def test_what_all_commands_share_stands_anywhere(words: list[str], expected: list[str]) -> None:
    assert shared_first(words) == expected


def test_suites_may_be_a_list_with_commas() -> None:
    config = read_config({"models": ["m"], "suites": ["mt_bench,openllm:ifeval,musr,mixeval:hard"], "judge": ["j"]})
    assert [(spec.name, spec.parts) for spec in config.suites] == [
        ("mt_bench", ()),
        ("openllm", ("ifeval", "musr")),
        ("mixeval", ("hard",)),
    ]


@pytest.mark.parametrize(("quiet", "terminal", "said"), [("", True, True), ("1", True, False), ("", False, False)])
def test_the_next_command_is_named_at_a_terminal_only(
    quiet: str, terminal: bool, said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(QUIET, quiet)
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: terminal)
    suggest("view --open", "report", results=Path("my results"))
    out, err = capsys.readouterr()
    expected = "next: evalsuite view --open --results 'my results' | evalsuite report --results 'my results'\n"
    assert (out, err) == ("", expected if said else "")


def test_an_average_without_any_of_its_parts_has_no_line(tmp_path: Path) -> None:
    scores = stored_scores(write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(7.0)}))
    assert scores is not None
    out = io.StringIO()
    print_models(Console(file=out, width=100), [scores])
    assert "mean of 9: 0.7000 over mt_bench alone" in out.getvalue()
    assert "mean of 7" not in out.getvalue()
    assert "leaderboard" not in out.getvalue()
