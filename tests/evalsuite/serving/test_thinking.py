"""Asking models that think: exact budgets, the answer behind the thought, and nothing changed for the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalsuite.checkpoint import resolve
from evalsuite.serving.chat_format import load_chat_format
from evalsuite.serving.client import Client, Target
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.reasoning import described, settle
from evalsuite.serving.requests import Completion, Guide, Sampling
from evalsuite.serving.wire import Endpoint
from evalsuite.store import Store
from judges.types import Message, Unscored
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply
from tests.evalsuite.thinking_endpoint import HEADER, ThinkingModel, thinking_checkpoint

HELLO = [Message("user", "hello")]
ANSWER = Sampling(max_new_tokens=20)
CODE = "```\nprint('</think>')\n```"
OUTPUTS = {
    "switched": "<think>\nLet me see.\n</think>\n\nIt is 7.",
    "opened": "Let me see.\n</think>\n\nIt is 7.",
    "mistral": "[THINK]Let me see.[/THINK]It is 7.",
}


class Served:
    """A client of a scripted model of one family, with what was asked."""

    def __init__(self, folder: Path, template: str, output: str, *, tokens=(), behind="Forced.", **options) -> None:
        self.folder = folder
        self.checkpoint = resolve(str(thinking_checkpoint(folder / template, template, tokens=tokens)))
        self.serve = ServeConfig(**options)
        self.format = load_chat_format(self.checkpoint)
        self.reasoning = settle(self.checkpoint, self.serve, self.format)
        header = HEADER + "<think>\n" * (template == "opened" and options.get("thinking") != "off")
        self.model = ThinkingModel(self.format.tokenizer, output, behind=behind, header=header)
        self.store = Store(folder / "store.sqlite")
        self.stub = self.model.serve()
        self.clients: list[Client] = []

    async def __aenter__(self) -> Served:
        self.stub.__enter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            await client.close()
        self.stub.__exit__(None, None, None)
        self.store.close()

    def client(self, *, max_model_len: int = 2000, generation=None) -> Client:
        async def connect() -> Endpoint:
            return Endpoint(self.stub.url, "key", "stub")

        target = Target(
            "stub", {"weights": "w"}, max_model_len, self.format, generation=generation or {}, reasoning=self.reasoning
        )
        client = Client(target, connect, self.store)
        self.clients.append(client)
        return client

    @property
    def sizes(self) -> list[int]:
        return [body["max_tokens"] for body in self.model.bodies]


@pytest.mark.parametrize("family", OUTPUTS)
async def test_the_thought_and_the_answer_are_told_apart(tmp_path, family):
    style = {"reasoning_style": "mistral"} if family == "mistral" else {}
    tokens = ("[THINK]", "[/THINK]") if family == "mistral" else ()
    async with Served(tmp_path, family, OUTPUTS[family], tokens=tokens, thinking_budget=100, **style) as served:
        reply = await served.client().chat(HELLO, ANSWER)
    assert isinstance(reply, Completion)
    assert (reply.text, reply.thought, reply.finish_reason) == ("It is 7.", "Let me see.", "stop")
    assert not reply.thought_closed
    assert not reply.thought_short
    # With the blank lines before it, which the model writes itself, and the end of its turn.
    assert reply.completion_tokens == len(served.reasoning.after_thought) + len("It is 7.") + 1
    *_, thought, answer = served.model.bodies
    assert answer["max_tokens"] == 20, "the answer keeps the benchmark's bound"
    assert thought["stop"] == [served.reasoning.style.end]


async def test_a_budget_that_runs_out_closes_the_thought_and_the_answer_has_its_whole_bound(tmp_path):
    long = "<think>\n" + "hm " * 100 + "\n</think>\n\nNever read."
    async with Served(tmp_path, "switched", long, behind="Seven it is.", thinking_budget=30) as served:
        reply = await served.client().chat(HELLO, ANSWER)
    assert reply.text == "Seven it is."
    assert reply.thought == ("<think>\n" + "hm " * 100)[:30].removeprefix("<think>\n").strip()
    assert (reply.thought_tokens, reply.thought_closed) == (30, True)
    assert served.model.prompts[-1].endswith("\n</think>\n\n"), "closed as the template writes it"
    assert served.sizes[-1] == 20
    assert sum(served.sizes[:-1]) == 30, "the opening that was looked for counts into the budget"


async def test_an_unclosed_thought_is_unscored_where_closing_is_off(tmp_path):
    long = "hm " * 100
    async with Served(tmp_path, "opened", long, thinking_budget=30, close_thinking=False) as served:
        reply = await served.client().chat(HELLO, ANSWER)
    assert isinstance(reply, Unscored)
    assert reply.reason == "unfinished_thinking"


async def test_a_thought_without_its_end_mark_is_closed_and_answered(tmp_path):
    async with Served(tmp_path, "opened", "I stop here.", behind="Seven.", thinking_budget=100) as served:
        reply = await served.client().chat(HELLO, ANSWER)
    assert (reply.text, reply.thought, reply.thought_closed) == ("Seven.", "I stop here.", True)


async def test_end_marks_in_the_answer_are_text(tmp_path):
    output = f"<think>\nso\n</think>\n\n{CODE}\n</think> again"
    async with Served(tmp_path, "switched", output, thinking_budget=100) as served:
        reply = await served.client().chat(HELLO, Sampling(max_new_tokens=100))
    assert (reply.thought, reply.text) == ("so", f"{CODE}\n</think> again")


async def test_a_second_thought_before_the_answer_is_no_answer(tmp_path):
    output = "One.\n</think>\n\n<think>\nTwo.\n</think>\n\nIt is 7."
    async with Served(tmp_path, "opened", output, thinking_budget=100) as served:
        reply = await served.client().chat(HELLO, Sampling(max_new_tokens=100))
        cut = await served.client().chat(HELLO, Sampling(max_new_tokens=12))
    assert (reply.text, reply.thought) == ("It is 7.", "One.\n\nTwo.")
    assert isinstance(cut, Unscored)
    assert cut.reason == "unfinished_thinking"


@pytest.mark.parametrize("tokens", [(), ("<think>", "</think>")])
async def test_marks_quoted_in_a_question_stay_text(tmp_path, tokens):
    question = [Message("user", "What does </think> mean after <think>?")]
    async with Served(tmp_path, "opened", OUTPUTS["opened"], tokens=tokens, thinking_budget=100) as served:
        reply = await served.client().chat(question, ANSWER)
        ids = served.format.tokenizer.convert_tokens_to_ids(list(tokens))
    assert reply.text == "It is 7."
    prompt = served.model.bodies[0]["prompt"]
    assert served.model.prompts[0].startswith("<|im_start|>user\nWhat does </think> mean after <think>?")
    assert [prompt.count(token) for token in ids] == ([1, 0] if tokens else []), "the one that the template opens"


async def test_a_model_that_does_not_think_is_asked_exactly_as_before(tmp_path):
    async with Served(tmp_path, "plain", "Hi there.") as served:
        assert served.reasoning.style is None
        assert served.reasoning.key() == {}
        reply = await served.client().chat(HELLO, ANSWER)
        [body] = served.model.bodies
    assert reply == Completion("Hi there.", "stop", len(body["prompt"]), len("Hi there.") + 1)
    neutral = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "temperature": 0.0, "top_p": 1.0}
    asked = {"prompt": body["prompt"], "max_tokens": 20, "stop": [], "skip_special_tokens": True, "model": "stub"}
    assert body == {**asked, **neutral}


async def test_a_model_with_a_thinking_template_that_answers_at_once_keeps_the_benchmarks_sampling(tmp_path):
    warm = {"do_sample": True, "temperature": 0.6}
    async with Served(tmp_path, "switched", "Plainly 7.", thinking_budget=100) as served:
        reply = await served.client(generation=warm).chat(HELLO, ANSWER)
        look, answer = served.model.bodies
    assert (reply.text, reply.thought, reply.finish_reason) == ("Plainly 7.", None, "stop")
    assert look["max_tokens"] == len("<think>") + 2
    assert (answer["max_tokens"], answer["temperature"]) == (20, 0.0)
    assert (look["temperature"], look["top_k"]) == (0.6, 50), "it would have thought as its authors sample"


async def test_a_model_that_thinks_only_as_the_benchmark_samples_it_has_its_thought(tmp_path):
    async with Served(tmp_path, "switched", OUTPUTS["switched"], thinking_budget=100) as served:
        scripted = served.model.__call__

        def handler(path, body):
            if body["max_tokens"] == len("<think>") + 2:
                return 200, {**text_reply("Plainly 7"), "choices": [{"text": "Plainly 7", "finish_reason": "length"}]}
            return scripted(path, body)

        with StubEndpoint(handler) as stub:
            served.stub = stub
            reply = await served.client().chat(HELLO, ANSWER)
        served.stub = served.model.serve()
        served.stub.__enter__()
    assert (reply.text, reply.thought, reply.thought_closed) == ("It is 7.", "Let me see.", False)
    assert reply.completion_tokens <= 20


@pytest.mark.parametrize(("sampling", "temperature"), [("auto", 0.6), ("model", 0.6), ("benchmark", 0.0)])
async def test_a_thinking_model_is_sampled_by_the_policy(tmp_path, sampling, temperature):
    warm = {"do_sample": True, "temperature": 0.6}
    async with Served(tmp_path, "opened", OUTPUTS["opened"], thinking_budget=99, sampling=sampling) as served:
        await served.client(generation=warm).chat(HELLO, ANSWER)
    assert [body["temperature"] for body in served.model.bodies] == [temperature, temperature]


@pytest.mark.parametrize(
    ("family", "tail", "says"),
    [
        ("switched", "<think>\n\n</think>\n\n", ""),
        ("opened", "<think>\n\n</think>\n\n", "no switch"),
        ("off", "<think></think>", ""),
    ],
)
async def test_thinking_off_writes_a_closed_empty_thought(tmp_path, family, tail, says):
    async with Served(tmp_path, family, "", behind="Seven.", thinking="off") as served:
        reply = await served.client().chat(HELLO, ANSWER)
    [prompt] = served.model.prompts
    assert prompt == f"<|im_start|>user\nhello<|im_end|>\n{HEADER}{tail}"
    assert (reply.text, reply.thought) == ("Seven.", None)
    assert any("no switch" in note for note in served.reasoning.notes) == bool(says)
    assert described(served.reasoning, None).startswith("does not think")


async def test_thinking_on_opens_the_thought_of_a_model_that_may_not(tmp_path):
    async with Served(tmp_path, "off", OUTPUTS["switched"], thinking="on", thinking_budget=100) as served:
        reply = await served.client().chat(HELLO, ANSWER)
        first = served.model.prompts[0]
    assert first.endswith(f"{HEADER}<think>\n"), "opened, so there is no first look"
    assert reply.thought == "Let me see."
    auto = settle(served.checkpoint, ServeConfig(), served.format)
    assert not auto.thinks, "as the template has it"


async def test_task_stop_strings_apply_to_the_answer_alone(tmp_path):
    output = "One.\n\nTwo.\n</think>\n\nIt is 7.\n\nQ: next"
    async with Served(tmp_path, "opened", output, thinking_budget=100) as served:
        prompt = served.format.prompt_tokens(HELLO)
        reply = await served.client().answer_prompt(prompt, Sampling(max_new_tokens=50, stop=("\n\n", "Q:")))
    assert (reply.text, reply.thought) == ("It is 7.", "One.\n\nTwo.")


async def test_the_context_holds_prompt_and_answer_first(tmp_path):
    async with Served(tmp_path, "opened", "hm " * 50, behind="Seven.", thinking_budget=100) as served:
        n_prompt = len(served.format.prompt_tokens(HELLO))
        around = len("<think>\n") + len("\n</think>\n\n")
        reply = await served.client(max_model_len=n_prompt + 20 + around + 40).chat(HELLO, ANSWER)
        assert (reply.text, reply.thought_tokens, reply.thought_short) == ("Seven.", 40, True)
        none = await served.client(max_model_len=n_prompt + 20 + around).chat(HELLO, ANSWER)
        assert (none.text, none.thought, none.thought_closed) == ("Seven.", "", True)


async def test_answers_between_thought_and_answer_are_not_asked_twice(tmp_path):
    async with Served(tmp_path, "switched", OUTPUTS["switched"], thinking_budget=100) as served:
        answers = served.model.__call__
        dies = [False]

        def handler(path, body):
            if dies[0] and "return_token_ids" not in body:
                return 400, {"error": {"message": "gone"}}
            return answers(path, body)

        dies[0] = True
        with StubEndpoint(handler) as stub:
            served.stub = stub
            lost = await served.client().chat(HELLO, ANSWER)
            assert isinstance(lost, Unscored)
            asked = len(served.model.bodies)
            dies[0] = False
            reply = await served.client().chat(HELLO, ANSWER)
            assert reply.text == "It is 7."
            assert len(served.model.bodies) == asked + 1, "the thought was stored"
            again = await served.client().chat(HELLO, ANSWER)
            assert again == reply
            assert len(served.model.bodies) == asked + 1
        served.stub = served.model.serve()
        served.stub.__enter__()


async def test_a_sweep_asks_one_thought_and_cuts_it_at_each_budget(tmp_path):
    from dataclasses import replace

    thought = "abcdefghij" * 5
    output = f"{thought}\n</think>\n\nIt is 7."
    async with Served(tmp_path, "opened", output, behind="Cut.", thinking_budget=(10, 30, 100)) as served:
        replies = {}
        for budget in (10, 30, 100):
            client = served.client().with_reasoning(replace(served.reasoning, budget=budget))
            replies[budget] = await client.chat(HELLO, ANSWER)
        assert {budget: reply.thought for budget, reply in replies.items()} == {
            10: thought[:10],
            30: thought[:30],
            100: thought,
        }
        assert {budget: reply.text for budget, reply in replies.items()} == {10: "Cut.", 30: "Cut.", 100: "It is 7."}
        assert [body["max_tokens"] for body in served.model.bodies if "return_token_ids" in body] == [100]


async def test_labels_are_read_behind_the_thought(tmp_path):
    async with Served(tmp_path, "switched", OUTPUTS["switched"], thinking_budget=100) as served:
        labels = await served.client().label_logprobs(HELLO, ("A", "B"))
    assert labels == {"A": -1.0, "B": -2.0}
    assert served.model.prompts[-1].endswith("<think>\nLet me see.\n</think>\n\n")


async def test_a_guided_closing_comes_behind_the_thought_that_the_judgment_had(tmp_path):
    async with Served(tmp_path, "switched", OUTPUTS["switched"], behind="8", thinking_budget=100) as served:
        judged = Message("assistant", "Good.\n\nRating: [[", thought="Let me see.")
        closing = await served.client().chat([*HELLO, judged], ANSWER, Guide(choice=("8",)))
    assert closing.text == "8"
    assert served.model.prompts[-1].endswith(f"{HEADER}<think>\nLet me see.\n</think>\n\nGood.\n\nRating: [[")


async def test_the_second_turn_has_the_first_answer_as_the_template_writes_history(tmp_path):
    history = [*HELLO, Message("assistant", "It is 7.", thought="Let me see."), Message("user", "why?")]
    async with Served(tmp_path, "switched", OUTPUTS["switched"], thinking_budget=100) as served:
        await served.client().chat(history, ANSWER)
    assert "Let me see." not in served.model.prompts[0]
    assert "It is 7.<|im_end|>" in served.model.prompts[0]


async def test_an_answer_that_begins_with_a_thought_is_split_for_any_model(tmp_path):
    async with Served(tmp_path, "plain", "<think>hm</think>\n\nYes.") as served:
        reply = await served.client().chat(HELLO, Sampling(max_new_tokens=99))
        assert (reply.text, reply.thought) == ("Yes.", "hm")
        cut = await served.client().chat(HELLO, Sampling(max_new_tokens=9))
    assert isinstance(cut, Unscored)
    assert cut.reason == "unfinished_thinking"
    assert "--reasoning-style" in cut.detail


async def test_a_bare_end_mark_in_the_answer_of_a_model_that_does_not_think_is_text(tmp_path):
    text = "It ends with\n</think>\nas a rule."
    async with Served(tmp_path, "plain", text) as served:
        reply = await served.client().chat(HELLO, Sampling(max_new_tokens=99))
    assert (reply.text, reply.thought, reply.completion_tokens) == (text, None, len(text) + 1)


HARMONY = ("<|start|>", "<|end|>", "<|channel|>", "<|message|>")
FINAL = "<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("output", "thought"),
    [
        (f"<|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant{FINAL}It is 7.", "Let me see."),
        (f"{FINAL}It is 7.", None),
    ],
)
async def test_a_channel_is_no_part_of_an_answer(tmp_path, output, thought):
    async with Served(tmp_path, "channels", output, tokens=HARMONY, thinking_budget=100) as served:
        served.model.header = f"{HELLO[0].content}<|end|><|start|>assistant"
        client = served.client()
        reply = await client.chat(HELLO, ANSWER)
        await client.label_logprobs(HELLO, ["A", "B"])
    assert isinstance(reply, Completion)
    assert (reply.text, reply.thought, reply.finish_reason) == ("It is 7.", thought, "stop")
    assert served.model.prompts[-1].endswith(FINAL), "labels are the answer's first token"
