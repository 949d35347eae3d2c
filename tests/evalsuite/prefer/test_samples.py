"""Several answers per prompt, rated, become preference pairs and the best of them a mix: every step by its command."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.conversations.formats import content_hash
from evalsuite.conversations.scores import read_scores
from evalsuite.errors import DataError
from evalsuite.files import read_json, read_objects, write_jsonl
from evalsuite.generation.run import generate
from judges.types import Message
from tests.evalsuite.comparison_judges import serving, word
from tests.evalsuite.generation_endpoint import answering, config
from tests.evalsuite.mix.test_mix import build, chat_of, rows_of, write
from tests.evalsuite.stub_endpoint import StubEndpoint


def rating_of(answer: str) -> int:
    """1 to 8, by the first hexadecimal digit of an answer."""
    return 1 + int(answer[0], 16) // 2


def rater(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    prompt = body["messages"][-1]["content"]
    found = [word for word in prompt.split() if len(word) == 16 and set(word) <= set("0123456789abcdef")]
    letter = "A" if "Write the letter" in prompt else "ABCDEFGHIJ"[rating_of(found[-1]) - 1]
    top = [{"token": letter, "logprob": -0.0}]
    return 200, {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}], "usage": {}}


def command(*words: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else done.stderr


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """A folder of four answers to each of eight prompts, their ratings' folder, and the answers by prompt."""
    folder = tmp_path_factory.mktemp("rated")
    write(folder / "prompts.jsonl", [{"prompt": f"Question {number}?"} for number in range(8)])
    with StubEndpoint(answering) as stub:
        generate(config(stub, folder / "prompts.jsonl", folder / "answers", samples=4))
    with serving(rater=rater) as stubs:
        words = ["rate", str(folder / "answers"), "--judge", word(stubs, "rater"), "--results", str(folder)]
        document = command(*words, "--factors", "factuality")
    assert document["n_prompts"] == 32
    [ratings] = (folder / "ratings").iterdir()
    answers = defaultdict(list)
    for row in rows_of(folder / "answers"):
        answers[row["messages"][0]["content"]].append(row["messages"][1]["content"])
    return folder / "answers", ratings, answers


def test_the_best_and_the_worst_of_each_prompts_answers_are_a_pair(rated, tmp_path):
    folder, ratings, answers = rated
    words = ["prefer", str(folder), "--by", "rating", "--scores", str(ratings), "--contamination", "off"]
    document = command(*words, "--out", str(tmp_path / "pairs"))
    pairs = read_objects(tmp_path / "pairs/train.jsonl")
    spread = {prompt: sorted(map(rating_of, each)) for prompt, each in answers.items()}
    assert document["n_prompts"] == 8 == document["n_pairs"] + document["dropped"].get("tie", 0)
    assert document["n_pairs"] == len(pairs) == sum(each[0] < each[-1] for each in spread.values())
    for pair in pairs:
        ratings_here = spread[pair["prompt"][0]["content"]]
        chosen, rejected = pair["chosen"][0]["content"], pair["rejected"][0]["content"]
        assert (rating_of(chosen), rating_of(rejected)) == (ratings_here[-1], ratings_here[0])
        assert (pair["chosen_score"], pair["rejected_score"]) == (ratings_here[-1], ratings_here[0])
        assert pair["margin"] == ratings_here[-1] - ratings_here[0]
    wide = command(*words, "--out", str(tmp_path / "wide"), "--min-margin", "4")
    assert wide["n_pairs"] == sum(each[-1] - each[0] >= 4 for each in spread.values())
    assert read_json(tmp_path / "wide/prefer.json")["dropped"]["margin"] > 0


def test_rejection_sampling_keeps_the_best_answer_of_each_prompt(rated, tmp_path):
    folder, ratings, answers = rated
    source = {"data": str(folder), "scores": str(ratings), "best": {"by": "rating", "per_prompt": 1}}
    document = build(tmp_path / "best", [source])
    drawn = {row["messages"][0]["content"]: row["messages"][1]["content"] for row in rows_of(tmp_path / "best")}
    assert {prompt: rating_of(answer) for prompt, answer in drawn.items()} == {
        prompt: max(map(rating_of, each)) for prompt, each in answers.items()
    }
    (member,) = document["sources"][0]["members"]
    assert (member["n_scored"], member["scores"], member["dropped"]) == (32, ratings.name, {"best": 24})


def test_ratings_filter_a_mix_under_a_rule_of_their_own(rated, tmp_path):
    folder, ratings, answers = rated
    source = {"data": str(folder), "scores": str(ratings), "filters": {"where": {"rating_factuality": {"min": 5}}}}
    document = build(tmp_path / "good", [source])
    marks = [rating_of(answer) for each in answers.values() for answer in each]
    assert sorted(rating_of(row["messages"][1]["content"]) for row in rows_of(tmp_path / "good")) == sorted(
        mark for mark in marks if mark >= 5
    )
    (member,) = document["sources"][0]["members"]
    assert member["dropped"] == {"where_rating_factuality": sum(mark < 5 for mark in marks)}
    assert len(member["examples"]["where_rating_factuality"]) == 3


