"""Mixes of many conversations with near-duplicates: recall by similarity, seconds, memory; beside other tools.

    python bench/mix.py --recall
    python bench/mix.py [--rows 1000000] [--peers /path/to/python]

The rows are synthetic (words by Zipf's law, 40 to 400 of them, one row in ten a near-duplicate of an earlier one).
``--peers`` is the Python of an environment with text-dedup and datatrove, which deduplicate the same rows by MinHash at
the same threshold, on two processes. Each tool runs in a process of its own; memory is the largest resident size of it
and its children.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

THRESHOLD = 0.8
_BATCH = 10_000
_PAIRS = 10_000


def rows(count: int) -> Iterator[tuple[str, str]]:
    """Yield (question, answer): a tenth are earlier rows with a few words changed."""
    generator = np.random.default_rng(0)
    earlier: list[list[str]] = []
    for number in range(count):
        if number % 10 == 9:
            words = list(earlier[int(generator.integers(len(earlier)))])
            for place in generator.integers(len(words), size=max(1, len(words) // 150)):
                words[place] = _word(10**9 + number)
        else:
            words = [_word(one) for one in generator.zipf(1.2, size=int(generator.integers(40, 400))).tolist()]
            if len(earlier) < _BATCH:
                earlier.append(words)
        yield " ".join(words[:30]), " ".join(words[30:])


def _word(number: int) -> str:
    """Return a word of letters alone: datatrove takes all numbers for the same."""
    letters = ""
    while number:
        number, letter = divmod(number, 26)
        letters += chr(97 + letter)
    return letters or "a"


def write_rows(path: Path, count: int) -> None:
    message = pa.struct({"role": pa.string(), "content": pa.string()})
    schema = pa.schema({"messages": pa.list_(message), "text": pa.string()})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        batch: list[dict[str, object]] = []
        for question, answer in rows(count):
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            batch.append({"messages": turns, "text": f"{question}\n{answer}"})
            if len(batch) == _BATCH:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema), row_group_size=1000)
                batch = []
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema), row_group_size=1000)


def recall_table() -> None:
    """Print, by threshold, the share of pairs that are found at each true similarity."""
    from evalsuite.mix.duplicates import NearDuplicates

    generator = random.Random(0)
    print("| threshold | pairs | " + " | ".join(f"{step / 100:+.2f}" for step in range(-5, 7)) + " |")
    print("| ---: | ---: | " + " | ".join("---:" for _ in range(-5, 7)) + " |")
    for threshold in (0.5, 0.7, 0.8, 0.9):
        found: dict[int, list[bool]] = {step: [] for step in range(-5, 7)}
        with tempfile.TemporaryDirectory() as folder:
            index = NearDuplicates(threshold, 5, Path(folder))
            pairs = []
            for _ in range(_PAIRS):
                n_grams = 5 * generator.randrange(40, 80)
                words = [f"w{generator.randrange(10**6)}" for _ in range(n_grams + 4)]
                other = list(words)
                aimed = threshold + generator.uniform(-0.06, 0.07)
                # k separate changes alter 5k of n 5-grams: J = (n - 5k) / (n + 5k).
                for place in generator.sample(range(4, n_grams, 5), round(n_grams / 5 * (1 - aimed) / (1 + aimed))):
                    other[place] = "changed"
                pairs.append((" ".join(words), " ".join(other)))
            ones, others = (index.sketch(texts) for texts in zip(*pairs, strict=True))
            for one in ones:
                index.add(one)
            index.expect(others)
            for one, two in zip(ones, others, strict=True):
                step = math.floor(100 * (index.similarity(one, two) - threshold) + 1e-9)
                if step in found:
                    found[step].append(one in index.matches(two))
            index.close()
        shares = [f"{100 * sum(each) / len(each):.1f}" if each else "–" for each in found.values()]
        print(f"| {threshold} | {sum(map(len, found.values())):,} | {' | '.join(shares)} |")


RECIPE = """
name: bench
mix:
  duplicates: {{near: {threshold}, ngram: 5}}
  sources: [{{name: s, data: {data}}}]
