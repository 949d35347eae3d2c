"""MT-Bench's pairwise mode: FastChat's games, counts and files, and a run of it beside single ratings."""

from __future__ import annotations

import io
import itertools
import json
import math
import random
from argparse import Namespace
from statistics import stdev

import pandas as pd
import pytest
from fastchat.llm_judge import show_result
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.config import read_config
from evalsuite.errors import DataError, UsageError
from evalsuite.files import read_objects
from evalsuite.report.build import build_report
from evalsuite.report.tabs import tabs_of
from evalsuite.results.importing import import_results
from evalsuite.results.reading import read_results_folder
from evalsuite.runs.runner import run
from evalsuite.suites.registry import parse_suite
from judges.fastchat_pair import pair_messages, parse_winner
from tests.evalsuite.runs.test_runner import folder_of
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply


def judging(path, body):
    """Answer plainly; as a judge prefer the baseline in arithmetic, the model elsewhere, and always A on rivers."""
    text = "\n".join(message["content"] for message in body["messages"])
    if "ssistant A" not in text:
        return 200, text_reply("A plain answer.")
    if "river" in text or "towns" in text:
        return 200, text_reply("The first one. [[A]]")
    model_is_a = text.index("A plain answer.") < text.index("Assistant B")
    wins = "bakery" not in text
    return 200, text_reply(f"Reasons. [[{'A' if wins == model_is_a else 'B'}]]")


def config(stub, results, **changes):
    word = f"stub@{stub.url}"
    values = {"models": [word], "judge": word, "suites": ["mt_bench:pairwise"], "data": "mini", "results": results}
    return read_config(values | changes)


def shown_by_fastchat(rows, baseline=None):
    """Return the table that FastChat's show_result prints of judged pairs."""
    printed = []
    show_result.print = lambda *values: printed.extend(values)
    try:
        file = io.StringIO("\n".join(map(json.dumps, rows)))
        show_result.display_result_pairwise(Namespace(input_file=file, model_list=None, baseline_model=baseline))
    finally:
        del show_result.print
    [table] = [value for value in printed if isinstance(value, pd.DataFrame)]
    return table


def test_the_figures_are_those_of_fastchats_show_result(tmp_path):
    with StubEndpoint(judging) as stub:
        [scores] = run(config(stub, tmp_path)).models
    own = scores.suites["mt_bench_pairwise"]
    # Five questions, two turns: arithmetic is lost in both orders, the rivers flip, three questions are won.
    assert (own["wins"], own["losses"], own["ties"], own["position_flips"], own["n"]) == (6, 2, 2, 2, 10)
    rows = read_objects(folder_of(tmp_path) / "mt_bench_pairwise/model_pair.jsonl")
    published = shown_by_fastchat(rows, "mini-baseline").loc["stub"]
    assert own["score"] == pytest.approx(100 * published["win_rate_adjusted"]) == pytest.approx(70.0)
    assert own["win_rate"] == pytest.approx(100 * published["win_rate"])
    assert own["loss_rate"] == pytest.approx(100 * published["loss_rate"])
    assert own["categories"]["math"]["score"] == 0.0
    assert own["ci95"][0] < 70 < own["ci95"][1]
    turn, wins = own["uncertainty"]["turn_1"], own["uncertainty"]["win_rate"]
    assert turn["stderr"] == pytest.approx(100 * stdev([1, 1, 1, 0, 0.5]) / math.sqrt(5))
    assert (turn["n"], wins["n"]) == (5, 10)
    assert wins["ci95"][0] < own["win_rate"] < wins["ci95"][1]


def test_it_stands_beside_single_ratings_and_asks_no_answer_twice(tmp_path):
    asked = []

    def both(path, body):
        text = "\n".join(message["content"] for message in body["messages"])
        asked.append(text)
        return (200, text_reply("Rating: [[7]]")) if "rating from 1" in text else judging(path, body)

    with StubEndpoint(both) as stub:
        [scores] = run(config(stub, tmp_path, suites=["mt_bench", "mt_bench:pairwise"])).models
    answers = [text for text in asked if "ssistant A" not in text and "rating from 1" not in text]
    assert len(answers) == len(set(answers)) == 10
    assert set(scores.suites) == {"mt_bench", "mt_bench_pairwise"}
    assert scores.suites["mt_bench"]["score"] == 7.0
    assert scores.judge.methods == {
        "mt_bench": "single_answer_rating_1_to_10",
        "mt_bench_pairwise": "fastchat_pairwise_two_games",
    }
    report = build_report(tmp_path)
    assert not report.faults
    csv = report.csv.read_text()
    assert "mt_bench_pairwise" in csv.splitlines()[0]


