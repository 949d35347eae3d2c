"""Each start of a server has a separate log."""

from __future__ import annotations

import subprocess
import sys

import pytest

from evalsuite.errors import StoreError
from evalsuite.serving.server_log import ServerLog


def write(log: ServerLog, text: str) -> None:
    subprocess.run([sys.executable, "-c", f"print({text!r})"], stdout=log.file, check=True)


def test_two_servers_with_one_path_have_separate_logs(tmp_path):
    path = tmp_path / "logs" / "model-candidate.log"
    first = ServerLog(path)
    write(first, "the first starts")
    second = ServerLog(path)
    write(second, "non-default args: the second")
    write(first, "the first dies: No space left on device")
    assert first.tail() == "the first starts\nthe first dies: No space left on device"
    assert second.text() == "non-default args: the second\n"
    assert (first.stage(), second.stage()) == ("importing", "reading the config")
    assert path.read_text() == second.text()
    assert (tmp_path / "logs" / "model-candidate.1.log").read_text() == first.text()
    for log in (first, second):
        log.close()


def test_a_log_can_be_read_after_closing(tmp_path):
    log = ServerLog(tmp_path / "a.log")
    write(log, "\n".join(f"line {n}" for n in range(100)))
    log.close()
    log.close()
    assert log.tail().splitlines() == [f"line {n}" for n in range(70, 100)]


def test_an_unwritable_folder_is_one_sentence(tmp_path):
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(StoreError, match="give a writable folder"):
        ServerLog(tmp_path / "logs" / "a.log")
