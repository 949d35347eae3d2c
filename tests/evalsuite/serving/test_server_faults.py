"""Server faults in a full run: each is retried or a named unscored item, never a score."""

from __future__ import annotations

import asyncio
import json
import math
import threading

import pytest

from evalsuite.config import read_config
from evalsuite.errors import ServerError, UsageError
from evalsuite.runs.runner import run
from evalsuite.serving import transport as transport_module
from evalsuite.serving import wire
from evalsuite.serving.wire import Endpoint, RetryableError, StallDetector, is_same_model
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

QUESTION = "A bakery sells rolls at 3 for 2 euros. How much do 12 rolls cost?"
LATE_S = 1.5


pytestmark = pytest.mark.usefixtures("no_pauses")


def healthy(path, body):
    if body.get("top_logprobs"):
        top = [{"token": "m", "logprob": -0.7}, {"token": "M", "logprob": -0.8}]
        return 200, {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}], "usage": {}}
    guide = body.get("structured_outputs")
    text = guide["choice"][len(guide["choice"]) // 2] if guide else "A plain answer."
    return 200, text_reply(text) | {"model": "stub"}


def hangs():
    threading.Event().wait(60)  # longer than anyone waits for it
    return 200, text_reply("too late")


def changed(**fields):
    reply = text_reply("Rating: [[10]]")
    reply["choices"][0] |= {key: value for key, value in fields.items() if key != "usage" and key != "model"}
    return reply | {key: value for key, value in fields.items() if key in {"usage", "model"}}


def top_logprobs(value):
    top = [{"token": "m", "logprob": value}, {"token": "M", "logprob": -0.8}]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}], "usage": {}}


FAULTS = {
    "hangs": (hangs, "timeout"),
    "500": (lambda: (500, {"error": {"message": "boom"}}), "request_failed"),
    "400": (lambda: (400, {"error": {"message": "no"}}), "request_failed"),
    "cut": (lambda: None, "request_failed"),
    "half a document": (lambda: (200, b'{"choices": [{"text": "Rating: [[10'), "malformed_reply"),
    "deep nesting": (lambda: (200, b"[" * 100_000), "malformed_reply"),
    "no object": (lambda: (200, ["Rating: [[10]]"]), "malformed_reply"),
    "no choices": (lambda: (200, {"choices": [], "usage": []}), "malformed_reply"),
    "no text": (lambda: (200, changed(message={"content": None})), "malformed_reply"),
    "empty": (lambda: (200, changed(message={"content": ""}, usage={"completion_tokens": 0})), "empty_reply"),
    "broken off": (lambda: (200, changed(finish_reason="abort")), "unfinished_reply"),
    "filtered": (lambda: (200, changed(finish_reason="content_filter")), "content_filter"),
    "filtered question": (lambda: (400, {"error": {"code": "content_filter", "message": "no"}}), "content_filter"),
    "error": (lambda: (200, {"error": {"message": "upstream"}}), "request_failed"),
    "wrong model": (lambda: (200, changed(model="another-model")), "wrong_model"),
}


def config(stub, results, suites=("mt_bench",)):
    spec = f"stub@{stub.url}"
    return read_config({"models": [spec], "judge": spec, "suites": list(suites), "data": "mini", "results": results})


def is_candidates(body):
    return body["messages"][0]["content"] == QUESTION and len(body["messages"]) == 1


def is_judges(body):
    return QUESTION in json.dumps(body) and body["messages"][0]["content"] != QUESTION


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_a_named_unscored_and_is_repaired_by_a_healthy_server(tmp_path, monkeypatch, kind):
    make, reason = FAULTS[kind]
    faulty = [True]
    if kind == "hangs":
        # For this one alone: a busy machine is that late with any reply.
        monkeypatch.setattr(transport_module, "READ_TIMEOUT_S", LATE_S)

    def handler(path, body):
        return make() if faulty[0] and is_judges(body) else healthy(path, body)

    with StubEndpoint(handler) as stub:
        scores = run(config(stub, tmp_path)).models[0].suites["mt_bench"]
        n_requests = len(stub.requests)
        faulty[0] = False
        repaired = run(config(stub, tmp_path)).models[0].suites["mt_bench"]
        again = [body for _, body in stub.requests[n_requests:]]
    assert scores["unscored"] == {reason: 2}, "both turns of one question"
    assert scores["n_scored"] == scores["n"] - 2
    assert repaired["unscored"] == {}
    assert repaired["n_scored"] == repaired["n"]
    assert again
    assert all(is_judges(body) for body in again), "only missing verdicts are requested"


