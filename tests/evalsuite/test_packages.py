"""Another distribution's package ``judges`` is named in one sentence, not met as an import error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("command", ["doctor", "score mt_bench --from x.jsonl"])
def test_a_foreign_package_judges_is_named(tmp_path: Path, command: str) -> None:
    """A wheel of that name in front of evalsuite's on the path, with its metadata, as pip leaves it."""
    (tmp_path / "judges").mkdir()
    (tmp_path / "judges" / "__init__.py").write_text("")
    about = tmp_path / "judges-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: judges\nVersion: 0.1.0\n")
    (about / "RECORD").write_text("judges/__init__.py,,\njudges-0.1.0.dist-info/METADATA,,\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    call = [sys.executable, "-m", "evalsuite", *command.split()]
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip() == (
        "evalsuite: another package judges (judges) hides evalsuite's; install evalsuite into a fresh environment"
    )
