"""Judges of known behaviour through judge-card: who is usable, and which labelled pairs are read."""

import json
import math

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.comparison.pairs import load_pairs
from evalsuite.errors import DataError
from judges.card import JudgedPair, agreement
from judges.types import Unscored
from judges.verdicts import Game
from tests.evalsuite.comparison.test_known_judges import (
    RISING,
    author,
    compared,
    longer,
    quality,
    selfish,
    shorter,
    talker,
    tokens,
    truthful,
    write,
)
from tests.evalsuite.comparison_judges import judge, serving, word


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
        ({"turns": ["t1", "t2"], "output_1": "x", "output_2": "y", "label": 2}, "has 2 turns and 1 answer"),
        ({"input": "Q", "outputs": ["x", "y"], "label": 3}, "has 2 outputs and the label 3"),
        (
            {"winner": "model_a", "conversation_a": said("a", "x"), "conversation_b": said("b", "y")},
            "two conversations with different user turns",
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
