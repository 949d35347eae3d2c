"""Which checks are made when: all of them for ``evalsuite doctor``, the quick ones by every run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from evalsuite.checkpoint import Checkpoint, remote_code
from evalsuite.config import RunConfig
from evalsuite.doctor.capacity import (
    check_context,
    check_device_memory,
    check_disk,
    check_long_rope,
    check_parallel,
    check_quantised_dtype,
)
from evalsuite.doctor.chat_template import Role, check_template
from evalsuite.doctor.endpoint import check_dialect, check_labels
from evalsuite.doctor.finding import Finding, fault, ok, warning
from evalsuite.doctor.installation import check_image_package, check_versions, check_vllm
from evalsuite.doctor.needs import unmet_needs
from evalsuite.doctor.results_folder import check_results
from evalsuite.doctor.suites import check_data, check_packages, check_scorers
from evalsuite.doctor.weights import check_architecture, check_servable
from evalsuite.errors import EvalsuiteError, UsageError, blamed_on
from evalsuite.progress import NoProgress, Progress
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.device import Device
from evalsuite.serving.identity import name_at_server
from evalsuite.serving.reasoning import described, settled
from evalsuite.serving.server import check_port, context_length
from evalsuite.serving.wire import check_endpoint
from evalsuite.suites.registry import SuiteSpec


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A model with its role and the suites that need it; ``attached`` is the URL of a running server."""

    checkpoint: Checkpoint
    role: Role
    suites: tuple[SuiteSpec, ...]
    attached: str | None = None

    @property
    def is_managed(self) -> bool:
        """Whether a managed server will be started for it."""
        return self.checkpoint.endpoint is None and self.attached is None


def examine(
    config: RunConfig, models: Sequence[str], progress: Progress | None = None, *, ask_judge: bool = False
) -> list[Finding]:
    """Check everything that a run of ``models`` with this configuration depends on.

    Without models, the installation, the results folder, the data and the scorers. Starts no server, unless
    ``ask_judge``: then the judge's, for the label mass of its verdicts. Faults are findings, never raised.
    """
    progress = progress or NoProgress()
    progress.step("checking the installation and the results folder")
    uses: list[tuple[str, Role]] = [(model, "candidate") for model in models]
    uses += [(judge, "judge") for judge in config.judge_specs] if models or config.judge else []
    device, findings = check_vllm(needed=any("@http" not in model for model, _ in uses))
    findings += [*check_versions(), *check_packages()]
    findings += [*check_results(config.results, thorough=True, store=config.store), check_disk(config.results)]
    findings += _check_ports(config)
    for model, role in uses:
        progress.step(f"checking {model}")
        findings += _labelled(_check_model(model, role, config, device, ask=ask_judge and role == "judge"), role)
    progress.step("checking the data")
    options = {spec: config.suite_options_of(spec) for spec in config.suites}
    findings += check_data(options)
    progress.step("checking the scorers")
    findings += check_scorers(options)
    progress.step("")
    return _told_once(findings)


def preflight(config: RunConfig, uses: Sequence[ModelUse], progress: Progress) -> list[Finding]:
    """Make the checks that a run needs before it starts a server; raises UsageError that names every fault.

    Raises ServerError for an external server (the judge's too) that does not answer. Data are loaded and compared
    with their pins by then. Scorers are tried for the full data only: a run on mini data takes no longer than that.
    Returns the findings; warnings are logged.
    """
    managed = [use for use in uses if use.is_managed]
    device, findings = check_vllm() if managed else (None, [])
    findings += [*check_results(config.results, thorough=False, store=config.store), check_disk(config.results)]
    for use in uses:
        if not use.is_managed:
            with nullcontext() if use.role == "candidate" else blamed_on(f"judge {use.checkpoint.name}"):
                _server_of(use, _serving(config, use.role))
        findings += _labelled(examine_model(use, config, device), use.role)
    if config.data == "full":
        progress.step("checking the scorers")
        findings += check_scorers({spec: config.suite_options_of(spec) for use in uses for spec in use.suites})
        progress.step("")
    for finding in findings:
        if finding.level == "warning":
            progress.log(f"warning: {finding.sentence}")
    if faults := [finding.sentence for finding in findings if finding.level == "fault"]:
        raise UsageError("; ".join(faults))
    return findings


def _told_once(findings: Sequence[Finding]) -> list[Finding]:
    """Leave out a suite's fault that an earlier check found too: a missing package stops data and scorer alike."""
    first: dict[object, Finding] = {}
    for number, finding in enumerate(findings):
        repeats = finding.level == "fault" and finding.check in ("packages", "data", "scorer")
        first.setdefault(finding.message if repeats else number, finding)
    return list(first.values())


