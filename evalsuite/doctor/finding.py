"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    ``about`` is the model, suite or folder that was checked. A ``fault`` stops a run or makes its figures wrong; a
    ``warning`` may be intended. ``remedy`` is empty where nothing is wrong.
    """

    check: str
    about: str
    level: Level
    message: str
    remedy: str = ""

    @property
    def sentence(self) -> str:
        """The finding as one sentence: what was checked, the result, the remedy."""
        return f"{self.about}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")


def ok(check: str, about: str, message: str) -> Finding:
    return Finding(check, about, "ok", message)


def warning(check: str, about: str, message: str, remedy: str = "") -> Finding:
    return Finding(check, about, "warning", message, remedy)


def fault(check: str, about: str, message: str, remedy: str = "") -> Finding:
    return Finding(check, about, "fault", message, remedy)
