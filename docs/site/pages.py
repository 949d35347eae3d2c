"""Fill a folder with the pages of the site: those of docs/, and those written from the program; with mkdocs.yml beside.

python docs/site/pages.py build/docs
"""

from __future__ import annotations

import inspect
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pydantic
import typer
import yaml
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from options import ROOT, type_text
from session import printed

import evalsuite
from evalsuite.api_options import CompareOptions, RunOptions
from evalsuite.cli import app
from evalsuite.config import Config, Option, RunConfig, options_by_key
from evalsuite.recipes.recipe import Recipe
from evalsuite.report.glossary import GLOSSARY
from evalsuite.study.file import Study
from evalsuite.suites.file.definition import Benchmark
from evalsuite.suites.registry import suites

SOURCE = "https://github.com/evalsuite/evalsuite/blob/main/"
MOVED = {f"{name.upper()}.md": f"{name}.md" for name in ("contributing", "security", "changelog")}
MOST_LINES = 60
"""Of an example's output."""
STYLE = ".md-grid { max-width: 76rem } td:first-child code { white-space: nowrap }"
SCRIPTED = "The models are scripts that answer at random, so the figures mean nothing."


def main(out: Path) -> None:
    """Write everything again."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(ROOT / "docs", out, ignore=shutil.ignore_patterns("site", "build", "__pycache__"))
    for page in sorted((ROOT / "docs").glob("*.md")):
        (out / page.name).write_text(relinked(page), encoding="utf-8")
    for name, target in MOVED.items():
        (out / target).write_text(relinked(ROOT / name), encoding="utf-8")
    pages = {"python": python_page(), "options": options_page(), "recipes": recipes_page(), "glossary": glossary_page()}
    commands = command_pages()
    for path, lines in {**{f"reference/{name}": page for name, page in pages.items()}, **commands}.items():
        (out / path).parent.mkdir(exist_ok=True)
        (out / path).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    config = yaml.safe_load(text) | {"docs_dir": out.name, "site_dir": "site", "extra_css": ["extra.css"]}
    (out / "extra.css").write_text(STYLE, encoding="utf-8")
    for section in config["nav"]:
        for name, entries in section.items():
            if "commands/index.md" in entries:
                listed = [entry for entry in entries if entry != "commands/index.md"]
                section[name] = [{"Commands": [f"{path}.md" for path in commands]}, *listed]
    (out.parent / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def relinked(page: Path) -> str:
    """Return a page whose links lead to the pages of the site, and to the repository for all other files."""

    def target(found: re.Match[str]) -> str:
        path, anchor = found[1], found[2] or ""
        name = str((page.parent / path).resolve().relative_to(ROOT))
        if name in MOVED or (name.startswith("docs/") and page.parent == ROOT):
            return f"]({MOVED.get(name, name.removeprefix('docs/'))}{anchor})"
        return found[0] if name.startswith("docs/") else f"]({SOURCE}{name}{anchor})"

    return re.sub(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)", target, page.read_text(encoding="utf-8"))


def command_pages() -> dict[str, list[str]]:
    """Return a page per command: its help, the help of its own commands, and what calls of them print."""
    examples = printed()
    root: Any = typer.main.get_command(app)
    index = ["# Commands", "", "| command | |", "| --- | --- |"]
    pages = {"commands/index": index}
    for name, command in root.commands.items():
        names = [name, *(f"{name} {inner}" for inner in getattr(command, "commands", ()))]
        lines = [f"# {name}"]
        for one in names:
            lines += ["" if one == name else f"\n## {one}\n", *fenced([help_of(one)])]
            if one in examples:
                call, *shown = examples[one]
                lines += ["", f"{'##' if one == name else '###'} Example", "", *[SCRIPTED, ""] * ("localhost" in call)]
                lines += fenced([call, *shown[:MOST_LINES], *["…"] * (len(shown) > MOST_LINES)])
        pages[f"commands/{name}"] = lines
        summary = re.sub(r"\[/?bold\]", "", inspect.cleandoc(command.help or "").split("\n\n")[0])
        index.append(f"| [`{name}`]({name}.md) | {escaped(summary)} |")
    index += ["", "Options of all commands:", "", *fenced([help_of("")])]
    return pages


def help_of(command: str) -> str:
    """Return what ``--help`` prints, as wide as the page, without colours."""
    environment = {"COLUMNS": "84", "NO_COLOR": "1", "TERM": "dumb"}
    done = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="evalsuite", env=environment)
    return "\n".join(line.rstrip() for line in done.output.strip("\n").splitlines())


def options_page() -> list[str]:
    """Return the keys of config files by command, those of serving once, and the environment."""
    lines = [
        "# Options and config files",
        "",
        "An option is a flag, a key of the file for `--config`, and a keyword in",
    ]
    lines += ["Python: `--judge-dtype` is `judge_dtype`. Paths in a file are relative to it; flags win over it."]
    for kind in sorted(configs(Config), key=lambda kind: kind.command):
        options = options_by_key(kind).values()
        lines += ["", f"## {kind.command}", "", *option_table(one for one in options if not one.block)]
        if blocks := {one.block for one in options} & {"serve", "judge_serve"}:
            lines += ["", "And those of [serving](#serving)" + ", also for the judge." * (len(blocks) > 1)]
    options = options_by_key(RunConfig).values()
    lines += ["", "## serving", "", "With the prefix `judge_`: the judge's; by default the model's.", ""]
    lines += option_table(one for one in options if one.block == "serve")
    lines += ["", "## options of single suites", ""]
    lines += option_table(one for one in options if one.block == "suite_options")
    rows = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8").split("| variable")[1]
    return [*lines, "", "## environment", "", f"| variable{rows.rstrip()}"]


def configs(base: type[Config]) -> set[type[Config]]:
    """Return the options of every command; those that import the command line are known."""
    below = {kind for one in base.__subclasses__() for kind in (one, *configs(one))}
    return {kind for kind in below if "command" in vars(kind)}


def option_table(options: Iterable[Option]) -> Iterator[str]:
    yield from ("| key | takes | default | |", "| --- | --- | --- | --- |")
    for one in options:
        about = escaped((one.field.description or "").replace("{suites}", ", ".join(suites())))
        yield f"| `{one.key}` | {type_shown(one.field.annotation)} | {default_of(one.field)} | {about} |"


def type_shown(annotation: Any) -> str:
    """Spell a type as a writer of YAML thinks of it."""
    text = type_text(annotation).replace("str | Path", "path").replace("Sequence[", "list[").replace("Mapping[", "map[")
    text = re.sub(r"Literal\[(.*?)\]", lambda choice: choice[1].replace(", ", " or ").replace("'", ""), text)
    return f"`{text}`".replace("|", "\\|")


def default_of(field: pydantic.fields.FieldInfo) -> str:
    """Return the default as YAML has it; empty for none."""
    value = field.default
    if field.is_required() or isinstance(value, bool):
        return "required" if field.is_required() else f"`{value}`".lower()
    shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
    return f"`{shown}`" if isinstance(shown, str | int | float | Path) and shown != "" else ""


def recipes_page() -> list[str]:
    """Return the sections and keys of recipes, studies and benchmarks, and the files of recipes/."""
    lines = ["# Recipes, studies, benchmarks", "", "The sections of the YAML files; an unknown key is refused by name."]
    sections: dict[type[pydantic.BaseModel], str] = {}
    for title, root in (("Recipe", Recipe), ("Study", Study), ("Benchmark of your own", Benchmark)):
        add_sections(root, f"## {title}", sections)
    for model, title in sections.items():
        lines += ["", title, "", *prose(model), "", "| key | takes | default |", "| --- | --- | --- |"]
        for key, field in model.model_fields.items():
            about = f" {escaped(field.description)}" if field.description else ""
            lines += [f"| `{key}` | {type_shown(field.annotation)}{about} | {default_of(field)} |"]
    lines += ["", "## Files in recipes/"]
    for path in sorted((ROOT / "recipes").rglob("*.yaml")):
        lines += ["", f"### {path.relative_to(ROOT)}", "", *fenced([path.read_text(encoding="utf-8").strip()], "yaml")]
    return lines


def add_sections(annotation: Any, title: str, sections: dict[type[pydantic.BaseModel], str]) -> None:
    """Add the models that a type names, and those in their fields, each once with its heading."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel) and annotation not in sections:
        sections[annotation] = title or f"### {annotation.__name__}"
        for field in annotation.model_fields.values():
            add_sections(field.annotation, "", sections)
    for inner in getattr(annotation, "__args__", ()):
        add_sections(inner, "", sections)


