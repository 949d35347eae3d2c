"""What an external server takes, found out by three short questions: its dialect, guides, and a judge's labels."""

from __future__ import annotations

import math
import tempfile
from contextlib import closing
from pathlib import Path

from evalsuite.checkpoint import Checkpoint
from evalsuite.doctor.chat_template import Role
from evalsuite.doctor.finding import Finding, fault, ok, warning
from evalsuite.errors import EvalsuiteError
from evalsuite.serving.client import Client
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.requests import Guide, Sampling
from evalsuite.serving.session import Session
from evalsuite.store import Store
from judges.types import Message, Unscored

_QUESTION = [Message("system", "You answer briefly."), Message("user", "What is the capital of France?")]
_JUDGED = (
    "Which answer to 'What is the capital of France?' is better? m: 'Paris'. M: 'Rome'. Write m or M, nothing else."
)
_LABELS = ("m", "M")
_LEAST_MASS = 0.5


def check_dialect(checkpoint: Checkpoint, serve: ServeConfig, role: Role, base_url: str | None) -> list[Finding]:
    """Ask an external server's chat endpoint a few tokens' worth: what it refuses, and how it gives a verdict."""
    with tempfile.TemporaryDirectory() as folder, LoopThread() as loop:
        try:
            with (
                closing(Store(Path(folder) / "store.sqlite")) as store,
                Session(checkpoint, store, serve, Path(folder) / "log", base_url=base_url) as session,
            ):
                try:
                    return loop.wait(_examined(session.client, role))
                finally:
                    loop.wait(session.client.close())
        except EvalsuiteError as error:
            return [fault("dialect", checkpoint.name, str(error))]


async def _examined(client: Client, role: Role) -> list[Finding]:
    name = client.model_name
    answer = await client.chat(_QUESTION, Sampling(max_new_tokens=16))
    if isinstance(answer, Unscored):
        return [fault("dialect", name, f"it does not answer ({answer.reason}: {answer.detail})")]
    findings = []
    if role == "judge":
        begun = [*_QUESTION, Message("assistant", "Rating: [[")]
        closed = await client.chat(begun, Sampling(max_new_tokens=16), Guide(choice=("1]]", "2]]")))
        guided = not isinstance(closed, Unscored) and closed.text in ("1]]", "2]]")
        lost = "a verdict without a form stays without one"
        findings = [
            ok("guide", name, "it keeps to a guide")
            if guided
            else warning("guide", name, f"it ignores guides: {lost}"),
            _labels(name, await client.label_logprobs([Message("user", _JUDGED)], _LABELS)),
        ]
    told = client.server_told.get("server") or {}
    left_out = f"; refuses {', '.join(told['left_out'])}" if told.get("left_out") else ""
    return [ok("dialect", name, f"{told.get('dialect', 'vLLM')}{left_out}"), *findings]


def _labels(name: str, logprobs: dict[str, float] | Unscored) -> Finding:
    """Say how much of the next token's probability two labels have on one prompt."""
    if isinstance(logprobs, Unscored):
        why = f"{logprobs.reason}: {logprobs.detail}" if logprobs.detail else logprobs.reason
        return warning("labels", name, f"no verdict by log-probabilities ({why})", "suites ask in words where they can")
    mass = math.fsum(map(math.exp, logprobs.values()))
    message = f"m and M have {mass:.0%} of the next token's probability"
    if mass < _LEAST_MASS:
        return warning("labels", name, message, "its verdicts by log-probabilities say little; choose another judge")
    return ok("labels", name, message)
