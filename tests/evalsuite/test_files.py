"""Files are written atomically, and temporary files of killed writers are removed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.errors import DataError, StoreError
from evalsuite.files import exists, read_jsonl, write_pieces, write_text
from evalsuite.training.data import open_training_data

KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from evalsuite.files import write_pieces

def pieces():
    yield "half"
    os.kill(os.getpid(), signal.SIGKILL)

write_pieces(Path(sys.argv[1]), pieces())
"""


def test_the_temporary_file_of_a_killed_writer_is_removed_by_the_next_write(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("before")
    ended = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], check=False)
    assert ended.returncode == -9
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 2
    write_text(path, "after")
    assert [(other.name, other.read_text()) for other in tmp_path.iterdir()] == [("scores.json", "after")]


def test_the_temporary_file_of_a_running_writer_is_kept(tmp_path):
    path = tmp_path / "scores.json"

    def pieces():
        yield "first"
        write_text(path, "second")

    write_pieces(path, pieces())
    assert [(other.name, other.read_text()) for other in tmp_path.iterdir()] == [("scores.json", "first")]


def test_a_failed_write_keeps_only_the_old_file(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("before")

    def pieces():
        yield "half"
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        write_pieces(path, pieces())
    assert [(other.name, other.read_text()) for other in tmp_path.iterdir()] == [("scores.json", "before")]


@pytest.mark.parametrize("fault", [b'{"a": "f\xfcr"}', b'{"a": '], ids=["latin-1", "cut"])
def test_an_error_in_json_lines_names_the_line(tmp_path, fault):
    path = tmp_path / "rows.jsonl"
    good = b'{"a": "\xc3\xbc"}\r\n\n{"a": 2}\n'
    path.write_bytes(good + fault + b'\n{"a": 3}\n')
    with pytest.raises(DataError, match=r"rows.jsonl line 4 is not JSON"):
        read_jsonl(path)
    path.write_bytes(good)
    assert read_jsonl(path) == [{"a": "ü"}, {"a": 2}]


LONG = "n" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["analyze", "efficiency", LONG],
        ["analyze", "keywords", "--comparison", LONG],
        ["analyze", "contamination", LONG],
        ["compare", LONG, "demo", "--judge", "demo", "--data", "mini"],
        ["compare", f"{LONG}.json", "demo", "--judge", "demo", "--data", "mini"],
        ["compare", "demo", "demo", "--judge", "demo", "--prompts", LONG],
        ["judge-card", "demo", "--pairs", LONG],
        ["run", LONG, "--data", "mini"],
    ],
    ids=" ".join,
)
def test_an_argument_too_long_for_a_path_is_one_sentence(tmp_path, arguments):
    done = CliRunner().invoke(app, [*arguments, "--results", str(tmp_path)])
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("evalsuite: ")


def test_training_data_with_too_long_a_name_is_one_sentence():
    with pytest.raises(DataError, match="not found"):
        open_training_data(LONG)


def test_exists_raises_without_permission(tmp_path, monkeypatch):
    def forbidden(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(tmp_path), "exists", forbidden)
    with pytest.raises(PermissionError):
        exists(tmp_path / "a")
