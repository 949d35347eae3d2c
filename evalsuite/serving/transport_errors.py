"""What can go wrong between this machine and a server; apart from the transport, whose libraries take a while to load.

TransportError
├── NoReplyError
├── StatusError
└── MalformedReplyError
"""

from __future__ import annotations

from collections.abc import Mapping

from evalsuite.redaction import without_secrets


class TransportError(Exception):
    """The server sent no usable reply; the message holds no secrets."""

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))


class NoReplyError(TransportError):
    """The server sent no complete HTTP reply; ``late`` if it timed out."""

    def __init__(self, message: str, *, late: bool = False) -> None:
        super().__init__(message)
        self.late = late


class StatusError(TransportError):
    """The server replied with a status other than 2xx."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers: Mapping[str, str] = headers or {}


class MalformedReplyError(TransportError):
    """The body is too large, or not JSON where JSON is expected."""
