"""Two runs into one results folder, and disks that are full or read-only: real processes, a real small disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from evalsuite.config import read_config
from evalsuite.errors import StoreError
from evalsuite.runs.runner import run
from evalsuite.store import Store
from tests.evalsuite.serving.test_server_faults import healthy
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

pytestmark = pytest.mark.slow

RUN = """
import json, sys
from evalsuite.config import read_config
from evalsuite.runs.runner import run

run(read_config(json.loads(sys.argv[1])))
"""
OWNER = """
import sys, time
from pathlib import Path
from evalsuite.store import Store
store = Store(Path(sys.argv[1]))
print(store.claim("k"), flush=True)
time.sleep(60)
"""


def words(stub, results, suites, model="stub"):
    word = f"{model}@{stub.url}"
    return {"models": [word], "judge": word, "suites": suites, "data": "mini", "results": str(results)}


def start(values):
    return subprocess.Popen([sys.executable, "-c", RUN, json.dumps(values)], stderr=subprocess.PIPE, text=True)


def finish(*processes):
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said


def slowly(results, n_processes):
    """Answer after a moment, and nothing before so many processes have opened the store: they are at work at once."""

    all_there = threading.Event()

    def handler(path, body):
        while not all_there.is_set():
            owners = [each for each in results.glob(".store.sqlite.*") if each.suffix != ".opening"]
            if len(owners) >= n_processes:
                all_there.set()
            time.sleep(0.05)
        return healthy(path, body)

    return handler


def scores_in(results):
    return {path.parent.name: json.loads(path.read_text()) for path in results.glob("*/scores.json")}


def test_two_runs_of_one_model_ask_nothing_twice_and_lose_no_figures(tmp_path):
    with StubEndpoint(slowly(tmp_path, 3)) as stub:
        same = [start(words(stub, tmp_path, ["mt_bench"])) for _ in range(2)]
        other = start(words(stub, tmp_path, ["alpaca_eval"]))
        finish(*same, other)
        asked = Counter(json.dumps(body, sort_keys=True) for _, body in stub.requests)
    assert max(asked.values()) == 1
    (document,) = scores_in(tmp_path).values()
    assert set(document["suites"]) == {"mt_bench", "alpaca_eval"}
    assert all(suite["unscored"] == {} for suite in document["suites"].values())
    with Store(tmp_path / "store.sqlite") as store:
        store.check()


def test_runs_of_different_models_stay_apart(tmp_path):
    def answering(text):
        def handler(path, body):
            plain = not body.get("structured_outputs") and not body.get("top_logprobs")
            return (200, text_reply(text)) if plain else healthy(path, body)

        return handler

    with (
        StubEndpoint(answering("I am one."), model="one") as one,
        StubEndpoint(answering("I am two."), model="two") as two,
    ):
        finish(start(words(one, tmp_path, ["mt_bench"], "one")), start(words(two, tmp_path, ["mt_bench"], "two")))
    for name, text in (("one", "I am one."), ("two", "I am two.")):
        (folder,) = tmp_path.glob(f"{name}-*")
        answers = (folder / "mt_bench" / "model_answer.jsonl").read_text()
        assert set(json.loads(answers.splitlines()[0])["choices"][0]["turns"]) == {text}
        assert answers.count("I am ") == answers.count(text)


def test_a_claim_holds_while_its_owner_lives_and_no_longer(tmp_path):
    path = tmp_path / "store.sqlite"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline().strip() == "True"
    with Store(path) as store:
        assert not store.claim("k")
        assert store.claim("other")
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        owner.stdout.close()
        assert store.claim("k"), "a killed process blocks nobody"
        assert store.claim("k"), "one's own claim is one's own"
        store.put("k", {"text": "x"})
        with Store(path) as second:
            assert second.claim("k"), "an answer ends the claim"
            assert not store.claim("k")
            second.release("k")
            assert store.claim("k")
    assert [entry.name for entry in tmp_path.glob(".store.sqlite.*") if "opening" not in entry.name] == []


def test_claims_of_killed_processes_are_forgotten_when_the_store_is_opened(tmp_path):
    path = tmp_path / "store.sqlite"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(path)], stdout=subprocess.PIPE, text=True)
    owner.stdout.readline()
    owner.kill()
    owner.wait()
    owner.stdout.close()
    with Store(path) as store:
        assert store._db.execute("SELECT COUNT(*) FROM claims").fetchone()[0] == 0


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own in memory; only root may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def remount(disk, option):
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def config(stub, results):
    return read_config(words(stub, results, ["mt_bench", "alpaca_eval"]))


def settled(stub):
    """Return what was asked, once nothing more arrives: what was under way when the run ended may come late."""
    seen, quiet_since = len(stub.requests), time.monotonic()
    while time.monotonic() - quiet_since < 1.0:
        time.sleep(0.05)
        if len(stub.requests) != seen:
            seen, quiet_since = len(stub.requests), time.monotonic()
    return [json.dumps(body, sort_keys=True) for _, body in stub.requests]


def test_a_full_disk_ends_the_run_with_one_sentence_and_nothing_is_lost(small_disk, monkeypatch):
    monkeypatch.setattr("evalsuite.doctor.capacity._MIN_FREE", 0)

    def wordy(path, body):
        plain = not body.get("structured_outputs") and not body.get("top_logprobs")
        return (200, text_reply("word " * 12_000)) if plain else healthy(path, body)

    with StubEndpoint(wordy) as stub:
        with pytest.raises(StoreError, match=r"free some space") as error:
            run(config(stub, small_disk))
        assert "\n" not in str(error.value)
        first = settled(stub)
        remount(small_disk, "size=40m")
        with Store(small_disk / "store.sqlite") as store:
            store.check()
            kept = len(store)
        document = run(config(stub, small_disk)).models[0].as_json()
        twice = Counter([json.dumps(body, sort_keys=True) for _, body in stub.requests])
    assert document["suites"]["mt_bench"]["unscored"] == {}
    assert kept > 0
    assert sum(count - 1 for count in twice.values()) <= len(first) - kept, "what was stored is not asked again"


def test_a_read_only_disk_is_said_before_anything_is_asked_and_can_be_read(small_disk, monkeypatch):
    monkeypatch.setattr("evalsuite.doctor.capacity._MIN_FREE", 0)
    remount(small_disk, "size=40m")
    with StubEndpoint(healthy) as stub:
        done = run(config(stub, small_disk)).models[0].as_json()
        asked = len(stub.requests)
        remount(small_disk, "ro")
        assert run(config(stub, small_disk)).models[0].as_json() == done, "finished figures need no writing"
        from evalsuite.errors import EvalsuiteError

        with pytest.raises(EvalsuiteError, match="--results") as error:
            run(read_config(words(stub, small_disk, ["mixeval"])))
        assert error.value.exit_code == 2
        assert len(stub.requests) == asked
        remount(small_disk, "rw")
        assert set(run(read_config(words(stub, small_disk, ["mixeval"]))).models[0].suites) == {
            "mt_bench",
            "alpaca_eval",
            "mixeval",
        }
