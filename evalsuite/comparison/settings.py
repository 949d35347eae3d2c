"""The options of ``evalsuite compare``, ``rate`` and ``judge-card``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pydantic

from evalsuite.checkpoint.kinds import ModelKind
from evalsuite.config import Config, Data, JudgedConfig, Judges, JudgeWeights, MaxUnscored, Results, Seed
from evalsuite.errors import unknown
from evalsuite.placement import StoreFolder
from evalsuite.serving.config import ServeConfig
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.registry import suites
from judges.factors import FACTORS
from judges.verdicts import Method, check_margin

LongAnswers = Literal["refuse", "shorten"]


def _factor_names(given: object) -> Any:
    texts = (str(given),) if isinstance(given, str | Path) else given
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str | Path) for text in texts):
        return given
    names = tuple(dict.fromkeys(name.strip() for text in texts for name in str(text).split(",") if name.strip()))
    if names in ((), ("all",)):
        return tuple(FACTORS)
    for name in names:
        if name not in FACTORS and not name.endswith((".yaml", ".yml")):
            raise ValueError(f"{unknown('factor', name, FACTORS)}, or give a .yaml file")
    return names


Factors = Annotated[
    tuple[str, ...],
    pydantic.BeforeValidator(_factor_names),
    pydantic.Field(json_schema_extra={"metavar": "FACTOR,...|FILE.yaml", "path": True}),
]


class _AskedConfig(JudgedConfig):
    """What comparing and rating share: the prompts, and the judge's own prompt."""

    prompts: str = pydantic.Field(default_factory=lambda: next(iter(suites())), json_schema_extra={"path": True})
    """A suite's prompts (mt_bench by default), a benchmark's .yaml file, or a .json or .jsonl file of prompts."""
    turns: Literal["first", "both"] = "first"
    """Look at first turns, or at whole conversations."""
    template: Path | None = None
    """Jinja file of the judge's prompt, instead of the built-in one."""
    limit: int | None = pydantic.Field(default=None, ge=1)
    """Max prompts (quick trial)."""
    data: Data = "full"
    results: Results = Path("results")
    store: StoreFolder = None
    seed: Seed = 0
    max_unscored: MaxUnscored = 0.01

    @pydantic.field_validator("prompts", mode="before")
    @classmethod
    def _as_text(cls, given: object) -> Any:
        return str(given) if isinstance(given, Path) else given

    def shared_options(self) -> SuiteOptions:
        """Return the options of a suite whose prompts are taken."""
        return SuiteOptions(data=self.data, limit=self.limit, seed=self.seed)


