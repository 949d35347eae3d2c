"""Bradley-Terry's scores of 59 models on 8,931 comparisons by a crowd, as another library computed them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from judges.bradley_terry import tie_model


def golden(folder: Path, name: str, algorithm: str) -> dict[str, float]:
    with (folder / f"{name}-golden.csv").open(encoding="utf-8") as file:
        return {row["item"]: float(row["score"]) for row in csv.DictReader(file) if row["algorithm"] == algorithm}


def counted(folder: Path, name: str, numbers: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Wins (row over column) and symmetric ties."""
    wins, ties = np.zeros((2, len(numbers), len(numbers)))
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            left, right = numbers[row["left"]], numbers[row["right"]]
            wins[left, right] += row["winner"] == "left"
            wins[right, left] += row["winner"] == "right"
            ties[left, right] += row["winner"] == "tie"
            ties[right, left] += row["winner"] == "tie"
    return wins, ties


@pytest.mark.parametrize("name", ["simple", "food", "llmfao"])
def test_the_published_scores_are_met(shared: Path, name: str) -> None:
    """dustalov/evalica@2ebe79e: a tie is half a win each, and scores are strengths that sum to 1."""
    published = golden(shared / "reference/evalica", name, "bradley_terry")
    wins, ties = counted(shared / "reference/evalica", name, {item: i for i, item in enumerate(published)})
    model = tie_model(wins + ties / 2, np.zeros_like(wins))
    assert model is not None
    scores = np.exp(model.strengths)
    assert scores / scores.sum() == pytest.approx(np.array(list(published.values())), abs=1e-9)


@pytest.mark.parametrize("name", ["simple", "food", "llmfao"])
def test_the_published_scores_with_a_tie_parameter_are_met(shared: Path, name: str) -> None:
    """Newman's iteration has the maximum of Davidson's likelihood too; its scores have another unit."""
    published = golden(shared / "reference/evalica", name, "newman")
    wins, ties = counted(shared / "reference/evalica", name, {item: i for i, item in enumerate(published)})
    model = tie_model(wins, ties)
    assert model is not None
    scores = np.log(list(published.values()))
    assert model.strengths == pytest.approx(scores - scores.mean(), abs=1e-6)
