"""``make next``: the tests of what rests on lm-eval, against its newest release or pre-release.

Ends with pytest's exit code, after a line with the version; the tests that fail are what an upgrade has to mend.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("tests/evalsuite/suites/harness", "tests/evalsuite/suites/openllm", "tests/evalsuite/test_lm_eval_model.py")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="evalsuite-next-") as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--pre", "--no-deps", "--upgrade", "--target", folder]
        subprocess.run([*pip, "lm-eval"], check=True)
        version = next(Path(folder).glob("lm_eval-*.dist-info")).name.split("-")[1].removesuffix(".dist")
        print(f"lm-eval {version}", flush=True)
        path = os.pathsep.join([folder, str(ROOT)])
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "--tb=line", *TESTS]
        return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
