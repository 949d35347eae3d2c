"""A command as a process of its own that is killed at a chosen moment, and what must still be true afterwards.

The process is forked from a parent that has the libraries loaded, so that a hundred kills take minutes; it is a
session of its own, ends by a real signal and shares nothing with the parent but the files. ``cold`` starts a new
interpreter instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.evalsuite.scripted_endpoint import ScriptedEndpoint

TIMES = frozenset(
    {"seconds", "tokens", "tstamp", "usage", "server_restarts", "written_at", "git", "created_at", "tokens_per_second"}
    | {"peak_memory", "costs", "date", "total_evaluation_time_seconds"}
    # A study's record of a stage vouches for files that hold times.
    | {"finished_at", "measures", "proof"}
    # How much of a prompt a server still had in its cache depends on what it was asked before.
    | {"cached_tokens"}
)
"""Fields that a resumed run may have otherwise: times, costs, and what this very process asked for (the rest came from
the store)."""

_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.002
_STOP_S = 60.0
_ADDRESS = re.compile(r"at 0x[0-9a-f]+")
_SETTLE_S = 0.2
_ABSENT = object()

MOMENTS: Mapping[str, tuple[str, str, bool]] = {
    "before an answer is committed": ("evalsuite.store:Store", "put", True),
    "after an answer is committed": ("evalsuite.store:Store", "put", False),
    "while scoring": ("judges.statistics", "bootstrap_ci", True),
    "before a file is synced": ("os", "fsync", True),
    "before a file is renamed": ("os", "replace", True),
    "after a file is renamed": ("os", "replace", False),
}
"""Exact moments: (module or module:class, function, whether before it or after it)."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """When to strike: at the n-th call of a moment, after n further requests, or after a delay in seconds."""

    moment: str | None = None
    count: int = 1
    delay_s: float = 0.0


NEVER = Trigger(count=0, delay_s=float("inf"))


@dataclass(slots=True)
class Life:
    """One process from its start to its end."""

    phase: str
    killed: bool
    code: int
    n_asked: int
    n_repeated: int
    stderr: str


@dataclass(slots=True)
class Account:
    """What is known from outside about one results folder: which questions were asked, and what a kill lost.

    A life asks questions and stores answers; the difference was in flight when it was killed, at most ``worst``. One
    that ends by itself has stored whatever it asked; the rest was asked without need.
    """

    seen: set[str] = field(default_factory=set)
    stored: int = 0
    in_flight_at_kills: int = 0
    repeated: int = 0
    worst: int = 0
    without_need: int = 0

    def after(self, asked: Sequence[str], n_stored: int, *, killed: bool) -> int:
        """Add one life; return how many questions were asked again."""
        again = sum(question in self.seen for question in asked)
        lost = len(asked) - (n_stored - self.stored)
        self.repeated += again
        self.seen.update(asked)
        self.stored = n_stored
        self.in_flight_at_kills += lost
        if killed:
            self.worst = max(self.worst, lost)
        else:
            self.without_need += lost
        return again


def adopt_orphans() -> None:
    """Become the parent of whatever a killed process leaves behind, so that it can be seen."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def orphans(known: Sequence[int], timeout_s: float = 20.0) -> list[psutil.Process]:
    """Return processes below this one that live on after ``timeout_s`` and are not ``known``."""
    deadline = time.monotonic() + timeout_s
    while True:
        left = []
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
                if child.pid in known:
                    continue
                if child.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(child.pid, os.WNOHANG)
                    continue
                left.append(child)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def start(words: Sequence[str], out: Path, trigger: Trigger, *, cold: bool = False) -> int:
    """Start ``evalsuite`` with ``words``; its output goes to ``out``.stdout and .stderr. Returns its process id."""
    if cold:
        with Path(f"{out}.stdout").open("wb") as stdout, Path(f"{out}.stderr").open("wb") as stderr:
            command = [sys.executable, "-m", "evalsuite", *words]
            return subprocess.Popen(command, stdout=stdout, stderr=stderr, start_new_session=True).pid
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        for number, suffix in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(f"{out}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if trigger.moment is not None:
            _strike_at(trigger.moment, trigger.count)
        sys.argv = ["evalsuite", *words]
        from evalsuite.cli import main

        main()
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
            Path(f"{out}.modules").write_text("\n".join(sys.modules), encoding="utf-8")
        os._exit(code)


def in_a_child(work: Callable[[], None]) -> None:
    """Do ``work`` in a forked process: libraries that compute start threads, and what has threads must not fork."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("the inputs could not be made")


def load_what_it_loaded(out: Path) -> None:
    """Import what a process that ran to its end had imported, so that those forked from now on need not."""
    import importlib

    for name in Path(f"{out}.modules").read_text(encoding="utf-8").splitlines():
        if name not in sys.modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def _strike_at(moment: str, count: int) -> None:
    """Make the ``count``-th call of a moment the last thing that this process does."""
    import importlib

    place, name, before = MOMENTS[moment]
    module, _, owner = place.partition(":")
    holder: Any = importlib.import_module(module)
    holder = getattr(holder, owner) if owner else holder
    inner: Callable[..., Any] = getattr(holder, name)
    left = [count]

    def struck(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*arguments, **options)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(holder, name, struck)


def live(
    words: Sequence[str],
    out: Path,
    folder: Path,
    trigger: Trigger,
    account: Account,
    endpoint: ScriptedEndpoint | None,
    *,
    how: signal.Signals = signal.SIGKILL,
    cold: bool = False,
) -> Life:
    """Let one process live until the trigger or its own end, and account for what it asked."""
    from_byte = endpoint.log_path.stat().st_size if endpoint else 0
    pid = start(words, out, trigger, cold=cold)
    began, struck_at, phase = time.monotonic(), None, ""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        now = time.monotonic()
        if struck_at is None and trigger.moment is None and _is_due(trigger, endpoint, from_byte, now - began):
            phase, struck_at = phase_of(endpoint, from_byte, folder), now
            os.kill(pid, how)
        if struck_at is not None and now - struck_at > _STOP_S:
            os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_S)
    code = os.waitstatus_to_exitcode(status)
    killed = code == -signal.SIGKILL or (struck_at is not None and code != 0)
    if killed and trigger.moment is not None:
        phase = trigger.moment
    if killed:
        # What it had sent may still be on its way into the endpoint's log.
        time.sleep(_SETTLE_S)
    asked = [event["id"] for event in endpoint.events(from_byte) if event["event"] == "asked"] if endpoint else []
    again = account.after(asked, check_stores(folder), killed=killed) if endpoint else 0
    stderr = Path(f"{out}.stderr").read_text(encoding="utf-8", errors="replace")
    return Life(phase, killed, code, len(asked), again, stderr)


def _is_due(trigger: Trigger, endpoint: ScriptedEndpoint | None, from_byte: int, seconds: float) -> bool:
    if trigger.count and endpoint is not None:
        asked = sum(event["event"] == "asked" for event in endpoint.events(from_byte))
        if asked < trigger.count:
            return False
        time.sleep(trigger.delay_s)
        return True
    return seconds >= trigger.delay_s


def phase_of(endpoint: ScriptedEndpoint | None, from_byte: int, folder: Path) -> str:
    """Say from outside what a process is at: its last question tells, or what a training has written so far."""
    asked = [event for event in endpoint.events(from_byte) if event["event"] == "asked"] if endpoint else []
    if not asked and next(folder.rglob("checkpoint-*"), None) is not None:
        return "training, some of it saved"
    if not asked and next(folder.rglob("plan.json"), None) is not None:
        return "training, nothing saved yet"
    stages = len(list(folder.glob("studies/*/done/*.json")))
    if not asked and stages:
        return f"after stage {stages}"
    if not asked:
        return "starting or resuming"
    last = asked[-1]
    if last["model"] == "judge":
        return "judging"
    return "second turns" if "assistant" in last["roles"] else "first turns"


def check_stores(folder: Path) -> int:
    """Count the answers of all stores below ``folder``; raises SystemExit for one that SQLite finds damaged."""
    n_rows = 0
    for path in folder.rglob("*.sqlite"):
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as db:
            verdict = db.execute("PRAGMA integrity_check").fetchone()[0]
            if verdict != "ok":
                raise SystemExit(f"{path} is damaged: {verdict}")
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'completions'").fetchone():
                n_rows += int(db.execute("SELECT COUNT(*) FROM completions").fetchone()[0])
    return n_rows


def contents(folder: Path) -> dict[str, Any]:
    """Read everything that a run leaves behind, without the fields in ``TIMES``; stores by key."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        inside = path.relative_to(folder).parts
        if not path.is_file() or "logs" in inside or any(part.startswith(".") for part in inside):
            continue
        if path.suffix == ".json":
            found[name] = timeless(json.loads(_placeless(path, folder)))
        elif path.suffix == ".jsonl":
            found[name] = [timeless(json.loads(line)) for line in _placeless(path, folder).split("\n") if line]
        elif path.suffix == ".parquet":
            from pyarrow import parquet

            found[name] = parquet.read_table(path).to_pylist()
        elif path.suffix == ".sqlite":
            with contextlib.closing(sqlite3.connect(path)) as db:
                rows = db.execute("SELECT key, value FROM completions")
                found[name] = {key: timeless(json.loads(value)) for key, value in rows}
        elif path.suffix == ".safetensors":
            found[name] = path.read_bytes()
    return found


def _placeless(path: Path, folder: Path) -> str:
    """Return a file's text without the folder's own name and without addresses, which lm-eval writes of functions."""
    text = path.read_text(encoding="utf-8").replace(json.dumps(str(folder))[1:-1], "FOLDER")
    return _ADDRESS.sub("at ADDRESS", text)


def timeless(value: Any) -> Any:
    """Return a document without the fields in ``TIMES``; what a study did before the kill it keeps after it."""
    if isinstance(value, dict):
        known = {key: timeless(inner) for key, inner in value.items() if key not in TIMES}
        return known | {"status": "done"} if known.get("status") == "kept" else known
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def differences(expected: Mapping[str, Any], found: Mapping[str, Any], tolerance: float = 0.0) -> list[str]:
    """Name what one folder has otherwise than the other: a file, and in it the first place; of numbers, beyond
    ``tolerance``, which a real server needs, whose sums depend on what it computes beside.
    """
    pairs = {name: (expected.get(name, _ABSENT), found.get(name, _ABSENT)) for name in {*expected, *found}}
    ways = {name: _first_difference(*pair, tolerance) for name, pair in pairs.items()}
    return sorted(name + way for name, way in ways.items() if way is not None)


def _first_difference(expected: Any, found: Any, tolerance: float) -> str | None:
    """Return the way to the first difference of two documents; None where there is none."""
    if isinstance(expected, dict) and isinstance(found, dict):
        steps = [(f".{key}", expected.get(key, _ABSENT), found.get(key, _ABSENT)) for key in {**expected, **found}]
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        steps = [(f"[{n}]", *pair) for n, pair in enumerate(zip(expected, found, strict=True))]
    elif isinstance(expected, float) and isinstance(found, float):
        return None if expected == found or abs(expected - found) <= tolerance else ""
    else:
        return None if expected == found else ""
    ways = ((step, _first_difference(*pair, tolerance)) for step, *pair in steps)
    return next((step + way for step, way in ways if way is not None), None)


def leftovers(folder: Path) -> list[str]:
    """Name temporary files that kills have left behind: harmless, but somebody's disk."""
    lasting = (".sqlite", ".lock")
    hidden = (path.name for path in folder.rglob(".*") if path.is_file())
    return sorted(name for name in hidden if not any(kind in name for kind in lasting))


def random_trigger(draw: random.Random, *, from_outside: bool = False, span_s: float | None = None) -> Trigger:
    """Draw a moment: on the way, by requests or by the clock; or at an exact call, which only a forked process can.

    ``span_s`` is how long a process lives that asks nothing: it is struck by the clock.
    """
    luck = draw.random() * (0.55 if from_outside else 1.0)
    if span_s is not None and luck < 0.8:
        return Trigger(count=0, delay_s=draw.random() * span_s)
    if luck < 0.45:
        return Trigger(count=draw.randint(1, 12), delay_s=draw.random() * 0.15)
    if luck < 0.55:
        return Trigger(count=0, delay_s=draw.random() * 0.6)
    return Trigger(moment=draw.choice(list(MOMENTS)), count=draw.randint(1, 6))
