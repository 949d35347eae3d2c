"""Several servers of one model behind one client: the questions of a conversation stay on one of them.

A context (the beginning of a prompt) goes where it was asked first, whose prefix cache has it. A new one goes to its
rendezvous choice (Thaler and Ravishankar, 1998), unless that server is much busier than the others. A server that is
gone is left out, and retried every half minute; its questions ask the next.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evalsuite.errors import ServerError
from evalsuite.serving.connection import Connection, Usage
from evalsuite.serving.known_servers import Known
from evalsuite.serving.replies import Reader
from evalsuite.serving.told import Told
from evalsuite.serving.wire import Endpoint, RetryableError, is_reachable
from judges.types import Unscored

_HEAD = 512
"""Tokens or messages of a prompt that name its context."""
_CONTEXTS = 100_000
_MUCH_BUSIER = 1.25
_LOOK_AGAIN_S = 30.0


@dataclass(slots=True)
class _Replica:
    number: int
    endpoint: Endpoint
    connection: Connection
    busy: int = 0
    answered: int = 0
    gone_until: float | None = None


class Spread:
    """Used where a client has its ``Connection``."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.usage = Usage()
        self._replicas = [_Replica(number, endpoint, Connection(endpoint)) for number, endpoint in enumerate(endpoints)]
        for replica in self._replicas:
            replica.connection.usage = self.usage
        self._homes: OrderedDict[bytes, _Replica] = OrderedDict()

    @property
    def told(self) -> Told | None:
        return next((each.connection.told for each in self._replicas if each.connection.told is not None), None)

    def document(self) -> dict[str, Any]:
        """Return what the manifest keeps of the servers: what one told, and how many answers each gave."""
        document = next((told for each in self._replicas if (told := each.connection.document())), {})
        counts = {each.endpoint.display_url: each.answered for each in self._replicas}
        return {"server": {**document["server"], "endpoints": counts}} if document else {}

    def learned(self) -> dict[str, Known]:
        return {server: known for each in self._replicas for server, known in each.connection.learned().items()}

    async def look_for_drift(self) -> None:
        await asyncio.gather(*(each.connection.look_for_drift() for each in self._replicas))

    def reconnect(self) -> None:
        for replica in self._replicas:
            replica.connection.reconnect()

    async def close(self) -> None:
        for replica in self._replicas:
            await replica.connection.close()

    async def ask(self, path: str, body: dict[str, Any], read: Reader, depth: int = 0) -> dict[str, Any] | Unscored:
        """Send one request and read the reply; raises ServerError when no server is left."""
        return await self._asked(body, lambda connection: connection.ask(path, body, read, depth))

    async def exchange(self, path: str, body: dict[str, Any], depth: int = 0) -> dict[str, Any] | Unscored:
        """Send one request with retries; raises the last RetryableError, and ServerError when no server is left."""
        return await self._asked(body, lambda connection: connection.exchange(path, body, depth))

    async def require_answers(self, error: RetryableError) -> None:
        """Raise ServerError if no server answers."""
        if not any([await is_reachable(each.endpoint) for each in self._replicas]):
            raise ServerError(f"none of the {len(self._replicas)} servers answers ({error})") from error

    async def _asked(
        self, body: dict[str, Any], ask: Callable[[Connection], Awaitable[dict[str, Any] | Unscored]]
    ) -> dict[str, Any] | Unscored:
        while True:
            replica = self._chosen(body, await self._reachable())
            replica.busy += 1
            try:
                reply = await ask(replica.connection)
            except ServerError as error:
                if replica.gone_until is None:
                    replica.endpoint.note(f"{replica.endpoint.display_url} is left out for now: {error}")
                replica.gone_until = time.monotonic() + _LOOK_AGAIN_S
                if all(each.gone_until is not None for each in self._replicas):
                    raise
            else:
                replica.answered += 1
                return reply
            finally:
                replica.busy -= 1

    async def _reachable(self) -> list[_Replica]:
        """Return the servers that are not left out; one whose time has come is tried again."""
        for replica in self._replicas:
            if replica.gone_until is not None and time.monotonic() >= replica.gone_until:
                replica.gone_until = time.monotonic() + _LOOK_AGAIN_S
                if await is_reachable(replica.endpoint):
                    replica.gone_until = None
                    replica.endpoint.note(f"{replica.endpoint.display_url} answers again")
        return [each for each in self._replicas if each.gone_until is None] or self._replicas

    def _chosen(self, body: dict[str, Any], there: Sequence[_Replica]) -> _Replica:
        key = _context(body)
        home = self._homes.get(key)
        if home not in there or home is None:
            most = _MUCH_BUSIER * (sum(each.busy for each in there) + 1) / len(there) + 1
            home = min(there, key=lambda each: (each.busy >= most, _digest(b"%d" % each.number + key)))
        self._homes[key] = home
        self._homes.move_to_end(key)
        if len(self._homes) > _CONTEXTS:
            self._homes.popitem(last=False)
        return home


def _context(body: dict[str, Any]) -> bytes:
    """Return what the questions of one conversation have in common: all up to its first user turn."""
    messages = body.get("messages") or []
    first = next((number for number, message in enumerate(messages) if message.get("role") == "user"), 0)
    head = body.get("context") or body.get("prompt") or [message.get("content") for message in messages[: first + 1]]
    return _digest(repr(head[:_HEAD]).encode())


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=12).digest()
