"""What a run has to do: which suites each model still needs, decided before anything is started."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import evalsuite
from evalsuite.checkpoint import Checkpoint, generation_config
from evalsuite.config import RunConfig
from evalsuite.doctor import Finding, ModelUse, unmet_needs
from evalsuite.documents import Manifest, Scores, SuiteEntry
from evalsuite.errors import DataError, EvalsuiteError, UsageError
from evalsuite.progress import Progress
from evalsuite.records.files import RecordsFile, records_path
from evalsuite.records.rows import Row
from evalsuite.redaction import scrubbed, without_secrets
from evalsuite.results.environment import Stopwatch
from evalsuite.results.folder import (
    differences,
    entry_of,
    figures_sha256,
    focused,
    folders_of,
    is_retried,
    model_folder,
    refuse_mixing,
    reusable,
    stored_manifest,
    stored_scores,
)
from evalsuite.results.variants import variant_settings
from evalsuite.runs.judges import Judges, Panel, panel_of, resolve_judges
from evalsuite.serving.identity import renamed
from evalsuite.serving.reasoning import NO_REASONING, Reasoning, settled
from evalsuite.serving.sampler import Sampler
from evalsuite.serving.session import answer_identity, attached_server, served_as
from evalsuite.store import content_key
from evalsuite.suites.base import Suite
from evalsuite.suites.options import SuiteOptions, changes_figures
from evalsuite.suites.registry import SuiteSpec
from evalsuite.suites.sampling import sampled
from evalsuite.suites.types import NOT_ASKED, Pins, WholeRun

_SERVED = ("generation_config", "max_model_len", "vllm_args", "attached", "reasoning", "head_dtype")


@dataclass(slots=True)
class SuiteRun:
    """One suite of one model, in progress.

    ``served`` is how the model is asked, of what scores.json does not say. ``recorded`` are the rows of an earlier run
    with the very same answers, which need not be asked again.
    """

    spec: SuiteSpec
    options: SuiteOptions
    pins: Pins
    answer_key: str
    run_keys: Mapping[str | None, str]
    """What identifies the figures, by the fingerprint of whose they are; of a suite without a judge by None."""
    served: Mapping[str, Any]
    loaded: Any = None
    recorded: Mapping[str, Row] = field(default_factory=dict)
    sampled: Sequence[bool] = ()
    """Whether each item is sampled, so that a repeat may answer it differently; () without repeats."""
    rows: Sequence[Row] = ()
    whole: WholeRun | None = None
    answered: bool = False
    judged: tuple[str, ...] = ()
    """The slugs of the judges whose verdicts the rows have."""

    @property
    def suite(self) -> Suite:
        return self.spec.suite

    @property
    def needs_judge(self) -> bool:
        return self.suite.needs_judge(self.options)

    def notes_on_thinking(self) -> list[str]:
        """Return what to know about its figures of a model that thinks first."""
        asked = self.options.parts or self.suite.parts
        return [note for part, note in self.suite.notes_on_thinking.items() if part in asked]

    def run_key(self, judge: Checkpoint | Panel | None) -> str:
        """Return the key of the figures by one judge; of a suite without one, of the figures."""
        return self.run_keys.get(None if judge is None else judge.fingerprint, self.run_keys[None])


@dataclass(slots=True)
class ModelRun:
    """One model, in progress: what is reused from an earlier run and what is to be done."""

    checkpoint: Checkpoint
    folder: Path
    label: str
    settings: Mapping[str, str]
    stored: Scores | None
    manifest: Manifest
    todo: list[SuiteRun]
    watch: Stopwatch = field(default_factory=Stopwatch)
    usage: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    failures: dict[str, EvalsuiteError] = field(default_factory=dict)
    """What stopped a suite, by its key in scores.json; "" for the whole model."""
    replaces: str | None = None
    """SHA-256 of the figures that --fresh moves aside: not newer ones that another run has written since."""
    chat_source: str | None = None
    reasoning: Reasoning = NO_REASONING
    """How the model thinks in this variant."""
    limit: int | None = None
    is_imported: bool = False
    """Whether its answers were recorded elsewhere: they are judged and never asked for."""

    def line(self, suite: SuiteRun) -> str:
        """Return the text under which a suite's progress is shown."""
        return f"{self.checkpoint.name} {suite.spec.key}"


def judges_of(config: RunConfig, progress: Progress) -> Judges:
    """Find the judges of a run; raises UsageError for a duplicate one, and for a panel that cannot be weighed."""
    found = resolve_judges(config.judge_specs, config.judge_serving, progress)
    judges = tuple(recalled(judge, config.results) for judge in found)
    return Judges(judges, panel_of(judges, config.judge_weights, config.results))


