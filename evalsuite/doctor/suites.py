"""The suites to be run: whether their packages work, their data are present as pinned, and their scorers score."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

from evalsuite.doctor.finding import Finding, fault, ok, warning
from evalsuite.errors import EvalsuiteError, UsageError, first_line
from evalsuite.suites.base import Suite
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.registry import GROUP, SuiteSpec, broken_suites, require_packages, suites
from evalsuite.suites.types import NOT_ASKED
from evalsuite.text import plural


def check_packages() -> list[Finding]:
    """Warn about suites of installed packages that cannot be used; the others still work."""
    suites()  # fills broken_suites
    return [warning("suites", "installation", sentence) for sentence in broken_suites()]


def check_data(options: Mapping[SuiteSpec, SuiteOptions]) -> list[Finding]:
    """Compare each suite's data with their pins; ``options`` are those of each suite to be run."""
    findings: list[Finding] = []
    for spec, own in options.items():
        try:
            findings += _data_findings(spec, own)
        except EvalsuiteError as error:
            findings.append(fault("data", spec.key, str(error)))
        except Exception as error:  # a suite of another package may raise anything
            findings.append(_failure("data", spec, "its data cannot be loaded", error))
    return findings


def _data_findings(spec: SuiteSpec, options: SuiteOptions) -> list[Finding]:
    suite = spec.suite
    require_packages(spec)
    if suite.whole:
        # Its tasks take seconds to load; the pins alone do not.
        pins, absent = suite.data_pins(options), suite.absent_data(options)
    else:
        loaded = suite.load(options)
        # On a part of the data some figures are missing by design.
        pins, absent = loaded.data_pins, loaded.missing if options.data == "full" and options.limit is None else {}
    absent = {part: reason for part, reason in absent.items() if reason != NOT_ASKED}
    if absent and not pins:
        return [fault("data", spec.key, f"no {part}: {reason}") for part, reason in absent.items()]
    findings = []
    for part, reason in absent.items():
        asset = suite.assets.get(f"{suite.name}/{part}")
        # The authors of gated data give access on request, and a run does without.
        level = fault if asset is not None and not asset.gated else warning
        findings.append(level("data", spec.key, f"no {part}: {reason}"))
    other = [name for name, pin in pins.items() if not pin.pinned and pin.source != "mini"]
    if not pins:
        message = "its data are not pinned, so its figures may change with their version"
        return [*findings, warning("data", spec.key, message)]
    if other:
        message = f"{', '.join(other)} differs from its pin, so figures cannot be compared with others"
        return [*findings, warning("data", spec.key, message, "see 'evalsuite data verify'")]
    return [
        *findings,
        ok(
            "data",
            spec.key,
            f"{plural(len(pins), 'pinned file or data set', 'pinned files or data sets')} present, checksums OK",
        ),
    ]


def check_scorers(options: Mapping[SuiteSpec, SuiteOptions]) -> list[Finding]:
    """Try each suite's scorer on answers whose score is known; call it on the main thread (MATH's sets alarms)."""
    return [_scorer_finding(spec, own) for spec, own in options.items()]


def _scorer_finding(spec: SuiteSpec, options: SuiteOptions) -> Finding:
    try:
        require_packages(spec)
        message = spec.suite.scorer_fault(options)
    except UsageError as error:
        return fault("scorer", spec.key, str(error))
    except Exception as error:  # scorers are untrusted code; whatever stops one is what this check looks for
        return _failure("scorer", spec, "its scorer fails", error)
    if message:
        return fault("scorer", spec.key, f"its scorer is wrong: {message}", _remedy(spec.suite))
    return ok("scorer", spec.key, "its scorer works")


def _failure(check: str, spec: SuiteSpec, message: str, error: Exception) -> Finding:
    text = f"{message} ({type(error).__name__}: {first_line(error)})"
    return fault(check, spec.key, text, f"{_remedy(spec.suite)}, or leave the suite out of --suite")


def _remedy(suite: Suite) -> str:
    package = package_of(suite)
    return "install evalsuite again" if package is None else f"fix or update the package {package}"


def package_of(suite: Suite) -> str | None:
    """Return the package that a suite comes from, None for one of evalsuite's own."""
    root = type(suite).__module__.partition(".")[0]
    if root == __name__.partition(".")[0]:
        return None
    entries = (entry for entry in metadata.entry_points(group=GROUP) if entry.module.partition(".")[0] == root)
    return next((entry.dist.name for entry in entries if entry.dist is not None), root)
