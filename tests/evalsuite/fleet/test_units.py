"""A unit's files say what it is and how it ended; a damaged one is named."""

from __future__ import annotations

import json

import pytest

from evalsuite.errors import DataError
from evalsuite.fleet.on_slurm import _notice_s
from evalsuite.fleet.units import Done, Unit, done_of, read_unit

ENDED = {"attempt": "1", "exit_code": 0, "reason": "", "seconds": 2.5, "host": "n1"}


@pytest.mark.parametrize("document", [{}, [], {"title": "a", "arguments": 3}, {"title": "a", "arguments": [{}]}])
def test_a_damaged_unit_is_named(tmp_path, document):
    (tmp_path / "unit.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"unit\.json is not a unit of work; run the command again"):
        read_unit(tmp_path)


def test_how_a_unit_ended_is_read(tmp_path):
    unit = Unit(tmp_path, "a", ("run",))
    assert done_of(unit) is None
    (tmp_path / "done.json").write_text(json.dumps(ENDED))
    assert done_of(unit) == Done(0, "", tmp_path / "attempts" / "1", 2.5, "n1")


@pytest.mark.parametrize("document", [{}, [], ENDED | {"exit_code": "killed"}, ENDED | {"attempt": 1}])
def test_a_damaged_end_of_a_unit_is_named(tmp_path, document):
    (tmp_path / "done.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"done\.json does not say how the unit ended; remove it and run"):
        done_of(Unit(tmp_path, "a", ("run",)))


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        ("4", 60),
        ("4:20", 65),
        ("0:6:40", 100),
        ("1:00:00", 180),
        ("0-0:8", 120),
        ("0-00:00:40", 10),
        ("2-12", 180),
        ("UNLIMITED", 180),
    ],
)
def test_notice_is_a_quarter_of_a_short_limit_in_any_form_of_slurms(limit, seconds):
    """The forms are those of sbatch(1), --time."""
    assert _notice_s({"time": limit}) == seconds
