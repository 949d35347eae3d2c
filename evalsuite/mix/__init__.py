"""``evalsuite mix``: build a data mix from a recipe."""
