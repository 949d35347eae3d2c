from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable

import pytest
import tenacity

from evalsuite.errors import ServerError, UsageError
from evalsuite.serving import connection as connection_module
from evalsuite.serving.client import Client, Target
from evalsuite.serving.requests import Guide, Sampling
from evalsuite.serving.wire import Endpoint, check_endpoint
from evalsuite.store import Store
from judges.types import Message, Unscored
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

GREEDY = Sampling(max_new_tokens=16)
HELLO = [Message("user", "hello")]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(connection_module.tenacity, "wait_random_exponential", lambda **_: tenacity.wait_none())


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        yield store


class PlainFormat:
    """Stands in for ChatFormat: one token a character."""

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


@pytest.fixture(params=["ours", "another's"], autouse=True)
def _whose_server(request):
    """Each test asks both: a server of ours, straight over loopback, and somebody else's, by the SDK."""
    END[0] = (lambda: None) if request.param == "ours" else None


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

    own = {"generation": options.pop("generation", {}), "is_ours": options.pop("is_ours", False)}
    target = Target("stub", {"weights": "w"}, max_model_len, chat_format, **own)
    client = Client(target, connect, store, **options)
    client.connected = connected
    OPEN.append(client)
    return client


async def test_an_answer_is_asked_once_and_then_remembered(store):
    with StubEndpoint(lambda path, body: (200, text_reply("hi"))) as stub:
        first = await make(stub, store).chat(HELLO, GREEDY)
        second_client = make(stub, store)
        second = await second_client.chat(HELLO, GREEDY)
    assert first == second
    assert first.text == "hi"
    assert (first.prompt_tokens, first.completion_tokens, first.cached_tokens) == (3, 2, 1)
    assert len(stub.requests) == 1
    assert second_client.connected == [], "a remembered answer must not even start the server"


async def test_the_same_question_at_the_same_time_is_asked_once(store):
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


async def test_every_sampling_setting_is_spelled_out(store):
    with StubEndpoint(lambda path, body: (200, text_reply("hi"))) as stub:
        await make(stub, store).chat(HELLO, GREEDY)
    body = stub.requests[0][1]
    assert body["temperature"] == 0
    assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, -1, 0.0, 1.0)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, {"temperature": 0, "top_k": -1}),
        ({"temperature": 0.6}, {"temperature": 0}),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9}, {"temperature": 0.6, "top_p": 0.9, "top_k": 50}),
        ({"do_sample": True}, {"temperature": 1.0, "top_p": 1.0, "top_k": 50}),
    ],
)
async def test_what_is_left_to_the_model_is_its_generation_config(store, own, expected):
    with StubEndpoint(lambda path, body: (200, text_reply("hi"))) as stub:
        await make(stub, store, generation=own).chat(HELLO, Sampling(16, None, None, None, seed=7))
    body = stub.requests[0][1]
    assert {key: body[key] for key in expected} == expected
    assert body.get("seed") == (7 if own.get("do_sample") else None)


async def test_a_busy_server_is_waited_for(store):
    replies = iter([(503, {"error": {"message": "busy"}}), (429, {"error": {"message": "slow down"}})])
    with StubEndpoint(lambda path, body: next(replies, (200, text_reply("at last")))) as stub:
        client = make(stub, store)
        answer = await client.chat(HELLO, GREEDY)
    assert answer.text == "at last"
    assert client.usage.retries == 2


async def test_a_server_that_keeps_failing_makes_the_item_unscored_and_nothing_is_remembered(store):
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
        ("unknown parameter", "request_failed"),
    ],
)
async def test_a_bad_request_is_not_repeated(store, message, reason):
    with StubEndpoint(lambda path, body: (400, {"error": {"message": message}})) as stub:
        answer = await make(stub, store).chat(HELLO, GREEDY)
    assert (answer.reason, len(stub.requests)) == (reason, 1)


async def test_a_denied_request_ends_the_run_with_the_remedy(store):
    denied = StubEndpoint(lambda path, body: (401, {"error": {"message": "no"}}))
    with denied as stub, pytest.raises(ServerError, match="EVALSUITE_API_KEY"):
        await make(stub, store).chat(HELLO, GREEDY)


async def test_a_server_that_is_dead_is_told_from_one_that_is_busy(store):
    with StubEndpoint(lambda path, body: None) as stub:
        with pytest.raises(ServerError, match="the process ended"):
            await make(stub, store, diagnose=lambda: "the process ended").chat(HELLO, GREEDY)
        assert len(stub.requests) == 1
        busy = make(stub, store)
        assert (await busy.chat(HELLO, GREEDY)).reason == "request_failed", "up, but this question is cut off"
    with pytest.raises(ServerError, match="does not answer"):
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
async def test_a_reply_that_cannot_be_read_is_unscored(store, reply):
    with StubEndpoint(lambda path, body: (200, reply)) as stub:
        answer = await make(stub, store).chat(HELLO, GREEDY)
    assert isinstance(answer, Unscored)
    assert answer.reason == "malformed_reply"
    assert len(store) == 0


