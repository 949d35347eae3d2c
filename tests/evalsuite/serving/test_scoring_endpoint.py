"""The scoring endpoint on a fake engine with a prefix cache like vLLM's."""

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

from evalsuite.serving.scoring_endpoint import PATH, Question, ScoringEndpoint, questions
from tests.evalsuite.toy_lm import direct, distribution

SIZE, BLOCK = 12, 4
GARBAGE = {SIZE + 1: SimpleNamespace(logprob=-1e9, rank=1)}


class Engine:
    """Log-probabilities of the toy distribution; whole blocks are cached, and cached positions are garbage.

    ``leaves_out`` is vLLM's model runner V2, whose list starts at the first computed position.
    """

    def __init__(self, fixed: float | None = None, *, leaves_out: bool = False) -> None:
        self.leaves_out = leaves_out
        self.cached: set[tuple[int, ...]] = set()
        self.computed = 0
        self.n_requests = 0
        self.fixed = fixed
        self.priorities: list[int] = []
        self.ranks: list[int | None] = []
        self.vllm_config: Any = None

    def logprob(self, prefix: tuple[int, ...], token: int) -> Any:
        logprobs = distribution(prefix, SIZE)
        rank = 1 + sum(value > logprobs[token] for value in logprobs)
        return SimpleNamespace(logprob=logprobs[token] if self.fixed is None else self.fixed, rank=rank)

    async def generate(
        self,
        prompt: dict[str, list[int]],
        params: Any,
        request_id: str,
        priority: int = 0,
        data_parallel_rank: Any = None,
    ) -> Any:
        self.n_requests += 1
        self.priorities.append(priority)
        self.ranks.append(data_parallel_rank)
        tokens = tuple(prompt["prompt_token_ids"])
        cached = 0
        if not getattr(params, "skip_reading_prefix_cache", False):
            # vLLM always computes the last token.
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
        ids = getattr(params, "logprob_token_ids", [])
        output = SimpleNamespace(token_ids=[top], logprobs=[{token: self.logprob(tokens, token) for token in ids}])
        yield SimpleNamespace(outputs=[output], prompt_logprobs=prompt_logprobs, num_cached_tokens=cached)


@pytest.fixture(autouse=True)
def without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=SimpleNamespace))


async def post(engine: Engine, body: Any, path: str = PATH, key: str = "") -> httpx.Response:
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
async def test_every_sum_is_the_direct_one_for_any_cache_content(leaves_out: bool, groups: Any) -> None:
    engine = Engine(leaves_out=leaves_out)
    for context, continuations in groups * 2:
        reply = await post(engine, {"model": "m", "context": context, "continuations": continuations})
        assert reply.status_code == 200, reply.text
        for continuation, steps in zip(continuations, reply.json()["results"], strict=True):
            value, greedy = direct(context, continuation, SIZE)
            assert sum(step[0] for step in steps) == pytest.approx(value)
            assert all(step[1] for step in steps) == greedy


@pytest.mark.parametrize(("policy", "later"), [("priority", -1), ("fcfs", 0)])
async def test_continuations_have_priority_if_the_server_supports_it(policy: str, later: int) -> None:
    engine = Engine()
    engine.vllm_config = SimpleNamespace(scheduler_config=SimpleNamespace(policy=policy))
    await post(engine, {"model": "m", "context": [1, 2], "continuations": [[3, 4], [5, 6]]})
    assert engine.priorities == [0, later, later]