def recalled(checkpoint: Checkpoint, results: Path) -> Checkpoint:
    """Return an endpoint whose server does not answer with the fingerprint that its figures were recorded with.

    Finished figures need no server; whatever is still to be asked says that there is none.
    """
    if checkpoint.endpoint is None or checkpoint.served is not None:
        return checkpoint
    url = without_secrets(checkpoint.endpoint)
    for scores in filter(None, map(stored_scores, folders_of(results))):
        if (scores.model.name, scores.model.path) == (checkpoint.name, url):
            return replace(checkpoint, fingerprint=scores.model.fingerprint)
        judge = scores.judge
        if judge is not None and judge.name == checkpoint.name and judge.fingerprint:
            return replace(checkpoint, fingerprint=judge.fingerprint)
    return checkpoint


def plan_model(model: str, config: RunConfig, judges: Judges, progress: Progress, budget: int | None) -> ModelRun:
    """Decide what is to be done for one model; refuses to mix figures before anything is started.

    ``budget`` is the variant's, if thoughts of a sweep are cut at several.
    """
    serve = config.serve
    checkpoint = serve.resolve(model, base_url=config.base_url, on_step=progress.step)
    checkpoint = recalled(renamed(checkpoint, config.name), config.results)
    reasoning = settled(checkpoint, serve, budget)
    settings = variant_settings(config, budget)
    label = config.label or "+".join(f"{name}-{value}" for name, value in settings.items())
    folder = model_folder(config.results, checkpoint.slug, label)
    # With --fresh the old figures are moved aside when new ones are ready to be written.
    stored, manifest = (None, Manifest()) if config.replaces else (stored_scores(folder), stored_manifest(folder))
    top = judges.top
    if stored is not None:
        stored, manifest = focused(stored, manifest, None if top is None else top.fingerprint)
    old = figures_sha256(folder) if config.replaces else None
    attached, unreachable = attached_server(checkpoint, config.base_url, _recorded_server(manifest, config), serve)
    identity = answer_identity(checkpoint, serve, attached=attached)
    key = reasoning.key()
    identity = {**identity, **({"reasoning": key} if key else {})}
    judged_by = judge_identities(judges, config)
    runs = []
    for spec in _possible_suites(config, checkpoint, progress):
        try:
            runs.append(_with_stored_parts(spec, config, judged_by, identity, stored, manifest))
        except DataError as error:
            if not config.skip_impossible:
                raise
            progress.log(f"skipped: {spec.key}: {error}")
    if not runs:
        raise UsageError(f"none of the suites can run on {checkpoint.name}; the reasons are above")
    plan = ModelRun(checkpoint, folder, label, settings, stored, manifest, [], replaces=old, reasoning=reasoning)
    plan.limit = config.limit
    refuse_other_figures(plan, config, runs)
    plan.todo = [s for s in runs if not is_stored(s, judges, stored, manifest) or _is_damaged(folder, s.spec.key)]
    if plan.todo and unreachable is not None:
        raise unreachable
    if config.repeats > 1 and plan.todo:
        settle_repeats(plan, config)
    for suite in plan.todo if not config.ask_again else ():
        suite.recorded = _recorded_answers(folder, manifest, suite)
    return plan


def settle_repeats(plan: ModelRun, config: RunConfig) -> None:
    """Say of every item whether it is sampled; raises UsageError where none is, so that no repeat can differ."""

    async def are_sampled(run: SuiteRun) -> list[bool]:
        samplers = [Sampler(generation, plan.reasoning) for _ in run.loaded.items]
        for item, sampler in zip(run.loaded.items, samplers, strict=True):
            await run.suite.answer(item, run.loaded, sampler, run.options)
        return [sampler.is_sampled for sampler in samplers]

    generation = generation_config(plan.checkpoint)
    for run in plan.todo:
        if run.suite.whole:
            run.loaded = run.suite.load(run.options)
            refuse_unavailable_parts(plan.stored, run)
            run.sampled = run.suite.sampled_tasks(run.loaded, Sampler(generation, plan.reasoning))
        else:
            run.sampled = asyncio.run(are_sampled(run))
    if not any(any(run.sampled) for run in plan.todo):
        keys = ", ".join(run.spec.key for run in plan.todo)
        raise UsageError(
            f"--repeats {config.repeats} has nothing to repeat: {plan.checkpoint.name} answers all of {keys} greedily, "
            "so every answer would be the same; leave --repeats out, or let the model's own settings sample "
            "(--sampling model)"
        )


