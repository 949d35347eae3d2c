"""``evalsuite run`` as a command: what it prints, its exit codes, and faults that are said before anything is asked."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.config import read_config
from evalsuite.errors import StoreError, UsageError
from evalsuite.runs import writing
from evalsuite.runs.runner import run
from tests.evalsuite.assets_env import empty_machine
from tests.evalsuite.runs.test_runner import asked_of, config, folder_of, obliging
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply


def invoke(*words):
    return CliRunner().invoke(app, list(words))


def test_the_resolved_config_runs_the_same_again(tmp_path):
    with StubEndpoint(obliging) as stub:
        run(config(stub, tmp_path, suites=["mixeval"], limit=1))
        asked = asked_of(stub)
        done = invoke("run", "--config", str(folder_of(tmp_path) / "config.yaml"), "--json")
        assert done.exit_code == 0, done.stderr
        assert asked_of(stub) == asked
    assert json.loads(done.stdout)["models"][0]["limit"] == 1


def test_the_command_line_prints_one_json_document(tmp_path):
    with StubEndpoint(obliging) as stub:
        word = f"stub@{stub.url}"
        words = ["run", word, "--judge", word, "--suite", "mt_bench", "--data", "mini", "--results", str(tmp_path)]
        result = invoke(*words, "--json")
        table = invoke(*words)
    assert result.exit_code == 0
    assert list(json.loads(result.stdout)) == ["models"]
    assert "MT-Bench" in table.stdout
    assert "data mini" in table.stdout


def test_figures_that_could_not_be_written_are_not_said_to_be(tmp_path, monkeypatch):
    def full(path, text):
        raise StoreError(f"cannot write {path}: No space left on device; free some space and run again")

    monkeypatch.setattr(writing, "write_text", full)
    with StubEndpoint(obliging) as stub:
        words = ["run", f"stub@{stub.url}", "--judge", f"stub@{stub.url}", "--suite", "mt_bench", "--data", "mini"]
        ended = invoke(*words, "--results", str(tmp_path))
        assert ended.exit_code == 2
        assert "config.yaml: No space left on device" in ended.output
        assert "written to" not in ended.output
        monkeypatch.undo()
        asked = len(stub.requests)
        assert "written to" in invoke(*words, "--results", str(tmp_path)).output
        assert len(stub.requests) == asked, "every answer was kept"


def test_what_a_suite_lacks_is_said_before_anything_is_asked(tmp_path):
    with StubEndpoint(obliging) as stub:
        words = ["run", f"stub@{stub.url}", "--data", "mini", "--results", str(tmp_path)]
        refused = invoke(*words)
        alone = invoke(*words, "--suite", "mt_bench", "--skip-impossible")
        asked = len(stub.requests)
        skipping = invoke(*words, "--skip-impossible", "--json")
    sentence = refused.stderr.splitlines()[-1]
    assert refused.exit_code == alone.exit_code == 2
    assert "mt_bench, alpaca_eval: scored by a judge; pass --judge MODEL, or --no-judge" in sentence
    assert "openllm: scores tokens, and stub has no local tokenizer; give the checkpoint's folder" in sentence
    assert "--skip-impossible" in sentence
    assert asked == 0
    assert skipping.exit_code == 0
    assert list(json.loads(skipping.stdout)["models"][0]["suites"]) == ["mixeval"]
    assert skipping.stderr.count("skipped: ") == 3


def test_a_run_of_which_nothing_is_left_is_refused(tmp_path, monkeypatch):
    empty_machine(monkeypatch, tmp_path / "cache")
    with StubEndpoint(obliging) as stub:
        words = ["run", f"stub@{stub.url}", "--suite", "mixeval", "--skip-impossible", "--results", str(tmp_path / "r")]
        result = invoke(*words)
    assert result.exit_code == 2
    assert "skipped: mixeval: " in result.stderr
    assert "none of the suites can run on stub" in result.stderr


@pytest.mark.usefixtures("no_pauses")
def test_a_model_or_judge_that_fails_takes_no_other_figures_with_it(tmp_path):
    with StubEndpoint(obliging) as good, StubEndpoint(lambda path, body: None, model="bad") as bad:
        models = [f"bad@{bad.url}", f"stub@{good.url}"]
        words = ["run", *models, "--suite", "mt_bench", "--suite", "mixeval", "--data", "mini"]
        own_judge = invoke(*words, "--judge", models[1], "--results", str(tmp_path / "a"))
        bad_judge = invoke(
            *words[:1], *words[2:], "--judge", models[0], "--mixeval-parser", "rule", "--results", str(tmp_path / "b")
        )
    assert own_judge.exit_code == bad_judge.exit_code == 3
    assert "failed: bad\n" in own_judge.stderr
    assert "MT-Bench" in own_judge.stdout
    assert "failed: stub mt_bench\n" in bad_judge.stderr
    assert "MixEval" in bad_judge.stdout
    assert "MT-Bench" not in bad_judge.stdout


def test_too_many_unscored_items_give_exit_code_1(tmp_path):
    def says_nothing(path, body):
        return 200, text_reply("")

    with StubEndpoint(obliging) as stub, StubEndpoint(says_nothing, model="mute") as mute:
        words = ["run", f"stub@{stub.url}", "--suite", "mt_bench", "--data", "mini", "--results", str(tmp_path)]
        words += ["--judge", f"mute@{mute.url}"]
        result = invoke(*words)
        lenient = invoke(*words, "--max-unscored", "1")
    assert result.exit_code == 1
    assert "unscored" in result.stderr
    assert lenient.exit_code == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--limit", "0"], "--limit must be at least 1, not 0"),
        (["--suite", "mtbench"], "did you mean 'mt_bench'"),
        (["--suite", "openllm:bbbh"], "did you mean 'bbh'"),
        (["--suite", "mt_bench", "--suite", "mt_bench"], "duplicate suite mt_bench"),
        (["--vllm-arg", "nonsense"], "key=value"),
        (["--base-url", "localhost"], "is not a URL"),
        (["--judge", "nobody"], "model 'nobody' not found"),
        (["--judge", "judge@http://127.0.0.1:9/v1"], "no response from"),
    ],
)
def test_bad_words_are_one_sentence_and_exit_code_2_or_3(tmp_path, words, expected):
    with StubEndpoint(obliging) as stub:
        base = ["run", f"stub@{stub.url}", "--data", "mini", "--results", str(tmp_path)]
        result = invoke(*base, *([] if "--suite" in words else ["--suite", "mt_bench"]), *words)
    assert result.exit_code == (3 if "no response from" in expected else 2)
    assert expected in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.glob("stub-*"))


def test_several_faults_are_reported_together():
    with pytest.raises(UsageError) as error:
        read_config({"models": ["x"], "suites": ["mtbench"], "dtype": "int5", "limit": -1})
    for word in ("mtbench", "--dtype", "--limit"):
        assert word in str(error.value)


def test_a_results_folder_that_cannot_be_written_is_said_at_once(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with StubEndpoint(obliging) as stub:
        words = ["run", f"stub@{stub.url}", "--suite", "mixeval", "--data", "mini", "--results", str(blocked / "x")]
        result = invoke(*words)
    assert result.exit_code == 2
    assert "--results" in result.stderr
