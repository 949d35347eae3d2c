"""Judges of known behaviour through ``compare`` and ``judge-card``: the figures must say what they are.

An answer's quality stands in it as q=NUMBER, its author as m=NAME.
"""

import json
import math
import re

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.comparison.compare import compare
from evalsuite.comparison.settings import CompareConfig
from evalsuite.config import read_as
from evalsuite.errors import DataError, UsageError
from evalsuite.progress import NoProgress
from tests.evalsuite.comparison_judges import judge, serving, shown_answers, word
from tests.evalsuite.stub_endpoint import text_reply


def quality(text):
    return float((re.search(r"q=(-?[\d.]+)", text) or [0, "0"])[1])


def author(text):
    return (re.search(r"m=(\S+)", text) or ["", ""])[1]


def truthful(first, second):
    return 0.9 if quality(first) > quality(second) else 0.1


def longer(first, second):
    return 0.5 if len(first) == len(second) else 0.9 if len(first) > len(second) else 0.1


def shorter(first, second):
    return 1 - longer(first, second)


def selfish(first, second):
    mine = [author(text) == "selfish" for text in (first, second)]
    return truthful(first, second) if mine[0] == mine[1] else 0.9 if mine[0] else 0.1


def circular(first, second):
    return 0.9 if (author(first), author(second)) in {("R", "S"), ("S", "P"), ("P", "R")} else 0.1


def tokens(distribution):
    """A judge whose first token has the distribution that ``distribution(better)`` gives for the better letter."""

    def handler(path, body):
        prompt = next(m["content"] for m in reversed(body["messages"]) if m["role"] == "user")
        first, second = shown_answers(prompt)
        better, worse = ("A", "B") if quality(first) > quality(second) else ("B", "A")
        if not body.get("top_logprobs"):
            return 200, text_reply("I would rather not say.")
        top = [{"token": token, "logprob": value} for token, value in distribution(better, worse).items()]
        return 200, {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}], "usage": {}}

    return handler


def talker(says, closes="A]]"):
    """A judge without probabilities that says ``says(better)`` and closes as ``closes`` under a guide."""

    def handler(path, body):
        prompt = next(m["content"] for m in reversed(body["messages"]) if m["role"] == "user")
        first, second = shown_answers(prompt)
        if body.get("structured_outputs"):
            return 200, text_reply(closes)
        return 200, text_reply(says("A" if quality(first) > quality(second) else "B"))

    return handler


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


class Logged(NoProgress):
    """A progress whose lines are kept in a list."""

    def __init__(self, lines):
        self.log = lines.append


def compared(tmp_path, handler, qualities, prompts=None, n=12, progress=None, **options):
    """Compare recorded answers of {model: quality of its answer to each prompt}."""
    questions = prompts or [{"id": str(i), "prompt": f"Question {i}?"} for i in range(n)]
    given = {"prompts": write(tmp_path / "prompts.jsonl", questions), "results": tmp_path} | options
    models = []
    for name, of in qualities.items():
        rows = [{"id": row["id"], "answer": f"m={name} q={of(i)}"} for i, row in enumerate(questions)]
        models.append(write(tmp_path / f"{name}.jsonl", rows))
    with serving(umpire=handler) as stubs:
        config = read_as(CompareConfig, given | {"models": models, "judge": [word(stubs, "umpire")]})
        outcome = compare(config, progress)
        asked = [body for _, body in stubs["umpire"].requests]
    return outcome, asked


RISING = {"a": lambda i: i, "b": lambda i: 5.5}
"""Of twelve prompts, a wins the last six."""


def test_a_label_with_a_space_is_the_label(tmp_path):
    def spaced(better, worse):
        return {f" {better}": -0.02, f" {worse}": -4.5, better: -9.5, worse: -9.0}

    outcome, _ = compared(tmp_path, tokens(spaced), RISING)
    [pair] = outcome.document.pairs
    assert (pair.wins_a, pair.wins_b) == (6, 6)
    rows = [json.loads(line) for line in (outcome.folder / "verdicts.jsonl").read_text().splitlines()]
    assert [row["winner"] for row in rows] == ["b"] * 6 + ["a"] * 6, "not inverted"
    mass = math.exp(-0.02) + math.exp(-4.5) + math.exp(-9.5) + math.exp(-9.0)
    assert outcome.document.judging.label_mass == pytest.approx(mass)
    assert rows[0]["a_first"]["mass"] == pytest.approx(mass)


def test_a_rounding_error_of_probability_is_no_verdict(tmp_path):
    handler = tokens(lambda better, worse: {"I": -0.001, better: -18.0, worse: -18.7})
    said = []
    outcome, asked = compared(tmp_path, handler, RISING, progress=Logged(said))
    [pair] = outcome.document.pairs
    assert pair.unscored_reasons == {"label_mass": 12}
    assert any("asked one trial question, it gives A and B a total probability of only 0.0%" in line for line in said)
    assert len(asked) == 1 + 2 * 24, "asked once more in words"
    assert not outcome.document.judge.notes, "the mass of the trial question is only logged"


def test_a_judge_of_little_mass_that_answers_in_words_is_heard(tmp_path):
    low = tokens(lambda better, worse: {"I": -0.001, better: -18.0, worse: -18.7})

    def handler(path, body):
        return (
            low(path, body)
            if body.get("top_logprobs")
            else talker(lambda better: f"Answer {better} is better.")(path, body)
        )

    outcome, _ = compared(tmp_path, handler, RISING)
    assert (outcome.document.pairs[0].wins_a, outcome.document.pairs[0].wins_b) == (6, 6)
    assert outcome.document.judging.in_words == 24


