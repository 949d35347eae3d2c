"""A served model is its name and what its server tells, wherever it is; a name of the user's tells two apart."""

from __future__ import annotations

import json
import time

import pytest

from evalsuite.comparison.compare import compare
from evalsuite.comparison.settings import CompareConfig
from evalsuite.config import read_as, read_config
from evalsuite.errors import UsageError
from evalsuite.generation.run import generate
from evalsuite.generation.settings import GenerateConfig
from evalsuite.runs.runner import run
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.identity import told_of
from tests.evalsuite.dialects import MODEL, Hosted
from tests.evalsuite.generation_endpoint import write_chats
from tests.evalsuite.serving.test_dialects import Shown

OLD = int(time.time()) - 10 * 86_400


def of(server):
    return ServeConfig().resolve(server.spec).fingerprint


def config(models, results, judge=None, **options):
    judge = judge or models[0]
    return read_config(
        {"models": models, "judge": judge, "suites": ["mt_bench"], "data": "mini", "results": results, **options}
    )


def test_the_address_is_not_part_of_the_identity_and_the_weights_are():
    told = {"root": "/ckpt/a", "created": OLD, "max_model_len": 4096}
    with Hosted(listed=told) as one, Hosted(listed=told) as same, Hosted(listed={**told, "root": "/ckpt/b"}) as other:
        assert of(one) == of(same) != of(other)


def test_the_time_of_the_request_is_not_told_of_the_model():
    assert told_of({"id": MODEL, "created": int(time.time())}, MODEL) == {}
    assert told_of({"id": MODEL, "created": OLD, "root": MODEL}, MODEL) == {"created": OLD}


def test_other_weights_under_the_same_name_are_asked_again(tmp_path):
    for root in ("/ckpt/step-100", "/ckpt/step-200"):
        with Hosted(listed={"root": root}) as server:
            run(config([server.spec], tmp_path))
            assert server.requests
    assert len([path for path in tmp_path.glob("hosted-*") if path.is_dir()]) == 2


def test_a_model_that_moves_keeps_its_answers(tmp_path):
    for expected in (True, False):
        with Hosted(listed={"root": "/ckpt"}) as server:
            run(config([server.spec], tmp_path))
            assert bool(server.requests) is expected


def test_finished_figures_need_no_server(tmp_path):
    with Hosted(listed={"root": "/ckpt"}) as server:
        first = run(config([server.spec], tmp_path))
    again = run(config([server.spec], tmp_path))
    assert again.models[0].suites == first.models[0].suites


def test_a_server_that_tells_nothing_is_warned_of_and_ask_again_asks(tmp_path):
    with Hosted(listed={"owned_by": None}) as server:
        shown = Shown()
        run(config([server.spec], tmp_path), shown)
        assert sum("reports nothing" in line for line in shown.lines) == 1, "the model is its own judge"
        n = len(server.requests)
        run(config([server.spec], tmp_path, fresh=True))
        assert len(server.requests) == n, "fresh keeps the answers"
        run(config([server.spec], tmp_path, ask_again=True))
        assert len(server.requests) == 2 * n


def test_two_models_of_one_name_are_told_apart_or_refused(tmp_path):
    with Hosted() as one, Hosted() as other:
        with pytest.raises(UsageError, match="--name"):
            run(config([one.spec, other.spec], tmp_path))
        run(config([one.spec], tmp_path, judge=one.spec, name="mine"))
        run(config([other.spec], tmp_path, judge=one.spec, name="theirs"))
        assert len(other.requests) > 0
        assert {body["model"] for body in one.requests + other.requests} == {MODEL}
    names = {json.loads(path.read_text())["model"]["name"] for path in tmp_path.glob("*/scores.json")}
    assert names == {"mine", "theirs"}
    with pytest.raises(UsageError, match="--name names one model"):
        config(["a@http://h/v1", "b@http://h/v1"], tmp_path, name="x")


def test_two_models_of_one_name_are_told_apart_or_refused_in_compare_and_generate(tmp_path):
    chats = write_chats(tmp_path / "chats.jsonl", 2)

    def compared(models, judges, results):
        given = {"models": models, "judge": judges, "data": "mini", "method": "reasoned", "limit": 2}
        return compare(read_as(CompareConfig, given | {"results": tmp_path / results}))

    def generated(models, out):
        return generate(read_as(GenerateConfig, {"models": models, "prompts": str(chats), "out": tmp_path / out}))

    refusal = r"hosted is served at http\S+ and http\S+, and the servers report nothing that differs; serve one of"
    with Hosted() as one, Hosted() as other, Hosted(listed={"root": "/ckpt/b"}) as another:
        both = [one.spec, other.spec]
        for refused in (
            lambda: compared(both, [another.spec], "r"),
            lambda: compared([one.spec, another.spec], both, "r"),
            lambda: generated(both, "out"),
        ):
            with pytest.raises(UsageError, match=refusal):
                refused()
        with pytest.raises(UsageError, match="duplicate model hosted"):
            compared([one.spec, one.spec], [another.spec], "r")
        document = compared([one.spec, another.spec], [one.spec, another.spec], "told").document.as_json()
        assert len({row["model"] for row in document["ranking"]}) == 2
        [manifest] = (tmp_path / "told").glob("comparisons/*/manifest.json")
        assert len(json.loads(manifest.read_text())["usage"]) == 2
        folders = generated([one.spec, another.spec], "out").folders
        assert len(set(folders)) == 2
        assert all(folder.name.startswith("hosted-") and list(folder.glob("*.parquet")) for folder in folders)
