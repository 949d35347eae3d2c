"""Bradley-Terry's scores of 59 models on 8,931 comparisons by a crowd, as another library computed them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from judges.bradley_terry import tie_model


@pytest.mark.parametrize("name", ["simple", "food", "llmfao"])
def test_the_published_scores_are_met(shared: Path, name: str) -> None:
    """dustalov/evalica@2ebe79e: a tie is half a win each, and scores are strengths that sum to 1."""
    folder = shared / "reference/evalica"
    with (folder / f"{name}-golden.csv").open(encoding="utf-8") as file:
        golden = {
            row["item"]: float(row["score"]) for row in csv.DictReader(file) if row["algorithm"] == "bradley_terry"
        }
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    numbers = {item: number for number, item in enumerate(golden)}
    wins = np.zeros((len(golden), len(golden)))
    for row in rows:
        left, right = numbers[row["left"]], numbers[row["right"]]
        share = {"left": 1.0, "right": 0.0, "tie": 0.5}.get(row["winner"])
        if share is not None:
            wins[left, right] += share
            wins[right, left] += 1 - share
    model = tie_model(wins, np.zeros_like(wins))
    assert model is not None
    scores = np.exp(model.strengths)
    assert scores / scores.sum() == pytest.approx(np.array(list(golden.values())), abs=1e-9)
