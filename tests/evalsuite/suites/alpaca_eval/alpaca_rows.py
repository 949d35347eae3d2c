"""Rows with scripted answers and preferences, recorded annotations, and stand-ins for the pinned data."""

import csv
import json
from pathlib import Path

import pytest

from evalsuite import assets
from evalsuite.assets.asset import Pin
from evalsuite.errors import DataError
from evalsuite.records.rows import Draw, Header, Reply, Row, Verdict, replaced
from evalsuite.suites.alpaca_eval.suite import AlpacaEval
from evalsuite.suites.options import SuiteOptions
from judges.types import Message, Unscored

ALPACA_EVAL = AlpacaEval()
MINI = SuiteOptions(data="mini", seed=5)
MINI_HEADER = Header("alpaca_eval", 8, options={"data": "mini"}, judges={"j": {"name": "my-judge"}})
HEADER = Header("alpaca_eval", 805, options={"data": "full"}, judges={"j": {"name": "my-judge"}})
VALUES = [1.0, 1.2, 1.5, 1.5, 1.9, 2.0, Unscored("request_failed"), 1.7]


def answered(answer: str | Unscored) -> Draw:
    return Draw((Reply(answer) if isinstance(answer, str) else Reply(unscored=answer),))


def verdict(value: float | Unscored | None) -> tuple[Verdict, ...]:
    if value is None:
        return ()
    return (Verdict("j", unscored=value) if isinstance(value, Unscored) else Verdict("j", value),)


def mini_rows(values, answer=None) -> list[Row]:
    """The rows of the mini data, each answered by 10 characters and more; None is a missing verdict."""
    loaded = ALPACA_EVAL.load(MINI)
    rows = [
        replaced(
            ALPACA_EVAL.row(item, loaded),
            draws=(answered("y" * (10 + i) if answer is None else answer),),
            verdicts=verdict(value),
        )
        for i, (item, value) in enumerate(zip(loaded.items, values, strict=True))
    ]
    return [ALPACA_EVAL.mark(row, MINI_HEADER) for row in rows]


def row(position: int, baseline: str, output: str | None, value: float | Unscored) -> Row:
    return Row(
        str(position),
        prompt=(Message("user", f"instruction {position}"),),
        facts={"reference": [baseline], "baseline": "gpt4_1106_preview"},
        draws=(answered(Unscored("no_answer") if output is None else output),),
        verdicts=verdict(value),
    )


def synthetic_rows() -> list[Row]:
    """805 comparisons with made-up preferences and lengths."""
    values = [1.05 + 0.9 * ((i * 37) % 101) / 101 for i in range(805)]
    return [row(i, "b" * (100 + (i * 53) % 700), "m" * (50 + (i * 71) % 900), value) for i, value in enumerate(values)]


def fake_full_assets(monkeypatch, *, df_gamed: Path | None = None, instructions=None):
    """Serve 805 instructions and perhaps the regression's data, whatever the machine has."""
    instructions = instructions or [f"instruction {i}" for i in range(805)]
    rows = [
        {"instruction": text, "output": f"baseline {i}", "generator": "gpt4_1106_preview", "dataset": "koala"}
        for i, text in enumerate(instructions)
    ]

    def find(asset, **_):
        if df_gamed is None:
            raise DataError(f"{asset.name} not found; type evalsuite data pull")
        return assets.Found(asset.name, df_gamed, "mirror", "0" * 64, True)

    monkeypatch.setattr(assets, "records", lambda asset, **_: (rows, asset.name))
    monkeypatch.setattr(assets, "data_pin", lambda _: Pin("0" * 64, "mirror", pinned=True))
    monkeypatch.setattr(assets, "find", find)


@pytest.fixture
def df_gamed(tmp_path) -> Path:
    """A regression file of the right shape with made-up numbers."""
    path = tmp_path / "df_gamed.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["model", "preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline"])
        for model, sign in (("verbose", -1), ("concise", 1)):
            for i in range(805):
                difficulty = ((i * 29) % 200) / 100 - 1
                out.writerow([model, 0.5 - sign * 0.2, i, sign * (1 + i % 3), difficulty, False])
    return path


def annotation(i, preference=1.3, **other):
    fields = {"instruction": f"instruction {i}", "output_1": "b" * (10 + i), "generator_1": "gpt4_1106_preview"}
    return fields | {"output_2": "m" * (5 + i * i % 91), "generator_2": "my-model", "preference": preference} | other


def write(folder: Path, rows, name="annotations.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(rows))
    return path
