"""A limit of 1,024 open files must not stop a run with 1,024 requests in flight."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "allowed", "after"),
    [
        (1024, 4096, 1024, 1024, 1280),
        (1024, 1024, 1024, 768, 1024),
        (1024, 4096, 128, 128, 1024),
        (300, 300, 1024, 150, 300),
    ],
)
def test_the_limit_is_raised_as_far_as_possible(soft, hard, wanted, allowed, after):
    script = f"""
import resource
from evalsuite.serving.slots import max_connections
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(max_connections({wanted}), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [str(allowed), str(after)]
