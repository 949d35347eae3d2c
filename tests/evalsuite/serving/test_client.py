from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable

import pytest

from evalsuite.errors import ServerError, UsageError
from evalsuite.serving.client import Client, Target
from evalsuite.serving.requests import Guide, Sampling
from evalsuite.serving.wire import Endpoint, check_endpoint
from evalsuite.store import Store
from judges.types import Message, Unscored
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

GREEDY = Sampling(max_new_tokens=16)
HELLO = [Message("user", "hello")]


pytestmark = pytest.mark.usefixtures("no_pauses")


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        yield store


class PlainFormat:
    """A fake ChatFormat with one token per character."""

    source = "checkpoint"
    stop = ()

    class tokenizer:
        unk_token_id = 0

        @staticmethod
        def encode(text, add_special_tokens=False):
            return [ord(letter) for letter in text]

        @staticmethod
        def convert_tokens_to_ids(token):
            return None

    def prompt_tokens(self, messages):
        return [ord(letter) for message in messages for letter in message.content]


OPEN: list[Client] = []
END: list[Callable[[], None] | None] = [None]


@pytest.fixture(params=["managed", "external"], autouse=True)
def _server_kind(request):
    """Run each test with a managed server and an external one."""
    END[0] = (lambda: None) if request.param == "managed" else None


@pytest.fixture(autouse=True)
async def _close_clients():
    yield
    while OPEN:
        await OPEN.pop().close()


def make(stub, store, *, chat_format=None, max_model_len=100, diagnose=lambda: None, takes_priority=False, **options):
    connected = []

    async def connect():
        connected.append(stub.url)
        return Endpoint(stub.url, "key", "stub", diagnose, END[0], takes_priority=takes_priority)

    fields = {"generation": options.pop("generation", {}), "is_managed": options.pop("is_managed", False)}
    target = Target("stub", {"weights": "w"}, max_model_len, chat_format, **fields)
    client = Client(target, connect, store, **options)
    client.connected = connected
    OPEN.append(client)
    return client


async def test_an_answer_is_requested_once_and_then_read_from_the_store(store):
    with StubEndpoint(lambda path, body: (200, text_reply("hi"))) as stub:
        first = await make(stub, store).chat(HELLO, GREEDY)
        second_client = make(stub, store)
        second = await second_client.chat(HELLO, GREEDY)
    assert first == second
    assert first.text == "hi"
    assert (first.prompt_tokens, first.completion_tokens, first.cached_tokens) == (3, 2, 1)
    assert len(stub.requests) == 1
    assert second_client.connected == [], "a stored answer must not start the server"


async def test_concurrent_identical_requests_are_sent_once(store):
    with StubEndpoint(lambda path, body: (200, text_reply("hi"))) as stub:
        client = make(stub, store)
        answers = await asyncio.gather(*(client.chat(HELLO, GREEDY) for _ in range(20)))
    assert len(stub.requests) == 1
    assert {answer.text for answer in answers} == {"hi"}


async def test_greedy_answers_do_not_depend_on_the_seed_and_sampled_ones_do(store):
    with StubEndpoint(lambda path, body: (200, text_reply("hi"))) as stub:
        client = make(stub, store)
        await client.chat(HELLO, Sampling(16, temperature=0, seed=1))
        await client.chat(HELLO, Sampling(16, temperature=0, seed=2))
        assert len(stub.requests) == 1
        await client.chat(HELLO, Sampling(16, temperature=0.7, seed=1))
        await client.chat(HELLO, Sampling(16, temperature=0.7, seed=2))
        assert len(stub.requests) == 3
    assert [body.get("seed") for _, body in stub.requests] == [None, 1, 2]


async def test_all_sampling_settings_are_sent(store):
    with StubEndpoint(lambda path, body: (200, text_reply("hi"))) as stub:
        await make(stub, store).chat(HELLO, GREEDY)
    body = stub.requests[0][1]
    assert body["temperature"] == 0
    assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, -1, 0.0, 1.0)


