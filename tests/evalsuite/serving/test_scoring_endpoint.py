"""The scoring endpoint on a scripted engine whose prefix cache hides positions as vLLM's does."""

from __future__ import annotations

import json
import math
import sys
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalsuite.serving.scoring_endpoint import PATH, ScoringEndpoint
from tests.evalsuite.toy_lm import direct, distribution

SIZE, BLOCK = 12, 4
GARBAGE = {SIZE + 1: SimpleNamespace(logprob=-1e9, rank=1)}


class Engine:
    """Log-probabilities of the toy distribution; whole blocks are cached, and cached positions hold garbage.

    ``leaves_out`` is vLLM's second model runner: its list begins at the first position that was computed.
    """

    def __init__(self, lie: float | None = None, *, leaves_out: bool = False) -> None:
        self.leaves_out = leaves_out
        self.cached: set[tuple[int, ...]] = set()
        self.computed = 0
        self.lie = lie
        self.priorities: list[int] = []
        self.ranks: list[int | None] = []
        self.vllm_config: Any = None

    def logprob(self, prefix: tuple[int, ...], token: int) -> Any:
        logprobs = distribution(prefix, SIZE)
        rank = 1 + sum(value > logprobs[token] for value in logprobs)
        return SimpleNamespace(logprob=logprobs[token] if self.lie is None else self.lie, rank=rank)

    async def generate(
        self,
        prompt: dict[str, list[int]],
        params: Any,
        request_id: str,
        priority: int = 0,
        data_parallel_rank: Any = None,
    ) -> Any:
        self.priorities.append(priority)
        self.ranks.append(data_parallel_rank)
        tokens = tuple(prompt["prompt_token_ids"])
        cached = 0
        if not getattr(params, "skip_reading_prefix_cache", False):
            # vLLM always computes the last token anew.
            while cached + BLOCK < len(tokens) and tokens[: cached + BLOCK] in self.cached:
                cached += BLOCK
        self.cached |= {tokens[:end] for end in range(BLOCK, len(tokens) + 1, BLOCK)}
        self.computed += len(tokens) - cached
        prompt_logprobs = None
        if getattr(params, "prompt_logprobs", None) is not None:
            prompt_logprobs = [None] + [
                {tokens[i]: self.logprob(tokens[:i], tokens[i])} if i - 1 >= cached else GARBAGE
                for i in range(1, len(tokens))
                if i - 1 >= cached or not self.leaves_out
            ]
        last = distribution(tokens, SIZE)
        top = max(range(SIZE), key=last.__getitem__)
        asked = getattr(params, "logprob_token_ids", [])
        output = SimpleNamespace(token_ids=[top], logprobs=[{token: self.logprob(tokens, token) for token in asked}])
        yield SimpleNamespace(outputs=[output], prompt_logprobs=prompt_logprobs, num_cached_tokens=cached)


@pytest.fixture(autouse=True)
def without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=SimpleNamespace))


async def ask(engine: Engine, body: Any, path: str = PATH, key: str = "") -> httpx.Response:
    async def rest(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    models = SimpleNamespace(base_model_paths=[SimpleNamespace(name="m")])
    app = SimpleNamespace(state=SimpleNamespace(engine_client=engine, openai_serving_models=models))
    endpoint = ScoringEndpoint(rest)

    async def with_app(scope: Any, receive: Any, send: Any) -> None:
        await endpoint({**scope, "app": app}, receive, send)

    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=with_app), base_url="http://x") as client:
        return await client.post(path, content=body if isinstance(body, bytes) else json.dumps(body), headers=headers)


tokens = st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=11)


@pytest.mark.parametrize("leaves_out", [False, True])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(tokens, st.lists(tokens, min_size=1, max_size=5)), min_size=1, max_size=4))
async def test_every_sum_is_the_direct_one_whatever_the_cache_holds(leaves_out: bool, groups: Any) -> None:
    engine = Engine(leaves_out=leaves_out)
    for context, continuations in groups * 2:
        reply = await ask(engine, {"model": "m", "context": context, "continuations": continuations})
        assert reply.status_code == 200, reply.text
        for continuation, steps in zip(continuations, reply.json()["results"], strict=True):
            value, greedy = direct(context, continuation, SIZE)
            assert sum(step[0] for step in steps) == pytest.approx(value)
            assert all(step[1] for step in steps) == greedy


@pytest.mark.parametrize(("policy", "later"), [("priority", -1), ("fcfs", 0)])
async def test_what_continues_a_context_goes_before_other_contexts_where_the_server_takes_priorities(
    policy: str, later: int
) -> None:
    engine = Engine()
    engine.vllm_config = SimpleNamespace(scheduler_config=SimpleNamespace(policy=policy))
    await ask(engine, {"model": "m", "context": [1, 2], "continuations": [[3, 4], [5, 6]]})
    assert engine.priorities == [0, later, later]