"""
DATATROVE = """
import sys
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
data, out, bands, rows = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
config = MinhashConfig(num_buckets=bands, hashes_per_bucket=rows, n_grams=5)
if __name__ == "__main__":
    reader = ParquetReader(data, text_key="text", glob_pattern="*.parquet")
    steps = [
        (2, [reader, MinhashDedupSignature(f"{out}/sig", config=config, language="eng_Latn")]),
        (bands, [MinhashDedupBuckets(f"{out}/sig", f"{out}/buckets", config=config)]),
        (1, [MinhashDedupCluster(f"{out}/buckets", f"{out}/ids", config=config)]),
        (2, [reader, MinhashDedupFilter(f"{out}/ids"), ParquetWriter(f"{out}/kept")]),
    ]
    for number, (tasks, pipeline) in enumerate(steps):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=2, logging_dir=f"{out}/logs{number}").run()
"""


def measured(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """Return (seconds, CPU seconds, GB of the largest process) of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    wrapper = (
        "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode;"
        "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", wrapper, *command],
        env=environment,
        capture_output=True,
        check=False,
        text=True,
    )
    seconds = time.monotonic() - start
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, int(done.stderr.rsplit("peak ", 1)[1]) / 2**20


def n_rows(folder: Path) -> int:
    """Count the rows of the Parquet or Arrow files under a folder."""
    if parquet := list(folder.rglob("*.parquet")):
        return sum(pq.ParquetFile(path).metadata.num_rows for path in parquet)
    return sum(pa.ipc.open_stream(path).read_all().num_rows for path in folder.rglob("*.arrow"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--recall", action="store_true")
    parser.add_argument("--peers", help="Python of an environment with text-dedup and datatrove")
    given = parser.parse_args()
    if given.recall:
        recall_table()
        return
    from evalsuite.mix.duplicates import bands_for

    bands, per_band = bands_for(THRESHOLD)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        (folder / "data").mkdir()
        write_rows(folder / "data" / "rows.parquet", given.rows)
        recipe = folder / "recipe.yaml"
        recipe.write_text(RECIPE.format(threshold=THRESHOLD, data=folder / "data"))
        plain = folder / "plain.yaml"
        plain.write_text(f"name: bench\nmix: {{sources: [{{name: s, data: {folder / 'data'}}}]}}\n")
        mix = [sys.executable, "-m", "evalsuite", "mix"]
        end = ["--contamination", "off"]
        runs = [
            ("evalsuite mix, exact duplicates only", [*mix, str(plain), "--out", str(folder / "exact"), *end], "exact"),
            ("evalsuite mix, near: 0.8", [*mix, str(recipe), "--out", str(folder / "near"), *end], "near"),
        ]
        if given.peers:
            script = folder / "trove.py"
            script.write_text(DATATROVE)
            trove = [given.peers, str(script), str(folder / "data"), str(folder / "trove"), str(bands), str(per_band)]
            runs.append(("datatrove, MinHash", trove, "trove/kept"))
            dedup = [
                given.peers,
                "-m",
                "text_dedup.minhash",
                "--path",
                "parquet",
                "--split",
                "train",
                "--column",
                "text",
            ]
            dedup += ["--data_files", str(folder / "data" / "rows.parquet"), "--cache_dir", str(folder / "cache")]
            dedup += ["--output", str(folder / "dedup"), "--ngram", "5", "--b", str(bands), "--r", str(per_band)]
            runs.append(
                ("text-dedup, MinHash", [*dedup, "--num_perm", str(bands * per_band), "--num_proc", "2"], "dedup")
            )
        print("| tool | rows | kept | seconds | CPU seconds | GB |\n| --- | ---: | ---: | ---: | ---: | ---: |")
        for label, command, out in runs:
            seconds, cpu, peak = measured(command, environment)
            kept = n_rows(folder / out)
            print(f"| {label} | {given.rows:,} | {kept:,} | {seconds:,.0f} | {cpu:,.0f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
