"""Synthetic battles of known effects: two models against a baseline, made by arithmetic alone."""

from __future__ import annotations

import math

from judges.style_control import StyleCounts

BASELINE = "base"
TRUE_STRENGTHS = {"alpha": 0.6, "beta": -0.4}
TRUE_LENGTH = 1.5
"""Log-odds per unit of relative length that the synthetic judge adds."""

Game = tuple[str, StyleCounts, StyleCounts, float, int, int]
"""(model, its style, the baseline's, the model's share, weight, prompt)."""


def synthetic_games(n_prompts: int = 300) -> list[Game]:
    """Return two games per model and prompt; the outcome is drawn from a Weyl sequence, which needs no generator."""
    games: list[Game] = []
    draw = 0.5
    for prompt in range(n_prompts):
        for number, (model, strength) in enumerate(TRUE_STRENGTHS.items()):
            length = 80 + (prompt * 37 + number * 191) % 600
            own = StyleCounts(length, (prompt * 7 + number) % 5, (prompt * 3 + 2 * number) % 11, (prompt + number) % 7)
            other = StyleCounts(80 + (prompt * 53) % 500, (prompt * 5) % 4, (prompt * 13) % 9, (prompt * 11) % 6)
            relative = (own.length - other.length) / (own.length + other.length)
            chance = 1 / (1 + math.exp(-(strength + TRUE_LENGTH * relative)))
            for _ in range(2):
                draw = (draw + 0.6180339887498949) % 1
                share = 0.5 if abs(draw - chance) < 0.05 else float(draw < chance)
                weight = 3 if abs(draw - chance) > 0.4 else 1
                games.append((model, own, other, share, weight, prompt))
    return games
