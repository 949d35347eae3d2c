"""Which checks are made when: all of them for ``evalsuite doctor``, the quick ones by every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evalsuite.checkpoint import Checkpoint, own_code, resolve
from evalsuite.config import RunConfig, SuiteSpec
from evalsuite.doctor.capacity import check_context, check_device_memory, check_disk
from evalsuite.doctor.chat_template import Role, check_template
from evalsuite.doctor.data import check_data
from evalsuite.doctor.finding import Finding, fault, ok, warning
from evalsuite.doctor.installation import check_versions, check_vllm
from evalsuite.doctor.results_folder import check_results
from evalsuite.doctor.scorers import check_scorers
from evalsuite.errors import EvalsuiteError, UsageError
from evalsuite.progress import Progress, Silence
from evalsuite.serving.device import Device
from evalsuite.serving.server import check_port
from evalsuite.serving.session import api_key
from evalsuite.serving.wire import check_endpoint

_NO_CHAT = frozenset({"openllm", "lm_eval"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A model with its role and the suites that still need it; ``attached`` is a running server's URL."""

    checkpoint: Checkpoint
    role: Role
    suites: tuple[SuiteSpec, ...]
    attached: str | None = None

    @property
    def is_served(self) -> bool:
        """Whether a server of ours will be started for it."""
        return self.checkpoint.endpoint is None and self.attached is None


def examine(config: RunConfig, models: Sequence[str], progress: Progress | None = None) -> list[Finding]:
    """Look at everything that a run of ``models`` with this configuration would rest on; starts no server.

    Without models, the installation, the results folder, the data and the scorers. Faults are
    findings, never raised.
    """
    progress = progress or Silence()
    progress.step("looking at the installation and the results folder")
    device, findings = check_vllm()
    findings += check_versions()
    findings += [*check_results(config.results, thorough=True), check_disk(config.results)]
    findings += _port(config)
    words: list[tuple[str, Role]] = [(word, "candidate") for word in models]
    words += [(config.judge_word, "judge")] if config.judge_word and (models or config.judge) else []
    for word, role in words:
        progress.step(f"looking at {word}")
        findings += _model(word, role, config, device)
    progress.step("looking at the data")
    findings += check_data(config.suites, {spec.key: config.suite_options(spec) for spec in config.suites})
    progress.step("trying the scorers")
    findings += check_scorers(config.suites)
    progress.step("")
    return findings


def preflight(config: RunConfig, asked: Sequence[Asked], progress: Progress) -> list[Finding]:
    """Make the checks that a run needs before it starts a server; raises UsageError that names every fault.

    ServerError is raised for another's server, the judge's too, that does not answer now.
    Data was loaded and compared with its pins by then. Scorers are tried for the full data only:
    the mini data is done before they would have been. Returns the findings; warnings are said.
    """
    served = [one for one in asked if one.is_served]
    device, findings = check_vllm() if served else (None, [])
    findings += [*check_results(config.results, thorough=False), check_disk(config.results)]
    for one in asked:
        if not one.is_served:
            _served(one)
        findings += examine_model(one, config, device)
    if config.data == "full":
        progress.step("trying the scorers")
        findings += check_scorers({spec.key: spec for one in asked for spec in one.suites}.values())
        progress.step("")
    for finding in findings:
        if finding.level == "warning":
            progress.say(f"warning: {finding.sentence}")
    if faults := [finding.sentence for finding in findings if finding.level == "fault"]:
        raise UsageError("; ".join(faults))
    return findings


def _model(word: str, role: Role, config: RunConfig, device: Device | None) -> list[Finding]:
    template = config.chat_template if role == "candidate" else None
    file = Path(template).expanduser() if template and not template.startswith("fastchat:") else None
    base_url = config.base_url if role == "candidate" else None
    try:
        checkpoint = resolve(
            word,
            chat_template_file=file,
            base_url=base_url,
            allow_pickle=config.allow_pickle,
            trust_remote_code=config.runs_remote_code,
        )
    except EvalsuiteError as error:
        return [fault("model", word.partition("@")[0], str(error))]
    asked = Asked(checkpoint, role, config.suites, base_url)
    return [*([] if asked.is_served else [_endpoint(asked)]), *examine_model(asked, config, device)]


def examine_model(asked: Asked, config: RunConfig, device: Device | None) -> list[Finding]:
    """Look at a local checkpoint in its role: its template, context and memory; an endpoint's are out of sight."""
    checkpoint = asked.checkpoint
    if checkpoint.path is None:
        return []
    options = config.serve_options()
    names = [spec.name for spec in asked.suites]
    findings = _code(checkpoint)
    template = config.chat_template if asked.role == "candidate" else None
    chats = any(name not in _NO_CHAT for name in names)
    findings += check_template(checkpoint, template, asked.role, chats=chats)
    findings.append(check_context(checkpoint, options, names, asked.role, config.data))
    if asked.is_served and device is not None:
        findings.append(check_device_memory(checkpoint, options, device))
    return findings


def _endpoint(asked: Asked) -> Finding:
    checkpoint = asked.checkpoint
    try:
        served, length = _served(asked)
    except EvalsuiteError as error:
        return fault("server", checkpoint.name, str(error))
    return ok(
        "server", checkpoint.name, f"it answers as {served}" + (f", {length:,} tokens of context" if length else "")
    )


def _served(asked: Asked) -> tuple[str, int | None]:
    """Return the name and context of a running server; raises ServerError or UsageError."""
    checkpoint = asked.checkpoint
    url = checkpoint.endpoint or asked.attached or ""
    return check_endpoint(url, api_key(), checkpoint.name if checkpoint.endpoint else None)


def _code(checkpoint: Checkpoint) -> list[Finding]:
    code = own_code(checkpoint)
    if not code:
        return []
    words = f"it brings its own code ({', '.join(code[:3])})"
    if checkpoint.trust_remote_code:
        return [warning("code", checkpoint.name, f"{words}, which will run as you", "read it before you trust it")]
    remedy = "if the server asks for it and you trust it, pass --trust-remote-code"
    return [warning("code", checkpoint.name, f"{words}, which is not run", remedy)]


def _port(config: RunConfig) -> list[Finding]:
    try:
        check_port(config.serve_options())
    except UsageError as error:
        return [fault("port", "server", str(error))]
    return []
