"""The names of the suites and their parts, without anything behind them: cheap to import."""

SUITE_NAMES = ("mt_bench", "alpaca_eval", "openllm", "mixeval")
OPENLLM_PARTS = ("bbh", "gpqa", "math", "musr", "ifeval", "mmlu_pro")
NOT_ASKED = "not asked for"
"""Why a part of a suite is missing that nobody asked for."""
