"""What many units ask of one head: eight real ones, 64 that wait, a million conversations planned, committed, merged.

python -m bench.fleet [CONVERSATIONS,...]
"""

from __future__ import annotations

import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from evalsuite.config import read_as
from evalsuite.conversations.source import open_source
from evalsuite.files import write_json
from evalsuite.fingerprint import file_sha256
from evalsuite.fleet import generate as fleet_generate
from evalsuite.fleet.head import Head
from evalsuite.fleet.units import Unit
from evalsuite.generation.chunks import plan_chunks, read_chunks
from evalsuite.generation.feed import SeenConversations
from evalsuite.generation.manifest import Costs, ManifestFile
from evalsuite.generation.plan import plan_of
from evalsuite.generation.run import opened_prompts
from evalsuite.generation.settings import GenerateConfig
from evalsuite.generation.shards import ShardFile, file_name
from evalsuite.progress import NoProgress
from evalsuite.store import Store
from tests.evalsuite.scripted_endpoint import Behaviour, ScriptedEndpoint

SIZES = (10_000, 100_000, 1_000_000)
ANSWER = "a " * 400
LATENCY_S = (2.0, 9.0)
"""Seconds that a stand-in's server takes for an answer, drawn evenly; chosen, not recorded."""


class StandIns:
    """An executor whose units only sleep, ``at_once`` of them; it starts the next where a head would: when asked."""

    outlives_head = False

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.waiting: list[Unit] = []
        self.ends: dict[Unit, float] = {}
        self.free = [time.monotonic()] * at_once
        self.busy_s = self.idle_s = 0.0
        self.chance = random.Random(0)

    def check(self, gpus: int) -> None:
        pass

    def attach(self, units: Sequence[Unit]) -> None:
        pass

    def submit(self, units: Sequence[Unit]) -> None:
        self.waiting += units

    def poll(self) -> set[str]:
        now = time.monotonic()
        for unit, end in list(self.ends.items()):
            if end <= now:
                done = {"exit_code": 0, "reason": "", "attempt": "x", "seconds": 1.0, "host": "h"}
                write_json(unit.folder / "done.json", done)
                self.free.append(end)
                del self.ends[unit]
        while self.waiting and self.free:
            unit, lasts = self.waiting.pop(0), self.chance.uniform(5, 40)
            running = unit.folder / "attempts" / "x" / "results" / ".running" / "ffffffff-1.json"
            running.parent.mkdir(parents=True)
            write_json(running, {"step": "", "tokens": 9, "tasks": [{"name": "m", "done": 5, "total": 9}]})
            self.idle_s += now - self.free.pop(0)
            self.busy_s += lasts
            self.ends[unit] = now + lasts
        return {*(unit.name for unit in self.ends), *(unit.name for unit in self.waiting)}

    def cancel(self) -> None:
        pass

    def close(self) -> None:
        pass


class Writers(StandIns):
    """An executor whose units write the Parquet files of their range, in a process each."""

    def submit(self, units: Sequence[Unit]) -> None:
        for unit in units:
            subprocess.run([sys.executable, "-m", "bench.fleet", "write", str(unit.folder)], check=True)
            done = {"exit_code": 0, "reason": "", "attempt": "x", "seconds": 1.0, "host": "h"}
            write_json(unit.folder / "done.json", done)

    def poll(self) -> set[str]:
        return set()


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def head(folder: Path, at_once: int = 64, n: int = 256) -> str:
    executor = StandIns(at_once)
    units = [Unit(folder / f"u{number}", f"u{number}", ("run",)) for number in range(n)]
    began, used = time.monotonic(), time.process_time()
    Head(executor).carry_out(units)
    wall = time.monotonic() - began
    cores = (time.process_time() - used) / wall
    idle = executor.idle_s / (executor.idle_s + executor.busy_s)
    return f"{n} units, {at_once} at once: {cores:.3f} cores, peak {peak_mib():.0f} MiB, idle {idle:.2%}"


def units(folder: Path, n: int, prompts: int = 1600) -> str:
    """Evaluate 2 n models, n at a time, on servers that take seconds: what the head and the waits between cost."""
    rows = [{"prompt": f"What is {number} plus 1?", "reference": number + 1} for number in range(prompts)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = folder / "sums.yaml"
    suite.write_text("name: sums\nprompts: sums.jsonl\nfields: {reference: reference}\nscore: {numeric: {}}\n")
    models = tuple(f"m{number}" for number in range(2 * n))
    with ScriptedEndpoint(Behaviour(models, LATENCY_S), folder / "asked.jsonl") as endpoint:
        words = ["run", *(f"{model}@{endpoint.url}" for model in models), "--suite", str(suite), "--no-judge"]
        words += ["--on", "local", "--jobs", str(n), "--in-flight", "32", "--results", str(folder / "results")]
        began = time.time()
        running = psutil.Popen([sys.executable, "-m", "evalsuite", *words], stdout=subprocess.DEVNULL)
        cpu, memory = 0.0, 0
        while running.poll() is None:
            with suppress(psutil.Error):
                cpu, memory = sum(running.cpu_times()[:2]), max(memory, running.memory_info().rss)
            time.sleep(0.2)
        wall = time.time() - began
        assert running.returncode == 0, "the run failed"
        events = list(endpoint.events())
    model_of = {one["id"]: one["model"] for one in events if one["event"] == "asked"}
    times: dict[str, list[float]] = {}
    for one in events:
        times.setdefault(model_of[one["id"]], []).append(one["at"])
    busy = [max(each) - min(each) for each in times.values()]
    assert len(model_of) == 2 * n * prompts
    return (
        f"{2 * n} units, {n} at once, {prompts} answers each in {statistics.median(busy):.0f} s: {wall:.0f} s, "
        f"no question on its way {1 - sum(busy) / (n * wall):.1%} of it, head {cpu / wall:.3f} cores, "
        f"peak {memory / 2**20:.0f} MiB"
    )


def write_source(path: Path, n: int) -> None:
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema([("conversation_hash", pa.string()), ("conversation", pa.list_(turn))])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n, 50_000):
            # One in a hundred is a duplicate.
            names = [number - (number % 100 == 99) for number in range(start, min(n, start + 50_000))]
            turns = [
                [{"role": "user", "content": f"question {name} " * 10}, {"role": "assistant", "content": "a " * 100}]
                for name in names
            ]
            rows = {"conversation_hash": [f"h{name}" for name in names], "conversation": turns}
            writer.write_table(pa.table(rows, schema=schema))


