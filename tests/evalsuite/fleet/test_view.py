"""The head's line: what the units' progress files say, rates of the last minutes, and the time left."""

from __future__ import annotations

from pathlib import Path

from evalsuite.fleet import view
from evalsuite.fleet.units import Unit
from evalsuite.fleet.view import View
from evalsuite.generation.run import generate
from evalsuite.progress import KeptProgress, NoProgress
from tests.evalsuite.generation_endpoint import answering, config, write_chats
from tests.evalsuite.stub_endpoint import StubEndpoint


def unit(folder: Path, name: str) -> Unit:
    (folder / name / "attempts" / "x" / "results").mkdir(parents=True)
    (folder / name / "out").mkdir()
    return Unit(folder / name, name, ("run",))


def test_rates_and_the_time_left_are_those_of_the_units_seen(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(view.time, "monotonic", lambda: now[0])
    units = [unit(tmp_path, name) for name in "abcd"]
    names = [each.name for each in units]
    seen = View(units)
    assert seen.line(names, names, 0) == "0 of 4 units running, 0 done"
    with (
        KeptProgress(NoProgress(), units[0].folder / "attempts" / "x" / "results", "evalsuite run") as run,
        KeptProgress(NoProgress(), units[1].folder / "out", "evalsuite generate") as generate,
    ):
        run.begin("m: MT-Bench", 80)
        run.update("m: MT-Bench", 20, 80)
        generate.begin("m conversations", 120)
        run.step("")
        generate.step("starting vLLM")
        # What the first look finds done may come from the store: it has no rate.
        assert seen.line(names, names, 0) == "2 of 4 units running, 0 done: 20 of 200 items; starting vLLM"
        now[0] += 20
        run.update("m: MT-Bench", 30, 80)
        generate.update("m conversations", 30, 120)
        run.answered(500)
        generate.answered(1500)
        run.step("")
        generate.step("")
        # 40 items and 2,000 tokens in 20 s; 50 + 90 items are owed, and by two more units 100 each.
        line = "2 of 4 units running, 0 done, 1 retry: 60 of 200 items, 2.0/s, 100 tokens/s, 3 min left"
        assert seen.line(names, names, 1) == line
    now[0] += 20
    # Done units owe nothing more.
    line = "0 of 4 units running, 2 done, 1 retry: 200 of 200 items, 4.5/s, 50 tokens/s, 44 s left"
    assert seen.line(names[2:], names[2:], 1) == line


def test_another_attempt_that_begins_with_stored_answers_is_not_fast(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(view.time, "monotonic", lambda: now[0])
    one = unit(tmp_path, "a")
    seen = View([one])
    for done, tokens in ((10, 900), (4, 100), (6, 300)):
        with KeptProgress(NoProgress(), one.folder / "out", "evalsuite generate") as progress:
            progress.answered(tokens)
            progress.begin("m", 10)
            progress.update("m", done, 10)
            progress.step("")
            line = seen.line(["a"], ["a"], 1)
        now[0] += 10
    assert line == "1 of 1 units running, 0 done, 1 retry: 6 of 10 items, 6/min, 10 tokens/s, 40 s left"


class Counting(NoProgress):
    tokens = 0

    def answered(self, n_tokens: int) -> None:
        self.tokens += n_tokens


def test_every_generated_token_is_counted_and_none_of_stored_answers(tmp_path):
    chats = write_chats(tmp_path / "chats.jsonl", 7)
    with StubEndpoint(answering) as stub:
        first, again = Counting(), Counting()
        (manifest,) = generate(config(stub, chats, tmp_path / "out"), first).manifests
        generate(config(stub, chats, tmp_path / "out"), again)
    assert first.tokens == manifest["tokens"]["completion"] > 0
    assert again.tokens == 0
