"""``evalsuite run --on PLACE``: a unit of work per model, then a few for the judge, whose results the head merges."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from evalsuite.checkpoint import Checkpoint
from evalsuite.checkpoint.resolving import is_endpoint
from evalsuite.config import RunConfig, resolved_yaml
from evalsuite.errors import UsageError
from evalsuite.files import write_json, write_text
from evalsuite.fleet.executors import Executor
from evalsuite.fleet.head import Head, UnitsFailedError, heading
from evalsuite.fleet.places import executor_of
from evalsuite.fleet.units import RESULTS, SCRATCH, Done, Unit, delete, paths_in, unit_folder
from evalsuite.placement import Placement, read_placement
from evalsuite.progress import NoProgress, Progress
from evalsuite.redaction import scrubbed
from evalsuite.results.folder import MANIFEST_FILE, set_aside, stored_manifest
from evalsuite.results.merging import merge_results
from evalsuite.runs.plan import ModelRun
from evalsuite.runs.runner import Outcome, outcome_of, planned

_MODELS_PER_JUDGE = 4
"""Models that a judge's start is shared by, if there are units enough."""


def run_on(config: RunConfig, progress: Progress | None = None, head: Head | None = None) -> Outcome:
    """Evaluate models as ``run`` does, each where ``config.on`` says; the figures are the same.

    Models whose units failed are in the outcome's ``failures`` by their folder, when the others are done. ``head`` is
    who else of this process has units on the same executor.
    """
    progress = progress or NoProgress()
    placement = read_placement(config.on or "local")
    judges, plans = planned(config, progress)
    failures: dict[str, UnitsFailedError] = {}
    if any(plan.todo for plan in plans):
        with ExitStack() as stack:
            if head is None:
                stack.enter_context(heading(config.results))
                executor = stack.enter_context(placed(config))
            _fetch_data(plans, progress)
            carrier = replace(head, progress=progress) if head else Head(executor, progress, config.detach)
            failures = _Fleet(config, placement, judges.members, carrier).run(plans)
        # What is to be said of the models has been said.
        _, plans = planned(config.model_copy(update={"fresh": False, "ask_again": False}), NoProgress())
    outcome = outcome_of(plans, config)
    return replace(outcome, failures={**outcome.failures, **failures})


@contextmanager
def placed(config: RunConfig) -> Iterator[Executor]:
    """Open what ``config.on`` names; raises UsageError where it cannot run the largest unit. Nothing is written."""
    placement = read_placement(config.on or "local")
    executor = executor_of(placement, config.results, config.jobs, config.slurm_template)
    served = 0 if config.base_url or all(map(is_endpoint, config.models)) else config.serve.devices
    judging = 0 if all(map(is_endpoint, config.judge)) else config.judge_serving.devices
    try:
        executor.check(max(served, judging) if placement.gpus is None else placement.gpus)
        yield executor
    finally:
        executor.close()


def _fetch_data(plans: Sequence[ModelRun], progress: Progress) -> None:
    """Load what only loading fetches, so that nodes find it in the caches, without network; raises DataError.

    A plan has fetched the data that are pinned; what lm-eval's other tasks read, only lm-eval knows.
    """
    runs = {(run.spec.key, repr(run.options)): run for plan in plans for run in plan.todo}
    for run in (run for run in runs.values() if run.suite.whole and not run.suite.assets):
        progress.step(f"fetching the data of {run.spec.key}")
        run.suite.load(run.options)


