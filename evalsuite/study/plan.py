"""The stages of a study in order, what each depends on, and the content key that says when it is up to date.

    generate DGM -> mix DGM-SIZE -> sft TARGET-DGM-SIZE -> run MODEL -> compare TARGET -> analyze KIND
                                                                     -> tables -> paper -> report

A key is the SHA-256 of a stage's settings, the fingerprints of the models and data that it takes from outside, and
the keys of the stages that it rests on. So every key is known before anything runs, and a changed line changes the
keys of exactly what depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import evalsuite
from evalsuite.recipes.recipe import Source
from evalsuite.store import content_key
from evalsuite.study.file import Dgm, Run, Study, Target

Kind = Literal["generate", "mix", "sft", "run", "compare", "analyze", "tables", "paper", "report"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Identities = Mapping[str, str]
"""The content identity of each word for a model or a source: a fingerprint, or a pinned revision."""

UNRESOLVED = "unresolved:"
"""Begins the identity of a model or source that is not here yet and was not asked for."""

TEMPLATE_OF = "the chat template of "
"""Stands before a word for which only its chat template is taken; that has an identity of its own."""
TOKENIZER_OF = "the tokenizer of "
"""As TEMPLATE_OF, for the tokenizer by which a mix counts."""

WEIGHTS_AND_WORDS = "+"
"""Stands in a local model's identity between its weights' fingerprint and the hash of tokenizer and chat template."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One cell of work. ``needs`` must be done; of ``uses`` those that are done are taken, ``at_least`` so many.

    ``settings`` enter the key; ``words`` (paths, names of models) do not, because the content behind them does.
    ``work`` is its size for the projection; ``devices`` how many devices it holds, 0 for none.
    """

    kind: Kind
    cell: str
    settings: Mapping[str, Any]
    words: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    at_least: int = 0
    devices: int = 0
    work: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.kind} {self.cell}"


@dataclass(frozen=True, slots=True)
class Trained:
    """One checkpoint of the study: ``dgms`` are those of its mix, ``size`` the conversations asked of it."""

    target: str
    dgms: tuple[str, ...]
    size: int

    @property
    def mix(self) -> str:
        return f"{'-and-'.join(self.dgms)}-{self.size}"

    @property
    def name(self) -> str:
        return f"{self.target}-{self.mix}"

    @property
    def label(self) -> str:
        """The paper's way to name it, as in ``L8B : Q7 + L8I (500)``."""
        return f"{self.target} : {' + '.join(self.dgms)} ({self.size})"


def trained_models(study: Study) -> tuple[Trained, ...]:
    """Every checkpoint that the study trains: single DGMs by size, then blends, for each target."""
    singles = [((dgm,), size) for dgm in study.dgms for size in sorted(study.sizes)]
    blends = [(blend.dgms, study.size_of(blend)) for blend in study.blends]
    return tuple(Trained(target, dgms, size) for target in study.targets for dgms, size in [*singles, *blends])


def words_of(study: Study) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words for models and for data that the study takes from outside; their content enters the keys."""
    models = [study.judge, *(target.model for target in study.targets.values())]
    models += [dgm.model for dgm in study.dgms.values() if dgm.model]
    sources = [*conversation_words(study), *mix_words(study)]
    return tuple(dict.fromkeys(models)), tuple(dict.fromkeys(sources))


def conversation_words(study: Study) -> list[str]:
    """The data in which the DGMs' conversations stand: recorded answers, and the prompts that the others answer."""
    sources = [dgm.answers for dgm in study.dgms.values() if dgm.answers]
    if study.generate is not None and any(dgm.is_asked for dgm in study.dgms.values()):
        sources.append(study.generate.prompts)
    return sources


def template_words(study: Study) -> list[str]:
    """The chat templates of the trainings: files, or models whose template is taken."""
    return list(dict.fromkeys(_template_word(study, target) for target in study.targets.values()))


def _template_word(study: Study, target: Target) -> str:
    """The file or model that gives a training's chat template: by default the target's own model."""
    return str({**study.sft, **target.sft}.get("chat_template") or target.model)


def weights_of(identity: str) -> str:
    """Return the fingerprint of a local model's weights, under which speeds are recorded; of others the identity."""
    return identity.partition(WEIGHTS_AND_WORDS)[0]


def mix_words(study: Study) -> list[str]:
    """The data that every mix of the study takes besides its DGMs' answers."""
    return [data for source in study.mix.add for data, _, _ in source.members]


