"""Rules of the house that a machine can check: imports run down, suites own their facts, the README tells the truth."""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.commands.table import Root
from evalsuite.suites.registry import keys_of, suites

ROOT = Path(__file__).resolve().parents[1]

# Every room, from the ground up. A room may import those above it in this list and itself, nothing below.
FLOORS = (
    "errors",
    "packages",
    "text",
    "redaction",
    "streams",
    "exits",
    "terminal",
    "files",
    "lease",
    "validation",
    "fingerprint",
    "progress",
    "tracking",
    "store",
    "assets",
    "checkpoint",
    "documents",
    "comparison_documents",
    "rating_documents",
    "records",
    "serving",
    "suites",
    "placement",
    "config",
    "results",
    "conversations",
    "doctor",
    "tables",
    "installation",
    "notebook",
    "runs",
    "generation",
    "comparison",
    "analysis",
    "contamination",
    "prefer",
    "recipes",
    "mix",
    "training",
    "report",
    "exports",
    "watching",
    "viewing",
    "gate",
    "power",
    "labelling",
    "wildchat",
    "fleet",
    "study",
    "lm_eval",
    "api_options",
    "api",
    "commands",
    "cli",
    "__main__",
)
MAX_LINES = 450
MAX_FUNCTION_LINES = 70

# What lm-eval's tasks and the leaderboard made of them share, an option of the command line among it.
SHARED_NAMES = {"harness": ("openllm",), "openllm": ("lm_eval",)}

# Rooms that may name a suite: its own, one paper's tables, and the pure judging methods.
NAMING_ROOMS = {"wildchat", "api_options"}  # the latter is written by docs/site/options.py


class Tree:
    """The modules of the two packages: name -> syntax tree."""

    def __init__(self, root: Path) -> None:
        self.files = {
            self._name(path, root): path
            for package in ("evalsuite", "judges")
            for path in sorted((root / package).rglob("*.py"))
            if "mini" not in path.parts
        }
        self.trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.files.items()}
        self._imported: dict[str, list[str]] = {}

    @staticmethod
    def _name(path: Path, root: Path) -> str:
        return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")

    def planted(self, module: str, line: str) -> Tree:
        """Return the tree with one more line in a module."""
        other = copy.copy(self)
        other.trees = self.trees | {module: ast.Module([*self.trees[module].body, *ast.parse(line).body], [])}
        other._imported = {name: found for name, found in self._imported.items() if name != module}
        return other

    def imported(self, module: str) -> list[str]:
        """Return the modules that one imports, also inside functions; ``from package import module`` is the module."""
        if module not in self._imported:
            self._imported[module] = list(self._imports_of(module))
        return self._imported[module]

    def _imports_of(self, module: str) -> Iterator[str]:
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner in self.trees else node.module

    def below(self, module: str) -> set[str]:
        return {other for other in self.imported(module) if other in self.trees and other != module}


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(ROOT)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def upward_imports(tree: Tree) -> list[str]:
    rank = {name: place for place, name in enumerate(FLOORS)}
    return [
        f"{module} imports {other}"
        for module in tree.trees
        if module.startswith("evalsuite.")
        for other in tree.imported(module)
        if other.startswith("evalsuite.") and rank[room(other)] > rank[room(module)]
    ]


def cycle(tree: Tree) -> list[str]:
    # Packages that only hand on what is in them do not count.
    below = {module: tree.below(module) for module in tree.trees if module not in ("evalsuite", "evalsuite.assets")}
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_room_has_its_floor(tree):
    rooms = {room(module) for module in tree.trees if module.startswith("evalsuite.")}
    assert rooms == set(FLOORS), "name new rooms in FLOORS, take old ones out"


def test_imports_run_down(tree):
    assert upward_imports(tree) == []


def test_no_import_comes_back(tree):
    """Imports inside functions count too: a cycle that works is still two modules that are one."""
    assert cycle(tree) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("evalsuite.serving.slots", "from evalsuite.runs import runner"),
        ("evalsuite.serving.slots", "from evalsuite import api"),
        ("evalsuite.generation.answers", "from evalsuite.study import plan"),
        ("evalsuite.generation.answers", "import evalsuite.study.plan"),
    ],
)
def test_a_planted_import_is_seen(tree, module, line):
    assert any(fault.startswith(f"{module} imports") for fault in upward_imports(tree.planted(module, line)))


def test_a_planted_cycle_is_seen(tree):
    planted = tree.planted("evalsuite.serving.requests", "from evalsuite.serving import client")
    assert "evalsuite.serving.client" in cycle(planted)


def test_judges_are_pure(tree):
    outside = ("evalsuite", "httpx", "openai", "requests", "socket", "subprocess", "asyncio", "sqlite3")
    faults = [
        f"{module} imports {other}"
        for module in tree.trees
        if module.startswith("judges")
        for other in tree.imported(module)
        if other.split(".")[0] in outside
    ]
    assert not faults, "\n".join(faults)


