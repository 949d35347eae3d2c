"""The recorded cases of judging in ``../shared/cases/judge``: their files, put to their scripted judges.

A judge's behaviour is its model name. In an answer q=NUMBER is its quality, m=NAME its author.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from tests.evalsuite.comparison.test_known_judges import quality
from tests.evalsuite.comparison.test_known_judges_cards import failed

QUICK = ("--attacked", "0", "--judge-repeats", "0")


class Scripted:
    """The recorded judges behind one port, and commands with the recorded files."""

    def __init__(self, folder, url, log):
        self.folder, self.url, self._log = folder, url, log

    def invoke(self, command, judge, *words, results, code=0):
        """Run a command with the judge; words that name a recorded file become its path."""
        named = [str(self.folder / word) if (self.folder / word).is_file() else word for word in words]
        judged = [f"{judge}@{self.url}"] if command == "judge-card" else ["--judge", f"{judge}@{self.url}"]
        result = CliRunner().invoke(app, [command, *judged, *named, "--results", str(results)])
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    def compare(self, judge, *words, results):
        """The comparison's document, its rows of verdicts, and what was printed."""
        shown = self.invoke("compare", judge, *words, results=results)
        [folder] = (results / "comparisons").iterdir()
        verdicts = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]
        return json.loads((folder / "preferences.json").read_text()), verdicts, shown

    def card(self, judge, *words, results, code=0):
        shown = self.invoke("judge-card", judge, *words, results=results, code=code)
        [folder] = (results / "judges").iterdir()
        return json.loads((folder / "card.json").read_text()), shown

    def asked(self, begin):
        """The prompts that were put to a judge and hold ``begin``."""
        bodies = [json.loads(line)["body"] for line in self._log.read_text().splitlines()]
        return [text for body in bodies for turn in body["messages"] if begin in (text := turn["content"])]

    def read(self, name):
        text = (self.folder / name).read_text()
        return json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def scripted(cases, tmp_path_factory):
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("judges") / "asked.jsonl"
    process = subprocess.Popen([sys.executable, str(cases / "judge/judge.py"), str(port), str(log)])
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models") as reply:
                    assert b"halftie" in reply.read()
                break
            except OSError:
                assert process.poll() is None, "the scripted judges did not start"
                time.sleep(0.1)
        yield Scripted(cases / "judge", f"http://127.0.0.1:{port}/v1", log)
    finally:
        process.terminate()
        process.wait()


def better(scripted, one, other):
    """{prompt: which of the two recorded answers has the higher quality}"""
    answers = [{row["id"]: quality(row["answer"]) for row in scripted.read(name)} for name in (one, other)]
    return {key: "a" if answers[0][key] > answers[1][key] else "b" for key in answers[0]}


# Verdicts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("judge", "method"),
    [("spacea", "verdict"), ("contra", "reasoned"), ("nog", "reasoned")],
    ids=["a label with a space", "a verdict against its closing", "two ratings"],
)
def test_a_verdict_is_read_as_it_was_meant(scripted, tmp_path, judge, method):
    words = ("xa.jsonl", "xb.jsonl", "--prompts", "pp.jsonl", "--method", method)
    document, verdicts, _ = scripted.compare(judge, *words, results=tmp_path)
    assert {row["prompt_id"]: row["winner"] for row in verdicts} == better(scripted, "xa.jsonl", "xb.jsonl")
    assert (document["pairs"][0]["wins_a"], document["pairs"][0]["wins_b"]) == (6, 6)
    judging = document["judging"]
    assert (judging["unscored"], judging["closed_by_guide"], judging["contradictions"]) == (0, 0, 0)


def test_a_rounding_error_of_probability_is_no_verdict(scripted, tmp_path):
    words = ("xa.jsonl", "xb.jsonl", "--prompts", "pp.jsonl")
    document, _, shown = scripted.compare("lowmass", *words, results=tmp_path)
    assert (document["judging"]["in_words"], document["judging"]["label_mass"]) == (24, None)
    # In words it always takes the second answer.
    assert (document["pairs"][0]["position_flips"], document["pairs"][0]["wins_a"]) == (12, 0)
    assert "24 games were asked again in words: the labels had less than 5%" in shown