def plan_study(study: Study, identities: Identities, held: Mapping[str, int] | None = None) -> tuple[Stage, ...]:
    """Return every stage in an order in which each stands after what it rests on; pure.

    ``held`` are the rows of each source by its word, for the projection alone.
    """
    models = trained_models(study)
    stages = [
        *_generates(study, identities, held or {}),
        *_mixes(study, models, identities),
        *_trainings(study, models, identities),
    ]
    runs = list(_runs(study, models, identities))
    stages += runs
    if study.compare is not None:
        stages += _with_enough(_comparisons(study, models, identities, [stage.name for stage in runs]))
    stages += _with_enough(_analyses(study, models, identities, stages))
    done_so_far = tuple(stage.name for stage in stages)
    stages.append(Stage("tables", study.name, {"labels": labels_of(study, models)}, uses=done_so_far, at_least=1))
    if study.paper is not None:
        known = tuple(stage.name for stage in stages)
        stages.append(Stage("paper", study.name, study.paper.model_dump(), uses=known, at_least=1))
    if study.report:
        known = tuple(stage.name for stage in stages)
        stages.append(Stage("report", study.name, {}, uses=known, at_least=1))
    return tuple(stages)


def _with_enough(stages: Iterator[Stage]) -> list[Stage]:
    """Leave out what no outcome could satisfy, as a comparison of one model: the study would never end with 0."""
    return [stage for stage in stages if len(stage.uses) >= stage.at_least]


def key_of(stage: Stage, keys: Mapping[str, str]) -> str:
    """Return the content key of a stage whose inputs have ``keys``; of ``uses`` only those that are there count."""
    return content_key(
        {
            "kind": stage.kind,
            "cell": stage.cell,
            "settings": dict(stage.settings),
            "inputs": {name: keys[name] for name in (*stage.needs, *stage.uses) if name in keys},
            "evalsuite": evalsuite.__version__,
        }
    )


def n_to_answer(study: Study, held: Mapping[str, int]) -> int | None:
    """How many conversations each DGM is asked, None where neither a limit nor the source's rows tell."""
    if study.generate is None:
        return None
    told = (study.generate.limit, held.get(study.generate.prompts))
    return min((count for count in told if count is not None), default=None)


def _generates(study: Study, identities: Identities, held: Mapping[str, int]) -> Iterator[Stage]:
    how = study.generate
    count = n_to_answer(study, held) or max(study.sizes)
    for name, dgm in study.dgms.items():
        if not dgm.is_asked or dgm.model is None or how is None:
            continue
        serve = study.serving_of(dgm)
        yield Stage(
            "generate",
            name,
            {
                "model": identities[dgm.model],
                "prompts": identities[how.prompts],
                **how.model_dump(exclude={"prompts"}),
                "system": dgm.system,
                "seed": study.seed,
                "serve": serve.that_matters(),
            },
            words={"model": study.place(dgm.model), "prompts": study.place(how.prompts), "serve": serve},
            devices=serve.devices,
            work={"conversations": count, "max_new_tokens": how.max_new_tokens or 2048},
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
                "tokenizer": identities.get(f"{TOKENIZER_OF}{study.mix.tokenizer}"),
                "add": [_added(source) for source in study.mix.add],
                "data": [identities[word] for word in mix_words(study)],
                # What a mix and its checkpoints say of their contamination was measured against this data.
                "contamination": study.run.data,
                "seed": study.seed,
            },
            words={"recorded": {dgm: study.place(answers) for dgm, answers in recorded.items()}},
            needs=tuple(f"generate {dgm}" for dgm in model.dgms if dgm not in recorded),
            work={"conversations": model.size},
        )


