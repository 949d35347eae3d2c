"""Write evalsuite/api_options.py: the options of the Python verbs as types, from the models of the command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pydantic import BaseModel

from evalsuite.comparison.settings import CompareConfig
from evalsuite.config import Option, RunConfig, options_by_key
from evalsuite.suites.registry import SuiteSpec

HEAD = '''"""The options of ``evalsuite.run`` and ``evalsuite.compare``, written by docs/site/options.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict
'''
SPELLED = {bool: "bool", int: "int", float: "float", str: "str", Path: "str | Path", SuiteSpec: "str"}


def type_text(annotation: Any) -> str:
    """Spell what a caller may give for a field: text for a path, any sequence for a tuple."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(inner[0])
    if origin in (Union, UnionType):
        return " | ".join(type_text(one) for one in inner if one is not type(None))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, inner))}]"
    if origin is tuple:
        return f"Sequence[{type_text(inner[0])}]"
    if origin is Mapping:
        return f"Mapping[{type_text(inner[0])}, {type_text(inner[1])}]"
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return SPELLED.get(annotation) or (annotation.__name__ if is_section else "object")


def block(name: str, base: str, about: str, options: Mapping[str, Option]) -> str:
    """Write the class with these options; ``base`` is the class that it adds to."""
    lines = [f'class {name}({base}, total=False):\n    """{about}; None is the default."""\n']
    return "\n".join(
        [*lines, *(f"    {key}: {type_text(one.field.annotation)} | None" for key, one in options.items())]
    )


def written() -> str:
    """Return the whole module, before ruff has formatted it."""
    run, compare = options_by_key(RunConfig), options_by_key(CompareConfig)
    serving = {key: one for key, one in run.items() if one.block in {"serve", "judge_serve"} and key in compare}
    left_out = {"models", *serving}
    of_run = {key: one for key, one in run.items() if key not in left_out}
    of_compare = {key: one for key, one in compare.items() if key not in {"judge", *left_out}}
    blocks = [
        block("ServingOptions", "TypedDict", "How models and judges are served", serving),
        block("RunOptions", "ServingOptions", "Options of ``evalsuite run``", of_run),
        block("CompareOptions", "ServingOptions", "Options of ``evalsuite compare``", of_compare),
    ]
    return "\n\n".join([HEAD, *blocks]) + "\n"


if __name__ == "__main__":
    path = ROOT / "evalsuite" / "api_options.py"
    path.write_text(written(), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(path)], check=True)
