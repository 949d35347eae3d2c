"""An OpenAI-compatible endpoint in a process of its own: answers by the content of the question, fails on purpose.

    python tests/evalsuite/scripted_endpoint.py --model candidate --model judge --latency 0.02 0.2 --log asked.jsonl

The same question gets the same answer, in this process and in the next one, so that two runs can be compared.
Everything that is asked and sent stands in the log, one JSON object a line.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from evalsuite.serving.known_servers import QUESTIONS

_WORDS = (
    "the",
    "river",
    "stone",
    "of",
    "and",
    "seven",
    "why",
    "Rating",
    "B)",
    "slow",
    "42",
    "so",
    "\u00e9t\u00e9",
    "\U0001f600",
)
_TAILS = ("Rating: [[{r}]]", "[[{r}]]", "Score: [[{s}]]", "Option: [[{o}]]", "[[11]] or so", "I cannot say.", "", "{o}")
_STATUS = {"500": 500, "503": 503, "429": 429, "400": 400}

FAULTS: tuple[str, ...] = (
    "500",
    "503",
    "429",
    "400",
    "cut",
    "cut_half_way",
    "broken_json",
    "no_object",
    "no_choices",
    "hang",
    "nan",
)
"""What may go wrong with one request."""

LASTING: dict[str, str] = {
    "400": "request_failed",
    "no_object": "malformed_reply",
    "no_choices": "malformed_reply",
    "nan": "non_finite_logprob",
}
"""Faults that no patience cures, with the reason under which a client must count the item."""


class Connection(asyncio.Protocol):
    """Reads whole HTTP/1.1 requests and hands each to ``asked``."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, rest = self.buffer.partition(b"\r\n\r\n")
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            length = int(lengths[0].split(b":")[1]) if lengths else 0
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            self.asked(method, path, rest[:length])

    def asked(self, method: str, path: str, body: bytes) -> None:
        raise NotImplementedError


def http_reply(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def question_id(body: bytes) -> str:
    """Return the first 24 digits of the SHA-256 of a request's canonical JSON."""
    canonical = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]


