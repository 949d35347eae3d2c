"""Every end of a command is one sentence and a code of the contract; tracebacks go to a file or to --debug."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

import evalsuite.store
from evalsuite.errors import BusyError, StoreError
from evalsuite.exits import is_worth_another_try
from evalsuite.generation.run import generate
from evalsuite.results import folder as results_folder
from evalsuite.results.folder import exclusive
from evalsuite.store import Store
from tests.evalsuite.generation_endpoint import answering, write_chats
from tests.evalsuite.generation_endpoint import config as generation_config
from tests.evalsuite.runs.test_runner import config, obliging, run
from tests.evalsuite.stub_endpoint import StubEndpoint

EVALSUITE = f"{sys.executable} -m evalsuite"
FAILING = """
import sys
import evalsuite.report.build
from evalsuite.__main__ import main

def fail(*_, **__):
    {statement}

evalsuite.report.build.build_report = fail
sys.argv = ["evalsuite", *sys.argv[1:]]
main()
"""
SECRET = "sk-live-0123456789abcdef"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-o", "pipefail", "-c", line]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, cwd="/", timeout=120, check=False
    )


def report_that(statement: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``evalsuite report`` whose work is ``statement``."""
    code = FAILING.format(statement=statement)
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, timeout=120, check=False
    )


# Standard streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["version", "--help", "data list --json", "data list"])
@pytest.mark.parametrize(("target", "reason"), [(">/dev/full", "No space left"), (">&-", "Bad file descriptor")])
def test_a_stdout_that_takes_nothing_is_one_sentence(command, target, reason):
    ended = shell(f"{EVALSUITE} {command} {target}")
    assert ended.returncode == 2
    assert ended.stderr.startswith("evalsuite: cannot write to stdout (")
    assert reason in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["version", "--help", "data list --json", "data list"])
def test_a_reader_that_has_seen_enough_is_no_error(command):
    ended = shell(f"{EVALSUITE} {command} | true")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_command_whose_reader_has_left_goes_to_its_own_end(tmp_path):
    statement = f"print('x' * 100_000, flush=True); open({str(tmp_path / 'after')!r}, 'w').close(); sys.exit(1)"
    (tmp_path / "code.py").write_text(FAILING.format(statement=statement))
    ended = shell(f"{sys.executable} {tmp_path / 'code.py'} report --results {tmp_path} | true")
    assert (ended.returncode, ended.stderr) == (1, "")
    assert (tmp_path / "after").exists()


@pytest.mark.parametrize("target", [">/dev/full", ">&-", "| true"])
def test_a_stderr_that_takes_nothing_changes_nothing(target):
    redirect = target.replace(">", "2>") if target != "| true" else "2> >(true)"
    ended = shell(f"{EVALSUITE} data list --json {redirect}")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)
    assert shell(f"{EVALSUITE} nosuch {redirect}").returncode == 2


def test_without_any_stream_no_file_takes_their_numbers(tmp_path):
    """A database that is opened as number 1 would hold what a library prints."""
    code = (
        "from evalsuite.streams import prepare_streams; prepare_streams(); import os, sys; "
        f"number = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY); sys.exit(10 + number)"
    )
    assert shell(f'exec {sys.executable} -c "{code}" <&- >&- 2>&-').returncode == 13


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_of_stdout_takes_any_text(tmp_path, encoding):
    document = {"name": "\ud83d 猫 é 😀"}
    statement = f"import evalsuite.commands.console as c, json; c.print_json(json.loads({json.dumps(document)!r}))"
    ended = report_that(f"{statement}; sys.exit(0)", "report", "--results", str(tmp_path), PYTHONIOENCODING=encoding)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout) == document
    for command in ("--help", "data list"):
        listed = shell(f"{EVALSUITE} {command}", PYTHONIOENCODING=encoding)
        assert (listed.returncode, listed.stderr) == (0, "")


