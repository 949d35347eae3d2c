"""Redaction of secrets from everything that is written or shown: credentials in URLs and known API keys."""

from __future__ import annotations

import os
import re
from typing import Any

from evalsuite.text import mapped

SECRET_VARIABLES = (
    "EVALSUITE_API_KEY",
    "OPENAI_API_KEY",
    "VLLM_API_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "ANTHROPIC_API_KEY",
)
"""Environment variables whose values are keys."""

_named: list[str] = []
"""Variables that the user has named as keys."""

_USER_INFO = re.compile(r"(?<=://)[^/\s\"'<>]*@")
_QUERY_KEY = re.compile(r"(?i)(?<=[?&])((?:api[-_]?key|key|token|access_token|secret|password)=)[^&#\s\"']+")
_KEY_VARIABLE = re.compile(r"(?i)(?:key|token|secret|password)$")
_KEY = re.compile(r"(?<![A-Za-z0-9])(?:sk-|hf_|ghp_|xox[bp]-)[A-Za-z0-9_-]{8,}|(?<=Bearer )[^\s\"']+")
_MIN_KEY_LENGTH = 6
"""A shorter value is not a key, and redacting it would garble ordinary text."""


def keep_secret(variable: str) -> None:
    """Treat the value of an environment variable as a key from now on."""
    if variable not in (*SECRET_VARIABLES, *_named):
        _named.append(variable)


def without_secrets(text: str) -> str:
    """Return ``text`` without credentials and keys in URLs and without the values of ``SECRET_VARIABLES`` and of
    those that the user has named (:func:`keep_secret`).

    >>> without_secrets("judge@https://me:pass@host/v1?api_key=abc")
    'judge@https://host/v1?api_key=***'
    """
    for name in (*SECRET_VARIABLES, *_named):
        value = os.environ.get(name, "").strip()
        if len(value) >= _MIN_KEY_LENGTH:
            text = text.replace(value, "***")
    return _QUERY_KEY.sub(r"\1***", _USER_INFO.sub("", text))


def without_any_key(text: str) -> str:
    """Return ``text`` also without what looks like a key and without the value of any variable named like one."""
    for name, value in os.environ.items():
        if _KEY_VARIABLE.search(name) and len(value) >= _MIN_KEY_LENGTH:
            text = text.replace(value, "***")
    return without_secrets(_KEY.sub("***", text))


def scrubbed(document: object) -> Any:
    """Return a JSON-ready document with :func:`without_secrets` applied to every string in it."""
    return mapped(document, without_secrets)
