"""One YAML file that states a data mix and the training on it, checked as a whole; an example is in docs/mix.md.

``evalsuite mix`` uses the section ``mix``, ``evalsuite sft`` both. Relative paths are relative to the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic

from evalsuite.conversations.formats import Format, Thinking
from evalsuite.recipes.training import Count, CountFromZero, Section, TrainingConfig
from evalsuite.validation import checked, located, read_mapping, repeated, shipped_recipe

Text = Literal["conversation", "prompts"]

_Text = Annotated[str, pydantic.Field(min_length=1)]
_Share = Annotated[float, pydantic.Field(gt=0, le=1, strict=True)]
_Weight = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
_Repeat = Annotated[float, pydantic.Field(ge=1, le=1000)]
_FRACTIONS_SUM = 1e-6


Scalar = bool | int | float | str | None


class Condition(Section):
    """What a column's value must be: one of some values or none of them, in a range, null or not.

    In a recipe a single value or a list stands for ``one_of``.
    """

    one_of: tuple[Scalar, ...] | None = None
    none_of: tuple[Scalar, ...] | None = None
    min: float | None = None
    max: float | None = None
    null: bool | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read_values(cls, given: object) -> Any:
        if isinstance(given, Mapping | Condition):
            return given
        return {"one_of": given if isinstance(given, list | tuple) else [given]}


Phrases = Literal["refusal", "identity", "date"]


class Filters(Section):
    """Which conversations of a source may be drawn; turns are the user's, characters those of all messages.

    By default every answer whose ``finish_reason`` is recorded must have ended by itself (``stop`` or ``tool_calls``);
    ``any`` takes all. ``where`` maps columns to conditions, ``patterns`` names to regular expressions that no turn may
    contain, ``phrases`` the lists of phrases that no answer may contain to further phrases for them. ``max_repetition``
    is the largest share of an answer's word 5-grams that may repeat earlier ones. A list must hold for every answer of
    a conversation; one that is not recorded fails it. ``max_tokens`` counts by the mix's tokenizer and its chat
    template, as ``sft`` does.
    """

    language: tuple[_Text, ...] | None = None
    language_by: Literal["column", "detection"] = "column"
    where: Mapping[str, Condition] = {}
    patterns: Mapping[str, _Text] = {}
    phrases: Mapping[Phrases, tuple[_Text, ...] | None] = {}
    max_repetition: _Share | None = None
    min_turns: CountFromZero | None = None
    max_turns: CountFromZero | None = None
    min_chars: CountFromZero | None = None
    max_chars: CountFromZero | None = None
    max_tokens: CountFromZero | None = None
    finish_reason: tuple[_Text, ...] | Literal["any"] | None = None

    @pydantic.field_validator("phrases", mode="before")
    @classmethod
    def _names_are_lists(cls, value: object) -> Any:
        return dict.fromkeys(value, ()) if isinstance(value, list | tuple) else value

    @pydantic.field_validator("language", "finish_reason", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> Any:
        return [value] if isinstance(value, str) and value != "any" else value

    @pydantic.model_validator(mode="after")
    def _check_order(self) -> Self:
        for low, high in (("min_turns", "max_turns"), ("min_chars", "max_chars")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"{low} {least} is more than {high} {most}; no conversation can pass")
        return self


class Best(Section):
    """Which rows of a source are the best by a numeric column: a share of them, or the best few of every prompt."""

    by: _Text
    share: _Share | None = None
    per_prompt: Count | None = None
    lowest: bool = False

    @pydantic.model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.share is None) == (self.per_prompt is None):
            raise ValueError("give either share (of all rows) or per_prompt (rows of each prompt)")
        return self


class Member(Section):
    """One model's answers in a blend of several data generating models (DGMs)."""

    data: _Text
    dgm: _Text
    format: Format | None = None


