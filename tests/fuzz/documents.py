"""Fuzz targets that read recipes, studies, data sources and written analyses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random

import yaml

from evalsuite.analysis.answers import Answers, read_answers
from evalsuite.analysis.document import Analysis, read_analysis
from evalsuite.conversations.formats import Conversation, conversation_of, detect_format, prompts_of
from evalsuite.conversations.source import open_source
from evalsuite.generation.manifest import read_manifest, verified_shards
from evalsuite.recipes.recipe import Recipe, read_recipe
from evalsuite.study.file import Study, read_study
from judges.types import Unscored
from tests.fuzz import mutation
from tests.fuzz.parsers import survives
from tests.fuzz.readers import Target

ROOT = Path(__file__).resolve().parents[2]
_RECIPE = yaml.safe_load((ROOT / "recipes" / "tiny.yaml").read_text(encoding="utf-8"))
_STUDY = yaml.safe_load((ROOT / "recipes" / "demo-study.yaml").read_text(encoding="utf-8"))
_CHATS = [
    {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}], "language": "English"},
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}], "conversation_hash": "h"},
]
_SHARED = [{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}], "id": 5}]
_CHOICES = [{"question": "Which?", "choices": ["a", "b", "c"], "answer": 1, "subject": "x"}]
_ANSWERS = [{"instruction": "Why?", "input": "", "output": "So."}, {"prompt": "q", "completion": "c", "model_id": "m"}]
_ANALYSIS = {
    "schema": 1,
    "kind": "style",
    "name": "n",
    "title": "t",
    "about": "a",
    "provenance": {"seed": 0},
    "tables": [
        {"id": "x", "title": "t", "source": None, "columns": [{"key": "k", "label": "K", "format": "float1"}]}
        | {"rows": [{"k": 1.5, "k_ci95": [1.0, 2.0]}, {"k": None, "k_why": "no answers"}], "notes": ["n"]}
    ],
    "charts": [{"id": "c", "title": "t", "kind": "bars", "table": "x", "label": "k", "values": ["k"], "source": None}],
    "examples": {"w": [{"model": "m", "text": "x", "prompt": "p"}]},
}
_MANIFEST = {
    "schema": 1,
    "kind": "generate",
    "settings": {"model": {"weights": "w"}, "seed": 0},
    "shards": [{"number": 0, "file": "a.parquet", "sha256": "0" * 64, "mark": {"rows": 1}}],
    "complete": False,
}


def _yaml(draw: Random, path: Path, seed: object) -> Path:
    words = yaml.safe_dump(mutation.document(draw, seed), allow_unicode=True).encode("utf-8", "surrogatepass")
    path.write_bytes(mutation.damaged(draw, words) if draw.random() < 0.1 else words)
    return path


def recipes(draw: Random, place: Path) -> None:
    recipe = _yaml(draw, place / "recipe.yaml", _RECIPE)
    survives(lambda: read_recipe(recipe), Recipe)
    study = _yaml(draw, place / "study.yaml", _STUDY)
    survives(lambda: read_study(study), Study)


def sources(draw: Random, place: Path) -> None:
    """A damaged file of chats is a source whose rows are conversations or named, or one sentence."""
    seed = draw.choice((_CHATS, _SHARED, _CHOICES, _ANSWERS))
    path = place / "rows.jsonl"
    path.write_bytes(mutation.as_bytes(draw, mutation.document(draw, seed), lines=True))

    def read() -> int:
        rows = open_source(str(path))
        form = detect_format(rows.columns, rows.spec)
        found = [read(row, form) for row in rows for read in (conversation_of, prompts_of)]
        assert all(isinstance(one, Conversation | Unscored) for one in found)
        return len(found)

    survives(read, int)
    survives(lambda: read_answers(f"m={path}", place), Answers)


def rows_in_memory(draw: Random, place: Path) -> None:
    """Rows may come from anywhere, Parquet included: each is a conversation or named."""
    for form, seed in (
        ("chat", _CHATS),
        ("sharegpt", _SHARED),
        ("multiple_choice", _CHOICES),
        ("prompt_answer", _ANSWERS),
    ):
        spoilt = mutation.document(draw, seed)
        for row in spoilt if isinstance(spoilt, list) else ():
            if isinstance(row, dict):
                survives(lambda r=row, f=form: conversation_of(r, f), Conversation, Unscored)
                survives(lambda r=row, f=form: prompts_of(r, f), Conversation, Unscored)


def written_documents(draw: Random, place: Path) -> None:
    analysis = place / "analysis.json"
    analysis.write_bytes(mutation.as_bytes(draw, mutation.document(draw, _ANALYSIS), lines=False))
    survives(lambda: read_analysis(analysis), Analysis)
    manifest = place / "_manifest.json"
    manifest.write_text(json.dumps(mutation.document(draw, _MANIFEST)))
    survives(lambda: verified_shards(place, read_manifest(manifest), ""), tuple)


DOCUMENTS: Mapping[str, Target] = {
    "recipes": recipes,
    "sources": sources,
    "rows_in_memory": rows_in_memory,
    "written_documents": written_documents,
}
