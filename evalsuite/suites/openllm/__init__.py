"""Open LLM Leaderboard v2."""