async def test_broken_json_is_asked_again(store):
    replies = iter([(200, b'{"choices": [')])
    with StubEndpoint(lambda path, body: next(replies, (200, text_reply("fine")))) as stub:
        answer = await make(stub, store).chat(HELLO, GREEDY)
    assert answer.text == "fine"
    assert len(stub.requests) == 2


async def test_an_empty_string_is_an_answer(store):
    with StubEndpoint(lambda path, body: (200, text_reply(""))) as stub:
        answer = await make(stub, store).chat(HELLO, GREEDY)
    assert answer.text == ""


async def test_a_prompt_that_does_not_fit_is_never_sent_and_one_that_nearly_fits_gets_a_shorter_answer(store):
    with StubEndpoint(lambda path, body: (200, text_reply("hi"))) as stub:
        client = make(stub, store, chat_format=PlainFormat(), max_model_len=10)
        too_long = await client.chat([Message("user", "x" * 10)], GREEDY)
        assert too_long.reason == "context_length"
        assert stub.requests == []
        await client.chat([Message("user", "x" * 9)], GREEDY)
    assert stub.requests[0][1]["max_tokens"] == 1
    assert stub.requests[0][1]["prompt"] == [ord("x")] * 9


async def test_no_more_requests_are_in_flight_than_allowed(store):
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


async def test_a_later_turn_is_asked_before_first_turns_that_have_waited_longer(store):
    def last_words(body):
        return body["messages"][-1]["content"]

    with StubEndpoint(lambda path, body: (200, text_reply("hi"))) as stub:
        client = make(stub, store, in_flight=1)
        first_turns = [[Message("user", str(i))] for i in range(4)]
        await asyncio.gather(*(client.chat(messages, GREEDY) for messages in [*first_turns, SECOND_TURN]))
        assert [last_words(body) for _, body in stub.requests] == ["0", "and now?", "1", "2", "3"]


@pytest.mark.parametrize("chat_format", [None, PlainFormat()])
async def test_a_priority_is_sent_only_to_a_server_that_takes_it_and_is_no_part_of_the_question(store, chat_format):
    with StubEndpoint(lambda path, body: (200, text_reply("hi"))) as stub:
        await make(stub, store, chat_format=chat_format, takes_priority=True).chat(HELLO, GREEDY)
        await make(stub, store, chat_format=chat_format, takes_priority=True).chat(SECOND_TURN, GREEDY)
        await make(stub, store, chat_format=chat_format).chat(SECOND_TURN, GREEDY)
        other = [*SECOND_TURN, Message("assistant", "yes"), Message("user", "why?")]
        await make(stub, store, chat_format=chat_format).chat(other, GREEDY)
    assert [body.get("priority") for _, body in stub.requests] == [None, -1, None], "the third was remembered"


async def test_a_twin_of_a_cancelled_question_still_gets_its_answer(store):
    release, arrived, loop = threading.Event(), asyncio.Event(), asyncio.get_running_loop()

    def answer(path, body):
        loop.call_soon_threadsafe(arrived.set)
        release.wait(5)
        return 200, text_reply("hi")

    with StubEndpoint(answer) as stub:
        client = make(stub, store)
        asker = asyncio.create_task(client.chat(HELLO, GREEDY))
        twins = [asyncio.create_task(client.chat(HELLO, GREEDY)) for _ in range(3)]
        await arrived.wait()
        asker.cancel()
        twins[2].cancel()
        release.set()
        answers = await asyncio.gather(asker, *twins, return_exceptions=True)
    assert [type(answer).__name__ for answer in (answers[0], answers[3])] == ["CancelledError"] * 2
    assert [answer.text for answer in answers[1:3]] == ["hi", "hi"]
    assert len(stub.requests) == 2, "once by the one that was cancelled, once for the two that were not"


def next_token_reply(logprobs, top):
    top_logprobs = [{f"token_id:{token}": value for token, value in logprobs.items()}]
    choice = {"text": "x", "logprobs": {"tokens": [f"token_id:{top}"], "top_logprobs": top_logprobs}}
    return {"choices": [choice], "usage": {}}


