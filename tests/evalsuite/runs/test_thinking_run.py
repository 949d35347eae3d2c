"""A whole run of a model that thinks: no judge, scorer or export takes the thought for the answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalsuite.config import read_config
from evalsuite.errors import UsageError
from evalsuite.progress import NoProgress
from evalsuite.records.files import RecordsFile, records_path
from evalsuite.report.build import build_report
from evalsuite.runs.runner import run
from evalsuite.serving.chat_format import load_tokenizer
from tests.evalsuite.runs.test_runner import obliging
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply
from tests.evalsuite.thinking_endpoint import HEADER, ThinkingModel, thinking_checkpoint

THOUGHT = "SECRET [[3]] musing"
OUTPUT = f"<think>\n{THOUGHT}\n</think>\n\nA plain answer."
SUITES = ["mt_bench", "alpaca_eval", "mixeval", "openllm:ifeval,bbh"]

pytestmark = [
    # swig-built modules that lm-eval's imports pull in
    pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute"),
]


def settings(stub, judge, folder: Path, results: Path, **changes):
    values = {"models": [str(folder)], "base_url": stub.url, "judge": f"judge@{judge.url}", "data": "mini"}
    return read_config({**values, "suites": SUITES, "results": results, "thinking_budget": "200", **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run of all suites: (the outcome, the folder of its model, what the judge was asked, what the model was)."""
    folder = tmp_path_factory.mktemp("model") / "m"
    results = tmp_path_factory.mktemp("results")
    thinking_checkpoint(folder, "switched", context=32_000)
    model = ThinkingModel(load_tokenizer(folder), OUTPUT)
    with model.serve(max_model_len=32_000) as stub, StubEndpoint(obliging, model="judge") as judge:
        outcome = run(settings(stub, judge, folder, results))
        asked = len(stub.requests)
        run(settings(stub, judge, folder, results))
        assert len(stub.requests) == asked, "a second run asks nothing"
        return outcome, outcome.folders[0], [body for _, body in judge.requests], model


@pytest.mark.parametrize(("suite", "is_noted"), [("openllm:ifeval", False), ("openllm:ifeval,bbh", True)])
def test_a_note_on_choices_comes_with_choices_alone(tmp_path, suite, is_noted):
    thinking_checkpoint(tmp_path / "m", "switched", context=32_000)
    said: list[str] = []
    progress = NoProgress()
    progress.log = said.append
    model = ThinkingModel(load_tokenizer(tmp_path / "m"), OUTPUT)
    with model.serve(max_model_len=32_000) as stub, StubEndpoint(obliging, model="judge") as judge:
        run(settings(stub, judge, tmp_path / "m", tmp_path / "results", suites=[suite], limit=1), progress)
    assert any("after an empty thought" in line for line in said) == is_noted


def test_the_judge_never_sees_a_thought(done):
    _, _, bodies, _ = done
    assert len(bodies) >= 20
    assert not [body for body in bodies if "SECRET" in json.dumps(body) or "<think>" in json.dumps(body)]
    assert any("A plain answer." in json.dumps(body) for body in bodies)


def test_figures_rest_on_answers_and_thoughts_are_counted(done):
    outcome, _, _, _ = done
    [scores] = outcome.models
    assert scores.reasoning["thinks"] is True
    assert scores.reasoning["style"] == "qwen3"
    assert scores.reasoning["budget"] == 200
    assert scores.suites["alpaca_eval"]["avg_length"] == len("A plain answer.")
    for suite in ("mt_bench", "alpaca_eval", "mixeval", "openllm"):
        counts = scores.answers[suite]
        assert counts["thoughts"] == counts["n"] > 0, suite
        assert (counts["cut"], counts["closed"], counts["loops"]) == (0, 0, 0)