class Source(Section):
    """One source: its data (or a blend of several DGMs' answers to the same prompts), and how much of it.

    ``count`` is in conversations, ``tokens`` in tokens (the longest draw within them), ``fraction`` or ``weight`` a
    share of the mix's total; none of them means all rows. ``repeat`` draws the conversations that often, the fractional
    part a part of them. ``scores`` is a folder of ``rate``, or a file, whose columns are joined to the rows by the hash
    of their content; ``best`` keeps the best rows only. With ``allow_fewer`` a source that is too small gives what it
    has; otherwise the mix fails.
    """

    name: str = pydantic.Field(default="", pattern=r"^[\w.:@-]*$")
    data: _Text | None = None
    blend: tuple[Member, ...] = ()
    format: Format | None = None
    dgm: _Text | None = None
    count: Count | None = None
    fraction: _Share | None = None
    weight: _Weight | None = None
    tokens: Count | None = None
    repeat: _Repeat = 1.0
    scores: _Text | None = None
    best: Best | None = None
    allow_fewer: bool = False
    filters: Filters = Filters()

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        faults = []
        if (self.data is None) == (not self.blend):
            faults.append("give either data (one source) or blend (answers of several DGMs)")
        if self.blend and len(self.blend) < 2:
            faults.append("a blend needs at least two members; give data and dgm instead")
        if self.blend and (self.dgm or self.format):
            faults.append("in a blend, give dgm and format for each member")
        dgms = [member.dgm for member in self.blend]
        if duplicates := repeated(dgms):
            faults.append(f"duplicate DGM {duplicates[0]!r} in the blend")
        sizes = [name for name in ("count", "fraction", "weight", "tokens") if getattr(self, name) is not None]
        if len(sizes) > 1:
            faults.append(f"{' and '.join(sizes)} cannot be used together; drop one")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def members(self) -> tuple[tuple[str, str | None, Format | None], ...]:
        """Data, DGM and format of every member; one for a source that is not a blend."""
        if self.data is not None:
            return ((self.data, self.dgm, self.format),)
        return tuple((member.data, member.dgm, member.format) for member in self.blend)


class Duplicates(Section):
    """What counts as a duplicate within and across sources.

    ``exact`` compares texts without regard to case and white space. ``near`` is the Jaccard similarity
    of n-grams (``ngram`` words; characters where a script does not separate words) from which on two texts are
    duplicates. Both look at the whole conversation, or with ``on: prompts`` at the user's turns only.
    """

    exact: bool = True
    near: _Share | None = None
    ngram: Count = 5
    on: Text = "conversation"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read_on(cls, values: object) -> Any:
        # YAML reads a bare on as a truth value, keys included.
        if isinstance(values, Mapping) and True in values and "on" not in values:
            return {"on" if key is True else key: value for key, value in values.items()}
        return values