def test_closings_and_those_against_the_text_are_counted(tmp_path):
    def hesitant(path, body):
        text = "\n".join(message["content"] for message in body["messages"])
        if guide := body.get("structured_outputs"):
            return 200, text_reply(guide["choice"][1])
        if "ssistant A" in text and "bakery" in text:
            return 200, text_reply("Assistant A is better.")
        return judging(path, body)

    with StubEndpoint(hesitant) as stub:
        [scores] = run(config(stub, tmp_path)).models
    assert scores.suites["mt_bench_pairwise"]["verdicts"] == {"n": 20, "closed_by_guide": 4, "contradictions": 4}


def test_several_recorded_models_are_all_pairs(tmp_path):
    def answers(name, text):
        path = tmp_path / f"{name}.jsonl"
        turns = [{"index": 0, "turns": [text, text]}]
        rows = ({"question_id": 9001 + i, "model_id": name, "choices": turns} for i in range(5))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    with StubEndpoint(judging) as stub:
        one, same = answers("one", "Another answer."), answers("same", "A plain answer.")
        [scores] = run(config(stub, tmp_path / "r", suite_options={"mt_bench_baseline": [one, same]})).models
        own = scores.suites["mt_bench_pairwise"]
        assert own["n"] == 20
        assert own["baselines"]["same"]["score"] == 50.0, "identical answers are a tie, and nobody is asked"
        assert own["baselines"]["one"]["score"] == 70.0
        [again] = run(config(stub, tmp_path / "r2", suite_options={"mt_bench_baseline": one})).models
        assert again.suites["mt_bench_pairwise"]["score"] == 70.0
        # Against another baseline it is another question: the two are never in one tab.
        (tmp_path / "r2").rename(tmp_path / "r" / "copy")
        for folder in (tmp_path / "r/copy").glob("stub-*"):
            folder.rename(tmp_path / "r" / f"{folder.name}~other")
    tabs = tabs_of(read_results_folder(tmp_path / "r").models)
    assert [len(tab.members) for tab in tabs] == [1, 1]


def test_full_data_need_a_baseline(tmp_path, monkeypatch):
    with StubEndpoint(judging) as stub, pytest.raises(UsageError, match="give --mt-bench-baseline FILE"):
        run(config(stub, tmp_path, data="full"))
    assert parse_suite("mt_bench:pairwise").key == parse_suite("mt_bench_pairwise").key


def test_a_verdict_is_the_last_one_and_as_published_the_first_letter():
    text = "[[B]] would be wrong because of the tie in tone; so [[A]] is out too. Final: [[C]]"
    assert parse_winner(text).letter == "C"
    assert parse_winner(text, as_published=True).letter == "A"
    assert parse_winner("A is better").reason == "no_verdict"


def test_prompts_are_those_of_fastchats_file(shared):
    path = shared / "mirror/raw/mt_bench/judge_prompts.jsonl"
    prompts = {row["name"]: row for row in map(json.loads, path.read_text().splitlines())}
    for turn in (1, 2):
        for reference in (None, ["r1", "r2"]):
            name = f"pair-{'v2' if reference is None else 'math-v1'}{'-multi-turn' if turn == 2 else ''}"
            values = {"question": "q1", "answer_a": "a1", "answer_b": "b1"}
            if turn == 2:
                values = {
                    f"{kind}_{i}": f"{kind[0] if 'answer' not in kind else kind[-1]}{i}"
                    for i in (1, 2)
                    for kind in ("question", "answer_a", "answer_b")
                }
            values |= {"ref_answer_1": "r1", "ref_answer_2": "r2"}
            expected = prompts[name]["prompt_template"].format(**values)
            messages = pair_messages(prompts, ["q1", "q2"], ["a1", "a2"], ["b1", "b2"], reference, turn=turn)
            assert [message.content for message in messages] == [prompts[name]["system_prompt"], expected]


