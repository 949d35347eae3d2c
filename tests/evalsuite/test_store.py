from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from evalsuite.errors import BusyError, DataError, StoreError
from evalsuite.store import LocalStore, Store, content_key
from tests.processor_time import within

WRITER = """
import sys
from pathlib import Path
from evalsuite.store import Store, content_key
store = Store(Path(sys.argv[1]))
for i in range(100_000):
    store.put(content_key({"writer": sys.argv[2], "i": i}), {"i": i})
    print(i, flush=True)
"""


def test_an_answer_persists_across_reopening(tmp_path):
    key = content_key({"question": "why"})
    with Store(tmp_path / "store.sqlite") as store:
        assert store.get(key) is None
        store.put(key, {"text": "because \ud83d (half a pair) 😀"})
    with Store(tmp_path / "store.sqlite") as store:
        assert store.get(key) == {"text": "because \ud83d (half a pair) 😀"}


def test_the_first_answer_is_kept(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        store.put("k", {"text": "first"})
        store.put("k", {"text": "second"})
        assert store.get("k") == {"text": "first"}
        assert len(store) == 1


def test_the_key_depends_on_content_and_not_on_order():
    assert content_key({"a": 1, "b": [1, 2]}) == content_key({"b": [1, 2], "a": 1})
    assert content_key({"a": 1}) != content_key({"a": 2})
    assert content_key({"a": [1, 2]}) != content_key({"a": [2, 1]})


def test_a_killed_writer_loses_no_committed_answer(tmp_path):
    path = tmp_path / "store.sqlite"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), "one"], stdout=subprocess.PIPE, text=True)
    reported = [int(writer.stdout.readline()) for _ in range(200)]
    os.kill(writer.pid, signal.SIGKILL)
    reported += [int(line) for line in writer.communicate()[0].splitlines() if line.strip().isdigit()]
    with Store(path) as store:
        store.check()
        for i in reported:
            assert store.get(content_key({"writer": "one", "i": i})) == {"i": i}


def test_a_lost_write_ahead_log_costs_its_answers_and_nothing_else(tmp_path):
    """Only answers since the last checkpoint are in it; somebody may take it for a leftover of a killed run."""
    path, key = tmp_path / "store.sqlite", content_key({"question": "why"})
    with Store(path) as store:
        store.put(key, {"text": "kept"})
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), "lost"], stdout=subprocess.PIPE, text=True)
    for _ in range(20):
        writer.stdout.readline()
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    path.with_name("store.sqlite-wal").unlink()
    with Store(path) as store:
        store.check()
        assert store.get(key) == {"text": "kept"}
        assert store.get(content_key({"writer": "lost", "i": 0})) is None
        store.put("new", {"text": "new"})
    with Store(path) as store:
        assert len(store) == 2


def test_two_processes_share_one_store(tmp_path):
    path = tmp_path / "store.sqlite"
    script = WRITER.replace("100_000", "300")
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(path), name], stdout=subprocess.DEVNULL)
        for name in ("one", "two")
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    with Store(path) as store:
        store.check()
        assert len(store) == 600


def test_many_processes_can_create_a_store_concurrently(tmp_path):
    path = tmp_path / "store.sqlite"
    script = WRITER.replace("100_000", "3")
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(path), str(name)], stdout=subprocess.DEVNULL)
        for name in range(8)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 8
    with Store(path) as store:
        assert len(store) == 24