def python_page() -> list[str]:
    """Return the signatures and docstrings of what the package exports."""
    lines = ["# Python", "", "The commands as functions; [options](options.md) are keywords with underscores."]
    options = RunOptions.__annotations__ | CompareOptions.__annotations__
    for name in sorted(set(evalsuite.__all__) - {"__version__"}):
        called = getattr(evalsuite, name)
        function = called if inspect.isfunction(called) else type(called).__call__  # report is a package too
        signature = inspect.signature(function)
        given = signature.parameters.items()
        own = [
            one for key, one in given if one.kind != one.KEYWORD_ONLY or key not in options or one.default is one.empty
        ]
        if len(own) < len(given):
            own.append(inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD))
        taken = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(signature.replace(parameters=own)))
        lines += ["", f"## {name}", "", *fenced([f"evalsuite.{name}{taken}"], "python"), "", *prose(function)]
    return lines


def glossary_page() -> list[str]:
    """Return the terms of the report."""
    lines = ["# Glossary", "", "The terms of the report, as its tooltips explain them.", ""]
    return [*lines, *(f"{escaped(term)}\n:   {escaped(text)}\n" for term, text in GLOSSARY.items())]


def prose(of: Any) -> list[str]:
    """Return a docstring as Markdown."""
    text = inspect.cleandoc(of.__doc__ or "")
    text = re.sub(r"^>>> (.*?)(?:  # doctest.*)?$", r"```python\n\1\n```", text, flags=re.MULTILINE)
    return re.sub(r"``([^`\n]+)``", r"`\1`", text).splitlines()


def fenced(lines: Iterable[str], language: str = "text") -> list[str]:
    """Return a block of code."""
    return [f"```{language}", *lines, "```"]


def escaped(text: str) -> str:
    """Return plain text as Markdown for one cell or line."""
    return re.sub(r"([|*#<\[\]])", r"\\\1", " ".join(text.split()))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
