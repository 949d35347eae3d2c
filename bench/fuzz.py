"""Feed damaged texts, replies and files to every parser and reader, and count unexpected errors.

    python bench/fuzz.py [--cases 1000000] [--seed 0] [--only ratings] [--results DIR]

The targets are those of ``tests/fuzz``. Each case has its own seed, so a finding can be repeated:
``--only TARGET --seed SEED --first NUMBER --cases 1``. Parsers get most of the cases, since reading a file costs a
thousand times as much. ``--results`` adds the answers of a results folder to the corpus.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import signal
import sqlite3
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from tests.fuzz import parsers
from tests.fuzz.documents import DOCUMENTS
from tests.fuzz.parsers import PARSERS
from tests.fuzz.readers import READERS as FILE_READERS

READERS = {**FILE_READERS, **DOCUMENTS}
_READERS_SHARE = 0.005
_HANG_CPU_S = 20
_SHOWN = 3

Case = Callable[[random.Random], None]


class HangError(Exception):
    """A case exceeded the limit of CPU time."""


def _alarm(_: int, __: FrameType | None) -> None:
    raise HangError(f"longer than {_HANG_CPU_S} s of CPU time")


def targets(folder: Path) -> Mapping[str, Case]:
    """Return every target; readers get a folder that is emptied before each case."""

    def reading(name: str) -> Case:
        place = folder / name

        def case(draw: random.Random) -> None:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            READERS[name](draw, place)

        return case

    return {**PARSERS, **{name: reading(name) for name in READERS}}


def add_real_answers(results: Path) -> int:
    """Add the answers of a store to the corpus and return their number."""
    with sqlite3.connect(results / "store.sqlite") as db:
        found = [row[0] for row in db.execute("SELECT json_extract(value, '$.text') FROM completions") if row[0]]
    parsers.CORPUS = (*parsers.CORPUS, *found)
    return len(found)


def fuzz(name: str, case: Case, first: int, n_cases: int, seed: int, findings: Counter[str]) -> float:
    """Run one target's cases and return the seconds; a finding is named by its error and where it was raised."""
    with contextlib.suppress(Exception):
        # Load the target's imports, which may take longer than any case.
        case(random.Random("warm up"))
    began = time.perf_counter()
    for number in range(first, first + n_cases):
        signal.setitimer(signal.ITIMER_PROF, _HANG_CPU_S)
        try:
            case(random.Random(f"{seed} {name} {number}"))
        except Exception as error:  # any exception is a finding
            frames = [
                frame
                for frame in traceback.extract_tb(error.__traceback__)
                if "evalsuite/" in frame.filename or "judges/" in frame.filename
            ]
            where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "the target"
            what = f"{name}: {type(error).__name__} at {where}"
            findings[what] += 1
            if findings[what] <= _SHOWN:
                print(f"FOUND (case {number}) {what}: {str(error)[:160]!r}", flush=True)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000, help="total over all targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each target")
    parser.add_argument("--only", choices=[*PARSERS, *READERS])
    parser.add_argument("--results", type=Path, help="results folder whose answers are added to the corpus")
    arguments = parser.parse_args()
    if arguments.results:
        print(f"{add_real_answers(arguments.results)} recorded answers added to the corpus")
    signal.signal(signal.SIGPROF, _alarm)
    findings: Counter[str] = Counter()
    total, began = 0, time.perf_counter()
    print("| target | cases | seconds | cases/s |\n| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        chosen = targets(Path(folder))
        chosen = {arguments.only: chosen[arguments.only]} if arguments.only else chosen
        for name, case in chosen.items():
            share = 1.0 if arguments.only else _share(name)
            n_cases = max(1, round(arguments.cases * share))
            seconds = fuzz(name, case, arguments.first, n_cases, arguments.seed, findings)
            total += n_cases
            print(f"| {name} | {n_cases:,} | {seconds:.0f} | {n_cases / seconds:,.0f} |", flush=True)
    print(f"\n{total:,} cases in {time.perf_counter() - began:.0f} s; {len(findings)} findings")
    for what, count in findings.most_common():
        print(f"- {what}, {count} times")
    raise SystemExit(bool(findings))


def _share(name: str) -> float:
    """Return a target's share of the cases; cheap targets get more."""
    costly = {"judge_templates": 0.002, "filling": 0.005, "configs": 0.04, "server_replies": 0.06, "extractions": 0.05}
    if name in READERS:
        return _READERS_SHARE / len(READERS)
    if name in costly:
        return costly[name]
    others = [other for other in PARSERS if other not in costly]
    return (1 - sum(costly.values()) - _READERS_SHARE) / len(others)


if __name__ == "__main__":
    main()
