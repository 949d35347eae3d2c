"""AlpacaEval's data: the baseline's outputs and what the regression is fitted on, pinned, and the judge's prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from evalsuite.assets.asset import Asset, OnHub, Pin, by_name
from evalsuite.errors import DataError
from evalsuite.fingerprint import read_sha256, text_sha256
from evalsuite.suites.local_rows import RowsAndPins, rows_of
from evalsuite.suites.options import DataKind

_REPO = "tatsu-lab/alpaca_eval"
_asset = partial(Asset, suite="alpaca_eval", licence="CC-BY-NC-4.0")

BASELINE = _asset(
    name="alpaca_eval/baseline",
    kind="rows",
    locations=(OnHub(_REPO, "alpaca_eval_gpt4_baseline.json"),),
    rows=805,
    sha256="6306f76251ad0fce1fed9886e38b254b47cb60881d9871f027d0e275815bc69e",
    fields=("instruction", "output", "generator", "dataset"),
)
DF_GAMED = _asset(
    name="alpaca_eval/df_gamed",
    kind="file",
    locations=(OnHub(_REPO, "df_gamed.csv"),),
    remark="fits the length-controlled regression",
)
ASSETS: Mapping[str, Asset] = by_name(BASELINE, DF_GAMED)

MINI_BASELINE = Path(__file__).parent / "mini" / "baseline.json"
CANONICAL_SIZE = 805
_CANONICAL_SHA256 = "6b093cbb6a6153c3384b9805631dba3aeb641dabd1baa602ec8ad14e42ebc986"
"""Hash of the 805 instructions in their order, joined by U+001F: a file in this order needs no baseline."""

TEMPLATE = "evaluators_configs/alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"
TEMPLATE_SHA256 = "784227e6dc2832fc08c43d2c8ea3a308e7523780187a1aaad2f85e30bac85f62"
RANKING_TEMPLATE = "evaluators_configs/alpaca_eval_gpt4/alpaca_eval.txt"
"""The prompt of alpaca_eval_gpt4, which the package's annotators without log-probabilities use (ranking_parser)."""
RANKING_SHA256 = "cf4bace43fa6ac71944b9ca2506587ad7c509478a219e98a3950abf9d5b42a98"
"""The files in alpaca-eval 0.6.6."""


def baseline_rows(data: DataKind, *, fetch: bool = True) -> RowsAndPins:
    """Return instructions with the baseline's outputs, in canonical order, and their pin, as :func:`rows_of`."""
    return rows_of(data, BASELINE, MINI_BASELINE, fetch=fetch)


def canonical_positions(instructions: Sequence[str], data: DataKind = "full") -> dict[str, int]:
    """Return the position (0 to 804) of each canonical instruction, or of those of the mini data.

    The order comes from ``instructions`` if they are exactly the canonical ones, else from the baseline. Raises
    DataError if the baseline is then not on this machine; nothing is downloaded.
    """
    if data == "mini" or text_sha256("\x1f".join(instructions)) != _CANONICAL_SHA256:
        instructions = [row["instruction"] for row in baseline_rows(data, fetch=False)[0]]
    return {instruction: position for position, instruction in enumerate(instructions)}


def template(name: str = TEMPLATE, sha256_in_package: str = TEMPLATE_SHA256) -> tuple[str, dict[str, Pin]]:
    """Read a comparison prompt from the installed alpaca_eval, without importing it: its text and its pin by name."""
    spec = find_spec("alpaca_eval")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / name
        if path.is_file():
            sha256 = read_sha256(path)
            pin = Pin(sha256, "package", sha256 == sha256_in_package)
            return path.read_text(encoding="utf-8"), {f"alpaca_eval/{path.name}": pin}
    raise DataError(f"the package alpaca-eval has no {name}; install alpaca-eval 0.6.6 with pip")


def content_hash(instruction: str, baseline: str) -> str:
    """Return a hash of the instruction and the baseline's output, which identifies an item across models and files."""
    return text_sha256(f"{instruction}\x1f{baseline}")[:16]