def test_records_and_exports_have_the_thought_in_a_field_of_its_own(done):
    _, folder, _, _ = done
    for suite in ("mt_bench", "alpaca_eval", "mixeval", "openllm"):
        replies = [
            reply
            for row in RecordsFile(records_path(folder, suite)).rows()
            for reply in row.replies
            if reply.text is not None
        ]
        assert {(reply.text, reply.thought) for reply in replies} == {("A plain answer.", THOUGHT)}, suite
    answers = [json.loads(line) for line in (folder / "mt_bench/model_answer.jsonl").read_text().splitlines()]
    assert answers[0]["choices"][0]["turns"] == ["A plain answer."] * 2
    assert answers[0]["choices"][0]["reasoning_content"] == [THOUGHT] * 2
    outputs = json.loads((folder / "alpaca_eval/model_outputs.json").read_text())
    assert {(one["output"], one["reasoning_content"]) for one in outputs} == {("A plain answer.", THOUGHT)}
    [line, *_] = (folder / "mixeval/free_form.jsonl").read_text().splitlines()
    assert json.loads(line)["reasoning_content"] == THOUGHT
    [line, *_] = (folder / "openllm/samples_mini_ifeval.jsonl").read_text().splitlines()
    sample = json.loads(line)
    assert (sample["resps"], sample["reasoning_content"]) == ([["A plain answer."]], [[THOUGHT]])


def test_choices_are_asked_behind_an_empty_thought_and_written_answers_behind_their_own(done):
    *_, model = done
    choices = [
        prompt
        for prompt, body in zip(model.prompts, model.bodies, strict=True)
        if "logprob_token_ids" in body and len(body["prompt"]) > 1
    ]
    assert choices
    assert all(f"{HEADER}<think>\n\n</think>" in prompt for prompt in choices)
    written = [body for body in model.bodies if body["max_tokens"] > 16 and "return_token_ids" not in body]
    assert written
    assert all(model.text(body["prompt"]).rstrip("\n").endswith("</think>") for body in written)


def strict(path, body):
    """Give the lowest rating to an answer without a whole thought."""
    guide = body.get("structured_outputs")
    if guide and "A worse answer." in json.dumps(body["messages"]):
        return 200, text_reply(guide["choice"][0])
    return obliging(path, body)


def test_thinking_off_is_another_row_of_the_same_model(done, tmp_path):
    folder = tmp_path / "m"
    thinking_checkpoint(folder, "switched", context=32_000)
    model = ThinkingModel(load_tokenizer(folder), OUTPUT, behind="A worse answer.")
    with model.serve(max_model_len=32_000) as stub, StubEndpoint(strict, model="judge") as judge:
        [plain] = run(settings(stub, judge, folder, tmp_path / "r", suites=["mt_bench"], thinking="off")).models
        swept = run(settings(stub, judge, folder, tmp_path / "r", suites=["mt_bench"], thinking_budget="10,200"))
        asked = [body["max_tokens"] for body in model.bodies if "return_token_ids" in body]
    assert plain.variant == "think-off+budget-200"
    assert (plain.reasoning["thinks"], plain.answers["mt_bench"].get("thoughts")) == (False, None)
    assert [one.variant for one in swept.models] == ["budget-10", "budget-200"]
    assert [one.answers["mt_bench"]["closed"] for one in swept.models] == [10, 0]
    looked = {len("<think>") + 2, 200 - len("<think>") - 2}
    assert set(asked) == looked, "the thought is asked up to the largest budget, once"
    assert len({path.name for path in (tmp_path / "r").glob("m-*")}) == 3
    report = build_report(tmp_path / "r")
    page = report.html.read_text(encoding="utf-8")
    section = page.partition("How m thinks")[2].partition("</details></figure>")[0]
    assert [
        name for name in ("think-off+budget-200", "budget-10", "no thought", "10 of 10") if name not in section
    ] == []


def test_a_style_that_does_not_fit_is_refused_before_anything_starts(done, tmp_path):
    folder = thinking_checkpoint(tmp_path / "m", "switched")
    with StubEndpoint(obliging, max_model_len=2048) as stub, pytest.raises(UsageError, match=r"no token \[THINK\]"):
        run(settings(stub, stub, folder, tmp_path / "r", reasoning_style="mistral"))
    assert not stub.requests
