"""evalsuite as a model of lm-eval itself, against a scripted server with a known distribution."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import evalsuite
from evalsuite.errors import DataError, UsageError
from tests.evalsuite.stub_endpoint import StubEndpoint
from tests.evalsuite.tiny_checkpoint import write_checkpoint
from tests.evalsuite.toy_lm import direct, distribution

pytestmark = pytest.mark.slow

pytestmark = [pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute")]

SIZE = 258


def toy_server(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """What vLLM with evalsuite's endpoint answers, by the toy distribution."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    if path.endswith("/loglikelihoods"):
        context = body["context"]
        results = [
            [direct([*context, *tokens[:at]], tokens[at : at + 1], SIZE) for at in range(len(tokens))]
            for tokens in body["continuations"]
        ]
        return 200, {"results": results, "usage": usage}
    prompt = body["prompt"]
    if "prompt_logprobs" in body:
        steps = [direct(prompt[:at], prompt[at : at + 1], SIZE) for at in range(1, len(prompt))]
        entries = [
            {str(token): {"logprob": value, "rank": 1 if greedy else 2}}
            for token, (value, greedy) in zip(prompt[1:], steps, strict=True)
        ]
        return 200, {"choices": [{"text": "", "prompt_logprobs": [None, *entries]}], "usage": usage}
    logprobs = distribution(tuple(prompt), SIZE)
    top = max(range(SIZE), key=logprobs.__getitem__)
    answers = {f"token_id:{token}": logprobs[token] for token in body["logprob_token_ids"]}
    return 200, {"choices": [{"text": "x", "logprobs": {"tokens": [f"token_id:{top}"], "top_logprobs": [answers]}}]}


def request(context: str, choice: str) -> Any:
    from lm_eval.api.instance import Instance

    # 0.4 reads the metadata, 0.5 the fields
    fields = {"task_name": "t", "doc_id": 0, "idx": 0, "metadata": ("t", 0, 1)}
    return Instance(request_type="loglikelihood", doc={}, arguments=(context, choice), **fields)


def test_log_likelihoods_are_those_of_the_distribution(tmp_path: Path) -> None:
    from evalsuite.lm_eval import ServedLM

    checkpoint = write_checkpoint(tmp_path / "ckpt")
    with (
        StubEndpoint(toy_server) as stub,
        ServedLM(str(checkpoint), base_url=stub.url, results=str(tmp_path / "results")) as model,
    ):
        pairs = [("one", " a"), ("one", " b"), ("two", " long choice"), ("two", " lone")]
        got = model.loglikelihood([request(*pair) for pair in pairs])
        asked = len(stub.requests)
        again = model.loglikelihood([request(*pair) for pair in pairs])
        assert len(stub.requests) == asked, "remembered"
        encode = model.tok_encode
        expected = [direct(encode(context), encode(choice), SIZE) for context, choice in pairs]
    for ours, right in zip(got, expected, strict=True):
        assert ours == pytest.approx(right)
    assert again == got


def test_what_is_unscored_never_becomes_a_score(tmp_path: Path) -> None:
    from evalsuite.lm_eval import ServedLM

    def refuses_one(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        asked = body.get("context") or body["prompt"]
        # The probe asks for zeros.
        if len(asked) > 7 and any(asked):
            return 400, {"error": {"message": "no"}}
        return toy_server(path, body)

    checkpoint = write_checkpoint(tmp_path / "ckpt")
    with (
        StubEndpoint(refuses_one) as stub,
        ServedLM(str(checkpoint), base_url=stub.url, results=str(tmp_path / "results")) as model,
    ):
        with pytest.raises(DataError, match=r"1 of 2 requests are unscored \(request_failed 1\)"):
            model.loglikelihood([request("one", " ab"), request("much longer", " ab")])
        assert len(model.loglikelihood([request("one", " ab")])) == 1, "an earlier call's failure is over"
        nameless = [((None, None), model.tok_encode("much longer"), model.tok_encode(" ab"))]
        with pytest.raises(DataError, match="request_failed 1"):
            model._loglikelihood_tokens(nameless)


def test_a_server_whose_endpoint_refuses_a_group_is_asked_as_any_other(tmp_path: Path) -> None:
    from evalsuite.lm_eval import ServedLM

    def no_long_context(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if any(body.get("context", [])):
            return 400, {"error": {"message": "IndexError: list index out of range"}}
        return toy_server(path, body)

    checkpoint = write_checkpoint(tmp_path / "ckpt")
    with (
        StubEndpoint(no_long_context) as stub,
        ServedLM(str(checkpoint), base_url=stub.url, results=str(tmp_path / "results")) as model,
    ):
        assert model.server.scores_continuations
        (got,) = model.loglikelihood([request("one", " ab")])
        expected = direct(model.tok_encode("one"), model.tok_encode(" ab"), SIZE)
    assert got == pytest.approx(expected)


def test_an_unknown_model_argument_is_named() -> None:
    from evalsuite.lm_eval import ServedLM

    with pytest.raises(UsageError, match="tensor_paralel"):
        ServedLM("demo", tensor_paralel=2)


def test_lm_evals_own_command_line_knows_evalsuite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from evalsuite.lm_eval import main

    checkpoint = write_checkpoint(tmp_path / "ckpt", context=16384)
    mini = Path(evalsuite.__file__).parent / "suites" / "openllm" / "mini"
    with StubEndpoint(toy_server, max_model_len=16384) as stub:
        arguments = f"pretrained={checkpoint},base_url={stub.url},results={tmp_path / 'results'}"
        words = ["run", "--model", "evalsuite", "--model_args", arguments, "--limit", "3"]
        words += ["--tasks", "mini_mmlu_pro", "--include_path", str(mini)]
        monkeypatch.setattr(sys, "argv", ["lm_eval", *words])
        assert main() == 0
    assert "mini_mmlu_pro" in capsys.readouterr().out
