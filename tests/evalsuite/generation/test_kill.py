"""Kills at any moment, and concurrent calls, with real processes and signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pyarrow.parquet as pq
import pytest

from evalsuite.errors import BusyError
from evalsuite.generation.run import generate
from tests.evalsuite.generation_endpoint import config, slow, write_chats
from tests.evalsuite.stub_endpoint import StubEndpoint

pytestmark = pytest.mark.slow

OPTIONS = ["--shard-size", "10", "--in-flight", "4", "--max-new-tokens", "8", "--temperature", "0.7"]


class LimitedEndpoint:
    """Answers ``allowed`` requests and blocks all others until more are allowed."""

    def __init__(self, allowed):
        self._left = threading.Semaphore(allowed)
        self.stopped = threading.Event()

    def __call__(self, path, body):
        while not self._left.acquire(timeout=0.1):
            if self.stopped.is_set():
                return None
        return slow(path, body)

    def allow(self, count):
        for _ in range(count):
            self._left.release()


def start(url, chats, out, log):
    arguments = ["-m", "evalsuite", "generate", f"stub@{url}", "--prompts", str(chats), "--out", str(out), *OPTIONS]
    with log.open("w") as stderr:
        return subprocess.Popen([sys.executable, *arguments], stderr=stderr, stdout=subprocess.DEVNULL)


def wait_for(condition, process, log, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*.parquet"))}


def rows(folder):
    return [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_a_generation_killed_twice_resumes_to_the_same_files(tmp_path):
    chats, out = write_chats(tmp_path / "chats.jsonl"), tmp_path / "killed"
    endpoint, log = LimitedEndpoint(37), tmp_path / "stderr"
    with StubEndpoint(endpoint) as stub:
        first = start(stub.url, chats, out, log)
        # 37 answers are sent and all requests in flight are blocked: kill in the middle of conversations
        wait_for(lambda: len(stub.requests) >= 37 + 4, first, log)
        with pytest.raises(BusyError, match="another evalsuite process is generating into"):
            generate(config(stub, chats, out))
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert not (out / "_manifest.json").read_text().count('"complete": true')

        n_before = len(stub.requests)
        endpoint.allow(30)
        second = start(stub.url, chats, out, log)
        wait_for(lambda: len(stub.requests) >= n_before + 30, second, log)
        second.send_signal(signal.SIGINT)
        assert second.wait(timeout=120) == 130
        assert "run the same command again" in log.read_text()
        assert list(out.glob("part-*.parquet"))

        endpoint.allow(1000)
        (manifest,) = generate(config(stub, chats, out)).manifests
        n_asked = len(stub.requests)
        generate(config(stub, chats, tmp_path / "uninterrupted"))
        n_uninterrupted = len(stub.requests) - n_asked
        endpoint.stopped.set()
    assert manifest["costs"]["calls"] == 3
    # a kill costs at most the requests in flight: four each time
    assert n_asked <= n_uninterrupted + 2 * 5
    assert rows(out) == rows(tmp_path / "uninterrupted")
    assert content(out) == content(tmp_path / "uninterrupted")
    assert not (out / "_unfinished").exists()
