"""A usual bound of 1,024 open files must not end a run that has 1,024 questions in flight."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "room", "after"),
    [
        (1024, 4096, 1024, 1024, 1280),
        (1024, 1024, 1024, 768, 1024),
        (1024, 4096, 128, 128, 1024),
        (300, 300, 1024, 150, 300),
    ],
)
def test_room_is_made_and_what_there_is_is_kept_to(soft, hard, wanted, room, after):
    script = f"""
import resource
from evalsuite.serving.open_files import room_for_connections
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(room_for_connections({wanted}), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [str(room), str(after)]
