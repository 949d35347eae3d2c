"""``evalsuite watch``: which checkpoints are evaluated, when it ends, and that it resumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalsuite import tracking
from evalsuite.cli import app
from evalsuite.config import read_as
from evalsuite.errors import ServerError, UsageError
from evalsuite.serving.chat_format import load_tokenizer
from evalsuite.watching.settings import WatchConfig
from evalsuite.watching.watch import watch
from tests.evalsuite.checkpoint.test_training_run import write_step
from tests.evalsuite.runs.test_runner import obliging
from tests.evalsuite.stub_endpoint import StubEndpoint
from tests.evalsuite.thinking_endpoint import ThinkingModel
from tests.evalsuite.tiny_checkpoint import write_checkpoint, write_safetensors


@pytest.fixture
def served(tmp_path):
    """Servers of the checkpoints and of a judge, and the settings that ask them."""
    model = ThinkingModel(load_tokenizer(write_checkpoint(tmp_path / "m")), "A plain answer.")
    with model.serve(max_model_len=2048) as stub, StubEndpoint(obliging, model="judge") as judge:
        run_dir = tmp_path / "out"
        run_dir.mkdir()
        yield (
            stub,
            {
                "run_dir": run_dir,
                "base_url": stub.url,
                "judge": f"judge@{judge.url}",
                "suites": ["mt_bench"],
                "data": "mini",
                "limit": 2,
                "results": tmp_path / "results",
            },
        )


def step(run_dir: Path, number: int, **options: object) -> Path:
    """Write a checkpoint whose weights are its own, so that its fingerprint is."""
    folder = write_step(run_dir, number, **options)
    write_safetensors(folder / "model.safetensors", n_values=number)
    return folder


def watched(settings: dict, happens: list[Callable[[], object]] | None = None, **changes: object):
    """Watch; each look that finds nothing new lets the next thing happen."""
    left = iter(happens or [])
    return watch(read_as(WatchConfig, {**settings, **changes}), sleep=lambda _: next(left)())


def names(found) -> list[str]:
    return [folder.name.rpartition("-")[0] for folder in found.folders]


def test_checkpoints_are_evaluated_as_they_come_until_the_training_ends(served):
    _, settings = served
    out = settings["run_dir"]
    step(out, 10)
    half = step(out, 20, state=False)

    def completed() -> None:
        assert not list(settings["results"].glob("checkpoint-20-*")), "it was still being written"
        step(out, 20)

    found = watched(settings, [completed, lambda: step(out, 50)])
    assert names(found) == ["checkpoint-10", "checkpoint-20", "checkpoint-50"]
    assert found.left_out == {}
    assert half.is_dir()
    scores = [json.loads((folder / "scores.json").read_text()) for folder in found.folders]
    assert [one["training_step"]["step"] for one in scores] == [10, 20, 50]
    assert [one["suites"]["mt_bench"]["n"] for one in scores] == [4, 4, 4]


def test_started_again_it_asks_only_for_what_is_missing(served):
    stub, settings = served
    out = settings["run_dir"]
    step(out, 10)

    def killed() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watched(settings, [killed])
    first = len(stub.requests)
    step(out, 50)
    assert names(watched(settings)) == ["checkpoint-10", "checkpoint-50"]
    assert first < len(stub.requests) <= 2 * first + 2, "checkpoint-10 was not asked again"


def test_every_n_steps_and_the_last_one(served):
    _, settings = served
    for number in (10, 20, 30, 40, 50):
        step(settings["run_dir"], number)
    assert names(watched(settings, every=20)) == ["checkpoint-20", "checkpoint-40", "checkpoint-50"]


def test_a_checkpoint_that_cannot_be_served_is_named_and_the_others_stand(served):
    _, settings = served
    out = settings["run_dir"]
    step(out, 10)
    broken = step(out, 20)
    (broken / "tokenizer.json").unlink()
    step(out, 50)
    found = watched(settings)
    assert names(found) == ["checkpoint-10", "checkpoint-50"]
    assert "tokenizer" in found.left_out["checkpoint-20"]


def test_a_checkpoint_that_the_training_removes_meanwhile_is_named(served, monkeypatch):
    _, settings = served
    out = settings["run_dir"]
    removed = step(out, 10)

    def gone(*_: object) -> None:
        shutil.rmtree(removed)
        raise ServerError("the server did not start")

    monkeypatch.setattr("evalsuite.watching.watch.run", gone)
    found = watched(settings, [lambda: step(out, 60) and monkeypatch.undo()])
    assert "save_total_limit" in found.left_out["checkpoint-10"]
    assert names(found) == ["checkpoint-60"]


def test_a_server_that_fails_stops_the_watch(served, monkeypatch):
    _, settings = served
    step(settings["run_dir"], 10)

    def fails(*_: object) -> None:
        raise ServerError("no memory")

    monkeypatch.setattr("evalsuite.watching.watch.run", fails)
    with pytest.raises(ServerError, match="no memory"):
        watched(settings)


def test_it_gives_up_after_a_time_without_a_checkpoint_and_names_what_was_never_complete(served):
    _, settings = served
    step(settings["run_dir"], 10)
    step(settings["run_dir"], 20, state=False)
    found = watched(settings, [lambda: None] * 100_000, wait=0.0005)
    assert names(found) == ["checkpoint-10"]
    assert found.left_out == {"checkpoint-20": "trainer_state.json is not written yet"}


def test_the_finished_model_of_a_training_that_keeps_no_checkpoints_is_the_last_point(served):
    _, settings = served
    out = settings["run_dir"]
    step(out, 10)
    final = step(out, 50)
    shutil.copytree(final, out, dirs_exist_ok=True)
    shutil.rmtree(final)
    assert names(watched(settings)) == ["checkpoint-10", "out"]


def test_a_missing_folder_is_one_sentence(served):
    _, settings = served
    with pytest.raises(UsageError, match="is not a folder"):
        watched(settings, run_dir=settings["run_dir"] / "nowhere")


def test_the_command_prints_the_curve_and_logs_to_tensorboard(served):
    _, settings = served
    for number in (10, 50):
        step(settings["run_dir"], number)
    words = ["watch", str(settings["run_dir"]), "--suite", "mt_bench", "--data", "mini", "--limit", "2", "--json"]
    words += ["--judge", settings["judge"], "--base-url", settings["base_url"]]
    words += ["--results", str(settings["results"]), "--log-to", "tensorboard"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    [curve] = json.loads(result.stdout)["curves"]
    assert [point["step"] for point in curve["points"]] == [10, 50]
    score = curve["points"][0]["score"]
    assert curve["verdict"].startswith(f"No checkpoint is better than the last, step 50: {score:.2f}"), "equal scores"

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    def logged() -> list[tuple[int, float]]:
        [run] = (settings["results"] / "tracking").glob("out-*")
        events = EventAccumulator(str(run)).Reload().Tensors("evalsuite/mt_bench")
        return [(event.step, float(make_ndarray(event.tensor_proto))) for event in events]

    points = [(point["step"], pytest.approx(point["score"])) for point in curve["points"]]
    assert logged() == points
    assert CliRunner().invoke(app, words).exit_code == 0
    assert logged() == points, "started again, it writes no point twice"
    step(settings["run_dir"], 60)
    assert CliRunner().invoke(app, words).exit_code == 0
    assert [at for at, _ in logged()] == [10, 50, 60]


def test_a_client_prints_to_stderr_and_its_errors_are_one_sentence(tmp_path, monkeypatch, capsys):
    """stdout holds the document of --json alone."""

    def fails(*_: object) -> None:
        print("about to fail")
        raise RuntimeError("quota exceeded")

    monkeypatch.setitem(tracking._OPEN, "wandb", lambda *_: (print("a banner") or fails, lambda: print("bye")))
    with (
        pytest.raises(ServerError, match=r"wandb failed \(quota exceeded\)"),
        tracking.Tracker("wandb", "r", "1", tmp_path) as tracker,
    ):
        tracker.log({"a": 1.0}, 1)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == ["a banner", "about to fail", "bye"]


def test_the_judge_is_started_once_where_it_stays(served, monkeypatch):
    """With --keep-judge all checkpoints share one session of the judge."""
    from evalsuite.runs import runner

    begun = []
    session = runner.Session

    def counted(checkpoint, *rest, **more):
        begun.append(checkpoint.name)
        return session(checkpoint, *rest, **more)

    monkeypatch.setattr(runner, "Session", counted)
    _, settings = served
    out = settings["run_dir"]
    step(out, 10)
    watched(settings, [lambda: step(out, 50)], keep_judge=True)
    assert begun.count("judge") == 1
    shutil.rmtree(out)
    out.mkdir()
    step(out, 11)
    watched(settings, [lambda: step(out, 51)])
    assert begun.count("judge") == 3