@pytest.mark.parametrize(
    ("generation", "expected"),
    [
        ({}, {"temperature": 0, "top_k": -1}),
        ({"temperature": 0.6}, {"temperature": 0}),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9}, {"temperature": 0.6, "top_p": 0.9, "top_k": 50}),
        ({"do_sample": True}, {"temperature": 1.0, "top_p": 1.0, "top_k": 50}),
    ],
)
async def test_settings_left_to_the_model_are_its_generation_config(store, generation, expected):
    with StubEndpoint(lambda path, body: (200, text_reply("hi"))) as stub:
        await make(stub, store, generation=generation).chat(HELLO, Sampling(16, None, None, None, seed=7))
    body = stub.requests[0][1]
    assert {key: body[key] for key in expected} == expected
    assert body.get("seed") == (7 if generation.get("do_sample") else None)


async def test_a_busy_server_is_retried(store):
    replies = iter([(503, {"error": {"message": "busy"}}), (429, {"error": {"message": "slow down"}})])
    with StubEndpoint(lambda path, body: next(replies, (200, text_reply("at last")))) as stub:
        client = make(stub, store)
        answer = await client.chat(HELLO, GREEDY)
    assert answer.text == "at last"
    assert client.usage.retries == 2


async def test_an_item_that_fails_all_retries_is_unscored_and_not_stored(store):
    with StubEndpoint(lambda path, body: (500, {"error": {"message": "boom"}})) as stub:
        answer = await make(stub, store).chat(HELLO, GREEDY)
    assert isinstance(answer, Unscored)
    assert answer.reason == "request_failed"
    assert len(stub.requests) == 6
    assert len(store) == 0


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("This model's maximum context length is 10 tokens", "context_length"),
        ("max_tokens=9 cannot be greater than max_model_len=8", "context_length"),
        ("no such thing", "request_failed"),
    ],
)
async def test_a_bad_request_is_not_retried(store, message, reason):
    with StubEndpoint(lambda path, body: (400, {"error": {"message": message}})) as stub:
        answer = await make(stub, store).chat(HELLO, GREEDY)
        # An external server may mean a field that it does not know: it is asked once without those of vLLM.
        again = int(reason == "request_failed" and END[0] is None)
        assert (answer.reason, len(stub.requests)) == (reason, 1 + again)
        assert "top_k" not in stub.requests[again][1] or not again


async def test_denied_access_ends_the_run_with_the_remedy(store):
    denied = StubEndpoint(lambda path, body: (401, {"error": {"message": "no"}}))
    with denied as stub, pytest.raises(ServerError, match="EVALSUITE_API_KEY"):
        await make(stub, store).chat(HELLO, GREEDY)


async def test_a_dead_server_is_distinguished_from_a_busy_one(store):
    with StubEndpoint(lambda path, body: None) as stub:
        with pytest.raises(ServerError, match="the process ended"):
            await make(stub, store, diagnose=lambda: "the process ended").chat(HELLO, GREEDY)
        assert len(stub.requests) == 1
        busy = make(stub, store)
        assert (await busy.chat(HELLO, GREEDY)).reason == "request_failed", "up, but closes the connection"
    with pytest.raises(ServerError, match="no response from"):
        await busy.chat([Message("user", "anybody?")], GREEDY)


@pytest.mark.parametrize(
    "reply",
    [
        {"choices": []},
        {"choices": [{"text": None}]},
        [1, 2],
        {"choices": [{"message": {"content": None}}]},
    ],
)
async def test_a_malformed_reply_is_unscored(store, reply):
    with StubEndpoint(lambda path, body: (200, reply)) as stub:
        answer = await make(stub, store).chat(HELLO, GREEDY)
    assert isinstance(answer, Unscored)
    assert answer.reason == "malformed_reply"
    assert len(store) == 0


async def test_invalid_json_is_retried(store):
    replies = iter([(200, b'{"choices": [')])
    with StubEndpoint(lambda path, body: next(replies, (200, text_reply("fine")))) as stub:
        answer = await make(stub, store).chat(HELLO, GREEDY)
    assert answer.text == "fine"
    assert len(stub.requests) == 2


async def test_an_empty_string_is_an_answer(store):
    with StubEndpoint(lambda path, body: (200, text_reply(""))) as stub:
        answer = await make(stub, store).chat(HELLO, GREEDY)
    assert answer.text == ""


