"""How a model thinks, settled before it is asked, and servers that write the prompts themselves."""

from __future__ import annotations

import json

import pytest

from evalsuite.checkpoint import resolve
from evalsuite.errors import UsageError
from evalsuite.serving.client import Client, Target
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.reasoning import Reasoning, described, settle, settled
from evalsuite.serving.wire import Endpoint
from evalsuite.store import Store
from judges.thoughts import STYLES
from judges.types import Message
from tests.evalsuite.serving.test_thinking import ANSWER
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply
from tests.evalsuite.thinking_endpoint import thinking_checkpoint

# Settling how a model thinks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "tokens", "style", "thinks", "is_opened"),
    [
        ("plain", (), None, False, False),
        ("plain", ("<think>", "</think>"), "deepseek_r1", True, False),
        ("plain", ("[THINK]", "[/THINK]"), "mistral", True, False),
        ("switched", (), "qwen3", True, False),
        ("opened", (), "deepseek_r1", True, True),
        ("off", (), "qwen3", False, False),
        ("mistral", (), "mistral", True, False),
    ],
)
def test_the_style_is_found_in_template_and_tokens(tmp_path, family, tokens, style, thinks, is_opened):
    checkpoint = resolve(str(thinking_checkpoint(tmp_path / "m", family, tokens=tokens)))
    found = settled(checkpoint, ServeConfig())
    assert (found.style and found.style.name, found.thinks, found.is_opened) == (style, thinks, is_opened)
    assert bool(found.key()) == (style is not None)


