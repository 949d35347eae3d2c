"""Hub data sets without a network: what lm-eval asks of ``datasets`` comes from local snapshots."""

from __future__ import annotations

import importlib
import importlib.util
import io
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from evalsuite import assets
from evalsuite.assets.asset import OnHub
from evalsuite.assets.rows import rows_sha256
from evalsuite.errors import DataError
from evalsuite.suites.openllm.assets import ASSETS
from evalsuite.suites.registry import all_assets
from tests.evalsuite.assets_env import empty_machine, write_snapshot

README = b"""---
configs:
- config_name: one
  data_files:
  - split: test
    path: one/test-*
- config_name: two
  data_files:
  - split: test
    path: two/test-*
---
"""


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    # Hub caches usually lie below a hidden folder, which datasets skips in some places.
    folder = tmp_path / ".cache"
    empty_machine(monkeypatch, folder)
    return folder


def parquet(rows: list[dict[str, object]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def two_configs(word: str) -> dict[str, bytes]:
    name = "test-00000-of-00001.parquet"
    return {
        "README.md": README,
        f"one/{name}": parquet([{"input": f"{word} 1", "target": "a"}]),
        f"two/{name}": parquet([{"input": f"{word} 2", "target": "b"}]),
    }


def test_a_snapshot_of_links_is_read_as_the_hub_would_give_it(machine: Path) -> None:
    write_snapshot(machine / "hub", "org/set", two_configs("row"))
    original = datasets.load_dataset
    with assets.pinned_datasets():
        loaded = datasets.load_dataset(path="org/set", name="two", revision="main")
        assert loaded["test"].to_list() == [{"input": "row 2", "target": "b"}]
        assert datasets.load_dataset("org/set", "one", split="test")[0]["input"] == "row 1"
    assert datasets.load_dataset is original


def test_the_mirror_comes_before_the_hub_cache(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    write_snapshot(machine / "hub", "org/set", two_configs("cache"))
    write_snapshot(machine / "mirror" / "hub", "org/set", two_configs("mirror"))
    monkeypatch.setenv("EVALSUITE_MIRROR", str(machine / "mirror"))
    with assets.pinned_datasets():
        assert datasets.load_dataset("org/set", "one", split="test")[0]["input"] == "mirror 1"


def test_entered_twice_it_is_restored_once() -> None:
    original = datasets.load_dataset
    first, second = assets.pinned_datasets(), assets.pinned_datasets()
    first.__enter__()
    patched = datasets.load_dataset
    second.__enter__()
    assert original not in (patched, datasets.load_dataset)
    second.__exit__(None, None, None)
    assert datasets.load_dataset is patched
    first.__exit__(None, None, None)
    assert datasets.load_dataset is original


def test_an_exception_restores_it_too() -> None:
    original = datasets.load_dataset
    with pytest.raises(ZeroDivisionError), assets.pinned_datasets():
        raise ZeroDivisionError
    assert datasets.load_dataset is original


def test_local_files_and_builders_are_left_alone(machine: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"a": 1}\n')
    with assets.pinned_datasets():
        loaded = datasets.load_dataset(
            "json", data_files=str(tmp_path / "rows.json"), split="train", cache_dir=str(tmp_path / "arrow")
        )
        assert loaded.to_list() == [{"a": 1}]


def test_a_missing_set_or_config_is_one_line(machine: Path) -> None:
    write_snapshot(machine / "hub", "org/set", two_configs("row"))
    with assets.pinned_datasets(ASSETS.values()):
        for repo, name in (("org/none", None), ("org/set", "three"), ("Idavidrein/gpqa", "gpqa_main")):
            with pytest.raises(DataError) as caught:
                datasets.load_dataset(repo, name)
            assert "\n" not in str(caught.value)
            assert repo in str(caught.value)
    assert "hf auth login" in str(caught.value)


def test_with_the_network_the_hub_is_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("EVALSUITE_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable)
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments, **options: asked.append(arguments) or "loaded")
    with assets.pinned_datasets():
        assert datasets.load_dataset("org/none", "one") == "loaded"
    assert asked == [("org/none", "one")]


def test_a_data_set_is_hashed_once_and_again_when_it_changes(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    musr = ASSETS["openllm/musr"]
    (place,) = [one for one in musr.locations if isinstance(one, OnHub)]
    readme = "---\nconfigs:\n- config_name: default\n  data_files:\n"
    files = {}
    for part in musr.parts:
        readme += f"  - split: {part.split}\n    path: {part.split}.csv\n"
        files[f"{part.split}.csv"] = (
            b"narrative,question,choices,answer_choice\nn,q,\"['a']\"," + part.split.encode() + b"\n"
        )
    snapshot = write_snapshot(machine / "hub", place.repo, {"README.md": (readme + "---\n").encode(), **files})
    found = assets.find(musr)
    rows = [
        {"narrative": "n", "question": "q", "choices": "['a']", "answer_choice": split}
        for split in ("murder_mysteries", "object_placements", "team_allocation")
    ]
    assert (found.sha256, found.rows, found.path) == (rows_sha256(rows), 3, snapshot)
    with monkeypatch.context() as patch:
        patch.setattr("evalsuite.assets.hub_datasets.snapshot_rows", lambda *_, **__: pytest.fail("hashed again"))
        assert assets.find(musr) == found
    changed = (snapshot / "team_allocation.csv").resolve()
    changed.write_bytes(changed.read_bytes().replace(b"n,q", b"other,q"))
    after = assets.find(musr)
    assert after.sha256 == rows_sha256([*rows[:2], {**rows[2], "question": "q", "narrative": "other"}])
    assert assets.verify(ASSETS, ["openllm/musr"])[0]["sha256"] == after.sha256
    with assets.pinned_datasets():
        assert datasets.load_dataset("TAUR-Lab/MuSR")["team_allocation"][0]["narrative"] == "other"


def test_a_snapshot_that_lacks_a_config_is_not_the_asset(machine: Path) -> None:
    write_snapshot(machine / "hub", "SaylorTwift/bbh", two_configs("row"))
    with pytest.raises(DataError, match=r"openllm/bbh not found.*boolean_expressions"):
        assets.find(ASSETS["openllm/bbh"])


def leaderboard_configs(folder: str) -> set[tuple[str, str | None]]:
    """The (data set, config) pairs that lm-eval's own leaderboard tasks name."""
    spec = importlib.util.find_spec("lm_eval")
    assert spec is not None
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0]) / "tasks" / "leaderboard" / folder
    repo, configs = "", set()
    for file in root.iterdir():
        for line in file.read_text().splitlines() if "yaml" in file.name else ():
            key, _, value = line.partition(":")
            if key == "dataset_path":
                repo = yaml.safe_load(line)[key]
            elif key == "dataset_name":
                configs.add(value.strip())
    return {(repo, config) for config in configs}


@pytest.mark.parametrize(("name", "folder"), [("bbh", "bbh_mc"), ("math", "math"), ("gpqa", "gpqa")])
def test_the_pins_name_what_the_leaderboard_tasks_read(name: str, folder: str) -> None:
    asset = ASSETS[f"openllm/{name}"]
    (place,) = [one for one in asset.locations if isinstance(one, OnHub)]
    assert leaderboard_configs(folder) == {(place.repo, part.config) for part in asset.parts}


def test_the_mirror_is_what_the_pins_say(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALSUITE_MIRROR", str(shared / "mirror"))
    states = {row["name"]: row for row in assets.verify(all_assets())}
    local = [
        name
        for name in states
        if not name.startswith(("mixeval/2024-08-11", "demo", "mixeval/prompts"))
        and name not in ("openllm/gpqa", "mt_bench/reference_gpt4_0125", "alpaca_eval/df_gamed")
        and name != "arena_hard/v2.0/gemini-2.0-flash-001"  # too large for a mirror: the hub alone has it
    ]
    assert {name: states[name]["state"] for name in local} == dict.fromkeys(local, "ok")
    assert states["alpaca_eval/df_gamed"]["state"] == "unpinned"
    assert states["arena_hard/v2.0/gemini-2.0-flash-001"]["state"] == "missing"
    # The counts of the published benchmarks.
    counts = {"bbh": 5761, "musr": 756, "math": 1324, "ifeval": 541, "mmlu_pro": 12032}
    assert {name: states[f"openllm/{name}"]["rows"] for name in counts} == counts
    assert states["openllm/mmlu_pro"]["source"] == "mirror"


def test_the_pin_of_bbh_follows_from_its_definition(shared: Path) -> None:
    (snapshot,) = (shared / "mirror/hub/datasets--SaylorTwift--bbh/snapshots").iterdir()
    bbh = ASSETS["openllm/bbh"]
    rows = [
        row
        for config in sorted(str(part.config) for part in bbh.parts)
        for file in (snapshot / config).glob("test-*.parquet")
        for row in pq.read_table(file, columns=["input", "target"]).to_pylist()
    ]
    assert (len(rows), rows_sha256(rows)) == (5761, bbh.sha256)


def test_bars_are_as_they_were_before() -> None:
    before = datasets.are_progress_bars_disabled()
    with assets.pinned_datasets():
        assert datasets.are_progress_bars_disabled()
    assert datasets.are_progress_bars_disabled() == before