# The unexpected ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "raise ValueError('strange')",
        "raise MemoryError",
        "raise EOFError",
        "raise BrokenPipeError(32, 'Broken pipe')",
        "fail()",
        "assert False",
        "import asyncio; raise asyncio.CancelledError",
    ],
)
def test_the_unexpected_is_one_sentence_and_a_file(tmp_path, statement):
    ended = report_that(statement, "report", "--results", str(tmp_path))
    assert ended.returncode == 70
    assert ended.stderr.startswith("evalsuite: unexpected ")
    assert ended.stderr.count("\n") == 1
    (log,) = (tmp_path / "logs").iterdir()
    assert str(log) in ended.stderr
    assert "Traceback (most recent call last)" in log.read_text()


def test_the_file_is_in_the_temporary_folder_without_results(tmp_path):
    ended = report_that("1 / 0", "report", "--results", str(tmp_path / "none"), TMPDIR=str(tmp_path))
    assert ended.returncode == 70
    (log,) = tmp_path.iterdir()
    assert str(log) in ended.stderr


def test_the_file_is_in_the_temporary_folder_where_logs_cannot_be_written(tmp_path):
    (tmp_path / "logs").write_text("a file")
    (tmp_path / "temporary").mkdir()
    ended = report_that("1 / 0", "report", "--results", str(tmp_path), TMPDIR=str(tmp_path / "temporary"))
    (log,) = (tmp_path / "temporary").iterdir()
    assert (ended.returncode, str(log) in ended.stderr) == (70, True)


def test_the_file_and_the_sentence_hold_no_secret(tmp_path):
    statement = (
        "import os; raise RuntimeError('Bearer abcdefgh123 ' + os.environ['MY_JUDGE_API_KEY'] + ' '"
        f" + '{SECRET}' + ' https://me:hunter22@host/?api_key=zzzz')"
    )
    out = f"--out=https://me:hunter22@host/{SECRET}"
    ended = report_that(statement, "report", "--results", str(tmp_path), out, MY_JUDGE_API_KEY="topsecretvalue")
    (log,) = (tmp_path / "logs").iterdir()
    shown = ended.stderr + log.read_text()
    assert "RuntimeError" in shown
    for secret in ("abcdefgh123", "topsecretvalue", SECRET, "hunter22", "zzzz"):
        assert secret not in shown
    assert log.stat().st_mode & 0o077 == 0


def test_what_libraries_report_has_no_traceback(tmp_path):
    statement = """import logging, warnings, threading
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("some.library").exception("could not %s", "divide")
    logging.getLogger("some.library").error("%d", "no number")
    warnings.warn("old")
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start(); thread.join()
    class Bad:
        def __del__(self): 1 / 0
    Bad()
    sys.exit(0)"""
    ended = report_that(statement, "report", "--results", str(tmp_path))
    assert ended.returncode == 0
    assert "could not divide (ZeroDivisionError: division by zero)\n" in ended.stderr
    assert "UserWarning: old\n" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert 'File "' not in ended.stderr
    debugged = report_that(statement, "--debug", "report", "--results", str(tmp_path))
    assert debugged.stderr.count("Traceback") >= 3


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("from evalsuite.errors import UsageError; raise UsageError('bad')", 2),
        ("from evalsuite.errors import ServerError; raise ServerError('gone')", 3),
        ("from evalsuite.errors import BusyError; raise BusyError('locked')", 75),
        ("raise OSError(28, 'No space left on device')", 2),
        ("raise KeyboardInterrupt", 130),
        ("raise ValueError('bad')", 70),
        ("from evalsuite.errors import UsageError as U; raise ExceptionGroup('two', [U('bad'), U('worse')])", 2),
    ],
)
def test_debug_adds_the_traceback_and_keeps_the_code(tmp_path, statement, code):
    plain = report_that(statement, "report", "--results", str(tmp_path))
    debugged = report_that(statement, "--debug", "report", "--results", str(tmp_path))
    assert (plain.returncode, debugged.returncode) == (code, code)
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debugged.stderr


