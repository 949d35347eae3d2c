"""The commands by name. A command's module is imported when it is called; its summary is read from the source."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import typer

from evalsuite.commands.help import Command, Group, shared_first

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Evaluate": {
        "run": "run:run",
        "compare": "compare:compare",
        "rate": "rate:rate",
        "watch": "watch:watch",
        "gate": "gate:gate",
        "score": "score:score",
    },
    "Look and share": {
        "report": "report:report",
        "view": "view:view",
        "show": "show:show",
        "export": "export:export",
        "paper": "paper:paper",
        "analyze": "analyze:analyze_app",
    },
    "Check and plan": {
        "doctor": "doctor:doctor",
        "plan": "plan:plan",
        "judge-card": "judge_card:judge_card",
        "label": "label:label",
        "suites": "suites:list_suites",
        "suite": "suites:suite_app",
    },
    "Data and training": {
        "generate": "generate:generate",
        "mix": "mix:mix",
        "sft": "sft:sft",
        "prefer": "prefer:prefer",
        "study": "study:study",
    },
    "Results and installation": {
        "import": "import_:import_recorded",
        "merge": "merge:merge",
        "forget": "forget:forget",
        "setup": "setup:setup",
        "data": "data:data_app",
        "version": "version:version",
    },
}
"""The commands as ``--help`` lists them: the module in ``evalsuite.commands`` and its function or Typer app."""
_REFERENCES = {name: reference for commands in SECTIONS.values() for name, reference in commands.items()}


class _Commands(dict[str, Any]):
    """The commands by name, each loaded when it is looked up."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(_REFERENCES))

    def __getitem__(self, name: str) -> Any:
        if super().__getitem__(name) is None:
            self[name] = _load(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in _REFERENCES else default

    def values(self) -> Any:
        return [self[name] for name in self]

    def items(self) -> Any:
        return [(name, self[name]) for name in self]


class Root(Group):
    """The whole command line; shared options may come before or after the command."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{**given, "commands": {}})
        self.commands = _Commands()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return list(super().parse_args(ctx, shared_first(args)))

    def summaries(self) -> Iterator[tuple[str, str, str]]:
        """Return (section, name, help) of each command, of which none is imported."""
        for title, commands in SECTIONS.items():
            yield from ((title, name, _written_help(reference)) for name, reference in commands.items())


def _load(name: str) -> Any:
    loaded = resolve_name(f"evalsuite.commands.{_REFERENCES[name]}")
    holder = typer.Typer(add_completion=False, rich_markup_mode="rich")
    if isinstance(loaded, typer.Typer):
        for command in loaded.registered_commands:
            command.cls = Command
        holder.add_typer(loaded, name=name)
    else:
        holder.command(name, cls=Command)(loaded)
    return typer.main.get_group(holder).commands[name]


def _written_help(reference: str) -> str:
    """Return a command's help from its source: importing every command takes longer than printing all of them."""
    module, _, wanted = reference.partition(":")
    spec = find_spec(f"evalsuite.commands.{module}")
    source = Path(str(spec.origin if spec else "")).read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == wanted:
            return ast.get_docstring(node) or ""
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and [ast.unparse(target) for target in node.targets] == [wanted]
        ):
            given = next(keyword.value for keyword in node.value.keywords if keyword.arg == "help")
            return inspect.cleandoc(str(ast.literal_eval(given)))
    raise LookupError(f"{wanted} not found in {module}")
