"""Files are written atomically, and temporary files of killed writers are removed."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.conversations.source import open_source
from evalsuite.errors import DataError, StoreError
from evalsuite.files import exists, read_json, read_objects, write_json, write_pieces, write_text
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


def renaming_that(monkeypatch, *, works, number):
    """Let every rename fail with an error, after it has been carried out or instead."""
    real = os.replace

    def replace(source, target, **_):
        if works:
            real(source, target)
        raise OSError(number, os.strerror(number), str(source), None, str(target))

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(Path, "replace", lambda source, target: replace(source, target))


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO])
def test_a_rename_that_worked_although_the_network_file_system_says_it_failed_counts(tmp_path, monkeypatch, number):
    """NFS: the reply is lost, the client asks again, and the source is gone."""
    path = tmp_path / "file"
    write_text(path, "old")
    renaming_that(monkeypatch, works=True, number=number)
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EXDEV, "Invalid cross-device link; give a folder on another file system and run again"),
        (errno.ESTALE, "Stale file handle; check the disk or the network file system and run again"),
        (errno.ENOSPC, "No space left on device; free some space and run again"),
        (errno.ENOENT, "No such file or directory; give a writable folder and run again"),
    ],
)
def test_a_rename_that_fails_leaves_the_old_file_and_names_the_remedy(tmp_path, monkeypatch, number, remedy):
    path = tmp_path / "file"
    write_text(path, "old")
    renaming_that(monkeypatch, works=False, number=number)
    with pytest.raises(StoreError, match=rf"cannot write {path}: {remedy}$"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


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
        read_objects(path)
    path.write_bytes(good)
    assert read_objects(path) == [{"a": "ü"}, {"a": 2}]


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


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o027, 0o000])
def test_what_is_written_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "results" / "scores.json", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "results").stat().st_mode & 0o777 == 0o777 & ~umask
    assert (tmp_path / "results" / "scores.json").stat().st_mode & 0o777 == 0o666 & ~umask


def test_half_a_surrogate_pair_in_recorded_files_adds_no_digits(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a\\ud800": ["\\uDFFF", "\\ud83d\\ude00"]}\n')
    assert read_objects(path) == [{"a\ufffd": ["\ufffd", "😀"]}]
    write_json(path, {"a": "b\ud83d"})
    once = read_json(path)
    write_json(path, once)
    assert read_json(path) == once == {"a": "b\ufffd"}


@pytest.mark.parametrize("depth", [201, 990, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_json_is_refused(tmp_path, opening, depth):
    closing = {"[": "]"}.get(opening, "}")
    path = tmp_path / "deep.json"
    path.write_text('{"x": ' + opening * depth + "1" + closing * depth + "}\n")
    for read in (read_json, read_objects):
        with pytest.raises(DataError, match=r"nested more than 200 deep"):
            read(path)


def test_many_brackets_are_not_deep(tmp_path):
    path = tmp_path / "wide.json"
    document = {"a": [[[index]] for index in range(1000)], "b": "[" * 1000, "c": {"d": "{" * 1000}}
    write_json(path, document)
    assert read_json(path) == document


def test_reading_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("evalsuite.files.MAX_LINE_BYTES", 100)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"a": "x" * 90}) + "\n" + json.dumps({"a": "x" * 200}) + "\n")
    with pytest.raises(DataError, match="line 2 has more than 100 bytes"):
        read_objects(path)
    path.write_bytes(bytes(1001))
    with pytest.raises(DataError, match="has more than 1,000 bytes"):
        read_json(path, 1000)


def test_a_pipe_or_a_device_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "rows.jsonl")
    for path in (tmp_path / "rows.jsonl", Path("/dev/zero")):
        with pytest.raises(DataError, match="is a pipe or a device, not a file; save its content"):
            read_json(path)
    with pytest.raises(DataError, match="is a pipe or a device"):
        open_source(str(tmp_path / "rows.jsonl"))


ROWS = [{"a": "ü"}, {"a": 2}]
LINES = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
LIST = json.dumps(ROWS, indent=1).encode()


def zstandard(content: bytes) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(content)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    "packed", [bytes, gzip.compress, zstandard, lambda raw: gzip.compress(raw[:9]) + gzip.compress(raw[9:])]
)
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf \r\n"])
@pytest.mark.parametrize(
    "content", [LINES, LINES + b"\r\n\r\n", LIST, LIST.replace(b"\n", b"\r\n"), json.dumps(ROWS).encode()]
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_rows_are_read_whatever_form_they_have(tmp_path, name, content, start, packed):
    path = tmp_path / name
    path.write_bytes(packed(start + content))
    assert read_objects(path) == ROWS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", "is a zip file; unpack it"),
        (gzip.compress(LINES, mtime=0)[:-12], "cannot read .*: Compressed file ended"),
        (zstandard(LINES)[:-4], "cannot read .*Truncated"),
        (b"\x1f\x8bnot gzip", "cannot read"),
        (LINES.decode().encode("utf-16"), "line 1 is not JSON .*UTF-8"),
        (b'[{"a": 1}, 2]', "row 2 is not a JSON object"),
        (b'[{"a": 1}', "is not JSON"),
        (
            json.dumps({"rows": ROWS}, indent=1).encode(),
            "line 1 is not JSON .*; give one object per line or a JSON list",
        ),
    ],
)
def test_rows_that_cannot_be_read_are_named_with_the_remedy(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_objects(path)


def test_a_document_may_be_compressed_and_have_a_byte_order_mark(tmp_path):
    path = tmp_path / "results.json.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf{"a": 1}'))
    assert read_json(path) == {"a": 1}