# Locks and a folder that is deleted -------------------------------------------------------------------


def test_a_locked_store_is_for_later(tmp_path, monkeypatch):
    monkeypatch.setattr(evalsuite.store, "_BUSY_TIMEOUT_S", 0.1)
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError, match="another process") as error:
            store.put("k", {})
        assert error.value.exit_code == 75
        other.execute("ROLLBACK")
        other.close()
        store.put("k", {})
    with filelock.FileLock(path.with_name(".store.sqlite.opening")), pytest.raises(BusyError):
        Store(path)


def test_a_models_folder_that_another_process_keeps_is_for_later(tmp_path, monkeypatch):
    monkeypatch.setattr(results_folder, "_LOCK_TIMEOUT_S", 0.1)
    with exclusive(tmp_path / "model"), pytest.raises(BusyError), exclusive(tmp_path / "model"):
        pass


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_store_that_is_deleted_while_in_use_is_an_error(tmp_path, is_replaced):
    path = tmp_path / "results" / "store.sqlite"
    store = Store(path)
    store.put("k", {})
    shutil.rmtree(path.parent)
    if is_replaced:
        Store(path).close()
    for use in (lambda: store.get("k"), lambda: store.put("l", {}), lambda: store.claim("m")):
        with pytest.raises(StoreError, match="deleted or replaced"):
            use()
    store.close()


@pytest.mark.parametrize("moment", ["first", "last"])
def test_results_that_are_deleted_during_a_run_are_an_error(tmp_path, moment):
    results = tmp_path / "results"
    with StubEndpoint(obliging) as stub:
        run(config(stub, tmp_path / "other", suites=["mt_bench"]))
        last = len(stub.requests)
    asked = 0

    def deleting(path, body):
        nonlocal asked
        asked += 1
        if asked == (1 if moment == "first" else last):
            shutil.rmtree(results)
        return obliging(path, body)

    with StubEndpoint(deleting) as stub, pytest.raises(StoreError, match="deleted"):
        run(config(stub, results, suites=["mt_bench"]))
    assert not list(Path(results).glob("*/scores.json"))


def test_shards_that_are_deleted_during_generation_are_an_error(tmp_path):
    out, asked = tmp_path / "out", 0

    def deleting(path, body):
        nonlocal asked
        asked += 1
        if asked == 20:
            shutil.rmtree(out)
        return answering(path, body)

    with StubEndpoint(deleting) as stub, pytest.raises(StoreError):
        generate(generation_config(stub, write_chats(tmp_path / "chats.jsonl"), out))
    assert not json.loads((out / "_manifest.json").read_text())["complete"]


def test_a_used_up_quota_ends_the_run_for_later(tmp_path):
    def broke(path, body):
        return 429, {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}

    with StubEndpoint(broke) as stub, pytest.raises(BusyError, match="quota") as error:
        run(config(stub, tmp_path, suites=["mt_bench"]))
    assert error.value.exit_code == 75


@pytest.mark.parametrize(
    ("code", "again"),
    [(0, False), (1, False), (2, False), (3, True), (70, False), (75, True), (130, True), (137, True)],
)
def test_a_code_says_whether_to_try_again(code, again):
    assert is_worth_another_try(code) is again
    assert is_worth_another_try(-9), "killed by a signal"


def test_with_json_an_error_says_on_stdout_whether_to_try_again(tmp_path):
    for arguments, code in ((["nowhere", "--json"], 2), (["m@http://127.0.0.1:9/v1", "--json", "--data=mini"], 3)):
        command = [sys.executable, "-m", "evalsuite", "run", *arguments, f"--results={tmp_path}", "--suite=mixeval"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        document = json.loads(ended.stdout)
        assert (ended.returncode, document["exit_code"], document["again"]) == (code, code, code == 3)
        assert document["error"] in ended.stderr
