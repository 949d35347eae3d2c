"""Text made by others: surrogates, terminal controls, formulas; and the console that shows it."""

from __future__ import annotations

import csv
import io

import pytest
from rich.table import Table

from evalsuite.progress import LiveProgress, LogProgress
from evalsuite.terminal import Console
from evalsuite.text import csv_text, mapped, printable, well_formed
from tests.processor_time import within

HOSTILE = "a\x1b[2J\x1b]0;title\x07\x9b31m\u202e\u2066b\r\x7f"
PLAIN = "a[2J]0;title31mb"


def test_half_a_surrogate_pair_is_escaped_and_a_whole_one_stays():
    assert well_formed("a\ud83d 😀 \udc80") == "a\\ud83d 😀 \\udc80"
    assert mapped({"\ud800": ["\udfff", 1, None, {"a": "b"}]}, well_formed) == {
        "\\ud800": ["\\udfff", 1, None, {"a": "b"}]
    }


def test_terminal_controls_are_dropped_and_line_ends_stay():
    assert printable(HOSTILE) == PLAIN
    assert printable("one\n\ttwo ü 😀 日本") == "one\n\ttwo ü 😀 日本"


@pytest.mark.parametrize(
    "cell",
    [
        "=1",
        "+1",
        "-1",
        "@x",
        " =1",
        "\u00a0=1",
        "\ufeff=1",
        "＝1",
        "＋1",
        "－1",
        "＠x",
        "\t=1",
        "\tx",
        "\r=1",
        '"=1',
        "'=1",
    ],
)
def test_a_cell_that_a_spreadsheet_would_compute_begins_with_an_apostrophe(cell):
    [[read]] = csv.reader(io.StringIO(csv_text([[cell]])))
    assert read.startswith("'")
    assert read.replace("'", "") == printable(cell).replace("'", "")


@pytest.mark.parametrize("separator", [";", "\t", "\n"])
def test_a_cell_stays_text_for_a_spreadsheet_that_splits_it(separator):
    [row] = csv.reader(io.StringIO(csv_text([[f"x{separator} =1"]])))
    assert row == [f"x{separator}' =1"]


@pytest.mark.parametrize("piece", ["\n", ";", " ", "-", '"', "; ", "\n=", "\t", "a\n", "=", "; ;a"])
def test_guarding_a_long_cell_is_linear(piece):
    with within(1):
        csv_text([[piece * (200_000 // len(piece))]])


def test_numbers_and_ordinary_texts_are_written_as_they_are():
    row = [-1.25, -3, None, True, "a-b", "a=b", "mt_bench; first turn", "", "–"]
    assert csv_text([row]) == "-1.25,-3,,True,a-b,a=b,mt_bench; first turn,,–\n"


def test_a_row_is_a_row_to_every_reader():
    text = csv_text([["a\rb", "c\0d", "e\u2028f"]])
    assert text == "ab,cd,ef\n"


def shown_by(what):
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system="standard", width=60, highlight=False).print(what)
    return out.getvalue()


def test_the_console_keeps_its_own_colours_and_drops_those_of_others():
    shown = shown_by(f"[red]{HOSTILE}[/red]")
    assert shown == f"\x1b[31m{PLAIN}\x1b[0m\n"


def test_a_table_stays_aligned():
    table = Table(title=HOSTILE)
    table.add_column("name")
    table.add_row(HOSTILE)
    table.add_row("b" * len(PLAIN))
    lines = shown_by(table).splitlines()
    assert not any(control in line for line in lines for control in ("\x1b[2J", "\x9b", "\x07", "\u202e"))
    assert len({len(line) for line in lines if PLAIN in line and "│" in line} | {len(lines[-2])}) == 1


def test_brackets_that_are_not_markup_are_shown():
    assert shown_by("written to a[/b]/") == "written to a[/b]/\n"


@pytest.mark.parametrize("name", [HOSTILE, "x[/b][red]"])
def test_progress_shows_names_of_others_as_text(name, capsys):
    LogProgress().log(name)
    with LiveProgress() as live:
        live.begin(name, 2)
        live.update(name, 1, 2)
        live.step(name)
        live.log(name)
    shown = capsys.readouterr().err
    assert printable(name) in shown
    assert not any(control in shown for control in ("\x1b[2J", "\x1b]", "\x9b", "\x07", "\u202e"))
