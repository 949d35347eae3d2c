"""A reward model as judge on a real vLLM: scores as transformers computes them, compared, rated, carded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from tests.evalsuite.tiny_checkpoint import write_tokenizer

ANSWERS = {"brief": "Tea.", "polite": "A cup of tea, if you please, and thank you.", "odd": "<|im_end|> 12345"}
QUESTIONS = ("What do you drink?", "And what does your friend drink?", "Name a drink.")


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with a head of one number, 64 wide, its weights drawn with a seed."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    folder = tmp_path_factory.mktemp("reward") / "tiny-reward"
    folder.mkdir()
    write_tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        num_labels=1,
        pad_token_id=1,
        initializer_range=0.2,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


def expected(folder: Path, question: str, answer: str) -> float:
    """The logit as transformers computes it, on tokens that are written out here by hand."""
    import torch
    from transformers import LlamaForSequenceClassification, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)

    def plain(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    ids = []
    for role, text in (("user", question), ("assistant", answer)):
        ids += [0, *plain(f"{role}\n{text}"), 1, *plain("\n")]
    model = LlamaForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        # The newline after the last turn is what the score is read from, as vLLM does; nothing is padded.
        hidden = model.model(torch.tensor([ids])).last_hidden_state[0, -1]
        return float(model.score(hidden)[0])


def test_a_reward_model_scores_compares_rates_and_has_a_card(reward_model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"id": str(i), "prompt": text}) + "\n" for i, text in enumerate(QUESTIONS)))
    files = []
    for name, answer in ANSWERS.items():
        files.append(str(tmp_path / f"{name}.jsonl"))
        rows = [{"id": str(i), "prompt": text, "answer": f"{answer} ({i})"} for i, text in enumerate(QUESTIONS)]
        Path(files[-1]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge = ["--judge-kind", "reward", "--results", str(tmp_path / "results"), "--json"]
    words = ["compare", *files, "--judge", str(reward_model), "--prompts", str(prompts), "--dtype", "float32"]
    result = CliRunner().invoke(app, [*words, *judge])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert {pair["position_flips"] for pair in document["pairs"]} == {0}
    [verdicts] = (tmp_path / "results").glob("comparisons/*/verdicts.jsonl")
    rows = [json.loads(line) for line in verdicts.read_text().splitlines()]
    assert len(rows) == 9
    for row in rows:
        ours = [expected(reward_model, row["prompt"], row[f"answer_{side}"]) for side in "ab"]
        assert row["a_first"]["rewards"] == pytest.approx(ours, abs=2e-4)
        assert row["b_first"]["rewards"] == pytest.approx(ours[::-1], abs=2e-4)
        assert row["winner"] == ("a" if ours[0] > ours[1] else "b")
    assert len({reward for row in rows for reward in row["a_first"]["rewards"]}) == 9

    # The scores are those that the comparison asked for: they come from the store, and no server is started.
    words = ["rate", *files, "--judge", str(reward_model), "--prompts", str(prompts), "--dtype", "float32"]
    result = CliRunner().invoke(app, [*words, *judge])
    assert result.exit_code == 0, result.output
    assert "starting vLLM" not in result.output
    means = {model["name"]: model["factors"]["reward"]["score"] for model in json.loads(result.stdout)["models"]}
    of_a = [row["a_first"]["rewards"][0] for row in rows if (row["a"], row["b"]) == ("brief", "polite")]
    assert means["brief"] == pytest.approx(sum(of_a) / 3)

    pairs = tmp_path / "pairs.jsonl"
    labelled = [
        {"input": row["prompt"], "output_1": row["answer_a"], "output_2": row["answer_b"], "label": row["winner"]}
        for row in rows
    ]
    pairs.write_text("".join(json.dumps(row | {"label": 1 if row["label"] == "a" else 2}) + "\n" for row in labelled))
    words = ["judge-card", str(reward_model), "--pairs", str(pairs), "--attacked", "2", "--dtype", "float32"]
    result = CliRunner().invoke(app, [*words, *judge])
    assert result.exit_code == 0, result.output
    card = json.loads(result.stdout)
    assert (card["agreement"]["accuracy"], card["position_bias"]["flip_rate"]) == (1.0, 0.0)
