"""Write docs/images/terminal-*.svg: what commands show in a terminal of 80 × 24 and of 120 × 40 characters.

python docs/site/captures.py

The commands run on a pseudo-terminal, over the scripted models of session.py, which answer slowly enough to be watched.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Mapping
from contextlib import ExitStack
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any

import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parent))

from session import MODELS, ROOT, prepare, reply

from tests.evalsuite.stub_endpoint import StubEndpoint

IMAGES = ROOT / "docs" / "images"
RUN = "run tiny-a@URL tiny-b@URL --suite mt_bench,mixeval --judge judge@URL --data mini"
CAPTURES = (
    ("run-progress", "80x24", RUN, "n 4"),
    ("run", "80x24", RUN, None),
    ("doctor", "80x24", "doctor tiny-a@URL --judge judge@URL --suite mt_bench --data mini", None),
    ("compare", "120x40", "compare tiny-a@URL tiny-b@URL --judge judge@URL --prompts prompts.jsonl --name first", None),
    ("help", "120x40", "--help", None),
    ("data", "80x24", "data list", None),
)
"""Name, size, command, and the text at whose first appearance the screen is taken; None: at the end."""
SLOW_S = 0.25
NAMED = {"brown": "yellow", "brightbrown": "bright_yellow"}
"""pyte's names of colours that rich calls otherwise."""


def main() -> None:
    """Run every command and write its screen."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evalsuite-captures-")))
        prepare(folder)
        serving = {name: StubEndpoint(slowly, model=name) for name in MODELS}
        urls = {name: stack.enter_context(endpoint).url for name, endpoint in serving.items()}
        ports = {url: f"http://localhost:800{place}/v1" for place, url in enumerate(urls.values())}
        for name, size, call, until in CAPTURES:
            columns, rows = map(int, size.split("x"))
            words = [re.sub(r"(\S+)@URL", lambda found: f"{found[1]}@{urls[found[1]]}", word) for word in call.split()]
            extra = ["--results", "watched"] if until else []
            screen = shown([*words, *extra], folder, columns, rows, until)
            typed = "evalsuite " + re.sub(r"@URL", lambda _: "@http://…", call)
            path = IMAGES / f"terminal-{name}-{size}.svg"
            path.write_text(drawn(screen, typed, {**ports, str(folder): "."}), encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def slowly(_: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Answer as session.py's models do, a moment later."""
    time.sleep(SLOW_S)
    return 200, reply(body)


def shown(words: list[str], folder: Path, columns: int, rows: int, until: str | None) -> pyte.Screen:
    """Run a command on a terminal of that size and return its screen."""
    screen = pyte.HistoryScreen(columns, rows)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
        for name in ("NO_COLOR", "COLUMNS", "CI"):
            os.environ.pop(name, None)
        os.execv(sys.executable, [sys.executable, "-m", "evalsuite", *words])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    while select.select([terminal], [], [], 300)[0]:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:
            break  # the command has ended
        stream.feed(chunk)
        if until is not None and until in "\n".join(screen.display):
            break
    os.close(terminal)
    os.waitpid(pid, 0)
    return screen


def drawn(screen: pyte.Screen, command: str, hidden: Mapping[str, str]) -> str:
    """Return a screen as SVG, without fonts from elsewhere."""
    console = Console(record=True, width=screen.columns, file=StringIO(), force_terminal=True, color_system="truecolor")
    for row in range(screen.lines):
        line = Text()
        cells = [screen.buffer[row][column] for column in range(screen.columns)]
        for (fg, bold, italics), alike in groupby(cells, key=lambda cell: (cell.fg, cell.bold, cell.italics)):
            text = "".join(cell.data for cell in alike)
            line.append(text, Style(color=colour(fg), bold=bold, italic=italics))
        line.rstrip()
        for real, stand_in in hidden.items():
            while real in line.plain:
                start = line.plain.index(real)
                line = Text.assemble(line[:start], stand_in, line[start + len(real) :])
        line.truncate(screen.columns)
        console.print(line, no_wrap=True, end="\n")
    room = screen.columns - 24  # beside the window's buttons
    title = command if len(command) <= room else f"{command[: room - 1]}…"
    svg = console.export_svg(title=f"$ {title}", theme=MONOKAI)
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")


def colour(name: str) -> str | None:
    """Translate a colour of pyte to one of rich."""
    if name == "default":
        return None
    if re.fullmatch(r"[0-9a-f]{6}", name):
        return f"#{name}"
    name = NAMED.get(name, name)
    return re.sub(r"^bright(?!_)", "bright_", name)


if __name__ == "__main__":
    main()
