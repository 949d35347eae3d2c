"""The YAML file of a benchmark: its keys, checked all at once.

name: support_tone
prompts: prompts.jsonl
score:
  rating: {criteria: Is the answer polite and to the point?, scale: [1, 5]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import pydantic

from evalsuite.checkpoint.templates import is_bounded_pattern
from evalsuite.errors import UsageError
from evalsuite.validation import Described, checked, read_mapping, shipped_recipe
from judges.rubric import NEEDED, VARIABLES, Rubric, scale_fault
from judges.templates import JudgeTemplate, judge_template

Method = Literal["rating", "pairwise", "exact_match", "regex", "choice", "numeric", "math_verify", "function"]
JUDGED: frozenset[Method] = frozenset({"rating", "pairwise"})
_NAME = re.compile(r"[a-z][a-z0-9_]{1,40}")


class _Part(Described):
    model_config = pydantic.ConfigDict(allow_inf_nan=False)


class Fields(_Part):
    """The names of the data's own fields; an id is made from the content if there is none."""

    id: str = "id"
    prompt: str = "prompt"
    """A text; a list of texts, one per turn; or a list of {role, content}."""
    reference: str = "reference"
    """A text or a number, or a list of which any one is right."""
    category: str = "category"
    system: str = "system"
    options: str = "options"
    """The texts of a multiple choice."""


class SamplingSpec(_Part):
    """How the model answers."""

    max_new_tokens: int = pydantic.Field(default=1024, ge=1)
    temperature: float | None = pydantic.Field(default=0.0, ge=0)
    """0 is greedy; null is the model's own generation settings."""
    top_p: float | None = pydantic.Field(default=1.0, gt=0, le=1)
    stop: tuple[str, ...] = ()


class RatingSpec(_Part):
    """The judge rates the conversation by a rubric."""

    criteria: str = pydantic.Field(min_length=1)
    scale: tuple[int, int] = (1, 10)
    template: Path | None = None
    """A Jinja file of your own, with questions, answers, reference, criteria, low, high and nonce."""
    max_judge_tokens: int = pydantic.Field(default=1024, ge=1)

    @pydantic.field_validator("scale")
    @classmethod
    def _check_scale(cls, scale: tuple[int, int]) -> tuple[int, int]:
        if not 0 < scale[1] - scale[0] <= 100:
            raise ValueError(
                f"a scale from {scale[0]} to {scale[1]}; give the lowest and the highest rating, at most 100 apart"
            )
        return scale

    @property
    def rubric(self) -> Rubric:
        return Rubric(self.criteria, *self.scale)


class PairwiseSpec(_Part):
    """The judge compares each answer with a baseline's in two games, answers swapped."""

    baseline: Path
    """Recorded answers (rows with id or prompt, and answer), or the results folder of a model that ran this suite."""
    criteria: str = ""
    max_judge_tokens: int = pydantic.Field(default=1024, ge=1)


class ExactSpec(_Part):
    """The answer, without outer white space, is one of the references."""

    ignore_case: bool = False
    ignore_punctuation: bool = False


class RegexSpec(_Part):
    """What a pattern finds in the answer is one of the references; without references, finding it is enough."""

    pattern: str = pydantic.Field(min_length=1)
    take: Literal["first", "last"] = "last"
    ignore_case: bool = False
    example: str | None = None
    """An answer in which the pattern must find something; ``suite check`` tries it."""

    @pydantic.field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"'{pattern}' is not a regular expression ({error})") from error
        if not is_bounded_pattern(pattern):
            raise ValueError(
                f"'{pattern}' does not finish within 10 s on 2,000 characters; avoid nested repeats, such as (a+)+"
            )
        return pattern


class ChoiceSpec(_Part):
    """The answer settles on the right one of the options: the reference is its letter or its text."""


class NumericSpec(_Part):
    """The last number of the answer is the reference."""

    tolerance: float = pydantic.Field(default=0.0, ge=0)
    """Relative difference that still counts as equal."""


class MathSpec(_Part):
    """The answer is mathematically equal to the reference (math-verify)."""


