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

from evalsuite.errors import StoreError
from evalsuite.store import Store, content_key

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
        began = time.monotonic()
        for i in range(500):
            store.put(str(i), {"text": json.dumps(i)})
        # Only a sync per answer (milliseconds each) would exceed this.
        assert time.monotonic() - began < 5