def test_gpt_oss_channels(tmp_path):
    marks = ("<|start|>", "<|end|>", "<|channel|>", "<|message|>")
    checkpoint = resolve(str(thinking_checkpoint(tmp_path / "m", "channels", tokens=marks)))
    found = settled(checkpoint, ServeConfig())
    assert found.style.name == "openai_gptoss"
    assert found.opening == "<|channel|>analysis<|message|>"
    assert found.closing == "<|end|><|start|>assistant<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("thinking", "end"), [("on", "\n<think>"), ("off", "\n<think></think>"), ("auto", "assistant")]
)
def test_a_thought_is_opened_as_the_template_does(tmp_path, thinking, end):
    checkpoint = resolve(str(thinking_checkpoint(tmp_path / "m", "broken")))
    found = settled(checkpoint, ServeConfig(thinking=thinking))
    prompt = (found.on if found.thinks else found.off).render([Message("user", "hello")])
    assert prompt.endswith(f"hello<|im_start|>{end if thinking == 'auto' else 'assistant' + end}")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"reasoning_style": "qwen"}, "unknown reasoning style 'qwen'; did you mean 'qwen3'?"),
        ({"reasoning_style": "mistral"}, "has no token [THINK]"),
        ({"thinking_budget": 4000}, "--thinking-budget 4000 leaves no room"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(tmp_path, options, sentence):
    checkpoint = resolve(str(thinking_checkpoint(tmp_path / "m", "switched")))
    with pytest.raises(UsageError) as caught:
        settled(checkpoint, ServeConfig(**options))
    assert sentence in str(caught.value)


def test_thinking_on_needs_a_style(tmp_path):
    checkpoint = resolve(str(thinking_checkpoint(tmp_path / "m", "plain")))
    with pytest.raises(UsageError, match="--reasoning-style"):
        settled(checkpoint, ServeConfig(thinking="on"))


def test_template_variables_are_given_and_said_to_be_ignored(tmp_path):
    checkpoint = resolve(str(thinking_checkpoint(tmp_path / "m", "switched")))
    serve = ServeConfig(chat_template_kwargs=["enable_thinking=false", '{"colour": "red"}'])
    assert serve.template_args == {"enable_thinking": False, "colour": "red"}
    assert ServeConfig(chat_template_kwargs=serve.template_args) == serve
    found = settled(checkpoint, serve)
    assert not found.thinks
    assert [line for line in found.notes if "colour" in line]
    assert found.key()["chat_template_kwargs"] == {"enable_thinking": False, "colour": "red"}


def test_the_marks_are_those_of_vllms_parsers():
    pytest.importorskip("vllm.reasoning")
    from vllm.reasoning import ReasoningParserManager

    class Vocabulary:
        """Enough of a tokenizer for the parsers' constructors."""

        def get_vocab(self):
            return {mark: number for number, style in enumerate(STYLES.values()) for mark in (style.start, style.end)}

        def convert_tokens_to_ids(self, token):
            return 1

    known = set(ReasoningParserManager.list_registered())
    assert known >= STYLES.keys()
    compared = 0
    for name, style in STYLES.items():
        try:
            parser = ReasoningParserManager.get_reasoning_parser(name)(Vocabulary())
        except Exception:  # parsers that want their model's own tokenizer
            continue
        start, end = getattr(parser, "reasoning_start_str", None), getattr(parser, "reasoning_end_str", None)
        if start and end:
            compared += 1
            assert (start, end) == (style.start, style.end), name
    assert compared >= 5


# Servers that write the prompts themselves ------------------------------------------------------------


def chat_reply(content, *, finish="stop", tokens=5, **message):
    reply = text_reply(content)
    reply["choices"][0] = {"index": 0, "finish_reason": finish, "message": {"content": content, **message}}
    return reply | {"usage": {"prompt_tokens": 3, "completion_tokens": tokens}}


async def remote(tmp_path, handler, **options):
    with StubEndpoint(handler) as stub, Store(tmp_path / "remote.sqlite") as store:

        async def connect():
            return Endpoint(stub.url, "key", "stub")

        reasoning = settle(resolve(f"m@{stub.url}"), ServeConfig(**options), None)
        client = Client(Target("stub", {"weights": "w"}, 4000, reasoning=reasoning), connect, store)
        replies = [await client.chat([Message("user", text)], ANSWER) for text in ("one", "two")]
        await client.close()
        return replies, [body for _, body in stub.requests]


@pytest.mark.parametrize(
    "message",
    [
        {"content": "Yes.", "reasoning_content": "hm"},
        {"content": "Yes.", "reasoning": "hm"},
        {"content": "<think>hm</think>\n\nYes."},
        {"content": "hm\n</think>\n\nYes."},
    ],
)
async def test_thoughts_of_hosted_replies_are_taken_out(tmp_path, message):
    replies, bodies = await remote(tmp_path, lambda path, body: (200, chat_reply(**message)))
    assert [(reply.text, reply.thought) for reply in replies] == [("Yes.", "hm")] * 2
    assert [body["max_tokens"] for body in bodies] == [20, 20], "it fits into the bound"


async def test_a_hosted_model_that_turns_out_to_think_has_room_to(tmp_path):
    def handler(path, body):
        if body["max_tokens"] == 20:
            return 200, chat_reply("", finish="length", reasoning_content="hm " * 7)
        return 200, chat_reply("Yes.", reasoning_content="hm " * 30)

    replies, bodies = await remote(tmp_path, handler, thinking_budget=500)
    assert [reply.text for reply in replies] == ["Yes.", "Yes."]
    assert [body["max_tokens"] for body in bodies] == [20, 520, 520]


async def test_a_hosted_thought_that_is_cut_is_unscored(tmp_path):
    replies, _ = await remote(
        tmp_path, lambda path, body: (200, chat_reply("", finish="length", reasoning="hm")), thinking_budget=500
    )
    assert [reply.reason for reply in replies] == ["unfinished_thinking"] * 2


async def test_how_a_hosted_model_thinks_is_sent(tmp_path):
    _, bodies = await remote(
        tmp_path, lambda path, body: (200, chat_reply("Yes.")), thinking="off", reasoning_effort="low"
    )
    assert bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert bodies[0]["reasoning_effort"] == "low"
    assert json.dumps(bodies[0])


def test_a_budget_beyond_the_context_is_not_promised():
    reasoning = Reasoning(style=STYLES["qwen3"], found="its template")
    assert "up to 16,384 tokens" in described(reasoning, 32_768)
    said = described(reasoning, 8_192)
    assert "16,384" not in said
    assert "8,192 tokens of context" in said