def docstrings(tree: ast.AST) -> set[int]:
    """Return the ids of the nodes that are docstrings, of modules, classes, functions and fields."""
    found = set()
    for node in ast.walk(tree):
        for statement in getattr(node, "body", ()) if isinstance(getattr(node, "body", None), list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                found.add(id(statement.value))
    return found


def words_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every literal and identifier outside docstrings and imports."""
    said = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.lineno, node.value
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield node.lineno if hasattr(node, "lineno") else 0, node.arg


def named_suites(trees: Iterable[tuple[str, ast.AST]], names: Iterable[str]) -> list[str]:
    pattern = re.compile("|".join(rf"(?<![a-z0-9]){name}(?![a-z0-9])" for name in names), re.IGNORECASE)
    return [
        f"{module}:{line} {text[:60]!r}"
        for module, tree in trees
        for line, text in words_in(tree)
        if pattern.search(text)
    ]


# The examples in help texts, and what is named after lm-eval itself, not after the suite of its tasks.
EXAMPLES = re.compile(r"--suite|--prompts|e\.g\.|such as|for example|as in|like ")
SUITE_NAMES = sorted({name for suite in suites().values() for name in (suite.name, *keys_of(suite))} - {"lm_eval"})


def test_no_suite_is_named_outside_its_folder(tree):
    outside = [
        (module, tree.trees[module])
        for module in tree.trees
        if module.startswith("evalsuite.")
        and room(module) not in NAMING_ROOMS
        and not re.match(r"evalsuite\.suites\.(\w+)\.", module)
        and module != "evalsuite.suites.registry"
    ]
    faults = [fault for fault in named_suites(outside, SUITE_NAMES) if not EXAMPLES.search(fault)]
    assert not faults, "\n".join(faults)


def test_a_suite_named_elsewhere_is_seen():
    planted = ast.parse('"""mt_bench is fine here."""\nif key == "mt_bench":\n    pass\n')
    assert len(named_suites([("evalsuite.report.build", planted)], SUITE_NAMES)) == 1


def test_no_suite_names_another(tree):
    faults = []
    by_folder: dict[str, set[str]] = {}
    for suite in suites().values():
        by_folder.setdefault(type(suite).__module__.split(".")[2], set()).update((suite.name, *keys_of(suite)))
    for folder, names in by_folder.items():
        own = [
            (module, tree.trees[module]) for module in tree.trees if module.startswith(f"evalsuite.suites.{folder}.")
        ]
        shared = SHARED_NAMES.get(folder, ())
        others = [name for name in SUITE_NAMES if name not in (*names, *shared)]
        faults += named_suites(own, others)
    assert not faults, "\n".join(faults)


def test_files_fit_a_head(tree):
    long = {
        module: count
        for module, path in tree.files.items()
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert not long


def test_functions_fit_a_screen(tree):
    long = {
        f"{module}.{node.name}": count
        for module, parsed in tree.trees.items()
        for node in ast.walk(parsed)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (count := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert not long


def test_no_package_takes_the_place_of_a_public_function():
    import evalsuite

    packages = [name for name in evalsuite.__all__ if (ROOT / "evalsuite" / name).is_dir()]
    taken = [name for name in packages if not callable(importlib.import_module(f"evalsuite.{name}"))]
    assert not taken


def test_the_command_line_starts_without_heavy_libraries():
    heavy = {
        "torch",
        "transformers",
        "vllm",
        "lm_eval",
        "alpaca_eval",
        "datasets",
        "pandas",
        "fastchat",
        "openai",
        "scipy",
        "numpy",
    }
    # The options of a command are loaded with it: run's bring the suites, and nothing that asks, judges or stores.
    later = {"asyncio", "filelock", "jinja2", "psutil", "sqlite3", "unittest", "yaml"}
    later |= {"evalsuite.checkpoint", "evalsuite.suites.file.suite", "evalsuite.suites.harness.run"}
    assert loaded_for("from evalsuite.commands.run import run", heavy | later) == "[]"
    assert loaded_for("from evalsuite.comparison.settings import CompareConfig", heavy) == "[]"
    # A run of which everything is stored asks nobody; the libraries that talk to servers take half a second.
    assert loaded_for("from evalsuite.runs.runner import evaluate", heavy | {"aiohttp", "httpx", "jinja2"}) == "[]"


def test_the_list_of_commands_loads_no_command():
    listing = "import contextlib, io, evalsuite.cli as c\nwith contextlib.redirect_stdout(io.StringIO()) as shown:\n"
    listing += "    c.app(['--help'], standalone_mode=False)\nassert 'judge-card' in shown.getvalue()"
    unwanted = {"pydantic", "jinja2", "evalsuite.config", "evalsuite.suites.registry", "evalsuite.commands.run"}
    assert loaded_for(listing, unwanted) == "[]"


def test_the_list_of_commands_has_the_help_of_each_command():
    written = {name: about for _, name, about in Root(name="evalsuite").summaries()}
    assert written == {name: inspect.cleandoc(one.help) for name, one in Root(name="evalsuite").commands.items()}


def loaded_for(script, names):
    """Return which of these modules and packages are loaded after a script, as printed."""
    shown = "print(sorted(({m.split('.')[0] for m in sys.modules} | {*sys.modules}) & wanted))"
    script = f"import sys\nwanted = set(sys.argv[1:])\n{script}\n{shown}"
    found = subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def readme_commands() -> Iterator[list[str]]:
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


def test_tests_do_not_import_bench():
    faults = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if re.search(r"^\s*(from|import) bench\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert not faults
