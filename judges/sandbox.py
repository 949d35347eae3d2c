"""A Jinja sandbox for untrusted templates, in which no short expression can exhaust memory."""

from __future__ import annotations

import operator as arithmetic
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

_FILTERS = """
capitalize count default dictsort e escape first groupby int float items join last length list lower map max min reject
rejectattr replace reverse round select selectattr sort string sum title tojson trim truncate unique upper wordcount
"""
"""Filters that a prompt may need; those that pad to a given length (center, format, indent, batch) are left out."""

_PADDING = frozenset({"center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill"})
_NUMBERS_ONLY: Mapping[str, Callable[[Any, Any], Any]] = {"*": arithmetic.mul, "%": arithmetic.mod}


class PromptSandbox(SandboxedEnvironment):
    """Jinja's sandbox with arithmetic restricted to numbers and without padding.

    A template can still be slow (nested loops), but it cannot allocate gigabytes in one step.
    """

    intercepted_binops = frozenset({*_NUMBERS_ONLY, "**"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.filters = {name: self.filters[name] for name in _FILTERS.split()}
        del self.globals["lipsum"]

    def call_binop(self, _: Context, operator: str, left: Any, right: Any) -> Any:
        """Evaluate ``*`` and ``%`` of numbers; raises SecurityError for other operands and for powers."""
        if operator not in _NUMBERS_ONLY or not (isinstance(left, Real) and isinstance(right, Real)):
            raise SecurityError(f"{operator!r} is only allowed between numbers, and powers are not allowed")
        return _NUMBERS_ONLY[operator](left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: object) -> bool:
        """Block the padding methods of strings."""
        return not (isinstance(obj, str) and attr in _PADDING) and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, _: Any) -> None:
        """Disable ``str.format``: a width in it pads to any length."""
        return
