"""Hosted servers, one a dialect: what is scored, what is sent and what is said."""

from __future__ import annotations

import json
import time

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.comparison.compare import compare
from evalsuite.comparison.settings import CompareConfig
from evalsuite.config import read_as, read_config
from evalsuite.errors import BusyError, DeniedError, ServerError
from evalsuite.progress import NoProgress
from evalsuite.runs.runner import run
from evalsuite.serving.dialect import Dialect, refused_fields, words_of
from tests.evalsuite.dialects import DIALECTS, OTHER, Hosted, error, every, no_system, per_window, quota_gone, strict

CHAT = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "max_tokens": 16}
BODY = {**CHAT, "temperature": 0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "stop": ["\n"]}
CLOSING = {"structured_outputs": {"choice": ["1]]", "2]]"]}, "continue_final_message": True}


pytestmark = pytest.mark.usefixtures("no_pauses")


class Shown(NoProgress):
    def __init__(self):
        self.lines = []

    def log(self, message):
        self.lines.append(message)


def run_on(server, results, suites=("mt_bench", "mixeval"), **options):
    shown = Shown()
    config = {"models": [server.spec], "judge": server.spec, "suites": list(suites), "data": "mini"}
    outcome = run(read_config({**config, "results": results, **options}), shown)
    manifest = json.loads((outcome.folders[0] / "manifest.json").read_text())
    return outcome.models[0].suites, manifest["usage"]["candidate"]["server"], shown.lines


FOUR = ("mt_bench", "alpaca_eval", "mixeval", "arena_hard")


def compared_on(server, results):
    other = f"{OTHER}@{server.url}"
    given = {"models": [server.spec, other], "judge": server.spec, "data": "mini", "results": results}
    return compare(read_as(CompareConfig, given))


def scored(suite):
    """Return how many items of a suite have a figure, of how many, and the reasons of the others."""
    lost = suite["unscored"]
    n = suite.get("n_scored", suite.get("n_total"))  # alpaca_eval counts as its package does
    return n, n + sum(lost.values()), set(lost)


@pytest.mark.parametrize("kind", [kind for kind in DIALECTS if kind not in ("quota gone", "content filter")])
def test_everything_is_scored_in_every_dialect(tmp_path, kind):
    with DIALECTS[kind]() as server:
        suites, said, _ = run_on(server, tmp_path, FOUR)
        extra = {name for body in server.requests[-40:] for name in body} & {"top_k", "min_p", "repetition_penalty"}
        comparison = compared_on(server, tmp_path)
    assert {name: scored(suite) for name, suite in suites.items()} == {
        "mt_bench": (10, 10, set()),
        "alpaca_eval": (8, 8, set()),
        "mixeval": (12, 12, set()),
        "arena_hard": (3, 3, set()),
    }
    assert (comparison.n_unscored, comparison.n_items) == (0, 5)
    assert suites["alpaca_eval"].get("judged_in_words", 0) == 8 * (kind in ("reasoning OpenAI", "no log-probabilities"))
    expected = {"reasoning OpenAI": "reasoning OpenAI chat", "vLLM": "vLLM", "no system role": "vLLM"}
    assert said["dialect"] == expected.get(kind, "plain OpenAI chat")
    assert bool(extra) == (said["dialect"] == "vLLM"), "what is refused once is not sent again"


def test_a_refused_field_is_shown_once_and_stands_in_the_manifest(tmp_path):
    with DIALECTS["strict OpenAI"]() as server:
        _, said, lines = run_on(server, tmp_path)
        assert sum("top_k" in body for body in server.requests) == 1, "asked once, before the others"
    assert said["left_out"]["top_k"] == "Error code: 400: Unknown parameter: 'top_k'."
    assert [line for line in lines if "refuses" in line] == [
        f"{server.spec} refuses min_p, repetition_penalty, top_k: Error code: 400: Unknown parameter: 'top_k'."
    ]


def test_a_guide_becomes_a_schema_and_then_words(tmp_path):
    for kind, form in (("strict OpenAI", "response_format"), ("strict OpenAI without schema", None)):
        with DIALECTS[kind]() as server:
            run_on(server, tmp_path / kind, ["mixeval"])
            closings = [body for body in server.requests if "exactly one of these" in body["messages"][-1]["content"]]
        assert closings
        assert ("response_format" in closings[-1]) == (form is not None)


