"""``evalsuite run``: plan, answer, judge, score, write."""
