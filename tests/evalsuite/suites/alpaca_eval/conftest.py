"""Fixtures of AlpacaEval's tests."""

from tests.evalsuite.suites.alpaca_eval.alpaca_rows import df_gamed

__all__ = ["df_gamed"]