def is_stored(suite: SuiteRun, judges: Judges, stored: Scores | None, manifest: Manifest) -> bool:
    """Whether the figures of every judge of the run, and of their panel, stand complete."""
    for view in (judges.views if suite.needs_judge else ()) or (judges.top,):
        own = (stored, manifest)
        if stored is not None and view is not None:
            own = focused(stored, manifest, view.fingerprint)
        if not reusable(*own, suite.spec.key, suite.run_key(view)):
            return False
    return True


def _possible_suites(config: RunConfig, checkpoint: Checkpoint, progress: Progress) -> list[SuiteSpec]:
    """Return the suites that can run on a model; raises UsageError that names all others without --skip-impossible."""
    unmet = unmet_needs(config, checkpoint)
    if unmet and (not config.skip_impossible or len(unmet) == len(config.suites)):
        others = "; or run the others alone with --skip-impossible" if len(unmet) < len(config.suites) else ""
        alike: dict[Finding, list[str]] = {}
        for spec, finding in unmet.items():
            alike.setdefault(replace(finding, about=""), []).append(spec.key)
        sentences = [replace(finding, about=", ".join(keys)).sentence for finding, keys in alike.items()]
        raise UsageError("; ".join(sentences) + others)
    for finding in unmet.values():
        progress.log(f"skipped: {finding.sentence}")
    return [spec for spec in config.suites if spec not in unmet]


def _is_damaged(folder: Path, suite: str) -> bool:
    """Whether a suite's records file cannot be read: it is written again from the store."""
    file = RecordsFile(records_path(folder, suite))
    try:
        return file.path.exists() and not file.rows() and file.header.n_items > 0
    except DataError:
        return True


def _recorded_server(manifest: Manifest, config: RunConfig) -> str | None:
    """Return the name of the server under --base-url that gave the stored figures of all suites, None without one."""
    entries = [entry_of(manifest, spec.key) for spec in config.suites]
    names = {entry.served.get("attached") or None for entry in entries}
    return names.pop() if len(names) == 1 else None


def refuse_other_figures(plan: ModelRun, config: RunConfig, runs: Sequence[SuiteRun]) -> None:
    """Raise UsageError where the stored figures of a plan's folder must not be mixed with the new ones."""
    if plan.stored is not None:
        said = differences(
            plan.stored,
            plan.manifest,
            data=config.data,
            limit=plan.limit,
            settings=plan.settings,
            pins={suite.spec.key: suite.pins for suite in runs},
            model={} if plan.is_imported else served_as(plan.checkpoint, config.serve, attached=bool(config.base_url)),
        )
        refuse_mixing(plan.folder, said)


def _recorded_answers(folder: Path, manifest: Manifest, suite: SuiteRun) -> Mapping[str, Row]:
    """Return the complete rows of an earlier run that asked the very same answers, by item id within its part.

    Empty where there are none: the store then has the answers, or the model is asked.
    """
    if suite.suite.whole or entry_of(manifest, suite.spec.key).answer_key != suite.answer_key:
        return {}
    try:
        rows = RecordsFile(records_path(folder, suite.spec.key)).rows()
    except DataError:
        # A broken or missing records file costs a look into the store, which has every answer.
        return {}
    return {
        f"{row.part}/{row.item_id}": row
        for row in rows
        if row.draws and not any(reply.unscored and is_retried(reply.unscored.reason) for reply in row.replies)
    }


def _with_stored_parts(
    spec: SuiteSpec,
    config: RunConfig,
    judged_by: Mapping[str, Any],
    identity: Mapping[str, Any],
    stored: Scores | None,
    manifest: Manifest,
) -> SuiteRun:
    """Plan a suite together with those parts of it whose figures are kept.

    One file holds all parts of a suite, so the new ones are scored with the old, whose answers are in the store.
    Raises UsageError where the old ones were made with other settings of the suite.
    """
    asked = suite_run(spec, config, judged_by, identity)
    entry = entry_of(manifest, spec.key) if asked.suite.whole and stored is not None else SuiteEntry()
    parts = entry.options.get("parts")
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        return asked
    # No parts are all of them.
    if not spec.parts or (parts and set(parts) <= set(spec.parts)) or set(spec.parts) == set(asked.suite.parts):
        return asked
    if changed := _changed_settings(asked, entry):
        raise UsageError(
            f"the stored figures of {spec.key} were made with another {', '.join(changed)}, "
            "and all its parts share one file; ask for all of them at once, give another folder with --results, "
            "or pass --fresh"
        )
    both = tuple(dict.fromkeys([*parts, *spec.parts])) if parts else ()
    return suite_run(spec.model_copy(update={"parts": both}), config, judged_by, identity)


