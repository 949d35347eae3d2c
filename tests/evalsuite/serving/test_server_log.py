"""Each start of a server has a log of its own, and reads no other's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from evalsuite.errors import StoreError
from evalsuite.serving.server_log import ServerLog


def say(log: ServerLog, words: str) -> None:
    subprocess.run([sys.executable, "-c", f"print({words!r})"], stdout=log.file, check=True)


def test_two_servers_under_one_name_keep_their_words_apart(tmp_path):
    path = tmp_path / "logs" / "model-candidate.log"
    first = ServerLog(path)
    say(first, "the first starts")
    second = ServerLog(path)
    say(second, "non-default args: the second")
    say(first, "the first dies: No space left on device")
    assert first.tail() == "the first starts\nthe first dies: No space left on device"
    assert second.text() == "non-default args: the second\n"
    assert (first.stage(), second.stage()) == ("importing", "reading the config")
    assert path.read_text() == second.text()
    assert (tmp_path / "logs" / "model-candidate.1.log").read_text() == first.text()
    for log in (first, second):
        log.close()


def test_what_a_server_said_can_be_read_after_its_end(tmp_path):
    log = ServerLog(tmp_path / "a.log")
    say(log, "\n".join(f"line {n}" for n in range(100)))
    log.close()
    log.close()
    assert log.tail().splitlines() == [f"line {n}" for n in range(70, 100)]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(StoreError, match="give a writable folder"):
        ServerLog(tmp_path / "logs" / "a.log")
