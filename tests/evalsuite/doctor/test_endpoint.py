"""What the doctor says of external servers, one a dialect."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalsuite.doctor.endpoint import check_dialect
from evalsuite.serving.config import ServeConfig
from tests.evalsuite.dialects import DIALECTS, Hosted, error, every

EXPECTED = {
    "vLLM": ("vLLM", "ok", "ok"),
    "strict OpenAI": ("plain OpenAI chat; refuses min_p, repetition_penalty, structured_outputs, top_k", "ok", "ok"),
    "reasoning OpenAI": ("reasoning OpenAI chat; refuses max_tokens", "ok", "warning"),
    "no system role": ("vLLM; refuses system", "ok", "ok"),
    "no log-probabilities": ("plain OpenAI chat", "ok", "warning"),
}


def examined(server, results=Path("no-results"), role="judge"):
    serve = ServeConfig()
    return check_dialect(serve.resolve(server.spec), serve, role, None, results)


def findings_of(server, role="judge"):
    return {one.check: one for one in reversed(examined(server, role=role))}


@pytest.mark.parametrize("kind", EXPECTED)
def test_the_dialect_of_a_judges_server_is_shown(kind):
    dialect, guide, labels = EXPECTED[kind]
    with DIALECTS[kind]() as server:
        found = findings_of(server)
        assert len(server.requests) < 12
    assert all(word in found["dialect"].message for word in dialect.replace(",", "").split())
    assert (found["guide"].level, found["labels"].level) == (guide, labels)


def test_the_mass_of_the_labels_is_measured():
    # exp(-0.7) + exp(-2.3) is 0.597: " A" and "b" are the labels as this judge spells them.
    with Hosted(top={"The": -0.95, "m": -4.0, " A": -0.7, "b": -2.3}) as server:
        published, ours = (one for one in examined(server) if one.check == "labels")
    assert published.level == "warning"
    assert "between m and M (label_mass" in published.message
    assert (ours.level, ours.message) == ("ok", "A and B have 60% of the next token's probability")
    asked = [body["messages"][-1]["content"] for body in server.requests if body.get("top_logprobs")]
    assert "Paris." in asked[-1], "our own comparison, as compare asks it"


def test_a_server_that_refuses_everything_is_a_fault():
    with Hosted(every(1, error(400, "The model is deprecated"))) as server:
        found = findings_of(server, "candidate")
    assert found["dialect"].level == "fault"
    assert "deprecated" in found["dialect"].message