@pytest.mark.parametrize(
    "says",
    [
        lambda better: f"Feedback: so [RESULT] {better}",
        lambda better: ("8 6" if better == "A" else "6 8") + "\nBecause it is right.",
        lambda better: f"[[{better}]]",
    ],
)
def test_a_verdict_in_a_published_judges_form_counts_before_any_closing(tmp_path, says):
    outcome, asked = compared(tmp_path, talker(says), RISING, method="reasoned")
    [pair] = outcome.document.pairs
    assert (pair.wins_a, pair.wins_b, outcome.document.judging.closed_by_guide) == (6, 6, 0)
    assert len(asked) == 24


def test_a_closing_against_the_text_is_counted_and_said(tmp_path):
    says = lambda better: f"Answer {better} is better, as far as I can see, but I will not commit myself"  # noqa: E731
    outcome, _ = compared(tmp_path, talker(says), {"a": lambda i: 1, "b": lambda i: 0}, method="reasoned")
    judging = outcome.document.judging
    assert (judging.closed_by_guide, judging.contradictions) == (24, 12), "it closes as A, and says B half the time"
    with serving(umpire=talker(says)) as stubs:
        words = ["compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "--method", "reasoned"]
        words += ["--prompts", str(tmp_path / "prompts.jsonl"), "--judge", word(stubs, "umpire")]
        shown = " ".join(CliRunner().invoke(app, [*words, "--results", str(tmp_path)]).stdout.split())
    assert "24 of 24 verdicts were completed under guided output" in shown
    assert "12 of these contradict the text before" in shown


def test_an_intransitive_judge_is_named(tmp_path):
    outcome, _ = compared(tmp_path, judge(circular), dict.fromkeys("RPS", lambda i: 1))
    assert [row.bradley_terry for row in outcome.document.ranking] == pytest.approx([0, 0, 0], abs=1e-9)
    [circle] = outcome.document.cycles
    assert set(circle.models) == {"R", "S", "P"}
    assert circle.models[(circle.models.index("R") + 1) % 3] == "S"


def test_one_question_under_many_ids_is_one_observation(tmp_path):
    same = [{"id": str(i), "prompt": "Same question?" + " " * (i % 2)} for i in range(30)]
    outcome, _ = compared(tmp_path, judge(truthful), {"a": lambda i: 2, "b": lambda i: 1}, same)
    [pair] = outcome.document.pairs
    assert (pair.wins_a, pair.p_value) == (30, 1.0)
    assert any("30 prompts are copies of 1" in note for note in outcome.document.notes)
    grouped = [{"id": str(i), "prompt": f"Question {i}?", "group": str(i // 10)} for i in range(30)]
    outcome, _ = compared(tmp_path, judge(truthful), {"a": lambda i: 2, "b": lambda i: 1}, grouped)
    assert outcome.document.pairs[0].p_value == 2 / 2**3


def test_system_reference_and_rubric_are_shown_to_the_judge(tmp_path):
    rows = [{"id": "1", "system": "In French.", "prompt": "2+2?", "reference": "quatre", "rubric": "Be right."}]
    _, asked = compared(tmp_path, judge(truthful), {"a": lambda i: 2, "b": lambda i: 1}, rows)
    prompt = asked[-1]["messages"][-1]["content"]
    for name, text in (("system", "In French."), ("reference", "quatre"), ("rubric", "Be right.")):
        assert re.search(rf"<begin {name} \w+>\n{text}\n<end {name}", prompt)
    template = tmp_path / "mine.jinja"
    template.write_text("{{ nonce }}{{ questions[0] }}{{ answers_a[0] }}{{ answers_b[0] }}")
    with pytest.raises(UsageError, match="have a reference that the judge template does not show"):
        compared(tmp_path, judge(truthful), {"a": lambda i: 2, "b": lambda i: 1}, rows, template=template)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"id": "1", "messages": [{"role": "tool", "content": "x"}]}, "message 1 has the role 'tool'"),
        (
            {"id": "1", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            "message 1 has a part of type 'image_url'",
        ),
        (
            {"id": "1", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
            "has assistant messages",
        ),
        ({"id": "1", "prompt": "x", "rubric": {"a": 1}}, "has a rubric that is not a text"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path, row, fault):
    with pytest.raises(DataError, match=fault):
        compared(tmp_path, judge(truthful), RISING, [row])


def test_turns_that_are_not_asked_are_told(tmp_path):
    rows = [{"id": "1", "turns": ["One", "Two"]}]
    outcome, _ = compared(tmp_path, judge(truthful), RISING, rows)
    assert "1 prompt has more turns, which are not asked; --turns both asks them" in outcome.document.notes


def test_many_prompts_without_a_verdict_give_the_rate_bounds(tmp_path):
    def refuses_a_long_second(path, body):
        first, second = shown_answers(next(m["content"] for m in body["messages"] if m["role"] == "user"))
        if len(second) > 200 or len(first) > 200:
            return 400, {"error": {"message": "maximum context length is 200 tokens", "code": 400}}
        return judge(truthful)(path, body)

    prompts = [{"id": str(i), "prompt": f"Question {i}?"} for i in range(10)]
    qualities = {"a": lambda i: f"{2 if i < 6 else 0} {'x' * 300 if i > 7 else ''}", "b": lambda i: 1}
    outcome, _ = compared(tmp_path, refuses_a_long_second, qualities, prompts)
    [pair] = outcome.document.pairs
    assert (pair.unscored, pair.rate_a, pair.bounds_a) == (2, 0.75, (0.6, 0.8))
    outcome, _ = compared(tmp_path, refuses_a_long_second, qualities, prompts, long_answers="shorten")
    [pair] = outcome.document.pairs
    assert (pair.unscored, pair.rate_a, pair.bounds_a, outcome.document.judging.shortened) == (0, 0.6, None, 4)
