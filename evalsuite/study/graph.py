"""A study's stages, what each depends on, and the content key that says when one is up to date.

    generate DGM -> mix DGM-SIZE -> sft TARGET-DGM-SIZE -> run MODEL -> compare TARGET -> analyze KIND
                                                                     -> tables -> paper -> report

A key is the SHA-256 of a stage's settings, the fingerprints of the models and data that it takes from outside, and
the keys of the stages it depends on. So every key is known before anything runs, and a changed line changes the
keys of exactly what depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import evalsuite
from evalsuite.store import content_key
from evalsuite.study.file import Study
from evalsuite.wildchat.study_tables import Trained

Kind = Literal["generate", "mix", "sft", "run", "compare", "analyze", "tables", "paper", "report"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Stage:
    """One unit of work. ``needs`` must be done; of ``uses``, those that are done are taken, at least ``at_least``.

    ``settings`` enter the key; ``arguments`` (paths, names of models) do not, because the content behind them does.
    ``work`` is its size for the projection; ``devices`` how many devices it holds, 0 for none.
    """

    kind: Kind
    cell: str
    settings: Mapping[str, Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    at_least: int = 0
    devices: int = 0
    work: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.kind} {self.cell}"

    @property
    def takes(self) -> tuple[str, ...]:
        """The stages that must be settled before this one can start."""
        return (*self.needs, *self.uses)


def trained_models(study: Study) -> tuple[Trained, ...]:
    """Return every checkpoint that the study trains: single DGMs by size, then blends, for each target."""
    singles = [((dgm,), size) for dgm in study.dgms for size in sorted(study.sizes)]
    blends = [(blend.dgms, study.size_of(blend)) for blend in study.blends]
    return tuple(Trained(target, dgms, size) for target in study.targets for dgms, size in [*singles, *blends])


def key_of(stage: Stage, keys: Mapping[str, str]) -> str:
    """Return the content key of a stage whose inputs have ``keys``; of ``uses`` only those in ``keys`` count."""
    return content_key(
        {
            "kind": stage.kind,
            "cell": stage.cell,
            "settings": dict(stage.settings),
            "inputs": {name: keys[name] for name in stage.takes if name in keys},
            "evalsuite": evalsuite.__version__,
        }
    )
