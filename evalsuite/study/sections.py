"""The sections of STUDY.yaml, each checked by itself; ``file`` checks the study as a whole."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

import pydantic

from evalsuite.config import RunConfig
from evalsuite.conversations.formats import Format
from evalsuite.errors import EvalsuiteError, unknown
from evalsuite.recipes.recipe import Duplicates, Filters, Source
from evalsuite.recipes.training import TrainingConfig
from evalsuite.serving.config import ServeConfig
from evalsuite.suites.registry import SuiteSpec, default_suites, option_fields, parse_suite, prompt_suites
from evalsuite.validation import Described, faults_of

Name = Annotated[str, pydantic.Field(min_length=1, max_length=40)]
Text = Annotated[str, pydantic.Field(min_length=1)]
Count = Annotated[int, pydantic.Field(ge=1, le=10**12)]
Amount = Annotated[float, pydantic.Field(ge=1e-9, le=1e12)]
_LARGEST = 1e12
"""A larger training setting is a typo, and would overflow the projection."""
AnalysisKind = Literal["style", "similarity", "keywords", "efficiency", "contamination"]
ANALYSES: tuple[AnalysisKind, ...] = get_args(AnalysisKind)


def faults_in(kind: type[pydantic.BaseModel], values: Mapping[str, Any]) -> list[str]:
    """Return what another command's model would refuse in ``values``."""
    try:
        kind(**values)
    except pydantic.ValidationError as error:
        return faults_of(error, kind)
    return []


