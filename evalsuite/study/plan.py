"""The stages of a study in order, from generating to the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from evalsuite.recipes.recipe import Source
from evalsuite.study.file import Study
from evalsuite.study.graph import KINDS, Kind, Stage, trained_models
from evalsuite.study.identities import Identities, mix_sources, scores_key, template_key, template_spec, tokenizer_key
from evalsuite.study.sections import Dgm, Run, Target, answer_settings
from evalsuite.suites.base import Suite
from evalsuite.suites.options import DataKind
from evalsuite.suites.registry import suites
from evalsuite.wildchat.study_tables import Trained

_ASSUMED_ITEMS: Mapping[DataKind, int] = {"full": 1000, "mini": 10}
"""Items of a suite that does not say how many it has, for the projection."""


def plan_study(study: Study, identities: Identities, n_rows: Mapping[str, int] | None = None) -> tuple[Stage, ...]:
    """Return every stage, each after those it depends on; pure.

    ``n_rows`` counts the rows of each source, for the projection alone.
    """
    models = trained_models(study)
    stages = [
        *_generates(study, identities, n_rows or {}),
        *_mixes(study, models, identities),
        *_trainings(study, models, identities),
        *_runs(study, models, identities),
    ]
    stages += _possible(_comparisons(study, models, identities))
    stages += _possible(_analyses(study, models, identities, stages))
    settings = {"labels": _labels_of(study, models)}
    stages.append(Stage("tables", study.name, settings, uses=_names(stages), at_least=1))
    if study.paper is not None:
        stages.append(Stage("paper", study.name, study.paper.model_dump(), uses=_names(stages), at_least=1))
    if study.report:
        stages.append(Stage("report", study.name, {}, uses=_names(stages), at_least=1))
    return tuple(stages)


def _names(stages: Sequence[Stage]) -> tuple[str, ...]:
    return tuple(stage.name for stage in stages)


def _possible(stages: Iterator[Stage]) -> list[Stage]:
    """Leave out stages that can never have enough inputs, such as a comparison of one model."""
    return [stage for stage in stages if len(stage.uses) >= stage.at_least]


def n_to_answer(study: Study, n_rows: Mapping[str, int]) -> int | None:
    """Return how many conversations each DGM is asked; None where neither the limit nor the source's rows are known."""
    if study.generate is None:
        return None
    counts = (study.generate.limit, n_rows.get(study.generate.prompts))
    return min((count for count in counts if count is not None), default=None)


def _generates(study: Study, identities: Identities, n_rows: Mapping[str, int]) -> Iterator[Stage]:
    settings = study.generate
    count = n_to_answer(study, n_rows) or max(study.sizes)
    for name, dgm in study.dgms.items():
        if not dgm.is_asked or dgm.model is None or settings is None:
            continue
        serve = study.serving_of(dgm)
        yield Stage(
            "generate",
            name,
            {
                "model": identities[dgm.model],
                "prompts": identities[settings.prompts],
                **settings.model_dump(exclude={"prompts"}),
                "system": dgm.system,
                "seed": study.seed,
                "serve": answer_settings(serve),
            },
            {"model": study.located(dgm.model), "prompts": study.located(settings.prompts), "serve": serve},
            devices=serve.devices,
            work={"conversations": count, "max_new_tokens": settings.max_new_tokens or 2048},
        )


def _mixes(study: Study, models: Sequence[Trained], identities: Identities) -> Iterator[Stage]:
    by_name = {model.mix: model for model in models}
    for name, model in by_name.items():
        recorded = {dgm: answers for dgm in model.dgms if (answers := study.dgms[dgm].answers)}
        yield Stage(
            "mix",
            name,
            {
                "dgms": {dgm: identities[recorded[dgm]] if dgm in recorded else None for dgm in model.dgms},
                "size": model.size,
                "mix": study.mix.model_dump(mode="json", exclude={"add", "tokenizer"}),
                "tokenizer": identities.get(tokenizer_key(str(study.mix.tokenizer))),
                "add": [_without_data(source, identities) for source in study.mix.add],
                "data": [identities[source] for source in mix_sources(study)],
                # The contamination that a mix and its checkpoints record was measured against this data.
                "contamination": study.run.data,
                "seed": study.seed,
            },
            {"recorded": {dgm: study.located(answers) for dgm, answers in recorded.items()}},
            needs=tuple(f"generate {dgm}" for dgm in model.dgms if dgm not in recorded),
            work={"conversations": model.size},
        )


def _without_data(source: Source, identities: Identities) -> dict[str, Any]:
    """Return a further source with its scores' content and without its path; its data enter the key by themselves."""
    members = [member.model_dump(mode="json", exclude={"data"}) for member in source.blend]
    scores = identities.get(scores_key(str(source.scores)))
    return source.model_dump(mode="json", exclude={"data", "blend"}) | {"blend": members, "scores": scores}


