"""What is in a results folder, read without trusting it: a broken folder is named, the others are kept."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from evalsuite.comparison_documents import Preferences, VerdictRow, read_verdict_rows
from evalsuite.documents import JudgeEntry, Manifest, Scores, validated
from evalsuite.errors import DataError
from evalsuite.files import read_json
from evalsuite.results.folder import judge_views, stored_manifest, stored_scores
from evalsuite.results.records import SuiteRecords, suite_records
from evalsuite.text import well_formed

T = TypeVar("T")

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
    """A model's figures by one judge: a folder that several judges judged gives one each.

    ``scores`` and ``manifest`` have that judge's figures at the top.
    """

    folder: Path
    scores: Scores
    manifest: Manifest
    lineage: Lineage

    @property
    def name(self) -> str:
        return self.scores.name

    @property
    def slug(self) -> str:
        return well_formed(self.folder.name)

    @property
    def imported(self) -> bool:
        return self.scores.imported

    @property
    def suites(self) -> Mapping[str, Mapping[str, Any]]:
        return self.scores.suites

    @property
    def judge(self) -> JudgeEntry | None:
        return self.scores.judge

    def records(self, key: str) -> SuiteRecords | None:
        """Return the items of a suite, marked by this judge; see :func:`evalsuite.results.records.suite_records`."""
        return suite_records(self.folder, key, self.scores, self.manifest)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One folder of ``evalsuite compare``."""

    name: str
    preferences: Preferences
    verdicts: Sequence[VerdictRow]


@dataclass(frozen=True, slots=True)
class Results:
    """Everything readable in a results folder; ``faults`` holds one sentence for each thing that is not."""

    models: Sequence[ModelResult]
    comparisons: Sequence[Comparison]
    judge_cards: Mapping[str, Mapping[str, Any]]
    faults: Sequence[str]


def no_results(results: Path) -> DataError:
    """Return the error for a folder without results, or for none at all."""
    what = "has no results" if results.is_dir() else "is not a folder" if results.exists() else "does not exist"
    return DataError(f"{results} {what}; run `evalsuite run demo --data mini` first, or give --results DIR")


def require_folder(results: Path) -> None:
    """Raise DataError if the results folder does not exist or cannot be listed."""
    try:
        found = results.is_dir()
    except OSError as error:
        raise DataError(f"cannot read {results}: {error.strerror or error}; give another --results") from error
    if not found:
        raise no_results(results)


def read_results_folder(results: Path) -> Results:
    """Read models, comparisons and judge cards; raises DataError when the folder does not exist."""
    require_folder(results)
    faults: list[str] = []
    models = _read_each(results, "scores.json", lambda path: models_in(path.parent), faults)
    comparisons = _read_each(
        results / "comparisons", "preferences.json", lambda path: comparison_in(path.parent), faults
    )
    cards = _read_each(results / "judges", "card.json", lambda path: (path.parent.name, read_json(path)), faults)
    return Results(
        [one for by_judge in models for one in by_judge],
        comparisons,
        {judge: card for judge, card in cards if isinstance(card, dict)},
        faults,
    )


def read_models(results: Path) -> Sequence[ModelResult]:
    """Read the models of a results folder; raises DataError where there is none that can be read."""
    found = read_results_folder(results)
    if not found.models:
        raise DataError(found.faults[0]) if found.faults else no_results(results)
    return found.models


def _read_each(parent: Path, name: str, read: Callable[[Path], T], faults: list[str]) -> list[T]:
    """Read ``name`` of every folder in ``parent`` that has it; what cannot be read is a fault."""
    try:
        folders = sorted(Path(entry.path) for entry in os.scandir(parent) if entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        faults.append(f"cannot read {parent}: {error.strerror or error}")
        return []
    contents = []
    for path in (folder / name for folder in folders):
        try:
            path.stat()
            contents.append(read(path))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            faults.append(f"cannot read {path}: {error.strerror or error}")
        except DataError as error:
            faults.append(str(error))
    return contents


def models_in(folder: Path) -> list[ModelResult]:
    """Read a model's folder, once per judge; raises DataError where it cannot be read."""
    stored = stored_scores(folder)
    if stored is None:
        raise DataError(f"{folder} has no scores.json; run the model, or give another folder")
    manifest = stored_manifest(folder)
    lineage = lineage_of(stored.model.name, manifest)
    return [ModelResult(folder, scores, own, lineage) for scores, own in judge_views(stored, manifest)]


def lineage_of(name: str, manifest: Manifest) -> Lineage:
    """Read base model, DGM and training size from the manifest, else from a name like ``L8B : Q72``."""
    training = manifest.training or manifest.model.get("training")
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


def _words(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return _words(value.get("name"))
    return ", ".join(str(one) for one in value) if isinstance(value, list) and value else None


def comparison_in(folder: Path) -> Comparison:
    """Read a folder of ``evalsuite compare``; raises DataError where it cannot be read."""
    path, verdicts = folder / "preferences.json", folder / "verdicts.jsonl"
    remedy = "run `evalsuite compare` again"
    preferences = validated(Preferences, read_json(path, remedy=remedy), path, remedy)
    return Comparison(well_formed(folder.name), preferences, read_verdict_rows(verdicts) if verdicts.is_file() else [])