async def test_a_prompt_that_does_not_fit_is_not_sent_and_a_long_one_gets_a_shorter_answer(store):
    with StubEndpoint(lambda path, body: (200, text_reply("hi"))) as stub:
        client = make(stub, store, chat_format=PlainFormat(), max_model_len=10)
        too_long = await client.chat([Message("user", "x" * 10)], GREEDY)
        assert too_long.reason == "context_length"
        assert stub.requests == []
        await client.chat([Message("user", "x" * 9)], GREEDY)
    assert stub.requests[0][1]["max_tokens"] == 1
    assert stub.requests[0][1]["prompt"] == [ord("x")] * 9


async def test_the_number_of_requests_in_flight_is_limited(store):
    lock, now, most = threading.Lock(), [0], [0]

    def slow(path, body):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.02)
        with lock:
            now[0] -= 1
        return 200, text_reply("hi")

    with StubEndpoint(slow) as stub:
        client = make(stub, store, in_flight=3)
        await asyncio.gather(*(client.chat([Message("user", str(i))], GREEDY) for i in range(20)))
    assert most[0] == 3


SECOND_TURN = [*HELLO, Message("assistant", "hi"), Message("user", "and now?")]


async def test_a_later_turn_is_sent_before_waiting_first_turns(store):
    def last_message(body):
        return body["messages"][-1]["content"]

    with StubEndpoint(lambda path, body: (200, text_reply("hi"))) as stub:
        client = make(stub, store, in_flight=1)
        first_turns = [[Message("user", str(i))] for i in range(4)]
        await asyncio.gather(*(client.chat(messages, GREEDY) for messages in [*first_turns, SECOND_TURN]))
        assert [last_message(body) for _, body in stub.requests] == ["0", "and now?", "1", "2", "3"]


@pytest.mark.parametrize("chat_format", [None, PlainFormat()])
async def test_a_priority_is_only_sent_to_a_server_that_supports_it_and_is_not_part_of_the_key(store, chat_format):
    with StubEndpoint(lambda path, body: (200, text_reply("hi"))) as stub:
        await make(stub, store, chat_format=chat_format, takes_priority=True).chat(HELLO, GREEDY)
        await make(stub, store, chat_format=chat_format, takes_priority=True).chat(SECOND_TURN, GREEDY)
        await make(stub, store, chat_format=chat_format).chat(SECOND_TURN, GREEDY)
        other = [*SECOND_TURN, Message("assistant", "yes"), Message("user", "why?")]
        await make(stub, store, chat_format=chat_format).chat(other, GREEDY)
    assert [body.get("priority") for _, body in stub.requests] == [None, -1, None], "the third is in the store"


async def test_an_identical_request_of_a_cancelled_one_still_gets_its_answer(store):
    release, arrived, loop = threading.Event(), asyncio.Event(), asyncio.get_running_loop()

    def answer(path, body):
        loop.call_soon_threadsafe(arrived.set)
        release.wait(5)
        return 200, text_reply("hi")

    with StubEndpoint(answer) as stub:
        client = make(stub, store)
        cancelled = asyncio.create_task(client.chat(HELLO, GREEDY))
        identical = [asyncio.create_task(client.chat(HELLO, GREEDY)) for _ in range(3)]
        await arrived.wait()
        cancelled.cancel()
        identical[2].cancel()
        release.set()
        answers = await asyncio.gather(cancelled, *identical, return_exceptions=True)
    assert [type(answer).__name__ for answer in (answers[0], answers[3])] == ["CancelledError"] * 2
    assert [answer.text for answer in answers[1:3]] == ["hi", "hi"]
    assert len(stub.requests) == 2, "once for the cancelled request, once for the two others"


def next_token_reply(logprobs, top):
    top_logprobs = [{f"token_id:{token}": value for token, value in logprobs.items()}]
    choice = {"text": "x", "logprobs": {"tokens": [f"token_id:{top}"], "top_logprobs": top_logprobs}}
    return {"choices": [choice], "usage": {}}


