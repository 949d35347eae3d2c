"""Where rows come from: files, folders, snapshots of the hub, suites; and sources that cannot be read."""

from __future__ import annotations

import datetime
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalsuite.conversations.files import as_text, find_files
from evalsuite.conversations.source import open_source
from evalsuite.errors import DataError


def numbered(start, stop):
    return [
        {"messages": [{"role": "user", "content": f"question {number}"}], "n": number} for number in range(start, stop)
    ]


def write_parquet(path, rows, **options):
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_parquet_is_read_in_the_order_of_names_and_from_any_row(tmp_path):
    write_parquet(tmp_path / "part-00001.parquet", numbered(1200, 1500))
    write_parquet(tmp_path / "part-00000.parquet", numbered(0, 1200), row_group_size=250)
    write_parquet(tmp_path / "_hidden.parquet", numbered(7, 8))
    rows = open_source(str(tmp_path))
    assert (rows.kind, rows.columns, rows.n_rows) == ("file", ("messages", "n"), 1500)
    assert list(rows) == numbered(0, 1500)
    for start in (1, 249, 250, 251, 1199, 1200, 1201, 1499, 1500, 1600):
        assert [row["n"] for row in rows.starting_at(start)] == list(range(start, 1500))


def test_the_fingerprint_follows_the_content(tmp_path):
    one = open_source(str(write_jsonl(tmp_path / "a.jsonl", numbered(0, 3)))).fingerprint
    (tmp_path / "b").mkdir()
    assert open_source(str(write_jsonl(tmp_path / "b" / "a.jsonl", numbered(0, 3)))).fingerprint == one
    assert open_source(str(write_jsonl(tmp_path / "a.jsonl", numbered(0, 4)))).fingerprint != one


def test_jsonl_and_json_hold_the_same_rows(tmp_path):
    lines = open_source(str(write_jsonl(tmp_path / "a.jsonl", numbered(0, 5))))
    (tmp_path / "b.json").write_text(json.dumps(numbered(0, 5)))
    assert list(lines) == list(open_source(str(tmp_path / "b.json"))) == numbered(0, 5)
    assert list(lines.starting_at(3)) == numbered(3, 5)


def test_csv_is_read_with_quotes_a_byte_order_mark_and_compressed(tmp_path):
    import gzip

    content = 'prompt,n\r\n"two, words\nand a line",1\r\nGrüße,\r\n'.encode("utf-8-sig")
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(content))
    expected = [{"prompt": "two, words\nand a line", "n": "1"}, {"prompt": "Grüße", "n": None}]
    for name in ("a.csv", "b.csv.gz"):
        rows = open_source(str(tmp_path / name))
        assert (rows.columns, list(rows), list(rows.starting_at(1))) == (("prompt", "n"), expected, expected[1:])
        assert {str(field.type) for field in rows.schema()} == {"string"}


def test_columns_of_mixed_json_are_kept_as_text(tmp_path):
    rows = [
        {"prompt": "a", "x": 1, "y": {"z": 1}},
        {"prompt": "b", "x": "one", "y": None, "late": 2.5},
        {"prompt": "c"},
    ]
    schema = open_source(str(write_jsonl(tmp_path / "a.jsonl", rows))).schema()
    assert {name: str(schema.field(name).type) for name in schema.names} == {
        "prompt": "string",
        "x": "string",
        "y": "struct<z: int64>",
        "late": "double",
    }
    assert (as_text(1), as_text({"a": "é"}), as_text(None), as_text("x")) == ("1", '{"a": "é"}', None, "x")


def test_rows_of_another_kind_in_a_folder_are_not_left_out_silently(tmp_path, caplog):
    write_parquet(tmp_path / "a.parquet", numbered(0, 2))
    (tmp_path / "about.json").write_text("{}")
    find_files(tmp_path)
    assert not caplog.records
    (tmp_path / "b.jsonl.gz").write_bytes(b"")
    assert [file.name for file in find_files(tmp_path)] == ["a.parquet"]
    assert "only its .parquet files are read, not b.jsonl.gz" in caplog.text