def _serving(config: RunConfig, role: Role) -> ServeConfig:
    return config.serve if role == "candidate" else config.judge_serving


def _check_model(model: str, role: Role, config: RunConfig, device: Device | None, *, ask: bool) -> list[Finding]:
    base_url = config.base_url if role == "candidate" else None
    try:
        checkpoint = _serving(config, role).resolve(model, base_url=base_url)
    except EvalsuiteError as error:
        return [fault("model", model.partition("@")[0], str(error))]
    use = ModelUse(checkpoint, role, config.suites, base_url)
    serve = _serving(config, role)
    first = check_architecture(checkpoint) if use.is_managed else [_check_server(use, serve)]
    if not use.is_managed and first[0].level == "ok":
        first = [*first, *check_dialect(checkpoint, serve, role, base_url, config.results)]
    needs = unmet_needs(config, checkpoint).values() if role == "candidate" else ()
    findings = [*first, *needs, *examine_model(use, config, device)]
    if ask and use.is_managed and all(finding.level != "fault" for finding in findings):
        findings += check_labels(checkpoint, serve)
    return findings


def examine_model(use: ModelUse, config: RunConfig, device: Device | None) -> list[Finding]:
    """Check a local checkpoint in its role: its template, context and memory; an endpoint's are unknown."""
    checkpoint = use.checkpoint
    if checkpoint.path is None:
        return []
    serve = _serving(config, use.role)
    needs_chat = any(spec.suite.needs_chat for spec in use.suites)
    findings = [*_check_code(checkpoint), *check_servable(checkpoint)]
    findings += check_template(checkpoint, serve.fastchat_template, use.role, needs_chat=needs_chat)
    findings += _check_thinking(checkpoint, serve)
    findings.append(check_context(checkpoint, serve, use.suites, use.role, config.data))
    if use.is_managed:
        findings += check_image_package(checkpoint)
        findings += [*check_long_rope(checkpoint, serve), *check_parallel(checkpoint, serve)]
    if use.is_managed and device is not None:
        findings += check_quantised_dtype(checkpoint, serve, device)
        findings.append(check_device_memory(checkpoint, serve, device))
    return findings


def _check_server(use: ModelUse, serve: ServeConfig) -> Finding:
    try:
        served, length = _server_of(use, serve)
    except EvalsuiteError as error:
        return fault("server", use.checkpoint.name, str(error))
    message = f"answers as {served}" + (f", {length:,} tokens of context" if length else "")
    return ok("server", use.checkpoint.name, message)


def _server_of(use: ModelUse, serve: ServeConfig) -> tuple[str, int | None]:
    """Return the name and context of an external server; raises ServerError or UsageError."""
    checkpoint = use.checkpoint
    url = checkpoint.endpoint or use.attached or ""
    return check_endpoint(url, name_at_server(checkpoint), serve.api_key_env)


def _labelled(findings: Sequence[Finding], role: Role) -> list[Finding]:
    """Say of every finding whether it is about the model or the judge, which may have one name."""
    word = "judge" if role == "judge" else "model"
    return [replace(finding, about=f"{word} {finding.about}") for finding in findings]


def _check_code(checkpoint: Checkpoint) -> list[Finding]:
    if not (code := remote_code(checkpoint)):
        return []
    effect, remedy = "is not run", "if the server asks for it and you trust it, pass --trust-remote-code"
    if checkpoint.trust_remote_code:
        effect, remedy = "runs with your privileges", "read it before you trust it"
    return [warning("code", checkpoint.name, f"it has its own code ({', '.join(code[:3])}), which {effect}", remedy)]


def _check_thinking(checkpoint: Checkpoint, serve: ServeConfig) -> list[Finding]:
    """Decide how a model thinks, as a run does; nothing is said of one that does not."""
    try:
        reasoning = settled(checkpoint, serve)
    except EvalsuiteError as error:
        return [fault("thinking", checkpoint.name, str(error))]
    findings = [warning("thinking", checkpoint.name, note) for note in reasoning.notes]
    if reasoning.style is not None:
        findings.append(ok("thinking", checkpoint.name, described(reasoning, context_length(checkpoint, serve))))
    return findings


def _check_ports(config: RunConfig) -> list[Finding]:
    faults: dict[str, None] = {}
    for serve in (config.serve, config.judge_serving):
        try:
            check_port(serve)
        except UsageError as error:
            faults[str(error)] = None
    return [fault("port", "server", message) for message in faults]
