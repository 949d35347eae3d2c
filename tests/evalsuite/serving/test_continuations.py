from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.serving.continuations import (
    MAX_IDS,
    Fitted,
    Loglikelihood,
    NextToken,
    group_by_context,
    loglikelihoods,
    questions_are_cheaper,
    questions_for,
    truncate_left,
)
from judges.types import Unscored
from tests.evalsuite.toy_lm import direct, distribution

SIZE = 300
# Few distinct tokens, so that prefixes are often shared, nested and repeated.
tokens = st.lists(st.integers(0, 3), max_size=5).map(tuple)
contexts = st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=6).map(tuple)


def answers(context: Sequence[int], questions: Sequence[object]) -> list[NextToken | Unscored]:
    answered: list[NextToken | Unscored] = []
    for question in questions:
        logprobs = distribution((*context, *question.path), SIZE)  # type: ignore[attr-defined]
        top = max(range(SIZE), key=logprobs.__getitem__)
        answered.append(NextToken({i: logprobs[i] for i in question.ids}, top))  # type: ignore[attr-defined]
    return answered


@given(contexts, st.lists(tokens, max_size=6))
def test_the_sum_over_a_path_is_the_direct_loglikelihood(
    context: tuple[int, ...], continuations: list[tuple[int, ...]]
) -> None:
    questions = questions_for(continuations)
    summed = loglikelihoods(continuations, questions, answers(context, questions))
    for continuation, got in zip(continuations, summed, strict=True):
        value, greedy = direct(context, continuation, SIZE)
        assert isinstance(got, Loglikelihood)
        assert got.value == pytest.approx(value, abs=1e-12)
        assert got.is_greedy is greedy


@given(st.lists(tokens, max_size=8))
def test_there_is_exactly_one_question_per_inner_node(continuations: list[tuple[int, ...]]) -> None:
    inner = {c[:depth] for c in continuations for depth in range(len(c))}
    questions = questions_for(continuations)
    assert {question.path for question in questions} == inner
    assert len(questions) == len(inner)
    for question in questions:
        children = {
            c[len(question.path)]
            for c in continuations
            if c[: len(question.path)] == question.path and c != question.path
        }
        assert set(question.ids) == children
        assert len(question.ids) == len(children)


def test_greedy_is_the_chain_of_most_likely_tokens() -> None:
    context, chain = (5,), []
    for _ in range(4):
        logprobs = distribution((*context, *chain), SIZE)
        chain.append(max(range(SIZE), key=logprobs.__getitem__))
    wrong = (*chain[:3], (chain[3] + 1) % SIZE)
    questions = questions_for([tuple(chain), wrong])
    first, second = loglikelihoods([tuple(chain), wrong], questions, answers(context, questions))
    assert isinstance(first, Loglikelihood)
    assert isinstance(second, Loglikelihood)
    assert (first.is_greedy, second.is_greedy) == (True, False)


def test_one_token_choices_are_a_single_question() -> None:
    assert len(questions_for([(token,) for token in range(10)])) == 1


def test_an_empty_continuation_is_an_empty_sum() -> None:
    assert questions_for([()]) == ()
    assert loglikelihoods([()], (), []) == [Loglikelihood(0.0, True)]


@pytest.mark.parametrize("children", [128, 129, 256, 300])
def test_a_node_with_many_children_needs_several_questions(children: int) -> None:
    continuations = [(token,) for token in range(children)]
    questions = questions_for(continuations)
    assert len(questions) == math.ceil(children / MAX_IDS)
    assert all(len(question.ids) <= MAX_IDS for question in questions)
    summed = loglikelihoods(continuations, questions, answers((1, 2), questions))
    for continuation, got in zip(continuations, summed, strict=True):
        assert got == pytest.approx(direct((1, 2), continuation, SIZE))


def test_a_failed_question_only_fails_the_paths_through_it() -> None:
    continuations = [(1, 2), (1, 3), (4,)]
    questions = questions_for(continuations)
    answered = answers((9,), questions)
    fault = Unscored("request_failed", "busy")
    answered[[question.path for question in questions].index((1,))] = fault
    first, second, third = loglikelihoods(continuations, questions, answered)
    assert first == second == fault
    assert third == pytest.approx(direct((9,), (4,), SIZE))


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
def test_a_non_finite_logprob_is_unscored(value: float) -> None:
    questions = questions_for([(1,), (2,)])
    bad, good = loglikelihoods([(1,), (2,)], questions, [NextToken({1: value, 2: -1.0}, 2)])
    assert isinstance(bad, Unscored)
    assert bad.reason == "non_finite_logprob"
    assert good == Loglikelihood(-1.0, True)


def test_a_missing_id_is_a_malformed_reply() -> None:
    [got] = loglikelihoods([(1,)], questions_for([(1,)]), [NextToken({2: -1.0}, 2)])
    assert isinstance(got, Unscored)
    assert got.reason == "malformed_reply"


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.lists(st.integers(0, 9), max_size=8),
    st.integers(2, 16),
)
def test_truncation_matches_lm_eval(context: list[int], continuation: list[int], max_model_len: int) -> None:
    # lm_eval/models/vllm_causallms.py _loglikelihood_tokens
    limit = max_model_len - 1
    theirs = (context + continuation)[-limit:]
    context_kept = len(context) - max(0, len(context) + len(continuation) - limit)
    fitted = truncate_left(context, continuation, max_model_len)
    if context_kept < 1:
        assert isinstance(fitted, Unscored)
        assert fitted.reason == "context_length"
    else:
        assert isinstance(fitted, Fitted)
        assert list(fitted.context + fitted.continuation) == theirs
        assert len(fitted.context) == context_kept
        assert fitted.cut == len(context) - context_kept


def test_an_empty_context_is_an_error() -> None:
    with pytest.raises(ValueError, match="prefix token"):
        truncate_left([], [1], 10)


def test_continuations_that_keep_different_parts_of_a_context_are_different_groups() -> None:
    fitted = [truncate_left([1, 2, 3, 4], continuation, 6) for continuation in ([5], [6, 7], [8])]
    groups = group_by_context((i, f.context, f.continuation) for i, f in enumerate(fitted) if isinstance(f, Fitted))
    assert [(group.context, group.members) for group in groups] == [((1, 2, 3, 4), (0, 2)), ((2, 3, 4), (1,))]


@given(st.integers(1, 5000), st.lists(st.integers(0, 200).map(lambda t: (t,)), min_size=1, max_size=200))
def test_one_token_choices_always_use_the_trie(context: int, continuations: list[tuple[int, ...]]) -> None:
    assert questions_are_cheaper(context, continuations, questions_for(continuations))


def test_long_different_endings_of_a_short_context_do_not_use_the_trie() -> None:
    endings = [tuple(range(start, start + 60)) for start in (0, 100, 200)]
    assert not questions_are_cheaper(40, endings, questions_for(endings))
    # ten choices of three tokens that share their first, after a long context
    letters = [(7, letter, 8) for letter in range(20, 30)]
    assert questions_are_cheaper(800, letters, questions_for(letters))


def test_the_fake_is_a_distribution() -> None:
    assert sum(map(math.exp, distribution((1, 2, 3), SIZE))) == pytest.approx(1.0)
