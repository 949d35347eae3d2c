"""A number that rounds to zero has no minus sign, wherever it is printed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from evalsuite.analysis.document import written
from evalsuite.comparison.tables import figure_text, interval_text
from evalsuite.suites.figures import shown

ROOT = Path(__file__).parents[2]
SIGNED = ("+.", "+,.")
"""How a number that may be negative is formatted without care for its sign."""


@pytest.mark.parametrize(
    "text",
    [
        shown(-0.001, 2),
        figure_text(-0.001),
        interval_text((-0.001, -0.0), percent=False),
        interval_text((-0.001, 0.001)),
        written(-0.0001, "percent1"),
        written(-0.001, "float2"),
        written(-0.001, "signed2"),
    ],
)
def test_zero_has_no_minus(text):
    assert "0" in text
    assert "-" not in text


def test_every_signed_number_is_written_so():
    found = []
    for path in [*ROOT.glob("evalsuite/**/*.py"), *ROOT.glob("judges/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
                first = node.format_spec.values[0]
                if isinstance(first, ast.Constant) and str(first.value).startswith(SIGNED):
                    found.append(f"{path}:{node.lineno}")
    assert found == []