def test_an_ignored_guide_is_asked_in_another_form():
    dialect = Dialect()
    reply = {"choices": [{"message": {"content": "I would say one."}}]}
    body = {**CHAT, **CLOSING}
    put = dialect.put(body)
    assert put == body
    assert dialect.read(body, put, reply) is None
    put = dialect.put(body)
    assert put["response_format"]["json_schema"]["schema"]["properties"]["verdict"]["enum"] == ["1", "2"]
    assert "continue_final_message" not in put
    read = dialect.read(body, put, {"choices": [{"message": {"content": '{"verdict": "2"}'}}]})
    assert read["choices"][0]["message"]["content"] == "2]]"
    assert dialect.read(body, put, reply) is None
    put = dialect.put(body)
    assert "response_format" not in put
    assert dialect.read(body, put, reply) == reply, "words that hold no verdict are left to the parser"


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ('{"error": {"message": "Unknown parameter: \'top_k\'.", "param": "top_k"}}', {"top_k"}),
        ("Unrecognized request arguments supplied: min_p, top_k", {"min_p", "top_k"}),
        ('{"detail": [{"type": "extra_forbidden", "loc": ["body", "min_p"], "msg": "not permitted"}]}', {"min_p"}),
        ("property 'top_k' is unsupported", {"top_k"}),
        ('Unknown name "top_k": Cannot find field.', {"top_k"}),
        ("Unsupported value: 'messages[0].role' does not support 'system' with this model.", {"system"}),
        ("System role not supported", {"system"}),
        ("Conversation roles must alternate user/assistant", {"system"}),
        ("please stop sending so much", set()),
        ("the temperature in the room is high", set()),
    ],
)
def test_the_words_of_many_servers_name_the_field(words, fields):
    assert refused_fields(words, BODY) == fields


def test_an_unnamed_field_of_vllm_is_left_out_only_before_the_first_answer():
    dialect = Dialect()
    assert dialect.learn(400, "Bad Request", BODY) == ["min_p", "top_k"]
    dialect = Dialect()
    dialect.read(BODY, BODY, {"choices": []})
    assert dialect.learn(400, "Bad Request", BODY) == []


def test_a_maximum_is_kept_and_the_field_too():
    dialect = Dialect()
    words = "Invalid value for 'top_logprobs': must be less than or equal to 5."
    assert dialect.learn(400, words, {**CHAT, "top_logprobs": 20}) == ["top_logprobs"]
    assert dialect.put({**CHAT, "top_logprobs": 20})["top_logprobs"] == 5


def test_words_without_their_json():
    text = 'Error code: 400 - {"error": {"message": "no such field"}}'
    assert words_of(text) == "Error code: 400: no such field"
    assert words_of("plain") == "plain"


def test_a_stop_that_is_refused_is_cut_here():
    dialect = Dialect()
    dialect.learn(400, "Unsupported parameter: 'stop' is not supported with this model", BODY)
    put = dialect.put(BODY)
    assert "stop" not in put
    reply = dialect.read(BODY, put, {"choices": [{"message": {"content": "one\ntwo"}}]})
    assert reply["choices"][0]["message"]["content"] == "one"


def test_a_quota_that_is_gone_ends_the_run_and_keeps_what_is_finished(tmp_path):
    with Hosted(strict, quota_gone(6)) as server:
        with pytest.raises(BusyError, match="exceeded your current quota"):
            run_on(server, tmp_path)
        n_answered = server.n_answered
        server._rules = (strict,)
        run_on(server, tmp_path)
        assert server.n_answered + n_answered < 2 * 50
        assert len(server.requests) > n_answered
    assert n_answered == 6


@pytest.mark.parametrize("suite", FOUR)
def test_a_quota_that_is_gone_ends_every_suite_and_a_comparison(tmp_path, suite):
    with Hosted(strict, quota_gone(1)) as server:
        for work in (lambda: run_on(server, tmp_path, [suite]), lambda: compared_on(server, tmp_path)):
            with pytest.raises(BusyError, match="exceeded your current quota") as error:
                work()
            assert error.value.exit_code == 75


def test_a_limit_by_the_minute_is_ridden_out_and_retry_after_is_obeyed(tmp_path):
    window_s = 0.8
    with Hosted(strict, per_window(12, window_s)) as server:
        suites, _, lines = run_on(server, tmp_path)
        refused = len(server.requests) - server.n_answered - 1
    assert all(suite["unscored"] == {} for suite in suites.values())
    assert any("rate limited" in line for line in lines)
    assert refused < 3 * server.n_answered


