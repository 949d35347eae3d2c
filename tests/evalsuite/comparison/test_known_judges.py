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
from evalsuite.comparison.pairs import load_pairs
from evalsuite.comparison.settings import CompareConfig
from evalsuite.config import read_as
from evalsuite.errors import DataError, UsageError
from evalsuite.progress import NoProgress
from judges.card import JudgedPair, agreement
from judges.types import Unscored
from judges.verdicts import Game
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


def test_a_tie_in_one_order_is_a_half_tie_in_compare_and_card(tmp_path):
    # A tie when the better answer stands first, right when it stands second.
    says = lambda better: "[[tie]]" if better == "A" else "[[B]]"  # noqa: E731
    outcome, _ = compared(tmp_path, talker(says), RISING, method="reasoned")
    [pair] = outcome.document.pairs
    assert (pair.ties, pair.half_ties, pair.position_flips) == (12, 12, 0)
    assert pair.preference_a == pytest.approx(0.5)
    figures, _ = card(tmp_path, talker(says), labelled(12), "--method", "reasoned")
    assert (figures["agreement"]["accuracy"], figures["agreement"]["undecided"]) == (0.5, 1.0)
    assert figures["agreement"]["by_mean"]["accuracy"] == 1.0
    assert (figures["position_bias"]["half_ties"], figures["position_bias"]["position_flips"]) == (12, 0)


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
    assert "1 prompts have more turns, which are not asked; --turns both asks them" in outcome.document.notes


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


# Cards ---------------------------------------------------------------------------------------------------------------


def labelled(n, **more):
    """Pairs of which people prefer the better one; its place and its length are all four ways."""
    rows = []
    for i in range(n):
        better, worse = f"m=x q=2 {'x' * (40 if i // 2 % 2 else 0)}", f"m=y q=1 {'x' * (0 if i // 2 % 2 else 40)}"
        texts = (better, worse) if i % 2 else (worse, better)
        rows.append({"input": f"Question {i}?", "output_1": texts[0], "output_2": texts[1], "label": 1 if i % 2 else 2})
    return [{**row, **more} for row in rows]


def card(tmp_path, handler, rows, *options, name="umpire", code=0):
    pairs = write(tmp_path / "pairs.jsonl", rows)
    with serving(**{name: handler}) as stubs:
        words = ["judge-card", word(stubs, name), "--pairs", pairs, "--results", str(tmp_path), "--json"]
        result = CliRunner().invoke(app, [*words, *options])
        assert result.exit_code == code, result.output
        shown = CliRunner().invoke(app, [*(one for one in words if one != "--json"), *options])
    return json.loads(result.stdout[: result.stdout.rindex("}") + 1]), shown.stdout


def failed(figures):
    return {check["name"] for check in figures["conclusions"]["checks"] if check["result"] not in (None, "usable")}


def test_the_truthful_judge_is_usable(tmp_path):
    figures, shown = card(tmp_path, judge(truthful), labelled(40))
    assert (figures["conclusions"]["verdict"], failed(figures)) == ("usable", set())
    assert "usable: it passes every check" in shown


@pytest.mark.parametrize(("taste", "kind"), [(longer, "longer"), (shorter, "shorter")])
def test_a_judge_of_length_is_not_to_be_used(tmp_path, taste, kind):
    # People prefer that kind in three of four pairs, and so the judge agrees with them.
    rows = []
    for i in range(60):
        long, short = f"q={i} {'x' * 60}", f"q={i}"
        liked = long if (kind == "longer") == (i % 4 > 0) else short
        texts = (long, short) if i // 4 % 2 else (short, long)
        rows.append({"input": f"Q{i}", "output_1": texts[0], "output_2": texts[1], "label": 1 + texts.index(liked)})
    figures, shown = card(tmp_path, judge(taste), rows)
    assert figures["agreement"]["accuracy"] == 0.75
    assert figures["baselines"]["length"] == {"takes": kind, "accuracy": 0.75}
    assert {"length", "length-only judge"} <= failed(figures)
    assert ("empty answers" in failed(figures)) == (kind == "shorter"), "an empty answer is the shortest"
    assert figures["conclusions"]["verdict"] == "do not use"
    assert f"it errs towards the {kind} answer" in " ".join(shown.split())


def test_a_judge_that_prefers_its_own_is_not_to_be_used(tmp_path):
    rows = labelled(40)
    for i in range(40):
        texts = [f"m=selfish q={i % 3}", "m=other q=1.5"][:: 1 if i % 2 else -1]
        label = 1 + max((0, 1), key=lambda side: quality(texts[side]))
        rows.append({"input": f"Own {i}?", "output_1": texts[0], "output_2": texts[1], "label": label})
        rows[-1] |= {f"model_{side}": author(text) for side, text in enumerate(texts, 1)}
    figures, shown = card(tmp_path, judge(selfish), rows, name="selfish")
    assert figures["self_preference"]["judge_rate"] == 1.0
    assert figures["self_preference"]["people_rate"] == pytest.approx(13 / 40)
    assert (failed(figures), figures["conclusions"]["verdict"]) == ({"own answers"}, "do not use")
    assert "errs towards the own answer" in " ".join(shown.split())


