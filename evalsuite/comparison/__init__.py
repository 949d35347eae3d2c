"""Comparing models: answers of several, verdicts of one or more judges, preferences; and judging the judge."""
