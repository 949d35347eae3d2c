"""STUDY.yaml: the validated file of a whole study; every fault is reported at once.

A study is DGMs x targets x sizes x blends. Sections that another command has too (``generate``, ``mix``, ``sft``,
``run``, ``compare``) take that command's settings under its own names:

    name: demo-study
    judge: demo
    dgms:
      demo: {model: demo}
      lists: {answers: chats/lists.jsonl}
    targets:
      demo: {model: demo}
    sizes: [8, 16]
    blends: [{dgms: [demo, lists]}]
    generate: {prompts: chats/mini.jsonl}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pydantic

from evalsuite.errors import UsageError
from evalsuite.recipes.recipe import Mix
from evalsuite.recipes.training import TrainingConfig
from evalsuite.serving.config import ServeConfig
from evalsuite.study.sections import (
    ANALYSES,
    AnalysisKind,
    Assumptions,
    Blend,
    Compare,
    Count,
    Dgm,
    Generate,
    Name,
    Paper,
    Run,
    Section,
    StudyMix,
    Target,
    Text,
    Training,
    answer_settings,
    faults_in,
)
from evalsuite.text import plural
from evalsuite.validation import TextT, checked, located, read_mapping, repeated, shipped_recipe

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._]*")
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Study(Section):
    """A whole study; names become folder names, so they are letters, digits, dots and underscores."""

    name: Name
    judge: Text
    seed: int = pydantic.Field(default=0, ge=0, lt=2**31)
    dgms: Mapping[str, Dgm] = pydantic.Field(min_length=1)
    targets: Mapping[str, Target] = pydantic.Field(min_length=1)
    sizes: tuple[Count, ...] = pydantic.Field(min_length=1)
    blends: tuple[Blend, ...] = ()
    generate: Generate | None = None
    mix: StudyMix = StudyMix()
    sft: Training = pydantic.Field(default_factory=dict)
    serve: ServeConfig = ServeConfig()
    judge_serve: ServeConfig = ServeConfig()
    run: Run = pydantic.Field(default_factory=Run)
    compare: Compare | None = pydantic.Field(default_factory=Compare)
    analyze: tuple[AnalysisKind, ...] = ANALYSES
    paper: Paper | None = Paper()
    report: bool = True
    assumptions: Assumptions = Assumptions()
    folder: Path = pydantic.Field(default=Path(), exclude=True)

    @pydantic.field_validator("paper", mode="before")
    @classmethod
    def _read_paper(cls, value: object) -> Any:
        return {True: Paper(), False: None}[value] if isinstance(value, bool) else value

    @pydantic.field_validator("analyze", mode="before")
    @classmethod
    def _read_analyze(cls, value: object) -> Any:
        return () if value is None else value

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        faults = [*self._name_faults(), *self._serving_faults(), *self._blend_faults(), *self._section_faults()]
        faults += () if faults else self.shortages()
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _name_faults(self) -> list[str]:
        names = [("dgm", name) for name in self.dgms] + [("target", name) for name in self.targets]
        faults = [
            f"{kind} {name!r} is not a valid name; use letters, digits, dots and underscores"
            for kind, name in names
            if not _NAME.fullmatch(name)
        ]
        if not _FOLDER_NAME.fullmatch(self.name):
            faults.append(f"name {self.name!r} is not a folder name; use letters, digits, dots, - and _")
        faults += [f"duplicate size {size}" for size in repeated(self.sizes)]
        faults += [f"duplicate analysis {kind!r} in analyze" for kind in repeated(self.analyze)]
        faults += [
            f"{name} is a dgm with model {self.dgms[name].model} and a target with model {self.targets[name].model}; "
            "rename one of them"
            for name in sorted(self.dgms.keys() & self.targets.keys())
            if self.dgms[name].model != self.targets[name].model
        ]
        if any(dgm.is_asked for dgm in self.dgms.values()) and self.generate is None:
            faults.append("a dgm with model needs the section generate with its prompts; add generate: {prompts: ...}")
        faults += [
            f"assumptions.by_model: {name!r} is not a dgm or target of the study; correct its spelling or drop it"
            for name in self.assumptions.by_model
            if name not in self.dgms.keys() | self.targets.keys()
        ]
        return faults

    def untrained(self) -> list[tuple[str, Dgm | Target]]:
        """Return the targets and DGMs that are evaluated as they are, by name."""
        bases = list(self.targets.items()) if self.run.bases else []
        return bases + [(name, dgm) for name, dgm in self.dgms.items() if dgm.model and self.run.dgms]

    def _serving_faults(self) -> list[str]:
        # A model's figures have one folder: those under other settings would replace them at every run.
        first: dict[str, tuple[str, Dgm | Target]] = {}
        entries: list[Dgm | Target] = [*self.dgms.values(), *self.targets.values()]
        serves = [self.serve, self.judge_serve, *(entry.serve for entry in entries if entry.serve is not None)]
        faults = ["set chat_template under sft, not under serve"] if any(one.chat_template for one in serves) else []
        for name, entry in self.untrained():
            title = f"{type(entry).__name__.lower()} {name}"
            other_title, other = first.setdefault(str(entry.model), (title, entry))
            if answer_settings(self.serving_of(entry)) != answer_settings(self.serving_of(other)):
                faults.append(
                    f"{entry.model} is evaluated as {other_title} and as {title} under different serve settings, but a "
                    "model has one results folder; give both the same serve, or set run.bases or run.dgms to false"
                )
        return faults

    def _blend_faults(self) -> list[str]:
        faults = []
        for blend in self.blends:
            title = f"blend {'+'.join(blend.dgms)}"
            known = ", ".join(self.dgms)
            unknown = [dgm for dgm in blend.dgms if dgm not in self.dgms]
            faults += [f"{title}: {dgm!r} is not a dgm of the study; known: {known}" for dgm in unknown]
            faults += [f"{title}: duplicate dgm {dgm!r}" for dgm in repeated(blend.dgms)]
        cells = repeated(("+".join(sorted(blend.dgms)), self.size_of(blend)) for blend in self.blends)
        return faults + [f"duplicate blend {dgms} of size {size}" for dgms, size in cells]

    def _section_faults(self) -> list[str]:
        # Settings that are valid by themselves may contradict each other once they are put together.
        trainings = [
            f"target {name}: {fault}"
            for name, target in self.targets.items()
            for fault in faults_in(TrainingConfig, {**self.sft, **target.sft, "base": target.model})
        ]
        return trainings + self._mix_faults()

    def _mix_faults(self) -> list[str]:
        # A recipe's own rules, checked here because the mixes are drawn only after hours of generating.
        if any(source.fraction is not None for source in self.mix.add):
            return ["mix.add: fraction is of a total, which a study does not have; give count"]
        drawn = {"name": "conversations", "data": "x", "count": 1, "filters": self.mix.filters.model_dump(mode="json")}
        added = [source.model_dump(mode="json") for source in self.mix.add]
        faults = faults_in(Mix, {"sources": [drawn, *added], "tokenizer": self.mix.tokenizer})
        return [f"mix: {fault}" for fault in faults]

    def shortages(self, n_rows: Mapping[str, int] | None = None) -> list[str]:
        """Name each limit and source that is too small for a mix; ``n_rows`` counts the rows of known sources.

        A row gives one conversation at most, and filters only remove some, so no run could succeed.
        """
        n_rows = n_rows or {}
        asked = [
            # Members of a blend give equal shares, except for a remainder.
            (data, source.count // len(source.members))
            for source in self.mix.add
            if source.count is not None and not source.allow_fewer
            for data, _, _ in source.members
        ]
        return self._dgm_shortages(n_rows) + [
            f"{data} has {plural(n_rows[data], 'conversation')}, but mix.add takes {count} of it; give more, lower its "
            "count, or set its allow_fewer"
            for data, count in asked
            if data in n_rows and n_rows[data] < count
        ]

    def _dgm_shortages(self, n_rows: Mapping[str, int]) -> list[str]:
        if self.mix.allow_fewer:
            return []
        wanted = self._conversations_wanted()
        asked = {name: count for name, count in wanted.items() if self.dgms[name].is_asked}
        recorded = [(answers, name) for name, dgm in self.dgms.items() if (answers := dgm.answers)]
        limits = [(answers, n_rows.get(answers), {name: wanted[name]}) for answers, name in recorded]
        if self.generate is not None:
            prompts = self.generate.prompts
            limits = [("generate.limit", self.generate.limit, asked), (prompts, n_rows.get(prompts), asked), *limits]
        return [
            f"{limit} gives {plural(available, 'conversation')}, but the mixes need {max(short.values())} of "
            f"{', '.join(short)}; give more, ask for smaller sizes, or set mix.allow_fewer"
            for limit, available, counts in limits
            if available is not None and (short := {name: n for name, n in counts.items() if n > available})
        ]

    def _conversations_wanted(self) -> dict[str, int]:
        """Return the most conversations that any mix takes from each DGM's source.

        A blend takes equal shares, and each prompt from one DGM only: DGMs that are asked share one source.
        """
        wanted = dict.fromkeys(self.dgms, max(self.sizes))
        for blend in self.blends:
            share = self.size_of(blend) // len(blend.dgms)
            asked = [name for name in blend.dgms if self.dgms[name].is_asked]
            shared = self.size_of(blend) if len(asked) == len(blend.dgms) else share * len(asked)
            wanted |= {name: max(wanted[name], shared if name in asked else share) for name in blend.dgms}
        return wanted

    def size_of(self, blend: Blend) -> int:
        """Return the size of a blend in conversations."""
        return blend.size or max(self.sizes)

    def serving_of(self, entry: Dgm | Target) -> ServeConfig:
        return entry.serve or self.serve

    def judge_settings(self) -> dict[str, Any]:
        """Return how the judge is served where it differs from the models; it enters the keys."""
        if not self.judge_serve.model_fields_set - {"in_flight"}:
            return {}
        return {"judge_serve": answer_settings(self.serve.with_changes(self.judge_serve))}

    def located(self, spec: TextT) -> TextT:
        """Return a path relative to the study file as an absolute one; any other spec unchanged."""
        return located(spec, self.folder)


def read_study(path: Path) -> Study:
    """Read and check STUDY.yaml; raises DataError for an unreadable file, UsageError with every fault in it."""
    path = shipped_recipe(path)
    values = read_mapping(path, "study")
    if "folder" in values:
        raise UsageError(f"{path}: unknown key 'folder'; drop it")
    folder = path.parent.absolute()
    for section, key in (("run", "suites"), ("compare", "prompts")):
        if isinstance(values.get(section), Mapping) and key in values[section]:
            values[section] = {**values[section], key: _located_suites(values[section][key], folder)}
    return checked(Study, {**values, "folder": folder}, str(path))


def _located_suites(given: object, folder: Path) -> Any:
    """Return the YAML files among suites as they are reached from here; names of suites are not paths."""
    if isinstance(given, list):
        return [_located_suites(one, folder) for one in given]
    return located(given, folder) if isinstance(given, str) and given.endswith((".yaml", ".yml")) else given