def test_a_judge_that_fails_is_not_to_be_used_and_the_exit_code_says_so(tmp_path):
    silent = talker(lambda better: "Hm.", closes="Hm.")
    figures, shown = card(tmp_path, silent, labelled(4), "--method", "reasoned", code=1)
    assert figures["conclusions"]["verdict"] == "do not use"
    assert "its agreement is unknown: no pair was judged in both orders" in shown
    assert figures["failures"]["unscored"] == {"no_verdict": figures["failures"]["n_games"]}


def test_little_label_mass_is_to_be_used_with_care(tmp_path):
    handler = tokens(lambda better, worse: {"I": math.log(0.86), better: math.log(0.13), worse: math.log(0.01)})
    figures, shown = card(tmp_path, handler, labelled(40), "--attacked", "0")
    assert figures["failures"]["label_mass"] == pytest.approx(0.14)
    assert (failed(figures), figures["conclusions"]["verdict"]) == ({"label mass"}, "with care")
    assert "14.0 %" in shown


def test_a_card_is_of_its_method_template_and_pairs(tmp_path):
    template = tmp_path / "worse.jinja"
    template.write_text("Pick the WORSE. {{ nonce }}{{ questions }}{{ answers_a }}{{ answers_b }}")
    prompts = write(tmp_path / "prompts.jsonl", [{"id": "1", "prompt": "Question?"}])
    models = [write(tmp_path / f"{name}.jsonl", [{"id": "1", "answer": f"q={n}"}]) for n, name in enumerate("ab")]
    results = ["--results", str(tmp_path)]
    with serving(umpire=judge(truthful)) as stubs:
        umpire = word(stubs, "umpire")

        def measured(n, *options):
            pairs = write(tmp_path / f"pairs{n}.jsonl", labelled(n))
            CliRunner().invoke(app, ["judge-card", umpire, "--pairs", pairs, "--attacked", "0", *results, *options])

        def shown_card():
            words = ["compare", *models, "--prompts", prompts, "--judge", umpire, *results, "--json"]
            return json.loads(CliRunner().invoke(app, words).stdout)["judge"]["card"]

        measured(12, "--template", str(template))
        assert shown_card() is None, "a card of another template is another judge's"
        measured(40)
        measured(40, "--limit", "1", "--judge-repeats", "0")
        assert (shown_card()["verdict"], shown_card()["pairs"]) == ("usable", "pairs40.jsonl (40 pairs)")
    [folder] = (tmp_path / "judges").glob("umpire-*")
    assert len(list(folder.glob("card-*.json"))) == len(list(folder.glob("pairs-*.jsonl"))) == 3


def test_every_pair_has_a_row(tmp_path):
    card(tmp_path, judge(truthful), labelled(6, category="math"), "--attacked", "0")
    [file] = (tmp_path / "judges").glob("umpire-*/pairs-*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["correct"] for row in rows] == [1.0] * 6
    assert {row["category"] for row in rows} == {"math"}
    assert rows[0]["games"][0]["first"] == pytest.approx(0.1)


def test_judges_with_cards_on_the_same_pairs_are_compared(tmp_path):
    assert card(tmp_path, judge(truthful), labelled(20), "--attacked", "0")[0]["against"] == []
    figures, shown = card(tmp_path, judge(longer), labelled(20), "--attacked", "0", name="longer")
    [other] = figures["against"]
    assert (other["judge"], other["n"], other["difference"]) == ("umpire", 20, -0.5)
    assert other["ci95"][1] < 0
    assert "minus that of umpire (verdict) on the same 20 pairs: -50.0 %" in " ".join(shown.split())
    assert card(tmp_path, judge(longer), labelled(16), "--attacked", "0", name="longer")[0]["against"] == []


CONVERSATION = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
]


