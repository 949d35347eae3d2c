"""Style control in compare: the raw rate and the rate in equal style, side by side."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from evalsuite.comparison.games import PairRecord
from evalsuite.comparison.prompts import PromptSet, Question, Texts
from evalsuite.comparison.style import style_control
from evalsuite.comparison.tables import _print_style
from evalsuite.comparison_documents import Preferences
from evalsuite.serving.requests import Chat
from judges.types import Unscored
from judges.verdicts import PairVerdict, Request

N = 60
PAIR = ("long", "short")


def prompts(n: int = N) -> PromptSet:
    questions = tuple(Question(str(number), Request((f"question {number}",))) for number in range(n))
    return PromptSet("p", questions, {}, answer=_never_asked)


async def _never_asked(question: Question, model: Chat) -> Texts:
    raise AssertionError(question, model)


def answers(n: int = N):
    """``long`` writes a long answer to every other prompt, ``short`` never does."""
    longs = {str(i): (("word " * (40 if i % 2 == 0 else 4)),) for i in range(n)}
    return {"long": longs, "short": {str(i): ("word " * 4,) for i in range(n)}}


def records(n: int = N) -> list[PairRecord]:
    """The long answers win 4 of 5 times, the short ones half the time."""
    wins = [(i // 2) % 5 != 0 if i % 2 == 0 else (i // 2) % 2 == 0 for i in range(n)]
    return [PairRecord(PairVerdict("a" if won else "b", float(won))) for won in wins]


def test_a_model_that_wins_by_length_is_level_in_equal_style():
    control = style_control(prompts(), answers(), [{PAIR: records()}])
    [pair] = control.pairs
    assert (pair.a, pair.b) == PAIR
    assert pair.raw_a == pytest.approx(39 / 60)
    assert pair.rate_a == pytest.approx(0.5, abs=1e-3)
    assert pair.ci95_a is not None
    assert pair.ci95_a[0] < 0.5 < pair.ci95_a[1]
    assert (control.coefficients or {})["length"] > 0


def test_two_judges_of_one_mind_say_what_one_says():
    one = style_control(prompts(), answers(), [{PAIR: records()}])
    two = style_control(prompts(), answers(), [{PAIR: records()}] * 2)
    assert two.pairs[0].rate_a == pytest.approx(one.pairs[0].rate_a, abs=1e-4)
    assert two.pairs[0].raw_a == one.pairs[0].raw_a


def test_prompts_without_a_verdict_or_an_answer_are_left_out():
    given, own = records(), answers()
    given[0] = PairRecord(Unscored("no_verdict"))
    own["long"]["1"] = Unscored("timeout")
    [pair] = style_control(prompts(), own, [{PAIR: given}]).pairs
    assert pair.raw_a == pytest.approx((39 - 1) / 58), "prompt 0 was lost, prompt 1 was won"


def test_few_prompts_have_a_reason_instead():
    control = style_control(prompts(8), answers(8), [{PAIR: records(8)}])
    assert control.pairs == ()
    assert "at least 20 judged prompts; these are 8" in control.reason


def test_the_document_keeps_it_and_the_table_shows_it():
    document = Preferences(schema=1, models=PAIR, judge=None, prompts="p", pairs=())
    assert document.style is None, "a file of an earlier version"
    document = document.model_copy(update={"style": style_control(prompts(), answers(), [{PAIR: records()}])})
    read_again = Preferences.model_validate(document.as_json())
    assert read_again.style == style_control(prompts(), answers(), [{PAIR: records()}])
    shown = StringIO()
    _print_style(Console(file=shown, width=160), read_again)
    assert "in equal style" in shown.getvalue()
    assert "65.0" in shown.getvalue()
