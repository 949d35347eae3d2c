"""What many units ask of one head: planning a million conversations, merging a store, and waiting for 64 units.

python -m bench.fleet 1000000
"""

from __future__ import annotations

import random
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from evalsuite.config import read_as
from evalsuite.conversations.source import open_source
from evalsuite.files import write_json
from evalsuite.fleet.head import Head
from evalsuite.fleet.units import Unit
from evalsuite.generation.chunks import plan_chunks
from evalsuite.generation.feed import SeenConversations
from evalsuite.generation.settings import GenerateConfig
from evalsuite.store import Store


class Sleeping:
    """An executor whose units only sleep."""

    outlives_head = False

    def __init__(self) -> None:
        self.ends: dict[Unit, float] = {}

    def check(self, gpus: int) -> None:
        pass

    def attach(self, units: list[Unit]) -> None:
        pass

    def submit(self, units: list[Unit]) -> None:
        for unit in units:
            running = unit.folder / "attempts" / "x" / "results" / ".running" / "ffffffff-1.json"
            running.parent.mkdir(parents=True)
            write_json(running, {"command": "run", "step": "", "tasks": [{"name": "m", "done": 5, "total": 9}]})
            self.ends[unit] = time.monotonic() + random.uniform(5, 40)

    def poll(self) -> set[str]:
        now = time.monotonic()
        for unit in [
            unit for unit, end in self.ends.items() if end <= now and not (unit.folder / "done.json").exists()
        ]:
            done = {"exit_code": 0, "reason": "", "attempt": "x", "seconds": 1.0, "host": "h"}
            write_json(unit.folder / "done.json", done)
        return {unit.name for unit, end in self.ends.items() if end > now}

    def cancel(self) -> None:
        pass

    def close(self) -> None:
        pass


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def head(folder: Path, n: int = 64) -> str:
    executor, late = Sleeping(), []
    units = [Unit(folder / f"u{number}", f"u{number}", ("run",)) for number in range(n)]
    began, used = time.monotonic(), time.process_time()
    Head(executor).carry_out(units, lambda unit, _: late.append(time.monotonic() - executor.ends[unit]))
    wall = time.monotonic() - began
    cores = (time.process_time() - used) / wall
    seen = f"{statistics.median(late):.2f} s (median), {max(late):.2f} s (max)"
    return f"{n} units: {cores:.3f} cores; an end is seen after {seen}"


def plan(folder: Path, n: int) -> str:
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema([("conversation_hash", pa.string()), ("conversation", pa.list_(turn))])
    with pq.ParquetWriter(folder / "chats.parquet", schema) as writer:
        for start in range(0, n, 50_000):
            # One in a hundred is a duplicate.
            names = [number - (number % 100 == 99) for number in range(start, min(n, start + 50_000))]
            turns = [
                [{"role": "user", "content": f"question {name} " * 10}, {"role": "assistant", "content": "a " * 100}]
                for name in names
            ]
            rows = {"conversation_hash": [f"h{name}" for name in names], "conversation": turns}
            writer.write_table(pa.table(rows, schema=schema))
    source = str(folder / "chats.parquet")
    config = read_as(GenerateConfig, {"models": ["m@http://x/v1"], "prompts": source, "out": str(folder / "out")})
    before, used = peak_mib(), time.process_time()
    seen = SeenConversations(folder / "seen.sqlite")
    chunks = plan_chunks(config, open_source(source), seen)
    seen.close()
    return (
        f"{n:,} conversations planned as {len(chunks.marks)} files: {time.process_time() - used:.1f} s of CPU, "
        f"peak {peak_mib():.0f} MiB ({before:.0f} before)"
    )


def merge(folder: Path, n: int) -> str:
    with Store(folder / "a.sqlite") as store:
        store._db.execute("BEGIN")
        rows = ((f"{number:064x}", '{"text":"' + "x" * 200 + '"}') for number in range(n))
        store._db.executemany("INSERT INTO completions (key, value) VALUES (?, ?)", rows)
        store._db.execute("COMMIT")
    used = time.process_time()
    with Store(folder / "b.sqlite") as store:
        added = store.merge([folder / "a.sqlite"])
    return f"{added:,} answers merged: {time.process_time() - used:.1f} s of CPU, peak {peak_mib():.0f} MiB"


if __name__ == "__main__":
    count = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as temporary:
        for line in (head(Path(temporary)), plan(Path(temporary), count), merge(Path(temporary), count)):
            print(line, flush=True)