def answer_to(body: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Answer one request in the shape of vLLM's reply; everything random comes from ``draw``."""
    usage = {"prompt_tokens": draw.randrange(5, 500), "completion_tokens": draw.randrange(1, 50)}
    return {"choices": [_choice(body, draw)], "usage": usage}


def _choice(body: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    if body.get("logprob_token_ids"):
        logprobs = {f"token_id:{token}": -draw.random() * 8 for token in body["logprob_token_ids"]}
        return {
            "text": "x",
            "logprobs": {"tokens": [max(logprobs, key=lambda t: logprobs[t])], "top_logprobs": [logprobs]},
        }
    if body.get("top_logprobs"):
        top = [{"token": token, "logprob": -draw.random() * 8} for token in "mMABCDEFGHIJ"]
        return {"logprobs": {"content": [{"top_logprobs": top}]}}
    if body.get("prompt_logprobs") is not None:
        entries = [{str(token): {"logprob": -draw.random() * 8, "rank": 1}} for token in body["prompt"]]
        return {"text": "", "prompt_logprobs": [None, *entries[1:]]}
    guide = (body.get("structured_outputs") or {}).get("choice")
    text = draw.choice(guide) if guide else _words(draw)
    return {"text": text, "message": {"content": text}, "finish_reason": draw.choice(["stop", "length"])}


def _words(draw: random.Random) -> str:
    said = " ".join(draw.choices(_WORDS, k=draw.randrange(3, 30)))
    tail = draw.choice(_TAILS).format(r=draw.randrange(1, 11), s=draw.randrange(11) / 10, o=draw.choice("ABCD"))
    return f"{said}\n{tail}"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How an endpoint behaves: whom it serves, how slow it is (seconds from, to), how often and how it fails."""

    models: tuple[str, ...] = ("candidate",)
    latency_s: tuple[float, float] = (0.0, 0.0)
    fault_share: float = 0.0
    faults: tuple[str, ...] = FAULTS
    hang_s: float = 3.0
    seed: int = 0
    max_model_len: int = 32_768


class _State:
    """What all connections share: the behaviour, the log and how often each question came."""

    def __init__(self, behaviour: Behaviour, log: IO[str]) -> None:
        self.behaviour = behaviour
        self.attempts: dict[str, int] = {}
        self._log = log

    def note(self, **event: Any) -> None:
        self._log.write(json.dumps({"at": time.time(), **event}) + "\n")
        self._log.flush()


class _Scripted(Connection):
    def __init__(self, state: _State) -> None:
        self.state = state
        self.tasks: set[asyncio.Task[None]] = set()

    def asked(self, method: str, path: str, body: bytes) -> None:
        if method == "GET":
            served = [{"id": name, "max_model_len": self.state.behaviour.max_model_len} for name in self._models]
            self.transport.write(http_reply(200, json.dumps({"data": served}).encode()))
            return
        if not path.endswith("/completions"):
            # A refusal is an answer too, and a client may remember it.
            self.state.note(event="asked", id=question_id(body), model=None, roles=[], fault=None)
            self.transport.write(http_reply(404, b'{"error": {"message": "no such path"}}'))
            return
        task = asyncio.ensure_future(self._answer(body))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    @property
    def _models(self) -> tuple[str, ...]:
        return self.state.behaviour.models

    async def _answer(self, body: bytes) -> None:
        state, behaviour = self.state, self.state.behaviour
        question = question_id(body)
        attempt = state.attempts[question] = state.attempts.get(question, 0) + 1
        asked = json.loads(body)
        if any(message["content"] in QUESTIONS for message in asked.get("messages", ())):
            # The fixed questions that tell whether a server has changed are nothing that a run keeps.
            self._send(answer_to(asked, random.Random(question)), None)
            return
        luck = random.Random(f"{behaviour.seed} {question} {attempt}")
        fault = luck.choice(behaviour.faults) if luck.random() < behaviour.fault_share else None
        if fault == "nan" and not (asked.get("top_logprobs") or asked.get("logprob_token_ids")):
            fault = "no_choices"
        roles = [message["role"] for message in asked.get("messages", ())]
        state.note(event="asked", id=question, model=asked.get("model"), roles=roles, fault=fault)
        await asyncio.sleep(luck.uniform(*behaviour.latency_s) + (behaviour.hang_s if fault == "hang" else 0.0))
        if self.transport.is_closing():
            state.note(event="gone", id=question)
            return
        # Noted first: once the words are out, the one who asked may be faster than the log.
        state.note(event="sent", id=question, fault=fault)
        self._send(answer_to(asked, random.Random(question)), fault)

    def _send(self, reply: dict[str, Any], fault: str | None) -> None:
        whole = json.dumps(reply).encode()
        if fault in _STATUS:
            words = json.dumps({"error": {"message": f"scripted {fault}"}}).encode()
            self.transport.write(http_reply(_STATUS[fault], words))
        elif fault == "broken_json":
            self.transport.write(http_reply(200, whole[: len(whole) // 2]))
        elif fault == "no_object":
            self.transport.write(http_reply(200, b"[1, 2]"))
        elif fault == "no_choices":
            self.transport.write(http_reply(200, b'{"choices": []}'))
        elif fault == "nan":
            self.transport.write(http_reply(200, _with_nan(whole)))
        elif fault == "cut":
            self.transport.abort()
        elif fault == "cut_half_way":
            self.transport.write(http_reply(200, whole)[: len(whole) // 2])
            self.transport.close()
        else:
            self.transport.write(http_reply(200, whole))


def _with_nan(reply: bytes) -> bytes:
    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spoil(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [spoil(inner) for inner in value]
        return float("nan") if isinstance(value, float) else value

    return json.dumps(spoil(json.loads(reply))).encode()


class ScriptedEndpoint:
    """Runs the endpoint as a process of its own; a context manager with ``url`` and the log."""

    def __init__(self, behaviour: Behaviour, log: Path) -> None:
        self.log_path = log
        low, high = behaviour.latency_s
        words = ["--latency", str(low), str(high), "--faults", str(behaviour.fault_share), "--log", str(log)]
        words += ["--hang", str(behaviour.hang_s), "--seed", str(behaviour.seed)]
        words += ["--max-model-len", str(behaviour.max_model_len), "--kinds", *behaviour.faults]
        words += [word for name in behaviour.models for word in ("--model", name)]
        self._process = subprocess.Popen([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    @property
    def pid(self) -> int:
        return self._process.pid

    def events(self, start: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the log's events from byte ``start`` on, without a last line that is not yet whole."""
        with self.log_path.open("rb") as lines:
            lines.seek(start)
            yield from (json.loads(line) for line in lines if line.endswith(b"\n"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


async def _serve(behaviour: Behaviour, port: int, log: IO[str]) -> None:
    state = _State(behaviour, log)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Scripted(state), "127.0.0.1", port, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="a name to serve; may be given several times")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--latency", type=float, nargs=2, default=(0.0, 0.0), metavar=("FROM", "TO"), help="seconds")
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests that go wrong")
    parser.add_argument("--kinds", nargs="+", default=list(FAULTS), choices=FAULTS, help="which faults")
    parser.add_argument("--hang", type=float, default=3.0, help="seconds that a hanging request takes longer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-model-len", type=int, default=32_768)
    parser.add_argument("--log", type=Path, default=Path("/dev/null"))
    arguments = parser.parse_args()
    behaviour = Behaviour(
        models=tuple(arguments.model or ["candidate"]),
        latency_s=(arguments.latency[0], arguments.latency[1]),
        fault_share=arguments.faults,
        faults=tuple(arguments.kinds),
        hang_s=arguments.hang,
        seed=arguments.seed,
        max_model_len=arguments.max_model_len,
    )
    with arguments.log.open("a", encoding="utf-8") as log:
        asyncio.run(_serve(behaviour, arguments.port, log))


if __name__ == "__main__":
    main()
