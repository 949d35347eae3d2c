"""What a run is to do: which suites each model still owes, settled before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import evalsuite
from evalsuite.checkpoint import Checkpoint, resolve
from evalsuite.config import RunConfig, SuiteSpec
from evalsuite.doctor import Asked
from evalsuite.errors import DataError, UsageError
from evalsuite.progress import Progress
from evalsuite.redaction import scrubbed
from evalsuite.results.folder import Stopwatch, figures_sha256, refuse_mixing, reusable, stored_manifest, stored_scores
from evalsuite.serving.session import answer_identity, attached_server, served_as
from evalsuite.store import content_key
from evalsuite.suites.base import Loaded, Record, Suite, SuiteOptions
from evalsuite.suites.names import NOT_ASKED, OPENLLM_PARTS

_SERVED = ("generation_config", "max_model_len", "vllm_args", "attached")
_HARNESS_OPTIONS = frozenset({"data", "limit", "parts", "seed", "chat_template_on_openllm", "fewshot_as_multiturn"})


@dataclass(slots=True)
class SuiteRun:
    """One suite of one model on its way."""

    spec: SuiteSpec
    options: SuiteOptions
    pins: Mapping[str, Mapping[str, Any]]
    run_key: str
    served: Mapping[str, Any]
    """How the model is asked, of what scores.json does not say: its own settings, length, arguments, whose server."""
    loaded: Any = None
    records: Sequence[Record] = ()
    harness_result: Any = None
    judged: bool = False

    @property
    def by_item(self) -> Suite | None:
        """The suite that asks item by item; None for one that lm-eval drives."""
        from evalsuite.suites.registry import SUITES

        return SUITES.get(self.spec.name)

    @property
    def needs_judge(self) -> bool:
        return self.by_item is not None and self.by_item.needs_judge(self.options)


@dataclass(slots=True)
class ModelRun:
    """One model on its way: what is taken over from an earlier run and what is to be done."""

    checkpoint: Checkpoint
    folder: Path
    stored: dict[str, Any] | None
    manifest: dict[str, Any]
    todo: list[SuiteRun]
    watch: Stopwatch = field(default_factory=Stopwatch)
    usage: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    replaces: str | None = None
    """SHA-256 of the figures that --fresh sets aside: another run's newer ones are not meant."""
    chat_source: str | None = None

    def line(self, suite: SuiteRun) -> str:
        """Return the words under which a suite's progress is shown."""
        return f"{self.checkpoint.name} {suite.spec.key}"


def judge_of(config: RunConfig, progress: Progress) -> Checkpoint | None:
    if config.judge_word is None:
        return None
    return resolve(
        config.judge_word,
        allow_pickle=config.allow_pickle,
        trust_remote_code=config.runs_remote_code,
        on_step=progress.step,
    )


def plan_of(
    word: str, config: RunConfig, judge: Checkpoint | None, template_file: Path | None, progress: Progress
) -> ModelRun:
    """Settle what is to be done for one model; refuses to mix figures before anything is started."""
    checkpoint = resolve(
        word,
        chat_template_file=template_file,
        base_url=config.base_url,
        allow_pickle=config.allow_pickle,
        trust_remote_code=config.runs_remote_code,
        on_step=progress.step,
    )
    folder = config.results / checkpoint.slug
    # With --fresh the old figures are set aside when new ones are there to be written.
    stored, manifest = (None, {}) if config.fresh else (stored_scores(folder), stored_manifest(folder))
    old = figures_sha256(folder) if config.fresh else None
    attached, unreachable = attached_server(checkpoint, config.base_url, _served_name_in(manifest, config))
    identity = answer_identity(checkpoint, config.serve_options(), config.chat_template, attached=attached)
    runs = [_with_stored_parts(spec, config, judge, identity, stored, manifest) for spec in config.suites]
    refuse_other_figures(folder, stored, manifest, config, checkpoint, judge, runs)
    todo = [suite for suite in runs if not reusable(stored, manifest, suite.spec.key, suite.run_key)]
    if todo and unreachable is not None:
        raise unreachable
    return ModelRun(checkpoint, folder, stored, manifest, todo, replaces=old)


def _served_name_in(manifest: Mapping[str, Any], config: RunConfig) -> str | None:
    """Return the name of the server under --base-url that gave the stored figures of all suites, None without one."""
    entries = [manifest.get("suites", {}).get(spec.key, {}) for spec in config.suites]
    names = {(entry.get("served") or {}).get("attached") or None for entry in entries}
    return names.pop() if len(names) == 1 else None


def refuse_other_figures(
    folder: Path,
    stored: Mapping[str, Any] | None,
    manifest: Mapping[str, Any],
    config: RunConfig,
    checkpoint: Checkpoint,
    judge: Checkpoint | None,
    runs: Sequence[SuiteRun],
) -> None:
    if stored is not None:
        refuse_mixing(
            folder,
            stored,
            manifest,
            data=config.data,
            limit=config.limit,
            judge=None if judge is None else {"name": judge.name, "fingerprint": judge.fingerprint},
            pins={suite.spec.key: suite.pins for suite in runs},
            model=served_as(checkpoint, config.serve_options(), config.chat_template, attached=bool(config.base_url)),
        )


