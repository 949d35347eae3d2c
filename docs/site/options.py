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
from evalsuite.config import Config, RunConfig, options_by_key
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


def block(name: str, kind: type[Config], own: set[str]) -> str:
    """Write the class with the options of one command but those that the function names itself (``own``)."""
    about = f"Options of ``evalsuite {kind.command}``; None is the default."
    lines = [f'class {name}(TypedDict, total=False):\n    """{about}"""\n']
    for key, option in options_by_key(kind).items():
        if key not in own:
            lines.append(f"    {key}: {type_text(option.field.annotation)} | None")
    return "\n".join(lines)


def written() -> str:
    """Return the whole module, before ruff has formatted it."""
    blocks = [block("RunOptions", RunConfig, {"models"}), block("CompareOptions", CompareConfig, {"models", "judge"})]
    return "\n\n".join([HEAD, *blocks]) + "\n"


if __name__ == "__main__":
    path = ROOT / "evalsuite" / "api_options.py"
    path.write_text(written(), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(path)], check=True)