def test_a_tie_in_one_order_counts_alike_in_compare_and_card(scripted, tmp_path):
    words = ("xa.jsonl", "xb.jsonl", "--prompts", "pp.jsonl", "--method", "reasoned")
    document, _, _ = scripted.compare("halftie", *words, results=tmp_path)
    [pair] = document["pairs"]
    assert (pair["ties"], pair["half_ties"], pair["position_flips"]) == (12, 12, 0)
    card, _ = scripted.card("halftie", "--pairs", "pairs.json", "--method", "reasoned", *QUICK, results=tmp_path)
    assert (card["agreement"]["accuracy"], card["agreement"]["undecided"]) == (0.5, 1.0)
    assert (card["position_bias"]["half_ties"], card["position_bias"]["position_flips"]) == (120, 0)


def test_an_intransitive_judge_is_named(scripted, tmp_path):
    words = ("R.json", "P.json", "S.json", "--prompts", "prompts.json")
    document, _, shown = scripted.compare("rps", *words, results=tmp_path)
    assert [row["bradley_terry"] for row in document["ranking"]] == pytest.approx([0, 0, 0], abs=1e-9)
    assert document["cycles"][0]["models"] == ["R", "S", "P"]
    assert "no ranking describes R over S over P over R" in shown


def test_one_question_under_many_ids_is_one_observation(scripted, tmp_path):
    words = ("da.json", "db.json", "--prompts", "dup.json")
    document, _, shown = scripted.compare("quality", *words, results=tmp_path)
    [pair] = document["pairs"]
    assert (pair["wins_a"], pair["p_value"], pair["ci95_a"]) == (30, 1.0, None)
    assert "30 prompts are copies of 1" in shown


def test_several_answers_of_one_prompt_are_refused(scripted, tmp_path):
    words = ("multiA.jsonl", "ansB.jsonl", "--prompts", "pp.jsonl")
    assert "row 2 answers '0' a second time" in scripted.invoke("compare", "quality", *words, results=tmp_path, code=2)


# What the judge is shown ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompts", "parts"),
    [
        ("sys.jsonl", {"system": "Answer in French only."}),
        ("ref.jsonl", {"reference": "the gold", "rubric": "be right"}),
    ],
)
def test_everything_of_a_prompt_is_shown_to_the_judge(scripted, tmp_path, prompts, parts):
    scripted.compare("quality", "ansA.jsonl", "ansB.jsonl", "--prompts", prompts, results=tmp_path)
    asked = scripted.asked(scripted.read(prompts)[0]["prompt"])
    assert len(asked) == 2
    for text in asked:
        for name, part in parts.items():
            assert f"<begin {name} " in text
            assert f">\n{part}\n<end {name} " in text


def test_turns_that_are_not_asked_are_told(scripted, tmp_path):
    words = ("mtA.jsonl", "mtB.jsonl", "--prompts", "turns.jsonl")
    _, _, shown = scripted.compare("quality", *words, results=tmp_path / "first")
    assert "5 prompts have more turns, which are not asked; --turns both asks them" in shown
    assert not scripted.asked("third A")
    scripted.compare("quality", *words, "--turns", "both", results=tmp_path / "both")
    assert scripted.asked("third A")


# Cards ----------------------------------------------------------------------------------------------------------------


def test_the_longer_judge_on_mt_benchs_pairs(scripted, shared, tmp_path):
    pairs = str(shared / "mirror/raw/judge_agreement/Processed_MT-Bench.json")
    card, _ = scripted.card("longer", "--pairs", pairs, *QUICK, results=tmp_path)
    assert card["agreement"]["accuracy"] == card["baselines"]["length"]["accuracy"] == pytest.approx(0.6925)
    assert card["agreement"]["by_mean"]["accuracy"] == pytest.approx(136 / 195)
    assert card["conclusions"]["verdict"] == "do not use"
    assert {"length", "length-only judge"} <= failed(card)