def _added(source: Source) -> dict[str, Any]:
    """A further source without its data's place; the content of the data enters the key by itself."""
    members = [member.model_dump(mode="json", exclude={"data"}) for member in source.blend]
    return source.model_dump(mode="json", exclude={"data", "blend"}) | {"blend": members}


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
                "template": identities[TEMPLATE_OF + _template_word(study, target)],
                "seed": study.seed,
            },
            words={
                "base": study.place(target.model),
                "chat_template": study.place(template) if (template := settings.get("chat_template")) else None,
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


def _runs(study: Study, models: Sequence[Trained], identities: Identities) -> Iterator[Stage]:
    shared = {
        "suites": list(study.run.suites),
        "options": study.run.options(),
        "judge": identities[study.judge],
        "seed": study.seed,
    }
    for name, entry in _evaluated(study):
        serve, word = study.serving_of(entry), str(entry.model)
        yield Stage(
            "run",
            name,
            {**shared, "model": identities[word], "serve": serve.that_matters()},
            words={"model": study.place(word), "serve": serve, "judge": study.place(study.judge)},
            devices=serve.devices,
            work={"items": n_items(study.run)},
        )
    for model in models:
        serve = study.serving_of(study.targets[model.target])
        yield Stage(
            "run",
            model.name,
            {**shared, "serve": serve.that_matters()},
            words={
                "serve": serve,
                "judge": study.place(study.judge),
                "base_identity": identities[study.targets[model.target].model],
            },
            needs=(f"sft {model.name}",),
            devices=serve.devices,
            work={"items": n_items(study.run)},
        )


def _evaluated(study: Study) -> Iterator[tuple[str, Dgm | Target]]:
    """The untrained models, each once: one that is a target and a DGM goes by its first name."""
    seen: set[str | None] = set()
    for name, entry in study.untrained():
        if entry.model not in seen:
            seen.add(entry.model)
            yield name, entry


def _run_of(study: Study, dgm: str) -> str | None:
    """The run stage that evaluates a DGM, None where none does."""
    own = study.dgms[dgm]
    served = study.serving_of(own).that_matters()
    for name, entry in _evaluated(study):
        if own.model == entry.model and served == study.serving_of(entry).that_matters():
            return f"run {name}"
    return None


def _comparisons(
    study: Study, models: Sequence[Trained], identities: Identities, runs: Sequence[str]
) -> Iterator[Stage]:
    """Compare as Table 4 does: the SFTs at the largest size and the DGMs; one comparison a target."""
    if study.compare is None or study.compare.prompts not in _suites(study):
        return
    dgms = [stage for dgm in study.dgms if (stage := _run_of(study, dgm)) is not None and stage in runs]
    for target in study.targets:
        members = tuple(dict.fromkeys([*(f"run {m.name}" for m in _largest(study, models, target)), *dgms]))
        yield Stage(
            "compare",
            target,
            {
                **study.compare.model_dump(),
                "data": study.run.data,
                "limit": study.run.limit,
                "judge": identities[study.judge],
                "seed": study.seed,
                "lineage": lineage_of(study, models, target),
                "serve": study.serve.that_matters(),
            },
            words={"judge": study.place(study.judge), "serve": study.serve},
            uses=members,
            at_least=2,
            devices=study.serve.devices,
            work={"verdicts": len(members) * (len(members) - 1) * _n_prompts(study)},
        )


def _largest(study: Study, models: Sequence[Trained], target: str) -> list[Trained]:
    """A target's checkpoints of one DGM each, at the largest size."""
    return [m for m in models if m.target == target and len(m.dgms) == 1 and m.size == max(study.sizes)]


def lineage_of(study: Study, models: Sequence[Trained], target: str) -> dict[str, str]:
    """Which run stage of a checkpoint goes with which run stage of its DGM; with the DGM's name where it has none."""
    return {f"run {m.name}": _run_of(study, m.dgms[0]) or m.dgms[0] for m in _largest(study, models, target)}


def _analyses(
    study: Study, models: Sequence[Trained], identities: Identities, stages: Sequence[Stage]
) -> Iterator[Stage]:
    """Each analysis rests on what it reads: runs and generated answers, or mixes."""
    names: dict[Kind, list[str]] = {kind: [stage.name for stage in stages if stage.kind == kind] for kind in KINDS}
    labels = labels_of(study, models)
    largest = {target: _largest(study, models, target) for target in study.targets}
    for kind in study.analyze:
        if kind in _READS and not _READS[kind] & _suites(study):
            # No run leaves what it reads; what the DGMs have generated is compared all the same.
            yield from _dgm_similarity(study, identities, names["generate"]) if kind == "similarity" else ()
        elif kind == "style":
            lineage = {sft: dgm for target in study.targets for sft, dgm in lineage_of(study, models, target).items()}
            told = {"labels": labels, "lineage": lineage}
            yield Stage("analyze", kind, told, uses=tuple(names["run"]), at_least=1)
        elif kind == "similarity":
            yield Stage("analyze", kind, {"labels": labels}, uses=tuple(names["run"]), at_least=2)
            yield from _dgm_similarity(study, identities, names["generate"])
        elif kind == "keywords":
            for target, own in largest.items():
                pair = [f"run {m.name}" for m in own[:2]]
                pair += [f"run {target}"] if len(pair) < 2 and f"run {target}" in names["run"] else []
                settings: dict[str, Any] = {"labels": labels, "data": study.run.data}
                yield Stage("analyze", f"keywords-{target}", settings, uses=tuple(pair), at_least=2)
        elif kind == "efficiency":
            yield Stage("analyze", kind, {}, uses=(*names["generate"], *names["run"]), at_least=1)
        else:
            mixes = dict.fromkeys(f"mix {m.mix}" for own in largest.values() for m in own)
            yield Stage("analyze", kind, {"data": study.run.data}, uses=tuple(mixes), at_least=1)


_READS: Mapping[str, frozenset[str]] = {
    "style": frozenset({"mt_bench", "alpaca_eval", "mixeval"}),
    "similarity": frozenset({"mt_bench", "alpaca_eval", "mixeval"}),
    "keywords": frozenset({"mt_bench"}),
}
"""The suites whose answers, or for keywords judgments in words, an analysis of runs reads: any of them will do."""


def _suites(study: Study) -> set[str]:
    return {suite.partition(":")[0] for suite in study.run.suites}


def left_out(study: Study, stages: Sequence[Stage]) -> list[str]:
    """Say which comparisons and analyses the file asks for have no stage, and why."""
    there = {stage.name for stage in stages}
    reads: dict[str, tuple[str, frozenset[str]]] = {
        f"analyze {kind}": (kind, _READS[kind]) for kind in study.analyze if kind in _READS
    }
    if study.compare is not None:
        reads["compare"] = ("compare", frozenset({study.compare.prompts}))
    notes = []
    for stage, (kind, suites) in reads.items():
        if not suites & _suites(study):
            read = " or ".join(sorted(suites))
            notes.append(f"{stage} is left out: it reads the answers to {read}, which run.suites does not name")
            continue
        cells = {"compare": list(study.targets), "keywords": [f"keywords-{target}" for target in study.targets]}
        names = [f"{stage.partition(' ')[0]} {cell}" for cell in cells.get(kind, [kind])]
        notes += [
            f"{name} is left out: it is between two models, and fewer are run" for name in names if name not in there
        ]
    return notes


def _dgm_similarity(study: Study, identities: Identities, generates: Sequence[str]) -> Iterator[Stage]:
    if len(study.dgms) < 2:
        return
    recorded = {name: dgm.answers for name, dgm in study.dgms.items() if dgm.answers}
    yield Stage(
        "analyze",
        "similarity-dgms",
        {"recorded": {name: identities[answers] for name, answers in recorded.items()}},
        words={"recorded": {name: study.place(answers) for name, answers in recorded.items()}},
        uses=tuple(generates),
        at_least=max(0, 2 - len(recorded)),
    )


def labels_of(study: Study, models: Sequence[Trained]) -> dict[str, str]:
    """The name in tables of each run stage; it enters the key of what shows it."""
    return {f"run {name}": name for name, _ in _evaluated(study)} | {f"run {m.name}": m.label for m in models}


_FULL_ITEMS = {
    "mt_bench": 160,
    "alpaca_eval": 805,
    "mixeval": 4000,
    "mixeval:hard": 1000,
    "bbh": 5761,
    "gpqa": 1192,
    "math": 1324,
    "musr": 756,
    "ifeval": 541,
    "mmlu_pro": 12032,
}
"""Questions of each suite or part, for the projection alone; of MT-Bench both turns."""
_MINI_ITEMS = 10
_TASKS = {"mt_bench": 2, "mixeval": 2, "mixeval:hard": 2, "bbh": 24, "gpqa": 3, "math": 7, "musr": 3}
"""Splits or tasks, to each of which a limit applies; of the others there is one."""


def n_items(run: Run) -> int:
    """About how many questions one model is asked."""
    names: list[str] = []
    for suite in run.suites:
        name, _, parts = suite.partition(":")
        if name == "openllm":
            names += parts.split(",") if parts else ["bbh", "gpqa", "math", "musr", "ifeval", "mmlu_pro"]
        else:
            names.append(suite)
    mini = run.data == "mini"
    sizes = {name: _MINI_ITEMS if mini else _FULL_ITEMS.get(name, 1000) for name in names}
    tasks = {name: 1 if mini else _TASKS.get(name, 1) for name in names}
    return sum(min(size, (run.limit or size) * tasks[name]) for name, size in sizes.items())


def _n_prompts(study: Study) -> int:
    prompts = study.compare.prompts if study.compare else "mt_bench"
    size = _MINI_ITEMS // 2 if study.run.data == "mini" else {"mt_bench": 80, "alpaca_eval": 805}[prompts]
    return min(size, study.run.limit or size)
