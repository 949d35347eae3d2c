"""One request over the wire: what may pass, what ends the run, and what is one item's fault.

A reply is never believed because it came: it must be JSON, from the model that was asked, in
time. Whether a server that is silent still works is asked of the server itself: vLLM counts its
tokens at ``/metrics``, and a count that stands still while questions wait is a server that hangs.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from evalsuite.errors import ServerError, UsageError, unknown
from evalsuite.redaction import without_secrets
from evalsuite.serving.transport import NoReplyError, RefusedError, Transport
from judges.types import Unscored

_BUSY = frozenset({408, 409, 425, 429, 503, 504})
_DENIED = frozenset({401, 403})
_CONTEXT_WORDS = ("maximum context length", "max_model_len", "context length", "maximum model length")
_STALL_S = 900.0
"""No token in this time, with questions waiting: the longest prefill of one batch on a CPU takes minutes."""
_PROBE_TIMEOUT_S = 10.0
_PROBE_TEXT = "The quick (brown) fox, 12345 times: na\u00efve \u6771\u4eac \U0001f600\n\tdef f(x): return x**2  # "
"""Words, digits, marks, code, another script: two tokenizers that split all of it alike are one for our purpose."""
_SNAPSHOT = re.compile(r"[-@:]v?\d[\d.-]*")
_TOKEN_COUNTERS = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")


class TryAgainError(Exception):
    """A failure that may pass; ``reason`` is what an item is called whose failure did not.

    ``unanswered`` says that the server did not even answer.
    """

    def __init__(self, words: str, reason: str = "request_failed", *, unanswered: bool = False) -> None:
        super().__init__(without_secrets(words))
        self.reason = reason
        self.unanswered = unanswered


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that is up: where, under which key and name; and what is wrong when it is not.

    ``diagnose`` returns why the server is dead, or None while it lives. ``end`` ends a server of
    ours that hangs; None for one that somebody else runs. ``takes_priority`` says that it serves
    requests by their ``priority``; vLLM refuses the field unless it was started for it.
    """

    base_url: str
    api_key: str
    model_name: str
    diagnose: Callable[[], str | None] = lambda: None
    end: Callable[[], None] | None = None
    takes_priority: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether this process started the server and may end it."""
        return self.end is not None

    @property
    def shown(self) -> str:
        """The URL as it may be written."""
        return without_secrets(self.base_url)


async def post(
    transport: Transport, endpoint: Endpoint, path: str, body: Mapping[str, Any]
) -> dict[str, Any] | Unscored:
    """Send one request once; raises TryAgainError for what may pass and ServerError for what will not."""
    try:
        reply = await transport.send(path, {"model": endpoint.model_name, **body})
    except NoReplyError as error:
        if (cause := endpoint.diagnose()) is not None:
            raise ServerError(cause) from error
        raise TryAgainError(str(error), "timeout" if error.late else "request_failed", unanswered=True) from error
    except RefusedError as error:
        return _refused(error, endpoint)
    except (ValueError, RecursionError) as error:
        raise TryAgainError(f"the reply is not JSON: {error}", "malformed_reply") from error
    if not isinstance(reply, dict):
        return Unscored("malformed_reply", "the reply is not a JSON object")
    if not answered_by(endpoint.model_name, reply.get("model")):
        words = f"{endpoint.model_name} was asked and {str(reply['model'])[:100]!r} answered"
        raise TryAgainError(words, "wrong_model")
    return reply


def answered_by(asked: str, answered: Any) -> bool:
    """Whether a reply's ``model`` is the one asked for: the same name, or a dated snapshot of it.

    >>> answered_by("gpt-4o", "gpt-4o-2024-08-06"), answered_by("gpt-4o", "gpt-4o-mini")
    (True, False)
    """
    if answered is None or answered == asked:
        return True
    if not isinstance(answered, str):
        return False
    own, other = (name.rstrip("/").rpartition("/")[2].lower() for name in (asked, answered))
    return other == own or (other.startswith(own) and _SNAPSHOT.fullmatch(other[len(own) :]) is not None)


def _refused(error: RefusedError, endpoint: Endpoint) -> Unscored:
    """Tell a busy server, a denied one and a bad request apart."""
    words = without_secrets(str(error))
    if error.status in _DENIED:
        raise ServerError(f"{endpoint.shown} answers {error.status}; set EVALSUITE_API_KEY to its key") from error
    if error.status in _BUSY or error.status >= 500:
        raise TryAgainError(words) from error
    if any(phrase in words for phrase in _CONTEXT_WORDS):
        return Unscored("context_length", words)
    return Unscored("request_failed", words)


async def listens(endpoint: Endpoint) -> bool:
    """Whether anything answers at the endpoint at all."""
    return await _get(endpoint, f"{endpoint.base_url.rstrip('/')}/models") is not None


async def _get(endpoint: Endpoint, url: str) -> httpx.Response | None:
    try:
        async with httpx.AsyncClient(timeout=_PROBE_TIMEOUT_S) as probe:
            return await probe.get(url, headers=_authorization(endpoint.api_key))
    except (httpx.HTTPError, OSError):
        return None


def _authorization(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


async def tokens_so_far(endpoint: Endpoint) -> float | None:
    """Return how many tokens a vLLM has read and written; 0 where it does not tell, None where nothing answers."""
    reply = await _get(endpoint, endpoint.base_url.rstrip("/").removesuffix("/v1") + "/metrics")
    if reply is None:
        return None
    total = 0.0
    for line in reply.text.splitlines():
        if line.startswith(_TOKEN_COUNTERS):
            try:
                total += float(line.rpartition(" ")[2])
            except ValueError:
                continue
    return total


class Pulse:
    """Whether a server that owes answers still works: by its answers, and between them by its counters."""

    def __init__(self, stall_s: float = _STALL_S) -> None:
        self.stall_s = stall_s
        self.look_every_s = stall_s / 30
        self._waiting = 0
        self._last_sign = self._last_look = 0.0
        self._tokens: float | None = 0.0
        self._looking = asyncio.Lock()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count a question that waits for its answer; an idle server's silence is no sign of anything."""
        if self._waiting == 0:
            self.sign()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def sign(self) -> None:
        """Note a sign of life."""
        self._last_sign = time.monotonic()

    async def check(self, endpoint: Endpoint) -> None:
        """Raise when the server hangs: ServerError for one of ours, which is ended, TryAgainError for another's.

        One that tells no counts is never said to hang: its answers may just be long.
        """
        async with self._looking:
            if time.monotonic() - self._last_look >= self.look_every_s / 2:
                tokens = await tokens_so_far(endpoint)
                if tokens != self._tokens and tokens is not None:
                    self.sign()
                    self._tokens = tokens
                self._last_look = time.monotonic()
                if tokens == 0:
                    self.sign()
            silent_s = time.monotonic() - self._last_sign
            if silent_s < self.stall_s or (endpoint.end is None and not self._tokens):
                return
            words = f"{endpoint.shown} hangs: no token in {silent_s:.0f} s while {self._waiting} questions wait"
            if endpoint.end is None:
                raise TryAgainError(words, "timeout", unanswered=True)
            await asyncio.get_running_loop().run_in_executor(None, endpoint.end)
            raise ServerError(words)