async def test_next_token_logprobs_are_the_requested_ones(store):
    with StubEndpoint(lambda path, body: (200, next_token_reply({5: -1.0, 6: -2.0, 9: -0.5}, 9))) as stub:
        answer = await make(stub, store, chat_format=PlainFormat()).next_token_logprobs([1, 2], [6, 5])
    assert dict(answer.logprobs) == {6: -2.0, 5: -1.0}
    assert answer.top_id == 9
    assert stub.requests[0][1]["logprob_token_ids"] == [5, 6]


async def test_tokens_tied_for_most_likely_are_all_greedy(store):
    with StubEndpoint(lambda path, body: (200, next_token_reply({5: -1.0, 6: -1.0, 7: -2.0}, 5))) as stub:
        answer = await make(stub, store, chat_format=PlainFormat()).next_token_logprobs([1, 2], [6, 7])
    assert (answer.is_top(6), answer.is_top(7)) == (True, False)
    entries = [None, {"6": {"logprob": -1.0, "rank": 2}, "5": {"logprob": -1.0, "rank": 2}}]
    entries.append({"7": {"logprob": -2.0, "rank": 2}, "5": {"logprob": -1.0, "rank": 1}})
    reply = {"choices": [{"prompt_logprobs": entries}], "usage": {}}
    with StubEndpoint(lambda path, body: (200, reply)) as stub:
        steps = await make(stub, store, chat_format=PlainFormat()).prompt_logprobs([1, 6, 7], 1)
    assert steps == [(-1.0, True), (-2.0, False)]


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
async def test_a_nan_log_probability_is_unscored(store, bad):
    with StubEndpoint(lambda path, body: (200, next_token_reply({5: bad}, 5))) as stub:
        answer = await make(stub, store, chat_format=PlainFormat()).next_token_logprobs([1], [5])
    assert answer.reason == "non_finite_logprob"


async def test_labels_are_requested_by_id_if_the_server_supports_it(store):
    def answer(path, body):
        if path.endswith("/loglikelihoods"):
            return 404, {"error": {"message": "no such path"}}
        return 200, next_token_reply({token: -float(token) for token in body["logprob_token_ids"]}, 0)

    with StubEndpoint(answer) as stub:
        labels = await make(stub, store, chat_format=PlainFormat()).label_logprobs(HELLO, ("m", "M"))
    assert labels == {"m": -float(ord("m")), "M": -float(ord("M"))}
    assert len(stub.requests) == 3, "two probes and one request"


def reply_of_vllm(path, body, *, has_field):
    """Answer as vLLM with evalsuite's endpoint; before 0.26 without the field ``logprob_token_ids``."""
    if path.endswith("/loglikelihoods"):
        steps = [[[-float(token), token == 77] for token in tokens] for tokens in body["continuations"]]
        return 200, {"results": steps, "usage": {}}
    ids = body.get("logprob_token_ids", [])
    choice = {"text": "x", "finish_reason": "stop", "token_ids": [5], "prompt_logprobs": [None, {"5": {"logprob": -1}}]}
    row = {f"token_id:{token}": -float(token) for token in (ids if has_field else [0])}
    choice["logprobs"] = {"tokens": ["token_id:0"], "token_logprobs": [-1.0], "top_logprobs": [row]}
    return 200, {"choices": [choice], "usage": {}}


async def test_a_vllm_without_the_field_gives_chosen_tokens_through_the_endpoint(store):
    with StubEndpoint(lambda path, body: reply_of_vllm(path, body, has_field=False)) as stub:
        client = make(stub, store, chat_format=PlainFormat())
        labels = await client.label_logprobs(HELLO, ("m", "M"))
        assert client.has_logprob_token_ids
        answer = await client.next_token_logprobs([1, 2], [77, 78])
    assert labels == {"m": -float(ord("m")), "M": -float(ord("M"))}
    assert (dict(answer.logprobs), answer.is_top(77), answer.is_top(78)) == ({77: -77.0, 78: -78.0}, True, False)
    assert [path for path, _ in stub.requests[2:]] == ["/v1/evalsuite/loglikelihoods"] * 2


