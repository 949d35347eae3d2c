"""What decides whether two models' figures of a suite answer the same question: its data and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evalsuite.results.folder import entry_of
from evalsuite.results.reading import ModelResult
from evalsuite.suites.registry import iter_suites, suite_of_key


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is known of how figures were made; an unrecorded setting contradicts nothing.

    ``settings`` maps (key in scores.json, setting) to its value, ``pins`` a key to its assets' SHA-256 by name.
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
        return all(_same(key, pins, other.pins.get(key) or {}) for key, pins in self.pins.items())

    def joined(self, other: Protocol) -> Protocol:
        """Return what is known of both together."""
        pins = {key: {**self.pins.get(key, {}), **other.pins.get(key, {})} for key in {**self.pins, **other.pins}}
        return Protocol({**self.settings, **other.settings}, pins)

    def setting_text(self, setting: tuple[str, str]) -> str:
        """Describe one setting: ``mixeval parser rule``."""
        key, name = setting
        suite, value = suite_of_key(key), self.settings[setting]
        if name == "sample":
            return f"{key} a sample of {value}" if value else f"{key} without sampling"
        return f"{key} {name} {value}" if suite is None else f"{key} {suite.protocol_text(name, value)}"


def protocol_of(model: ModelResult) -> Protocol:
    """Read a model's protocol from its manifest, and from figures that name their settings."""
    pins = {
        key: {name: pin.sha256 for name, pin in entry.data_pins.items() if pin.sha256 is not None}
        for key, entry in model.manifest.suites.items()
    }
    settings: dict[tuple[str, str], Any] = {}
    policy = _thinking_policy(model)
    for key, suite in iter_suites(list(model.suites)):
        entry = entry_of(model.manifest, key)
        # What was asked, and over it what came of it: a base model has no chat template to apply.
        known = suite.protocol({**entry.options, **entry.applied}, model.suites[key])
        settings |= {(key, name): value for name, value in known.items() if value is not None}
        if entry.options:
            # Whole sets, and those of versions that knew no samples, say so by an empty text.
            n, seed = entry.options.get("sample"), entry.options.get("sample_seed", 0)
            settings[key, "sample"] = f"{n} items, seed {seed}" if n else ""
        settings |= {(key, name): value for name, value in policy.items()}
    return Protocol(settings, {key: by_asset for key, by_asset in pins.items() if by_asset})


def _thinking_policy(model: ModelResult) -> dict[str, str | int]:
    """Return what was asked of how a model thinks; unknown of older and imported results.

    Models rank together by policy, so one that thinks and one that does not may be in one table.
    """
    reasoning = model.scores.reasoning or {}
    names = {"thinking": "thinking", "budget": "thinking budget", "sampling": "sampling"}
    names["max_answer_tokens"] = "answer tokens"
    return {title: reasoning[name] for name, title in names.items() if isinstance(reasoning.get(name), str | int)}


def _same(key: str, one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    if any(other.get(name, sha256) != sha256 for name, sha256 in one.items()):
        return False
    suite = suite_of_key(key)
    by_part = suite is not None and suite.pins_by_part
    return not other or by_part or one.keys() <= other.keys() or other.keys() <= one.keys()