def config_of(folder: Path) -> GenerateConfig:
    values = {"models": ["m@http://localhost:1/v1"], "prompts": str(folder / "chats.parquet"), "out": folder / "out"}
    return read_as(GenerateConfig, {**values, "on": "local"})


def plan(folder: Path) -> str:
    used = time.process_time()
    seen = SeenConversations(folder / "seen.sqlite")
    config = config_of(folder)
    chunks = plan_chunks(config, open_source(config.prompts), seen)
    seen.close()
    return f"planned as {len(chunks.marks)} files: {_cost(used)}"


def commit(folder: Path) -> str:
    """Plan, hand over, take over and check the files that units have written, and write the manifest."""
    fleet_generate.executor_of = lambda *_: Writers(8)
    used = time.process_time()
    (manifest,) = fleet_generate.generate_on(config_of(folder)).manifests
    counts = manifest["counts"]
    return f"planned and committed as {len(manifest['shards'])} files, {counts['conversations']:,} rows: {_cost(used)}"


def write_files(folder: Path) -> None:
    """Write the files of a unit as ``generate`` would, with one answer for all conversations."""
    config = read_as(GenerateConfig, {}, folder / "config.yaml")
    assert config.chunks is not None
    checkpoint = config.serve.resolve(config.models[0])
    work = plan_of(config, opened_prompts(config, NoProgress()), checkpoint, config.out, NoProgress())
    chunks, before, shards = read_chunks(config.chunks), 0, {}
    config.out.mkdir(parents=True, exist_ok=True)
    for number, mark in enumerate(chunks.marks):
        n, before = mark.rows - mark.duplicates - before, mark.rows - mark.duplicates
        if chunks.first <= number <= chunks.last:
            path = config.out / file_name(number, "")
            pq.write_table(pa.table({"id": range(n), "answer": [f"{row} {ANSWER}" for row in range(n)]}), path)
            shards[number] = ShardFile(number, path.name, file_sha256(path), n, 0, n, {}, {}, n, n, mark)
    about = {"settings": work.settings, "arguments": {}, "source": {}, "model": {"name": "m"}}
    ManifestFile(config.out, "", about).write(shards, chunks.end, Costs(), {}, complete=True)


def merge(folder: Path, n: int) -> str:
    with Store(folder / "a.sqlite") as store:
        store._db.execute("BEGIN")
        rows = ((f"{number:064x}", '{"text":"' + "x" * 200 + '"}') for number in range(n))
        store._db.executemany("INSERT INTO completions (key, value) VALUES (?, ?)", rows)
        store._db.execute("COMMIT")
    used = time.process_time()
    with Store(folder / "b.sqlite") as store:
        added = store.merge([folder / "a.sqlite"])
        first = _cost(used)
        used = time.process_time()
        assert store.merge([folder / "a.sqlite"]) == 0
    return f"{added:,} answers merged: {first}; again, nothing new: {_cost(used)}"


def _cost(since: float) -> str:
    return f"{time.process_time() - since:.1f} s of CPU, peak {peak_mib():.0f} MiB"


def main(sizes: Sequence[int]) -> None:
    """Run each measurement in a process of its own, whose peak of memory is its own."""
    for what, n in [("units", 8), ("head", 64), *((what, n) for what in ("plan", "commit", "merge") for n in sizes)]:
        with tempfile.TemporaryDirectory() as folder:
            if what in ("plan", "commit"):
                subprocess.run([sys.executable, "-m", "bench.fleet", "source", folder, str(n)], check=True)
            subprocess.run([sys.executable, "-m", "bench.fleet", what, folder, str(n)], check=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", folder]:
            write_files(Path(folder))
        case ["source", folder, n]:
            write_source(Path(folder) / "chats.parquet", int(n))
        case ["head", folder, n]:
            print(head(Path(folder), int(n)))
        case ["units", folder, n]:
            print(units(Path(folder), int(n)), flush=True)
        case ["plan", folder, n]:
            print(f"{int(n):,} conversations {plan(Path(folder))}", flush=True)
        case ["commit", folder, n]:
            print(f"{int(n):,} conversations {commit(Path(folder))}", flush=True)
        case ["merge", folder, n]:
            print(merge(Path(folder), int(n)), flush=True)
        case given:
            main([int(n) for one in given for n in one.split(",")] or SIZES)
