"""Where an asset is looked for, in which order, and what is said when it is nowhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalsuite import assets
from evalsuite.assets import hub_datasets, wheels
from evalsuite.assets.asset import Asset, InWheel, Pin
from evalsuite.assets.rows import rows_sha256
from evalsuite.cli import app
from evalsuite.errors import DataError
from evalsuite.suites import registry
from evalsuite.suites.registry import all_assets
from tests.evalsuite.assets_env import empty_machine, write_jsonl, write_snapshot

ASSETS = all_assets()
QUESTION = ASSETS["mt_bench/question"]
BASELINE = ASSETS["alpaca_eval/baseline"]
REPO = "tatsu-lab/alpaca_eval"


@pytest.fixture(autouse=True)
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return empty_machine(monkeypatch, tmp_path)


def question(word: str) -> dict[str, object]:
    return {"question_id": 81, "category": "writing", "turns": [word], "not_used": word}


def baseline(word: str) -> bytes:
    return json.dumps([{"instruction": word, "output": "o", "generator": "g", "dataset": "d"}]).encode()


def extracted(asset: Asset) -> Path:
    return wheels.extracted_path(next(one for one in asset.locations if isinstance(one, InWheel)))


def test_the_mirror_comes_before_the_wheel(monkeypatch: pytest.MonkeyPatch, mirror: Path) -> None:
    write_jsonl(extracted(QUESTION), [question("from the wheel")])
    assert assets.find(QUESTION).source == "wheel"
    write_jsonl(mirror / "raw/mt_bench/question.jsonl", [question("from the mirror")])
    monkeypatch.setenv("EVALSUITE_MIRROR", str(mirror))
    rows, found = assets.records(QUESTION)
    assert found.source == "mirror"
    assert rows == [{"question_id": 81, "category": "writing", "turns": ["from the mirror"]}]
    assert found.sha256 == rows_sha256(rows)


@pytest.mark.parametrize("below", ["raw/mt_bench", "mt_bench", "."])
def test_a_mirror_may_have_several_layouts(monkeypatch: pytest.MonkeyPatch, mirror: Path, below: str) -> None:
    write_jsonl(mirror / below / "question.jsonl", [question("q")])
    monkeypatch.setenv("EVALSUITE_MIRROR", str(mirror))
    assert assets.find(QUESTION).path == (mirror / below / "question.jsonl").resolve()


def test_hub_data_comes_from_mirror_then_cache_then_hub(
    monkeypatch: pytest.MonkeyPatch, mirror: Path, tmp_path: Path
) -> None:
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    (fetched / "alpaca_eval_gpt4_baseline.json").write_bytes(baseline("from the hub"))
    monkeypatch.setattr(hub_datasets, "fetch_snapshot", lambda repo, pattern: fetched)
    assert assets.records(BASELINE)[0][0]["instruction"] == "from the hub"
    write_snapshot(tmp_path / "hub", REPO, {"alpaca_eval_gpt4_baseline.json": baseline("from the cache")})
    rows, found = assets.records(BASELINE)
    assert (rows[0]["instruction"], found.source) == ("from the cache", "hub")
    write_snapshot(mirror, REPO, {"alpaca_eval_gpt4_baseline.json": baseline("from a mirror that is a hub cache")})
    monkeypatch.setenv("EVALSUITE_MIRROR", str(mirror))
    rows, found = assets.records(BASELINE)
    assert (rows[0]["instruction"], found.source) == ("from a mirror that is a hub cache", "mirror")
    write_snapshot(mirror / "hub", REPO, {"alpaca_eval_gpt4_baseline.json": baseline("from the mirror's hub folder")})
    assert assets.records(BASELINE)[0][0]["instruction"] == "from the mirror's hub folder"


def test_a_partial_snapshot_and_an_unreadable_file_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, mirror: Path, tmp_path: Path
) -> None:
    write_snapshot(mirror, REPO, {"README.md": b"only this"})
    monkeypatch.setenv("EVALSUITE_MIRROR", str(mirror))
    write_snapshot(tmp_path / "hub", REPO, {"alpaca_eval_gpt4_baseline.json": baseline("whole")})
    assert assets.records(BASELINE)[0][0]["instruction"] == "whole"
    write_snapshot(mirror / "hub", REPO, {"alpaca_eval_gpt4_baseline.json": b"[{"})
    assert assets.find(BASELINE).source == "hub"


def test_other_content_is_marked_and_never_refused(monkeypatch: pytest.MonkeyPatch, mirror: Path) -> None:
    write_jsonl(mirror / "question.jsonl", [question("changed")])
    monkeypatch.setenv("EVALSUITE_MIRROR", str(mirror))
    found = assets.find(QUESTION)
    assert not found.pinned
    assert "1 row instead of 80" in found.note
    assert "\n" not in found.note
    assert assets.data_pin(found) == Pin(found.sha256, "mirror")
    (row,) = assets.verify(ASSETS, [QUESTION.name])
    assert (row["state"], row["reason"]) == ("differs", found.note)


def test_content_without_a_known_hash_is_recorded_as_unpinned(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "hub", REPO, {"df_gamed.csv": b"a,b\n1,2\n"})
    found = assets.find(ASSETS["alpaca_eval/df_gamed"])
    assert found.path.read_bytes() == b"a,b\n1,2\n"
    assert not found.pinned
    assert assets.verify(ASSETS, ["alpaca_eval/df_gamed"])[0]["state"] == "unpinned"


# punkt_tab may stand in a folder of the system.
@pytest.mark.parametrize("name", sorted(ASSETS.keys() - {"nltk/punkt_tab"}))
def test_what_is_not_found_is_one_line_with_a_remedy(name: str) -> None:
    with pytest.raises(DataError) as caught:
        assets.find(ASSETS[name])
    message = str(caught.value)
    assert message.startswith(f"{name} not found; looked in ")
    assert "\n" not in message
    assert f"evalsuite data pull {name}" in message or "set EVALSUITE_MIRROR to a folder with" in message
    assert ("hf auth login" in message) == (name == "openllm/gpqa")
    (row,) = assets.verify(ASSETS, [name])
    assert row["state"] == "missing"


def test_a_mirror_that_is_no_folder_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVALSUITE_MIRROR", str(tmp_path / "typo"))
    with pytest.raises(DataError, match=r"EVALSUITE_MIRROR is .*typo.*not a folder"):
        assets.find(QUESTION)


def test_unknown_names_are_met_with_the_nearest_one() -> None:
    with pytest.raises(DataError, match="did you mean 'mt_bench/question'"):
        assets.list_assets(ASSETS, ["mt_bench/questions"])
    with pytest.raises(DataError, match="file without rows"):
        assets.records(ASSETS["alpaca_eval/df_gamed"])


def test_constants_are_read_and_never_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    file = extracted(ASSETS["mixeval/prompts"])
    file.parent.mkdir(parents=True)
    file.write_text(
        f"""