@pytest.mark.parametrize("has_field", [True, False])
async def test_no_request_asks_for_the_likeliest_tokens_beside_those_for_chosen_ones(store, has_field):
    """vLLM's first model runner answers chosen tokens in the rows of every other request of the same batch."""
    with StubEndpoint(lambda path, body: reply_of_vllm(path, body, has_field=has_field)) as stub:
        client = make(stub, store, chat_format=PlainFormat())
        await client.label_logprobs(HELLO, ("m", "M"))
        for guide in (None, Guide(choice=("a",))):
            await client.chat(HELLO, Sampling(8, logprobs=True), guide)
        await client.generate([1], 8, Sampling(8, logprobs=True), "x", 0)
        await client.next_token_logprobs([1, 2], [6, 5])
        await client.prompt_logprobs([1, 5], 1)
    bodies = [body for path, body in stub.requests if "context" not in body]
    assert len(bodies) >= 5
    assert sum("logprobs" in body for body in bodies) >= 3
    for body in bodies:
        assert "logprob_token_ids" in body or not body.get("logprobs"), body
        assert "top_logprobs" not in body


async def test_minus_infinity_is_recognised_as_vllm_writes_it(store):
    with StubEndpoint(lambda path, body: (200, next_token_reply({5: -9999.0, 6: -9998.0}, 5))) as stub:
        answer = await make(stub, store, chat_format=PlainFormat()).next_token_logprobs([1], [5])
    assert answer.reason == "non_finite_logprob"


@pytest.mark.parametrize(("ids", "has"), [((0, 1, 2), True), ((0, 29), False), ((0,), False)])
async def test_a_server_that_ignores_the_requested_ids_is_detected(store, ids, has):
    """Its top token and the sampled one may be among the requested ids, but not all three."""
    reply = next_token_reply(dict.fromkeys(ids, -1.0), 0)
    with StubEndpoint(lambda path, body: (404, {}) if "context" in body else (200, reply)) as stub:
        client = make(stub, store, chat_format=PlainFormat())
        await client.detect_features()
    assert client.has_logprob_token_ids is has


@pytest.mark.parametrize(("is_managed", "n_requests"), [(True, 2), (False, 4)])
async def test_the_features_of_an_external_server_are_not_stored(store, is_managed, n_requests):
    with StubEndpoint(lambda path, body: (404, {"error": {"message": "no"}})) as stub:
        for _ in range(2):
            client = make(stub, store, chat_format=PlainFormat(), is_managed=is_managed)
            await client.detect_features()
        assert len(stub.requests) == n_requests


async def test_labels_are_read_from_the_top_log_probabilities_otherwise(store):
    content = [{"top_logprobs": [{"token": "m", "logprob": -0.1}, {"token": "The", "logprob": -2.0}]}]
    reply = {"choices": [{"logprobs": {"content": content}}], "usage": {}}
    with StubEndpoint(lambda path, body: (200, reply)) as stub:
        labels = await make(stub, store).label_logprobs(HELLO, ("m", "M"))
    assert labels == {"m": -0.1}, "a label that is not among them is absent"


async def test_an_assistant_turn_is_continued_and_guides_are_sent(store):
    with StubEndpoint(lambda path, body: (200, text_reply("7]]"))) as stub:
        await make(stub, store).chat([*HELLO, Message("assistant", "Rating: [[")], GREEDY, Guide(choice=("7]]", "8]]")))
    body = stub.requests[0][1]
    assert body["continue_final_message"] is True
    assert body["add_generation_prompt"] is False
    assert body["structured_outputs"] == {"choice": ["7]]", "8]]"]}


def test_check_endpoint(monkeypatch):
    with StubEndpoint(lambda path, body: None, model="judge", max_model_len=77) as stub:
        assert check_endpoint(stub.url, None) == ("judge", 77)
        with pytest.raises(UsageError, match="did you mean 'judge'"):
            check_endpoint(stub.url, "judgge")
    for key, reason in (("", "it needs a key"), ("wrong", "does not accept the key")):
        monkeypatch.setenv("EVALSUITE_API_KEY", key)
        with (
            StubEndpoint(lambda path, body: None, status=401) as stub,
            pytest.raises(UsageError, match=f"{reason}.*EVALSUITE_API_KEY"),
        ):
            check_endpoint(stub.url, None)
    with pytest.raises(ServerError, match="no response from"):
        check_endpoint("http://127.0.0.1:9/v1", None)
