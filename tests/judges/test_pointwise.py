import json

import pytest

from judges.parse import parse_rating
from judges.pointwise import (
    CATEGORIES_WITH_REFERENCE,
    RATING_CHOICES,
    RATING_LEAD_IN,
    judge_messages,
    needs_reference,
    prompt_name,
)
from judges.types import Message

PROMPTS = {
    "single-v1": {"system_prompt": "S1", "prompt_template": "Q {question} A {answer}"},
    "single-math-v1": {"system_prompt": "S2", "prompt_template": "Q {question} R {ref_answer_1} A {answer}"},
    "single-v1-multi-turn": {
        "system_prompt": "S3\n\n",
        "prompt_template": "{question_1}|{answer_1}|{question_2}|{answer_2}",
    },
    "single-math-v1-multi-turn": {
        "system_prompt": "S4\n\n",
        "prompt_template": "{question_1}|{ref_answer_1}|{question_2}|{ref_answer_2}|{answer_1}|{answer_2}",
    },
}


@pytest.mark.parametrize(
    ("turn", "reference", "system", "user"),
    [
        (1, None, "S1", "Q q1 A a1"),
        (1, ["r1"], "S2", "Q q1 R r1 A a1"),
        (2, None, "S3\n\n", "q1|a1|q2|a2"),
        (2, ["r1", "r2"], "S4\n\n", "q1|r1|q2|r2|a1|a2"),
    ],
)
def test_prompt_selection_and_content(turn, reference, system, user):
    messages = judge_messages(PROMPTS, ["q1", "q2"], ["a1", "a2"], reference, turn=turn)
    assert messages == [Message("system", system), Message("user", user)]


def test_an_answer_cannot_fill_another_placeholder():
    messages = judge_messages(PROMPTS, ["{answer}"], ["{question} {ref_answer_1} {{x}}"], None, turn=1)
    assert messages[1].content == "Q {answer} A {question} {ref_answer_1} {{x}}"


@pytest.mark.parametrize(
    ("prompts", "turns", "answers", "reference", "turn", "error"),
    [
        ({}, ["q"], ["a"], None, 1, "no prompt 'single-v1'"),
        (PROMPTS, ["q"], ["a", "b"], None, 2, "1 questions for turn 2"),
        (PROMPTS, ["q", "p"], ["a"], None, 2, "1 answers for turn 2"),
        (PROMPTS, ["q", "p"], ["a", "b"], ["r"], 2, "1 reference answers for turn 2"),
        ({"single-v1": PROMPTS["single-math-v1"]}, ["q"], ["a"], None, 1, "has the placeholder {ref_answer_1}"),
        ({"single-math-v1": PROMPTS["single-v1"]}, ["q"], ["a"], ["r"], 1, "no placeholder {ref_answer_1}"),
    ],
)
def test_missing_inputs_are_named(prompts, turns, answers, reference, turn, error):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        judge_messages(prompts, turns, answers, reference, turn=turn)
    assert error in str(caught.value)


def test_references_are_needed_for_the_same_categories_as_in_fastchat():
    assert {"math", "reasoning", "coding"} == CATEGORIES_WITH_REFERENCE
    assert needs_reference("math")
    assert not needs_reference("writing")


def test_every_guided_completion_is_a_valid_rating():
    assert [parse_rating(RATING_LEAD_IN + choice).value for choice in RATING_CHOICES] == list(range(1, 11))


def test_the_published_prompts_are_filled_as_str_format_does(shared):
    rows = (shared / "mirror" / "raw" / "mt_bench" / "judge_prompts.jsonl").read_text().splitlines()
    prompts = {row["name"]: row for row in map(json.loads, rows)}
    values = {"question": "q1", "answer": "a1", "question_1": "q1", "question_2": "q2", "answer_1": "a1"}
    values |= {"answer_2": "a2", "ref_answer_1": "r1", "ref_answer_2": "r2"}
    for turn in (1, 2):
        for reference in (None, ["r1", "r2"]):
            row = prompts[prompt_name(turn=turn, with_reference=reference is not None)]
            system, user = judge_messages(prompts, ["q1", "q2"], ["a1", "a2"], reference, turn=turn)
            assert system.content == row["system_prompt"]
            assert user.content == row["prompt_template"].format(**values)
