"""`evalsuite view`: who may read, what is served, and how it follows a results folder."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.errors import DataError, UsageError
from evalsuite.files import machine
from evalsuite.progress import RUNNING, KeptProgress, NoProgress, running_commands
from evalsuite.viewing import server
from evalsuite.viewing.server import LiveReport, live_page, serving
from tests.evalsuite.report_results import mt_bench_scores, write_model


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_model(tmp_path / "results", "first", {"mt_bench": mt_bench_scores(7.0)})
    return tmp_path / "results"


@pytest.fixture
def address(results: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(server, "_LOOK_EVERY_S", 0.05)
    with serving(LiveReport(results)) as address:
        yield address


def get(
    address: str, path: str = "", *, key: str | None = None, host: str | None = None
) -> tuple[int, str, dict[str, str]]:
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
    root = place.path if key is None else f"/{key}/"
    connection.request("GET", root + path, headers={"Host": host or place.netloc})
    reply = connection.getresponse()
    text = reply.read().decode("utf-8")
    connection.close()
    return reply.status, text, {name.lower(): value for name, value in reply.getheaders()}


def test_the_report_is_served_under_the_key_alone(address: str) -> None:
    status, page, headers = get(address)
    assert status == 200
    assert "<iframe" in page
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert get(address, "leaderboard.html")[0] == 200
    assert "first" in get(address, "leaderboard.html?v=1")[1]
    assert get(address, "leaderboard.csv")[1].startswith("tab,model")
    for key in ("", "wrong", "state"):
        status, text, _ = get(address, "leaderboard.html", key=key)
        assert (status, "first" in text) == (403, False)


def test_another_sites_name_for_this_machine_is_refused(address: str) -> None:
    assert get(address, host="evil.example")[0] == 403
    assert get(address, host=f"localhost:{urlsplit(address).port}")[0] == 200


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "%2e%2e/x", "..\\x.html", "nothing.html", "../results/store.sqlite"]
)
def test_nothing_else_of_the_machine_is_served(address: str, path: str) -> None:
    assert get(address, path)[0] == 404


def test_only_loopback_is_listened_on(address: str) -> None:
    assert urlsplit(address).hostname == "127.0.0.1"


def test_new_figures_make_a_new_version_and_broken_ones_are_named(results: Path) -> None:
    live = LiveReport(results)
    assert live.refresh()
    assert not live.refresh()
    write_model(results, "second", {"mt_bench": mt_bench_scores(6.0)})
    assert live.refresh()
    assert live.state()["version"] == 2
    assert "second" in (live.folder / "leaderboard.html").read_text("utf-8")
    live.close()


def test_a_running_command_is_seen_until_it_ends(results: Path) -> None:
    with KeptProgress(NoProgress(), results, "evalsuite run") as progress:
        progress.begin("m: MT-Bench", 80)
        progress.note("m: MT-Bench", "mean so far 6")
        progress.update("m: MT-Bench", 80, 80)
        progress.step("judging")
        [command] = running_commands(results)
        assert command["command"] == "evalsuite run"
        assert command["step"] == "judging"
        assert command["tasks"] == [{"name": "m: MT-Bench", "done": 80, "total": 80, "note": "mean so far 6"}]
    assert running_commands(results) == []
    assert not (results / RUNNING).exists()


def test_a_killed_command_is_not_shown(results: Path) -> None:
    (results / RUNNING).mkdir()
    kept = json.dumps({"command": "x", "step": "", "tasks": []})
    (results / RUNNING / f"{machine()}-999999999.json").write_text(kept, "utf-8")
    (results / RUNNING / f"{machine()}-{os.getpid()}.json").write_text("{", "utf-8")
    lost = results / RUNNING / "other-1.json"
    lost.write_text(kept, "utf-8")
    os.utime(lost, (0, 0))
    assert running_commands(results) == []


def test_progress_needs_no_folder(tmp_path: Path) -> None:
    with KeptProgress(NoProgress(), tmp_path / "nothing", "evalsuite run") as progress:
        progress.step("x")
    assert not (tmp_path / "nothing").exists()


def test_a_taken_port_and_no_folder_are_one_sentence(results: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="give another one"), serving(LiveReport(results), taken.getsockname()[1]):
            pass
    with pytest.raises(DataError, match="does not exist"):
        LiveReport(tmp_path / "nothing")
    done = CliRunner().invoke(app, ["view", "--results", str(tmp_path / "nothing")])
    assert done.exit_code == 2


def test_the_page_around_the_report_runs_its_own_script_alone() -> None:
    page, policy = live_page()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "/*script*/" not in page
    assert "http" not in page.replace("http-equiv", "")
