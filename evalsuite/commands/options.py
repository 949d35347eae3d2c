"""The options of the command line, made from the models that hold them (``evalsuite.config``) and from the suites."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer

from evalsuite.commands.console import JsonOption, reporting_errors
from evalsuite.commands.help import REQUIRED
from evalsuite.config import Config, Option, options_by_key, read_as, read_config_file
from evalsuite.exits import keep_tracebacks_in
from evalsuite.suites.registry import SuiteSpec, suites

ConfigT = TypeVar("ConfigT", bound=Config)
Command = Callable[..., None]

_PANELS: Mapping[str, str] = {
    "suite_options": "Options of single suites",
    "serve": "Serving",
    "judge_serve": "Serving the judge (default: as for the models)",
}
_PANELS_BY_KEY: Mapping[str, str] = {
    **dict.fromkeys(("suites", "limit", "sample", "sample_seed", "repeats", "data", "prompts"), "Suites and items"),
    **dict.fromkeys(("judge", "judge_weights", "no_judge", "human"), "Judge"),
    **dict.fromkeys(("base_url", "name", "checkpoints", "seed"), "Model"),
    **dict.fromkeys(("results", "label", "store", "log_to", "out", "max_unscored", "as_published"), "Output"),
}
_SCALARS = (bool, int, float, str, Path)

_CONFIG_HELP = "YAML file of these options, with underscores; the command line wins. Paths in it are relative to it."
_ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help=_CONFIG_HELP)]


def from_config(
    kind: type[ConfigT], *, exclude: Iterable[str] = (), flags: Mapping[str, Any] | None = None
) -> Callable[[Callable[..., None]], Command]:
    """Give a command one option per field of ``kind``, and --config; it is called with the config.

    A command that takes ``as_json`` has --json too. ``exclude`` are options that only a file may set; ``flags`` are
    switches that are no field, so that the Python API does not have them.
    """
    left_out, options = set(exclude), options_by_key(kind)

    def decorate(command: Callable[..., None]) -> Command:
        own = dict(flags or {})
        if "as_json" in inspect.signature(command).parameters:
            own["as_json"] = JsonOption
        keys = {name: name.removeprefix("as_") for name in own}

        def run(**given: Any) -> None:
            file = given.pop("config")
            with reporting_errors():
                from_file = {} if file is None else read_config_file(kind, file, keys.values())
                switches = {name: given.pop(name) | from_file.pop(key, False) for name, key in keys.items()}
                typed = {key: _number(value, options[key]) for key, value in _set_only(given).items()}
                config = read_as(kind, typed, file, from_file)
                if (results := getattr(config, "results", None)) is not None:
                    keep_tracebacks_in(results)
                command(config, **switches)

        shown = [option for key, option in options.items() if key not in left_out]
        shown.sort(key=lambda option: option.hint("argument") is None)
        # A short list needs no groups.
        panels = _PANELS_BY_KEY if "serve" in kind.model_fields else {}
        parameters = [_parameter(option, _PANELS.get(option.block) or panels.get(option.key)) for option in shown]
        parameters += [_fixed(name, annotation, False) for name, annotation in own.items()]
        parameters.append(_fixed("config", _ConfigOption, None))
        return _signed(run, command, parameters)

    return decorate


def _signed(run: Command, command: Callable[..., None], parameters: list[inspect.Parameter]) -> Command:
    """Give ``run``, which Typer calls, the name and help of ``command`` and these parameters."""
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _set_only(given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was not given: a file's value or the default holds."""
    return {key: value for key, value in given.items() if value is not None and value != []}


def _parameter(option: Option, panel: str | None) -> inspect.Parameter:
    annotation = list[str] if option.hint("repeatable") else _typer_type(option.field.annotation)
    if (name := option.hint("argument")) is not None:
        metavar = f"{name}..." if get_origin(annotation) is list else name
        if not option.field.is_required():
            metavar = f"[{metavar}]"
        about: Any = typer.Argument(metavar=metavar, help=_help(option), show_default=False)
    else:
        names = [f"--{option.flag}"]
        if option.hint("short") and not option.inherits:
            names.append(option.hint("short"))
        if annotation is bool and (option.field.default is True or option.hint("off")):
            names = [f"--{option.flag}/--{option.hint('off') or f'no-{option.flag}'}"]
        about = typer.Option(
            *names,
            metavar=option.hint("metavar") or _metavar(option.field.annotation),
            help=_help(option),
            show_default=False,
            rich_help_panel=panel,
        )
    return _fixed(option.key, Annotated[annotation | None, about], None)


def _fixed(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _help(option: Option) -> str:
    text = " ".join((option.field.description or "").split()).replace("{suites}", ", ".join(suites()))
    if option.field.is_required() and option.hint("argument") is None:
        return text + REQUIRED
    default = option.field.default
    is_plain = isinstance(default, str | int | float | Path) and not isinstance(default, bool)
    return f"{text} Default: {default}." if is_plain and not option.inherits else text


def _number(value: object, option: Option) -> Any:
    """Return a number that was typed as one; what is none stays a text, which its field refuses by name."""
    if _metavar(option.field.annotation) is None or not isinstance(value, str):
        return value
    for kind in (int, float):
        with suppress(ValueError):
            return kind(value)
    return value


def _metavar(annotation: Any) -> str | None:
    if str in get_args(annotation):
        return None
    kinds = {kind for kind in (annotation, *get_args(annotation)) if kind in (int, float)}
    return {int: "N", float: "X"}[kinds.pop()] if len(kinds) == 1 and get_origin(annotation) is not Literal else None


def _typer_type(annotation: Any) -> Any:
    """Return the type that Typer reads for a field: scalars and choices as they are, lists of them, else a text."""
    inner = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) in (Union, UnionType):
        return _typer_type(inner[0]) if len(inner) == 1 else str
    if get_origin(annotation) in (tuple, list):
        return list[str] if inner[0] is SuiteSpec or get_origin(inner[0]) is tuple else list[_typer_type(inner[0])]  # type: ignore[misc]
    if annotation in (int, float):
        return str  # The config model reports what is not a number, in our own words.
    return annotation if annotation in _SCALARS or get_origin(annotation) is Literal else str
