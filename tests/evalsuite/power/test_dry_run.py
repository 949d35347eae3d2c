"""``evalsuite run --dry-run``: calls counted by the suites themselves, and what the store and the records answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.config import read_config
from evalsuite.runs.runner import run
from tests.evalsuite.runs.test_runner import obliging
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply


def forecast(stub: StubEndpoint, results: Path, *options: str) -> dict[str, Any]:
    word = f"stub@{stub.url}"
    arguments = ["run", word, "--judge", word, "--data", "mini", "--results", str(results), "--dry-run", "--json"]
    done = CliRunner().invoke(app, [*arguments, *options])
    assert done.exit_code == 0, done.output
    return {row["suite"]: row for row in json.loads(done.stdout)["dry_run"]}


def files_in(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_first_run_is_counted_and_nothing_is_asked_or_written(tmp_path: Path) -> None:
    with StubEndpoint(obliging) as stub:
        rows = forecast(stub, tmp_path / "results", "--suite", "mt_bench", "--suite", "arena_hard")
        assert stub.requests == []
    mt_bench, arena = rows["mt_bench"], next(row for key, row in rows.items() if key.startswith("arena_hard"))
    # Two turns of each question, each rated; one answer of each prompt, compared in two games.
    assert (mt_bench["answers"], mt_bench["verdicts"]) == (2 * mt_bench["items"], 2 * mt_bench["items"])
    assert (arena["answers"], arena["verdicts"]) == (arena["items"], 2 * arena["items"])
    assert (mt_bench["answers_stored"], mt_bench["answer_tokens_in"], mt_bench["verdict_tokens_out"]) == (0, None, None)
    assert any(path.endswith("records/mt_bench.jsonl") for path in mt_bench["writes"])
    assert not (tmp_path / "results").exists()


def test_the_forecast_is_what_the_run_then_asks(tmp_path: Path) -> None:
    with StubEndpoint(obliging) as stub:
        [row] = forecast(stub, tmp_path, "--suite", "mt_bench").values()
        word = f"stub@{stub.url}"
        config = read_config(
            {"models": [word], "judge": word, "suites": ["mt_bench"], "data": "mini", "results": tmp_path}
        )
        run(config)
        asked = [body for _, body in stub.requests if "messages" in body and not body.get("structured_outputs")]
        assert len(asked) == row["answers"] + row["verdicts"]
        before = files_in(tmp_path)
        [again] = forecast(stub, tmp_path, "--suite", "mt_bench").values()
        assert (again["is_stored"], again["answers"], again["verdicts"]) == (True, 0, 0)
        assert files_in(tmp_path) == before
        # Tokens of the run are the estimate of the next one.
        [fresh] = forecast(stub, tmp_path, "--suite", "mt_bench", "--ask-again").values()
        assert (fresh["answers"], fresh["answers_stored"]) == (row["answers"], 0)
        assert fresh["n_known"] == row["items"]
        assert (
            fresh["answer_tokens_out"] == row["answers"] * text_reply("A plain answer.")["usage"]["completion_tokens"]
        )


def test_answers_of_a_stopped_run_are_stored_ones(tmp_path: Path) -> None:
    """The judge fails: the answers are in the store alone, for there are no figures yet."""

    def failing(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if "impartial judge" in str(body.get("messages")):
            return 500, {"error": {"message": "out of order"}}
        return 200, text_reply("A plain answer.")

    with StubEndpoint(failing) as stub:
        word = f"stub@{stub.url}"
        values = {"models": [word], "suites": ["mt_bench"], "data": "mini", "results": tmp_path, "no_judge": True}
        run(read_config(values))
        for records in tmp_path.glob("*/records/*"):
            records.unlink()
        for scores in tmp_path.glob("*/scores.json"):
            scores.unlink()
        n = len(stub.requests)
        [row] = forecast(stub, tmp_path, "--suite", "mt_bench").values()
        assert len(stub.requests) == n
    assert (row["answers"], row["answers_stored"]) == (0, 2 * row["items"])
    assert (row["verdicts"], row["verdicts_stored"]) == (2 * row["items"], 0)


@pytest.mark.parametrize("option", ["--json", "--fresh"])
def test_the_table_names_calls_and_folders(tmp_path: Path, option: str) -> None:
    with StubEndpoint(obliging) as stub:
        word = f"stub@{stub.url}"
        done = CliRunner().invoke(
            app,
            ["run", word, "--suite", "mixeval", "--data", "mini", "--results", str(tmp_path), "--dry-run", option],
        )
    assert done.exit_code == 0, done.output
    assert "unknown" in done.output or '"answer_tokens_out": null' in done.output
    assert "records" in done.output


def test_seconds_are_those_of_earlier_runs_for_as_many_tokens_and_calls(tmp_path: Path) -> None:
    rated = text_reply("It is good. Rating: [[7]]")
    with StubEndpoint(obliging) as stub, StubEndpoint(lambda *_: (200, rated), model="judge") as judge:
        options = ["--judge", f"judge@{judge.url}", "--suite", "mt_bench", "--data", "mini", "--results", str(tmp_path)]
        call = ["run", f"stub@{stub.url}", *options]
        said = CliRunner().invoke(app, [*call, "--dry-run"]).stdout
        assert "stub: time for answers unknown, verdicts unknown" in said
        assert CliRunner().invoke(app, call).exit_code == 0
        [path] = tmp_path.glob("stub-*/manifest.json")
        manifest = json.loads(path.read_text())
        manifest["seconds"] |= {"generate": 300.0, "judge": 60.0}
        manifest["hardware"]["gpus"] = ["H100"] * 4
        manifest["model"].pop("served", None)
        path.write_text(json.dumps(manifest))
        again = [*call, "--ask-again", "--dry-run", "-tp", "4"]
        [row] = json.loads(CliRunner().invoke(app, [*again, "--json"]).stdout)["dry_run"]
        # The same questions again: as many written tokens. Requests to the judge's server include its probes.
        judging = 60 * row["verdicts"] / manifest["usage"]["judge"]["requests"]
        assert (row["answer_seconds"], row["verdict_seconds"]) == (pytest.approx(300.0), pytest.approx(judging))
        # The manifest names no server of others, so the runs had GPUs of their own; the judge has as many as the model.
        assert row["gpu_hours"] == pytest.approx(4 * (300 + judging) / 3600)
        assert f"answers about 5 min, verdicts about {judging:.0f} s (" in CliRunner().invoke(app, again).stdout