def _trainings(study: Study, models: Sequence[Trained], identities: Identities) -> Iterator[Stage]:
    for model in models:
        target = study.targets[model.target]
        settings = {**study.sft, **target.sft}
        yield Stage(
            "sft",
            model.name,
            {
                "base": identities[target.model],
                "sft": settings,
                "template": identities[template_key(template_spec(study, target))],
                "seed": study.seed,
            },
            {
                "base": study.located(target.model),
                "chat_template": study.located(settings.get("chat_template")),
                "model": model,
            },
            needs=(f"mix {model.mix}",),
            devices=int(settings.get("devices") or study.assumptions.train_devices),
            work={"conversations": model.size * float(settings.get("epochs", 1)), **_step_limit(settings)},
        )


def _step_limit(settings: Mapping[str, Any]) -> dict[str, float]:
    if not settings.get("max_steps"):
        return {}
    return {"at_most_conversations": float(settings["max_steps"]) * float(settings.get("batch_size", 64))}


# Evaluation ------------------------------------------------------------------------------------------


def _runs(study: Study, models: Sequence[Trained], identities: Identities) -> Iterator[Stage]:
    """Yield one run for each model: the untrained ones, then the study's checkpoints."""
    shared = {
        "suites": [identities.get(suite, suite) for suite in study.run.suites],
        "options": study.run.options(),
        "judge": identities[study.judge],
        "seed": study.seed,
        **study.judge_settings(),
    }
    given = {"judge": study.located(study.judge), "suites": list(study.run.suites)}
    work = {"items": n_items(study.run)}

    def stage(
        name: str, entry: Dgm | Target, settings: dict[str, Any], arguments: dict[str, Any], *needs: str
    ) -> Stage:
        serve = study.serving_of(entry)
        settings = {**shared, **settings, "serve": answer_settings(serve)}
        devices = max(serve.devices, serve.with_changes(study.judge_serve).devices)
        return Stage("run", name, settings, {**arguments, **given, "serve": serve}, needs, (), 0, devices, work)

    for name, entry in _evaluated(study):
        model = str(entry.model)
        yield stage(name, entry, {"model": identities[model]}, {"model": study.located(model)})
    for trained in models:
        target = study.targets[trained.target]
        yield stage(trained.name, target, {}, {"base_identity": identities[target.model]}, f"sft {trained.name}")


def n_items(run: Run) -> int:
    """Return about how many questions one model is asked, for the projection."""
    counts = (spec.suite.n_items(spec.parts, run.data, run.limit) for spec in run.specs)
    assumed = _ASSUMED_ITEMS[run.data]
    return sum(min(assumed, run.limit or assumed) if count is None else count for count in counts)


def _evaluated(study: Study) -> Iterator[tuple[str, Dgm | Target]]:
    """Yield each untrained model once, by its first name where it is both a target and a DGM."""
    seen: set[str | None] = set()
    for name, entry in study.untrained():
        if entry.model not in seen:
            seen.add(entry.model)
            yield name, entry


def _run_of(study: Study, name: str) -> str | None:
    """Return the run stage that evaluates a DGM, None where none does."""
    dgm = study.dgms[name]
    serve = answer_settings(study.serving_of(dgm))
    for other, entry in _evaluated(study):
        if dgm.model == entry.model and serve == answer_settings(study.serving_of(entry)):
            return f"run {other}"
    return None


def _labels_of(study: Study, models: Sequence[Trained]) -> dict[str, str]:
    """Return the name in tables of each run stage; it enters the keys of the stages that show it."""
    return {f"run {name}": name for name, _ in _evaluated(study)} | {f"run {m.name}": m.label for m in models}


def _lineage_of(study: Study, models: Sequence[Trained], target: str) -> dict[str, str]:
    """Map the run stage of each checkpoint to that of its DGM, or to the DGM's name where it has none."""
    return {f"run {m.name}": _run_of(study, m.dgms[0]) or m.dgms[0] for m in _largest(study, models, target)}


def _largest(study: Study, models: Sequence[Trained], target: str) -> list[Trained]:
    """Return a target's checkpoints of one DGM each, at the largest size."""
    return [m for m in models if m.target == target and len(m.dgms) == 1 and m.size == max(study.sizes)]