@pytest.mark.parametrize("kind", ["500", "cut", "empty", "broken off", "wrong model"])
def test_a_missing_answer_is_not_judged(tmp_path, kind):
    make, reason = FAULTS[kind]
    faulty = [True]

    def handler(path, body):
        return make() if faulty[0] and is_candidates(body) else healthy(path, body)

    with StubEndpoint(handler) as stub:
        scores = run(config(stub, tmp_path)).models[0].suites["mt_bench"]
        assert not [body for _, body in stub.requests if is_judges(body)]
        faulty[0] = False
        repaired = run(config(stub, tmp_path)).models[0].suites["mt_bench"]
    assert scores["unscored"] == {reason: 2}, "the answer's reason, not only that there is none"
    assert (repaired["unscored"], repaired["n_scored"]) == ({}, repaired["n"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_probability_is_unscored(tmp_path, value):
    first = []

    def handler(path, body):
        if body.get("top_logprobs") and (not first or body == first[0]):
            first[:] = [body]
            return 200, top_logprobs(value)
        return healthy(path, body)

    with StubEndpoint(handler) as stub:
        scores = run(config(stub, tmp_path, ["alpaca_eval"])).models[0].suites["alpaca_eval"]
    assert scores["unscored"] == {"non_finite_logprob": 1}


@pytest.mark.parametrize("kind", ["500", "error", "cut", "half a document", "wrong model"])
def test_a_temporary_fault_is_retried_and_leaves_no_trace(tmp_path, kind):
    make, _ = FAULTS[kind]
    left = [3]

    def handler(path, body):
        if is_judges(body) and left[0]:
            left[0] -= 1
            return make()
        return healthy(path, body)

    with StubEndpoint(handler) as stub:
        scores = run(config(stub, tmp_path)).models[0].suites["mt_bench"]
    assert (scores["unscored"], scores["n_scored"], left[0]) == ({}, scores["n"], 0)


def test_a_server_with_another_model_is_rejected_before_any_request(tmp_path):
    with StubEndpoint(healthy, model="other") as stub, pytest.raises(UsageError, match="unknown model 'stub'"):
        run(config(stub, tmp_path))
    assert stub.requests == []


def test_a_server_that_is_up_and_does_not_reply_ends_the_run(tmp_path):
    with StubEndpoint(lambda path, body: None) as stub, pytest.raises(ServerError, match="up but did not reply"):
        run(config(stub, tmp_path, ["mt_bench", "alpaca_eval", "mixeval"]))


@pytest.mark.parametrize(
    ("requested", "replied", "same"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("org/Model-7B", "model-7b", True),
        ("m", None, True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("llama-3", "llama-3-70b", False),
        ("m", 3, False),
        ("m", "", False),
    ],
)
def test_a_dated_snapshot_is_the_requested_model_and_a_sibling_is_not(requested, replied, same):
    assert is_same_model(requested, replied) is same


@pytest.mark.parametrize(
    ("counts", "managed", "outcome"),
    [
        ([5.0, 5.0], True, ServerError),
        ([5.0, 5.0], False, RetryableError),
        ([None, None], True, ServerError),
        ([None, None], False, None),
        ([0.0, 0.0], True, None),
        ([5.0, 6.0], True, None),
    ],
)
async def test_a_server_hangs_if_its_token_counts_do_not_change(monkeypatch, counts, managed, outcome):
    ended, left = [], list(counts)

    async def processed_tokens(endpoint):
        return left.pop(0)

    monkeypatch.setattr(wire, "processed_tokens", processed_tokens)
    detector = StallDetector(stall_s=0.0)
    detector._last_check = -1e9
    endpoint = Endpoint("http://127.0.0.1:1/v1", "", "m", end=(lambda: ended.append(1)) if managed else None)
    detector.stall_s = 1e9
    with detector.pending():
        await detector.check(endpoint)
        detector.stall_s = 60
        detector._last_progress -= 61
        if outcome is None:
            await detector.check(endpoint)
        else:
            with pytest.raises(outcome, match="hangs"):
                await detector.check(endpoint)
    assert bool(ended) is (outcome is ServerError)


def test_token_counts_are_read_from_vllms_metrics():
    from http.server import BaseHTTPRequestHandler, HTTPServer

    text = 'vllm:prompt_tokens_total{engine="0"} 10.0\nvllm:generation_tokens_total{engine="0"} 3.0\nother 7\n'

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Metrics)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_port}/v1", "", "m")
    assert asyncio.run(wire.processed_tokens(endpoint)) == 13.0
    server.shutdown()
    server.server_close()
    assert asyncio.run(wire.processed_tokens(endpoint)) is None