import pathlib
pathlib.Path({str(marker)!r}).write_text("run")
A = B = "two names"
C: str = "typed" " and joined"
D = 3
E = "a" + "b"
def f():
    F = "inside"
"""
    )
    constants = assets.text_constants(ASSETS["mixeval/prompts"])
    assert constants == {"A": "two names", "B": "two names", "C": "typed and joined"}
    assert not marker.exists()
    file.write_text("A = (")
    with pytest.raises(DataError, match="not a Python file"):
        assets.text_constants(ASSETS["mixeval/prompts"])


def test_the_table_says_where_each_asset_is(tmp_path: Path) -> None:
    write_jsonl(extracted(QUESTION), [question("q")])
    rows = {row["name"]: row for row in assets.list_assets(ASSETS)}
    assert list(rows) == list(ASSETS)
    assert rows[QUESTION.name]["state"] == "found: wheel"
    assert rows["openllm/gpqa"]["state"] == "gated"
    assert rows[BASELINE.name]["state"] == "missing"
    for row in rows.values():
        assert row["licence"]
        assert row["source"]


def test_pull_reports_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(extracted(QUESTION), [question("q")])
    heard: list[str] = []
    rows = {row["name"]: row for row in assets.pull(ASSETS, ["mt_bench", "openllm/gpqa"], heard.append)}
    assert rows[QUESTION.name]["state"] == "differs"
    assert rows["openllm/gpqa"]["state"] == "missing"
    assert "hf auth login" in rows["openllm/gpqa"]["reason"]
    assert heard == list(rows)


def test_verify_never_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: object) -> object:
        raise AssertionError("the network was asked")

    for variable in ("EVALSUITE_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable)
    for module, function in ((hub_datasets, "fetch_snapshot"), (wheels, "fetched_path")):
        monkeypatch.setattr(module, function, forbidden)
    assert {row["state"] for row in assets.verify(ASSETS, ["mt_bench", "alpaca_eval", "mixeval", "openllm/bbh"])} == {
        "missing"
    }
    assert assets.list_assets(ASSETS, ["openllm"])


def invoked(*arguments: str) -> tuple[int, str]:
    ran = CliRunner().invoke(app, ["data", *arguments])
    return ran.exit_code, ran.stderr


def test_pulling_fails_where_something_asked_for_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, words = invoked("pull", "mt_bench")
    assert code == 2
    assert "missing: mt_bench/question, mt_bench/reference_gpt4" in words
    write_jsonl(extracted(QUESTION), [question("q")])
    code, words = invoked("pull", QUESTION.name)
    assert (code, "content differs from its pin: mt_bench/question" in words) == (2, True)
    with monkeypatch.context() as patched:
        rows = [{key: value for key, value in question("q").items() if key != "not_used"}]
        pinned = replace(QUESTION, sha256=rows_sha256(rows))
        patched.setattr(registry, "all_assets", lambda: ASSETS | {pinned.name: pinned})
        assert invoked("pull", QUESTION.name)[0] == 0


def test_gated_data_are_a_fault_only_where_they_are_named() -> None:
    for name in ("openllm:gpqa", "openllm:bbh,gpqa", "openllm/gpqa"):
        code, words = invoked("pull", name)
        assert (code, "openllm/gpqa" in words.splitlines()[-1]) == (2, True)
    for words in (["pull"], ["pull", "openllm"]):
        lines = invoked(*words)[1].splitlines()
        assert any("gated and not downloaded: openllm/gpqa" in line for line in lines)
        assert "openllm/bbh" in lines[-1]
        assert "openllm/gpqa" not in lines[-1]


def test_verifying_fails_for_what_differs_or_is_named_and_missing() -> None:
    code, words = invoked("verify")
    assert code == 0
    assert f"{len(ASSETS)} of {len(ASSETS)} are not on this machine" in words
    assert invoked("verify", "mt_bench")[0] == 2
    write_jsonl(extracted(QUESTION), [question("q")])
    code, words = invoked("verify")
    assert (code, "content differs from its pin: mt_bench/question" in words) == (2, True)


def test_nltk_finds_the_splitter_of_the_mirror(monkeypatch: pytest.MonkeyPatch, mirror: Path) -> None:
    import nltk

    folder = mirror / "nltk_data/tokenizers/punkt_tab/english"
    folder.mkdir(parents=True)
    (folder / "abbrev_types.txt").write_text("dr\n")
    monkeypatch.setenv("EVALSUITE_MIRROR", str(mirror))
    monkeypatch.setattr(nltk.data, "path", [])
    found = assets.nltk_ready()
    assert (found.source, found.pinned) == ("mirror", False)
    assert nltk.data.path == [str((mirror / "nltk_data").resolve())]
    assert nltk.data.find("tokenizers/punkt_tab")
