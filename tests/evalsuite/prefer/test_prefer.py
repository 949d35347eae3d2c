"""Preference pairs from verdicts: both orders agree, every verdict is accounted for, and TRL trains on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.files import read_json, read_objects, write_json, write_jsonl
from evalsuite.suites.registry import suites
from tests.evalsuite.tiny_training import write_tiny_model

LONG = "a much longer answer " * 20


def verdict(id_: str, a_first: float | None, b_first: float | None, **more: Any) -> dict[str, Any]:
    """One verdict on m against n; ``a_first`` and ``b_first`` prefer the answer shown first, 0 to 1."""
    row: dict[str, Any] = {"prompt_id": id_, "prompt": f"Question {id_}?", "a": "m", "b": "n", "judge": "j"}
    row |= {"answer_a": f"m on {id_}", "answer_b": f"n on {id_}", "method": "verdict"}
    if a_first is not None and b_first is not None:
        preference = (a_first + 1 - b_first) / 2
        winner = "tie" if preference == 0.5 else "a" if preference > 0.5 else "b"
        row |= {"winner": winner, "preference_a": preference, "position_flip": (a_first > 0.5) == (b_first > 0.5)}
        row |= {"a_first": {"preference_first": a_first}, "b_first": {"preference_first": b_first}}
    return row | more


VERDICTS = [
    verdict("a-wins", 0.9, 0.2),
    verdict("b-wins", 0.1, 0.8),
    verdict("first-place", 0.9, 0.7),
    verdict("tie", 0.5, 0.5),
    verdict("close", 0.55, 0.45),
    verdict("failed", None, None, unscored={"reason": "no_verdict"}),
    verdict("same", 0.9, 0.2, answer_b="m on same"),
    verdict("lost", 0.9, 0.2, answer_b=None),
    verdict("long", 0.9, 0.2, answer_a=LONG),
    verdict("a-wins-again", 0.9, 0.2, prompt="Question a-wins?", answer_a="m on a-wins", answer_b="n on a-wins"),
]


def comparison(results: Path, rows: list[dict[str, Any]], prompts: str = "mine.jsonl", **more: Any) -> str:
    folder = results / "comparisons" / "m-vs-n"
    write_json(folder / "preferences.json", {"schema": 1, "models": ["m", "n"], "prompts": prompts, "pairs": []} | more)
    write_jsonl(folder / "verdicts.jsonl", rows)
    return "m-vs-n"


def run(tmp_path: Path, *options: str, code: int = 0) -> Any:
    words = ["prefer", "m-vs-n", "--out", str(tmp_path / "pairs"), "--results", str(tmp_path), "--json", *options]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else done.stderr


def pairs(tmp_path: Path) -> list[dict[str, Any]]:
    return read_objects(tmp_path / "pairs/train.jsonl")


def test_a_pair_needs_both_orders_and_every_verdict_is_accounted_for(tmp_path: Path) -> None:
    comparison(tmp_path, VERDICTS)
    document = run(tmp_path, "--contamination", "off")
    assert [row["prompt_id"] for row in pairs(tmp_path)] == ["a-wins", "b-wins", "close", "long"]
    first, second, *_ = pairs(tmp_path)
    assert first == {
        "prompt": [{"role": "user", "content": "Question a-wins?"}],
        "chosen": [{"role": "assistant", "content": "m on a-wins"}],
        "rejected": [{"role": "assistant", "content": "n on a-wins"}],
        "prompt_id": "a-wins",
        "chosen_model": "m",
        "rejected_model": "n",
        "margin": 0.7,
    }
    assert (second["chosen_model"], second["chosen"][0]["content"]) == ("n", "n on b-wins")
    reasons = {"orders_disagree": 1, "tie": 1, "unscored": 1, "identical": 1, "no_answer": 1, "duplicate": 1}
    assert document["dropped"] == reasons
    assert document["n_verdicts"] == document["n_pairs"] + sum(reasons.values()) == len(VERDICTS)
    dropped = read_objects(tmp_path / "pairs/dropped.jsonl")
    assert dropped[0] == {"prompt_id": "first-place", "a": "m", "b": "n", "reason": "orders_disagree"}
    assert read_json(tmp_path / "pairs/prefer.json") == document
    before = (tmp_path / "pairs/train.jsonl").read_bytes()
    run(tmp_path, "--contamination", "off")
    assert (tmp_path / "pairs/train.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value", "kept", "reason"),
    [
        ("--min-margin", "0.2", ["a-wins", "b-wins", "long"], "margin"),
        ("--max-length-ratio", "3", ["a-wins", "b-wins", "close"], "length_ratio"),
        ("--max-characters", "100", ["a-wins", "b-wins", "close"], "too_long"),
    ],
)
def test_filters(tmp_path: Path, option: str, value: str, kept: list[str], reason: str) -> None:
    comparison(tmp_path, VERDICTS)
    document = run(tmp_path, "--contamination", "off", option, value)
    assert [row["prompt_id"] for row in pairs(tmp_path)] == kept
    assert document["dropped"][reason] == 1


def test_all_judges_of_a_panel_have_to_agree(tmp_path: Path) -> None:
    rows = [verdict("agreed", 0.9, 0.2), verdict("split", 0.9, 0.2)]
    rows += [verdict("agreed", 0.7, 0.4, judge="k"), verdict("split", 0.2, 0.9, judge="k")]
    comparison(tmp_path, rows)
    document = run(tmp_path, "--contamination", "off")
    assert [(row["prompt_id"], row["margin"]) for row in pairs(tmp_path)] == [("agreed", pytest.approx(0.5))]
    assert (document["dropped"], document["n_verdicts"]) == ({"judges_disagree": 1}, 2)


def test_a_benchmarks_prompts_are_refused_unless_asked_for(tmp_path: Path) -> None:
    suite = next(iter(suites()))
    comparison(tmp_path, VERDICTS, prompts=suite)
    stderr = run(tmp_path, "--contamination", "off", code=2)
    assert f"the prompts of {suite}, a benchmark" in stderr
    assert "--benchmark-prompts" in stderr
    assert not (tmp_path / "pairs").exists()
    assert run(tmp_path, "--contamination", "off", "--benchmark-prompts")["n_pairs"] == 4


def test_benchmark_prompts_in_a_file_are_found(tmp_path: Path) -> None:
    suite = next(suite for suite in suites().values() if suite.needs_chat and not suite.whole)
    known = suite.checked_items(suite.name, "mini").items[0].turns[0]
    comparison(tmp_path, [verdict("mine", 0.9, 0.2), verdict("theirs", 0.9, 0.2, prompt=known)])
    document = run(tmp_path, "--contamination", "mini")
    assert [row["prompt_id"] for row in pairs(tmp_path)] == ["mine"]
    assert document["dropped"] == {"contaminated": 1}
    assert document["contamination"]["pairs_by_suite"] == {suite.name: 1}
    assert run(tmp_path, "--contamination", "mini", "--benchmark-prompts")["n_pairs"] == 2


def test_what_is_no_comparison_or_has_no_first_turns_is_one_sentence(tmp_path: Path) -> None:
    assert "m-vs-n is not a comparison; give a folder with preferences.json" in run(tmp_path, code=2)
    comparison(tmp_path, VERDICTS, turns="both")
    assert "compare --turns first" in run(tmp_path, code=2)
    comparison(tmp_path, VERDICTS)
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs/notes.txt").write_text("mine")
    assert "contains other files" in run(tmp_path, code=2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trl_takes_a_step_of_dpo_on_it(tmp_path: Path) -> None:
    """As ``trl dpo --dataset_name pairs/`` reads it: the folder as a data set, in the conversational format."""
    trl = pytest.importorskip("trl")
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer

    comparison(tmp_path, VERDICTS)
    run(tmp_path, "--contamination", "off")
    data = datasets.load_dataset(str(tmp_path / "pairs"), cache_dir=str(tmp_path / "cache"))
    assert list(data) == ["train"]
    assert len(data["train"]) == 4
    folder = write_tiny_model(tmp_path / "model")
    config = trl.DPOConfig(
        str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=2, report_to=[], save_strategy="no",
        use_cpu=True, bf16=False, gradient_checkpointing=False,
    )  # fmt: skip
    trainer = trl.DPOTrainer(
        AutoModelForCausalLM.from_pretrained(folder),
        args=config,
        train_dataset=data["train"],
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    # Two equal policies: the first loss of DPO is log 2 (Rafailov et al. 2023, equation 7).
    assert trainer.train().training_loss == pytest.approx(0.6931, abs=1e-3)
