"""What is shown of a suite while it runs."""

from __future__ import annotations

import pytest

from evalsuite.errors import ServerError, blamed_on
from evalsuite.progress import Progress
from evalsuite.runs import so_far
from evalsuite.runs.so_far import Speed
from evalsuite.serving.connection import Usage


class Steps(Progress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def step(self, message: str) -> None:
        self.texts.append(message)


def test_speed_is_of_the_tokens_since_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(so_far.time, "monotonic", lambda: clock[0])
    usage, steps = Usage(prompt_tokens=1000, completion_tokens=50), Steps()
    speed = Speed("demo", usage, steps)
    speed.look()
    assert steps.texts == [], "too early to say"
    clock[0], usage.prompt_tokens, usage.completion_tokens = 4.0, 5000, 450
    speed.look()
    assert steps.texts == ["demo: 1,000 tokens/s read, 100 written"]
    clock[0] = 8.0
    speed.look()
    speed.stop()
    assert steps.texts[1:] == ["", ""], "nothing was read since"


def test_a_failure_names_whose_server_it_was() -> None:
    with pytest.raises(ServerError, match=r"^judge big: it died$") as raised, blamed_on("judge big"):
        raise ServerError("it died", "the tail")
    assert raised.value.log_tail == "the tail"
