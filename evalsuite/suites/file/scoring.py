"""Scoring an answer without a judge: 1 for right, 0 for wrong, or what a user's function gives."""

from __future__ import annotations

import importlib.util
import math
import re
import string
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from evalsuite.errors import UsageError, first_line
from evalsuite.fingerprint import read_sha256
from evalsuite.suites.file.definition import Benchmark, ExactSpec, NumericSpec, RegexSpec
from evalsuite.suites.file.prompts import last_number, right_letter
from judges.extraction import parse_choice_by_rule
from judges.types import Choice, Unscored

UserFunction = Callable[[str, str, Mapping[str, Any]], Any]
"""Called with the last user turn, the answer and the row; returns 0 to 1, True, False or None for no score."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def score_answer(benchmark: Benchmark, answer: str, references: Sequence[str], options: Sequence[str]) -> float:
    """Return what an answer is worth by its benchmark's method, 0 or 1; an answer in which nothing is found is 0."""
    score = benchmark.score
    if (spec := score.exact_match) is not None:
        return float(_plain(answer, spec) in {_plain(reference, spec) for reference in references})
    if score.regex is not None:
        return float(_found_right(answer, references, score.regex))
    if score.numeric is not None:
        return float(_equal_number(answer, references, score.numeric))
    if benchmark.method == "choice":
        choice = parse_choice_by_rule(answer, options)
        return float(isinstance(choice, Choice) and choice.letter == right_letter(references[0], options))
    return float(any(_equal_in_math(answer, reference) for reference in references))


def _plain(text: str, spec: ExactSpec) -> str:
    text = text.translate(_PUNCTUATION) if spec.ignore_punctuation else text
    return " ".join((text.casefold() if spec.ignore_case else text).split())


def found_by(spec: RegexSpec, answer: str) -> str | None:
    """Return what a pattern finds in an answer: its first group, or the whole match; None for nothing."""
    flags = re.IGNORECASE if spec.ignore_case else re.NOFLAG
    matches = list(re.finditer(spec.pattern, answer, flags))
    if not matches:
        return None
    match = matches[0] if spec.take == "first" else matches[-1]
    return (match[1] if match.re.groups else match[0]) or ""


def _found_right(answer: str, references: Sequence[str], spec: RegexSpec) -> bool:
    found = found_by(spec, answer)
    if found is None or not references:
        return found is not None
    fold = str.casefold if spec.ignore_case else str
    return fold(found.strip()) in {fold(reference.strip()) for reference in references}


def _equal_number(answer: str, references: Sequence[str], spec: NumericSpec) -> bool:
    number = last_number(answer)
    if number is None:
        return False
    wanted = [value for reference in references if (value := last_number(reference)) is not None]
    return any(math.isclose(number, value, rel_tol=spec.tolerance, abs_tol=1e-9) for value in wanted)


def _equal_in_math(answer: str, reference: str) -> bool:
    from math_verify import parse, verify  # type: ignore[import-untyped]

    # Its limit of seconds is an alarm, which the main thread alone can set.
    seconds = 5 if threading.current_thread() is threading.main_thread() else None
    gold = parse(reference if "$" in reference or "\\boxed" in reference else f"${reference}$", parsing_timeout=seconds)
    return bool(verify(gold, parse(answer, parsing_timeout=seconds), timeout_seconds=seconds))


# A user's function ------------------------------------------------------------------------------------


def _function_file(benchmark: Benchmark) -> Path:
    """Return the source file of the benchmark's function: beside the YAML, or of a module that can be imported.

    Raises UsageError where it is not found; nothing is imported but a module's packages.
    """
    module = str(benchmark.score.function).partition(":")[0]
    is_file = module.endswith(".py")
    beside = benchmark.folder / (module if is_file else f"{module.replace('.', '/')}.py")
    if beside.is_file():
        return beside
    with suppress(ImportError, ValueError):
        spec = None if is_file else importlib.util.find_spec(module)
        if spec is not None and spec.origin:
            return Path(spec.origin)
    raise UsageError(
        f"score.function: {module!r} not found; give a .py file beside the YAML, or a module that can be imported"
    )


def function_sha256(benchmark: Benchmark) -> str:
    """Return the hash of the function's source file, read and not run; raises UsageError where it is not found."""
    return read_sha256(_function_file(benchmark))


def load_function(benchmark: Benchmark) -> UserFunction:
    """Import the benchmark's function, which runs its module; raises UsageError if there is none or it fails."""
    path, name = _function_file(benchmark), str(benchmark.score.function).partition(":")[2]
    module_name = f"_evalsuite_benchmark_{benchmark.name}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
        function = getattr(module, name, None)
    except Exception as error:  # a user's module may raise anything when it is imported
        raise UsageError(f"{path} raises {type(error).__name__} when imported: {first_line(error)}") from error
    if not callable(function):
        raise UsageError(f"{path} has no function {name!r}")
    return function  # type: ignore[no-any-return]


def score_by_function(function: UserFunction, prompt: str, answer: str, row: Mapping[str, Any]) -> float | Unscored:
    """Return what a user's function gives; what it raises, and no number from 0 to 1, is an ``Unscored``."""
    try:
        value = function(prompt, answer, dict(row))
    except Exception as error:  # a user's function may raise anything; the other items stay
        return Unscored("no_score", f"{type(error).__name__}: {first_line(error)}")
    if value is None:
        return Unscored("no_score", "the function gave None")
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        return Unscored("no_score", f"the function gave {value!r:.60}; expected 0 to 1")
    return float(value)
