"""What decides whether two models' figures of a suite answer the same question: its data and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_MIXEVAL = ("as_published", "mixeval_parser", "mixeval_version")
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "mt_bench": ("as_published",),
    "alpaca_eval": ("as_published",),
    "openllm": ("chat_template_on_openllm", "fewshot_as_multiturn", "limit_fraction"),
    "mixeval": _MIXEVAL,
    "mixeval_hard": _MIXEVAL,
}
"""The options of each suite that change its figures; data and limit are told apart for all suites at once."""

_WORDS: Mapping[str, str] = {
    "as_published": "as published",
    "mixeval_parser": "parser",
    "mixeval_version": "version",
    "chat_template_on_openllm": "chat template",
    "fewshot_as_multiturn": "few-shot as turns",
    "limit_fraction": "share of each task",
}
_OF_PARTS = frozenset({"openllm"})
"""Suites whose data are one pin a part, so that other names are other parts and not other data."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is known of how figures came about; what nobody recorded contradicts nothing.

    ``settings`` maps (suite, option) to its value, ``pins`` a suite to its assets' SHA-256 by name.
    """

    settings: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    pins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def fits(self, other: Protocol) -> bool:
        """Whether nothing that both know of a suite differs."""
        return not self.differing(other) and self.same_data(other)

    def differing(self, other: Protocol) -> list[tuple[str, str]]:
        """Return the settings that both know and that differ."""
        return [key for key, value in self.settings.items() if other.settings.get(key, value) != value]

    def same_data(self, other: Protocol) -> bool:
        """Whether no suite was asked on other data: other content, or each with assets that the other lacks."""
        return all(_same(suite, pins, other.pins.get(suite) or {}) for suite, pins in self.pins.items())

    def joined(self, other: Protocol) -> Protocol:
        """Return what is known of both together."""
        pins = {
            suite: {**self.pins.get(suite, {}), **other.pins.get(suite, {})} for suite in {**self.pins, **other.pins}
        }
        return Protocol({**self.settings, **other.settings}, pins)

    def words(self, key: tuple[str, str]) -> str:
        """Say one setting: ``mixeval parser rule``."""
        value = self.settings[key]
        if key[1] == "limit_fraction" and not value:
            return f"{key[0]} a whole number of each task"
        said = ("yes" if value else "no") if isinstance(value, bool) else value
        return f"{key[0]} {_WORDS[key[1]]} {said}"


def protocol_of(suites: Mapping[str, Any], manifest: Mapping[str, Any]) -> Protocol:
    """Read a model's protocol from its figures (which name MixEval's parser) and its manifest."""
    recorded: Mapping[str, Any] = manifest.get("suites") or {}
    pins = {suite: _pins(entry or {}) for suite, entry in recorded.items()}
    settings: dict[tuple[str, str], Any] = {}
    for suite, names in SETTINGS.items():
        if suite not in suites:
            continue
        entry = recorded.get(suite) or {}
        options, applied = entry.get("options"), entry.get("applied")
        # What was asked, and over it what came of it: a base model has no chat template to apply.
        asked = dict(options) if isinstance(options, Mapping) else {}
        own = _settings(suite, asked | (dict(applied) if isinstance(applied, Mapping) else {}), suites[suite])
        settings |= {(suite, name): own[name] for name in names if own.get(name) is not None}
    return Protocol(settings, {suite: own for suite, own in pins.items() if own})


def _settings(suite: str, options: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, Any]:
    own = dict(options)
    if suite in ("mixeval", "mixeval_hard"):
        own["mixeval_parser"] = scores.get("parser") or own.get("mixeval_parser")
    if suite == "openllm" and options:
        # A run bounds by whole numbers; without a template there are no turns.
        own.setdefault("limit_fraction", 0)
        if own.get("chat_template_on_openllm") is False:
            own["fewshot_as_multiturn"] = False
    return {name: value for name, value in own.items() if isinstance(value, str | int | float)}


def _pins(entry: Mapping[str, Any]) -> dict[str, str]:
    pins = entry.get("data_pins") or {}
    return {
        name: pin["sha256"]
        for name, pin in pins.items()
        if isinstance(pin, Mapping) and isinstance(pin.get("sha256"), str)
    }


def _same(suite: str, one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    if any(other.get(name, sha256) != sha256 for name, sha256 in one.items()):
        return False
    return not other or suite in _OF_PARTS or one.keys() <= other.keys() or other.keys() <= one.keys()
