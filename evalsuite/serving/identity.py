"""Which model an external server has: its name and what the server reports of it, not its address."""

from __future__ import annotations

import json
import time
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.errors import EvalsuiteError, UsageError
from evalsuite.fingerprint import text_sha256
from evalsuite.progress import Progress
from evalsuite.redaction import without_secrets
from evalsuite.serving.wire import listed_models

_TOLD = ("root", "owned_by", "max_model_len", "context_length", "context_window", "meta")
_TELLING = frozenset({"root", "created", "meta"})
_FRESH_S = 86_400.0
"""vLLM and others write the time of the request as ``created``; a model is older than a day."""


def identified(checkpoint: Checkpoint, key_variable: str | None) -> Checkpoint:
    """Return an endpoint with a fingerprint of its name and of what ``/v1/models`` tells of it, and with that.

    The URL is not part of it: the same model may move, or be served at several. ``served`` stays None where the server
    does not answer, and everything that asks it says so.
    """
    if checkpoint.endpoint is None:
        return checkpoint
    try:
        told = told_of(listed_models(checkpoint.endpoint, key_variable).get(checkpoint.name) or {}, checkpoint.name)
    except EvalsuiteError:
        return checkpoint
    text = json.dumps(told, sort_keys=True)
    fingerprint = text_sha256(f"endpoint\x1f{checkpoint.name}\x1f{text}")
    return replace(checkpoint, fingerprint=fingerprint, served=told)


def told_of(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what an entry of ``/v1/models`` tells of the model; the time of the request is not."""
    told = {key: entry[key] for key in _TOLD if entry.get(key) is not None and (key != "root" or entry[key] != name)}
    created = entry.get("created")
    if isinstance(created, int) and 0 < created < time.time() - _FRESH_S:
        told["created"] = created
    return told


def name_at_server(checkpoint: Checkpoint) -> str | None:
    """Return the name that an endpoint knows its model by; None for a local checkpoint."""
    return None if checkpoint.endpoint is None else checkpoint.served_name or checkpoint.name


def warn_of_silent_servers(checkpoints: Iterable[Checkpoint], progress: Progress) -> None:
    """Log one line that names the models whose servers report nothing that changes with the weights."""
    silent = dict.fromkeys(
        each.name for each in checkpoints if each.served is not None and not each.served.keys() & _TELLING
    )
    if silent:
        progress.log(
            f"warning: the server of {', '.join(silent)} reports nothing that changes with the weights; if other "
            "weights are served under the same name, the stored answers are still used: run has --ask-again, generate "
            "--fresh, and evalsuite forget NAME deletes them"
        )


def refuse_twins(checkpoints: Iterable[Checkpoint], role: str = "model", remedy: str = "") -> None:
    """Raise UsageError for a duplicate model, and for servers whose models nothing tells apart.

    A ``role`` other than "model" has no separate name: the same weights under two names are one.
    """
    first: dict[Hashable, Checkpoint] = {}
    for each in checkpoints:
        key = (each.fingerprint, each.chat_template, each.name if role == "model" else "")
        if (other := first.setdefault(key, each)) is each:
            continue
        if each.endpoint == other.endpoint:
            raise UsageError(f"duplicate {role} {each.name}")
        urls = " and ".join(without_secrets(one.endpoint or str(one.path)) for one in (other, each))
        raise UsageError(
            f"{each.name} is served at {urls}, and the servers report nothing that differs; serve one of them under "
            f"another name{remedy}"
        )


def renamed(checkpoint: Checkpoint, name: str | None) -> Checkpoint:
    """Return a model under the name that the user gives it in the results; an endpoint is another model then."""
    if name is None:
        return checkpoint
    if checkpoint.endpoint is None:
        return replace(checkpoint, name=name)
    fingerprint = text_sha256(f"{checkpoint.fingerprint}\x1f{name}")
    return replace(checkpoint, name=name, served_name=checkpoint.name, fingerprint=fingerprint)
