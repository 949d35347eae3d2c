"""The options of a command: one model whose fields are the command line, the Python API and the keys of a config file.

A field's docstring is its help. How models are served is composed in (``serve``, and ``judge_serve`` for judges) and
written flat wherever a user does: ``dtype``, ``judge_dtype``. The options of benchmarks are the suites' own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

import pydantic

from evalsuite.errors import UsageError, unknown
from evalsuite.placement import Placed, StoreFolder
from evalsuite.redaction import scrubbed
from evalsuite.serving.config import BaseUrl, ServeConfig, check_endpoints
from evalsuite.suites.options import SuiteOptions, own_values
from evalsuite.suites.registry import (
    SuiteSpec,
    default_suites,
    option_faults,
    option_fields,
    options_of,
    parse_suite,
    suites,
)
from evalsuite.tracking import Loggers
from evalsuite.validation import Described, Loc, checked, located, path_text, read_mapping, repeated

_BLOCKS = ("suite_options", "serve", "judge_serve")
JUDGE = "judge_"
"""Begins the flat key of a setting of ``judge_serve``."""


def _single(text: str) -> list[str]:
    """Split ``mt_bench,openllm:ifeval,musr`` before each suite's name; a comma before anything else divides parts.

    >>> _single("mt_bench,openllm:ifeval,musr,mixeval")
    ['mt_bench', 'openllm:ifeval,musr', 'mixeval']
    """
    single: list[str] = []
    for piece in text.split(","):
        if not single or piece.partition(":")[0] in suites() or piece.endswith((".yaml", ".yml")):
            single.append(piece)
        else:
            single[-1] += f",{piece}"
    return single


def read_suites(given: object) -> Any:
    """Read the names of suites, all that ``run`` runs by default for an empty list; raises ValueError."""
    if not isinstance(given, list | tuple) or not all(isinstance(spec, str | SuiteSpec) for spec in given):
        raise ValueError(f"{given!r} is not a list of suites; give names such as mt_bench")
    try:
        single = [one for spec in given for one in (_single(spec) if isinstance(spec, str) else [spec])]
        specs = [parse_suite(spec) if isinstance(spec, str) else spec for spec in single or default_suites()]
    except UsageError as error:
        raise ValueError(str(error)) from error
    keys = [spec.key for spec in specs]
    if duplicates := repeated(keys):
        raise ValueError(f"duplicate suite {', '.join(duplicates)}")
    return tuple(specs)


def _own_options(given: Mapping[str, Any]) -> Mapping[str, Any]:
    if faults := option_faults(given):
        raise ValueError("; ".join(faults))
    return {flag: value for flag, value in given.items() if value is not None}


OwnOptions = Annotated[Mapping[str, Any], pydantic.AfterValidator(_own_options)]
"""The suites' own options by their flags, written flat wherever a user does."""
Results = Annotated[Path, pydantic.Field(description="Folder for all results and the store.")]
Seed = Annotated[int, pydantic.Field(ge=0, lt=2**31, description="Seed for all sampled answers.")]
Data = Annotated[
    Literal["full", "mini"],
    pydantic.Field(description="full: the benchmark's own prompts; mini: a small built-in set."),
]
RecordedSuite = Annotated[
    str,
    pydantic.Field(
        description="{suites}; parts as NAME:PART,PART.", json_schema_extra={"argument": "SUITE", "path": True}
    ),
]
Annotator = Annotated[str | None, pydantic.Field(description="Annotator (judge) to read from a file that has several.")]
_Several = pydantic.BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)
Judges = Annotated[tuple[str, ...], _Several, pydantic.Field(json_schema_extra={"path": True})]
_WEIGHTS = "Weights of a panel's judges: equal, or the log-odds of each judge's agreement on its judge-card."
JudgeWeights = Annotated[Literal["equal", "card"], pydantic.Field(description=_WEIGHTS)]
MaxUnscored = Annotated[
    float, pydantic.Field(ge=0, le=1, description="Share of unscored items above which the exit code is 1.")
]


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its flat key, the block of the config that holds it ("" for the config itself), its field there."""

    key: str
    block: str
    name: str
    field: pydantic.fields.FieldInfo

    @property
    def flag(self) -> str:
        """The option of the command line, without dashes in front."""
        return f"{JUDGE * self.inherits}{self.hint('flag') or self.name}".replace("_", "-")

    @property
    def inherits(self) -> bool:
        """Whether its default is the model's setting."""
        return self.block == "judge_serve"

    @property
    def label(self) -> str:
        """How messages name it."""
        return str(self.hint("argument") or f"--{self.flag}")

    def hint(self, name: str) -> Any:
        """Return what the field says besides its type: ``flag``, ``short``, ``metavar``, ``argument``, ``path``."""
        extra = self.field.json_schema_extra
        return extra.get(name) if isinstance(extra, Mapping) else None

    @property
    def is_path(self) -> bool:
        """Whether its text may be a path, which is relative to the config file that names it."""
        return bool(self.hint("path")) or self.holds_path

    @property
    def holds_path(self) -> bool:
        """Whether it is a path and nothing else."""
        return Path in (self.field.annotation, *get_args(self.field.annotation))


