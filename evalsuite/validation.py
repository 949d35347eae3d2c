"""From what a user wrote to a checked model: one loader of YAML, one translator of pydantic's faults.

Used by the options of every command, by recipes and by studies, so that a wrong key or value is named the same way
everywhere: all faults at once, with the nearest known key, in our own words.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_args

import pydantic

from evalsuite.errors import DataError, UsageError, unknown
from evalsuite.files import read_text
from evalsuite.text import mapped, without_surrogates

ModelT = TypeVar("ModelT", bound=pydantic.BaseModel)
ValueT = TypeVar("ValueT")
TextT = TypeVar("TextT", str, str | None)
Loc = tuple[int | str, ...]
"""Where a fault is: keys, and positions in lists from 0."""
Name = Callable[[Loc], str]
Known = Callable[[Loc], Sequence[str]]

_EXPECTED: Mapping[str, str] = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "a whole number"),
    "int_parsing_size": "a smaller whole number",
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    "finite_number": "a finite number",
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    "string_type": "a text",
    "string_pattern_mismatch": "a plain name of letters, digits, dots, underscores and dashes",
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type"), "a mapping of keys to values"),
    "path_type": "a path",
    **dict.fromkeys(("date_type", "date_parsing", "date_from_datetime_parsing"), "a date like 2025-12-31"),
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "greater than {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "less than {lt:g}",
    "literal_error": "{expected}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "a text of at least {min_length} characters",
    "string_too_long": "a text of at most {max_length} characters",
}
_UNION_MEMBER = re.compile(r"(str|int|float|bool)$|(tuple|list|dict|literal|constrained-\w+|function-\w+|nullable)\[")
"""What pydantic puts into a location for the member of a union that it tried."""
_LONGEST_SHOWN = 60
_MAX_YAML_BYTES = 1 << 22
_MAX_YAML_VALUES = 100_000


def repeated(values: Iterable[ValueT]) -> list[ValueT]:
    """Return the values that occur more than once, each once, in their order.

    >>> repeated(["b", "a", "c", "a", "b"])
    ['b', 'a']
    """
    return [value for value, n in Counter(values).items() if n > 1]


class Described(pydantic.BaseModel):
    """A model that takes no unknown keys, whose fields are described by the texts below them in the source.

    pydantic's ``use_attribute_docstrings`` searches all loaded modules and reads the source again for each class, which
    was a sixth of the start of a command. Models are built with their first object: no command needs all of them.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        for name, text in _texts_below_fields(cls).items():
            if (field := cls.model_fields.get(name)) is not None and field.description is None:
                field.description = text


