"""What each suite needs before anything is asked: its packages, a judge, the model's tokens, its data."""

from __future__ import annotations

from evalsuite.checkpoint import Checkpoint
from evalsuite.config import RunConfig
from evalsuite.doctor.finding import Finding, fault
from evalsuite.doctor.suites import check_data
from evalsuite.errors import UsageError
from evalsuite.suites.registry import SuiteSpec, require_packages


def unmet_needs(config: RunConfig, checkpoint: Checkpoint) -> dict[SuiteSpec, Finding]:
    """Return the suites of a run that cannot work on this model, each with one fault that names the remedy."""
    checks = (_packages_missing, _judge_missing, _tokenizer_missing, _data_missing)
    unmet: dict[SuiteSpec, Finding] = {}
    for spec in config.suites:
        for finding in (check(spec, config, checkpoint) for check in checks):
            if finding is not None:
                unmet.setdefault(spec, finding)
    return unmet


def _packages_missing(spec: SuiteSpec, _: RunConfig, __: Checkpoint) -> Finding | None:
    try:
        require_packages(spec)
    except UsageError as error:
        return fault("packages", spec.key, str(error))
    return None


def _judge_missing(spec: SuiteSpec, config: RunConfig, _: Checkpoint) -> Finding | None:
    needed = spec.suite.needs_judge(config.suite_options_of(spec))
    if not needed or config.no_judge or config.judge_specs:
        return None
    return fault("judge", spec.key, "scored by a judge", "pass --judge MODEL, or --no-judge to record the answers now")


def _tokenizer_missing(spec: SuiteSpec, _: RunConfig, checkpoint: Checkpoint) -> Finding | None:
    if not spec.suite.whole or checkpoint.path is not None:
        return None
    remedy = "give the checkpoint's folder as MODEL and its server as --base-url"
    return fault("tokenizer", spec.key, f"scores tokens, and {checkpoint.name} has no local tokenizer", remedy)


def _data_missing(spec: SuiteSpec, config: RunConfig, _: Checkpoint) -> Finding | None:
    """Look for the data of a suite that loads them late; the others' are read before anything is asked."""
    if not spec.suite.whole:
        return None
    options = config.suite_options_of(spec)
    found = check_data({spec: options})
    nothing = not spec.suite.data_pins(options) and bool(spec.suite.absent_data(options))
    return next((finding for finding in found if finding.level == "fault" and nothing), None)