def _comparisons(study: Study, models: Sequence[Trained], identities: Identities) -> Iterator[Stage]:
    """Yield one comparison per target, as in Table 4: the checkpoints at the largest size and the DGMs."""
    compare = study.compare
    if compare is None or compare.spec.name not in {spec.name for spec in study.run.specs}:
        return
    dgms = [stage for dgm in study.dgms if (stage := _run_of(study, dgm)) is not None]
    suite = compare.spec.suite
    n_prompts = (suite.n_items((), study.run.data, study.run.limit) or _ASSUMED_ITEMS[study.run.data]) // suite.n_turns
    for target in study.targets:
        members = tuple(dict.fromkeys([*(f"run {m.name}" for m in _largest(study, models, target)), *dgms]))
        yield Stage(
            "compare",
            target,
            {
                **compare.model_dump(),
                "prompts": identities.get(compare.prompts, compare.prompts),
                **study.run.model_dump(include={"data", "limit"}),
                "judge": identities[study.judge],
                "seed": study.seed,
                "lineage": _lineage_of(study, models, target),
                "serve": answer_settings(study.serve),
                **study.judge_settings(),
            },
            {"judge": study.located(study.judge), "prompts": compare.prompts, "serve": study.serve},
            uses=members,
            at_least=2,
            devices=study.serve.with_changes(study.judge_serve).devices,
            work={"verdicts": len(members) * (len(members) - 1) * n_prompts},
        )


def _analyses(
    study: Study, models: Sequence[Trained], identities: Identities, stages: Sequence[Stage]
) -> Iterator[Stage]:
    """Yield the analyses, each with what it reads: runs and generated answers, or mixes."""
    names: dict[Kind, list[str]] = {kind: [stage.name for stage in stages if stage.kind == kind] for kind in KINDS}
    labels = _labels_of(study, models)
    largest = {target: _largest(study, models, target) for target in study.targets}
    for kind in study.analyze:
        if kind in _READS and not any(_READS[kind](spec.suite) for spec in study.run.specs):
            # No run has what it reads, but the DGMs' generated answers can still be compared.
            yield from _dgm_similarity(study, identities, names["generate"]) if kind == "similarity" else ()
        elif kind == "style":
            lineage = {sft: dgm for target in study.targets for sft, dgm in _lineage_of(study, models, target).items()}
            settings: dict[str, Any] = {"labels": labels, "lineage": lineage}
            yield Stage("analyze", kind, settings, uses=tuple(names["run"]), at_least=1)
        elif kind == "similarity":
            yield Stage("analyze", kind, {"labels": labels}, uses=tuple(names["run"]), at_least=2)
            yield from _dgm_similarity(study, identities, names["generate"])
        elif kind == "keywords":
            for target, checkpoints in largest.items():
                pair = [f"run {m.name}" for m in checkpoints[:2]]
                pair += [f"run {target}"] if len(pair) < 2 and f"run {target}" in names["run"] else []
                settings = {"labels": labels, "data": study.run.data}
                yield Stage("analyze", f"keywords-{target}", settings, uses=tuple(pair), at_least=2)
        elif kind == "efficiency":
            yield Stage("analyze", kind, {}, uses=(*names["generate"], *names["run"]), at_least=1)
        else:
            mixes = dict.fromkeys(f"mix {m.mix}" for checkpoints in largest.values() for m in checkpoints)
            yield Stage("analyze", kind, {"data": study.run.data}, uses=tuple(mixes), at_least=1)


def _dgm_similarity(study: Study, identities: Identities, generates: Sequence[str]) -> Iterator[Stage]:
    if len(study.dgms) < 2:
        return
    recorded = {name: dgm.answers for name, dgm in study.dgms.items() if dgm.answers}
    yield Stage(
        "analyze",
        "similarity-dgms",
        {"recorded": {name: identities[answers] for name, answers in recorded.items()}},
        {"recorded": {name: study.located(answers) for name, answers in recorded.items()}},
        uses=tuple(generates),
        at_least=max(0, 2 - len(recorded)),
    )


_READS: Mapping[str, Callable[[Suite], bool]] = {
    "style": lambda suite: suite.needs_chat,
    "similarity": lambda suite: suite.needs_chat,
    "keywords": lambda suite: suite.judge_explains,
}
"""Which suites an analysis of runs can read: their answers, or for keywords what the judge says of them."""


def left_out(study: Study, stages: Sequence[Stage]) -> list[str]:
    """Say which comparisons and analyses of the file have no stage, and why."""
    asked = {spec.name for spec in study.run.specs}
    wanted: list[tuple[str, str, Sequence[str]]] = [
        ("analyze", kind, [kind] if kind != "keywords" else [f"keywords-{target}" for target in study.targets])
        for kind in study.analyze
        if kind in _READS
    ]
    readable = {kind: [name for name, suite in suites().items() if reads(suite)] for kind, reads in _READS.items()}
    if study.compare is not None:
        wanted.append(("compare", "", list(study.targets)))
        readable[""] = [study.compare.spec.name]
    existing = {stage.name for stage in stages}
    notes = []
    for command, kind, cells in wanted:
        if not asked & set(readable[kind]):
            title, reads = f"{command} {kind}".strip(), " or ".join(readable[kind])
            notes.append(f"{title} is left out: it reads {reads}, which run.suites does not name")
            continue
        missing = [cell for cell in cells if f"{command} {cell}" not in existing]
        notes += [f"{command} {cell} is left out: it needs two models" for cell in missing]
    return notes
