"""Words of judgments: what is read, what is counted, and the figures by their definition."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from evalsuite.analysis import judge_words
from evalsuite.analysis.judge_words import excerpt, terms
from evalsuite.analysis.judgments import read_judgments, read_verdicts
from evalsuite.analysis.keywords import (
    PRIOR_WORDS,
    distinguishing_words,
    keywords,
    log_odds,
)
from evalsuite.analysis.settings import KeywordsConfig
from evalsuite.cli import app
from evalsuite.errors import DataError, UsageError
from evalsuite.files import write_json, write_jsonl
from evalsuite.results.importing import import_results
from evalsuite.results.reading import models_in
from judges.types import Unscored
from tests.evalsuite.report_results import mt_bench_row, write_free_form, write_model, write_rows


@pytest.fixture(autouse=True)
def _without_wordnet(monkeypatch):
    monkeypatch.setattr(judge_words, "find_wordnet", lambda: None)


def judgment_rows(model, text, ratings, start=81, **more):
    return [
        {"question_id": start + i, "model": model, "judge": ["j", "p"], "judgment": text, "score": rating, "turn": 1}
        | {"unscored": None}
        | more
        for i, rating in enumerate(ratings)
    ]


def write_judgments(results, name, rows):
    """Write a folder as version 0.1 did: FastChat's judgments, and no records."""
    write_jsonl(write_model(results, name, {"mt_bench": {"score": 5.0}}) / "mt_bench" / "model_judgment.jsonl", rows)


GOOD = "The response is comprehensive and accurate, and the structure is clear to the user."
BAD = "The response lacks depth, it is repetitive and misleading, and the structure isn't very clear."


@pytest.fixture
def two_models(tmp_path):
    write_judgments(tmp_path, "good", judgment_rows("good", GOOD, [9, 8, 9, 8, 9, 9, 5]))
    write_judgments(tmp_path, "bad", judgment_rows("bad", BAD, [3, 4, 3, 2, 3, 3, 5]))
    return tmp_path


def test_negated_words_are_words_of_their_own():
    assert terms("It is not clear, and isn’t very accurate; clear.") == [
        *("it", "is", "not", "not clear", "and", "isn't", "very", "not accurate", "clear"),
    ]
    assert "not detailed" in terms("Without a detailed proof")


def test_log_odds_are_those_of_the_definition():
    counts, totals = np.array([[12.0], [3.0]]), np.array([1000.0, 1500.0])
    prior = PRIOR_WORDS * counts.sum(axis=0) / totals.sum()
    (difference,), (z,) = log_odds(counts, totals, prior)
    a = float(prior[0])
    first = math.log((12 + a) / (1000 + PRIOR_WORDS - 12 - a))
    second = math.log((3 + a) / (1500 + PRIOR_WORDS - 3 - a))
    assert difference == pytest.approx(first - second)
    assert z == pytest.approx((first - second) / math.sqrt(1 / (12 + a) + 1 / (3 + a)))


def test_swapping_the_sides_mirrors_every_figure():
    a = [(str(i), terms(GOOD) * (1 + i)) for i in range(6)]
    b = [(str(i), terms(BAD)) for i in range(6)]
    there = {f.word: f for f in distinguishing_words([a, b], lambda _: True, min_count=1)}
    back = {f.word: f for f in distinguishing_words([b, a], lambda _: True, min_count=1)}
    assert there.keys() == back.keys()
    for word, figure in there.items():
        assert figure.log_odds == pytest.approx(-back[word].log_odds)
        assert figure.p_holm == pytest.approx(back[word].p_holm)
        assert figure.ci95[0] == pytest.approx(-back[word].ci95[1])
        assert figure.ci95[0] <= figure.log_odds <= figure.ci95[1]


def test_equal_judgments_tell_nothing_apart():
    same = [(str(i), terms(GOOD)) for i in range(5)]
    figures = distinguishing_words([same, same], lambda _: True, min_count=1)
    assert all(f.log_odds == pytest.approx(0) and f.p_holm == 1 for f in figures)