def test_patience_ends(tmp_path):
    busy = error(429, "Rate limit reached", {"retry-after": "3600"})
    with Hosted(every(1, busy)) as server, pytest.raises(BusyError, match="--patience"):
        run_on(server, tmp_path, patience=5)
    assert len(server.requests) < 30


def test_a_run_whose_first_requests_fail_alike_stops_and_says_why(tmp_path):
    broken = error(400, "The model `hosted` is deprecated")
    with Hosted(every(1, broken)) as server, pytest.raises(ServerError, match=r"first 20 .* is deprecated"):
        run_on(server, tmp_path, ["mt_bench", "mixeval", "alpaca_eval"])


def test_replies_without_a_text_stop_a_run_like_errors(tmp_path):
    empty = (200, {"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}, {})
    with Hosted(every(1, empty)) as server, pytest.raises(ServerError, match=r"first 20 .* the reply has no text"):
        run_on(server, tmp_path, ["mt_bench", "mixeval", "alpaca_eval"])


def test_a_run_spends_no_more_requests_than_it_may_and_resumes(tmp_path):
    with Hosted() as server:
        with pytest.raises(BusyError, match="--max-requests"):
            run_on(server, tmp_path, ["mixeval"], max_requests=10)
        assert len(server.requests) == 10
        run_on(server, tmp_path, ["mixeval"])
        bodies = [json.dumps(body, sort_keys=True) for body in server.requests]
    assert len(set(bodies)) == len(bodies), "every answer that was paid for is kept"


def test_a_key_that_is_refused_half_way_loses_no_answer_in_flight(tmp_path, monkeypatch):
    """The third question is denied at once, those beside it are answered later."""
    monkeypatch.setenv("EVALSUITE_API_KEY", "k")

    def denying(server, _):
        if len(server.requests) == 3:
            return error(401, "The key has been revoked")
        time.sleep(0.05)
        return None

    with Hosted(denying) as server:
        with pytest.raises(DeniedError, match="does not accept the key") as caught:
            run_on(server, tmp_path, ["mixeval"])
        assert caught.value.exit_code == 2
        n_answered = server.n_answered
        assert n_answered > 1
        run_on(server, tmp_path, ["mixeval"])
        bodies = [json.dumps(body, sort_keys=True) for body in server.requests]
    assert len(bodies) - len(set(bodies)) == 1, "only the denied one is asked twice"


def test_a_run_takes_no_more_tokens_than_it_may(tmp_path):
    with Hosted() as server, pytest.raises(BusyError, match="--max-tokens-total"):
        run_on(server, tmp_path, ["mixeval"], max_tokens_total=400)
    assert 0 < server.n_answered * 29 <= 400


def test_requests_are_spaced(tmp_path):
    with Hosted() as server:
        run_on(server, tmp_path, ["mixeval"], limit=2, requests_per_minute=1200, judge_requests_per_minute=1200)
        gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert min(gaps) > 0.03
    assert server.times[-1] - server.times[0] > 0.045 * (len(server.times) - 1)


def test_an_alias_is_accepted_unless_it_changes(tmp_path):
    with DIALECTS["Azure alias"]() as server:
        _, said, lines = run_on(server, tmp_path)
        assert said["model"] == "gpt-deployment-3"
        assert sum("answers as 'gpt-deployment-3'" in line for line in lines) == 1
        replies = iter(range(1000))

    def changing(server, body):
        server.facts["model"] = "one" if next(replies) < 5 else "another"

    replies = iter(range(1000))
    with Hosted(changing) as server:
        suites, _, _ = run_on(server, tmp_path / "changed", ["mt_bench"])
    assert set(suites["mt_bench"]["unscored"]) == {"wrong_model"}


def test_a_filtered_item_has_its_own_reason(tmp_path):
    with DIALECTS["content filter"]() as server:
        suites, said, _ = run_on(server, tmp_path, FOUR)
        comparison = compared_on(server, tmp_path)
    assert all(scored(suite)[2] == {"content_filter"} for suite in suites.values())
    assert 0 < comparison.n_unscored < comparison.n_items
    assert [refusal["reason"] for refusal in said["refusals"]] == ["content_filter"]


def test_the_servers_words_stand_in_every_export_and_come_back_with_an_import(tmp_path):
    words = "content management policy"
    with DIALECTS["content filter"]() as server:
        suites, _, _ = run_on(server, tmp_path, ["mt_bench", "alpaca_eval", "mixeval"])
    [folder] = tmp_path.glob("hosted-*")
    for suite in suites:
        told = [path for path in (folder / suite).rglob("*.json*") if words in path.read_text()]
        assert told, suite
        given = ["import", suite, str(folder / suite), "--model", "hosted", "--data", "mini", "--max-unscored", "1"]
        done = CliRunner().invoke(app, [*given, "--results", str(tmp_path / "imported")])
        assert done.exit_code == 0, done.output
    records = [path.read_text() for path in (tmp_path / "imported").glob("*/records/*.jsonl")]
    assert len(records) == len(suites)
    assert all('"content_filter"' in text and words in text for text in records)
    given = ["export", "--to", "parquet", "--results", str(tmp_path), "--out", str(tmp_path / "items.parquet")]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    rows = pq.read_table(tmp_path / "items.parquet").to_pylist()
    lost = [row for row in rows if row["unscored"]]
    assert lost
    assert all(words in (row["unscored_detail"] or "") for row in lost if "content_filter" in row["unscored"])


def test_a_system_message_is_folded_into_the_users_turn(tmp_path):
    with Hosted(no_system) as server:
        run_on(server, tmp_path, ["mt_bench"])
        refused = [body["messages"] for body in server.requests if body["messages"][0]["role"] == "system"]
        asked = [body["messages"] for body in server.requests if body["messages"][0]["role"] == "user"]
    assert refused
    assert [{"role": "user", "content": "\n\n".join(each["content"] for each in refused[0])}] in asked


@pytest.mark.parametrize(
    ("kind", "facts", "in_words"),
    [
        ("no log-probabilities", {}, 8),
        ("reasoning OpenAI", {}, 8),
        ("strict OpenAI", {}, 0),
        ("strict OpenAI", {"top": {"The": -0.2, "m": -2.0, "M": -3.0}}, 8),
    ],
)
def test_alpaca_evals_judge_ranks_in_words_where_its_probabilities_are_no_verdict(tmp_path, kind, facts, in_words):
    with DIALECTS[kind]() as server:
        server.facts |= facts
        suites, _, _ = run_on(server, tmp_path, ["alpaca_eval"])
    scores = suites["alpaca_eval"]
    assert (scores["n_total"], scores.get("judged_in_words", 0)) == (8, in_words)
    assert ("label_mass" in scores) == (in_words == 0)


def test_an_extra_body_goes_to_its_own_server(tmp_path):
    with Hosted() as model, Hosted() as judge:
        config = {"models": [model.spec], "judge": judge.spec, "suites": ["mt_bench"], "data": "mini"}
        extra = {"extra_body": '{"provider": {"order": ["a"]}}', "judge_extra_body": {"safe_prompt": False}}
        run(read_config({**config, **extra, "results": tmp_path}))
    assert {json.dumps(body.get("provider")) for body in model.requests} == {'{"order": ["a"]}'}
    assert {(body.get("provider"), body["safe_prompt"]) for body in judge.requests} == {(None, False)}


def test_keys_belong_to_their_servers(tmp_path, monkeypatch):
    for name in ("EVALSUITE_API_KEY", "OPENAI_API_KEY", "MODEL_KEY", "JUDGE_KEY"):
        monkeypatch.setenv(name, f"the-value-of-{name}")
    for given, expected in (
        ({}, ("EVALSUITE_API_KEY", "EVALSUITE_API_KEY")),
        ({"api_key_env": "MODEL_KEY"}, ("MODEL_KEY", "EVALSUITE_API_KEY")),
        ({"api_key_env": "MODEL_KEY", "judge_api_key_env": "JUDGE_KEY"}, ("MODEL_KEY", "JUDGE_KEY")),
    ):
        with Hosted() as model, Hosted() as judge:
            config = {"models": [model.spec], "judge": judge.spec, "suites": ["mt_bench"], "data": "mini"}
            run(read_config({**config, **given, "results": tmp_path / str(len(given))}))
        assert {*model.keys} == {f"Bearer the-value-of-{expected[0]}"}
        assert {*judge.keys} == {f"Bearer the-value-of-{expected[1]}"}
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert "the-value-of" not in kept
