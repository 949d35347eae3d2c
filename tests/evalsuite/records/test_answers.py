from __future__ import annotations

from evalsuite.records.answers import answer_figures, how_answers_ended, how_verdicts_ended, verdict_figures
from evalsuite.records.rows import Draw, Reply, Row, Verdict
from judges.types import Unscored


def row(*replies: Reply) -> Row:
    return Row("1", draws=(Draw(replies),))


def test_answers_are_counted_by_how_they_ended():
    loop = "again and again, " * 40
    rows = [
        row(Reply("Yes.", answer_tokens=2), Reply("No", finish="length", answer_tokens=4)),
        row(Reply(loop, finish="length", answer_tokens=6)),
        row(Reply("Yes.", "hm", thought_tokens=10, answer_tokens=2), Reply(unscored=Unscored("timeout"))),
        row(Reply("Yes.", loop, thought_closed=True, thought_short=True, thought_tokens=30, answer_tokens=1)),
        row(Reply(choices=((-1.0, True),))),
    ]
    figures = answer_figures(rows)
    assert figures == {
        "n": 5,
        "cut": 2,
        "loops": 2,
        "answer_tokens": 3.0,
        "thoughts": 2,
        "closed": 1,
        "short": 1,
        "thought_tokens": 20.0,
    }
    assert how_answers_ended("mt_bench", figures) == (
        "mt_bench: 2 of 5 answers were cut at the token limit, 1 of 2 thoughts were closed at the budget, "
        "1 had less context left than the thinking budget, 2 ended in a loop"
    )


def test_nothing_is_said_of_choices_and_of_answers_that_ended_by_themselves():
    assert answer_figures([row(Reply(choices=((-1.0, True),)))]) is None
    ended = answer_figures([row(Reply("Yes."))])
    assert ended == {"n": 1, "cut": 0, "loops": 0, "answer_tokens": None}
    assert how_answers_ended("mixeval", ended) == ""


def test_verdicts_are_counted_by_how_they_ended():
    closed = {"closed_by_guide": True}
    verdicts = (
        Verdict("j", 7.0, text="Rating: [[7]]"),
        Verdict("j", 7.0, text="Fair. Rating: [[7]]", **closed),
        Verdict("j", 7.0, text="Rating: 2\n\nRating: [[7]]", **closed, contradicts=True),
        Verdict("j", text="No number.", unscored=Unscored("no_rating")),
        Verdict("j", unscored=Unscored("request_failed")),
        Verdict("j", 1.4, label_logprobs={"m": -0.5}),
    )
    figures = verdict_figures([Row("1", verdicts=verdicts)])
    assert figures == {"n": 4, "closed_by_guide": 2, "contradictions": 1}
    assert how_verdicts_ended("mt_bench", figures) == (
        "mt_bench: 2 of 4 verdicts were completed under guided output: the text had none in the required form; "
        "1 of these contradict the text"
    )


def test_nothing_is_said_of_verdicts_by_probability_and_of_those_that_need_no_closing():
    assert verdict_figures([Row("1", verdicts=verdicts) for verdicts in [(), (Verdict("j", 1.4),)]]) is None
    assert how_verdicts_ended("mixeval", {"n": 3, "closed_by_guide": 0, "contradictions": 0}) == ""
