"""What a server answers to a few short questions: its dialect, guides, and a judge's labels."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.doctor.chat_template import Role
from evalsuite.doctor.finding import Finding, fault, ok, warning
from evalsuite.errors import EvalsuiteError
from evalsuite.serving.client import Client
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.known_servers import FILE as SERVERS_FILE
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.requests import Guide, Sampling
from evalsuite.serving.session import Session
from evalsuite.store import Store
from evalsuite.suites.judging import probe_labels
from judges.labels import MASS_HALF
from judges.templates import judge_template
from judges.types import Message, Unscored
from judges.verdicts import LABELS, TEMPLATES, Request, comparison_prompt, key_of

_QUESTION = [Message("system", "You answer briefly."), Message("user", "What is the capital of France?")]
_ASKED = "What is the capital of France?"
_RANKED = f"Which answer to '{_ASKED}' is better? m: 'Paris'. M: 'Rome'. Write m or M, nothing else."


def check_dialect(
    checkpoint: Checkpoint, serve: ServeConfig, role: Role, base_url: str | None, results: Path
) -> list[Finding]:
    """Ask an external server's chat endpoint a few tokens' worth: what it refuses, and how it gives a verdict.

    What is found out is kept in ``results``, if that folder exists, for the runs there.
    """
    servers = results / SERVERS_FILE if results.is_dir() else None
    return _asked(checkpoint, serve, base_url, "dialect", lambda client: _examined(client, role, servers), servers)


def check_labels(checkpoint: Checkpoint, serve: ServeConfig) -> list[Finding]:
    """Start the server of a judge and ask it one comparison each way that verdicts by log-probabilities are asked."""
    return _asked(checkpoint, serve, None, "labels", _labels)


def _asked(
    checkpoint: Checkpoint,
    serve: ServeConfig,
    base_url: str | None,
    check: str,
    ask: Callable[[Client], Coroutine[Any, Any, list[Finding]]],
    servers: Path | None = None,
) -> list[Finding]:
    with tempfile.TemporaryDirectory() as folder, LoopThread() as loop:
        try:
            with (
                closing(Store(Path(folder) / "store.sqlite")) as store,
                Session(
                    checkpoint,
                    store,
                    serve,
                    Path(folder) / "log",
                    base_url=base_url,
                    servers=servers,
                    relearn=True,
                ) as session,
            ):
                try:
                    return loop.wait(ask(session.client))
                finally:
                    loop.wait(session.client.close())
        except EvalsuiteError as error:
            return [fault(check, checkpoint.name, str(error))]


async def _examined(client: Client, role: Role, servers: Path | None) -> list[Finding]:
    name = client.model_name
    answer = await client.chat(_QUESTION, Sampling(max_new_tokens=16))
    if isinstance(answer, Unscored):
        return [fault("dialect", name, f"it does not answer ({answer.reason}: {answer.detail})")]
    findings = []
    if role == "judge":
        begun = [*_QUESTION, Message("assistant", "Rating: [[")]
        closed = await client.chat(begun, Sampling(max_new_tokens=16), Guide(choice=("1]]", "2]]")))
        guided = not isinstance(closed, Unscored) and closed.text in ("1]]", "2]]")
        lost = "a reply without a verdict stays unscored"
        findings = [
            ok("guide", name, "it follows guided output")
            if guided
            else warning("guide", name, f"it ignores guided output: {lost}"),
            *await _labels(client),
        ]
    if servers is not None:
        await client.look_for_drift()
    told = client.server_told.get("server") or {}
    if changed := told.get("changed"):
        findings.append(warning("drift", name, changed, "it may have other weights; --ask-again asks everything again"))
    left_out = f"; refuses {', '.join(told['left_out'])}" if told.get("left_out") else ""
    return [ok("dialect", name, f"{told.get('dialect', 'vLLM')}{left_out}"), *findings]


async def _labels(client: Client) -> list[Finding]:
    """Say how much of the next token's probability the labels of one comparison have, in any spelling.

    The labels are those of a benchmark's verdicts, and our own.
    """
    request, answers = Request((_ASKED,)), (["Paris."], ["Rome."])
    ours = comparison_prompt(judge_template(TEMPLATES["verdict"]), request, *answers, key=key_of(request, *answers))
    questions: Mapping[tuple[str, ...], Sequence[Message]] = {("m", "M"): [Message("user", _RANKED)], LABELS: ours}
    findings = []
    for labels, question in questions.items():
        why, mass = await probe_labels(client, labels, question)
        named = " and ".join(labels)
        if mass is None:
            message = f"no log-probability verdict between {named} ({why})"
            remedy = "suites ask for verdicts in words where they can"
        else:
            message = f"{named} have {mass:.0%} of the next token's probability"
            remedy = "its log-probability verdicts mean little; choose another judge, or verdicts in words"
        is_enough = mass is not None and mass >= MASS_HALF
        about = ("labels", client.model_name, message)
        findings.append(ok(*about) if is_enough else warning(*about, remedy))
    return findings