async def test_next_token_logprobs_are_those_asked_for(store):
    with StubEndpoint(lambda path, body: (200, next_token_reply({5: -1.0, 6: -2.0, 9: -0.5}, 9))) as stub:
        answer = await make(stub, store, chat_format=PlainFormat()).next_token_logprobs([1, 2], [6, 5])
    assert dict(answer.logprobs) == {6: -2.0, 5: -1.0}
    assert answer.top_id == 9
    assert stub.requests[0][1]["logprob_token_ids"] == [5, 6]


async def test_tokens_as_likely_as_the_likeliest_are_all_greedy(store):
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
async def test_a_log_probability_that_is_no_number_is_named(store, bad):
    with StubEndpoint(lambda path, body: (200, next_token_reply({5: bad}, 5))) as stub:
        answer = await make(stub, store, chat_format=PlainFormat()).next_token_logprobs([1], [5])
    assert answer.reason == "non_finite_logprob"


async def test_labels_are_asked_for_by_id_where_the_server_can(store):
    def answer(path, body):
        if path.endswith("/loglikelihoods"):
            return 404, {"error": {"message": "no such path"}}
        return 200, next_token_reply({token: -float(token) for token in body["logprob_token_ids"]}, 0)

    with StubEndpoint(answer) as stub:
        labels = await make(stub, store, chat_format=PlainFormat()).label_logprobs(HELLO, ("m", "M"))
    assert labels == {"m": -float(ord("m")), "M": -float(ord("M"))}
    assert len(stub.requests) == 3, "two questions find out what the server can do, one asks"


async def test_minus_infinity_is_known_by_the_number_that_vllm_writes_for_it(store):
    with StubEndpoint(lambda path, body: (200, next_token_reply({5: -9999.0, 6: -9998.0}, 5))) as stub:
        answer = await make(stub, store, chat_format=PlainFormat()).next_token_logprobs([1], [5])
    assert answer.reason == "non_finite_logprob"


@pytest.mark.parametrize(("ids", "has"), [((0, 1, 2), True), ((0, 29), False), ((0,), False)])
async def test_a_server_that_ignores_the_ids_asked_for_is_seen_through(store, ids, has):
    """Its top token and the one it drew may happen to be among those asked for; all of them cannot."""
    reply = next_token_reply(dict.fromkeys(ids, -1.0), 0)
    with StubEndpoint(lambda path, body: (404, {}) if "context" in body else (200, reply)) as stub:
        client = make(stub, store, chat_format=PlainFormat())
        await client.detect_features()
    assert client.has_logprob_token_ids is has


@pytest.mark.parametrize(("is_ours", "asked"), [(True, 2), (False, 4)])
async def test_what_a_strangers_server_can_do_is_found_out_anew(store, is_ours, asked):
    with StubEndpoint(lambda path, body: (404, {"error": {"message": "no"}})) as stub:
        for _ in range(2):
            client = make(stub, store, chat_format=PlainFormat(), is_ours=is_ours)
            await client.detect_features()
        assert len(stub.requests) == asked


async def test_labels_come_from_the_top_log_probabilities_elsewhere(store):
    content = [{"top_logprobs": [{"token": "m", "logprob": -0.1}, {"token": "The", "logprob": -2.0}]}]
    reply = {"choices": [{"logprobs": {"content": content}}], "usage": {}}
    with StubEndpoint(lambda path, body: (200, reply)) as stub:
        labels = await make(stub, store).label_logprobs(HELLO, ("m", "M"))
    assert labels == {"m": -0.1}, "an absent label stays absent"


async def test_an_open_assistant_turn_is_continued_and_guides_are_passed_on(store):
    with StubEndpoint(lambda path, body: (200, text_reply("7]]"))) as stub:
        await make(stub, store).chat([*HELLO, Message("assistant", "Rating: [[")], GREEDY, Guide(choice=("7]]", "8]]")))
    body = stub.requests[0][1]
    assert body["continue_final_message"] is True
    assert body["add_generation_prompt"] is False
    assert body["structured_outputs"] == {"choice": ["7]]", "8]]"]}


def test_an_endpoint_is_asked_what_it_serves():
    with StubEndpoint(lambda path, body: None, model="judge", max_model_len=77) as stub:
        assert check_endpoint(stub.url, "", None) == ("judge", 77)
        with pytest.raises(UsageError, match="did you mean 'judge'"):
            check_endpoint(stub.url, "", "judgge")
    with (
        StubEndpoint(lambda path, body: None, status=401) as stub,
        pytest.raises(UsageError, match="EVALSUITE_API_KEY"),
    ):
        check_endpoint(stub.url, "", None)
    with pytest.raises(ServerError, match="does not answer"):
        check_endpoint("http://127.0.0.1:9/v1", "", None)
