"""lm-eval on a served model: what the suites that lm-eval drives share."""
