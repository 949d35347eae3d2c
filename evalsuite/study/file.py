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
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic

from evalsuite.config import RunConfig
from evalsuite.conversations.formats import Format
from evalsuite.errors import DataError, UsageError
from evalsuite.recipes.recipe import Duplicates, Filters, Mix, Source
from evalsuite.recipes.training import TrainingConfig

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._]*")
_Name = Annotated[str, pydantic.Field(min_length=1, max_length=40)]
_Word = Annotated[str, pydantic.Field(min_length=1)]
_Count = Annotated[int, pydantic.Field(ge=1, le=10**12)]
_Amount = Annotated[float, pydantic.Field(ge=1e-9, le=1e12)]
_LARGEST = 1e12
"""Above this a number of a training is a slip, and what is projected from it would be no number any more."""
AnalysisKind = Literal["style", "similarity", "keywords", "efficiency", "contamination"]
ANALYSES: tuple[AnalysisKind, ...] = ("style", "similarity", "keywords", "efficiency", "contamination")


def _faults_of(model: type[pydantic.BaseModel], values: Mapping[str, Any]) -> Sequence[str]:
    try:
        model(**values)
    except pydantic.ValidationError as error:
        return [_words(fault) for fault in error.errors()]
    return []


def _training_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check an ``sft`` section by itself; the study sets its base."""
    if "base" in settings:
        raise ValueError("base is the target's model; drop it")
    faults = [
        f"{key} {reprlib.repr(value)} is no number to reckon with; give one below {_LARGEST:.0e}"
        for key, value in settings.items()
        if isinstance(value, int | float) and not abs(value) <= _LARGEST
    ]
    faults = faults or [*_faults_of(TrainingConfig, {**settings, "base": "x"})]
    if faults:
        raise ValueError("; ".join(faults))
    return settings


def _words(fault: Any) -> str:
    """Put one of pydantic's faults into words that name the line and the remedy."""
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key; correct its spelling or drop it"
    if fault["type"] == "missing":
        return f"{where}: missing; add it"
    if fault["type"] == "value_error":
        return f"{where}: {fault['ctx']['error']}" if where else str(fault["ctx"]["error"])
    return f"{where} {reprlib.repr(fault.get('input'))}: {str(fault['msg']).removeprefix('Input ').lower()}"


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Serving(_Section):
    """How models are served; the options of ``evalsuite run`` under their own names."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: int | None = pydantic.Field(default=None, ge=16)
    tensor_parallel_size: _Count = 1
    data_parallel_size: _Count = 1
    vllm_args: Mapping[str, str | int | float | bool] = {}
    in_flight: _Count | None = None

    @property
    def devices(self) -> int:
        return self.tensor_parallel_size * self.data_parallel_size

    def that_matters(self) -> dict[str, Any]:
        """What of serving may change an answer; how many requests are in flight does not."""
        return self.model_dump(exclude={"in_flight"})


class Dgm(_Section):
    """A data generating model: ``model`` is served and asked, unless ``answers`` are conversations it has answered.

    With both, the recorded answers are mixed and the model is only evaluated.
    """

    model: _Word | None = None
    answers: _Word | None = None
    system: str | None = None
    serve: Serving | None = None

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.model is None and self.answers is None:
            raise ValueError("give model (it is asked) or answers (recorded conversations)")
        if self.answers is not None and self.system is not None:
            raise ValueError("recorded answers are not asked again; drop system")
        if self.model is None and self.serve is not None:
            raise ValueError("recorded answers are not served; drop serve, or give model")
        return self

    @property
    def is_asked(self) -> bool:
        return self.model is not None and self.answers is None


class Target(_Section):
    """A base model to be trained; ``sft`` overrides the study's own training settings for it."""

    model: _Word
    sft: Mapping[str, Any] = {}
    serve: Serving | None = None

    @pydantic.field_validator("sft")
    @classmethod
    def _as_sft_takes_it(cls, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        return _training_settings(settings)


class Blend(_Section):
    """Equal draws of several DGMs; ``size`` None is the study's largest."""

    dgms: tuple[str, ...] = pydantic.Field(min_length=2)
    size: _Count | None = None


class Generate(_Section):
    """What the DGMs answer; the options of ``evalsuite generate``. ``limit`` None is the whole source."""

    prompts: _Word
    limit: _Count | None = None
    language: str | None = None
    policy: Literal["own", "teacher-forced"] = "own"
    max_new_tokens: _Count | None = None
    temperature: float | None = pydantic.Field(default=None, ge=0)
    top_p: float | None = pydantic.Field(default=None, gt=0, le=1)


class StudyMix(_Section):
    """How each mix is drawn from the DGMs' answers, and what ``add`` puts beside them; the parts of a recipe's ``mix``.

    A size of the study counts the conversations of the DGMs; those of ``add`` come on top.
    """

    filters: Filters = Filters()
    format: Format | None = None
    allow_fewer: bool = False
    add: tuple[Source, ...] = ()
    duplicates: Duplicates = Duplicates()
    shuffle: bool = True
    tokenizer: _Word | None = None


class Run(_Section):
    """Which benchmarks; ``bases`` and ``dgms`` evaluate the untrained targets and the DGMs themselves too."""

    suites: tuple[str, ...] = ("mt_bench", "alpaca_eval", "openllm", "mixeval")
    data: Literal["full", "mini"] = "full"
    limit: _Count | None = None
    mixeval_parser: Literal["judge", "rule"] | None = None
    as_published: bool = False
    openllm_chat_template: bool = True
    fewshot_as_multiturn: bool = True
    bases: bool = True
    dgms: bool = True

    @pydantic.field_validator("suites")
    @classmethod
    def _as_run_takes_them(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if faults := _faults_of(RunConfig, {"models": ("x",), "suites": words}):
            raise ValueError("; ".join(faults))
        if not words:
            raise ValueError("no suite is named; name one, or leave the line out for all four")
        return words

    def options(self) -> dict[str, Any]:
        """The options that ``evalsuite run`` has too, under its names."""
        return self.model_dump(exclude={"bases", "dgms", "suites"})


class Compare(_Section):
    """How models are compared pairwise; the options of ``evalsuite compare``."""

    prompts: Literal["mt_bench", "alpaca_eval"] = "mt_bench"
    turns: Literal["first", "both"] = "first"
    method: Literal["verdict", "reasoned"] = "verdict"
    tie_margin: float = pydantic.Field(default=0.0, ge=0, le=0.5)


class Paper(_Section):
    """What the paper's short names mean in this study, as in ``{L8B: my-base, Q72: my-dgm}``."""

    aliases: Mapping[str, str] = {}


class Assumptions(_Section):
    """What the projection falls back on where no earlier run has measured it; speeds are tokens a second.

    A speed is that of a server with all its devices, or of a whole training with all of its. ``by_model`` gives the
    answering speed of single DGMs and targets by their names in the study. ``device`` is the word for what is
    counted in hours: a GPU's name, or by default the GPU or machine that is here. The defaults were measured with
    the demo model on two CPU cores: a study on GPUs states its own.
    """

    device: str | None = None

    answer_tokens_per_second: _Amount = 250.0
    train_tokens_per_second: _Amount = 90.0
    by_model: Mapping[str, _Amount] = {}
    serve_start_s: _Amount = 65.0
    train_start_s: _Amount = 25.0
    turns_per_conversation: _Amount = 2.0
    tokens_per_answer: _Amount = 300.0
    tokens_per_conversation: _Amount = 900.0
    tokens_per_item: _Amount = 40.0
    verdicts_per_second: _Amount = 8.0
    train_devices: _Count = 1


class Study(_Section):
    """A whole study; names become folder names, so they are letters, digits, dots and underscores."""

    name: _Name
    judge: _Word
    seed: int = pydantic.Field(default=0, ge=0, lt=2**31)
    dgms: Mapping[str, Dgm] = pydantic.Field(min_length=1)
    targets: Mapping[str, Target] = pydantic.Field(min_length=1)
    sizes: tuple[_Count, ...] = pydantic.Field(min_length=1)
    blends: tuple[Blend, ...] = ()
    generate: Generate | None = None
    mix: StudyMix = StudyMix()
    sft: Mapping[str, Any] = {}
    serve: Serving = Serving()
    run: Run = Run()
    compare: Compare | None = Compare()
    analyze: tuple[AnalysisKind, ...] = ANALYSES
    paper: Paper | None = Paper()
    report: bool = True
    assumptions: Assumptions = Assumptions()
    folder: Path = pydantic.Field(default=Path(), exclude=True)

    @pydantic.field_validator("sft")
    @classmethod
    def _as_sft_takes_it(cls, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        return _training_settings(settings)

    @pydantic.field_validator("paper", mode="before")
    @classmethod
    def _read_switch(cls, value: Any) -> Any:
        return {True: Paper(), False: None}[value] if isinstance(value, bool) else value

    @pydantic.field_validator("analyze", mode="before")
    @classmethod
    def _none_is_no_analysis(cls, value: Any) -> Any:
        return () if value is None else value

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        faults = [*self._name_faults(), *self._blend_faults(), *self._section_faults()]
        faults += () if faults else self.shortages()
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _name_faults(self) -> list[str]:
        faults = [
            f"{what} {name!r} is no plain name; use letters, digits, dots and underscores"
            for what, names in (("dgm", self.dgms), ("target", self.targets))
            for name in names
            if not _NAME.fullmatch(name)
        ]
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            faults.append(f"name {self.name!r} is no folder name; use letters, digits, dots, - and _")
        if len(set(self.sizes)) < len(self.sizes):
            faults.append(f"sizes {list(self.sizes)} name one twice; name each once")
        faults += [
            f"{name} is a dgm with model {self.dgms[name].model} and a target with model {self.targets[name].model}; "
            "rename one of them"
            for name in sorted(self.dgms.keys() & self.targets.keys())
            if self.dgms[name].model != self.targets[name].model
        ]
        faults += self._serving_faults()
        if any(dgm.is_asked for dgm in self.dgms.values()) and self.generate is None:
            faults.append("a dgm with model needs the section generate with its prompts; add generate: {prompts: ...}")
        faults += [
            f"assumptions.by_model names {name!r}, no dgm or target of the study; correct its spelling or drop it"
            for name in self.assumptions.by_model
            if name not in {*self.dgms, *self.targets}
        ]
        if len(set(self.analyze)) < len(self.analyze):
            faults.append(f"analyze {list(self.analyze)} names one twice; name each once")
        return faults

    def untrained(self) -> list[tuple[str, Dgm | Target]]:
        """The targets and DGMs that are evaluated as they are, by name."""
        bases = list(self.targets.items()) if self.run.bases else []
        return bases + [(name, dgm) for name, dgm in self.dgms.items() if dgm.model and self.run.dgms]

    def _serving_faults(self) -> list[str]:
        # Its figures have one folder: those of one serving would set those of the other aside, for ever.
        first: dict[str, tuple[str, Dgm | Target]] = {}
        faults = []
        for name, entry in self.untrained():
            called = f"{type(entry).__name__.lower()} {name}"
            other, alike = first.setdefault(str(entry.model), (called, entry))
            if self.serving_of(entry).that_matters() != self.serving_of(alike).that_matters():
                faults.append(
                    f"{entry.model} is evaluated as {other} and as {called} under different serve settings, and its "
                    "figures have one place; give both the same serve, or set run.bases or run.dgms to false"
                )
        return faults

    def _blend_faults(self) -> list[str]:
        faults = []
        seen: set[tuple[tuple[str, ...], int]] = set()
        for blend in self.blends:
            faults += [
                f"blend {'+'.join(blend.dgms)} names {dgm!r}, no dgm of the study; known: {', '.join(self.dgms)}"
                for dgm in blend.dgms
                if dgm not in self.dgms
            ]
            if len(set(blend.dgms)) < len(blend.dgms):
                faults.append(f"blend {'+'.join(blend.dgms)} names a dgm twice; name each once")
            cell = (tuple(sorted(blend.dgms)), self.size_of(blend))
            if cell in seen:
                faults.append(f"blend {'+'.join(blend.dgms)} of size {cell[1]} is given twice; give it once")
            seen.add(cell)
        return faults

    def _section_faults(self) -> list[str]:
        # Settings that are right by themselves may contradict each other once they are put together.
        trainings = [
            f"target {name}: {fault}"
            for name, target in self.targets.items()
            for fault in _faults_of(TrainingConfig, {**self.sft, **target.sft, "base": target.model})
        ]
        return trainings + self._mix_faults()

    def _mix_faults(self) -> list[str]:
        # A recipe's own rules; mixes are drawn after hours of generating, too late to be told of them.
        if any(source.fraction is not None for source in self.mix.add):
            return ["mix.add: fraction is of a total, which a study has not; give count"]
        drawn = {"name": "conversations", "data": "x", "count": 1, "filters": self.mix.filters.model_dump(mode="json")}
        added = [source.model_dump(mode="json") for source in self.mix.add]
        return [
            f"mix: {fault}" for fault in _faults_of(Mix, {"sources": [drawn, *added], "tokenizer": self.mix.tokenizer})
        ]

    def shortages(self, held: Mapping[str, int] | None = None) -> list[str]:
        """Name each limit and source that cannot give what a mix asks of it; ``held`` are sources' rows by word.

        A row gives one conversation at most, and filters and duplicates only take some away, so no run would do.
        """
        return self._dgm_shortages(held or {}) + self._added_shortages(held or {})

    def _added_shortages(self, held: Mapping[str, int]) -> list[str]:
        asked = [
            # Members of a blend give equally many, but for one.
            (word, source.count // len(source.members))
            for source in self.mix.add
            if source.count is not None and not source.allow_fewer
            for word, _, _ in source.members
        ]
        return [
            f"{word} gives {held[word]} conversations, and mix.add takes {count} of it; give more, lower its count, or "
            "set its allow_fewer"
            for word, count in asked
            if word in held and held[word] < count
        ]

    def _dgm_shortages(self, held: Mapping[str, int]) -> list[str]:
        if self.mix.allow_fewer:
            return []
        wanted = self._conversations_wanted()
        asked = {name: count for name, count in wanted.items() if self.dgms[name].is_asked}
        limits = [] if self.generate is None else [("generate.limit", self.generate.limit or None, asked)]
        if self.generate is not None:
            limits.append((self.generate.prompts, held.get(self.generate.prompts), asked))
        for name, count in wanted.items():
            if answers := self.dgms[name].answers:
                limits.append((answers, held.get(answers), {name: count}))
        return [
            f"{what} gives {there} conversations, and the mixes need {max(of.values())} of {', '.join(of)}; give more, "
            "ask for smaller sizes, or set mix.allow_fewer"
            for what, there, all_of in limits
            if there is not None and (of := {name: count for name, count in all_of.items() if count > there})
        ]

    def _conversations_wanted(self) -> dict[str, int]:
        """The most conversations that any mix takes from each DGM's source.

        A blend takes equal shares, and each prompt from one DGM only: those that are asked share out one source.
        """
        wanted = dict.fromkeys(self.dgms, max(self.sizes))
        for blend in self.blends:
            share = self.size_of(blend) // len(blend.dgms)
            asked = [name for name in blend.dgms if self.dgms[name].is_asked]
            own = self.size_of(blend) if len(asked) == len(blend.dgms) else share * len(asked)
            wanted |= {name: max(wanted[name], own if name in asked else share) for name in blend.dgms}
        return wanted

    def size_of(self, blend: Blend) -> int:
        """The size of a blend in conversations."""
        return blend.size or max(self.sizes)

    def serving_of(self, entry: Dgm | Target) -> Serving:
        return entry.serve or self.serve

    def place(self, word: str) -> str:
        """Return a path beside the study file as it is reached from here; any other word as it stands."""
        beside = self.folder / word
        return str(beside) if not Path(word).is_absolute() and beside.exists() else word


def read_study(path: Path) -> Study:
    """Read and check STUDY.yaml; raises DataError for a file that is none, UsageError with every fault in it."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        twice = sorted(_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader)))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; give the study's YAML file") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path} is not YAML ({' '.join(str(error).split())}); correct it there") from error
    if not isinstance(document, dict):
        raise DataError(f"{path} is not a mapping; write lines such as 'name: my-study'")
    if twice:
        raise UsageError(f"{path}: {'; '.join(twice)}")
    if "folder" in document:
        raise UsageError(f"{path}: folder: unknown key; drop it")
    try:
        return Study(**{str(key): value for key, value in document.items()}, folder=path.parent)
    except pydantic.ValidationError as error:
        raise UsageError(f"{path}: {'; '.join(_words(fault) for fault in error.errors())}") from error


def _repeated_keys(node: Any) -> Iterator[str]:
    """Name each key that a mapping holds twice: YAML would take the last one without a word."""
    children = getattr(node, "value", None)
    if not isinstance(children, list):
        return
    seen: set[str] = set()
    for child in children:
        if isinstance(child, tuple):
            key = str(child[0].value)
            if key in seen:
                yield f"line {child[0].start_mark.line + 1} gives {key!r} a second time; keep one"
            seen.add(key)
            yield from _repeated_keys(child[1])
        else:
            yield from _repeated_keys(child)