class CompareConfig(_AskedConfig):
    """A whole ``evalsuite compare``."""

    command: ClassVar[str] = "compare"

    models: tuple[str, ...] = pydantic.Field(min_length=1, json_schema_extra={"argument": "MODEL", "path": True})
    """Checkpoint folder, hub id org/name, demo or NAME@URL; or recorded answers: a .json or .jsonl file, NAME=FILE, a
    model's folder in results/, or the name of an imported model."""
    judge: Judges = pydantic.Field(min_length=1)
    """Judge model; several make a panel."""
    judge_weights: JudgeWeights = "equal"
    method: Method = "verdict"
    """verdict: one token with its probability; reasoned: an explanation, then a verdict."""
    judge_format: str | None = pydantic.Field(default=None, json_schema_extra={"path": True})
    """A published judge's own format instead of the method: fastchat-pair, prometheus-relative, prometheus-absolute,
    judgelm, skywork-critic, auto-j, skywork-critic-logprobs, prometheus-absolute-logprobs, or a .yaml file."""
    judge_kind: ModelKind = "generate"
    """generate: the judge writes its verdict; reward: a reward model or sequence classifier scores each answer."""
    tie_margin: float = 0.0
    """A mean preference within this of 0.5 is a tie, 0 to 0.5."""
    max_judge_tokens: int | None = pydantic.Field(default=None, ge=1)
    """Max tokens of a judge's explanation before its verdict; default 1024."""
    long_answers: LongAnswers = "refuse"
    """Pairs that exceed the judge's context: refuse (unscored), or shorten (cut the answers in the middle)."""
    human: Path | None = None
    """Human labels on some of the prompts (.jsonl from evalsuite label); adds rates and a ranking corrected by them."""
    lineage: Path | None = None
    """YAML mapping 'sft: dgm': which model generated each SFT model's data."""
    name: str | None = None
    """Folder under results/comparisons/."""

    @pydantic.field_validator("models")
    @classmethod
    def _need_two(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if len(models) < 2:
            raise ValueError(f"one model ({models[0]}) cannot be compared; give two or more")
        return models

    @pydantic.field_validator("tie_margin")
    @classmethod
    def _check_margin(cls, margin: float) -> float:
        check_margin(margin)
        return margin

    @pydantic.field_validator("name")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[\w][\w.-]*", name):
            raise ValueError(f"{name!r} is not a folder name; use letters, digits, dots, - and _")
        return name


class RateConfig(_AskedConfig):
    """A whole ``evalsuite rate``."""

    command: ClassVar[str] = "rate"

    models: tuple[str, ...] = pydantic.Field(min_length=1, json_schema_extra={"argument": "MODEL", "path": True})
    """Checkpoint folder, hub id, demo, NAME@URL, or recorded answers; or a folder of generate, whose rows are rated."""
    judge: str = pydantic.Field(json_schema_extra={"path": True})
    """Judge model."""
    judge_kind: ModelKind = "generate"
    """generate: the judge rates by factors; reward: a reward model or sequence classifier scores each answer."""
    factors: Factors = tuple(FACTORS)
    """all (the default), or some of logical_robustness, logical_correctness, logical_efficiency, commonsense,
    factuality, metacognition, insightfulness, completeness, comprehension, conciseness, readability, harmlessness, or
    a .yaml file with your own factors and scales."""


class CardConfig(Config):
    """A whole ``evalsuite judge-card``; ``serve`` is how the judge is served."""

    command: ClassVar[str] = "judge-card"

    judge: str = pydantic.Field(json_schema_extra={"argument": "JUDGE", "path": True})
    """Checkpoint folder, hub id org/name, demo or NAME@URL; with --recorded, the name of the judge."""
    recorded: Path | None = None
    """Measure from verdicts recorded in both orders and query no model: LLMBar's result.json, or labelled pairs with
    columns as_listed and swapped (1, 2, tie or null)."""
    pairs: str | None = pydantic.Field(default=None, json_schema_extra={"path": True})
    """Labelled pairs: mt_bench (the default), llmbar_natural, or a .json or .jsonl file with input, output_1, output_2
    and label 1 or 2."""
    ratings: Path | None = None
    """Measure the judge as a rater instead: a .json or .jsonl file of answers with human ratings by factor (prompt,
    answer, ratings)."""
    factors: Factors = tuple(FACTORS)
    """With --ratings: the factors, as in rate; default: those of the file."""
    limit: int | None = pydantic.Field(default=None, ge=1)
    """Max pairs (quick trial)."""
    method: Method = "verdict"
    """verdict: one token with its probability; reasoned: an explanation, then a verdict."""
    judge_format: str | None = pydantic.Field(default=None, json_schema_extra={"path": True})
    """A published judge's own format instead of the method: fastchat-pair, prometheus-relative, prometheus-absolute,
    judgelm, skywork-critic, auto-j, skywork-critic-logprobs, prometheus-absolute-logprobs, or a .yaml file."""
    judge_kind: ModelKind = "generate"
    """generate: the judge writes its verdict; reward: a reward model or sequence classifier scores each answer."""
    max_judge_tokens: int | None = pydantic.Field(default=None, ge=1)
    """Max tokens of the judge's explanation before its verdict; default 1024."""
    template: Path | None = None
    """Jinja file of the judge's prompt, instead of the built-in one."""
    long_answers: LongAnswers = "refuse"
    """Pairs that exceed the judge's context: refuse (unscored), or shorten (cut the answers in the middle)."""
    max_unscored: MaxUnscored = 0.01
    judge_repeats: int = pydantic.Field(default=50, ge=0)
    """Pairs to ask a second time."""
    attacked: int = pydantic.Field(default=10, ge=0)
    """Questions to try the attacks on."""
    results: Results = Path("results")
    store: StoreFolder = None
    serve: ServeConfig = pydantic.Field(default_factory=ServeConfig)

    @property
    def judge_serving(self) -> ServeConfig:
        return self.serve