def _check_training(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check an ``sft`` section by itself, without the base that the study sets; raises ValueError."""
    if "base" in settings:
        raise ValueError("base is the target's model; drop it")
    faults = [
        f"{key} {reprlib.repr(value)} is out of range; give a number below {_LARGEST:.0e}"
        for key, value in settings.items()
        if isinstance(value, int | float) and not abs(value) <= _LARGEST
    ]
    faults = faults or faults_in(TrainingConfig, {**settings, "base": "x"})
    if faults:
        raise ValueError("; ".join(faults))
    return settings


Training = Annotated[Mapping[str, Any], pydantic.AfterValidator(_check_training)]


class Section(Described):
    """A part of a study."""

    model_config = pydantic.ConfigDict(allow_inf_nan=False)


def answer_settings(serve: ServeConfig) -> dict[str, Any]:
    """Return how a model is served, except for what cannot change an answer; it enters the keys."""
    settings = serve.model_dump(include={"dtype", "max_model_len", "tensor_parallel_size", "data_parallel_size"})
    trust = serve.model_dump(include={"allow_pickle", "trust_remote_code"}, exclude_defaults=True)
    return {**settings, "vllm_args": dict(serve.vllm_args), **trust}


class Dgm(Section):
    """A data generating model: ``model`` is served and asked, or ``answers`` are its recorded conversations.

    With both, the recorded answers are mixed and the model is only evaluated.
    """

    model: Text | None = None
    answers: Text | None = None
    system: str | None = None
    serve: ServeConfig | None = None

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.model is None and self.answers is None:
            raise ValueError("give model (to be asked) or answers (recorded conversations)")
        if self.answers is not None and self.system is not None:
            raise ValueError("system has no effect on recorded answers; drop system")
        if self.model is None and self.serve is not None:
            raise ValueError("serve has no effect on recorded answers; drop serve, or give model")
        return self

    @property
    def is_asked(self) -> bool:
        """Whether its model answers the prompts of ``generate``."""
        return self.model is not None and self.answers is None


class Target(Section):
    """A base model to train; ``sft`` overrides the study's training settings for it."""

    model: Text
    sft: Training = pydantic.Field(default_factory=dict)
    serve: ServeConfig | None = None


class Blend(Section):
    """Equal draws of several DGMs; ``size`` defaults to the study's largest."""

    dgms: tuple[str, ...] = pydantic.Field(min_length=2)
    size: Count | None = None


class Generate(Section):
    """What the DGMs answer: options of ``evalsuite generate``. Without ``limit``, the whole source."""

    prompts: Text
    limit: Count | None = None
    language: str | None = None
    policy: Literal["own", "teacher-forced"] = "own"
    max_new_tokens: Count | None = None
    temperature: float | None = pydantic.Field(default=None, ge=0)
    top_p: float | None = pydantic.Field(default=None, gt=0, le=1)


class StudyMix(Section):
    """How each mix is drawn from the DGMs' answers, and further sources (``add``): the keys of a recipe's ``mix``.

    The study's sizes count conversations of the DGMs; those of ``add`` come on top.
    """

    filters: Filters = Filters()
    format: Format | None = None
    allow_fewer: bool = False
    add: tuple[Source, ...] = ()
    duplicates: Duplicates = Duplicates()
    shuffle: bool = True
    tokenizer: Text | None = None


class Run(Section):
    """Which benchmarks; ``bases`` and ``dgms`` also evaluate the untrained targets and the DGMs themselves.

    The suites' own options are keys too (``mixeval_parser``), kept in ``suite_options``.
    """

    suites: tuple[str, ...] = pydantic.Field(default_factory=lambda: tuple(spec.name for spec in default_suites()))
    data: Literal["full", "mini"] = "full"
    limit: Count | None = None
    as_published: bool = False
    suite_options: Mapping[str, Any] = {}
    bases: bool = True
    dgms: bool = True

    @pydantic.model_validator(mode="before")
    @classmethod
    def _nest(cls, values: object) -> Any:
        if not isinstance(values, Mapping):
            return values
        flags = option_fields()
        known = [*(cls.model_fields.keys() - {"suite_options"}), *flags]
        if strange := [unknown("key", str(key), known) for key in values if key not in known]:
            raise ValueError("; ".join(strange))
        own = {key: value for key, value in values.items() if key in flags}
        return {key: value for key, value in values.items() if key not in flags} | {"suite_options": own}

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        if not self.suites:
            raise ValueError("suites is empty; name a suite, or drop the line for the default suites")
        if faults := faults_in(RunConfig, {"models": ("x",), "suites": self.suites, **self.suite_options}):
            raise ValueError("; ".join(faults))
        return self

    @property
    def specs(self) -> tuple[SuiteSpec, ...]:
        """The suites with the parts asked of each."""
        return tuple(parse_suite(suite) for suite in self.suites)

    def options(self) -> dict[str, Any]:
        """Return the options of ``evalsuite run``, under its names."""
        return {**self.model_dump(include={"data", "limit", "as_published"}), **self.suite_options}


class Compare(Section):
    """How models are compared pairwise: options of ``evalsuite compare``."""

    prompts: str = pydantic.Field(default_factory=lambda: prompt_suites()[0])
    turns: Literal["first", "both"] = "first"
    method: Literal["verdict", "reasoned"] = "verdict"
    tie_margin: float = pydantic.Field(default=0.0, ge=0, le=0.5)

    @pydantic.field_validator("prompts")
    @classmethod
    def _check_prompts(cls, prompts: str) -> str:
        try:
            name = parse_suite(prompts).name
        except EvalsuiteError as error:
            raise ValueError(str(error)) from error
        if name not in prompt_suites():
            raise ValueError(unknown("suite", prompts, prompt_suites()))
        return prompts

    @property
    def spec(self) -> SuiteSpec:
        """The suite whose answers are compared."""
        return parse_suite(self.prompts)


class Paper(Section):
    """What the paper's short names mean in this study, as in ``{L8B: my-base, Q72: my-dgm}``."""

    aliases: Mapping[str, str] = {}


class Assumptions(Section):
    """What the projection assumes where no earlier run has measured it; speeds are in tokens per second.

    A speed is that of a server with all its devices, or of a whole training run. ``by_model`` gives the answering
    speed of single DGMs and targets by their names in the study. ``device`` names what is counted in hours, such as
    a GPU's type. The defaults were measured with the demo model on two CPU cores; a study on GPUs states its own.
    """

    device: str | None = None

    answer_tokens_per_second: Amount = 250.0
    train_tokens_per_second: Amount = 90.0
    by_model: Mapping[str, Amount] = {}
    serve_start_s: Amount = 65.0
    train_start_s: Amount = 25.0
    turns_per_conversation: Amount = 2.0
    tokens_per_answer: Amount = 300.0
    tokens_per_conversation: Amount = 900.0
    tokens_per_item: Amount = 40.0
    verdicts_per_second: Amount = 8.0
    train_devices: Count = 1
