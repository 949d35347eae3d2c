"""How fast and how much one external server may be asked: its rate limits, and what a run may spend there."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from evalsuite.errors import BusyError, EvalsuiteError

PATIENCE_S = 600.0
_DURATION = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(ms|s|m|h|d)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EPOCH_S = 1e9
_FIRST_INTERVAL_S, _MAX_INTERVAL_S = 0.1, 10.0
"""Between two requests after a server has asked to wait."""
_CHARACTERS_PER_TOKEN = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """What a user allows at one server: requests per minute, seconds of patience, requests and tokens of a run."""

    requests_per_minute: float | None = None
    patience_s: float = PATIENCE_S
    max_requests: int | None = None
    max_tokens_total: int | None = None


class Pace:
    """Spaces the requests to one server, waits as long as it says, and keeps within the limits of a run."""

    def __init__(self, limits: Limits, note: Callable[[str], None]) -> None:
        import asyncio

        self._limits = limits
        self._note = note
        self._next_at = self._held_until = self._interval_s = 0.0
        self._requests = self._tokens = self._reserved = self._sending = 0
        self._refusal: EvalsuiteError | None = None
        self._freed = asyncio.Event()
        self._turn = asyncio.Lock()

    def hold(self, wait_s: float | None) -> None:
        """Send nothing for ``wait_s`` seconds, if the server asks for it, and more slowly after that."""
        if not wait_s:
            return
        until = time.monotonic() + wait_s
        if until > self._held_until + 1.0:
            self._note(f"rate limited, waiting {wait_s:.0f} s")
            self._interval_s = min(max(2 * self._interval_s, _FIRST_INTERVAL_S), _MAX_INTERVAL_S)
        self._held_until = max(self._held_until, until)

    def answered(self) -> None:
        """Send faster again, little by little."""
        self._interval_s = self._interval_s * 0.95 if self._interval_s > _FIRST_INTERVAL_S / 10 else 0.0

    async def wait(self) -> None:
        """Wait until a request may be sent."""
        import asyncio

        rate = self._limits.requests_per_minute
        # Each interval starts when the last request was really sent, so a pause of this process causes no burst.
        async with self._turn:
            while True:
                left_s = max(self._next_at, self._held_until) - time.monotonic()
                if left_s <= 0:
                    break
                await asyncio.sleep(left_s)
            interval_s = max(self._interval_s, 60.0 / rate if rate is not None else 0.0)
            self._next_at = time.monotonic() + interval_s

    async def refused(self, error: EvalsuiteError) -> None:
        """Send nothing more, and wait for the answers in flight: they are paid for, and the error ends their tasks."""
        if self._refusal is None and self._sending:
            self._note(f"the server takes no more questions: waiting for {self._sending} answers in flight")
        self._refusal = self._refusal or error
        while self._sending:
            self._freed.clear()
            await self._freed.wait()

    @asynccontextmanager
    async def spending(self, body: Mapping[str, Any]) -> AsyncIterator[Callable[[int], None]]:
        """Reserve a request and its tokens; yields a function to be told how many it took.

        Raises BusyError where the run's limits do not allow it, or what ``refused`` was told, once all requests before
        it are answered and stored.
        """
        need = _tokens_of(body)
        while not self._allows(need):
            if not self._sending:
                raise self._refusal or BusyError(
                    f"{self._reached(need)}; finished answers are kept, run again with a larger one"
                )
            self._freed.clear()
            await self._freed.wait()
        self._requests += 1
        self._sending += 1
        self._reserved += need

        def spent(tokens: int) -> None:
            self._tokens += tokens

        try:
            yield spent
        finally:
            self._sending -= 1
            self._reserved -= need
            # Waiters run when this request's answer is stored: until then its task does not pause.
            self._freed.set()

    def _allows(self, need: int) -> bool:
        limits = self._limits
        if self._refusal or (limits.max_requests is not None and self._requests >= limits.max_requests):
            return False
        return limits.max_tokens_total is None or self._tokens + self._reserved + need <= limits.max_tokens_total

    def _reached(self, need: int) -> str:
        limits = self._limits
        if limits.max_requests is not None and self._requests >= limits.max_requests:
            return f"the limit of {limits.max_requests:,} requests (--max-requests) is reached"
        spent = f"{self._tokens:,} are spent and the next request may take {need:,}"
        return f"the limit of {limits.max_tokens_total:,} tokens (--max-tokens-total) is reached: {spent}"


def _tokens_of(body: Mapping[str, Any]) -> int:
    """Return how many tokens a request may take: its answer's limit and an estimate of its prompt."""
    characters = sum(len(str(message.get("content", ""))) for message in body.get("messages", ()))
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or 0
    return int(limit) + len(body.get("prompt", ())) + characters // _CHARACTERS_PER_TOKEN


def wait_of(headers: Mapping[str, str], *, refused: bool) -> float | None:
    """Return the seconds that a reply's headers ask to wait, None if they do not.

    ``Retry-After`` (seconds or a date) counts in a refusal; a rate limit of which nothing remains counts in any reply,
    until its reset: ``x-ratelimit-remaining-requests`` and ``-reset-requests``, as OpenAI, Azure and Groq write them.
    """
    if refused:
        if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
            return milliseconds / 1000
        if (after := headers.get("retry-after")) is not None and (seconds := _seconds(after)) is not None:
            return seconds
    waits = []
    for prefix in ("x-ratelimit-", "ratelimit-"):
        for kind in ("", "-requests", "-tokens"):
            remaining, reset = (headers.get(f"{prefix}{word}{kind}", "") for word in ("remaining", "reset"))
            if _number(remaining) == 0 and (wait_s := _seconds(reset)) is not None:
                waits.append(wait_s)
    return max(waits, default=None)


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\d{1,15}(?:\.\d{1,9})?", text.strip()) else None


def _seconds(text: str) -> float | None:
    """Return seconds from now: of a number, a time of day, "6m0s" or a date."""
    text = text.strip()
    if (number := _number(text)) is not None:
        return number if number < _EPOCH_S else max(0.0, number - time.time())
    if (parts := _DURATION.findall(text)) and "".join(f"{amount}{unit}" for amount, unit in parts) == text:
        return sum(float(amount) * _UNITS_S[unit] for amount, unit in parts)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
