"""Scripted hosted endpoints, one a dialect: each refuses what the real one refuses, in its words.

    with dialect("reasoning OpenAI") as server:
        server.url, server.requests

The words and codes are those that OpenAI, Azure, Mistral and vLLM (for a template without system role) reply with.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Self

MODEL, OTHER = "hosted", "hosted-2"
_OPENAI = {
    *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "n", "user"),
    *("logprobs", "top_logprobs", "response_format", "stream", "stream_options", "reasoning_effort"),
}
_SAMPLING = ("temperature", "top_p", "logprobs", "top_logprobs", "stop")
Answer = tuple[int, dict[str, Any], dict[str, str]]


class Hosted:
    """A server that answers by a dialect's rules; ``rules`` return an error, or None to let the question pass."""

    def __init__(self, *rules: Callable[[Hosted, Mapping[str, Any]], Answer | None], **facts: Any) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.n_answered = 0
        self.facts = {"model": None, "logprobs": True, "listed": {}, **facts}
        self.lock = Lock()
        self._rules = rules
        outer = self

        class Answering(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.keys.append(self.headers["authorization"])
                listed = {"object": "model", "owned_by": "somebody", **outer.facts["listed"]}
                self._send(200, {"object": "list", "data": [{"id": name, **listed} for name in (MODEL, OTHER)]}, {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.keys.append(self.headers["authorization"])
                self._send(*outer.answer(self.path, body))

            def _send(self, status: int, document: Any, headers: Mapping[str, str]) -> None:
                data = json.dumps(document).encode()
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *words: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """Say nothing of a client that is gone."""

        self._server = Quiet(("127.0.0.1", 0), Answering)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def spec(self) -> str:
        return f"{MODEL}@{self.url}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: dict[str, Any]) -> Answer:
        with self.lock:
            self.requests.append(body)
            self.times.append(time.monotonic())
            if not path.endswith("/chat/completions"):
                return error(404, "Invalid URL")
            for rule in self._rules:
                if (refusal := rule(self, body)) is not None:
                    return refusal
            self.n_answered += 1
        return 200, reply(body, self.facts), {}


def error(status: int, message: str, headers: Mapping[str, str] | None = None, **fields: Any) -> Answer:
    named = {"message": message, "type": "invalid_request_error", "param": None, "code": None, **fields}
    return status, {"error": named}, dict(headers or {})


def reply(body: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Answer plausibly: a verdict where one is asked for, JSON under a schema, a ranking for a leaderboard."""
    asked = body["messages"][-1]["content"]
    text = facts.get("says", "Paris is the capital of France. Rating: [[7]]")
    if (form := body.get("response_format")) and form["type"] == "json_schema":
        choices = form["json_schema"]["schema"]["properties"]["verdict"]["enum"]
        text = json.dumps({"verdict": choices[len(choices) // 2]})
    elif guide := body.get("structured_outputs"):
        text = guide["choice"][len(guide["choice"]) // 2]
    elif "rank the models" in asked:
        text = "[{'model': 'model_1', 'rank': 2}, {'model': 'model_2', 'rank': 1}]"
    elif "exactly one of these" in asked:
        text = asked.rpartition(": ")[2].split(", ")[0]
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if body.get("top_logprobs") and facts["logprobs"]:
        top = [{"token": token, "logprob": logprob} for token, logprob in facts.get("top", _TOP).items()]
        choice["logprobs"] = {"content": [{"token": "m", "logprob": -0.3, "top_logprobs": top}]}
    usage = {"prompt_tokens": 20, "completion_tokens": 9}
    return {
        "model": facts["model"] or body["model"],
        "choices": [choice],
        "usage": usage,
        "system_fingerprint": facts.get("fingerprint", "fp_1"),
    }


_TOP = {"m": -0.3, "M": -1.5, "A": -3.0, "B": -4.0}


def strict(_: Hosted, body: Mapping[str, Any]) -> Answer | None:
    """Refuse what OpenAI does not know."""
    unknown = next((name for name in body if name not in _OPENAI), None)
    if unknown is None:
        return None
    return error(400, f"Unknown parameter: '{unknown}'.", param=unknown, code="unknown_parameter")


def reasoning(_: Hosted, body: Mapping[str, Any]) -> Answer | None:
    if "max_tokens" in body:
        words = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        return error(400, f"Unsupported parameter: {words}", param="max_tokens", code="unsupported_parameter")
    if body.get("temperature", 1) != 1:
        words = "'temperature' does not support 0 with this model. Only the default (1) value is supported."
        return error(400, f"Unsupported value: {words}", param="temperature", code="unsupported_value")
    if "logprobs" in body:
        return error(403, "You are not allowed to request logprobs from this model")
    if name := next((name for name in _SAMPLING if name in body and name != "temperature"), None):
        return error(400, f"Unsupported parameter: '{name}' is not supported with this model.", param=name)
    return None


def no_system(_: Hosted, body: Mapping[str, Any]) -> Answer | None:
    has_system = any(message["role"] == "system" for message in body["messages"])
    return error(400, "System role not supported", type="BadRequestError") if has_system else None


def no_logprobs(_: Hosted, body: Mapping[str, Any]) -> Answer | None:
    if "logprobs" not in body:
        return None
    return error(400, "logprobs is not supported by this model", param="logprobs")


def no_schema(_: Hosted, body: Mapping[str, Any]) -> Answer | None:
    if "response_format" not in body:
        return None
    return error(
        400, "'response_format' of type 'json_schema' is not supported with this model.", param="response_format"
    )


def per_window(n: int, window_s: float) -> Callable[[Hosted, Mapping[str, Any]], Answer | None]:
    """Allow ``n`` questions per window, as a limit by the minute does."""
    opened: list[float] = []

    def limited(_: Hosted, __: Mapping[str, Any]) -> Answer | None:
        now = time.monotonic()
        if not opened or now - opened[0] > window_s:
            opened[:] = [now]
        opened.append(now)
        if len(opened) - 1 <= n:
            return None
        left_s = str(round(opened[0] + window_s - now, 2))
        return error(429, "Rate limit reached for requests", {"retry-after": left_s}, code="rate_limit_exceeded")

    return limited


def quota_gone(after: int) -> Callable[[Hosted, Mapping[str, Any]], Answer | None]:
    def gone(server: Hosted, _: Mapping[str, Any]) -> Answer | None:
        if server.n_answered < after:
            return None
        return error(429, "You exceeded your current quota, please check your plan", code="insufficient_quota")

    return gone


def every(n: int, answer: Answer) -> Callable[[Hosted, Mapping[str, Any]], Answer | None]:
    """Answer every ``n``-th question with ``answer``."""
    return lambda server, _: answer if len(server.requests) % n == 0 else None


def filtered(server: Hosted, body: Mapping[str, Any]) -> Answer | None:
    """Refuse some questions for good, as Azure's filter does."""
    if len(body["messages"][-1]["content"]) % 4:
        return None
    words = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
    return error(400, words, code="content_filter")


UPSTREAM: Answer = (200, {"error": {"message": "Provider returned error", "code": 502}}, {})

DIALECTS: dict[str, Callable[[], Hosted]] = {
    "vLLM": Hosted,
    "strict OpenAI": lambda: Hosted(strict),
    "strict OpenAI without schema": lambda: Hosted(strict, no_schema),
    "reasoning OpenAI": lambda: Hosted(strict, reasoning),
    "Azure alias": lambda: Hosted(strict, model="gpt-deployment-3"),
    "rate limited": lambda: Hosted(strict, per_window(40, 2.0)),
    "quota gone": lambda: Hosted(strict, quota_gone(5)),
    "no system role": lambda: Hosted(no_system),
    "no log-probabilities": lambda: Hosted(strict, no_logprobs),
    "error in a 200": lambda: Hosted(strict, every(7, UPSTREAM)),
    "content filter": lambda: Hosted(strict, filtered),
}
