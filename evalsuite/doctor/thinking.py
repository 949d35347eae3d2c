"""How a checkpoint thinks: what was found in its template and tokenizer, and where these disagree."""

from __future__ import annotations

from evalsuite.checkpoint import Checkpoint
from evalsuite.doctor.finding import Finding, fault, ok, warning
from evalsuite.errors import EvalsuiteError
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.reasoning import described, settled
from evalsuite.serving.server import context_length


def check_thinking(checkpoint: Checkpoint, serve: ServeConfig) -> list[Finding]:
    """Decide how a model thinks, as a run does; nothing is said of one that does not."""
    try:
        reasoning = settled(checkpoint, serve)
    except EvalsuiteError as error:
        return [fault("thinking", checkpoint.name, str(error))]
    findings = [warning("thinking", checkpoint.name, note) for note in reasoning.notes]
    if reasoning.style is not None:
        findings.append(ok("thinking", checkpoint.name, described(reasoning, context_length(checkpoint, serve))))
    return findings
