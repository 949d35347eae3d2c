"""What a server refused is known to later runs, and answers that change under one name are noticed."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from evalsuite.config import read_as
from evalsuite.generation.run import generate
from evalsuite.generation.settings import GenerateConfig
from evalsuite.serving import known_servers
from evalsuite.serving.connection import Connection
from evalsuite.serving.known_servers import QUESTIONS, Known, recall, remember
from evalsuite.serving.told import Told
from evalsuite.serving.wire import RetryableError
from tests.evalsuite.dialects import DIALECTS, Hosted, strict
from tests.evalsuite.doctor.test_endpoint import examined
from tests.evalsuite.generation_endpoint import write_chats
from tests.evalsuite.serving.test_dialects import run_on


def today() -> date:
    return datetime.now(UTC).date()


def with_field(server, name):
    return sum(name in body for body in server.requests)


def test_a_later_run_asks_in_the_form_that_the_first_has_learned(tmp_path):
    with DIALECTS["strict OpenAI"]() as server:
        run_on(server, tmp_path, ["mt_bench"])
        assert with_field(server, "top_k") == 1
        asked = len(server.requests)
        _, said, lines = run_on(server, tmp_path, ["mixeval"])
        assert with_field(server, "top_k") == 1, "known from the first run"
        assert len(server.requests) > asked
        assert said["left_out"]["top_k"] == "Error code: 400: Unknown parameter: 'top_k'."
        assert any("is known to refuse" in line and "top_k" in line and str(today()) in line for line in lines)


def test_what_is_known_is_probed_again_after_a_week_and_by_the_doctor(tmp_path):
    with DIALECTS["strict OpenAI"]() as server:
        run_on(server, tmp_path, ["mixeval"])
        key = server.spec
        known = recall(tmp_path / "servers.json", key)
        old = str(today() - timedelta(days=7))
        remember(tmp_path / "servers.json", {key: Known(known.refused, known.caps, old, known.greedy, [], old)})
        server._rules = ()
        _, said, _ = run_on(server, tmp_path, ["mt_bench"])
        assert said["dialect"] == "vLLM", "the server takes them now"
        assert recall(tmp_path / "servers.json", key).refused == {}
        server._rules = (strict,)
        [told] = [finding for finding in examined(server, tmp_path) if finding.check == "dialect"]
        assert "refuses" in told.message
    assert "top_k" in recall(tmp_path / "servers.json", key).refused


@pytest.mark.parametrize("text", ["", "[]", '{"m@u": {"refused": 3}}', "\x00"])
def test_a_broken_file_is_ignored_and_written_again(tmp_path, text):
    path = tmp_path / "servers.json"
    path.write_text(text)
    assert recall(path, "m@u") == Known()
    remember(path, {"m@u": Known({"top_k": "no"}, {}, str(today()))})
    remember(path, {"n@u": Known()})
    assert recall(path, "m@u").refused == {"top_k": "no"}


def test_other_answers_under_the_same_name_are_told(tmp_path):
    with Hosted() as server:
        _, first, lines = run_on(server, tmp_path, ["mixeval"])
        assert first["changed"] is None
        assert [len(each) for each in first["greedy"]] == [1] * len(known_servers.QUESTIONS)
        _, _, lines = run_on(server, tmp_path, ["mt_bench"])
        assert not any("changed" in line for line in lines)
        server.facts["says"] = "Lyon."
        server.facts["fingerprint"] = "fp_2"
        _, said, lines = run_on(server, tmp_path, ["alpaca_eval"])
    expected = f"4 of 4 fixed questions and its system_fingerprint (fp_2 after fp_1) changed since {today()}"
    assert said["changed"] == expected
    assert sum(expected in line and "--ask-again" in line for line in lines) == 1


def test_each_of_several_servers_of_one_model_has_its_entry(tmp_path):
    with DIALECTS["strict OpenAI"]() as one, Hosted() as two:
        both = SimpleNamespace(spec=f"{one.spec},{two.url}")
        run_on(both, tmp_path, ["mixeval"])
        known = json.loads((tmp_path / "servers.json").read_text())
    assert {name: bool(entry["refused"]) for name, entry in known.items()} == {one.spec: True, two.spec: False}
    assert all(len(entry["greedy"]) == 4 for entry in known.values())


async def test_a_server_that_fails_on_a_fixed_question_is_not_asked_the_others_later():
    async def never():
        raise AssertionError

    connection, left = Connection(never), []

    async def exchange(*_):
        if not left:
            left.append("failed")
            raise RetryableError("gone")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            left.append("cancelled")
            raise

    connection.exchange = exchange
    connection.told = Told("m", print, answered=1)
    await connection.look_for_drift()
    assert left == ["failed"] + ["cancelled"] * (2 * len(QUESTIONS) - 1)


def test_answers_that_a_server_does_not_repeat_are_no_drift():
    before = Known(greedy=[["a", "b"], ["c"], [], ["e"]], asked_on="2026-01-01")
    assert before.drift([["b"], ["c"], ["d"], []], []) is None
    assert before.drift([["x"], ["c"], ["d"], []], []) == "1 of 2 fixed questions changed since 2026-01-01"
    assert Known().drift([["x"]], ["fp"]) is None


def test_a_server_that_refuses_a_temperature_has_no_greedy_answers_to_compare(tmp_path):
    with DIALECTS["reasoning OpenAI"]() as server:
        _, said, _ = run_on(server, tmp_path, ["mt_bench"])
        assert not any(said["greedy"])
        server.facts |= {"says": "Otherwise. Rating: [[2]]", "fingerprint": "fp_2"}
        _, said, _ = run_on(server, tmp_path, ["alpaca_eval"])
    assert said["changed"] == f"its system_fingerprint (fp_2 after fp_1) changed since {today()}"


def test_nothing_is_asked_where_the_store_has_all_answers(tmp_path):
    with Hosted() as server:
        run_on(server, tmp_path, ["mixeval"])
        asked = len(server.requests)
        run_on(server, tmp_path, ["mixeval"])
        assert len(server.requests) == asked


def test_generate_keeps_the_servers_words_in_its_manifest(tmp_path):
    with DIALECTS["content filter"]() as server:
        given = {
            "models": [server.spec],
            "prompts": str(write_chats(tmp_path / "c.jsonl", 12)),
            "out": tmp_path / "o",
            "temperature": 0.7,
        }
        [manifest] = generate(read_as(GenerateConfig, given)).manifests
        said = manifest["server"]
        assert manifest["counts"]["unscored"]["content_filter"] > 0
        [refusal] = [each for each in said["refusals"] if each["reason"] == "content_filter"]
        assert "content management policy" in refusal["words"]
        assert said["dialect"] == "plain OpenAI chat"
        [again] = generate(read_as(GenerateConfig, given)).manifests
    assert again["server"]["refusals"] == said["refusals"]
    assert json.loads((tmp_path / "o" / "_servers.json").read_text())[server.spec]["refused"]
