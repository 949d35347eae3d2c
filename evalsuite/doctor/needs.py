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
    found = {spec: _unmet(spec, config, checkpoint) for spec in config.suites}
    return {spec: finding for spec, finding in found.items() if finding is not None}


def _unmet(spec: SuiteSpec, config: RunConfig, checkpoint: Checkpoint) -> Finding | None:
    try:
        require_packages(spec)
    except UsageError as error:
        return fault("packages", spec.key, str(error))
    suite, options = spec.suite, config.suite_options_of(spec)
    if suite.needs_judge(options) and not (config.no_judge or config.judge_specs):
        remedy = "pass --judge MODEL, or --no-judge to record the answers now"
        return fault("judge", spec.key, "scored by a judge", remedy)
    if not suite.whole:
        # Its data are read before anything is asked.
        return None
    if checkpoint.path is None:
        remedy = "give the checkpoint's folder as MODEL and its server as --base-url"
        return fault("tokenizer", spec.key, f"scores tokens, and {checkpoint.name} has no local tokenizer", remedy)
    faults = (finding for finding in check_data({spec: options}) if finding.level == "fault")
    has_nothing = not suite.data_pins(options) and bool(suite.absent_data(options))
    return next(faults, None) if has_nothing else None