def test_threads_share_one_store(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        threads = [
            threading.Thread(target=lambda n=n: [store.put(f"{n}-{i}", {"i": i}) for i in range(50)]) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store) == 200


def test_an_unwritable_folder_is_one_sentence(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(StoreError, match="--results") as error:
        Store(blocked / "store.sqlite")
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_full_disk_raises_with_a_remedy_and_keeps_answers(tmp_path):
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.put("kept", {"text": "x"})
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(StoreError, match="free some space"):
            store.put("too large", {"text": "y" * 400_000})
        assert store.get("kept") == {"text": "x"}


def test_a_store_of_another_schema_is_rejected(tmp_path):
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match="schema 99"):
        Store(path)


def test_a_put_is_fast(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        with within(1):
            for i in range(500):
                store.put(str(i), {"text": json.dumps(i)})
        # So that a commit syncs nothing (sqlite.org, PRAGMA synchronous: NORMAL is 1).
        modes = [store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        assert modes == ["wal", 1]


def test_a_store_on_a_network_file_system_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("evalsuite.store.file_system", lambda _: "lustre")
    with pytest.raises(StoreError, match=r"network file system \(lustre\).*--store"):
        Store(tmp_path / "store.sqlite")
    assert not (tmp_path / "store.sqlite").exists()


def test_an_exclusive_store_shares_no_memory_and_refuses_a_second_process(tmp_path, monkeypatch):
    monkeypatch.setattr("evalsuite.store._EXCLUSIVE_TIMEOUT_S", 0.2)
    with Store(tmp_path / "store.sqlite", exclusive=True) as store:
        store.put("k", {"text": "kept"})
        assert not (tmp_path / "store.sqlite-shm").exists()
        with pytest.raises(BusyError):
            Store(tmp_path / "store.sqlite", exclusive=True)
        assert store.get("k") == {"text": "kept"}


def test_a_local_store_keeps_a_copy_from_which_another_machine_goes_on(tmp_path):
    copy = tmp_path / "shared" / "store.sqlite"
    with LocalStore(tmp_path / "node-1" / "store.sqlite", copy, every_s=0.05) as store:
        store.put("k", {"text": "one"})
        deadline = time.monotonic() + 10
        while not copy.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert copy.exists(), "copied while the store is open"
        with pytest.raises(BusyError, match="another process"):
            LocalStore(tmp_path / "node-2" / "store.sqlite", copy)
        store.put("l", {"text": "two"})
    with LocalStore(tmp_path / "node-2" / "store.sqlite", copy) as store:
        assert [store.get(key) for key in "kl"] == [{"text": "one"}, {"text": "two"}]
    assert sorted(path.name for path in copy.parent.iterdir()) == ["store.sqlite"]


KILLED = """
import sys, time
from pathlib import Path
from evalsuite.store import LocalStore
store = LocalStore(Path(sys.argv[1]) / "node" / "store.sqlite", Path(sys.argv[1]) / "store.sqlite", every_s=0.05)
for i in range(100_000):
    store.put(str(i), {"i": i})
    time.sleep(0.002)
    print(i, flush=True)
"""


def test_after_kill_9_the_copy_is_whole_and_its_lease_is_free(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    while int(writer.stdout.readline()) < 200:
        pass
    writer.kill()
    writer.communicate()
    with LocalStore(tmp_path / "other" / "store.sqlite", tmp_path / "store.sqlite") as store:
        store.check()
        n = len(store)
        assert n > 50
        assert all(store.get(str(i)) == {"i": i} for i in range(n))


def test_merging_stores_is_idempotent_and_refuses_what_contradicts(tmp_path):
    for name, answers in {"a": {"k": 1, "l": 2}, "b": {"l": 2, "m": 3}, "c": {"n": 4, "k": 9}}.items():
        with Store(tmp_path / name / "store.sqlite") as store:
            for key, value in answers.items():
                store.put(key, {"text": value})
    paths = {name: tmp_path / name / "store.sqlite" for name in "abc"}
    with Store(tmp_path / "into" / "store.sqlite") as store:
        assert store.merge([paths["a"], paths["b"]]) == 3
        assert store.merge([paths["b"], paths["a"]]) == 0
        with pytest.raises(DataError, match="--keep-first"):
            store.merge([paths["c"]])
        assert store.get("n") is None, "nothing of it"
        assert store.merge([paths["c"]], keep_first=True) == 1
        assert store.get("k") == {"text": 1}
        with pytest.raises(DataError, match="does not exist"):
            store.merge([tmp_path / "none" / "store.sqlite"])
