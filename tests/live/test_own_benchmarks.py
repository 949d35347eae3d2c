"""The example benchmarks of recipes/suites/ on a real vLLM: asked, judged, scored, and shown without their files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.live.conftest import Live

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "recipes" / "suites").glob("*.yaml"))


def evalsuite(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "evalsuite", *words], capture_output=True, text=True, check=False)


def test_the_examples_run_on_the_demo_model(live: Live, demo_folder, tmp_path):
    suites = [word for path in EXAMPLES for word in ("--suite", str(path))]
    words = ["run", str(demo_folder), "--judge", str(demo_folder), "--base-url", live.url]
    result = evalsuite(*words, *suites, "--results", str(tmp_path), "--json")
    assert result.returncode == 0, result.stderr[-2000:]
    (document,) = json.loads(result.stdout)["models"]
    sums, copy, tone = (document["suites"][name] for name in ("shop_sums", "short_copy", "support_tone"))
    assert (sums["n_scored"], copy["n_scored"], tone["n_scored"]) == (4, 3, 4)
    assert sums["ci95"] is not None
    assert 0 <= copy["score"] <= 100
    assert 1 <= tone["score"] <= 5
    report = evalsuite("report", "--results", str(tmp_path))
    assert report.returncode == 0, report.stderr[-2000:]
    assert "shop_sums" in (tmp_path / "leaderboard.csv").read_text(encoding="utf-8").splitlines()[0]