def check_tokenizer(endpoint: Endpoint, tokenizer: Any, name: str) -> None:
    """Raise UsageError when a server splits a text otherwise than the checkpoint's tokenizer: its answers to our
    token ids would be finite, plausible and wrong.

    Asked of vLLM's ``/tokenize``; a server that does not answer it as vLLM does is believed.
    """
    url = endpoint.base_url.rstrip("/").removesuffix("/v1") + "/tokenize"
    asked = {"model": endpoint.model_name, "prompt": _PROBE_TEXT, "add_special_tokens": False}
    try:
        reply = httpx.post(url, json=asked, headers=_authorization(endpoint.api_key), timeout=_PROBE_TIMEOUT_S)
        theirs = reply.json()["tokens"] if reply.status_code == httpx.codes.OK else None
    except (httpx.HTTPError, ValueError, KeyError, TypeError, RecursionError):
        return
    if not isinstance(theirs, list) or not theirs or not all(type(token) is int for token in theirs):
        # Another server's idea of the path: it has not split our text.
        return
    if theirs != tokenizer.encode(_PROBE_TEXT, add_special_tokens=False):
        raise UsageError(
            f"{endpoint.shown} serves {endpoint.model_name} with another tokenizer than {name}'s; give the checkpoint "
            "that is served there, or NAME@URL to leave the tokenizer to the server"
        )


def check_endpoint(base_url: str, api_key: str, model_name: str | None) -> tuple[str, int | None]:
    """Ask a server that somebody else runs what it serves: (served name, context length or None).

    Raises ServerError when it does not answer; UsageError when it denies access or serves
    other names than ``model_name`` (None takes the only one it serves).
    """
    shown = without_secrets(base_url)
    try:
        reply = httpx.get(f"{base_url.rstrip('/')}/models", headers=_authorization(api_key), timeout=20)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise ServerError(
            f"{shown} does not answer ({without_secrets(str(error))}); is the server up, and does the URL end in /v1?"
        ) from error
    if reply.status_code in _DENIED:
        raise UsageError(f"{shown} answers {reply.status_code}; set EVALSUITE_API_KEY to its key")
    try:
        served = {str(model["id"]): model for model in reply.json()["data"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{shown}/models answers {reply.status_code} and no list of models; does the URL end in /v1?"
        ) from error
    if model_name is None and len(served) == 1:
        model_name = next(iter(served))
    if model_name not in served:
        raise UsageError(f"{unknown('model', str(model_name), served)} at {shown}")
    length = served[model_name].get("max_model_len")
    return model_name, length if isinstance(length, int) else None
