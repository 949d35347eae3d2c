"""Time and size of `evalsuite report` on synthetic results: many models, every item.

python bench/report.py --models 100 --items 7000
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.synthetic_results import write_synthetic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--items", type=int, default=7000)
    parser.add_argument("--results", type=Path, help="folder to use and keep")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results = arguments.results or Path(temporary) / "results"
        if not results.is_dir():
            write_synthetic(results, arguments.models, arguments.items)
        recorded = sum(path.stat().st_size for path in results.glob("*/*/*") if path.is_file())
        began = time.perf_counter()
        command = [sys.executable, "-m", "evalsuite", "report", "--results", str(results), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - began
        written = json.loads(done.stdout)
        beside = sum(Path(page).stat().st_size for page in written["pages"])
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("| models | items | recorded MB | report s | CPU s | peak GiB | main file MB | item pages | their MB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    print(
        f"| {written['models']} | {written['items']:,} | {recorded / 1e6:.0f} | {seconds:.1f} "
        f"| {usage.ru_utime + usage.ru_stime:.1f} | {usage.ru_maxrss / 2**20:.2f} "
        f"| {written['html_bytes'] / 1e6:.2f} | {len(written['pages'])} | {beside / 1e6:.0f} |"
    )


if __name__ == "__main__":
    main()
