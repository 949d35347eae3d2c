"""Tool-call conversations through the template's own form, weights of turns, and loss on the last answer alone."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from evalsuite.training.masks import DROP_REASONS, Dropped, mark_answers, mark_fitting
from judges.types import Message, ToolCall
from tests.evalsuite.tiny_checkpoint import TEMPLATE
from tests.evalsuite.training import families
from tests.evalsuite.training.test_thoughts import opened, shown, talk

TOOL = {"type": "function", "function": {"name": "look", "description": "Weather of a place.", "parameters": {}}}
CALL = ToolCall("look", '{"place": "Malmö", "days": 2, "exact": true}')
WEATHER = [
    Message("user", "Weather?"),
    Message("assistant", "Let me look.", tool_calls=(CALL,)),
    Message("tool", "rain", tool_call_id="c1"),
    Message("assistant", "It rains."),
]
WRITTEN = '<tool_call>\n{"name": "look", "arguments": {"place": "Malmö", "days": 2, "exact": true}}\n</tool_call>'
JSON_RESULT = TEMPLATE.replace(
    "{{ m['content'] }}", "{{ m['content'] | tojson if m['role'] == 'tool' else m['content'] }}"
)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("m") / "m", families.QWEN3)


def test_the_model_learns_to_call_and_then_to_answer(template):
    marked = mark_answers(template, WEATHER, [TOOL])
    assert shown(template, marked) == (
        'system\nTools:\n{"type": "function", "function": {"name": "look", "description": "Weather of a place.", '
        '"parameters": {}}};\nuser\nWeather?;\n'
        f"assistant\n[Let me look.\n{WRITTEN};]\nuser\n<tool_response>\nrain\n</tool_response>;\n"
        "assistant\n<think>\n\n</think>\n\n[It rains.;]"
    )


def test_a_call_may_be_the_last_turn_and_follow_a_thought(template):
    called = replace(WEATHER[1], content="", thought="I cannot know.")
    text = shown(template, mark_answers(template, [WEATHER[0], called], [TOOL]))
    assert text.endswith(f"assistant\n[<think>\nI cannot know.\n</think>\n\n\n{WRITTEN};]")


def test_thoughts_between_calls_of_one_turn_are_kept_by_the_template(template):
    called = replace(WEATHER[1], thought="I cannot know.")
    answered = replace(WEATHER[3], thought="Rain it is.")
    text = shown(template, mark_answers(template, [WEATHER[0], called, WEATHER[2], answered]))
    assert f"[<think>\nI cannot know.\n</think>\n\nLet me look.\n{WRITTEN};]" in text
    assert text.endswith("[<think>\nRain it is.\n</think>\n\nIt rains.;]")


SHORT = TEMPLATE.replace("m['content']", "m['content'] | replace('b', '')")
OTHER_ARGUMENTS = families.QWEN3.replace("'arguments': c.function.arguments", "'x': 1")
ODD_CALL = replace(WEATHER[1], tool_calls=(ToolCall("<|im_end|>"),))


@pytest.mark.parametrize(
    ("change", "messages", "tools", "reason"),
    [
        (TEMPLATE, WEATHER[:2], [], "calls_not_shown"),
        (OTHER_ARGUMENTS, WEATHER[:2], [], "calls_not_shown"),
        (TEMPLATE, talk("A1"), [TOOL], "tools_not_shown"),
        (SHORT, [Message("user", "ab"), Message("assistant", "c")], [], "turn_not_shown"),
        (families.QWEN3, [WEATHER[0], ODD_CALL], [], "control_token"),
    ],
)
def test_what_the_template_does_not_show_is_a_named_reason(tmp_path, change, messages, tools, reason):
    dropped = mark_answers(opened(tmp_path / "m", change), messages, tools)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == reason
    assert reason in DROP_REASONS


def test_an_earlier_call_that_is_not_shown_has_no_loss(tmp_path):
    marked = mark_answers(opened(tmp_path / "m", TEMPLATE), WEATHER)
    assert marked.n_without_loss == 1
    assert len(marked.answers) == 1


def test_a_result_may_be_written_as_json(tmp_path):
    quoted = [*WEATHER[:2], replace(WEATHER[2], content='{"sky": "grau"}\n'), WEATHER[3]]
    assert not isinstance(mark_answers(opened(tmp_path / "m", JSON_RESULT), quoted), Dropped)


def test_weights_choose_the_answers_with_loss(template):
    messages = talk("A1", "A2", "A3")
    weighted = [
        replace(message, weight=weight) for message, weight in zip(messages, (None, 0, None, 1, None, 0), strict=True)
    ]
    text = shown(template, mark_answers(template, weighted))
    assert text == "user\nQ1;\nassistant\nA1;\nuser\nQ2;\nassistant\n<think>\n\n</think>\n\n[A2;]", (
        "and turns after it go"
    )
    assert mark_answers(template, [replace(message, weight=0.0) for message in messages]) == Dropped("no_weight")
    assert mark_answers(template, [messages[0], replace(messages[1], weight=0.5)]) == Dropped("partial_weight")


def test_the_last_answer_alone_has_loss_on_request(template):
    text = shown(template, mark_answers(template, talk("A1", "T2/A2"), train_on="last"))
    assert text == "user\nQ1;\nassistant\nA1;\nuser\nQ2;\nassistant\n[<think>\nT2\n</think>\n\nA2;]"
    first = len(mark_answers(template, talk("A1")).ids)
    cut = mark_fitting(template, talk("A1", "A2"), first, cut=True, train_on="last")
    assert shown(template, cut).endswith("[A1;]")
