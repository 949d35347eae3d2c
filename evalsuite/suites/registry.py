"""The suites by name: a literal table of our own, extended by entry points.

A package of your own declares its suites in its pyproject.toml:

    [project.entry-points."evalsuite.suites"]
    toy = "my_package.toy:Toy"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pydantic
from pydantic.fields import FieldInfo

from evalsuite.assets.asset import Asset
from evalsuite.assets.pins import SHARED
from evalsuite.errors import UsageError, first_line, unknown
from evalsuite.packages import require
from evalsuite.suites.base import Suite
from evalsuite.suites.file.options import FileOptions
from evalsuite.suites.options import SuiteOptions, own_names
from evalsuite.validation import checked, faults_of

GROUP = "evalsuite.suites"
_BUILT_IN = (
    "evalsuite.suites.mt_bench.suite:MtBench",
    "evalsuite.suites.mt_bench.pairwise:MtBenchPairwise",
    "evalsuite.suites.alpaca_eval.suite:AlpacaEval",
    "evalsuite.suites.arena_hard.suite:ArenaHard",
    "evalsuite.suites.openllm.suite:OpenLLM",
    "evalsuite.suites.mixeval.suite:MixEval",
    "evalsuite.suites.harness.suite:LmEvalTasks",
)


_IN_FILES: dict[str, Suite] = {}
"""The benchmarks in files that this process has read, by name: from their YAML, or from the results of one."""


class SuiteSpec(pydantic.BaseModel):
    """One suite with the parts asked of it; ``key`` is its name in scores.json, ``file`` the YAML that holds it."""

    model_config = pydantic.ConfigDict(frozen=True, defer_build=True)

    name: str
    parts: tuple[str, ...] = ()
    file: str = pydantic.Field(default="", exclude=True)

    @property
    def suite(self) -> Suite:
        return suites()[self.name]

    @property
    def key(self) -> str:
        return self.suite.key(self.parts)


def suites() -> Mapping[str, Suite]:
    """Return all suites by name, in the order of the tables: those installed, and those of files that were read."""
    return {**installed_suites(), **_IN_FILES} if _IN_FILES else installed_suites()


@cache
def installed_suites() -> Mapping[str, Suite]:
    """Return the installed suites by name, in their order; a broken one of somebody else's is left out and named."""
    found: list[Suite] = [resolve_name(reference)() for reference in _BUILT_IN]
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
        suite = _load_entry(entry, {key for suite in found for key in keys_of(suite)})
        found += [] if suite is None else [suite]
    return {suite.name: suite for suite in sorted(found, key=lambda suite: (suite.order, suite.name))}


@cache
def broken_suites() -> list[str]:
    """Return a sentence for each suite of a package that cannot be used, filled by :func:`installed_suites`."""
    return []


def keys_of(suite: Suite) -> tuple[str, ...]:
    """Return the keys in scores.json that belong to a suite."""
    return tuple(suite.titles) or (suite.name,)


def suites_by_key() -> dict[str, Suite]:
    """Return the suites by their keys in scores.json, in the order of the tables."""
    return {key: suite for suite in suites().values() for key in keys_of(suite)}


def suite_of_key(key: str) -> Suite | None:
    """Return the suite whose object is under ``key`` in scores.json; None for one that is not installed here."""
    return suites_by_key().get(key)


def in_order(keys: Sequence[str]) -> list[str]:
    """Return keys of scores.json in the order of the tables, unknown ones last."""
    known = suites_by_key()
    return [key for key in known if key in keys] + sorted(set(keys) - known.keys())


def iter_suites(keys: Sequence[str]) -> list[tuple[str, Suite]]:
    """Return (key, suite) for the keys of a scores.json whose suites are installed here, in the order of the tables."""
    return [(key, suite) for key, suite in suites_by_key().items() if key in keys]


def default_suites() -> tuple[SuiteSpec, ...]:
    """Return the suites that ``run`` runs without --suite."""
    return tuple(SuiteSpec(name=suite.name) for suite in suites().values() if suite.in_default)


def prompt_suites() -> list[str]:
    """Return the suites whose items are conversations asked one by one, which serve as prompts of other commands."""
    return [suite.name for suite in suites().values() if suite.needs_chat and not suite.whole]


def suite_named(name: str) -> Suite:
    """Return a suite; raises UsageError with the nearest name, and with what keeps a broken one from being used."""
    found = suites().get(name)
    if found is None:
        broken = "".join(f"; {sentence}" for sentence in broken_suites())
        raise UsageError(unknown("suite", name, list(suites())) + broken)
    return found


def parse_suite(spec: str, *, recorded: bool = False) -> SuiteSpec:
    """Read ``NAME`` or ``NAME:PART,PART``; raises UsageError with the nearest known name.

    A YAML file of your own is a suite too. A suite that must be asked for its parts needs none where they are
    ``recorded`` in a file.
    """
    if spec.endswith((".yaml", ".yml")):
        return SuiteSpec(name=read_file(Path(spec).expanduser()).name, file=spec)
    if (mode := next((one for one in suites().values() if one.also == spec.strip()), None)) is not None:
        return SuiteSpec(name=mode.name)
    name, _, rest = spec.partition(":")
    suite = suite_named(name.strip())
    parts = suite.expanded(tuple(part.strip() for part in rest.split(",") if part.strip()))
    if parts or not recorded:
        suite.check_parts(parts)
    return SuiteSpec(name=suite.name, parts=parts)


