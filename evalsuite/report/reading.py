"""What stands in a results folder, read without trusting it: a broken folder is named, the others stand."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.errors import DataError
from evalsuite.files import read_json, read_jsonl
from evalsuite.report.protocol import Protocol, protocol_of
from evalsuite.results.folder import stored_manifest, stored_scores

_MAKING = re.compile(r"^(?P<sft>.+?) : (?P<dgm>.+)$")
_BASE_KEYS = ("base_model", "base", "model")
_DGM_KEYS = ("dgm", "dgms", "data_generating_model")
_SIZE_KEYS = ("n_conversations", "n_train", "n_examples", "n_rows", "size")


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a checkpoint comes from; None where nothing says it. ``size`` is in training conversations."""

    base: str | None = None
    dgm: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model's folder: its figures, its manifest and the making that the manifest tells."""

    folder: Path
    scores: Mapping[str, Any]
    manifest: Mapping[str, Any]
    lineage: Lineage

    @property
    def name(self) -> str:
        return str(self.scores["model"]["name"])

    @property
    def slug(self) -> str:
        return self.folder.name

    @property
    def imported(self) -> bool:
        return bool(self.scores.get("imported"))

    @property
    def suites(self) -> Mapping[str, Any]:
        suites: Mapping[str, Any] = self.scores["suites"]
        return suites

    @property
    def judge(self) -> Mapping[str, Any] | None:
        judge: Mapping[str, Any] | None = self.scores.get("judge")
        return judge

    @property
    def protocol(self) -> Protocol:
        """How the figures came about: data pins and deciding options; empty where nobody recorded them."""
        return protocol_of(self.suites, self.manifest)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One folder of ``evalsuite compare``."""

    name: str
    preferences: Mapping[str, Any]
    verdicts: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Results:
    """Everything readable in a results folder; ``faults`` holds one sentence for each thing that is not."""

    models: Sequence[ModelResult]
    comparisons: Sequence[Comparison]
    judge_cards: Mapping[str, Mapping[str, Any]]
    faults: Sequence[str]


def read_results_folder(results: Path) -> Results:
    """Read models, comparisons and judge cards; raises DataError when the folder does not exist."""
    try:
        found = results.is_dir()
    except OSError as error:
        raise DataError(f"cannot read {results}: {error.strerror or error}; give another --results") from error
    if not found:
        raise DataError(f"{results} does not exist; run `evalsuite run demo --data mini` first, or give --results DIR")
    faults: list[str] = []
    models = []
    for path in _files(results, "scores.json", faults):
        try:
            models.append(_model(path.parent))
        except DataError as error:
            faults.append(str(error))
    return Results(models, _comparisons(results, faults), _cards(results, faults), faults)


def _files(parent: Path, name: str, faults: list[str]) -> list[Path]:
    """Return ``name`` of every folder in ``parent`` that has it; a folder that cannot be looked into is a fault."""
    try:
        folders = sorted(Path(entry.path) for entry in os.scandir(parent) if entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        faults.append(f"cannot read {parent}: {error.strerror or error}")
        return []
    found = []
    for path in (folder / name for folder in folders):
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            faults.append(f"cannot read {path}: {error.strerror or error}")
        else:
            found.append(path)
    return found


def _model(folder: Path) -> ModelResult:
    scores = stored_scores(folder)
    if scores is None or not isinstance((scores.get("model") or {}).get("name"), str):
        raise DataError(f"{folder / 'scores.json'} names no model; run the model again or move the folder away")
    if scores.get("data") not in ("full", "mini"):
        raise DataError(f"{folder / 'scores.json'} has data {scores.get('data')!r}; expected 'full' or 'mini'")
    for key in ("judge", "average"):
        if not isinstance(scores.get(key) or {}, dict):
            raise DataError(f"{folder / 'scores.json'}: {key} is not an object; run the model again")
    broken = sorted(name for name, suite in scores["suites"].items() if not isinstance(suite, dict))
    if broken:
        raise DataError(f"{folder / 'scores.json'}: suite {broken[0]} is not an object; run the model again")
    manifest = stored_manifest(folder)
    return ModelResult(folder, scores, manifest, lineage_of(scores["model"]["name"], manifest))


def lineage_of(name: str, manifest: Mapping[str, Any]) -> Lineage:
    """Read base model, DGM and training size from the manifest, else from a name like ``L8B : Q72``."""
    training = manifest.get("training") or (manifest.get("model") or {}).get("training")
    training = training if isinstance(training, Mapping) else {}
    spelt = _MAKING.match(name)
    size = _first(training, _SIZE_KEYS)
    dgm = _first(training, _DGM_KEYS)
    return Lineage(
        base=_words(_first(training, _BASE_KEYS)) or (spelt["sft"] if spelt else None),
        dgm=_words(dgm) or (spelt["dgm"] if spelt else None),
        size=size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None,
    )


def _first(training: Mapping[str, Any], keys: Sequence[str]) -> Any:
    holders = [training, *(value for value in training.values() if isinstance(value, Mapping))]
    return next((holder[key] for key in keys for holder in holders if holder.get(key)), None)


def _words(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return _words(value.get("name"))
    return ", ".join(str(one) for one in value) if isinstance(value, list) and value else None


def _comparisons(results: Path, faults: list[str]) -> list[Comparison]:
    found = []
    for path in _files(results / "comparisons", "preferences.json", faults):
        try:
            document = read_json(path)
            if not isinstance(document, dict) or not isinstance(document.get("pairs"), list):
                raise DataError(f"{path} has no list 'pairs'; run `evalsuite compare` again")
            verdicts = path.with_name("verdicts.jsonl")
            found.append(Comparison(path.parent.name, document, read_jsonl(verdicts) if verdicts.is_file() else []))
        except DataError as error:
            faults.append(str(error))
    return found


def _cards(results: Path, faults: list[str]) -> dict[str, Mapping[str, Any]]:
    cards: dict[str, Mapping[str, Any]] = {}
    for path in _files(results / "judges", "card.json", faults):
        try:
            card = read_json(path)
        except DataError as error:
            faults.append(str(error))
            continue
        if isinstance(card, dict):
            cards[path.parent.name] = card
    return cards
