"""Rules of the house that a machine can check: imports run down, and the README tells the truth."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app

ROOT = Path(__file__).resolve().parents[1]

# Each room may import its own floor and those below it; a room not listed stands on the top floor.
FLOORS = [
    {"errors", "redaction"},
    {"fingerprint", "files", "progress"},
    {"assets", "store", "checkpoint"},
    {"serving"},
    {"suites"},
    {"config", "results"},
    {"doctor"},
    {"run_plan", "tables"},
    {"run_documents"},
    {"runner"},
]
TOP = len(FLOORS)
# serving's requests and continuations are words, not machinery; suites' names and contract are too.
WORDS = {"evalsuite.suites.names", "evalsuite.suites.base", "evalsuite.assets"}


def modules():
    for package in ("evalsuite", "judges"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "mini" not in path.parts:
                parts = path.relative_to(ROOT).with_suffix("").parts
                yield ".".join(parts), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def floor(module: str) -> int:
    room = module.split(".")[1] if module.count(".") else ""
    return next((height for height, rooms in enumerate(FLOORS) if room in rooms), TOP)


def test_imports_run_down():
    faults = [
        f"{module} imports {other}"
        for module, tree in modules()
        for other in imported(tree)
        if module.startswith("evalsuite.")
        and other.startswith("evalsuite.")
        and other not in WORDS
        and floor(other) > floor(module)
    ]
    assert not faults, "\n".join(faults)


def test_no_import_comes_back():
    """Imports inside functions count too: a circle that works is still two rooms that are one."""
    files = {module.removesuffix(".__init__"): tree for module, tree in modules()}
    below = {module: {other for other in imported(tree) if other in files} for module, tree in files.items()}
    # Packages that only hand on what is in them.
    for package in ("evalsuite", "evalsuite.assets"):
        below.pop(package, None)
    TopologicalSorter(below).prepare()


def test_judges_are_pure():
    outside = ("evalsuite", "httpx", "openai", "requests", "socket", "subprocess", "asyncio", "sqlite3")
    faults = [
        f"{module} imports {other}"
        for module, tree in modules()
        for other in imported(tree)
        if module.startswith("judges") and other.split(".")[0] in outside
    ]
    assert not faults, "\n".join(faults)


def test_the_command_line_starts_without_heavy_libraries():
    heavy = {"torch", "transformers", "vllm", "lm_eval", "alpaca_eval", "datasets", "pandas", "fastchat", "openai"}
    script = "import sys, evalsuite.cli; print(sorted({m.split('.')[0] for m in sys.modules} & set(sys.argv[1:])))"
    found = subprocess.run([sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def readme_commands():
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for line in "\n".join(blocks).splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["evalsuite"]:
            yield words[1:]


@pytest.mark.parametrize("words", list(readme_commands()), ids=" ".join)
def test_every_option_in_the_readme_exists(words):
    sub = words[:2] if words[0] in {"data", "analyze"} else words[:1]
    shown = CliRunner().invoke(app, [*sub, "--help"], env={"COLUMNS": "300", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    for option in (word for word in words if word.startswith("-")):
        assert option in shown.output, option


def test_the_readme_names_only_make_targets_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert named <= targets
