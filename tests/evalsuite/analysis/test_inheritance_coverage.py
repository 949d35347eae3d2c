"""The interval of an inheritance score holds the score of endless prompts in about 95 % of the cases.

With 20 prompts it holds it in 79 % (docs/statistics.md).
"""

import numpy as np
import pytest

from evalsuite.analysis import lineage
from evalsuite.analysis.measuring import FEATURES
from tests.judges.test_coverage import HIGHEST, holds

RATES = {"sft": 3.0, "own": 4.0, "other": 7.0}


def counts(rng, n):
    # Every model uses more marks where the prompt asks for more.
    prompt = rng.gamma(4, 0.25, (n, 1))
    return {name: rng.poisson(rate * prompt, (n, len(FEATURES))).astype(float) for name, rate in RATES.items()}


@pytest.mark.parametrize("n", [80, 400])
def test_inheritance_scores(n, monkeypatch):
    monkeypatch.setattr(lineage, "_N_BOOT", 300)
    vectors = {name: lineage.style_vector(own) for name, own in counts(np.random.default_rng(9), 200_000).items()}
    truth = lineage.inheritance_score(vectors["sft"], vectors["own"], [vectors["other"]])
    rng, n_runs = np.random.default_rng(1), 150
    clusters = [str(i) for i in range(n)]
    cells = [lineage._score_cell(counts(rng, n), "sft", "own", ["other"], clusters) for _ in range(n_runs)]
    share = np.mean([low <= truth <= high for low, high in (one["score_ci95"] for one in cells)])
    holds(share, HIGHEST, n_runs)