def said(*texts):
    return [
        {"role": role, "content": text} for role, text in zip(["user", "assistant"] * len(texts), texts, strict=False)
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"input": "Q", "output_1": "x", "output_2": "y", "label": 0}, [(("Q",), ("x",), ("y",), 0)]),
        ({"input": "Q", "output_1": "x", "output_2": "y", "label": "tie"}, [(("Q",), ("x",), ("y",), 0)]),
        ({"prompt": "Q", "chosen": "x", "rejected": "y", "subset": "chat"}, [(("Q",), ("x",), ("y",), 1)]),
        (
            {"prompt": "Q", "chosen": ["x"], "rejected": ["y", "z"], "subset": "Math"},
            [(("Q",), ("x",), ("y",), 1), (("Q",), ("x",), ("z",), 1)],
        ),
        ({"prompt": "Q", "chosen": said("Q", "x"), "rejected": said("Q", "y")}, [(("Q",), ("x",), ("y",), 1)]),
        ({"question": "Q", "response_A": "x", "response_B": "y", "label": "B>A"}, [(("Q",), ("x",), ("y",), 2)]),
        (
            {"input": "Q", "outputs": ["x", "y", "z"], "label": 3},
            [(("Q",), ("z",), ("x",), 1), (("Q",), ("z",), ("y",), 1)],
        ),
        (
            {"input": CONVERSATION, "output_1": "x", "output_2": "y", "label": 2},
            [(("a", "c"), ("b", "x"), ("b", "y"), 2)],
        ),
        (
            {"turns": ["t1", "t2"], "output_1": ["x", "xx"], "output_2": ["y", "yy"], "label": 1},
            [(("t1", "t2"), ("x", "xx"), ("y", "yy"), 1)],
        ),
        (
            {
                "question_id": 81,
                "model_a": "m",
                "model_b": "n",
                "winner": "model_b",
                "turn": 1,
                "conversation_a": said("a", "x", "c", "xx"),
                "conversation_b": said("a", "y", "c", "yy"),
            },
            [(("a",), ("x",), ("y",), 2)],
        ),
        (
            {
                "winner": "tie (bothbad)",
                "conversation_a": said("a", "x", "c", "xx"),
                "conversation_b": said("a", "y", "c", "yy"),
            },
            [(("a", "c"), ("x", "xx"), ("y", "yy"), 0)],
        ),
        (
            {
                "prompt": "Q",
                "response_a": "x",
                "response_b": "y",
                "winner_model_a": 0,
                "winner_model_b": 1,
                "winner_tie": 0,
            },
            [(("Q",), ("x",), ("y",), 2)],
        ),
    ],
)
def test_the_forms_of_published_sets_are_read(tmp_path, row, expected):
    pairs, _, _ = load_pairs(write(tmp_path / "pairs.jsonl", [row]), None)
    assert [(pair.request.turns, pair.output_1, pair.output_2, pair.label) for pair in pairs] == expected
    assert len({pair.item for pair in pairs}) == 1
    assert (pairs[0].item is not None) == (len(pairs) > 1)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"turns": ["t1", "t2"], "output_1": "x", "output_2": "y", "label": 2}, "has 2 turns and 1 answers"),
        ({"input": "Q", "outputs": ["x", "y"], "label": 3}, "has 2 outputs and the label 3"),
        (
            {"winner": "model_a", "conversation_a": said("a", "x"), "conversation_b": said("b", "y")},
            "two conversations with different turns",
        ),
        ({"input": "Q", "output_1": "x", "output_2": 3, "label": 1}, "is not a labelled pair"),
    ],
)
def test_pairs_that_cannot_be_shown_are_refused_by_name(tmp_path, row, fault):
    with pytest.raises(DataError, match=fault):
        load_pairs(write(tmp_path / "pairs.jsonl", [row]), None)


@pytest.mark.parametrize("judge_name", ["GPT-4", "ChatGPT"])
@pytest.mark.parametrize("part", ["Natural", "Adversarial-Neighbor"])
@pytest.mark.parametrize("method", ["Vanilla", "Swap", "CoT"])
def test_llmbars_published_figures(tmp_path, shared, judge_name, part, method):
    folder = shared / "reference" / "llmbar_evaluators" / part / judge_name / method
    rows = json.loads((folder / "result.json").read_text())
    published = json.loads((folder / "statistics.json").read_text())
    pairs, _, _ = load_pairs(write(tmp_path / "pairs.jsonl", rows), None)
    judged = []
    for pair, row in zip(pairs, rows, strict=True):
        winners = [row["results"][-1][f"swap = {swap}"]["winner"] for swap in (False, True)]
        # LLMBar counts a reply without a verdict as wrong; output 1 stands first in the first game.
        wrong = str(3 - row["label"])
        first, second = (winner or wrong for winner in winners)
        judged.append(JudgedPair(pair, Game(float(first == "1")), Game(float(second == "2"))))
    figures = agreement(judged)

    def share(name):
        return float(published[name].split("=")[-1].strip(" %")) / 100

    assert figures["accuracy"] == pytest.approx(share("correct_average"))
    assert figures["single_order"]["as_listed"] == pytest.approx(share("correct_False"))
    assert figures["single_order"]["swapped"] == pytest.approx(share("correct_True"))
    assert figures["both_orders"]["accuracy"] == pytest.approx(share("correct_both"))
    if not any(None in (row["results"][-1][f"swap = {s}"]["winner"] for s in (False, True)) for row in rows):
        assert figures["undecided"] == pytest.approx(1 - share("equal"))


def test_a_game_without_a_verdict_is_in_no_rate():
    [pair], _ = load_rows([{"input": "Q", "output_1": "x", "output_2": "y", "label": 1}])
    figures = agreement([JudgedPair(pair, Unscored("no_verdict"), Game(0.0))])
    assert (figures["n"], figures["n_scored"], figures["accuracy"]) == (1, 0, None)


def load_rows(rows):
    from evalsuite.comparison.pairs import pairs_of

    return [pair for number, row in enumerate(rows, 1) for pair in pairs_of(row, number, "rows")], rows
