"""An OpenAI-compatible endpoint on loopback that answers from a function: the fake below the client.

    with StubEndpoint(lambda path, body: (200, {...})) as stub:
        stub.url, stub.requests

A handler returns (status, JSON document) or (status, bytes). Bytes alone are the whole reply as sent, headers included;
None cuts the connection without an answer. Only with ``tokens`` it says how it splits a text (vLLM's ``/tokenize``).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from evalsuite.serving.known_servers import QUESTIONS

Handler = Callable[[str, dict[str, Any]], "tuple[int, Any] | bytes | None"]


class StubEndpoint:
    def __init__(
        self,
        handler: Handler,
        *,
        model: str = "stub",
        max_model_len: int = 4096,
        status: int = 200,
        tokens: list[int] | None = None,
    ) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.alive = True
        """False: connections are closed without a reply, as if nothing were there."""
        outer = self

        class Answering(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def parse_request(self) -> bool:
                self.close_connection = not outer.alive
                return outer.alive and super().parse_request()

            def do_GET(self) -> None:
                self._send(status, {"data": [{"id": model, "max_model_len": max_model_len}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path == "/tokenize":
                    self._send(200 if tokens is not None else 404, {"tokens": tokens})
                    return
                if any(message["content"] in QUESTIONS for message in body.get("messages", ())):
                    # Asked of every external server, beside what a test is about.
                    self._send(200, {"choices": [{"message": {"content": "as ever"}}], "usage": {}})
                    return
                outer.requests.append((self.path, body))
                answer = handler(self.path, body)
                if answer is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                if isinstance(answer, bytes):
                    self.close_connection = True
                    self.wfile.write(answer)
                    return
                self._send(*answer)

            def _send(self, code: int, document: Any) -> None:
                data = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> StubEndpoint:
        # How often it looks whether it is to end; the default keeps every test waiting for half a second.
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def text_reply(text: str, finish_reason: str = "stop") -> dict[str, Any]:
    """What both completion endpoints of vLLM answer, as far as anybody here reads it."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
    choice = {"text": text, "message": {"content": text}, "finish_reason": finish_reason, "logprobs": None}
    return {"choices": [choice], "usage": usage}