def test_the_shorter_judge_falls_for_an_empty_answer(scripted, tmp_path):
    card, shown = scripted.card("shorter", "--pairs", "pshort.json", "--judge-repeats", "0", results=tmp_path)
    assert card["attacks"]["empty_answer"]["success_rate"] == 1.0
    assert card["attacks"]["all"]["success_rate"] == pytest.approx(128 / 140)
    assert {"length", "length-only judge", "empty answers", "attacks"} <= failed(card)
    assert card["conclusions"]["verdict"] == "do not use"
    assert "an empty answer beats the answer that people prefer in 100% of 10 questions" in shown


def test_a_judge_that_prefers_its_own_is_not_to_be_used(scripted, tmp_path):
    card, _ = scripted.card("selfish", "--pairs", "pairs.json", *QUICK, results=tmp_path)
    own = [
        (row[f"model_{row['label']}"] == "selfish")
        for row in scripted.read("pairs.json")
        if "selfish" in (row["model_1"], row["model_2"])
    ]
    assert card["self_preference"]["judge_rate"] == 1.0
    assert card["self_preference"]["people_rate"] == pytest.approx(sum(own) / len(own))
    assert "own answers" in failed(card)
    assert card["conclusions"]["verdict"] == "do not use"


def test_conversations_are_not_cut_to_their_first_turn(scripted, tmp_path):
    refused = scripted.invoke("judge-card", "quality", "--pairs", "p_conv.jsonl", results=tmp_path, code=2)
    assert "row 1 has 2 turns and 1 answer" in refused


@pytest.mark.parametrize(
    ("name", "n", "ties"),
    [("p_tie", 2, 1), ("p_rb", 1, 0), ("p_jb", 1, 0), ("p_list", 2, 0), ("p_mt", 1, 0)],
)
def test_the_forms_of_published_sets_are_read(scripted, tmp_path, name, n, ties):
    # In each pair people prefer the answer of higher quality.
    card, _ = scripted.card("quality", "--pairs", f"{name}.jsonl", *QUICK, results=tmp_path)
    agreement = card["agreement"]
    assert (card["pairs"]["n"], agreement["n_scored"], agreement["accuracy"]) == (n, n - ties, 1.0)
    assert (agreement["ties"] or {"n": 0})["n"] == ties


def test_a_card_is_of_its_template_and_of_the_most_pairs(scripted, tmp_path):
    other = tmp_path / "other.jinja"
    other.write_text("Pick the WORSE. {{ nonce }}{{ questions }}{{ answers_a }}{{ answers_b }}")
    words = ("ansA.jsonl", "ansB.jsonl", "--prompts", "sys.jsonl")

    def shown(*options):
        return scripted.compare("quality", *words, *options, results=tmp_path)[0]["judge"]["card"]

    scripted.card("quality", "--pairs", "pairs.json", "--template", str(other), *QUICK, results=tmp_path)
    assert shown() is None, "a card of another template is another judge's"
    scripted.card("quality", "--pairs", "pairs.json", *QUICK, results=tmp_path)
    scripted.card("quality", "--pairs", "p_rb.jsonl", *QUICK, results=tmp_path)
    assert shown()["pairs"] == "pairs.json (120 pairs)"


def test_a_judge_that_always_fails_has_an_exit_code(scripted, tmp_path):
    # It refuses a long second answer, and all of these are long.
    card, shown = scripted.card("failB", "--pairs", "pshort.json", *QUICK, results=tmp_path, code=1)
    assert card["agreement"]["n_scored"] == 0
    assert card["conclusions"]["verdict"] == "do not use"
    assert "its agreement is unknown" in shown
