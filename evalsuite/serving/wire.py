"""One request and its failures: temporary ones, those that end the run, and those of one item.

A reply must be JSON, from the requested model, and in time. Whether a silent server hangs is determined
from vLLM's token counters at ``/metrics``: if they do not change while requests are pending, it hangs.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from evalsuite.errors import BusyError, DeniedError, ServerError, UsageError, first_line, unknown
from evalsuite.redaction import without_secrets
from evalsuite.serving.dialect import refused_fields, words_of
from evalsuite.serving.known_servers import Known
from evalsuite.serving.pace import Limits, wait_of
from evalsuite.serving.transport_errors import MalformedReplyError, NoReplyError, StatusError, TransportError
from evalsuite.text import plural
from judges.types import Unscored

if TYPE_CHECKING:
    from evalsuite.serving.transport import Transport

_SAME = ("root", "max_model_len")
"""What all servers of one model must report the same way."""
_BUSY = frozenset({408, 409, 425, 429, 503, 504})
_DENIED = frozenset({401, 403})
_PAYMENT_REQUIRED, _FORBIDDEN, _TOO_MANY = 402, 403, 429
_GATEWAY_TIMEOUTS = frozenset({408, 504, 524})
_GATEWAY_PATIENCE_S = 25.0
"""Gateways cut connections that are silent for 30 seconds or longer."""
_MAX_WORDS = 4000
_FILTERED = re.compile(
    r"(?i)content[ _-]?filter|content management policy|content_policy|ResponsibleAIPolicy|safety system"
)
_CONTEXT_PHRASES = (
    "maximum context length",
    "max_model_len",
    "context length",
    "maximum model length",
    "context_length_exceeded",
)
_STALL_S = 900.0
"""Time without any token while requests are pending; the longest prefill of one batch on a CPU takes minutes."""
_PROBE_TIMEOUT_S = 10.0
_MODELS_TIMEOUT_S = 20.0
_OPENAI_HOST = "api.openai.com"
_PROBE_TEXT = "The quick (brown) fox, 12345 times: na\u00efve \u6771\u4eac \U0001f600\n\tdef f(x): return x**2  # "
"""Words, digits, punctuation, code, other scripts: tokenizers that split all of it equally are considered equal."""
_SNAPSHOT = re.compile(r"[-@:]v?\d[\d.-]*")
_TOKEN_COUNTERS = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")


class RetryableError(Exception):
    """A failure that may be temporary; ``reason`` is the item's reason if it is not.

    ``unanswered`` says that the server did not reply at all, ``is_rate_limit`` that it will later, after ``wait_s``
    seconds if it says when, and ``too_silent`` that a gateway gave up waiting.
    """

    def __init__(
        self,
        message: str,
        reason: str = "request_failed",
        *,
        unanswered: bool = False,
        is_rate_limit: bool = False,
        too_silent: bool = False,
        wait_s: float | None = None,
    ) -> None:
        super().__init__(without_secrets(message))
        self.reason = reason
        self.unanswered = unanswered
        self.is_rate_limit = is_rate_limit
        self.too_silent = too_silent
        self.wait_s = wait_s


class RefusedError(Exception):
    """A request that the server does not take as it is; ``status`` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(without_secrets(message))
        self.status = status

    def unscored(self) -> Unscored:
        """Return the item's reason if nothing can be asked differently."""
        message = str(self)
        if any(phrase in message for phrase in _CONTEXT_PHRASES):
            return Unscored("context_length", message)
        return Unscored("content_filter" if _FILTERED.search(message) else "request_failed", message)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The URL, key and model name of a running server, and its diagnosis if it dies.

    ``diagnose`` returns why the server is dead, or None while it is alive. ``end`` stops a managed
    server that hangs, and is None for an external one. ``takes_priority`` says that the server supports
    ``priority``, which vLLM rejects unless started with priority scheduling. ``answered`` gets how many tokens each
    reply has generated. Of an external one, ``limits`` are the user's, ``extra_body`` is sent with every question,
    ``note`` shows a line to the user, and ``known`` is what earlier runs learned.
    """

    base_url: str
    api_key: str
    model_name: str
    diagnose: Callable[[], str | None] = lambda: None
    end: Callable[[], None] | None = None
    takes_priority: bool = False
    answered: Callable[[int], None] = lambda _: None
    limits: Limits = field(default_factory=Limits)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    note: Callable[[str], None] = lambda _: None
    known: Known = field(default_factory=Known)

    @property
    def is_managed(self) -> bool:
        """Whether this process started the server and can stop it."""
        return self.end is not None

    @property
    def display_url(self) -> str:
        return without_secrets(self.base_url)


async def post(
    transport: Transport, endpoint: Endpoint, path: str, body: Mapping[str, Any]
) -> dict[str, Any] | Unscored:
    """Send one request once.

    Raises RetryableError for a temporary failure, RefusedError for a request that the server does not take, BusyError
    for a quota that is used up, and ServerError for a dead server or denied access.
    """
    began = time.monotonic()
    try:
        reply = await transport.send(path, {"model": endpoint.model_name, **body})
    except NoReplyError as error:
        if (cause := endpoint.diagnose()) is not None:
            raise ServerError(cause) from error
        reason = "timeout" if error.late else "request_failed"
        too_silent = not error.late and time.monotonic() - began > _GATEWAY_PATIENCE_S
        raise RetryableError(str(error), reason, unanswered=True, too_silent=too_silent) from error
    except StatusError as error:
        raise _failure(error, endpoint, body) from error
    except MalformedReplyError as error:
        raise RetryableError(str(error), "malformed_reply") from error
    if not isinstance(reply, dict):
        return Unscored("malformed_reply", "the reply is not a JSON object")
    if reply.get("error") and not reply.get("choices"):
        said = StatusError(_status_in(reply), f"Error in a reply: {json.dumps(reply)[:_MAX_WORDS]}")
        raise _failure(said, endpoint, body)
    return reply


def _status_in(reply: Mapping[str, Any]) -> int:
    """Return the status that an error in a reply of status 200 means; without one, that of a server in trouble."""
    error = reply["error"]
    code = error.get("code") if isinstance(error, Mapping) else None
    code = error.get("status") if not isinstance(code, int) and isinstance(error, Mapping) else code
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def is_same_model(requested: str, replied: Any) -> bool:
    """Return whether a reply's ``model`` is the requested one: the same name, or a dated snapshot of it.

    >>> is_same_model("gpt-4o", "gpt-4o-2024-08-06"), is_same_model("gpt-4o", "gpt-4o-mini")
    (True, False)
    """
    if replied is None or replied == requested:
        return True
    if not isinstance(replied, str):
        return False
    name, other = (each.rstrip("/").rpartition("/")[2].lower() for each in (requested, replied))
    return other == name or (other.startswith(name) and _SNAPSHOT.fullmatch(other[len(name) :]) is not None)


def _denied(url: str, status: int, key: str, words: str = "") -> str:
    said = f" ({words})" if words else ""
    reason = "it does not accept the key that was sent" if key else "it needs a key"
    return (
        f"{url} returned {status}{said}: {reason}; set EVALSUITE_API_KEY to its key, or name another variable with "
        "--api-key-env (--judge-api-key-env for a judge)"
    )


def _failure(error: StatusError, endpoint: Endpoint, body: Mapping[str, Any]) -> Exception:
    """Distinguish a busy server, a used up quota, denied access and a request that is not taken."""
    message = without_secrets(str(error))
    if error.status == _PAYMENT_REQUIRED or "insufficient_quota" in message:
        words = words_of(message)
        return BusyError(f"{endpoint.display_url}: {words}; run again later, finished answers are kept")
    if error.status in _DENIED and not (error.status == _FORBIDDEN and refused_fields(message, body)):
        if error.status == _FORBIDDEN and _FILTERED.search(message):
            return RefusedError(message, error.status)
        return DeniedError(_denied(endpoint.display_url, error.status, endpoint.api_key, words_of(message)))
    if error.status in _BUSY or error.status >= 500:
        wait_s = wait_of(error.headers, refused=True)
        is_rate_limit = error.status == _TOO_MANY or (wait_s is not None and error.status in _BUSY)
        too_silent = error.status in _GATEWAY_TIMEOUTS
        return RetryableError(message, is_rate_limit=is_rate_limit, too_silent=too_silent, wait_s=wait_s)
    return RefusedError(message, error.status)


async def is_reachable(endpoint: Endpoint) -> bool:
    return await _get(endpoint, f"{endpoint.base_url.rstrip('/')}/models") is not None


async def _get(endpoint: Endpoint, url: str) -> bytes | None:
    """Return the body of a reply, empty for an error status; None without a reply."""
    from evalsuite.serving.transport import fetch

    try:
        return await fetch(url, endpoint.api_key, is_managed=endpoint.is_managed, timeout_s=_PROBE_TIMEOUT_S)
    except NoReplyError:
        return None
    except TransportError:
        return b""


async def processed_tokens(endpoint: Endpoint) -> float | None:
    """Return the number of tokens vLLM has processed; 0 if it does not report them, None without a response."""
    reply = await _get(endpoint, endpoint.base_url.rstrip("/").removesuffix("/v1") + "/metrics")
    if reply is None:
        return None
    total = 0.0
    for line in reply.decode(errors="replace").splitlines():
        if line.startswith(_TOKEN_COUNTERS):
            try:
                total += float(line.rpartition(" ")[2])
            except ValueError:
                continue
    return total


class StallDetector:
    """Detects a server that hangs, by its replies and, between them, by its token counters."""

    def __init__(self, stall_s: float = _STALL_S) -> None:
        self.stall_s = stall_s
        self.check_every_s = stall_s / 30
        self._pending = 0
        self._last_progress = self._last_check = 0.0
        self._tokens: float | None = 0.0
        self._lock = asyncio.Lock()

    @contextmanager
    def pending(self) -> Iterator[None]:
        """Count a pending request; an idle server is never considered to hang."""
        if self._pending == 0:
            self.record_progress()
        self._pending += 1
        try:
            yield
        finally:
            self._pending -= 1

    def record_progress(self) -> None:
        self._last_progress = time.monotonic()

    async def check(self, endpoint: Endpoint) -> None:
        """Raise if the server hangs: ServerError for a managed one, which is stopped, else RetryableError.

        An external server without counters is never considered to hang: its answers may just be long.
        """
        async with self._lock:
            if time.monotonic() - self._last_check >= self.check_every_s / 2:
                tokens = await processed_tokens(endpoint)
                if tokens != self._tokens and tokens is not None:
                    self.record_progress()
                    self._tokens = tokens
                self._last_check = time.monotonic()
                if tokens == 0:
                    self.record_progress()
            silent_s = time.monotonic() - self._last_progress
            if silent_s < self.stall_s or (endpoint.end is None and not self._tokens):
                return
            silence = f"no token for {silent_s:.0f} s with {plural(self._pending, 'request')} pending"
            message = f"{endpoint.display_url} hangs: {silence}"
            if endpoint.end is None:
                raise RetryableError(message, "timeout", unanswered=True)
            await asyncio.get_running_loop().run_in_executor(None, endpoint.end)
            raise ServerError(message)


def check_tokenizer(endpoint: Endpoint, tokenizer: Any, name: str) -> None:
    """Raise UsageError if a server tokenises a text differently from the checkpoint's tokenizer.

    Its answers to token ids would be finite, plausible and wrong. Uses vLLM's ``/tokenize``; other servers
    are not checked.
    """
    from evalsuite.serving.transport import fetch_blocking

    url = endpoint.base_url.rstrip("/").removesuffix("/v1") + "/tokenize"
    request = {"model": endpoint.model_name, "prompt": _PROBE_TEXT, "add_special_tokens": False}
    try:
        reply = fetch_blocking(
            url, endpoint.api_key, request, is_managed=endpoint.is_managed, timeout_s=_PROBE_TIMEOUT_S
        )
        theirs = json.loads(reply)["tokens"]
    except (TransportError, ValueError, KeyError, TypeError, RecursionError):
        return
    if not isinstance(theirs, list) or not theirs or not all(type(token) is int for token in theirs):
        # Not vLLM: the path means something else.
        return
    if theirs != tokenizer.encode(_PROBE_TEXT, add_special_tokens=False):
        raise UsageError(
            f"{endpoint.display_url} serves {endpoint.model_name} with a different tokenizer from {name}'s; give the "
            "checkpoint that is served there, NAME@URL to use the server's tokenizer, or let evalsuite start the server"
        )


def api_key(url: str, variable: str | None = None) -> str:
    """Return the key for an external server: the value of ``variable`` if the user has named one for it.

    Otherwise OPENAI_API_KEY for OpenAI's own host alone, and EVALSUITE_API_KEY for others; OpenAI's host also gets
    EVALSUITE_API_KEY if the other is not set. Empty without a key.
    """
    parts = urlsplit(url)
    is_openai = parts.scheme == "https" and f".{parts.hostname}".endswith(f".{_OPENAI_HOST}")
    names = ("OPENAI_API_KEY", "EVALSUITE_API_KEY") if is_openai else ("EVALSUITE_API_KEY",)
    return next(filter(None, (os.environ.get(name, "").strip() for name in ((variable,) if variable else names))), "")


def urls_of(base_url: str) -> list[str]:
    """Return the URLs of a text with one, or with several between commas."""
    return [url.strip() for url in base_url.split(",") if url.strip()]


def listed_models(base_url: str, key_variable: str | None = None) -> dict[str, dict[str, Any]]:
    """Return the entries of ``/models`` by name; raises ServerError or UsageError as :func:`check_endpoint`.

    Of several servers the models that all have; one that does not answer is left out. Raises UsageError where they
    serve different ones.
    """
    listed: dict[str, dict[str, dict[str, Any]]] = {}
    silent: ServerError | None = None
    for url in urls_of(base_url):
        try:
            listed[without_secrets(url)] = _listed_models(url, key_variable)
        except ServerError as error:
            silent = error
    if silent is not None and not listed:
        raise silent
    (first, models), *others = listed.items()
    for url, theirs in others:
        both = models.keys() & theirs.keys()
        if not both:
            raise UsageError(
                f"{first} serves {', '.join(models)}, and {url} {', '.join(theirs)}; give servers of one model"
            )
        for name, key in (
            (name, key) for name in both for key in _SAME if models[name].get(key) != theirs[name].get(key)
        ):
            raise UsageError(
                f"{name} has another {key} at {url} ({theirs[name].get(key)}) than at {first} "
                f"({models[name].get(key)}); give servers of one model"
            )
        models = {name: models[name] for name in models if name in both}
    return models


def _listed_models(base_url: str, key_variable: str | None) -> dict[str, dict[str, Any]]:
    from evalsuite.serving.transport import fetch_blocking

    url, key = without_secrets(base_url), api_key(base_url, key_variable)
    try:
        reply = fetch_blocking(f"{base_url.rstrip('/')}/models", key, is_managed=False, timeout_s=_MODELS_TIMEOUT_S)
        return {str(model["id"]): model for model in json.loads(reply)["data"]}
    except NoReplyError as error:
        raise ServerError(
            f"no response from {url} ({error}); is the server up, and does the URL end in /v1?"
        ) from error
    except StatusError as error:
        if error.status in _DENIED:
            raise UsageError(_denied(url, error.status, key)) from error
        raise UsageError(
            f"{url}/models returned no list of models ({first_line(error)}); does the URL end in /v1?"
        ) from error
    except (MalformedReplyError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{url}/models returned no list of models; does the URL end in /v1?") from error


def check_endpoint(base_url: str, model_name: str | None, key_variable: str | None = None) -> tuple[str, int | None]:
    """Return what an external server serves: (model name, context length or None).

    Raises ServerError if it does not respond, and UsageError if it denies access or does not serve
    ``model_name`` (None: the only model it serves).
    """
    url, served = without_secrets(base_url), listed_models(base_url, key_variable)
    if model_name is None and len(served) == 1:
        model_name = next(iter(served))
    if model_name not in served:
        raise UsageError(f"{unknown('model', str(model_name), served)} at {url}")
    length = served[model_name].get("max_model_len")
    return model_name, length if type(length) is int and length > 0 else None