class Score(_Part):
    """One way to score."""

    rating: RatingSpec | None = None
    pairwise: PairwiseSpec | None = None
    exact_match: ExactSpec | None = None
    regex: RegexSpec | None = None
    choice: ChoiceSpec | None = None
    numeric: NumericSpec | None = None
    math_verify: MathSpec | None = None
    function: str | None = pydantic.Field(default=None, pattern=r"^[\w./-]+:[A-Za-z_]\w*$")
    """``module:function`` or ``./file.py:function``, called with (prompt, answer, row); run with --trust-suite-code."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _exactly_one(cls, given: object) -> Any:
        if isinstance(given, str):
            given = {given: {}}
        if not isinstance(given, Mapping):
            return given
        known = [key for key in given if key in cls.model_fields]
        if len(known) != 1 and len(known) == len(given):
            what = f"{' and '.join(map(str, known))} are {len(known)} ways" if known else "there is no way"
            raise ValueError(f"{what} to score; give one of {', '.join(cls.model_fields)}")
        # "exact_match:" with nothing behind it means its defaults.
        return {key: {} if value is None else value for key, value in given.items()}

    @property
    def method(self) -> Method:
        given = (name for name in type(self).model_fields if getattr(self, name) is not None)
        return cast("Method", next(given))


class Benchmark(_Part):
    """A whole file. ``folder`` is where it is: its paths are relative to that."""

    WITHOUT_CONTENT: ClassVar[frozenset[str]] = frozenset({"title", "prompts", "folder"})

    name: str
    """The key in scores.json and the name of the records file."""
    title: str = ""
    prompts: str = ""
    """A .jsonl, .json or .parquet file, or org/name[:config][@split] on the hub."""
    fields: Fields = pydantic.Field(default_factory=Fields)
    system: str | None = None
    """The system prompt of rows without one of their own."""
    sampling: SamplingSpec = pydantic.Field(default_factory=SamplingSpec)
    score: Score
    protected: bool = False
    """Keep prompts and references out of records, reports and exports."""
    folder: Path = pydantic.Field(default=Path(), exclude=True)

    @pydantic.field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a valid name; use 2 to 41 lower-case letters, digits and _")
        return name

    @property
    def method(self) -> Method:
        return self.score.method

    @property
    def judged(self) -> bool:
        return self.method in JUDGED

    def described(self) -> dict[str, Any]:
        """Return what a scores.json keeps of it, enough to mark recorded rows: no paths of this machine."""
        document = self.model_dump(mode="json", exclude={"prompts", "fields", "system", "sampling"}, exclude_none=True)
        for method, path in (("rating", "template"), ("pairwise", "baseline")):
            if path in document["score"].get(method, {}):
                document["score"][method][path] = Path(document["score"][method][path]).name
        return document


def read_benchmark(path: Path) -> Benchmark:
    """Read a benchmark's file; raises DataError for what is not YAML, one UsageError that names all faults."""
    path = shipped_recipe(path)
    values = read_mapping(path, "benchmark")
    values.pop("folder", None)
    benchmark = checked(Benchmark, {**values, "folder": path.expanduser().parent}, str(path))
    if not benchmark.prompts:
        raise UsageError(f"{path}: prompts is missing; give a file or a data set on the hub")
    return benchmark


def rating_template(benchmark: Benchmark) -> JudgeTemplate:
    """Return the rating template, checked; ``X_system.jinja`` beside ``X.jinja`` is its system message.

    Raises UsageError for a file that cannot be read, that does not render, or that contradicts the scale.
    """
    spec = benchmark.score.rating
    if spec is None or spec.template is None:
        return judge_template("rubric_rating")
    file = benchmark.folder / spec.template
    system = file.with_name(f"{file.stem}_system{file.suffix}")
    try:
        user_text = file.read_text(encoding="utf-8")
        system_text = system.read_text(encoding="utf-8") if system.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the judge template {file} ({error}); give a Jinja file") from error
    template = JudgeTemplate(user_text, system_text)
    try:
        template.check(VARIABLES, NEEDED)
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from error
    if fault := scale_fault(template, spec.rubric):
        raise UsageError(f"{file}: {fault}")
    return template