def test_the_words_of_praise_and_of_complaint_come_apart(two_models):
    analysis = keywords(KeywordsConfig(judgments=("good", "bad"), results=two_models, all_judgments=True))
    by_id = {table.id: table for table in analysis.tables}
    praise = {row["word"]: row for row in by_id["words_a"].rows}
    blame = {row["word"]: row for row in by_id["words_b"].rows}
    assert {"comprehensive", "accurate", "clear"} <= set(praise)
    assert {"lacks", "repetitive", "misleading", "not clear"} <= set(blame)
    assert blame["lacks"]["kind"] == "complaint"
    assert praise["clear"]["kind"] == "adjective"
    assert blame["lacks"]["count"] == 7
    assert "log_odds_ci95" not in blame["lacks"], "all questions read alike: nothing to draw from"
    assert by_id["words_a"].source == "WILDCHAT-50M, Figure 3"
    assert "lacks" in analysis.examples["lacks"][0]["text"]
    assert {chart.table for chart in analysis.charts} == {"words_a", "words_b"}
    assert analysis.provenance["adjectives"] == "evalsuite's list"


def test_only_differing_ratings_count_by_default(two_models):
    analysis = keywords(KeywordsConfig(judgments=("good", "bad"), results=two_models))
    assert [row["judgments"] for row in analysis.tables[0].rows] == [6, 6]
    assert any("6 items whose ratings differ, of 7" in note for note in analysis.tables[0].notes)


def test_a_users_own_words_are_looked_at(two_models, tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("# mine\nStructure\ndepth\n")
    analysis = keywords(KeywordsConfig(judgments=("good", "bad"), results=two_models, words=own, top=50))
    words = {row["word"]: row["kind"] for table in analysis.tables[1:] for row in table.rows}
    assert words["depth"] == "own"
    own.write_text("# none\n")
    with pytest.raises(DataError, match="has no words"):
        keywords(KeywordsConfig(judgments=("good", "bad"), results=two_models, words=own))


def test_one_file_of_several_models_is_picked_by_name(tmp_path):
    path = tmp_path / "all.jsonl"
    rows = judgment_rows("x", GOOD, [9, 8]) + judgment_rows("y", BAD, [2])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(read_judgments(f"x={path}", tmp_path).judgments) == 2
    with pytest.raises(DataError, match="judges x, y; pick one as NAME="):
        read_judgments(str(path), tmp_path)


FOOTNOTE = "The response cites its sources well, see footnote [1]. Rating: 7"


@pytest.mark.parametrize("recorded", [{}, {"unscored": "no_rating", "score": -1}])
def test_a_footnote_that_was_taken_for_a_rating_is_unscored_as_in_the_figures(tmp_path, recorded):
    rows = judgment_rows("m", FOOTNOTE, [1]) + judgment_rows("m", GOOD + " Rating: [[9]]", [9], start=82)
    rows = [{key: value for key, value in row.items() if key != "unscored"} for row in rows]
    write_judgments(tmp_path, "m", [rows[0] | recorded, rows[1]])
    judgments = read_judgments("m", tmp_path).judgments
    assert [(judgment.text, judgment.rating) for judgment in judgments] == [
        (FOOTNOTE, None),
        (rows[1]["judgment"], 9.0),
    ]
    [model] = models_in(next(tmp_path.glob("m-*")))
    verdicts = [row.verdicts[0] for row in model.records("mt_bench").rows()]
    assert [verdict.unscored for verdict in verdicts] == [Unscored("no_rating"), None]


def annotation(instruction, preference, explanation):
    return {
        "instruction": instruction,
        "output_1": "base",
        "generator_1": "b",
        "output_2": f"answer to {instruction}",
        "generator_2": "m",
        "annotator": "j",
        "preference": preference,
        "raw_completion": explanation,
    }


def test_alpaca_evals_legacy_tie_is_a_tie_and_an_explanation_counts(tmp_path):
    rows = [annotation("a", 0, GOOD), annotation("b", 2, BAD), annotation("c", 1.5, ""), annotation("d", 7, BAD)]
    write_json(tmp_path / "annotations.json", rows)
    told = read_judgments(f"m={tmp_path / 'annotations.json'}", tmp_path)
    assert [judgment.rating for judgment in told.judgments] == [1.5, 2.0, None]
    assert told.left_out == 1
    _, scores = import_results("alpaca_eval", tmp_path / "annotations.json", "imported", tmp_path / "results")
    assert scores.suites["alpaca_eval"]["n_draws"] == 2, "the figures know the same ties"
    assert read_judgments("imported", tmp_path / "results").judgments == told.judgments


def test_of_several_suites_the_first_with_judgments_in_words_counts(tmp_path):
    folder = write_model(tmp_path, "m", {"mt_bench": {"score": 5.0}, "mixeval": {"score": 0.5}})
    write_free_form(folder, [(GOOD, GOOD, 0.5)], echo=True)
    write_rows(folder, "mt_bench", [mt_bench_row(["a"], judgment="7")])
    assert [judgment.rating for judgment in read_judgments("m", tmp_path).judgments] == [0.5]
    write_rows(folder, "mt_bench", [mt_bench_row(["a", "b"], judgment=BAD)])
    assert [judgment.prompt for judgment in read_judgments("m", tmp_path).judgments] == ["Question 1?", "Question 2?"]


def verdict_row(winner, text, prompt="p1"):
    game = {"preference_first": 0.9, "text": text}
    return {
        "prompt_id": prompt,
        "prompt": "Why?",
        "a": "m",
        "b": "n",
        "winner": winner,
        "a_first": game,
        "b_first": None,
    }


def test_verdicts_go_to_the_side_they_preferred(tmp_path):
    folder = tmp_path / "comparisons" / "c"
    folder.mkdir(parents=True)
    rows = [verdict_row("a", GOOD), verdict_row("b", BAD, "p2"), verdict_row("tie", "Both are the same.", "p3")]
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    a, b = read_verdicts("c", tmp_path)
    assert (a.name, [j.text for j in a.judgments]) == ("m preferred", [GOOD])
    assert [j.text for j in b.judgments] == [BAD]
    analysis = keywords(KeywordsConfig(judgments=(), results=tmp_path, comparison="c", min_count=1))
    assert analysis.name == "m-preferred-vs-n-preferred"
    with pytest.raises(DataError, match="name the two models"):
        read_verdicts("c", tmp_path, ("m", "z"))


def test_verdicts_without_words_are_refused(tmp_path):
    folder = tmp_path / "comparisons" / "c"
    folder.mkdir(parents=True)
    (folder / "verdicts.jsonl").write_text(json.dumps(verdict_row("a", None)) + "\n")
    with pytest.raises(DataError, match="1 verdict without an explanation; keywords need `compare --method reasoned`"):
        read_verdicts("c", tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        {"a_first": "a text"},
        {"winner": ["a"]},
        {"winner": {}},
        {"a": None},
        {"b_first": 3},
        {"a_first": {"text": ["several", "words"]}},
    ],
)
def test_verdicts_of_another_form_are_refused_in_one_sentence(tmp_path, damage):
    folder = tmp_path / "comparisons" / "c"
    folder.mkdir(parents=True)
    rows = [verdict_row("a", GOOD), verdict_row("b", BAD, "p2") | damage]
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["analyze", "keywords", "--comparison", "c", "--results", str(tmp_path)]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 2, told.output
    assert "verdicts.jsonl row 2 is not a verdict" in told.stderr


