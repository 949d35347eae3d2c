"""MT-Bench's pairwise mode: FastChat's games, counts and files, and a run of it beside single ratings."""

from __future__ import annotations

import io
import json
from argparse import Namespace

import pandas as pd
import pytest
from fastchat.llm_judge import show_result

from evalsuite.config import read_config
from evalsuite.errors import UsageError
from evalsuite.files import read_objects
from evalsuite.report.build import build_report
from evalsuite.report.tabs import tabs_of
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


def test_the_figures_are_those_of_fastchats_show_result(tmp_path):
    with StubEndpoint(judging) as stub:
        [scores] = run(config(stub, tmp_path)).models
    own = scores.suites["mt_bench_pairwise"]
    # Five questions, two turns: arithmetic is lost in both orders, the rivers flip, three questions are won.
    assert (own["wins"], own["losses"], own["ties"], own["position_flips"], own["n"]) == (6, 2, 2, 2, 10)
    rows = read_objects(folder_of(tmp_path) / "mt_bench_pairwise/model_pair.jsonl")
    printed = []
    show_result.print = lambda *values: printed.extend(values)
    try:
        file = io.StringIO("\n".join(map(json.dumps, rows)))
        arguments = Namespace(
            input_file=file, model_list=None, baseline_model="mini-baseline", mode="pairwise-baseline"
        )
        show_result.display_result_pairwise(arguments)
    finally:
        del show_result.print
    [table] = [value for value in printed if isinstance(value, pd.DataFrame)]
    published = table.loc["stub"]
    assert own["score"] == pytest.approx(100 * published["win_rate_adjusted"]) == pytest.approx(70.0)
    assert own["win_rate"] == pytest.approx(100 * published["win_rate"])
    assert own["loss_rate"] == pytest.approx(100 * published["loss_rate"])
    assert own["categories"]["math"]["score"] == 0.0
    assert own["ci95"][0] < 70 < own["ci95"][1]


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
