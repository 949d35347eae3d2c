"""The rows of a run: one item each, with draws, verdicts and marks."""
