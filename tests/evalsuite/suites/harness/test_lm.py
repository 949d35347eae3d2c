"""Our LM against lm-eval's own arithmetic, on a toy model whose distribution is known."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalsuite.errors import ServerError, UsageError
from evalsuite.suites.harness.window import Window
from judges.types import Unscored
from tests.evalsuite.toy_lm import ToyServer, direct, loop_in_a_thread, toy_tokenizer

pytestmark = [
    # swig-built modules that lm-eval's imports pull in
    pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute"),
]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with loop_in_a_thread() as running:
        yield running


def instance(kind: str, *arguments: Any, task: str = "t", doc: int = 0, index: int = 0) -> Any:
    from lm_eval.api.instance import Instance

    # 0.4 reads the metadata, 0.5 the fields
    fields = {"task_name": task, "doc_id": doc, "idx": index, "metadata": (task, doc, 1)}
    return Instance(request_type=kind, doc={}, arguments=arguments, **fields)


def lm_on(server: ToyServer, loop: asyncio.AbstractEventLoop, **options: Any) -> Any:
    from evalsuite.suites.harness.lm import EvalsuiteLM

    return EvalsuiteLM(server, loop, **options)


def lm_eval_reference(tokenizer: Any, max_length: int) -> Any:
    """lm-eval's own split of context and continuation, and its vLLM back end's truncation, on the toy distribution."""
    from lm_eval.api.model import TemplateLM

    class Direct(TemplateLM):  # type: ignore[misc]
        eot_token_id = tokenizer.eos_token_id
        prefix_token_id = tokenizer.bos_token_id

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
            flags = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
            if string.startswith(tokenizer.bos_token):
                flags = {"add_special_tokens": False}
            return list(tokenizer(string, **flags).input_ids) if string else []

        def _loglikelihood_tokens(self, requests: Any, **kwargs: Any) -> list[tuple[float, bool]]:
            room, found = max_length - 1, []
            for _, context, continuation in requests:
                inp = (context + continuation)[-room:]
                kept = len(context) - max(0, len(context) + len(continuation) - room)
                found.append(direct(inp[:kept], inp[kept:], len(tokenizer)) if kept > 0 else (math.nan, False))
            return found

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
            raise NotImplementedError

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
            raise NotImplementedError

    return Direct()


texts = st.text(st.sampled_from("the ca(A)B\n $12<s>é"), max_size=24)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(texts, st.lists(texts.filter(bool), min_size=1, max_size=4)), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(6, 60),
)
def test_loglikelihoods_are_lm_evals_own(
    loop: asyncio.AbstractEventLoop,
    docs: list[tuple[str, list[str]]],
    pre_tokenized: bool,
    add_bos: bool,
    feature: bool,
    endpoint: bool,
    max_length: int,
) -> None:
    tokenizer = toy_tokenizer(pre_tokenized, add_bos)
    # On a context of spaces alone lm-eval's back ends fail; ours has a test of its own.
    requests = [
        instance("loglikelihood", context, choice, doc=number, index=place)
        for number, (context, choices) in enumerate(docs)
        if context == "" or context.strip()
        for place, choice in enumerate(choices)
    ]
    expected = lm_eval_reference(tokenizer, max_length).loglikelihood(requests, disable_tqdm=True)
    server = ToyServer(tokenizer, max_model_len=max_length, feature=feature, endpoint=endpoint)
    lm = lm_on(server, loop)
    got = lm.loglikelihood(requests)
    for request, ours, theirs in zip(requests, got, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-9, nan_ok=True)
        if math.isnan(theirs[0]):
            assert lm.unscored["t", request.doc_id].reason == "context_length"


words = st.lists(
    st.sampled_from(["the", "cat", "(A)", "12", "é", "and\n\n", "\tdog", "log:", "$7$", "<s>", "  ", "Answer:\n"]),
    min_size=1,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(
    words.map(" ".join),
    st.lists(texts.filter(bool), min_size=1, max_size=4),
    st.sampled_from(["words", "no words", "bos", "prefix space", "eos"]),
)
def test_tokenising_the_end_alone_splits_as_tokenising_everything(context: str, choices: list[str], kind: str) -> None:
    from evalsuite.suites.harness.tokens import encode_pairs

    tokenizer = toy_tokenizer(kind != "no words", kind == "bos", kind == "prefix space", kind == "eos")
    reference = lm_eval_reference(tokenizer, 100)
    if not context.strip():
        return
    got = encode_pairs(tokenizer, tokenizer.bos_token_id, [(context, choice) for choice in choices])
    assert got == [reference._encode_pair(context, choice) for choice in choices]


@pytest.mark.parametrize(("pre_tokenized", "again"), [(True, False), (False, True)])
def test_a_long_context_is_tokenised_once_where_words_bound_the_merges(pre_tokenized: bool, again: bool) -> None:
    from evalsuite.suites.harness.tokens import encode_pairs

    tokenizer = toy_tokenizer(pre_tokenized)
    seen: list[str] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def __call__(self, asked: list[str], **flags: Any) -> Any:
            seen.extend(asked)
            return tokenizer(asked, **flags)

    context = "the cat sat on the mat and the dog sat on the log " * 20
    encode_pairs(Watched(), tokenizer.bos_token_id, [(context, digit) for digit in "0123456789"])
    assert (sum(len(text) > len(context) - 2 for text in seen) > 1) is again


def test_ten_digits_are_one_request_and_duplicates_cost_nothing(loop: asyncio.AbstractEventLoop) -> None:
    server = ToyServer()
    requests = [instance("loglikelihood", "the cat", digit) for digit in "0123456789" * 2]
    got = lm_on(server, loop).loglikelihood(requests)
    assert len(server.asked) == 1
    assert got[:10] == got[10:]


def test_a_context_of_spaces_is_conditioned_on_the_prefix_token(loop: asyncio.AbstractEventLoop) -> None:
    server = ToyServer()
    tokenizer = server.tokenizer
    [got] = lm_on(server, loop).loglikelihood([instance("loglikelihood", "  ", "the")])
    ids = tokenizer("  the", add_special_tokens=False).input_ids
    assert got == pytest.approx(direct([tokenizer.bos_token_id], ids, server.size))


def test_a_server_without_the_feature_is_named_once(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "evalsuite"):
        lm = lm_on(ToyServer(feature=False), loop)
        lm.loglikelihood([instance("loglikelihood", "the cat", letter) for letter in "abc"])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "logprob_token_ids" in caplog.text


def test_rolling_predicts_each_token_once_with_as_much_context_as_fits(loop: asyncio.AbstractEventLoop) -> None:
    text = "the cat sat on the mat and the dog sat on the log (A) (B)"
    server = ToyServer(max_model_len=11)
    ids = server.tokenizer(text).input_ids
    # Windows of max_model_len - 2 tokens, each after the one before it; the last one is filled up on the left.
    size, expected = 11 - 2, 0.0
    for start in range(0, len(ids), size):
        window = ids[start : start + size]
        end = start + len(window)
        before = [server.tokenizer.bos_token_id] if start == 0 else ids[max(0, end - size - 1) : start]
        expected += direct(before, window, server.size)[0]
    assert len(ids) > 2 * size
    [short, long] = lm_on(server, loop).loglikelihood_rolling(
        [instance("loglikelihood_rolling", "the cat"), instance("loglikelihood_rolling", text)]
    )
    begun = direct([server.tokenizer.bos_token_id], server.tokenizer("the cat").input_ids, server.size)
    assert short == pytest.approx(begun[0])
    assert long == pytest.approx(expected)


GREEDY = {"until": ["Problem:"], "do_sample": False, "temperature": 0, "max_gen_toks": 20}


def test_generation_stops_at_the_tasks_words_and_the_end_of_text(loop: asyncio.AbstractEventLoop) -> None:
    server = ToyServer(answer=lambda _, __: "it is 12.\nProblem: next")
    asked = dict(GREEDY, until=["Problem:"])
    [got] = lm_on(server, loop).generate_until([instance("generate_until", "the cat", asked)])
    assert got == "it is 12.\n"
    [(prompt, sampling)] = server.completed
    assert list(prompt) == server.tokenizer("the cat").input_ids
    assert sampling.stop == ("Problem:", "</s>")
    assert (sampling.max_new_tokens, sampling.temperature, sampling.top_p) == (20, 0.0, 1.0)
    assert asked == dict(GREEDY, until=["Problem:"])


def test_a_long_prompt_keeps_its_end_and_room_for_the_answer(loop: asyncio.AbstractEventLoop) -> None:
    server = ToyServer(max_model_len=30)
    text = "the cat sat on the mat and the dog sat on the log and the cat sat"
    lm = lm_on(server, loop)
    lm.generate_until([instance("generate_until", text, dict(GREEDY))])
    [(prompt, _)] = server.completed
    assert list(prompt) == server.tokenizer(text).input_ids[-10:]
    assert lm.truncated["t"] == 1


def test_an_answer_longer_than_the_context_is_unscored(loop: asyncio.AbstractEventLoop) -> None:
    lm = lm_on(ToyServer(max_model_len=20), loop)
    assert lm.generate_until([instance("generate_until", "the", dict(GREEDY), doc=3)]) == [""]
    assert {key: fault.reason for key, fault in lm.unscored.items()} == {("t", 3): "context_length"}


def test_a_setting_that_would_be_lost_is_refused(loop: asyncio.AbstractEventLoop) -> None:
    lm = lm_on(ToyServer(), loop)
    with pytest.raises(UsageError, match=r"repetition_penalty=1\.3"):
        lm.generate_until([instance("generate_until", "the", dict(GREEDY, repetition_penalty=1.3))])


def test_repeated_draws_have_seeds_of_their_own(loop: asyncio.AbstractEventLoop) -> None:
    server = ToyServer()
    again = instance("generate_until", "the", {"until": [], "do_sample": True, "temperature": 0.8})
    for _ in range(2):
        lm_on(server, loop, seed=7).generate_until([again, again])
    seeds = [sampling.seed for _, sampling in server.completed]
    assert len(set(seeds[:2])) == 2
    assert sorted(seeds[:2]) == sorted(seeds[2:])


def test_a_failed_request_is_recorded_and_never_a_number(loop: asyncio.AbstractEventLoop) -> None:
    bad = toy_tokenizer()("the dog").input_ids

    def fault(prompt: Sequence[int]) -> Unscored | None:
        return Unscored("request_failed", "no") if list(prompt)[: len(bad)] == bad else None

    lm = lm_on(ToyServer(fault=fault), loop)
    requests = [instance("loglikelihood", text, "a", doc=number) for number, text in enumerate(["the cat", "the dog"])]
    good, failed = lm.loglikelihood(requests)
    assert math.isfinite(good[0])
    assert math.isnan(failed[0])
    assert failed[1] is False
    assert lm.unscored == {("t", 1): Unscored("request_failed", "no")}


def test_the_window_bounds_what_is_under_way(loop: asyncio.AbstractEventLoop) -> None:
    server = ToyServer()
    requests = [instance("loglikelihood", f"the cat {number}", "a", doc=number) for number in range(300)]
    seen: list[tuple[str, int, int, int]] = []
    lm_on(server, loop, open_contexts=5, on_progress=lambda *told: seen.append(told)).loglikelihood(requests)
    assert server.most_in_flight <= 5
    assert seen[-1] == ("t", 300, 300, 0)
    assert [answered for _, answered, *_ in seen] == list(range(1, 301))


def test_a_server_that_is_gone_ends_the_run_and_what_is_under_way(loop: asyncio.AbstractEventLoop) -> None:
    cancelled = []

    async def gone() -> None:
        await asyncio.sleep(0.01)
        raise ServerError("the server died")

    async def waiting() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    def feed() -> None:
        with Window(loop, 3) as window:
            window.submit(waiting())
            window.submit(gone())
            for _ in range(10):
                window.submit(waiting())

    with pytest.raises(ServerError, match="died"):
        feed()

    async def others_end() -> None:
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left)

    asyncio.run_coroutine_threadsafe(others_end(), loop).result(30)
    assert cancelled


def test_the_chat_template_is_tried_again_without_a_system_turn(loop: asyncio.AbstractEventLoop) -> None:
    import copy

    tokenizer = copy.deepcopy(toy_tokenizer())
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    lm = lm_on(ToyServer(tokenizer), loop)
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert lm.apply_chat_template(turns) == "[user]u[assistant]"
    assert lm.apply_chat_template([turns[1], {"role": "assistant", "content": "x"}], False) == "[user]u[assistant]x"