class Config(Described):
    """The options of one command; flat keys of ``serve``, ``judge_serve`` and the suites' own options are taken too."""

    model_config = pydantic.ConfigDict(allow_inf_nan=False)

    command: ClassVar[str]
    """Which command a resolved file repeats; only commands that write one set it."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _nest(cls, values: object) -> Any:
        if not isinstance(values, Mapping):
            return values
        flat = {key: option for key, option in options_by_key(cls).items() if option.block and key in values}
        nested = {key: value for key, value in values.items() if key not in flat}
        for key, option in flat.items():
            block = nested.get(option.block, {})
            if isinstance(block, pydantic.BaseModel):
                block = {name: getattr(block, name) for name in block.model_fields_set}
            nested[option.block] = {**block, option.name: values[key]}
        return nested


ConfigT = TypeVar("ConfigT", bound=Config)


class JudgedConfig(Config):
    """The options of a command that serves models and their judges."""

    serve: ServeConfig = pydantic.Field(default_factory=ServeConfig)
    judge_serve: ServeConfig = pydantic.Field(default_factory=ServeConfig)

    @property
    def judge_serving(self) -> ServeConfig:
        """How judges are served: as the models, except for what ``judge_serve`` sets."""
        return self.serve.with_changes(self.judge_serve)


class RunConfig(JudgedConfig, Placed):
    """A whole ``evalsuite run``."""

    command: ClassVar[str] = "run"

    models: tuple[str, ...] = pydantic.Field(min_length=1, json_schema_extra={"argument": "MODEL", "path": True})
    """Checkpoint folder, hub id org/name, demo, or NAME@URL (NAME@URL1,URL2 for several servers of one model);
    a quoted glob such as 'out/checkpoint-*' works in config files too."""
    checkpoints: Path | None = pydantic.Field(default=None, json_schema_extra={"resolved": False})
    """Output folder of a training run: each of its complete checkpoints is a MODEL, in step order."""
    log_to: Loggers = pydantic.Field(default=(), json_schema_extra={"resolved": False})
    """Also log the figures to tensorboard, wandb, trackio or mlflow, at the training step of each checkpoint."""
    suites: tuple[SuiteSpec, ...] = pydantic.Field(
        default_factory=default_suites,
        json_schema_extra={"flag": "suite", "metavar": "SUITE[:PART,...]|FILE.yaml", "path": True},
    )
    """Suite to run, with parts as in openllm:ifeval,musr or mixeval:hard, or your own benchmark in a YAML file;
    repeatable. Known: {suites}."""
    judge: Judges = ()
    """Judge model (same forms as MODEL); several make a panel. demo judges itself by default."""
    judge_weights: JudgeWeights = "equal"
    no_judge: bool = False
    """Answer now and judge later, with the same command and --judge."""
    skip_impossible: bool = False
    """Skip suites that cannot run on a model, with the reason, instead of refusing to start."""
    limit: int | None = pydantic.Field(default=None, ge=1)
    """Max items per suite, split or task (quick trial). Some suites then cover few categories; --sample covers all."""
    sample: int | None = pydantic.Field(default=None, ge=1)
    """Items per suite (or task) in a seeded sample, stratified by category; a variant with its own folder."""
    sample_seed: int = 0
    """Seed of the sample."""
    repeats: int = pydantic.Field(default=1, ge=1, le=1000)
    """Answers per sampled item; scores are their mean. Greedy items are answered once."""
    data: Data = "full"
    results: Results = Path("results")
    store: StoreFolder = None
    label: str | None = None
    """Name of this variant of the model in the results; default: the settings that differ from the defaults."""
    name: str | None = None
    """Name of the model in the results, for a single MODEL; default: the folder's name or the served name."""
    base_url: BaseUrl = None
    seed: Seed = 0
    ask_again: bool = pydantic.Field(default=False, json_schema_extra={"resolved": False})
    """Like --fresh, but query the model and the judge again instead of using stored answers."""
    fresh: bool = pydantic.Field(default=False, json_schema_extra={"resolved": False})
    """Move the model's earlier figures aside and score again (answers are kept)."""
    as_published: bool = False
    """Use the benchmarks' own arithmetic where evalsuite's differs."""
    max_unscored: MaxUnscored = 0.01
    suite_options: OwnOptions = pydantic.Field(default_factory=dict)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _add_checkpoints(cls, values: Any) -> Any:
        folder = values.get("checkpoints") if isinstance(values, Mapping) else None
        if not isinstance(folder, str | Path):
            return values
        from evalsuite.checkpoint.training_run import checkpoints_in, what_is_missing

        found = [path for path in checkpoints_in(Path(folder).expanduser()) if not what_is_missing(path)]
        if not found:
            raise ValueError(f"{folder} has no complete checkpoint-N; give the folder that a trainer saves to")
        return {**values, "models": (*(values.get("models") or ()), *map(str, found))}

    @pydantic.field_validator("models")
    @classmethod
    def _expand(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        from evalsuite.checkpoint.training_run import in_training_order, matching_folders

        return in_training_order([path for model in models for path in matching_folders(model)])

    @pydantic.field_validator("suites", mode="before")
    @classmethod
    def _read_suites(cls, given: object) -> Any:
        return read_suites(given)

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        check_endpoints(self.base_url, self.models)
        if self.sample is not None and self.limit is not None:
            raise ValueError("--limit and --sample cannot be used together; give one of them")
        if self.no_judge and self.judge:
            raise ValueError("--judge and --no-judge cannot be used together; give one of them")
        if self.name is not None and (len(self.models) != 1 or not self.name.strip()):
            raise ValueError("--name names one model; give a single MODEL and a name, or use --label for variants")
        return self

    @pydantic.field_validator("label")
    @classmethod
    def _check_label(cls, label: str | None) -> str | None:
        # Of other characters a folder's name keeps nothing: it would be that of the defaults.
        if label is not None and not re.search(r"[A-Za-z0-9_=+]", label):
            raise ValueError(f"--label {label!r} has no letter from A to Z and no digit; leave it out for the default")
        return label

    @property
    def replaces(self) -> bool:
        """Whether earlier figures are moved aside."""
        return self.fresh or self.ask_again

    @property
    def judge_specs(self) -> tuple[str, ...]:
        """The judges to use: as given; the demo model judges itself, so that it needs no other."""
        return () if self.no_judge else self.judge or (("demo",) if "demo" in self.models else ())

    def suite_options_of(self, spec: SuiteSpec) -> SuiteOptions:
        """Return the options of one suite: the shared ones and its own."""
        return self.options_as(spec, self.suite_options, as_published=self.as_published)

    def options_as(self, spec: SuiteSpec, own: Mapping[str, Any], *, as_published: bool) -> SuiteOptions:
        """Return the options of one suite with these of its own instead of those given."""
        shared = {"data": self.data, "limit": self.limit, "parts": spec.parts, "seed": self.seed}
        shared |= {"as_published": as_published, "sample": self.sample, "sample_seed": self.sample_seed}
        shared |= {"repeats": self.repeats}
        return options_of(spec.suite, shared, own, has_judge=bool(self.judge_specs))


# From keys to a config, and back ----------------------------------------------------------------------


@cache
def options_by_key(kind: type[Config]) -> Mapping[str, Option]:
    """Return all options of a command by their flat keys, in the order of ``--help``."""
    options: dict[str, Option] = {}
    for option in _options(kind):
        options.setdefault(option.key, option)
    return options


def _options(kind: type[Config]) -> Iterator[Option]:
    # What a command adds to those it shares comes first.
    own = kind.__annotations__
    fields = dict(sorted(kind.model_fields.items(), key=lambda field: field[0] not in own))
    yield from (Option(name, "", name, field) for name, field in fields.items() if name not in _BLOCKS)
    for block, prefix in (("serve", ""), ("judge_serve", JUDGE)):
        if block in fields:
            yield from (Option(prefix + name, block, name, info) for name, info in ServeConfig.model_fields.items())
    # Last, since a suite of another package cannot take the name of an option that exists.
    if "suite_options" in fields:
        yield from (Option(flag, "suite_options", flag, info) for flag, (_, info) in option_fields().items())


def read_config(values: Mapping[str, Any]) -> RunConfig:
    """Check all options of ``run`` together; raises one UsageError that names every fault."""
    return read_as(RunConfig, values)


def read_as(
    kind: type[ConfigT],
    values: Mapping[str, Any],
    file: Path | None = None,
    from_file: Mapping[str, Any] | None = None,
) -> ConfigT:
    """Check all options of a command together, None meaning its default; those of a config ``file`` come second.

    ``from_file`` are the file's options where it has been read already. Raises one UsageError that names every fault,
    DataError for a file that is not YAML.
    """
    given = {key: value for key, value in values.items() if value is not None}
    if from_file is None:
        from_file = {} if file is None else read_config_file(kind, file)
    options = options_by_key(kind)
    keys: dict[Loc, str] = {
        (option.block, option.name) if option.block else (option.name,): option.key for option in options.values()
    }

    def name(loc: Loc) -> str:
        """Name an option as it was given: as a key of the file, or as on the command line."""
        if (key := keys.get(loc[:2]) or keys.get(loc[:1])) is None:
            return path_text(loc) if loc and loc[0] in kind.model_fields and loc[0] != "suite_options" else ""
        label = f"{key} in {file}" if key in from_file and key not in given else options[key].label
        position = next((step for step in loc if isinstance(step, int)), None)
        return label if position is None else f"value {position + 1} of {label}"

    return checked(kind, {**from_file, **given}, name=name, known=lambda _: list(options))


def read_config_file(kind: type[Config], path: Path, switches: Iterable[str] = ()) -> dict[str, Any]:
    """Read the options of a YAML file by their flat keys, its relative paths as they are reached from here.

    A key is an option's flat key or its flag, with underscores; ``switches`` are further keys, of true or false. Raises
    DataError for a file that is not YAML, UsageError with the nearest name for an unknown key.
    """
    options = options_by_key(kind)
    keys = {option.flag.replace("-", "_"): key for key, option in options.items()}
    keys |= {key: key for key in (*options, *switches)}
    given = read_mapping(path, "config")
    faults = [unknown("key", key, list(keys)) for key in given if key not in keys]
    faults += [f"duplicate option {key}" for key in repeated(keys.get(key, key) for key in given)]
    faults += [f"{key} must be true or false" for key in switches if not isinstance(given.get(key), bool | None)]
    if faults:
        raise UsageError(f"{path}: {'; '.join(faults)}")
    folder, values = path.expanduser().parent, {keys[key]: value for key, value in given.items() if value is not None}
    return {key: _located(value, options.get(key), folder) for key, value in values.items()}


def _located(value: object, option: Option | None, folder: Path) -> Any:
    """Return paths of an option as they are reached from here; ``folder`` is what they are relative to."""
    if option is None or not option.is_path:
        return value
    if isinstance(value, list | tuple):
        return [_located(one, option, folder) for one in value]
    if option.holds_path and isinstance(value, str | Path):
        return str(folder / Path(value).expanduser())
    # A suite's name is not a path, whatever is beside the file.
    return located(value, folder) if isinstance(value, str) and value not in suites() else value


def flat_values(config: Config) -> dict[str, Any]:
    """Return the options of a config by flat key, JSON-ready, without None and what a judge takes from the model."""
    values: dict[str, Any] = {}
    for key, option in options_by_key(type(config)).items():
        holder = getattr(config, option.block) if option.block else config
        if option.block == "suite_options" or option.hint("resolved") is False:
            continue
        if option.inherits and option.name not in holder.model_fields_set:
            continue
        values[key] = _plain(getattr(holder, option.name))
    if isinstance(config, RunConfig):
        for spec in config.suites:
            values |= own_values(config.suite_options_of(spec))
    return {key: value for key, value in values.items() if value is not None}


def _plain(value: object) -> Any:
    if isinstance(value, SuiteSpec):
        return value.file or ":".join(filter(None, (value.name, ",".join(value.parts))))
    if isinstance(value, list | tuple):
        pairs = all(isinstance(one, tuple) and len(one) == 2 for one in value)
        return dict(value) if value and pairs else [_plain(one) for one in value]
    return str(value) if value is not None and not isinstance(value, str | int | float) else value


def resolved_yaml(config: Config, *, with_secrets: bool = False) -> str:
    """Write a config down as a file for ``--config``: every option, paths absolute.

    Secrets in URLs are taken out unless ``with_secrets``.
    """
    import yaml

    options = options_by_key(type(config))
    values = {key: _located(value, options[key], Path.cwd()) for key, value in flat_values(config).items()}
    heading = f"# Run it again: evalsuite {config.command} --config THIS-FILE\n"
    return heading + str(
        yaml.safe_dump(values if with_secrets else scrubbed(values), sort_keys=False, allow_unicode=True)
    )
