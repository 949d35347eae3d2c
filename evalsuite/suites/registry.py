"""The suites by name. A newcomer adds one line here and one file beside it."""

from __future__ import annotations

from collections.abc import Mapping

from evalsuite.suites.alpaca_eval.suite import ALPACA_EVAL
from evalsuite.suites.base import Suite
from evalsuite.suites.mixeval.suite import MIXEVAL
from evalsuite.suites.mt_bench.suite import MT_BENCH
from evalsuite.suites.openllm.suite import LM_EVAL, OPENLLM, LmEvalTasks, OpenLLM

SUITES: Mapping[str, Suite] = {"mt_bench": MT_BENCH, "alpaca_eval": ALPACA_EVAL, "mixeval": MIXEVAL}
"""Suites whose items are answered and judged one by one."""

HARNESS: Mapping[str, OpenLLM | LmEvalTasks] = {"openllm": OPENLLM, "lm_eval": LM_EVAL}
"""Suites that lm-eval drives as a whole."""
