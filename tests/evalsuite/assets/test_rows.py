"""What identifies an asset's content, whatever file it comes in."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.assets.locations import Absent
from evalsuite.assets.rows import load_rows, plain, rows_sha256
from evalsuite.assets.table import selected_assets
from evalsuite.errors import DataError
from evalsuite.suites.registry import all_assets

ASSETS = all_assets()
CHOICE = ASSETS["mixeval/2024-06-01/mixeval/multiple_choice"]
FREE = ASSETS["mixeval/2024-06-01/mixeval/free_form"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_the_hash_is_that_of_canonical_json_lines() -> None:
    rows = [{"b": "é", "a": [1, 2]}, {"b": None, "a": {"y": 1, "x": "\n"}}]
    text = '{"a":[1,2],"b":"é"}\n{"a":{"x":"\\n","y":1},"b":null}\n'
    assert rows_sha256(rows) == hashlib.sha256(text.encode()).hexdigest()


@given(st.dictionaries(st.text(), values, min_size=2, max_size=4))
def test_the_order_of_fields_does_not_matter(row: dict[str, Any]) -> None:
    assert rows_sha256([row]) == rows_sha256([dict(reversed(row.items()))])


def test_the_order_of_rows_matters() -> None:
    assert rows_sha256([{"a": 1}, {"a": 2}]) != rows_sha256([{"a": 2}, {"a": 1}])


def test_values_of_other_libraries_become_plain() -> None:
    row = {"a": np.int64(3), "b": np.array(["x", "y"]), "c": np.float32("nan"), "d": {"kept": 0, "dropped": None}}
    assert plain(row) == {"a": 3, "b": ["x", "y"], "c": None, "d": {"kept": 0}}
    assert json.dumps(plain(row))


@given(values)
def test_plain_changes_nothing_twice(value: Any) -> None:
    assert plain(plain(value)) == plain(value)


def table_and_raw(folder: Path, rows: list[dict[str, Any]]) -> tuple[Path, Path]:
    """The same rows as MixEval's repository has them and as the hub's table has them (numbers as text)."""
    raw, table = folder / "raw.json", folder / "table.parquet"
    raw.write_text(
        json.dumps({row["id"]: {k: v for k, v in row.items() if k != "id" and v is not None} for row in rows})
    )
    pq.write_table(pa.Table.from_pylist([{**row, "target": [str(t) for t in row["target"]]} for row in rows]), table)
    return raw, table


def test_a_table_and_the_raw_file_of_the_same_rows_agree(tmp_path: Path) -> None:
    shared = {"problem_type": "multiple-choice", "context": None, "benchmark_name": "B"}
    rows = [
        {"id": "0", "prompt": "Which?", "options": ["a", "b"], "target": [1], **shared},
        {"id": "1", "prompt": "And\u2028now?", "options": ["c", "d", "e"], "target": [0], **shared, "context": "C"},
    ]
    raw, table = table_and_raw(tmp_path, rows)
    assert load_rows(CHOICE, [raw]) == load_rows(CHOICE, [table]) == rows
    assert rows_sha256(load_rows(CHOICE, [raw])) == rows_sha256(load_rows(CHOICE, [table]))


def test_free_form_targets_stay_text(tmp_path: Path) -> None:
    row = {"id": "7", "prompt": "How many?", "problem_type": "free-form", "context": None, "benchmark_name": "B"}
    raw, _ = table_and_raw(tmp_path, [{**row, "target": ["12", "twelve"], "options": None}])
    assert load_rows(FREE, [raw])[0]["target"] == ["12", "twelve"]
    assert load_rows(FREE, [raw])[0]["options"] is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "[1]", '{"0": {"prompt": "no target", "problem_type": "multiple-choice"}}']
)
def test_a_file_with_other_content_is_absent_not_a_crash(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(Absent):
        load_rows(CHOICE, [path])


@pytest.mark.parametrize("version", ["2024-06-01", "2024-08-11"])
@pytest.mark.parametrize("split", ["mixeval/free_form", "mixeval_hard/multiple_choice"])
def test_mixeval_pins_are_the_published_files(shared: Path, version: str, split: str) -> None:
    published = json.loads((shared / "reference/mixeval_rule_reference.json").read_text())["prompt_hashes"]
    expected = published[f"{version}/{split.replace('_', '-')}"]
    pin = ASSETS[f"mixeval/{version}/{split}"]
    assert (pin.rows, pin.file_sha256) == (expected["n"], expected["file_sha256"])


def test_mixeval_table_and_raw_file_in_the_mirror_agree(shared: Path) -> None:
    hub = next((shared / "mirror/hub/datasets--MixEval--MixEval/snapshots").iterdir())
    raw = shared / "mirror/raw/mixeval/mixeval-2024-06-01"
    for folder, config in (("mixeval", "MixEval"), ("mixeval-hard", "MixEval_Hard")):
        for kind in ("free_form", "multiple_choice"):
            asset = ASSETS[f"mixeval/2024-06-01/{folder.replace('-', '_')}/{kind}"]
            rows = load_rows(asset, [raw / folder / f"{kind.replace('_', '-')}.json"])
            assert rows == load_rows(asset, [hub / config / f"{kind}.parquet"])
            assert (len(rows), rows_sha256(rows)) == (asset.rows, asset.sha256)


def test_names_select_assets() -> None:
    names = [asset.name for asset in selected_assets(ASSETS, ["openllm/ifeval", "openllm/musr"])]
    assert names == ["openllm/musr", "openllm/ifeval"]
    assert len(selected_assets(ASSETS, ["mixeval/2024-06-01"])) == 4
    assert {asset.suite for asset in selected_assets(ASSETS, ["mt_bench", "mt_bench/question"])} == {"mt_bench"}
    assert "nltk/punkt_tab" in {asset.name for asset in selected_assets(ASSETS, ["openllm"])}
    assert selected_assets(ASSETS) == list(ASSETS.values())
    with pytest.raises(DataError, match="did you mean 'mt_bench'"):
        selected_assets(ASSETS, ["mtbench"])
