"""``generate --on``: the files of one machine, byte by byte, whatever the number of units and whoever is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalsuite.fleet.generate import _ranges
from evalsuite.generation.chunks import plan_chunks
from evalsuite.generation.feed import SeenConversations
from evalsuite.generation.manifest import read_manifest
from evalsuite.generation.run import generate, opened_prompts
from evalsuite.progress import NoProgress
from tests.evalsuite.fleet.test_fleet import long, started, wait_for, workers
from tests.evalsuite.generation_endpoint import answering, config, write_chats
from tests.evalsuite.stub_endpoint import StubEndpoint

pytestmark = pytest.mark.slow


def slower(path, body):
    time.sleep(0.5)
    return answering(path, body)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def command(stub: StubEndpoint, chats: Path, out: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "evalsuite", "generate", f"stub@{stub.url}", "--prompts", str(chats)]
    return [*words, "--out", str(out), "--temperature", "0.7", "--seed", "7", "--shard-size", "9", *more]


@pytest.fixture
def chats(tmp_path):
    path = write_chats(tmp_path / "chats.jsonl", 83)
    # Duplicates, which are left out wherever they stand.
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, *lines[3:20], *write_chats(tmp_path / "more.jsonl", 5).read_text()]))
    return path


def test_ranges_are_as_long_as_one_another_and_cut_at_gaps():
    assert list(_ranges(range(27), 8)) == [(0, 2), (3, 5), (6, 9), (10, 12), (13, 15), (16, 19), (20, 22), (23, 26)]
    assert list(_ranges([0, 1, 2, 4, 5, 9], 2)) == [(0, 2), (4, 5), (9, 9)]
    assert list(_ranges(range(2), 8)) == [(0, 0), (1, 1)]
    assert list(_ranges([], 3)) == []


def test_the_plan_has_the_marks_of_one_machine(tmp_path, chats):
    with StubEndpoint(answering) as stub:
        settings = config(stub, chats, tmp_path / "whole", shard_size=9)
        generate(settings)
    shards = read_manifest(tmp_path / "whole" / "_manifest.json")["shards"]
    seen = SeenConversations(tmp_path / "seen.sqlite")
    chunks = plan_chunks(settings, opened_prompts(settings, NoProgress()), seen)
    seen.close()
    assert [mark.rows for mark in chunks.marks] == [shard["mark"]["rows"] for shard in shards]
    assert chunks.end.duplicates == 22


def test_units_write_the_files_of_one_machine_through_a_killed_worker_and_head(tmp_path, chats):
    with StubEndpoint(slower) as stub:
        words = command(stub, chats, tmp_path / "whole")
        assert subprocess.run(words, capture_output=True).returncode == 0
        words = command(stub, chats, tmp_path / "units", "--on", "local", "--jobs", "2")
        with started(words, tmp_path / "log") as head:
            asked = len(stub.requests)
            wait_for(lambda: len(stub.requests) > asked + 40)
            workers(tmp_path / "units")[0].kill()
            head.kill()
        wait_for(lambda: not workers(tmp_path / "units"))
        # Another number of units.
        words[-1] = "3"
        ended = subprocess.run(words, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
    assert files(tmp_path / "units") == files(tmp_path / "whole")
    assert not (tmp_path / "units" / "fleet").exists()
    whole, units = (read_manifest(tmp_path / name / "_manifest.json") for name in ("whole", "units"))
    for key in ("complete", "counts", "tokens", "shards", "settings", "source", "model"):
        assert units[key] == whole[key], key
    with StubEndpoint(answering) as stub:
        # A machine by itself finds all of it done.
        assert subprocess.run(command(stub, chats, tmp_path / "units"), capture_output=True).returncode == 0
        assert not stub.requests


@long
def test_eight_units_at_once_write_the_files_of_one_machine(tmp_path):
    chats = write_chats(tmp_path / "chats.jsonl", 240)
    with StubEndpoint(slower) as stub:
        assert subprocess.run(command(stub, chats, tmp_path / "whole"), capture_output=True).returncode == 0
        before, most = len(stub.requests), 0
        words = command(stub, chats, tmp_path / "units", "--on", "local", "--jobs", "8")
        with started(words, tmp_path / "log") as head:
            while head.poll() is None:
                most = max(most, len(workers(tmp_path / "units")))
                time.sleep(0.2)
            assert head.returncode == 0, (tmp_path / "log").read_text()
        assert most == 8
        assert len(stub.requests) - before == before, "every question is asked once"
    assert files(tmp_path / "units") == files(tmp_path / "whole")
    assert len(files(tmp_path / "units")) == 27