class Mix(Section):
    """What a mix is made of. The sources' fractions or weights are shares of ``total``, or of ``total_tokens``.

    ``thinking`` keeps the thoughts of answers, drops them, or drops them in half of the conversations ("mixed").
    """

    sources: tuple[Source, ...] = pydantic.Field(min_length=1)
    total: Count | None = None
    total_tokens: Count | None = None
    duplicates: Duplicates = Duplicates()
    shuffle: bool = True
    thinking: Thinking = "keep"
    tokenizer: _Text | None = None

    @pydantic.field_validator("sources")
    @classmethod
    def _name_sources(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        named = tuple(
            source if source.name else source.model_copy(update={"name": _name_of(source)}) for source in sources
        )
        names = [source.name for source in named]
        if duplicates := repeated(names):
            raise ValueError(f"duplicate source name {duplicates[0]!r}")
        return named

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        faults = []
        fractions = [source.fraction for source in self.sources if source.fraction is not None]
        weights = [source.weight for source in self.sources if source.weight is not None]
        has_total = self.total is not None or self.total_tokens is not None
        if self.total is not None and self.total_tokens is not None:
            faults.append("total and total_tokens cannot be used together; drop one")
        if not has_total and fractions:
            faults.append("fractions need total, the number of conversations they are fractions of")
        if not has_total and weights:
            faults.append("weights need total or total_tokens, which they share")
        if has_total and max(len(fractions), len(weights)) < len(self.sources):
            faults.append("with total every source needs a fraction, or every source a weight")
        elif has_total and fractions and abs(sum(fractions) - 1) > _FRACTIONS_SUM:
            faults.append(f"the fractions add up to {sum(fractions):g}; make them 1")
        counted = self.total_tokens is not None or any(source.tokens is not None for source in self.sources)
        if counted and self.tokenizer is None:
            faults.append("tokens need a tokenizer: name a model under mix.tokenizer")
        if self.tokenizer is None and any(source.filters.max_tokens is not None for source in self.sources):
            faults.append("max_tokens needs a tokenizer: name a model under mix.tokenizer")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def asked(self) -> list[int | None]:
        """Return how many conversations each source is to give, None for all it has.

        Fractions of ``total`` are rounded by largest remainder, so that the counts add up to it.
        """
        if self.total is None:
            return [source.count for source in self.sources]
        return list(self._shared(self.total))

    def token_budgets(self) -> list[int | None]:
        """Return how many tokens each source may give at most, None without a budget."""
        if self.total_tokens is None:
            return [source.tokens for source in self.sources]
        return list(self._shared(self.total_tokens))

    def _shared(self, total: int) -> list[int]:
        weights = [source.fraction or source.weight or 0.0 for source in self.sources]
        shares = [weight * total / sum(weights) for weight in weights]
        counts = [int(share) for share in shares]
        by_remainder = sorted(range(len(shares)), key=lambda i: (counts[i] - shares[i], i))
        for i in by_remainder[: total - sum(counts)]:
            counts[i] += 1
        return counts


class Recipe(Section):
    """A whole recipe; a section that is not there is None."""

    name: str = pydantic.Field(pattern=r"^[A-Za-z0-9][\w.-]{0,79}$")
    seed: int = pydantic.Field(default=0, ge=0, lt=2**63, strict=True)
    mix: Mix | None = None
    sft: TrainingConfig | None = None

    @pydantic.model_validator(mode="after")
    def _need_one(self) -> Self:
        if self.mix is None and self.sft is None:
            raise ValueError("the recipe has neither a mix nor an sft section; give at least one")
        return self

    def document(self) -> dict[str, Any]:
        """Return the recipe as JSON holds it, defaults included."""
        return self.model_dump(mode="json")


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe file, its relative paths as they are reached from here.

    Raises DataError for a file that is not YAML, and one UsageError that names every fault in it.
    """
    path = shipped_recipe(path)
    recipe = recipe_of(read_mapping(path, "recipe"), str(path))
    folder = path.expanduser().parent
    mix, sft = recipe.mix, recipe.sft
    if mix is not None:
        sources = tuple(located_source(source, folder) for source in mix.sources)
        mix = mix.model_copy(update={"sources": sources, "tokenizer": located(mix.tokenizer, folder)})
    if sft is not None:
        template = located(sft.chat_template, folder)
        sft = sft.model_copy(update={"base": located(sft.base, folder), "chat_template": template})
    return recipe.model_copy(update={"mix": mix, "sft": sft})


def located_source(source: Source, folder: Path) -> Source:
    """Return a source of a file in ``folder`` with its paths as they are reached from here."""
    blend = tuple(member.model_copy(update={"data": located(member.data, folder)}) for member in source.blend)
    own = {"data": located(source.data, folder), "scores": located(source.scores, folder)}
    return source.model_copy(update={**own, "blend": blend})


def recipe_of(values: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """Check a recipe's values; raises one UsageError that names every fault, ``where`` it was read."""
    return checked(Recipe, values, where)


def _name_of(source: Source) -> str:
    """Name a source after its data: the last part of a path or hub id, without its suffix."""
    name = source.members[0][0].rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.:@-]+", "-", re.sub(r"\.(parquet|jsonl|json)$", "", name)) or "source"
