"""One real training step of every kind of conversation: thoughts under each family's template, calls, weights."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from evalsuite.checkpoint import resolve
from evalsuite.cli import app
from evalsuite.training.train import train
from tests.evalsuite.tiny_checkpoint import TEMPLATE
from tests.evalsuite.tiny_training import write_recipe, write_tiny_model
from tests.evalsuite.training import families

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

ASK = {"role": "user", "content": "Two and two?"}
ROWS = [
    {"messages": [ASK, {"role": "assistant", "content": "Four."}]},
    {"messages": [ASK, {"role": "assistant", "content": "Four.", "reasoning_content": "Two twos."}]},
    {"messages": [ASK, {"role": "assistant", "content": "<think>Two twos.</think>Four!"}, ASK,
                  {"role": "assistant", "content": "Still four."}]},
]  # fmt: skip
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"function": {"name": "add", "arguments": {"a": 2, "b": 2}}}],
}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
CALLING = {
    "messages": [ASK, CALL, {"role": "tool", "content": "4"}, {"role": "assistant", "content": "Four."}],
    "tools": [TOOL],
}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    "family", ["QWEN3", "QWEN35", "DEEPSEEK_R1", "CHATML_OPEN", "DEEPSEEK_V31", "SMOLLM3", "TEMPLATE"]
)
def test_plain_thinking_and_mixed_rows_are_trained(tmp_path, family):
    base = write_tiny_model(tmp_path / "base", template=getattr(families, family, TEMPLATE))
    recipe = write_recipe(tmp_path / "r.yaml", base, max_steps=1, max_length=256)
    outcome = train(recipe, tmp_path / "out", data=write(tmp_path / "c.jsonl", ROWS))
    assert outcome.document["n_conversations"] == 3
    assert outcome.document["data"]["dropped"] == {}
    assert outcome.document["data"]["n_with_thought"] == 1
    assert outcome.document["reasoning_style"] in ("qwen3", "deepseek_r1")
    assert resolve(str(outcome.folder)).training["reasoning_style"] == outcome.document["reasoning_style"]


def test_tool_calls_are_trained_from_a_mix_and_seen_by_inspect(tmp_path):
    base = write_tiny_model(tmp_path / "base", template=families.QWEN3)
    recipe = write_recipe(tmp_path / "r.yaml", base, max_steps=1, max_length=512)
    data = write(tmp_path / "c.jsonl", [CALLING, *ROWS])
    recipe.write_text(recipe.read_text() + f"mix: {{shuffle: false, sources: [{{data: {data}}}]}}\n")
    arguments = ["sft", str(recipe), "--out", str(tmp_path / "out"), "--contamination", "off"]
    losses = []
    for row in range(4):
        shown = CliRunner().invoke(app, [*arguments, "--inspect", "--json", "--row", str(row)])
        assert shown.exit_code == 0, shown.output
        tokens = json.loads(shown.stdout)["example"]["tokens"]
        losses.append("".join(token["text"] for token in tokens if token["loss"]))
    assert any(
        '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 2}}\n</tool_call><|im_end|>Four.' in text
        for text in losses
    )
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "training.json").read_text())["n_conversations"] == 4


def test_a_template_without_calls_drops_the_row_and_says_so(tmp_path):
    base = write_tiny_model(tmp_path / "base")
    recipe = write_recipe(tmp_path / "r.yaml", base, max_steps=1, max_length=256)
    called = {"messages": [ASK, CALL]}
    result = CliRunner().invoke(
        app,
        ["sft", str(recipe), "--data", write(tmp_path / "c.jsonl", [called, *ROWS]), "--out", str(tmp_path / "out")],
    )
    assert result.exit_code == 0, result.output
    assert (
        "1 of 4 conversations dropped: the chat template does not write the tool calls of its last answer"
        in result.stderr
    )
