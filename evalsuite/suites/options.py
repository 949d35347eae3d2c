"""The options of a suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from evalsuite.validation import Described

DataKind = Literal["full", "mini"]


class SuiteOptions(Described):
    """Options that change which items are asked or how they are scored; a suite adds its own in a subclass.

    Each field of a subclass becomes an option of ``run``, ``score`` and ``import``: its docstring is the help, and
    ``json_schema_extra={"flag": "mixeval_parser"}`` names it where the field's own name will not do.
    """

    data: DataKind = "full"
    """full: the benchmark's own items; mini: a small built-in set."""
    limit: int | None = pydantic.Field(default=None, ge=1)
    """Max items (per split, per task); None for all."""
    parts: tuple[str, ...] = ()
    """The parts asked for (``openllm:ifeval,musr``, ``mixeval:hard``); empty for all."""
    seed: int = 0
    """Seed for all sampled answers."""
    as_published: bool = False
    """Use the benchmark's own arithmetic where ours differs."""
    sample: int | None = pydantic.Field(default=None, ge=1)
    """Items of a seeded sample, per task of lm-eval, with every category by its share; None for no sample."""
    sample_seed: int = 0
    """Seed of the sample."""
    repeats: int = pydantic.Field(default=1, ge=1)
    """Answers to each item that is sampled."""
    annotator: str | None = pydantic.Field(default=None, exclude=True)
    """Of a recorded file with several annotators (judges): the one that is read."""

    @pydantic.model_serializer(mode="wrap")
    def _without_unused(self, handler: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out samples and repeats that were not asked for, so that other runs have the keys they always had."""
        values: dict[str, Any] = handler(self)
        unused = {*(() if self.sample is not None else ("sample", "sample_seed"))}
        unused |= {"repeats"} if self.repeats == 1 else set()
        return {name: value for name, value in values.items() if name not in unused}


NO_FIGURES: Any = {"figures": False}
"""The ``json_schema_extra`` of an option that lets a suite run and changes no figure: it names no variant."""


def changes_figures(info: pydantic.fields.FieldInfo) -> bool:
    """Whether a field's value belongs to the question that figures answer."""
    extra = info.json_schema_extra
    return not isinstance(extra, Mapping) or extra.get("figures") is not False


def flag_of(name: str, info: pydantic.fields.FieldInfo) -> str:
    """Return the name of a field's option, with underscores."""
    extra = info.json_schema_extra
    return str(extra["flag"]) if isinstance(extra, Mapping) and "flag" in extra else name


def own_names(kind: type[SuiteOptions]) -> dict[str, str]:
    """Return the names of a suite's own options by flag."""
    own = kind.model_fields.keys() - SuiteOptions.model_fields.keys()
    return {flag_of(name, info): name for name, info in kind.model_fields.items() if name in own}


def own_values(options: SuiteOptions) -> dict[str, Any]:
    """Return a suite's own options by flag, JSON-ready."""
    values = options.model_dump(mode="json")
    return {flag: values[name] for flag, name in own_names(type(options)).items()}