@pytest.mark.parametrize(
    ("parallel", "n_ranks"),
    [({"data_parallel_size": 4}, 4), ({"data_parallel_size": 4, "data_parallel_external_lb": True}, 0), ({}, 0)],
)
async def test_each_context_is_sent_to_one_engine_and_all_engines_are_used(parallel: Any, n_ranks: int) -> None:
    engine, used = Engine(), set()
    engine.vllm_config = SimpleNamespace(parallel_config=SimpleNamespace(**parallel))
    for first in range(40):
        engine.ranks.clear()
        reply = await post(
            engine, {"model": "m", "context": [first % SIZE, first // SIZE], "continuations": [[3, 4], [5, 6]]}
        )
        assert reply.status_code == 200
        assert len(engine.ranks) == 3
        assert len(set(engine.ranks)) == 1
        used.add(engine.ranks[0])
    assert used == (set(range(n_ranks)) if n_ranks else {None})


async def test_a_token_tied_for_most_likely_is_greedy() -> None:
    """Ties are common in 16 bits; vLLM gives each token the rank of the last, lm-eval counts all as greedy."""

    tied = {0, 3, 5, 8}

    class Ties(Engine):
        def logprob(self, prefix: tuple[int, ...], token: int) -> Any:
            return SimpleNamespace(logprob=-1.0, rank=4) if token in tied else SimpleNamespace(logprob=-1.5, rank=5)

        async def generate(self, *arguments: Any, **settings: Any) -> Any:
            async for reply in super().generate(*arguments, **settings):
                reply.outputs[0].token_ids = [0]
                for row in (reply.outputs[0].logprobs[0], *filter(None, reply.prompt_logprobs or ())):
                    row[0] = self.logprob((), 0)
                yield reply

    continuations = [[3, 5], [3, 6], [4], [5, 8, 7], [5, 8, 6, 8]]
    reply = await post(Ties(), {"model": "m", "context": [1, 2], "continuations": continuations})
    assert reply.json()["results"] == [
        [[-1.0 if token in tied else -1.5, token in tied] for token in tokens] for tokens in continuations
    ]


@pytest.mark.parametrize("length", [BLOCK * 10, BLOCK * 10 + 1])
async def test_a_continuation_costs_its_tokens_and_at_most_a_block(length: int) -> None:
    engine = Engine()
    context = [i % SIZE for i in range(length)]
    # Different first tokens, so that no cached block covers a sibling.
    continuations = [[first, 1, 2] for first in range(5)]
    await post(engine, {"model": "m", "context": context, "continuations": continuations})
    assert engine.computed <= length + 5 * (3 + BLOCK - 1)


async def test_what_choices_share_is_asked_once() -> None:
    """With a chat template, lm-eval's one-letter choices begin with the line break that ends the context."""
    engine = Engine()
    context = [i % SIZE for i in range(BLOCK * 10)]
    await post(engine, {"model": "m", "context": context, "continuations": [[2, letter] for letter in range(10)]})
    assert engine.n_requests == 2
    assert engine.computed <= len(context) + BLOCK


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6).map(tuple), min_size=1, max_size=8))
def test_the_tree_asks_once_per_branch_and_once_per_unbranched_end(continuations: Any) -> None:
    nodes = {tokens[:end] for tokens in continuations for end in range(len(tokens) + 1)}
    children = {node: [other for other in nodes if other[:-1] == node and other != node] for node in nodes}
    branches = {node for node, below in children.items() if len(below) > 1}
    # An end is unbranched where the last token is the only one that may follow.
    ends = {node[:-1] for node, below in children.items() if node and not below}
    asked = []

    def walk(question: Question) -> None:
        asked.append(question)
        for below in question.below:
            assert len(question.path) < below.start <= len(below.path) + 1
            assert below.path[: len(question.path)] == question.path
            walk(below)

    walk(questions(continuations))
    assert sorted(question.path for question in asked) == sorted({(), *branches, *ends})
    known = [question.path[:end] for question in asked for end in range(question.start + 1, len(question.path) + 1)]
    known += [(*question.path, token) for question in asked for token in question.ids]
    assert sorted(known) == sorted(nodes - {()})


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
async def test_an_invalid_request_is_rejected(body: Any) -> None:
    reply = await post(Engine(), body)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]


async def test_an_adapter_is_not_served_here() -> None:
    reply = await post(Engine(), {"model": "adapter", "context": [1], "continuations": [[1, 2]]})
    assert reply.status_code == 404


async def test_other_paths_are_passed_on() -> None:
    assert (await post(Engine(), {}, path="/v1/completions")).status_code == 418


async def test_the_servers_key_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "right")
    request = {"model": "m", "context": [1], "continuations": [[1, 2]]}
    assert (await post(Engine(), request)).status_code == 401
    assert (await post(Engine(), request, key="wrong")).status_code == 401
    assert (await post(Engine(), request, key="right")).status_code == 200


async def test_an_engine_with_other_replies_is_an_error_and_not_a_score() -> None:
    class Short(Engine):
        async def generate(self, *arguments: Any, **settings: Any) -> Any:
            async for reply in super().generate(*arguments, **settings):
                if reply.prompt_logprobs is not None:
                    reply.prompt_logprobs = reply.prompt_logprobs[-1:]
                yield reply

    reply = await post(Short(), {"model": "m", "context": [1, 2], "continuations": [[3, 4, 5]]})
    assert reply.status_code == 400
    assert "log-probabilities" in reply.json()["error"]["message"]


@pytest.mark.parametrize("value", [math.nan, -math.inf])
async def test_a_non_finite_log_probability_is_valid_json(value: float) -> None:
    reply = await post(Engine(value), {"model": "m", "context": [1], "continuations": [[1, 2]]})
    assert [value for value, _ in reply.json()["results"][0]] == [None, None]
