"""Verdicts that others recorded go through the same card: LLMBar's evaluators and their published statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.files import read_json, write_jsonl

EVALUATORS = [
    f"{subset}/{model}/{method}"
    for subset in ("Natural", "Adversarial-Neighbor")
    for model in ("GPT-4", "ChatGPT")
    for method in ("Vanilla", "CoT", "Swap")
]


def card(tmp_path: Path, file: Path, *options: str, code: int = 0) -> Any:
    words = ["judge-card", "somebody", "--recorded", str(file), "--results", str(tmp_path / "results"), *options]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else done.stderr


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_published_statistics_are_met_exactly(tmp_path: Path, shared: Path, evaluator: str) -> None:
    folder = shared / "reference/llmbar_evaluators" / evaluator
    published = read_json(folder / "statistics.json")
    orders = card(tmp_path, folder / "result.json", "--max-unscored", "1")["orders"]
    keys = {"as_listed": "correct_False", "swapped": "correct_True", "both": "correct_both", "same": "equal"}
    counts = {key: f"{orders[key]} / {orders['n']} = " for key in keys}
    assert {key: published[name][: len(counts[key])] for key, name in keys.items()} == counts
    if orders["missing"] == 0:
        assert orders["kappa"] == pytest.approx(published["kappa_agreement"], abs=1e-12)


ROWS = [
    {"input": "i", "output_1": "x", "output_2": "y", "label": 1, "as_listed": 1, "swapped": 1},
    {"input": "j", "output_1": "x", "output_2": "y", "label": 2, "as_listed": 1, "swapped": 2},
    {"input": "k", "output_1": "x", "output_2": "y", "label": 2, "as_listed": "tie", "swapped": None},
]


def test_numbers_that_a_table_made_floats_are_the_same_verdicts(tmp_path: Path) -> None:
    documents = []
    for name, number in (("whole", int), ("float", float)):
        rows = [{key: number(one) if one in (1, 2) else one for key, one in row.items()} for row in ROWS]
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
        documents.append(card(tmp_path / name, tmp_path / f"{name}.jsonl", "--max-unscored", "1"))
    assert documents[0]["orders"] == documents[1]["orders"]


def test_rows_of_ones_own_are_read_and_kept_as_a_card(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.jsonl"
    write_jsonl(file, ROWS)
    document = card(tmp_path, file, "--max-unscored", "1")
    assert document["orders"] == {
        "n": 3, "as_listed": 1, "swapped": 2, "both": 1, "same": 1, "missing": 1, "kappa": 0.0,
    }  # fmt: skip
    # The first pair is right in both orders, the second in one; the third has no verdict in one order.
    assert document["agreement"]["accuracy"] == 0.75
    assert document["position_bias"]["first_rate"] == 0.75
    assert document["failures"]["unscored"] == {"no_verdict": 1}
    assert (document["judge"]["name"], document["judge"]["method"]) == ("somebody", "recorded")
    [kept] = (tmp_path / "results/judges").glob("somebody-recorded-*/card.json")
    assert read_json(kept)["orders"] == document["orders"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"as_listed": 3}, r"row 1 has the verdict 3; expected 1, 2, 'tie' or null"),
        ({"label": 7}, "row 1 is not a labelled pair"),
        ({"swapped": ...}, "row 1 has no recorded verdicts; expected as_listed and swapped"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    row = {key: value for key, value in {**ROWS[0], **change}.items() if value is not ...}
    file = tmp_path / "verdicts.jsonl"
    write_jsonl(file, [row])
    assert message in card(tmp_path, file, code=2)
