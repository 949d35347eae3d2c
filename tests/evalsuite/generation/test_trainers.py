"""The folder of ``generate`` as trainers read it: the answers are the model's, not the source's."""

from __future__ import annotations

import json

import pytest

from evalsuite.generation.run import generate
from tests.evalsuite.generation_endpoint import answering, config
from tests.evalsuite.stub_endpoint import StubEndpoint
from tests.evalsuite.tiny_training import write_tiny_model

QUESTION = {"role": "user", "content": "Name a river."}
ORIGINAL = {"role": "assistant", "content": "ORIGINAL ANSWER"}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "row",
    [
        {"messages": [QUESTION, ORIGINAL]},
        {"conversations": [{"from": "human", "value": "Name a river."}, {"from": "gpt", "value": "ORIGINAL ANSWER"}]},
        {"prompt": "Name a river.", "completion": "ORIGINAL ANSWER"},
        {"prompt": "Name a river.", "chosen": "ORIGINAL ANSWER", "rejected": "ORIGINAL TOO", "text": "ORIGINAL TEXT"},
    ],
    ids=["messages", "conversations", "completion", "preferences"],
)
def test_trl_trains_on_the_answers_of_the_model(tmp_path, row):
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    trains_on_the_answers(tmp_path / "in.jsonl", tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_trl_trains_on_the_answers_to_the_recorded_conversations(tmp_path, cases):
    trains_on_the_answers(cases / "data/messages_column.jsonl", tmp_path)


def trains_on_the_answers(source, tmp_path):
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    with StubEndpoint(answering) as stub:
        generate(config(stub, source, tmp_path / "out"))
    loaded = datasets.load_dataset(
        "parquet", data_files=f"{tmp_path}/out/*.parquet", split="train", cache_dir=str(tmp_path / "cache")
    )
    settings = trl.SFTConfig(
        output_dir=str(tmp_path / "trl"), max_steps=1, per_device_train_batch_size=1, use_cpu=True, bf16=False,
        report_to="none",
    )  # fmt: skip
    trainer = trl.SFTTrainer(str(write_tiny_model(tmp_path / "tiny")), args=settings, train_dataset=loaded)
    trainer.train()
    for row, trained in zip(loaded, trainer.train_dataset, strict=True):
        text = trainer.processing_class.decode(trained["input_ids"])
        assert all(turn["content"] in text for turn in row["messages"])
        assert "Name a" in text
        assert "ORIGINAL" not in text
