"""Scripted models and judges behind loopback endpoints: they read the prompt as a model would."""

from __future__ import annotations

import contextlib
import math
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

Taste = Callable[[str, str], float]
"""The probability that the first answer is better."""

_ANSWER = re.compile(r"<begin answer ([AB])(?: \d+)? ([0-9a-f]{16})>\n(.*?)\n<end answer \1(?: \d+)? \2>", re.DOTALL)


def shown_answers(prompt: str) -> tuple[str, str]:
    """Return the two answers as they stand in a comparison prompt, all turns of one together."""
    found = {"A": "", "B": ""}
    for name, _, text in _ANSWER.findall(prompt):
        found[name] += text
    return found["A"], found["B"]


def speaker(words: Callable[[str], str]) -> Callable[[str, dict[str, Any]], Any]:
    """A model that answers the last user turn with ``words`` of it."""
    return lambda path, body: (200, text_reply(words(body["messages"][-1]["content"])))


def judge(taste: Taste, *, hides: bool = False, says: Callable[[str], str] | None = None):
    """A judge with a taste: gives log-probabilities unless it ``hides`` them, and chooses under a guide.

    ``says`` are its free words for a prompt; without them it says nothing of use.
    """

    def handler(path: str, body: dict[str, Any]) -> Any:
        prompt = next(m["content"] for m in reversed(body["messages"]) if m["role"] == "user")
        p = taste(*shown_answers(prompt))
        if body.get("top_logprobs"):
            if hides:
                return 200, text_reply("A")
            top = [{"token": t, "logprob": math.log(max(x, 1e-9))} for t, x in (("A", p), ("B", 1 - p), ("J", 0.5))]
            return 200, {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}], "usage": {}}
        if guide := body.get("structured_outputs"):
            wanted = "tie" if p == 0.5 else "A" if p > 0.5 else "B"
            return 200, text_reply(next((c for c in guide["choice"] if c.startswith(wanted)), guide["choice"][0]))
        return 200, text_reply(says(prompt) if says else "Hm.")

    return handler


def prefers(word: str) -> Taste:
    """Like the answer that holds ``word``; undecided between two that do or do not."""
    return lambda first, second: 0.5 + 0.4 * ((word in first) - (word in second))


class QuickStub(StubEndpoint):
    """Takes many connections at once and stops within a hundredth of a second."""

    def __enter__(self) -> QuickStub:
        # The server's own queue holds five; a sixth connection would be tried again after a second.
        self._server.socket.listen(128)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self


@contextlib.contextmanager
def serving(**handlers: Callable[[str, dict[str, Any]], Any]) -> Iterator[dict[str, StubEndpoint]]:
    """Serve each handler under its name; ``word(stubs, name)`` is what stands on the command line."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(QuickStub(handler, model=name)) for name, handler in handlers.items()}


def word(stubs: dict[str, StubEndpoint], name: str) -> str:
    return f"{name}@{stubs[name].url}"
