"""``--help``, which nothing is cut from, however narrow the terminal; and wrong usage, in one sentence."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from evalsuite.errors import UsageError
from evalsuite.exits import report_error

REQUIRED = " Required."
"""Ends the help of an option that a command needs, from the command line or a config file."""

_WIDEST = 100
_TYPES = {"<path>": "PATH", "<str>": "NAME", "<list[str]>": "NAME", "<list[path]>": "PATH", "<bool>": "", "None": ""}

_GROUPS = {name: place for place, name in enumerate(("Arguments", "Model", "Suites and items", "Judge"))}
_GROUPS |= {"Output": 90, "Options": 99}
"""Order of the option groups; those not listed come between the judge and the output."""

_ENVIRONMENT = {
    "EVALSUITE_API_KEY": "API key for the servers named on the command line.",
    "EVALSUITE_CACHE": "Folder for downloaded data and the demo model.",
    "EVALSUITE_MIRROR": "Folder with copies of the benchmark data, read first.",
    "EVALSUITE_OFFLINE": "1: never use the network.",
}


@contextmanager
def plain_usage() -> Iterator[None]:
    """Report wrong usage as every other error: one sentence instead of a box, and a document with --json."""
    try:
        yield
    except Exception as error:  # the class of typer's usage errors is private
        if not hasattr(error, "format_message") or type(error).__name__ == "NoArgsIsHelpError":
            raise
        raise typer.Exit(report_error(UsageError(_usage_sentence(error)))) from error


def _usage_sentence(error: Any) -> str:
    """Put a usage error of typer into our own words."""
    import pydantic

    from evalsuite.validation import faults_of

    see = "" if error.ctx is None else f"; see {error.ctx.command_path} --help"
    if isinstance(error.__cause__, pydantic.ValidationError):
        flag = error.param.opts[0] if error.param.param_type_name == "option" else error.param.name.upper()
        faults = faults_of(error.__cause__, pydantic.BaseModel, name=lambda _: flag)
        return "; ".join(fault.rstrip(".") for fault in faults) + see
    name = getattr(error, "option_name", None)
    if name is not None and hasattr(error, "possibilities"):
        known = [opt for param in error.ctx.command.params for opt in (*param.opts, *param.secondary_opts)]
        near = get_close_matches(name, known, n=1)
        return f"unknown option {name}" + (f"; did you mean {near[0]}?" if near else see)
    text = str(error.format_message()).rstrip(".")
    if "extra argument" in text:
        given, options = error.ctx.params, error.ctx.command.params
        owed = [one.opts[0] for one in options if str(one.help).endswith(REQUIRED) and given.get(one.name) is None]
        # A config file may give what is needed.
        is_owed = bool(owed) and given.get("config") is None
        see = f"; {' and '.join(owed)} {'is' if len(owed) == 1 else 'are'} missing{see}" if is_owed else see
    return text if text.endswith("?") else text + see


class Command(TyperCommand):
    """A command whose help fits any width."""

    def make_context(self, *given: Any, **named: Any) -> Any:
        with plain_usage():
            return super().make_context(*given, **named)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        typer.echo("\n".join(_command_help(self, ctx, _width())))


class Group(TyperGroup):
    """Commands under one name, with the help of a command."""

    def make_context(self, *given: Any, **named: Any) -> Any:
        with plain_usage():
            return super().make_context(*given, **named)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        with plain_usage():
            return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        typer.echo("\n".join(_group_help(self, ctx, _width())))

    def summaries(self) -> Iterator[tuple[str, str, str]]:
        """Return (section, name, help) of each command."""
        for name, command in self.commands.items():
            yield getattr(command, "rich_help_panel", None) or "Commands", name, inspect.cleandoc(command.help or "")


def shared_first(words: Sequence[str]) -> list[str]:
    """Move the options that all commands share to the front; ``--format json`` is each command's own ``--json``.

    >>> shared_first(["data", "list", "--format", "csv", "-q"])
    ['--format', 'csv', '-q', 'data', 'list']
    """
    end = words.index("--") if "--" in words else len(words)
    shared: list[str] = []
    own: list[str] = []
    taken = iter(words[:end])
    for word in taken:
        name, _, value = word.partition("=")
        if word in {"--debug", "-q", "--quiet", "-v", "--verbose"}:
            shared.append(word)
        elif name == "--format":
            value = value or next(taken, "")
            shared += [] if value == "json" else ["--format", value]
            own += ["--json"] if value == "json" else []
        else:
            own.append(word)
    return [*shared, *own, *words[end:]]


def _width() -> int:
    from evalsuite.terminal import Console

    return min(Console().width, _WIDEST)


def _group_help(group: Group, ctx: Any, width: int) -> Iterator[str]:
    yield from _about(group, ctx, width)
    sections: dict[str, list[tuple[str, str]]] = {}
    for title, name, about in group.summaries():
        sections.setdefault(title, []).append((name, about))
    room = 4 + max(len(name) for name in group.commands)
    for title, commands in sections.items():
        yield f"\n{title}:"
        for name, about in commands:
            summary = " ".join(about.split("\n\n")[0].split())
            yield from _wrapped(summary, width, f"  {name}".ljust(room), " " * room)
    yield from _options(group, ctx, width)
    yield f"\nOptions of a command: {ctx.command_path} COMMAND --help"


def _command_help(command: TyperCommand, ctx: Any, width: int) -> Iterator[str]:
    yield from _about(command, ctx, width)
    yield from _options(command, ctx, width)
    yield "\nEnvironment:"
    for name, meaning in _ENVIRONMENT.items():
        yield from (f"  {name}", *_wrapped(meaning, width, "      ", "      "))


def _about(command: TyperCommand | TyperGroup, ctx: Any, width: int) -> Iterator[str]:
    arguments = [str(one.metavar) for one in command.get_params(ctx) if one.param_type_name == "argument"]
    usage = command.collect_usage_pieces(ctx) if isinstance(command, TyperGroup) else ["[OPTIONS]", *arguments]
    yield from _wrapped(f"Usage: {ctx.command_path} {' '.join(usage)}", width)
    text, examples = _split_examples(inspect.cleandoc(command.help or ""))
    for paragraph in text.split("\n\n"):
        if plain := " ".join(paragraph.split()):
            yield ""
            yield from _wrapped(re.sub(r"\[/?[a-z]*\]", "", plain), width)
    if examples:
        yield "\nExamples:"
        for example in examples:
            yield from _wrapped(example, width, "  ", "      ")


def _options(command: TyperCommand | TyperGroup, ctx: Any, width: int) -> Iterator[str]:
    groups: dict[str, list[Any]] = {}
    for one in command.get_params(ctx):
        if not getattr(one, "hidden", False):
            default = "Arguments" if one.param_type_name == "argument" else "Options"
            groups.setdefault(getattr(one, "rich_help_panel", None) or default, []).append(one)
    for name, options in sorted(groups.items(), key=lambda group: _GROUPS.get(group[0], 50)):
        yield f"\n{name}:"
        for one in options:
            yield from _wrapped(_signature(one, ctx), width, "  ", "      ")
            yield from _wrapped(_described(one), width, "      ", "      ")


def _split_examples(text: str) -> tuple[str, list[str]]:
    """Take the commands in bold out of a docstring; they are its examples."""
    first, *others = text.split("[bold]")
    examples: list[str] = []
    for other in others:
        inner, _, after = other.partition("[/]")
        if inner.startswith("evalsuite"):
            examples.append(" ".join(inner.split()))
            first += after
        else:
            first += inner + after
    return first, examples


def _signature(one: Any, ctx: Any) -> str:
    if one.param_type_name == "argument":
        return str(one.metavar).strip("[].")
    names = ", ".join(sorted(one.opts, key=lambda name: (name.startswith("--"), name)))
    names = " / ".join([names, *one.secondary_opts])
    shown = one.metavar or one.display_type_rich(ctx=ctx)
    return f"{names} {_TYPES.get(str(shown), str(shown).strip('<>'))}".rstrip()


def _described(one: Any) -> str:
    text = " ".join((one.help or "").split())
    default = one.default
    is_plain = isinstance(default, str | int | float) and not isinstance(default, bool) and default != ""
    is_shown = is_plain and one.show_default is not False and "Default:" not in text
    return f"{text} Default: {default}." if is_shown else text


def _wrapped(text: str, width: int, first: str = "", other: str = "") -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=other, break_long_words=False, break_on_hyphens=False
    )
