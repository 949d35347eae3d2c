"""``evalsuite forget``: delete the stored answers of one model, as a candidate and as a judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.errors import UsageError, unknown
from evalsuite.files import exists, read_json
from evalsuite.results.folder import folders_of, stored_scores
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.known_servers import FILE as SERVERS_FILE
from evalsuite.serving.known_servers import forget_servers
from evalsuite.store import model_mark, open_store

_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Whose answers were counted, and deleted unless it was a dry run; ``folders`` are those that keep its figures."""

    name: str
    fingerprint: str
    answers: int
    folders: tuple[str, ...]


def forget(model: str, results: Path, *, store: Path | None = None, dry: bool) -> Forgotten:
    """Count the stored answers of ``model``, and delete them unless ``dry``; figures and records stay.

    ``model`` is a name in the results, with the digits of its folder where several have it, or what ``run`` takes.
    Raises UsageError for a model that is not known, and for a name that several have.
    """
    if not exists(results / "store.sqlite") and store is None:
        raise UsageError(f"{results} has no store.sqlite; give a results folder with --results")
    name, fingerprint = _found(model, results)
    with open_store(results, store) as answers:
        count = answers.forget(model_mark(fingerprint), dry=dry)
    if not dry:
        forget_servers(results / SERVERS_FILE, name)
    folders = [folder.name for folder in folders_of(results) if f"-{fingerprint[:_DIGITS]}" in folder.name]
    return Forgotten(name, fingerprint, count, tuple(folders))


def _found(model: str, results: Path) -> tuple[str, str]:
    """Return name and fingerprint of a model of the results, or of one that can be resolved."""
    known = {(name, fingerprint) for name, fingerprint in _models_of(results) if name and fingerprint}
    # A variant's folder is its model's with ~LABEL.
    wanted = {model, Path(model).name.partition("~")[0]}
    found = sorted(each for each in known if wanted & {each[0], f"{each[0]}-{each[1][:_DIGITS]}"})
    if len(found) > 1:
        names = " or ".join(f"{name}-{fingerprint[:_DIGITS]}" for name, fingerprint in found)
        raise UsageError(f"{results} has several models named {model}; give {names}")
    if found:
        return found[0]
    try:
        checkpoint = ServeConfig().resolve(model)
    except UsageError as error:
        raise UsageError(unknown("model", model, {name for name, _ in known}) if known else str(error)) from error
    return checkpoint.name, checkpoint.fingerprint


def _models_of(results: Path) -> Iterator[tuple[str, str]]:
    """Yield name and fingerprint of every model and judge of a results folder, its comparisons included."""
    for scores in filter(None, map(stored_scores, folders_of(results))):
        yield scores.model.name, scores.model.fingerprint
        for judge in (scores.judge, *(one.judge for one in scores.judged)):
            if judge is not None:
                yield judge.name, judge.fingerprint or ""
                yield from ((member.name, member.fingerprint or "") for member in judge.members)
    for path in sorted(results.glob("comparisons/*/manifest.json")):
        document: Any = read_json(path)
        for entry in (*document.get("models", ()), *document.get("judges", ())):
            fingerprint = str(entry.get("fingerprint") or "")
            # Two models of one name are listed with these digits.
            yield str(entry.get("name", "")).removesuffix(f"-{fingerprint[:_DIGITS]}"), fingerprint
