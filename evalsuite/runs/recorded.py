"""Imported answers as a model of a run: they are judged and scored, and nobody is asked for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from evalsuite.checkpoint import Checkpoint
from evalsuite.config import RunConfig
from evalsuite.errors import DataError, UsageError
from evalsuite.files import exists
from evalsuite.progress import Progress
from evalsuite.records.files import RecordsFile, records_path
from evalsuite.records.rows import Row
from evalsuite.results.folder import focused, folders_of, model_folder, stored_manifest, stored_scores
from evalsuite.results.variants import variant_settings
from evalsuite.runs.judges import Judges
from evalsuite.runs.plan import (
    ModelRun,
    SuiteRun,
    is_stored,
    judge_identities,
    refuse_other_figures,
    suite_run,
)
from evalsuite.serving.config import ServeConfig
from evalsuite.suites.registry import SuiteSpec


def imported_folder(spec: str, results: Path) -> Path | None:
    """Return the folder of the imported model with this name or folder; None for any other model.

    Raises UsageError where several are called so.
    """
    path = Path(spec).expanduser()
    if exists(path):
        folders = [path] if (path / "scores.json").is_file() and not (path / "config.json").is_file() else []
    elif results.is_dir() and "://" not in spec:
        folders = list(folders_of(results))
    else:
        folders = []
    found = [folder for folder in folders if _matches(folder, spec, by_folder=exists(path))]
    if len(found) > 1:
        raise UsageError(
            f"several imported models are called {spec}; give the folder of one: {', '.join(map(str, found))}"
        )
    return found[0] if found else None


def _matches(folder: Path, spec: str, *, by_folder: bool) -> bool:
    try:
        scores = stored_scores(folder)
    except DataError:
        # Another model's broken folder does not stop a run.
        return False
    return scores is not None and scores.imported and not scores.variant and (by_folder or scores.model.name == spec)


def plan_recorded(folder: Path, config: RunConfig, judges: Judges, progress: Progress) -> ModelRun:
    """Plan to judge the recorded answers of an imported model.

    ``limit`` and ``sample`` choose among the recorded items; their figures are in a variant's folder. Raises
    UsageError where none of the suites has recorded answers that are judged, DataError where its data have none of
    the recorded items.
    """
    source = stored_scores(folder)
    if not any(spec.suite.needs_judge(config.suite_options_of(spec)) for spec in config.suites):
        names = ", ".join(spec.key for spec in config.suites)
        raise UsageError(f"{folder.name} contains imported answers, and {names} needs no judge; see its scores.json")
    if source is None or judges.top is None:
        raise UsageError(f"{folder.name} contains imported answers; give the judge with --judge")
    if config.data != source.data:
        raise UsageError(f"{folder} contains answers to the {source.data} data; pass --data {source.data}")
    # How a model is asked does not matter to answers that are there.
    settings = variant_settings(config.model_copy(update={"serve": ServeConfig(), "seed": 0}))
    settings |= {} if config.limit is None else {"limit": str(config.limit)}
    label = config.label or "+".join(f"{name}-{value}" for name, value in settings.items())
    target = model_folder(folder.parent, folder.name, label) if label else folder
    stored, manifest = stored_scores(target), stored_manifest(target)
    checkpoint = Checkpoint(source.model.name, None, source.model.fingerprint)
    if stored is not None:
        stored, manifest = focused(stored, manifest, judges.top.fingerprint)
    plan = ModelRun(checkpoint, target, label, settings, stored, manifest, [], is_imported=True)
    plan.limit = config.limit if config.limit is not None or label else source.limit
    identity = {"weights": source.model.fingerprint, "recorded": True}
    runs = [
        run
        for spec in config.suites
        if (run := _suite_run(spec, folder, config, judges, identity, progress)) is not None
    ]
    if not runs:
        names = ", ".join(spec.key for spec in config.suites)
        raise UsageError(f"{folder} has no imported answers that a judge could judge in {names}; import them first")
    refuse_other_figures(plan, config, runs)
    plan.todo = [run for run in runs if config.replaces or not is_stored(run, judges, stored, manifest)]
    return plan


def _suite_run(
    spec: SuiteSpec,
    folder: Path,
    config: RunConfig,
    judges: Judges,
    identity: dict[str, Any],
    progress: Progress,
) -> SuiteRun | None:
    """Return a suite with the recorded rows of its items as answered; None where there are none, or no judge helps."""
    suite = spec.suite
    if suite.whole or not suite.needs_judge(config.suite_options_of(spec)):
        return None
    path = records_path(folder, spec.key)
    if not path.is_file():
        return None
    recorded = {(row.part, row.item_id): row for row in RecordsFile(path).rows() if row.draws}
    run = suite_run(spec, config, judge_identities(judges, config), identity)
    pairs: list[tuple[Any, Row]] = []
    for item in run.loaded.items:
        own = suite.row(item, run.loaded)
        if (row := recorded.get((own.part, own.item_id))) is not None:
            facts = {**row.facts, **own.facts}
            pairs.append((item, msgspec.structs.replace(own, facts=facts, draws=row.draws)))
    if not pairs:
        raise DataError(f"{folder} has no recorded answer to the items of {spec.key}; check its data and --limit")
    if len(pairs) < len(run.loaded.items):
        progress.log(f"{spec.key}: {len(pairs)} of {len(run.loaded.items)} items have a recorded answer")
    run.loaded = replace(run.loaded, items=[item for item, _ in pairs])
    run.rows, run.answered = [row for _, row in pairs], True
    return run