def test_parquet_types_stay(tmp_path):
    time = datetime.datetime(2023, 4, 9, 12, tzinfo=datetime.UTC)
    table = pa.table({"prompt": ["a"], "timestamp": pa.array([time], pa.timestamp("us", "UTC"))})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = open_source(str(tmp_path))
    assert rows.schema() == table.schema
    assert next(iter(rows))["timestamp"] == time


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"PAR1 and then nothing", "a.parquet is not a complete Parquet file"),
        ("a.parquet", b"", "a.parquet is not a complete Parquet file"),
        ("a.jsonl", b"", "a.jsonl is empty"),
        ("a.jsonl", b'{"prompt": "x"}\n{"prompt": \n', "a.jsonl line 2 is not JSON"),
        ("a.jsonl", b'{"prompt": "x"}\n\xff\n', "a.jsonl line 2 is not JSON .*in UTF-8"),
        ("a.jsonl", b'{"prompt": "x"}\n' * 4 + b'{"prompt": "f\xfcr"}\n', "a.jsonl line 5 is not JSON"),
        ("a.jsonl", b'{"prompt": "x"}\n[1]\n', "a.jsonl line 2 is not a JSON object"),
        ("a.txt", b"prompt", r"a.txt is not a .parquet, .jsonl, .json, .csv file"),
        ("a.csv", b"prompt,n\nx,1,2\n", r"a.csv line 2 has a different number of cells from the header"),
        ("a.csv", b"prompt,n\nx\n", r"a.csv line 2 has a different number of cells"),
        ("a.csv", b'prompt\n"x', r"a.csv line 1 is not CSV in UTF-8"),
        ("a.csv", b"prompt\n\xff\n", r"a.csv line \d is not CSV in UTF-8"),
        ("a.csv", b"prompt\n", r"a.csv is empty"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(open_source(str(tmp_path / name)))


def test_a_parquet_file_with_damaged_pages_is_named(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", numbered(0, 4000), compression="zstd")
    content = bytearray(path.read_bytes())
    content[100 : len(content) // 2] = b"\xff" * (len(content) // 2 - 100)
    path.write_bytes(content)
    rows = open_source(str(path))
    with pytest.raises(DataError, match=r"a\.parquet is damaged"):
        list(rows)


def test_parquet_files_of_different_schemas_are_rejected(tmp_path):
    write_parquet(tmp_path / "a.parquet", [{"prompt": "x"}])
    write_parquet(tmp_path / "b.parquet", [{"prompt": [1]}])
    with pytest.raises(DataError, match="columns of different types"):
        open_source(str(tmp_path)).schema()
    assert list(open_source(str(tmp_path))) == [{"prompt": "x"}, {"prompt": [1]}], "a reader of other columns goes on"


def test_a_folder_of_several_data_sets_asks_which(tmp_path):
    for name in ("demo-1", "other-2"):
        (tmp_path / name).mkdir()
        write_parquet(tmp_path / name / "part-00000.parquet", numbered(0, 2))
    with pytest.raises(DataError, match=r"several data sets \(demo-1, other-2\)"):
        open_source(str(tmp_path))
    assert open_source(str(tmp_path / "demo-1")).n_rows == 2


@pytest.mark.parametrize("spec", ["nowhere", "./org/name", "answers/a.parquet", "a.jsonl", "org/name@", "a/b/c"])
def test_an_unknown_source_names_the_accepted_forms(spec):
    with pytest.raises(DataError, match="give a hub data set org/name"):
        open_source(spec)


def test_a_suite_without_prompts_is_rejected():
    with pytest.raises(DataError, match="suite openllm:ifeval cannot be used as a source of prompts"):
        open_source("openllm:ifeval")


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A hub snapshot with two configs, one of them with two splits."""
    repo = tmp_path / "hub" / "datasets--org--chats"
    snapshot = repo / "snapshots" / ("c0ffee" + "0" * 34)
    for folder, name, rows in (
        ("one", "train-00000.parquet", numbered(0, 700)),
        ("two", "train-00000.parquet", numbered(700, 710)),
        ("two", "test-00000.parquet", numbered(710, 715)),
    ):
        (snapshot / folder).mkdir(parents=True, exist_ok=True)
        write_parquet(snapshot / folder / name, rows)
    files = {"one": ["train"], "two": ["train", "test"]}
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n" + "".join(f"  - split: {s}\n    path: {name}/{s}-*\n" for s in splits)
        for name, splits in files.items()
    )
    (snapshot / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(snapshot.name)
    monkeypatch.setenv("EVALSUITE_MIRROR", str(tmp_path))
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return snapshot


def test_a_hub_data_set_is_streamed_from_the_local_snapshot(mirror):
    rows = open_source("org/chats:one")
    assert (rows.kind, rows.columns, rows.fingerprint) == (
        "hub",
        ("messages", "n"),
        f"org/chats@{mirror.name}:one@train",
    )
    assert [row["n"] for row in rows] == list(range(700))
    assert [row["n"] for row in rows.starting_at(650)] == list(range(650, 700))
    assert list(open_source("org/chats:two@test")) == numbered(710, 715)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("org/chats", "looked in the mirror .*Config name is missing"),
        ("org/chats:three", "'three' not found"),
        ("org/chats:two@dev", "org/chats has the splits train, test, not 'dev'"),
        ("org/nothing", r"org/nothing not found; looked in the hub \(HF_HUB_OFFLINE is set\)"),
    ],
)
def test_a_missing_hub_data_set_names_the_locations(mirror, spec, message):
    with pytest.raises(DataError, match=message):
        open_source(spec)


def test_what_was_read_of_a_parquet_file_does_not_stay_in_memory(tmp_path):
    texts = [f"{number} " + "".join(random.Random(number).choices("abcdefgh", k=2000)) for number in range(4000)]
    turns = [[{"role": "user", "content": text}] for text in texts]
    pq.write_table(pa.table({"messages": turns}), tmp_path / "rows.parquet", row_group_size=100)
    before, most = pa.total_allocated_bytes(), 0
    for row in open_source(str(tmp_path / "rows.parquet")):
        most = max(most, pa.total_allocated_bytes() - before)
        assert row["messages"]
    # A few row groups of 0.2 MB, of the 8 MB in all.
    assert most < 2e6
