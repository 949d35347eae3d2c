"""Units find their data in the caches: what lm-eval alone can fetch, the head fetches before the first unit starts."""

from __future__ import annotations

import pytest

from evalsuite.config import read_config
from evalsuite.errors import DataError
from evalsuite.fleet import run as fleet_run
from evalsuite.fleet.executors import Local
from evalsuite.fleet.run import run_on
from tests.evalsuite.runs.test_runner import obliging
from tests.evalsuite.stub_endpoint import StubEndpoint
from tests.evalsuite.suites.harness.test_tasks import write_task
from tests.evalsuite.tiny_checkpoint import write_checkpoint

pytestmark = [
    pytest.mark.slow,
    # swig-built modules that lm-eval's imports pull in
    pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute"),
]


class Started(Exception):
    pass


class Place(Local):
    """This machine, up to the start of the first unit."""

    def __init__(self) -> None:
        super().__init__(None)

    def submit(self, _units: object) -> None:
        raise Started


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a function that runs suites of the tiny model up to the start of units."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    checkpoint = str(write_checkpoint(tmp_path / "ckpt"))

    monkeypatch.setattr(fleet_run, "executor_of", lambda *_: Place())

    def run(**given: object) -> None:
        with StubEndpoint(obliging, model=checkpoint) as stub:
            values = {"models": [checkpoint], "base_url": stub.url, "results": tmp_path / "r", "on": "local"}
            run_on(read_config({**values, **given}))

    return run


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A folder of one task with its data and one without, which lm-eval reads once, with all of its own."""
    folder = write_task(tmp_path_factory.mktemp("own") / "tasks")
    return write_task(folder, "no_data", dataset_path="nobody/has_this", dataset_kwargs={})


def test_data_that_are_not_there_are_named_before_any_unit_starts(place, tasks, tmp_path):
    with pytest.raises(DataError, match="data set nobody/has_this not found"):
        place(suites=["lm_eval:no_data"], include_path=tasks)
    assert not list((tmp_path / "r").iterdir())


def test_units_start_when_the_data_are_there(place, tasks):
    with pytest.raises(Started):
        place(suites=["lm_eval:own_sums"], include_path=tasks)