def _texts_below_fields(kind: type) -> dict[str, str]:
    """Return the texts below the fields of a class of a module, by field; {} where its source cannot be read."""
    try:
        source = inspect.getsource(sys.modules[kind.__module__])
        own = re.search(rf"^class {kind.__name__}\b.*?(?=^[^\s#)]|\Z)", source, re.MULTILINE | re.DOTALL)
        body = ast.parse(own[0]).body[0].body if own else []  # type: ignore[attr-defined]
    except (KeyError, OSError, TypeError, SyntaxError):  # made in a console, or installed without source
        return {}
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def read_yaml(path: Path, what: str) -> Any:
    """Read a YAML file; raises DataError for one that cannot be read, is not YAML, or has a duplicate key.

    The file has at most 4 MiB, and 100,000 values with aliases expanded; a lone surrogate in a text is escaped.
    ``what`` names the kind of file in the message ("recipe", "study", "config").
    """
    import yaml

    text = read_text(path, _MAX_YAML_BYTES, "give a YAML file in UTF-8")
    try:
        return mapped(yaml.load(text, Loader=_strict_loader()), without_surrogates)  # noqa: S506 (a SafeLoader)
    except (LookupError, TypeError, AttributeError) as error:
        raise DataError(f"the {what} {path} is not YAML: a value does not fit its !!tag; correct it") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" (line {mark.line + 1})"
        fault = " ".join(str(getattr(error, "problem", None) or error).split())
        raise DataError(f"the {what} {path} is not YAML{line}: {fault}") from error


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; raises DataError as :func:`read_yaml`."""
    values = read_yaml(path, what)
    if not isinstance(values, dict):
        raise DataError(f"the {what} {path} is not a mapping of keys to values")
    return {str(key): value for key, value in values.items()}


def shipped_recipe(path: Path) -> Path:
    """Return where ``recipes/NAME`` lies in the installed package, if there is no such file here; else ``path``."""
    if path.exists() or path.is_absolute() or path.parts[:1] != ("recipes",):
        return path
    package = Path(__file__).parent
    packaged = package / "recipes" / "_examples"
    inside = (packaged if packaged.is_dir() else package.parent / "recipes").joinpath(*path.parts[1:])
    return inside if inside.is_file() else path


def located(text: TextT, folder: Path) -> TextT:
    """Return a path that a file in ``folder`` names as it is reached from here; any other text, and None, unchanged.

    Relative are what exists there, and what begins with ``./`` or ``../``; ``NAME=PATH`` is one of recorded answers.
    """
    if not text or (path := Path(text).expanduser()).is_absolute():
        return text
    if text.startswith(("./", "../")) or _exists(folder / path):
        return str(folder / path)
    name, equals, rest = text.partition("=")
    return f"{name}={folder / rest}" if equals and rest and _exists(folder / rest) else text


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def checked(
    kind: type[ModelT],
    values: Mapping[str, Any],
    where: str = "",
    *,
    name: Name | None = None,
    known: Known | None = None,
) -> ModelT:
    """Build a model from ``values``; raises one UsageError that names every fault.

    ``where`` begins the message (a file's name). ``name`` and ``known`` as for :func:`faults_of`.
    """
    try:
        return kind(**values)
    except pydantic.ValidationError as error:
        faults = "; ".join(faults_of(error, kind, name=name, known=known))
        raise UsageError(f"{where}: {faults}" if where else faults) from error


def faults_of(
    error: pydantic.ValidationError,
    kind: type[pydantic.BaseModel],
    *,
    name: Name | None = None,
    known: Known | None = None,
) -> list[str]:
    """Put pydantic's faults into our own words, each once, in their order.

    ``name`` prints the location of a fault; by default its path, lists counted from 1. ``known`` returns the keys
    known where an unknown one is; by default the fields of the model there.
    """
    name = name or path_text
    known = known or (lambda loc: _sibling_keys(kind, loc))
    faults = [(_location(fault), fault) for fault in error.errors(include_url=False)]
    within = {loc[:length] for loc, _ in faults for length in range(len(loc))}
    texts: list[str] = []
    expected: dict[tuple[Loc, str], list[str]] = {}
    for loc, fault in faults:
        # A list whose items are at fault is empty to pydantic; the faults of its items say enough.
        if fault["type"] == "too_short" and fault["input"] and loc in within:
            continue
        if (text := _fault(fault, loc, name, known)) is not None:
            texts.append(text)
            continue
        # The members of a union are one fault: what each would take.
        key = (loc, _shown(fault["input"]))
        if key not in expected:
            texts.append(f"\0{len(expected)}")
        text = _EXPECTED.get(fault["type"], "something else")
        expected.setdefault(key, []).append(text.format(**(fault.get("ctx") or {})))
    values = [
        f"{name(loc) or 'the value'} must be {' or '.join(dict.fromkeys(takes))}, not {given}"
        for (loc, given), takes in expected.items()
    ]
    return list(dict.fromkeys(values[int(text[1:])] if text.startswith("\0") else text for text in texts))


def _location(fault: Any) -> Loc:
    loc = tuple(fault["loc"])
    tail = loc[-1:] if fault["type"] in ("extra_forbidden", "missing") else ()
    steps = loc[: len(loc) - len(tail)]
    return (*(step for step in steps if isinstance(step, int) or not _UNION_MEMBER.match(step)), *tail)


def _fault(fault: Any, loc: Loc, name: Name, known: Known) -> str | None:
    """Say what is wrong; None for a value of the wrong kind."""
    if fault["type"] == "value_error":
        where, text = name(loc), str(fault["ctx"]["error"])
        return f"{where}: {text}" if where else text
    parent = name(loc[:-1]) if loc else ""
    if fault["type"] == "extra_forbidden":
        text = unknown("key", str(loc[-1]), known(loc))
        return f"{parent}: {text}" if parent else text
    return f"{name(loc)} is missing" if fault["type"] == "missing" else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def path_text(loc: Loc) -> str:
    """Print where a fault is: ``mix.sources[1].count``, lists counted from 1; "" for the whole."""
    text = ""
    for key in loc:
        text += f"[{key + 1}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def _sibling_keys(kind: type[pydantic.BaseModel], loc: Loc) -> list[str]:
    """Return the keys known where an unknown one is."""
    kinds = [kind]
    for key in loc[:-1]:
        annotations = [one.model_fields[key].annotation for one in kinds if key in one.model_fields]
        kinds = [model for annotation in annotations for model in _models_in(annotation)] or kinds
    return sorted({field.alias or name for one in kinds for name, field in one.model_fields.items()})


def _models_in(annotation: Any) -> Iterator[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _n_values(node: Any, counts: dict[int, float]) -> float:
    """Count the values below a YAML node, those of an alias at each use; infinite where one contains itself."""
    if isinstance(node.value, str):
        return 1
    if id(node) not in counts:
        counts[id(node)] = math.inf
        inner = [each for entry in node.value for each in (entry if isinstance(entry, tuple) else (entry,))]
        counts[id(node)] = 1 + sum(_n_values(each, counts) for each in inner)
    return counts[id(node)]


def _strict_loader() -> Any:
    import yaml

    class Strict(yaml.SafeLoader):
        """A safe loader that refuses a duplicate key, of which YAML would silently take the last, and alias bombs."""

        def get_single_node(self) -> yaml.Node | None:
            root = super().get_single_node()
            if root is not None and _n_values(root, {}) > _MAX_YAML_VALUES:
                raise yaml.constructor.ConstructorError(
                    problem=f"more than {_MAX_YAML_VALUES:,} values once its aliases are expanded"
                )
            return root

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"duplicate key {key.value!r}", problem_mark=key.start_mark
                    )
                seen |= {key.value} if isinstance(key, yaml.ScalarNode) else set()
            return super().construct_mapping(node, deep)

    return Strict