def require_packages(spec: SuiteSpec) -> None:
    """Raise UsageError if a package is not installed that the figures of a suite need."""
    require(f"the suite {spec.name}", *spec.suite.packages)


def installed_names() -> set[str]:
    """Return the names and keys of the installed suites, which no file's benchmark may have."""
    return {key for one in installed_suites().values() for key in (one.name, *keys_of(one))}


def read_file(path: Path) -> Suite:
    """Read the benchmark of a YAML file and make it known under its name.

    Raises DataError or UsageError with all that is wrong with it, and where its name belongs to an installed suite or
    to another file.
    """
    from evalsuite.suites.file.suite import FileSuite, suite_in

    suite = suite_in(path)
    if suite.name in installed_names():
        raise UsageError(f"{path}: the name {suite.name!r} is taken by an installed suite; give the benchmark another")
    other = _IN_FILES.get(suite.name)
    if isinstance(other, FileSuite) and not other.recorded_sha256 and other.benchmark.folder != suite.benchmark.folder:
        raise UsageError(f"{path}: another file is called {suite.name!r} too; give one of them another name")
    _IN_FILES[suite.name] = suite
    return suite


def know_recorded(scores: Mapping[str, Mapping[str, Any]]) -> None:
    """Make the benchmarks in files known that a scores.json describes, so that their figures have columns and items."""
    for key, figures in scores.items():
        described = figures.get("benchmark")
        if key not in suites() and isinstance(described, Mapping) and described.get("name") == key:
            from evalsuite.suites.file.suite import recorded_suite

            suite = recorded_suite(described)
            if suite is not None:
                _IN_FILES[key] = suite


def all_assets() -> dict[str, Asset]:
    """Return every pinned asset by its name: the suites' own in the order of the tables, then the shared ones."""
    own = {name: asset for suite in suites().values() for name, asset in suite.assets.items()}
    return own | {name: asset for name, asset in SHARED.items() if name not in own}


def option_fields() -> Mapping[str, tuple[str, FieldInfo]]:
    """Return the suites' own options by flag: (field name, field); suites that share an option share its flag."""
    found: dict[str, tuple[str, FieldInfo]] = {}
    kinds: list[type[SuiteOptions]] = [suite.options_type for suite in installed_suites().values()]
    kinds.append(FileOptions)
    for kind in kinds:
        for flag, name in own_names(kind).items():
            found.setdefault(flag, (name, kind.model_fields[name]))
    return found


def option_faults(given: Mapping[str, Any]) -> list[str]:
    """Say which of the suites' own options, by flag, are unknown or have a value that they do not take."""
    known = option_fields()
    faults = [unknown("option", flag, list(known)) for flag in given if flag not in known]
    for suite in suites().values():
        for flag, name in own_names(suite.options_type).items():
            if given.get(flag) is None:
                continue
            try:
                suite.options_type(**{name: given[flag]})
            except pydantic.ValidationError as error:
                label = f"--{flag.replace('_', '-')}"
                faults += faults_of(error, suite.options_type, name=lambda loc: label if loc else "")  # noqa: B023 - called at once
    return list(dict.fromkeys(faults))


def options_of(suite: Suite, shared: Mapping[str, Any], own: Mapping[str, Any], *, has_judge: bool) -> SuiteOptions:
    """Build a suite's options from the shared ones and from flags; a flag of another suite is not its business.

    Raises UsageError for a value that an option does not take.
    """
    chosen = {name: own[flag] for flag, name in own_names(suite.options_type).items() if own.get(flag) is not None}
    return checked(suite.options_type, suite.resolve_options({**shared, **chosen}, has_judge=has_judge))


def _load_entry(entry: metadata.EntryPoint, taken: set[str]) -> Suite | None:
    package = entry.dist.name if entry.dist is not None else entry.value.partition(":")[0]
    try:
        loaded = entry.load()
        suite = loaded() if isinstance(loaded, type) else loaded
        fault = _fault(suite, taken)
    except Exception as error:  # a foreign package may raise anything when imported; the others are still there
        fault = f"raises {type(error).__name__}: {first_line(error)}; fix or uninstall"
    if fault:
        broken_suites().append(f"suite {entry.name!r} of the package {package} {fault} {package}")
    return None if fault else suite


def _fault(suite: Any, taken: set[str]) -> str:
    """Say what keeps an object from being a suite, and what to do with its package; "" for nothing."""
    if not isinstance(suite, Suite):
        return "is not a Suite (evalsuite.suites.base); derive it from Suite, or uninstall"
    missing = [name for name in ("name", "title") if not isinstance(getattr(suite, name, None), str)]
    core = ("load", "run_whole") if suite.whole else ("load", "row", "answer", "mark")
    missing += [name for name in core if getattr(type(suite), name) is getattr(Suite, name)]
    if missing:
        return f"has no {', '.join(missing)}; add it to the package, or uninstall"
    duplicates = sorted(taken.intersection(keys_of(suite)))
    return f"has the name {duplicates[0]!r}, which is taken; rename it, or uninstall" if duplicates else ""
