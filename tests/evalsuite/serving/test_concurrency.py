"""Concurrent requests are all cancelled when one fails."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from evalsuite.comparison.games import Judging, judge_pair, pair_template
from evalsuite.errors import ServerError
from evalsuite.records.rows import Draw, Reply
from evalsuite.serving import concurrency
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.suites.mt_bench.suite import MtBench
from evalsuite.suites.options import SuiteOptions
from judges.verdicts import Request


class DyingJudge:
    """The server dies during the second request, while the first is pending."""

    model_name = "dying"

    def __init__(self):
        self.numbers = count()
        self.ended = []

    async def chat(self, messages, sampling, guide=None):
        number = next(self.numbers)
        try:
            await asyncio.sleep(0 if number else 60)
            raise ServerError("it died")
        finally:
            self.ended.append(number)

    async def label_logprobs(self, messages, labels, spellings=()):
        return await self.chat(messages, None)


async def test_results_are_in_order():
    async def later(value, delay):
        await asyncio.sleep(delay)
        return value

    assert await gather_or_cancel(later(n, 0.02 / (n + 1)) for n in range(3)) == [0, 1, 2]


async def test_no_more_are_started_than_a_server_answers_at_once(monkeypatch):
    monkeypatch.setattr(concurrency, "_STARTED", 3)
    started, most = 0, 0

    async def one(n):
        nonlocal started, most
        started += 1
        most = max(most, started)
        await asyncio.sleep(0.001 * (n % 2))
        started -= 1
        return n

    assert await gather_or_cancel(one(n) for n in range(20)) == list(range(20))
    assert most == 3


async def test_after_a_failure_nothing_more_is_started(monkeypatch):
    monkeypatch.setattr(concurrency, "_STARTED", 2)
    begun = []

    async def one(n):
        begun.append(n)
        await asyncio.sleep(0)
        if n == 3:
            raise ServerError("gone")

    with pytest.raises(ServerError, match="gone"):
        await gather_or_cancel(one(n) for n in range(1000))
    assert max(begun) < 20


async def test_the_error_is_raised_after_the_others_have_ended():
    ended = []

    async def waits():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended.append(True)

    async def fails():
        await asyncio.sleep(0)
        raise ServerError("gone")

    with pytest.raises(ServerError, match="gone"):
        await gather_or_cancel([waits(), fails(), waits()])
    assert ended == [True, True]


async def test_the_rating_of_the_other_turn_is_cancelled():
    judge, suite = DyingJudge(), MtBench()
    loaded = suite.load(SuiteOptions(data="mini", limit=1))
    draw = Draw((Reply("one"), Reply("two")))
    with pytest.raises(ServerError):
        await suite.judge(loaded.items[0], draw, loaded, judge, SuiteOptions())
    assert sorted(judge.ended) == [0, 1]


@pytest.mark.parametrize("method", ["verdict", "reasoned"])
async def test_the_other_game_of_a_pair_is_cancelled(method):
    judge = DyingJudge()
    with pytest.raises(ServerError):
        await judge_pair(judge, Judging(method, pair_template(None, method)), Request(("q",)), ["a"], ["b"])
    assert sorted(judge.ended) == [0, 1]