def test_judgments_without_words_are_refused_or_counted(tmp_path):
    rows = judgment_rows("m", "[[5]]", [5, 6])
    write_judgments(tmp_path, "m", rows)
    with pytest.raises(DataError, match="2 judgments, none with an explanation"):
        read_judgments("m", tmp_path)
    write_judgments(tmp_path, "half", [*rows, *judgment_rows("m", GOOD, [7], start=90)])
    assert read_judgments("half", tmp_path).left_out == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [(("good",), "give two"), (("good", "good"), "both are called 'good'"), ((), "give two")],
)
def test_other_than_two_models_are_refused(two_models, words, said):
    with pytest.raises(UsageError, match=said):
        keywords(KeywordsConfig(judgments=words, results=two_models))


def test_a_long_judgment_is_cut_around_the_word():
    text = "x " * 300 + "but it is not at all clear here " + "y " * 300
    cut = excerpt(text, "not clear")
    assert cut.startswith("…")
    assert "not at all clear" in cut
    assert len(cut) < 400


def test_the_command_writes_the_analysis(two_models):
    words = ["analyze", "keywords", "good", "bad", "--results", str(two_models), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["kind"] == "keywords"
    assert (two_models / "analyses" / "keywords-good-vs-bad" / "words_b.csv").is_file()
    assert CliRunner().invoke(app, ["analyze", "keywords", "good", "none", "--results", str(two_models)]).exit_code == 2
