"""A model that really thinks: the demo model trained on the thoughts of recipes/thinking.yaml, served by vLLM.

Its thoughts are mostly nonsense; that it writes them by itself, before its answer, is what matters here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evalsuite.checkpoint import resolve
from evalsuite.progress import LogProgress
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.reasoning import settle
from evalsuite.serving.requests import Completion, Sampling
from evalsuite.serving.session import Session
from evalsuite.store import Store
from evalsuite.suites.harness.lm import EvalsuiteLM
from evalsuite.training.train import train
from judges.types import Message

pytestmark = pytest.mark.filterwarnings("default")

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "thinking.yaml"
BUDGET, BOUND = 160, 32
QUESTIONS = (
    "What is 4 plus 5?",
    "Name two vegetables.",
    "What is the opposite of early?",
    "Which day comes after Monday?",
    "What is a bridge for?",
    "How many legs do two dogs have?",
    "Name a river.",
    "What do bees make?",
)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, LoopThread]]:
    folder = tmp_path_factory.mktemp("thinker")
    train(RECIPE, folder / "thinker", contamination="off", progress=LogProgress())
    serve = ServeConfig(dtype="float32", thinking_budget=(BUDGET,))
    with (
        Store(folder / "store.sqlite") as store,
        LoopThread() as thread,
        Session(resolve(str(folder / "thinker")), store, serve, folder / "vllm.log") as session,
    ):
        yield session, thread
        thread.wait(session.client.close())


def ask(session: Session, thread: LoopThread, **changes: object) -> list[Completion]:
    client = session.client.with_reasoning(replace(session.reasoning, **changes))

    async def all_questions() -> list[Completion]:
        return await asyncio.gather(*(client.chat([Message("user", text)], Sampling(BOUND)) for text in QUESTIONS))

    replies = thread.wait(all_questions())
    for reply in replies:
        print(repr(reply.thought), "->", repr(reply.text))
    return replies


def test_it_thinks_and_its_answers_are_within_the_bound(thinker):
    session, thread = thinker
    assert session.reasoning.thinks
    replies = ask(session, thread)
    thoughts = [reply for reply in replies if reply.thought]
    assert len(thoughts) >= 6
    assert all(reply.completion_tokens <= BOUND and reply.thought_tokens <= BUDGET for reply in replies)
    assert not [reply for reply in replies if "<think>" in reply.text or "</think>" in reply.text]


def test_a_budget_of_eight_tokens_closes_every_thought_and_still_gives_answers(thinker):
    session, thread = thinker
    whole, cut = ask(session, thread), ask(session, thread, budget=8)
    closed = [reply for reply in cut if reply.thought_closed]
    assert len(closed) >= 6
    assert all(reply.thought_tokens == 8 and reply.text for reply in closed)
    assert all(reply.completion_tokens <= BOUND for reply in cut)
    for one, other in zip(whole, cut, strict=True):
        # Nested: the thought that was cut is the beginning of the whole one.
        assert (one.thought or "").startswith((other.thought or "").rstrip("</think"))


def test_off_is_the_template_with_its_switch_and_so_are_choices(thinker):
    session, thread = thinker
    off = settle(session.checkpoint, ServeConfig(thinking="off"), session.chat_format)
    messages = [Message("user", QUESTIONS[0])]
    turns = [{"role": "user", "content": QUESTIONS[0]}]
    tokenizer = session.client.tokenizer
    expected = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    prompt = tokenizer.encode(expected, add_special_tokens=False)
    by_hand = thread.wait(session.client.complete(prompt, Sampling(BOUND)))
    assert thread.wait(session.client.with_reasoning(off).chat(messages, Sampling(BOUND))) == by_hand
    model = EvalsuiteLM(session.client, thread.loop)
    model._generates = False
    assert model.apply_chat_template(turns) == expected, "as lm-eval renders it with enable_thinking=False"


def test_the_answer_behind_a_thought_is_what_one_request_would_have_gone_on_with(thinker):
    """Where the model ends its thought itself, both requests together are one greedy generation."""
    session, thread = thinker
    client = session.client.with_reasoning(replace(session.reasoning, sampling="benchmark"))
    equal = 0
    for text in QUESTIONS[:4]:
        messages = [Message("user", text)]
        reply = thread.wait(client.chat(messages, Sampling(BOUND)))
        if (
            not isinstance(reply, Completion)
            or not reply.thought
            or reply.thought_closed
            or reply.finish_reason != "stop"
        ):
            continue
        assert session.reasoning.on is not None
        prompt = session.reasoning.on.prompt_tokens(messages)
        whole = thread.wait(client.complete(prompt, Sampling(BUDGET + BOUND)))
        thought, _, answer = whole.text.partition("</think>")
        assert thought.removeprefix("<think>").strip() == reply.thought
        equal += answer.lstrip("\n") == reply.text
        assert answer.lstrip("\n") == reply.text
    print(f"{equal} answers equal to those of one request")
