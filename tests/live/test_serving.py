"""What the client gets from a real vLLM."""

from __future__ import annotations

import asyncio
import math

import httpx
import pytest

from evalsuite.serving.requests import Guide, Sampling
from evalsuite.store import Store
from evalsuite.suites.judging import reason_then_choose
from judges.parse import parse_rating
from judges.pointwise import RATING_CHOICES, RATING_LEAD_IN
from judges.types import Message, Unscored
from tests.live.conftest import Live

TALK = [Message("system", "You are brief."), Message("user", "Name three rivers.")]


def test_greedy_answers_do_not_depend_on_who_else_is_asking(live: Live, tmp_path):
    prompts = [[Message("user", f"Write a line about the number {i}.")] for i in range(12)]

    async def alone_and_together():
        together = await asyncio.gather(*(live.session.client.chat(p, Sampling(24)) for p in prompts))
        with Store(tmp_path / "other.sqlite") as other:
            live.session.client._store, kept = other, live.session.client._store
            try:
                alone = [await live.session.client.chat(p, Sampling(24)) for p in prompts[:3]]
            finally:
                live.session.client._store = kept
        return together, alone

    together, alone = live.wait(alone_and_together())
    assert [answer.text for answer in alone] == [answer.text for answer in together[:3]]


def test_our_rendering_is_the_servers_own(live: Live):
    body = {
        "model": live.session.server.model_name,
        "messages": [{"role": m.role, "content": m.content} for m in TALK],
        "max_tokens": 24,
        "temperature": 0,
    }
    headers = {"Authorization": f"Bearer {live.api_key}"}
    theirs = httpx.post(f"{live.url}/chat/completions", json=body, headers=headers, timeout=300).json()
    ours = live.wait(live.session.client.chat(TALK, Sampling(24)))
    assert ours.prompt_tokens == theirs["usage"]["prompt_tokens"]
    assert ours.text == theirs["choices"][0]["message"]["content"]


def test_nobody_else_may_use_the_server(live: Live):
    assert httpx.get(f"{live.url}/models", timeout=20).status_code == 401


def test_next_token_logprobs_are_the_prompt_logprobs(live: Live):
    client = live.session.client
    prompt = client.target.chat_format.prompt_tokens(TALK)
    ids = client.tokenizer.encode(" The Nile and the Rhine", add_special_tokens=False)
    live.wait(client.detect_features())
    assert client.has_logprob_token_ids
    whole = live.wait(client.prompt_logprobs([*prompt, *ids], len(prompt)))
    assert len(whole) == len(ids)
    for position, token in enumerate(ids):
        asked = live.wait(client.next_token_logprobs([*prompt, *ids[:position]], [token]))
        assert asked.logprobs[token] == pytest.approx(whole[position][0], abs=1e-3)
        assert (asked.top_id == token) == whole[position][1]


def test_labels_have_raw_log_probabilities(live: Live):
    labels = live.wait(live.session.client.label_logprobs(TALK, ("m", "M")))
    assert set(labels) == {"m", "M"}
    assert all(math.isfinite(value) and value < 0 for value in labels.values())
    assert sum(map(math.exp, labels.values())) < 1, "raw, not normalised over the two"


def test_a_guide_is_obeyed_and_a_judge_always_ends_with_a_verdict(live: Live):
    chosen = live.wait(live.session.client.chat(TALK, Sampling(8), Guide(choice=("Nile", "Rhine"))))
    assert chosen.text in {"Nile", "Rhine"}
    verdict = live.wait(
        reason_then_choose(live.session.client, TALK, Sampling(24), parse_rating, RATING_LEAD_IN, RATING_CHOICES)
    )
    assert 1 <= verdict.value <= 10


def test_seeded_sampling_repeats_itself_in_a_crowd(live: Live, tmp_path):
    sampling = Sampling(24, temperature=0.9, seed=11)

    async def crowd(store):
        live.session.client._store, kept = store, live.session.client._store
        try:
            others = [
                live.session.client.chat([Message("user", f"{i} " * 300)], Sampling(8, 0.9, seed=i)) for i in range(20)
            ]
            answers = await asyncio.gather(live.session.client.chat(TALK, sampling), *others)
            return answers[0].text
        finally:
            live.session.client._store = kept

    with Store(tmp_path / "a.sqlite") as a, Store(tmp_path / "b.sqlite") as b:
        assert live.wait(crowd(a)) == live.wait(crowd(b))


def test_a_prompt_longer_than_the_context_is_named(live: Live):
    answer = live.wait(live.session.client.chat([Message("user", "word " * 9000)], Sampling(8)))
    assert isinstance(answer, Unscored)
    assert answer.reason == "context_length"
