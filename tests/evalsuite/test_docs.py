"""The documentation says what the program says: its commands, its messages and its navigation."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

import evalsuite
from evalsuite.cli import app
from evalsuite.commands.help import REQUIRED
from evalsuite.comparison.settings import CompareConfig
from evalsuite.config import RunConfig, options_by_key
from evalsuite.recipes.recipe import Mix
from evalsuite.recipes.training import TrainingConfig
from judges.types import REASONS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(?:\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
WRITTEN = {"commands/index.md", "reference/options.md", "reference/python.md", "reference/glossary.md"}
WRITTEN |= {"reference/recipes.md", "changelog.md", "contributing.md", "security.md"}


OTHERS_OPTIONS = {"--reasoning-parser", "--scheduling-policy"}  # vLLM's


def calls() -> list[tuple[str, list[str]]]:
    """Every line of a code block that calls evalsuite, without its comment."""
    found = []
    for page in (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"\s+#.*|\s*\|.*", "", line.removeprefix("$ ").strip())
                if command.startswith("evalsuite ") and "…" not in command and "COMMAND" not in command:
                    found.append((page.name, shlex.split(command)[1:]))
    return found


def commands() -> dict[str, list[list[str]]]:
    """Every command but ``version``, with the examples of its help."""
    found = {}
    groups = [("", typer.main.get_command(app))]
    for above, group in groups:
        for name, command in group.commands.items():
            if getattr(command, "commands", None):
                groups.append((f"{name} ", command))
            elif name != "version":
                examples = re.findall(r"\[bold\](.*?)\[/\]", command.help or "", re.DOTALL)
                found[above + name] = [shlex.split(example)[1:] for example in examples]
    return found


@pytest.mark.parametrize("command", commands())
def test_the_help_of_every_command_has_two_examples_that_it_takes(command):
    examples = commands()[command]
    assert len(examples) >= 2
    for words in examples:
        assert " ".join(words).startswith(command)
        test_every_documented_call_is_one_the_command_line_takes(f"help of {command}", words)


@pytest.mark.parametrize(
    ("page", "words"), calls(), ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_every_documented_call_is_one_the_command_line_takes(page, words):
    """Parsed by the command line itself, which refuses an unknown option, a missing argument and a wrong value."""
    command = typer.main.get_command(app)
    while words and (inner := getattr(command, "commands", {}).get(words[0])) is not None:
        command, words = inner, words[1:]
    assert not getattr(command, "commands", None), f"{page}: {words}"
    context = command.make_context("evalsuite", [word for word in words if word != "[OPTIONS]"])
    # A file, or the folder of a training run, may give what is needed.
    if not {"config", "checkpoints"} & {name for name, value in context.params.items() if value is not None}:
        missing = [one.name for one in command.params if is_needed(one) and not context.params[one.name]]
        assert missing == [], f"{page}: {words}"


def is_needed(parameter: typer.core.TyperArgument | typer.core.TyperOption) -> bool:
    if parameter.param_type_name == "argument":
        return not parameter.metavar.startswith("[")
    return parameter.help.endswith(REQUIRED)


def options(command: typer.core.TyperCommand | typer.core.TyperGroup) -> set[str]:
    """Every spelling of every option of a command and of those in it."""
    own = {spelling for option in command.params for spelling in (*option.opts, *option.secondary_opts)}
    return own.union(*(options(inner) for inner in getattr(command, "commands", {}).values()))


def test_every_option_in_the_text_is_one_of_the_command_line():
    known = options(typer.main.get_command(app)) | OTHERS_OPTIONS
    for page in (*PAGES, ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"):
        named = set(re.findall(r"`(--[a-z0-9-]+)", page.read_text(encoding="utf-8")))
        # `--judge-` stands for all that begin so.
        assert {option for option in named if not option.endswith("-")} <= known, page.name


def test_every_promise_of_the_security_page_names_a_test_that_exists():
    promises = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition("## Not guaranteed")[0]
    points = re.findall(r"^- .*(?:\n  .*)*", promises, re.MULTILINE)
    assert len(points) > 25
    for point in points:
        named = re.findall(r"`(test_\w+)`", point)
        assert named, point
        files = [ROOT / "tests/evalsuite/test_security.py"]
        files += [
            ROOT / ("" if file.startswith("tests/") else "tests/evalsuite") / file
            for file in re.findall(r"`([\w/]+\.py)`", point)
        ]
        source = "\n".join(file.read_text(encoding="utf-8") for file in files)
        assert [name for name in named if f"def {name}(" not in source] == []


def test_every_test_file_in_the_documentation_exists():
    for page in PAGES:
        for file in re.findall(r"`([\w/]*test_\w+\.py)`", page.read_text(encoding="utf-8")):
            places = (ROOT, *(ROOT / "tests/evalsuite" / folder for folder in ("", "comparison", "serving")))
            assert any((place / file).is_file() for place in places), f"{page.name}: {file}"


def test_every_message_of_the_troubleshooting_page_is_in_the_source():
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "evalsuite").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source).replace("{SETUP}", "evalsuite setup")
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    for heading in re.findall(r"^### (.*)", text, re.MULTILINE):
        if "torch" in heading:
            continue  # said by others: pip, uv and torchvision
        parts = [part.strip(" ,;'[]") for part in heading.split("…")]
        assert any(part in source for part in parts if len(part) > 10), heading
    for reason in re.findall(r"`(\w+_?\w*)` \(", text):
        assert reason in REASONS, reason


def test_the_navigation_has_every_page_once():
    entries = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(entries) == sorted({path.name for path in DOCS.glob("*.md")} | WRITTEN)


def test_the_scripts_that_make_the_site_are_kept_by_git():
    called = re.findall(r"docs/\S+\.py", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert called
    assert all((ROOT / script).is_file() for script in called)
    ignored = subprocess.run(["git", "check-ignore", *called], cwd=ROOT, capture_output=True, text=True, check=False)
    assert not ignored.stdout


def test_the_written_pages_have_every_option_recipe_key_and_function(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "site"))
    pages = runpy.run_path(str(DOCS / "site" / "pages.py"))
    options = "\n".join(pages["options_page"]())
    for kind in (RunConfig, CompareConfig):
        keys = [key for key in options_by_key(kind) if not key.startswith("judge_") or key == "judge_weights"]
        assert [key for key in keys if f"| `{key}` |" not in options] == []
    recipes = "\n".join(pages["recipes_page"]())
    assert [key for key in (*Mix.model_fields, *TrainingConfig.model_fields) if f"| `{key}` |" not in recipes] == []
    python = "\n".join(pages["python_page"]())
    assert [name for name in evalsuite.__all__[1:] if f"evalsuite.{name}(" not in python] == []
    for page in (*DOCS.glob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", pages["relinked"](page)):
            assert (DOCS / link).exists() or link in WRITTEN, f"{page.name}: {link}"


def test_the_notebook_is_executed_and_tells_nothing_of_a_machine():
    book = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    source = (DOCS / "site" / "notebook.py").read_text(encoding="utf-8")
    assert all("".join(cell["source"]) in source for cell in cells), "run docs/site/notebook.py again"
    assert all(cell["outputs"] for cell in cells[1:])
    shown = json.dumps([cell["outputs"] for cell in cells])
    assert not re.search(r"/(tmp|root|home|work)/|127\.0\.0\.1|Traceback", shown)


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    for page in PAGES:
        for link in re.findall(r"\]\(((?!https?:|#)[^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists() or link in WRITTEN, f"{page.name}: {link}"


def test_the_workflow_is_yaml_and_calls_what_exists():
    steps = yaml.safe_load((ROOT / "containers" / "gate.yml").read_text())["jobs"]["gate"]["steps"]
    called = re.findall(r"bin/evalsuite (\w+)", "\n".join(step.get("run", "") for step in steps))
    assert called == ["setup", "doctor", "run", "gate", "report"]
    assert set(called) <= set(typer.main.get_command(app).commands)


def test_every_interval_in_the_table_has_its_test():
    tests = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    page = (DOCS / "statistics.md").read_text(encoding="utf-8")
    rows = (
        page.partition("## Intervals and their coverage")[2]
        .partition("\n\n| figure")[2]
        .partition("\n\n")[0]
        .splitlines()[2:]
    )
    assert len(rows) > 30
    for row in rows:
        named = set(re.findall(r"`(test_\w+)`", row))
        assert named, row
        assert named <= tests, row