def recorded_pairs(prompts, n=30):
    """Judged pairs of three models in FastChat's own fields, in either order, with ties, flips and errors."""
    drawn, rows = random.Random(3), []
    for question, (one, other), turn in itertools.product(range(81, 81 + n), itertools.combinations("abc", 2), (1, 2)):
        first, second = drawn.sample([one, other], 2)
        answers = {name: [f"answer of {name}", f"second of {name}"] for name in (first, second)}
        games = [drawn.choice(["model_1", "model_1", "model_2", "tie", "error"]) for _ in range(2)]
        shown = [(first, second), (second, first)]
        asked = [
            pair_messages(prompts, ["q1", "q2"], answers[x], answers[y], None, turn=turn)[-1].content for x, y in shown
        ]
        letters = [
            {"model_1": "[[A]]", "model_2": "[[B]]", "tie": "[[C]]", "error": "Hm."},
            {"model_1": "[[B]]", "model_2": "[[A]]", "tie": "[[C]]", "error": "Hm."},
        ]
        rows.append(
            {"question_id": question, "model_1": first, "model_2": second, "turn": turn}
            | {"judge": ["gpt-4", "pair-v2"], "tstamp": 1.0}
            | {f"g{i + 1}_winner": games[i] for i in (0, 1)}
            | {f"g{i + 1}_user_prompt": asked[i] for i in (0, 1)}
            | {f"g{i + 1}_judgment": letters[i][games[i]] for i in (0, 1)}
        )
    return rows


@pytest.mark.parametrize("as_published", [False, True])
def test_fastchats_own_file_is_scored_as_its_show_result_does(tmp_path, shared, as_published):
    path = shared / "mirror/raw/mt_bench/judge_prompts.jsonl"
    rows = recorded_pairs({row["name"]: row for row in map(json.loads, path.read_text().splitlines())})
    file = tmp_path / "gpt-4_pair.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = shown_by_fastchat(rows)
    suite = parse_suite("mt_bench:pairwise").suite
    for model in "abc":
        recorded = suite.read_peer(file, suite.options_type(as_published=as_published), model)
        scores = suite.score(recorded.header, [suite.mark(row, recorded.header) for row in recorded.rows])
        assert scores["score"] == pytest.approx(100 * table.loc[model, "win_rate_adjusted"])
        assert scores["win_rate"] == pytest.approx(100 * table.loc[model, "win_rate"])
        assert scores["n"] == 2 * 2 * 30
        assert scores["unscored"] == {"recorded_failure": scores["n"] - scores["n_scored"]}
        other = min(set("abc") - {model})
        assert recorded.rows[0].draws[0].turns[1].text == f"second of {model}"
        [row] = [row for row in recorded.rows if row.item_id == f"{other}/81"]
        assert row.facts["reference"] == [f"answer of {other}", f"second of {other}"]
    with pytest.raises(UsageError, match="compares 3 models"):
        suite.read_peer(file, suite.options_type(), "d")
    with pytest.raises(DataError, match=r"mixes 3 models \(a, b, c\); import one of them"):
        suite.read_peer(file, suite.options_type())
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    with pytest.raises(DataError, match=r"duplicate judgment of turn 1 of question 81 against"):
        suite.read_peer(file, suite.options_type(), rows[0]["model_1"])


def test_a_run_is_imported_with_its_figures_and_its_file(tmp_path):
    with StubEndpoint(judging) as stub:
        [scores] = run(config(stub, tmp_path / "r")).models
    exported = folder_of(tmp_path / "r") / "mt_bench_pairwise"
    folder, imported = import_results("mt_bench:pairwise", exported, "mine", tmp_path / "i", data="mini")
    own, again = scores.suites["mt_bench_pairwise"], imported.suites["mt_bench_pairwise"]
    assert {name: own[name] for name in again} == again
    assert imported.judge.name == "stub"
    lines = read_objects(folder / "mt_bench_pairwise/model_pair.jsonl")
    assert lines == read_objects(exported / "model_pair.jsonl")
    shown = CliRunner().invoke(app, ["score", "mt_bench:pairwise", "--from", str(exported), "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["score"] == own["score"]
    assert not build_report(tmp_path / "i").faults
