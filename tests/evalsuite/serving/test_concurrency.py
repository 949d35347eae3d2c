"""What is asked at once ends at once: no question outlives the failure of its sibling."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from evalsuite.comparison.games import Judging, judge_pair, pair_template
from evalsuite.errors import ServerError
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.requests import Completion
from evalsuite.suites.base import SuiteOptions
from evalsuite.suites.mt_bench.suite import MtBench
from evalsuite.suites.mt_bench.turns import MtBenchAnswer


class DyingJudge:
    """Its server dies under the second question, while the first still waits."""

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

    async def label_logprobs(self, messages, labels):
        return await self.chat(messages, None)


async def test_results_stand_in_order():
    async def later(value, delay):
        await asyncio.sleep(delay)
        return value

    assert await gather_or_cancel(later(n, 0.02 / (n + 1)) for n in range(3)) == [0, 1, 2]


async def test_the_failure_is_raised_when_the_others_have_ended():
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


async def test_no_rating_of_one_turn_outlives_the_other():
    judge, suite = DyingJudge(), MtBench()
    loaded = suite.load(SuiteOptions(data="mini", limit=1))
    answer = MtBenchAnswer((Completion("one", "stop", 1, 1), Completion("two", "stop", 1, 1)))
    with pytest.raises(ServerError):
        await suite.judge(loaded.items[0], answer, loaded, judge, SuiteOptions())
    assert sorted(judge.ended) == [0, 1]


@pytest.mark.parametrize("method", ["verdict", "reasoned"])
async def test_no_game_of_a_pair_outlives_the_other(method):
    judge = DyingJudge()
    with pytest.raises(ServerError):
        await judge_pair(judge, Judging(method, pair_template(None, method)), ["q"], ["a"], ["b"])
    assert sorted(judge.ended) == [0, 1]