@pytest.mark.parametrize(
    ("parallel", "n_ranks"),
    [({"data_parallel_size": 4}, 4), ({"data_parallel_size": 4, "data_parallel_external_lb": True}, 0), ({}, 0)],
)
async def test_all_of_a_context_goes_to_one_engine_and_contexts_to_all(parallel: Any, n_ranks: int) -> None:
    engine, homes = Engine(), set()
    engine.vllm_config = SimpleNamespace(parallel_config=SimpleNamespace(**parallel))
    for first in range(40):
        engine.ranks.clear()
        reply = await ask(
            engine, {"model": "m", "context": [first % SIZE, first // SIZE], "continuations": [[3, 4], [5, 6]]}
        )
        assert reply.status_code == 200
        assert len(engine.ranks) == 3
        assert len(set(engine.ranks)) == 1
        homes.add(engine.ranks[0])
    assert homes == (set(range(n_ranks)) if n_ranks else {None})


async def test_a_token_as_likely_as_the_likeliest_is_greedy() -> None:
    """In 16 bits several often share the first place; vLLM gives each the rank of the last, lm-eval counts all."""

    class Ties(Engine):
        async def generate(self, *words: Any, **settings: Any) -> Any:
            async for reply in super().generate(*words, **settings):
                tie = SimpleNamespace(logprob=-1.0, rank=2)
                worse = SimpleNamespace(logprob=-1.5, rank=3)
                reply.outputs[0].token_ids = [0]
                reply.outputs[0].logprobs = [{0: tie, 3: tie, 4: worse}]
                if reply.prompt_logprobs is not None:
                    prompt = words[0]["prompt_token_ids"]
                    last = {prompt[-1]: tie if prompt[-1] == 5 else worse, 0: tie}
                    reply.prompt_logprobs = [None] * (len(prompt) - 1) + [last]
                yield reply

    reply = await ask(Ties(), {"model": "m", "context": [1, 2], "continuations": [[3, 5], [3, 6], [4]]})
    assert reply.json()["results"] == [[[-1.0, True], [-1.0, True]], [[-1.0, True], [-1.5, False]], [[-1.5, False]]]


@pytest.mark.parametrize("length", [BLOCK * 10, BLOCK * 10 + 1])
async def test_a_continuation_costs_its_own_tokens_and_half_a_block(length: int) -> None:
    engine = Engine()
    context = [i % SIZE for i in range(length)]
    # Different first tokens: no sibling's block covers another's.
    continuations = [[first, 1, 2] for first in range(5)]
    await ask(engine, {"model": "m", "context": context, "continuations": continuations})
    assert engine.computed <= length + 5 * (3 + BLOCK - 1)


@pytest.mark.parametrize(
    "body",
    [
        b"not JSON",
        {"model": "m", "context": [1]},
        {"model": "m", "context": [], "continuations": [[1]]},
        {"model": "m", "context": [1], "continuations": []},
        {"model": "m", "context": [1], "continuations": [[]]},
        {"model": "m", "context": ["1"], "continuations": [[1]]},
        {"model": "m", "context": [True], "continuations": [[1]]},
        [1],
    ],
)
async def test_a_bad_question_is_refused(body: Any) -> None:
    reply = await ask(Engine(), body)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]


async def test_an_adapter_is_not_served_here() -> None:
    reply = await ask(Engine(), {"model": "adapter", "context": [1], "continuations": [[1, 2]]})
    assert reply.status_code == 404


async def test_other_paths_pass() -> None:
    assert (await ask(Engine(), {}, path="/v1/completions")).status_code == 418


async def test_the_servers_key_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "right")
    question = {"model": "m", "context": [1], "continuations": [[1, 2]]}
    assert (await ask(Engine(), question)).status_code == 401
    assert (await ask(Engine(), question, key="wrong")).status_code == 401
    assert (await ask(Engine(), question, key="right")).status_code == 200


async def test_an_engine_whose_replies_look_otherwise_is_a_refusal_and_no_score() -> None:
    class Short(Engine):
        async def generate(self, *words: Any, **settings: Any) -> Any:
            async for reply in super().generate(*words, **settings):
                if reply.prompt_logprobs is not None:
                    reply.prompt_logprobs = reply.prompt_logprobs[-1:]
                yield reply

    reply = await ask(Short(), {"model": "m", "context": [1, 2], "continuations": [[3, 4, 5]]})
    assert reply.status_code == 400
    assert "log-probabilities" in reply.json()["error"]["message"]


@pytest.mark.parametrize("lie", [math.nan, -math.inf])
async def test_a_log_probability_that_is_no_number_stays_valid_json(lie: float) -> None:
    reply = await ask(Engine(lie), {"model": "m", "context": [1], "continuations": [[1, 2]]})
    assert [value for value, _ in reply.json()["results"][0]] == [None, None]
