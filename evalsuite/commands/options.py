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
from evalsuite.config import Config, Option, options_by_key, read_as
from evalsuite.errors import UsageError, unknown
from evalsuite.exits import keep_tracebacks_in
from evalsuite.suites.registry import SuiteSpec, option_fields, suites
from evalsuite.validation import located, read_mapping

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

MaxUnscoredOption = Annotated[
    float, typer.Option("--max-unscored", help="Share of unscored items above which the exit code is 1.")
]
DataOption = Annotated[
    Literal["full", "mini"],
    typer.Option("--data", help="full: the benchmark's own prompts; mini: a small built-in set."),
]
AnnotatorOption = Annotated[
    str | None, typer.Option("--annotator", help="Annotator (judge) to read from a file that has several.")
]
OverlapWordsOption = Annotated[
    int, typer.Option("--ngram", min=2, max=50, help="Words per n-gram of the overlap rule.")
]
OverlapShareOption = Annotated[
    float,
    typer.Option(
        "--overlap", min=0, max=0.999, help="An item counts when more than this share of its words is covered."
    ),
]
TurnsOption = Annotated[
    Literal["user", "all"],
    typer.Option("--turns", help="Look in user turns, or in all of them."),
]
NearOption = Annotated[
    float | None,
    typer.Option(
        "--near", min=0, max=0.999, help="Also count items with more than this share of their words in shared 5-grams."
    ),
]
ContaminationOption = Annotated[
    Literal["full", "mini", "off"],
    typer.Option(
        "--contamination", help="Check the mix for the suites' prompts: the real ones, a small built-in set, or off."
    ),
]
SuiteArgument = Annotated[str, typer.Argument(metavar="SUITE", help=f"{', '.join(suites())}; parts as NAME:PART,PART.")]
_CONFIG_HELP = "YAML file of these options, with underscores; the command line wins. Paths in it are relative to it."
_ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help=_CONFIG_HELP)]


def from_config(
    kind: type[ConfigT], *, exclude: Iterable[str] = (), flags: Mapping[str, Any] | None = None
) -> Callable[[Callable[..., None]], Command]:
    """Give a command one option per field of ``kind``, --config and --json; it is called with (config, as_json=...).

    ``exclude`` are options that only a file may set; ``flags`` are switches of the command line alone.
    """
    left_out, own_flags, options = set(exclude), flags or {}, options_by_key(kind)

    def decorate(command: Callable[..., None]) -> Command:
        def run(**given: Any) -> None:
            as_json, file = given.pop("as_json"), given.pop("config")
            switches = {name: given.pop(name) for name in own_flags}
            with reporting_errors():
                typed = {key: _number(value, options[key]) for key, value in _set_only(given).items()}
                config = read_as(kind, typed, file)
                keep_tracebacks_in(getattr(config, "results", getattr(config, "out", Path("results"))))
                command(config, as_json=as_json, **switches)

        shown = [option for key, option in options.items() if key not in left_out]
        shown.sort(key=lambda option: option.hint("argument") is None)
        parameters = [_parameter(option) for option in shown]
        parameters += [_fixed(name, annotation, False) for name, annotation in own_flags.items()]
        parameters += [_fixed("config", _ConfigOption, None), _fixed("as_json", JsonOption, False)]
        return _signed(run, command, parameters)

    return decorate


def with_suite_options(command: Callable[..., None]) -> Command:
    """Give a command the suites' own options; it is called with those that are set as ``suite_options``."""
    own = [Option(flag, "suite_options", flag, info) for flag, (_, info) in option_fields().items()]

    def run(**given: Any) -> None:
        options = _set_only({option.key: given.pop(option.key) for option in own})
        command(**given, suite_options=options)

    signature = inspect.signature(command, eval_str=True)
    parameters = [parameter for name, parameter in signature.parameters.items() if name != "suite_options"]
    return _signed(run, command, [*parameters, *(_parameter(option) for option in own)])


def with_config_file(command: Callable[..., None]) -> Command:
    """Give a command that has no config model --config: a YAML file of its own options' defaults."""

    def run(**given: Any) -> None:
        given.pop("config")
        command(**given)

    parameters = list(inspect.signature(command, eval_str=True).parameters.values())
    keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    return _signed(run, command, [*keyword, _fixed("config", _ConfigFileOption, None)])


def _read_defaults(context: typer.Context, file: Path | None) -> Path | None:
    """Take the values of a config file as the defaults of a command."""
    if file is not None:
        names = {
            option.lstrip("-").replace("-", "_"): str(parameter.name)
            for parameter in context.command.params
            for option in (*parameter.opts, str(parameter.name))
        }
        with reporting_errors():
            values = read_mapping(file, "config")
            if strange := [unknown("key", key, list(names)) for key in values if key not in names]:
                raise UsageError(f"{file}: {'; '.join(strange)}")
        folder = file.expanduser().parent
        context.default_map = {names[key]: _reached(value, folder) for key, value in values.items()}
    return file


_ConfigFileOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help=_CONFIG_HELP, callback=_read_defaults, is_eager=True)
]


def _reached(value: object, folder: Path) -> Any:
    """Return the paths of a config file as they are reached from here."""
    if isinstance(value, list):
        return [_reached(one, folder) for one in value]
    return located(value, folder) if isinstance(value, str) else value


def _signed(run: Command, command: Callable[..., None], parameters: list[inspect.Parameter]) -> Command:
    """Give ``run``, which Typer calls, the name and help of ``command`` and these parameters."""
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _set_only(given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was not given: a file's value or the default holds."""
    return {key: value for key, value in given.items() if value is not None and value != []}


def _parameter(option: Option) -> inspect.Parameter:
    annotation = list[str] if option.hint("repeatable") else _typer_type(option.field.annotation)
    if (metavar := option.hint("argument")) is not None:
        about: Any = typer.Argument(metavar=metavar, help=_help(option), show_default=False)
    else:
        names = [f"--{option.flag}"]
        if option.hint("short") and not option.inherits:
            names.append(option.hint("short"))
        if annotation is bool and option.field.default is True:
            names = [f"--{option.flag}/--no-{option.flag}"]
        about = typer.Option(
            *names,
            metavar=option.hint("metavar") or _metavar(option.field.annotation),
            help=_help(option),
            show_default=False,
            rich_help_panel=_PANELS.get(option.block) or _PANELS_BY_KEY.get(option.key),
        )
    return _fixed(option.key, Annotated[annotation | None, about], None)


def _fixed(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _help(option: Option) -> str:
    text = " ".join((option.field.description or "").split()).replace("{suites}", ", ".join(suites()))
    if option.field.is_required() and option.hint("argument") is None:
        return f"{text} Required."
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