def test_changed_scores_are_another_mix(tmp_path):
    data = write(tmp_path / "c.jsonl", [chat_of("q", answer) for answer in ("one", "two")])
    for score, kept in ((1.0, "one"), (3.0, "two")):
        rows = [(("q", "one"), 2.0), (("q", "two"), score)]
        write_jsonl(tmp_path / "scores.jsonl", [{"content_hash": hash_of(*texts), "reward": it} for texts, it in rows])
        source = {"data": data, "scores": str(tmp_path / "scores.jsonl"), "best": {"by": "reward", "per_prompt": 1}}
        build(tmp_path / "out", [source])
        assert [row["messages"][1]["content"] for row in rows_of(tmp_path / "out")] == [kept]


def hash_of(*texts: str) -> str:
    return content_hash([Message("assistant" if place % 2 else "user", text) for place, text in enumerate(texts)])


def test_scores_are_means_and_those_of_a_first_exchange_serve_the_whole(tmp_path):
    rows = [
        {"content_hash": hash_of("a", "b"), "factor": "x", "rating": 4.0},
        {"content_hash": hash_of("a", "b"), "factor": "x", "rating": 6},
        {"content_hash": hash_of("a", "b"), "factor": "y", "rating": 7},
        {"content_hash": hash_of("c", "d"), "factor": "x", "rating": 2},
        {"content_hash": hash_of("c", "d"), "factor": "y", "rating": None},
    ]
    write_jsonl(tmp_path / "ratings.jsonl", rows)
    scores = read_scores(str(tmp_path))
    long = [Message("user", "a"), Message("assistant", "b", thought="hm"), Message("user", "e"), Message("user", "f")]
    assert scores.of(long) == {"rating_x": 5.0, "rating_y": 7.0, "rating": 6.0}
    assert scores.of([Message("user", "c"), Message("assistant", "d")]) == {
        "rating_x": 2.0,
        "rating_y": None,
        "rating": None,
    }
    assert scores.of([Message("user", "c"), Message("assistant", "other")]) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no scores"),
        ('{"content_hash": "12", "reward": 1}', "row 1 has no content_hash of 32 hex digits"),
        ('{"content_hash": "%s", "reward": 1}' % ("z" * 32), "row 1 has no content_hash"),
        ('{"reward": 1}', "rate the answers again"),
        ('{"content_hash": "%s", "reward": "good"}' % ("0" * 32), "has no scores"),
        ('{"content_hash": "%s", "reward": 1}' % ("0" * 32), "no row of .* has a score in s.jsonl"),
    ],
)
def test_scores_that_cannot_be_used_are_one_sentence(tmp_path, text, message):
    (tmp_path / "s.jsonl").write_text(text)
    source = {"data": write(tmp_path / "c.jsonl", [chat_of("q", "a")]), "scores": str(tmp_path / "s.jsonl")}
    with pytest.raises(DataError, match=message):
        build(tmp_path / "out", [source])


def test_cut_missing_and_single_answers_are_accounted_for(tmp_path: Path) -> None:
    def row(question, answer, reward, end="stop"):
        turns = chat_of(question, answer)["messages"]
        turns[1]["finish_reason"] = end
        return {"messages": turns, "reward": reward}

    rows = [
        row("a", "best", 3.0),
        row("a", "cut", 9.0, "length"),
        row("a", "worst", 1.0),
        row("a", "middle", 2.0),
        row("b", "alone", 5.0),
        row("c", "none", None),
        row("d", "same", 1.0),
        row("d", "same", 2.0),
        row("e", "even", 2.0),
        row("e", "odd", 2.0),
    ]
    data = write(tmp_path / "c.jsonl", rows)
    words = ["prefer", data, "--out", str(tmp_path / "pairs"), "--contamination", "off"]
    document = command(*words, "--by", "reward")
    (pair,) = read_objects(tmp_path / "pairs/train.jsonl")
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("best", "worst")
    assert document["rows"] == {"n": 10, "left_out": {"finish_reason": 1, "no_score": 1}}
    assert document["dropped"] == {"identical": 1, "single_answer": 1, "tie": 1}
    dropped = Counter(one["reason"] for one in read_objects(tmp_path / "pairs/dropped.jsonl"))
    assert dropped == document["dropped"]
    assert "has no column 'rating'" in command(*words, "--by", "rating", code=2)
    assert "--scores needs --by" in command(*words, "--scores", "x", code=2)
