"""Similarity of models: alignment, unscored answers, tables and intervals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from evalsuite.analysis import similarity as similarity_module
from evalsuite.analysis.settings import SimilarityConfig
from evalsuite.analysis.similarity import similarity
from evalsuite.analysis.similarity_tables import (
    METEOR,
    ROUGE_1,
    ROUGE_L,
    mean_intervals,
    moving_average,
    published_table,
)
from evalsuite.cli import app
from evalsuite.errors import DataError, UsageError
from judges.statistics import bootstrap_ci


@pytest.fixture(autouse=True)
def _without_wordnet(monkeypatch):
    monkeypatch.setattr(similarity_module, "find_wordnet", lambda: None)


def write_answers(folder, name, answers):
    path = folder / f"{name}.json"
    path.write_text(json.dumps([{"prompt": prompt, "answer": answer} for prompt, answer in answers]))
    return f"{name}={path}"


def three(folder):
    return (
        write_answers(folder, "a", [("p1", "one two three four"), ("p2", "red green blue")]),
        write_answers(folder, "b", [("p2", "red green blue"), ("p1", "one two five six")]),
        write_answers(folder, "c", [("p1", "seven eight"), ("p2", "red blue"), ("p3", "only mine")]),
    )


def table(analysis, name):
    return next(each for each in analysis.tables if each.id == name)


def test_answers_meet_by_prompt_whatever_their_order(tmp_path):
    analysis = similarity(SimilarityConfig(answers=three(tmp_path), results=tmp_path))
    pairs = {row["pair"]: row for row in table(analysis, "pairs").rows}
    # p1: 2 of 4 and 4 words in common, p2: all three.
    assert pairs["a, b"]["rouge1"] == pytest.approx((2 * 2 / 8 + 1) / 2)
    assert pairs["a, c"]["rouge1"] == pytest.approx((0 + 2 * 2 / 5) / 2)
    assert pairs["a, b"]["n"] == 2
    models = {row["model"]: row for row in table(analysis, "models").rows}
    assert models["a"]["avg_rouge1"] == pytest.approx((pairs["a, b"]["rouge1"] + pairs["a, c"]["rouge1"]) / 2)
    # Deviation between b and c for each prompt, then the mean.
    assert models["a"]["std_rouge1"] == pytest.approx(np.mean([np.std([0.5, 0]), np.std([1, 0.8])]))
    assert any(
        "only prompts that every model answered count: 2 (answered" in note for note in table(analysis, "models").notes
    )


def test_meteor_without_wordnet_has_another_name(tmp_path):
    analysis = similarity(SimilarityConfig(answers=three(tmp_path), results=tmp_path))
    keys = {column.key for column in table(analysis, "models").columns}
    assert "avg_meteor_without_synonyms" in keys
    assert "avg_meteor" not in keys
    assert analysis.provenance["meteor"] == "without synonyms"
    assert any("WordNet was not used" in note for note in table(analysis, "models").notes)


def test_an_answer_without_a_word_is_unscored_and_named(tmp_path):
    words = (
        write_answers(tmp_path, "a", [("p1", "日本語の答え"), ("p2", "yes it is")]),
        write_answers(tmp_path, "b", [("p1", "an answer"), ("p2", "yes it is")]),
    )
    analysis = similarity(SimilarityConfig(answers=words, results=tmp_path))
    (row,) = table(analysis, "pairs").rows
    assert row["rouge1"] == pytest.approx(1)
    assert "a: 1 of 2 answers have no a-z or 0-9 and are unscored by ROUGE" in table(analysis, "models").notes


def test_a_pair_without_any_scored_prompt_is_null_with_its_reason(tmp_path):
    words = (write_answers(tmp_path, "a", [("p1", "答え")]), write_answers(tmp_path, "b", [("p1", "answer")]))
    (row,) = table(similarity(SimilarityConfig(answers=words, results=tmp_path)), "pairs").rows
    assert row["rouge1"] is None
    assert row["rouge1_why"].startswith("no prompt where both answers")


def test_no_common_prompt_is_refused_with_counts(tmp_path):
    words = (write_answers(tmp_path, "a", [("p1", "x"), ("p2", "y")]), write_answers(tmp_path, "b", [("q", "z")]))
    with pytest.raises(DataError, match="share no prompt: a answers 2 and b 1, 0 in common"):
        similarity(SimilarityConfig(answers=words, results=tmp_path))


def test_empty_answers_are_counted_not_scored(tmp_path):
    words = (
        write_answers(tmp_path, "a", [("p1", ""), ("p2", "same words")]),
        write_answers(tmp_path, "b", [("p1", "there"), ("p2", "same words")]),
    )
    analysis = similarity(SimilarityConfig(answers=words, results=tmp_path))
    assert table(analysis, "pairs").rows[0]["n"] == 1
    assert "a: 1 without an answer (empty)" in table(analysis, "models").notes


def test_one_model_and_two_of_one_name_are_refused(tmp_path):
    a, b, _ = three(tmp_path)
    with pytest.raises(UsageError, match="give two or more"):
        similarity(SimilarityConfig(answers=(a,), results=tmp_path))
    with pytest.raises(UsageError, match="two models are called 'a'"):
        similarity(SimilarityConfig(answers=(a, b.replace("b=", "a=", 1)), results=tmp_path))


def test_intervals_are_those_of_the_common_bootstrap():
    rng = np.random.default_rng(5)
    values, clusters = rng.random((3, 40)), [i // 2 for i in range(40)]
    for row, interval in zip(values, mean_intervals(values, clusters), strict=True):
        assert interval == pytest.approx(bootstrap_ci(row.tolist(), clusters))


def test_prompts_that_are_all_alike_have_no_interval():
    values = np.array([[0.1, 0.1, 0.1, np.nan], [0.1, 0.2, 0.3, 0.4]])
    alike, others = mean_intervals(values, list("aabc"))
    assert alike is None
    assert others[0] < others[1]


def test_an_interval_needs_two_conversations():
    values = np.array([[0.1, np.nan, np.nan], [0.1, 0.2, 0.3]])
    first, second = mean_intervals(values, ["x", "y", "z"])
    assert first is None
    assert second is not None
    assert mean_intervals(values, ["x", "x", "x"]) == [None, None]


def test_the_moving_average_is_the_papers():
    assert moving_average(np.array([10.0, 20.0, 30.0])) == pytest.approx(18.1)
    weights = [moving_average(np.eye(500)[i]) for i in range(490, 500)]
    assert sum(weights) == pytest.approx(0.97, abs=0.005)


def test_as_published_draws_the_papers_references():
    names = [f"m{i}" for i in range(8)]
    values = {metric: np.full((8, 8, 3), 0.5) for metric in (ROUGE_1, ROUGE_L, METEOR)}
    found = published_table(names, values, [])
    for i, name in enumerate(names):
        np.random.seed(42843 + i + 1)
        drawn = [names[j] for j in np.random.choice(8, size=5, replace=False) if j != i]
        row = next(row for row in found.rows if row["model"] == name)
        assert row["references"] == ", ".join(drawn)
        assert (row["avg_meteor"], row["std_meteor"]) == (0.5, 0)


def test_the_command_writes_tables_and_json(tmp_path):
    words = ["analyze", "similarity", *three(tmp_path), "--results", str(tmp_path), "--json", "--name", "t"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert {each["id"] for each in document["tables"]} >= {"models", "pairs", "matrix_rouge1"}
    assert {chart["kind"] for chart in document["charts"]} == {"bars", "heatmap"}
    assert (tmp_path / "analyses" / "similarity-t" / "pairs.csv").is_file()
    published = CliRunner().invoke(app, [*words, "--as-published"])
    assert json.loads(published.stdout)["tables"][0]["id"] == "table5"