def _changed_settings(asked: SuiteRun, entry: SuiteEntry) -> list[str]:
    """Name the settings in which a suite's stored figures differ from what is asked now."""
    now = _figure_options(asked.suite, asked.options)
    # A model without a chat template is given none, so asking for none is the same.
    options = [
        name
        for name, value in now.items()
        if name not in ("parts", "limit", "data") and value not in (entry.options.get(name), entry.applied.get(name))
    ]
    served = entry.served or asked.served
    return options + [name for name in asked.served if served.get(name) != asked.served[name]]


def refuse_lost_parts(stored: Scores | None, manifest: Manifest, suite: SuiteRun) -> None:
    """Raise UsageError when another run has written parts of a suite meanwhile that this one does not hold."""
    if stored is None or not suite.suite.whole or suite.spec.key not in stored.suites:
        return
    parts = entry_of(manifest, suite.spec.key).options.get("parts")
    if isinstance(parts, (list, tuple)) and suite.spec.parts and not (parts and set(parts) <= set(suite.spec.parts)):
        raise UsageError(
            f"another run wrote {', '.join(map(str, parts)) or 'all parts'} of {suite.spec.key} meanwhile; "
            "run the same command again: every answer is stored"
        )


def refuse_unavailable_parts(stored: Scores | None, suite: SuiteRun) -> None:
    """Raise DataError when a loaded suite lacks the data of a part whose figures are kept: they would be lost."""
    figures = (stored.suites if stored is not None else {}).get(suite.spec.key) or {}
    for part, why in (getattr(suite.loaded, "missing", None) or {}).items():
        if why != NOT_ASKED and figures.get(part) is not None:
            raise DataError(
                f"{suite.spec.key} is scored as a whole, and the data of {part}, which has figures, are not available "
                f"now ({why}); restore them, give another folder with --results, or pass --fresh to do without {part}"
            )


def judge_identities(judges: Judges, config: RunConfig) -> Mapping[str, Any]:
    """Return everything that decides the verdicts of each judge and of their panel, by fingerprint."""
    found: dict[str, Any] = {}
    for judge in judges.members:
        key = settled(judge, config.judge_serving).key()
        identity = answer_identity(judge, config.judge_serving, attached=None)
        found[judge.fingerprint] = {**identity, **({"reasoning": key} if key else {})}
    if (panel := judges.panel) is not None:
        found[panel.fingerprint] = {"panel": [*found.values()], "weights": panel.weights}
    return found


def suite_run(
    spec: SuiteSpec, config: RunConfig, judged_by: Mapping[str, Any], identity: Mapping[str, Any]
) -> SuiteRun:
    """Load a suite, unless it runs as a whole, and name its questions; ``judged_by`` and ``identity`` are in them."""
    suite, options = spec.suite, config.suite_options_of(spec)
    # A suite that runs as a whole takes seconds to load: its pins are enough for now.
    loaded = None if suite.whole else sampled(suite, suite.load(options), options)
    pins = suite.data_pins(options) if loaded is None else loaded.data_pins
    judged: dict[str | None, Any] = {None: None}
    if suite.needs_judge(options):
        judged.update(judged_by)
    changing = _figure_options(suite, options)
    question = {
        "suite": spec.model_dump(),
        "options": changing,
        "model": dict(identity),
        "pins": {name: pin.sha256 for name, pin in pins.items()},
        "evalsuite": evalsuite.__version__,
    }
    served = scrubbed({name: identity.get(name) for name in _SERVED})
    asked = {name: value for name, value in changing.items() if name not in suite.scoring_options}
    answers = content_key({**question, "options": asked})
    run_keys = {fingerprint: content_key({**question, "judge": judge}) for fingerprint, judge in judged.items()}
    return SuiteRun(spec, options, pins, answers, run_keys, served, loaded)


def _figure_options(suite: Suite, options: SuiteOptions) -> dict[str, Any]:
    """Return the options that change a suite's figures; lm-eval's metrics have no published arithmetic besides."""
    other = {name for name, info in type(options).model_fields.items() if not changes_figures(info)}
    return options.model_dump(mode="json", exclude=other | ({"as_published"} if suite.whole else set()))


def models_asked(plans: Sequence[ModelRun], config: RunConfig, judges: Judges) -> list[ModelUse]:
    """Return every model that this run will ask: the candidates that still need something, and their judges."""
    asked = [
        ModelUse(plan.checkpoint, "candidate", tuple(suite.spec for suite in plan.todo), config.base_url)
        for plan in plans
        if plan.todo and not plan.is_imported
    ]
    judged = {suite.spec.key: suite.spec for plan in plans for suite in plan.todo if suite.needs_judge}
    return asked + [ModelUse(judge, "judge", tuple(judged.values())) for judge in judges.members if judged]
