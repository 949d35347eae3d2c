"""The options of ``evalsuite analyze``, but for contamination's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from evalsuite.config import Config, Results

Sources = Annotated[
    tuple[str, ...], pydantic.Field(description="Only answers to this suite or file, such as mt_bench.")
]


class _AnalysisConfig(Config):
    name: str | None = None
    """Name of the analysis; default: the models' names."""
    results: Results = Path("results")


class StyleConfig(_AnalysisConfig):
    """A whole ``evalsuite analyze style``."""

    answers: tuple[str, ...] = pydantic.Field(min_length=1, json_schema_extra={"argument": "ANSWERS", "path": True})
    """Recorded answers, as [NAME=]PATH: a model's folder in results/, generate's output, a .parquet, .json or .jsonl
    file, or a folder of judged .html pages."""
    lineage: Path | None = None
    """YAML mapping 'sft: dgm'; adds the paper's Table 3 and inheritance scores."""
    tokenizer: str | None = pydantic.Field(default=None, json_schema_extra={"path": True})
    """Model, or demo, whose tokenizer counts tokens; default: count words."""
    source: Sources = ()
    as_published: bool = False
    """Count whole judged pages, as the paper does, instead of the answers."""


class EfficiencyConfig(_AnalysisConfig):
    """A whole ``evalsuite analyze efficiency``."""

    folders: tuple[str, ...] = pydantic.Field(min_length=1, json_schema_extra={"argument": "DIR", "path": True})
    """Folders of 'evalsuite generate', or models' folders in results/."""
    conversations: int = pydantic.Field(default=1_000_000, ge=1, le=10**12, json_schema_extra={"short": "-n"})
    """Size of the projected job."""
    dollars_per_hour: float | None = pydantic.Field(default=None, ge=0, le=1e12)
    """Price of one device: a GPU, or the whole machine."""


class SimilarityConfig(_AnalysisConfig):
    """A whole ``evalsuite analyze similarity``."""

    answers: tuple[str, ...] = pydantic.Field(min_length=1, json_schema_extra={"argument": "ANSWERS", "path": True})
    """Recorded answers of two or more models, as [NAME=]PATH: a model's folder in results/, generate's output, or a
    .parquet, .json or .jsonl file."""
    turns: Literal["first", "both"] = "first"
    """Look at first turns, or at whole conversations."""
    limit: int | None = pydantic.Field(default=None, ge=1)
    """Max prompts (quick trial)."""
    source: Sources = ()
    as_published: bool = False
    """Sampled references and moving averages, as in the paper's Table 5."""
    synonyms: bool = True
    """Use METEOR's synonyms, if WordNet is installed."""


class KeywordsConfig(_AnalysisConfig):
    """A whole ``evalsuite analyze keywords``: two ``judgments``, or a ``comparison`` of which they may pick two."""

    judgments: tuple[str, ...] = pydantic.Field(default=(), json_schema_extra={"argument": "JUDGMENTS", "path": True})
    """Two models' recorded judgments, as [NAME=]PATH: a folder in results/ or a model_judgment.jsonl. With
    --comparison: the names of two of its models."""
    comparison: str | None = pydantic.Field(default=None, json_schema_extra={"path": True})
    """Verdicts of `compare --method reasoned`: its name or folder."""
    words: Path | None = None
    """Text file of additional words, one per line."""
    all_judgments: bool = False
    """Include items on which both models got the same rating."""
    all_words: bool = False
    """Include all words, not only adjectives and words of complaint."""
    min_count: int = pydantic.Field(default=5, ge=1)
    """Min occurrences of a word."""
    top: int = pydantic.Field(default=20, ge=1)
    """Words to show per side."""