class _Fleet:
    """The units of one run."""

    def __init__(self, config: RunConfig, placement: Placement, judges: Sequence[Checkpoint], head: Head) -> None:
        self._config, self._placement, self._judges, self._head = config, placement, judges, head
        n_budgets = len(config.serve.thinking_budget)
        self._specs = [spec for spec in config.models for _ in range(n_budgets)]
        # A judge that is served alone starts once for several models, not once for each.
        self._judges_apart = any(judge.endpoint is None for judge in judges) and len(config.models) > 1

    def run(self, plans: Sequence[ModelRun]) -> dict[str, UnitsFailedError]:
        """Answer, then judge; return the failures of models, by folder."""
        if len(plans) != len(self._specs):
            raise UsageError(
                "recorded answers and several thinking budgets cannot be combined with --on; run them separately"
            )
        self._folders = {spec: plan.folder.name for spec, plan in zip(self._specs, plans, strict=True)}
        todo = {spec: plan for spec, plan in zip(self._specs, plans, strict=True) if plan.todo}
        failures = self._carry_out({self._unit(spec, plan): (spec,) for spec, plan in todo.items()})
        sound = [spec for spec in todo if self._folders[spec] not in failures]
        judged = [spec for spec in sound if not self._judges_itself(todo[spec])]
        if self._judges_apart and judged:
            failures |= self._carry_out(self._judge_units(judged, todo))
        return failures

    def _carry_out(self, units: Mapping[Unit, Sequence[str]]) -> dict[str, UnitsFailedError]:
        """Run units, each for some models; return the failures of models, by folder."""
        try:
            self._head.carry_out(list(units), self._merge)
        except UnitsFailedError as error:
            failed = [spec for unit, specs in units.items() if unit.name in error.names for spec in specs]
            return {self._folders[spec]: error for spec in failed}
        return {}

    def _merge(self, unit: Unit, done: Done) -> None:
        """Take a unit's results over and delete it."""
        with self._head.merging:
            for scores in done.results.glob("*/scores.json"):
                if self._config.replaces:
                    set_aside(self._config.results / scores.parent.name)
                self._say_what_was_asked(scores.parent)
            merge_results([done.results], self._config.results, keep_first=True, store=self._config.store)
        delete([unit])

    def _say_what_was_asked(self, folder: Path) -> None:
        """Let a folder from a unit say what the user asked for, not the unit's folders."""
        spec = next((spec for spec in self._specs if self._folders[spec] == folder.name), None)
        config = self._config if spec is None else self._config.model_copy(update={"models": (spec,)})
        write_text(folder / "config.yaml", resolved_yaml(config))
        manifest = stored_manifest(folder).model_copy(update={"arguments": scrubbed(config.model_dump(mode="json"))})
        write_json(folder / MANIFEST_FILE, manifest.as_json())

    def _judges_itself(self, plan: ModelRun) -> bool:
        return [judge.fingerprint for judge in self._judges] == [plan.checkpoint.fingerprint]

    def _unit(self, spec: str, plan: ModelRun) -> Unit:
        """Return the unit of a model: its answers, and its verdicts where no judge is started for several models."""
        with_judge = not self._judges_apart or self._judges_itself(plan)
        changes = {"models": (spec,), "suites": tuple(suite.spec for suite in plan.todo)}
        config = self._config.model_copy(update=changes | ({} if with_judge else {"judge": (), "no_judge": True}))
        serve, judge_serve = self._config.serve, self._config.judge_serving
        needed = 0 if self._config.base_url or plan.checkpoint.endpoint else serve.devices
        if with_judge and any(judge.endpoint is None for judge in self._judges):
            needed = max(needed, judge_serve.devices)
        keys = [sorted(suite.run_keys.values()) for suite in plan.todo]
        seeds = (plan.folder,) if plan.folder.is_dir() and not self._config.replaces else ()
        return self._written(config, plan.folder.name, ["answers", keys, with_judge], seeds, needed)

    def _judge_units(self, specs: Sequence[str], plans: Mapping[str, ModelRun]) -> dict[Unit, Sequence[str]]:
        """Return units that judge shares of the models, with the shares."""
        n = min(self._config.jobs or len(specs), math.ceil(len(specs) / _MODELS_PER_JUDGE))
        units: dict[Unit, Sequence[str]] = {}
        for number in range(n):
            share = specs[number::n]
            config = self._config.model_copy(update={"models": tuple(share), "fresh": False, "ask_again": False})
            keys = [sorted(suite.run_keys.values()) for spec in share for suite in plans[spec].todo]
            seeds = tuple(plans[spec].folder for spec in share)
            gpus = self._config.judge_serving.devices
            units[self._written(config, f"judge-{number + 1}", ["judge", keys], seeds, gpus)] = share
        return units

    def _written(self, config: RunConfig, name: str, identity: object, seeds: tuple[Path, ...], needed: int) -> Unit:
        folder = unit_folder(self._config.results, name, identity)
        if (cards := self._config.results / "judges").is_dir() and config.judge:
            # The weights of a panel rest on them.
            seeds = (*seeds, cards)
        given = {"on": None, "jobs": None, "slurm_template": None, "detach": False, "store": None, "log_to": ()}
        file = folder / "config.yaml"
        write_text(file, resolved_yaml(config.model_copy(update=given), with_secrets=True))
        file.chmod(0o600)
        arguments = ["run", f"--config={file}", f"--results={RESULTS}", f"--store={SCRATCH}", "--max-unscored=1"]
        arguments += ["--ask-again"] * config.ask_again
        gpus = needed if self._placement.gpus is None else self._placement.gpus
        reads = paths_in((*config.models, *config.judge))
        return Unit(folder, name, tuple(arguments), tuple(seed.absolute() for seed in seeds), gpus, reads)