def _with_stored_parts(
    spec: SuiteSpec,
    config: RunConfig,
    judge: Checkpoint | None,
    identity: Mapping[str, Any],
    stored: Mapping[str, Any] | None,
    manifest: Mapping[str, Any],
) -> SuiteRun:
    """Plan a suite together with those parts of it whose figures stand.

    One file holds all parts of a suite, so the new ones are scored with the old, whose answers are in the store.
    Raises UsageError where the old ones were made with other settings of the suite.
    """
    asked = _suite_run(spec, config, judge, identity)
    entry = manifest.get("suites", {}).get(spec.key, {}) if asked.by_item is None and stored is not None else {}
    parts = (entry.get("options") or {}).get("parts")
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        return asked
    # No parts are all of them.
    every = set(OPENLLM_PARTS) if spec.name == "openllm" else set()
    if not spec.parts or (parts and set(parts) <= set(spec.parts)) or set(spec.parts) == every:
        return asked
    if changed := _made_otherwise(asked, entry):
        raise UsageError(
            f"the figures of {spec.key} that stand there were made with another {', '.join(changed)}, "
            "and one file holds all its parts; ask for all of them at once, give another folder with --results, "
            "or pass --fresh"
        )
    both = tuple(dict.fromkeys([*parts, *spec.parts])) if parts else ()
    return _suite_run(spec.model_copy(update={"parts": both}), config, judge, identity)


def _made_otherwise(asked: SuiteRun, entry: Mapping[str, Any]) -> list[str]:
    """Name what figures in a suite's manifest entry were made with that is otherwise now."""
    now = _that_matter(asked.options, harness=True)
    then, applied = entry["options"], entry.get("applied") or {}
    # A model without a chat template is given none, so asking for none is the same.
    options = [
        name
        for name in now
        if name not in ("parts", "limit", "data") and now[name] not in (then.get(name), applied.get(name))
    ]
    served = entry.get("served") or asked.served
    return options + [name for name in asked.served if served.get(name) != asked.served[name]]


def refuse_unavailable_parts(stored: Mapping[str, Any] | None, suite: SuiteRun) -> None:
    """Raise DataError when a loaded suite lacks data for a part whose figure stands: it would be wiped out."""
    figures = ((stored or {}).get("suites") or {}).get(suite.spec.key) or {}
    for part, why in (getattr(suite.loaded, "missing", None) or {}).items():
        if why != NOT_ASKED and figures.get(part) is not None:
            raise DataError(
                f"{suite.spec.key} is scored as a whole, and of {part}, whose figure stands there, the data are gone "
                f"({why}); bring them back, give another folder with --results, or pass --fresh to do without it"
            )


def refuse_lost_parts(stored: Mapping[str, Any] | None, manifest: Mapping[str, Any], suite: SuiteRun) -> None:
    """Raise UsageError when another run has written parts of a suite meanwhile that this one does not hold."""
    stands = stored is not None and suite.by_item is None and suite.spec.key in stored["suites"]
    entry = manifest.get("suites", {}).get(suite.spec.key, {}) if stands else {}
    parts = (entry.get("options") or {}).get("parts")
    if isinstance(parts, (list, tuple)) and suite.spec.parts and not (parts and set(parts) <= set(suite.spec.parts)):
        raise UsageError(
            f"another run wrote {', '.join(map(str, parts)) or 'all parts'} of {suite.spec.key} meanwhile; "
            "run the same command again: every answer is remembered"
        )


def _suite_run(spec: SuiteSpec, config: RunConfig, judge: Checkpoint | None, identity: Mapping[str, Any]) -> SuiteRun:
    options = config.suite_options(spec)
    loaded, pins = _load(spec, options)
    # lm-eval's metrics know no judge, whoever was given for the other suites.
    judged_by = None
    if judge is not None and loaded is not None:
        judged_by = answer_identity(judge, config.serve_options(), None, attached=None)
    question = {
        "suite": spec.model_dump(),
        "options": _that_matter(options, harness=loaded is None),
        "model": dict(identity),
        "judge": judged_by,
        "pins": {name: pin["sha256"] for name, pin in pins.items()},
        "evalsuite": evalsuite.__version__,
    }
    served = scrubbed({name: identity.get(name) for name in _SERVED})
    return SuiteRun(spec, options, pins, content_key(question), served, loaded)


def _that_matter(options: SuiteOptions, *, harness: bool) -> dict[str, Any]:
    """Return the options that change a suite's figures; those of the item suites are not lm-eval's."""
    own = asdict(options)
    return {name: own[name] for name in own if not harness or name in _HARNESS_OPTIONS}


def _load(spec: SuiteSpec, options: SuiteOptions) -> tuple[Loaded | None, Mapping[str, Mapping[str, Any]]]:
    """Load an item suite; of one that lm-eval drives only the pins, since its tasks take seconds to load."""
    from evalsuite.suites.registry import HARNESS, SUITES

    if spec.name in SUITES:
        loaded = SUITES[spec.name].load(options)
        return loaded, loaded.data_pins
    return None, HARNESS[spec.name].data_pins(options)


def models_asked(plans: Sequence[ModelRun], config: RunConfig, judge: Checkpoint | None) -> list[Asked]:
    """Every model that this run will ask, with what for: the candidates that owe something, and their judge."""
    owing = [plan for plan in plans if plan.todo]
    asked = [
        Asked(plan.checkpoint, "candidate", tuple(suite.spec for suite in plan.todo), config.base_url) for plan in owing
    ]
    judged = {suite.spec.key: suite.spec for plan in owing for suite in plan.todo if suite.needs_judge}
    return asked + ([Asked(judge, "judge", tuple(judged.values()))] if judge is not None and judged else [])


def chat_template_file(config: RunConfig) -> Path | None:
    """Return the file of --chat-template, None for one of FastChat's or none."""
    word = config.chat_template
    return None if word is None or word.startswith("fastchat:") else Path(word).expanduser()
