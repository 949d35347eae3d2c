"""``evalsuite compare``: several models answer, judges compare every pair in both orders, preferences come out.

The candidates are served one after the other and leave before the judges come; what a run or an
earlier comparison has asked is in the store, and no server is started for it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import evalsuite
from evalsuite.checkpoint import Checkpoint
from evalsuite.comparison.candidates import (
    Answers,
    Candidate,
    collect_answers,
    common_prompts,
    described_candidate,
    find_candidates,
)
from evalsuite.comparison.documents import Judged, comparison_document, write_comparison
from evalsuite.comparison.figures import Pair
from evalsuite.comparison.games import PairRecord, judge_pair, pair_template
from evalsuite.comparison.judging import Judge, resolve_judges, settle_judge
from evalsuite.comparison.prompts import PromptSet, Question, Turns, load_prompts
from evalsuite.comparison.ratings import lineage_notes, read_lineage
from evalsuite.comparison.servers import Servers, identity_of, source_identity
from evalsuite.config import RunConfig, SuiteSpec, read_config
from evalsuite.errors import UsageError, unknown
from evalsuite.files import read_json
from evalsuite.progress import Progress, Silence
from evalsuite.results.folder import SCHEMA, environment
from evalsuite.serving.requests import Chat
from evalsuite.store import Store, content_key
from judges.verdicts import METHODS, Method, check_margin

_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class CompareConfig:
    """A whole ``evalsuite compare``; ``run`` holds what it shares with ``evalsuite run``."""

    run: RunConfig
    judges: tuple[str, ...]
    prompts: str = "mt_bench"
    turns: Turns = "first"
    method: Method = "verdict"
    template: Path | None = None
    lineage: Path | None = None
    margin: float = 0.0
    max_judge_tokens: int | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison produced: preferences.json, where it lies, and how much has no verdict."""

    document: dict[str, Any]
    folder: Path
    n_unscored: int
    n_items: int

    @property
    def unscored_share(self) -> float:
        return self.n_unscored / self.n_items if self.n_items else 0.0


def read_compare_config(
    models: Sequence[str],
    judge: str | Sequence[str],
    *,
    prompts: str | Path = "mt_bench",
    turns: Turns = "first",
    method: Method = "verdict",
    tie_margin: float = 0.0,
    max_judge_tokens: int | None = None,
    template: str | Path | None = None,
    lineage: str | Path | None = None,
    name: str | None = None,
    **options: Any,
) -> CompareConfig:
    """Check what ``evalsuite compare`` was asked; ``options`` are those that it shares with ``run``.

    Raises one UsageError in one sentence.
    """
    for what, value, known in (("method", method, METHODS), ("turns", turns, get_args(Turns))):
        if value not in known:
            raise UsageError(unknown(what, value, known))
    return CompareConfig(
        run=read_config({"models": tuple(models), **options}),
        judges=(judge,) if isinstance(judge, str) else tuple(judge),
        prompts=str(prompts),
        turns=turns,
        method=method,
        template=None if template is None else Path(template).expanduser(),
        lineage=None if lineage is None else Path(lineage).expanduser(),
        margin=tie_margin,
        max_judge_tokens=max_judge_tokens,
        name=name,
    )


def compare(config: CompareConfig, progress: Progress | None = None) -> Comparison:
    """Compare models pairwise; raises EvalsuiteError, and leaves every finished answer and verdict in the store."""
    progress = progress or Silence()
    began = time.monotonic()
    lineage = _checked(config)
    judges = resolve_judges(config.judges, config.run, progress)
    prompts = load_prompts(config.prompts, config.run.suite_options(SuiteSpec(name="mt_bench")), turns=config.turns)
    candidates = find_candidates(config.run, prompts, progress)
    prompts, notes = common_prompts(prompts, candidates)
    if lineage:
        notes += lineage_notes(lineage, [candidate.name for candidate in candidates])
    folder, key = _folder(config, prompts, candidates, judges)
    for note in notes:
        progress.say(note)
    with Store(config.run.results / "store.sqlite") as store, Servers(store, config.run, progress) as servers:
        answers = collect_answers(candidates, prompts, servers, config.run, progress, last=judges[0])
        judged = []
        for checkpoint in judges:
            judge = settle_judge(
                checkpoint,
                servers,
                config.run,
                method=config.method,
                template=config.template,
                margin=config.margin,
                max_new_tokens=config.max_judge_tokens,
                progress=progress,
            )
            judged.append((judge, _judge_all(judge, candidates, prompts, answers, servers, progress)))
        usage = dict(servers.usage)
    document = comparison_document(
        candidates,
        prompts,
        judged,
        lineage,
        notes,
        results=config.run.results,
        setting={"turns": config.turns, "data": config.run.data, "limit": config.run.limit},
    )
    manifest = {
        "schema": SCHEMA,
        "key": key,
        **environment(),
        "models": [described_candidate(candidate) for candidate in candidates],
        "judges": [judge.described(config.run.results) for judge, _ in judged],
        "prompts": {"name": prompts.name, "turns": config.turns, "data_pins": dict(prompts.pins)},
        "arguments": _arguments(config),
        "seconds": round(time.monotonic() - began, 3),
        "usage": usage,
    }
    write_comparison(folder, document, manifest, prompts, answers, judged)
    counts = [pair["unscored"] for pair in document["pairs"]]
    return Comparison(document, folder, sum(counts), len(counts) * len(prompts.questions))


def _checked(config: CompareConfig) -> dict[str, str] | None:
    """Check what needs no model, before any is looked for; return the lineage."""
    if len(config.run.models) < 2:
        raise UsageError(f"one model ({config.run.models[0]}) cannot be compared; give two or more")
    try:
        check_margin(config.margin)
    except ValueError as error:
        raise UsageError(f"--tie-margin: {error}") from error
    pair_template(config.template, config.method)
    return read_lineage(config.lineage) if config.lineage else None


def _judge_all(
    judge: Judge,
    candidates: Sequence[Candidate],
    prompts: PromptSet,
    answers: Answers,
    servers: Servers,
    progress: Progress,
) -> Judged:
    """Judge every pair on every prompt, in both orders."""
    pairs = list(combinations([candidate.name for candidate in candidates], 2))
    found: dict[tuple[Pair, str], PairRecord] = {}
    line = f"judged by {judge.name}"

    async def one(pair: Pair, question: Question, client: Chat) -> None:
        a, b = (answers[name][question.id] for name in pair)
        found[pair, question.id] = await judge_pair(client, judge.how, question.turns, a, b)
        progress.advance(line)

    def work(client: Chat) -> list[Awaitable[None]]:
        progress.begin(line, len(pairs) * len(prompts.questions))
        return [one(pair, question, client) for pair in pairs for question in prompts.questions]

    servers.ask_all(judge.checkpoint, work, candidate=False)
    return {pair: [found[pair, question.id] for question in prompts.questions] for pair in pairs}


def _arguments(config: CompareConfig) -> dict[str, Any]:
    """What was asked for, as it goes into the manifest; keys of servers never stand in a word."""
    return {
        "judges": list(config.judges),
        "prompts": config.prompts,
        "turns": config.turns,
        "method": config.method,
        "template": config.template.name if config.template else None,
        "tie_margin": config.margin,
        "max_judge_tokens": config.max_judge_tokens,
        **config.run.model_dump(mode="json", include=set(RunConfig.model_fields) - {"suites", "judge", "base_url"}),
    }


def _folder(
    config: CompareConfig, prompts: PromptSet, candidates: Sequence[Candidate], judges: Sequence[Checkpoint]
) -> tuple[Path, str]:
    """Return the comparison's folder and key; refuses one that holds another comparison."""
    template = pair_template(config.template, config.method)
    key = content_key(
        {
            "models": [
                [candidate.name, candidate.fingerprint, source_identity(candidate.source, config.run)]
                for candidate in candidates
            ],
            "judges": [identity_of(judge, config.run, candidate=False) for judge in judges],
            "prompts": [prompts.name, config.turns, [question.id for question in prompts.questions]],
            "pins": {name: pin["sha256"] for name, pin in prompts.pins.items()},
            "how": [config.method, template.sha256, config.margin, config.max_judge_tokens],
            "asked": [config.run.seed, config.run.data],
            "evalsuite": evalsuite.__version__,
        }
    )
    words = "-vs-".join(candidate.name for candidate in candidates)
    name = config.name or f"{words[:_LONGEST_NAME]}-{prompts.name}-{config.method}-{key[:8]}"
    if config.name and not re.fullmatch(r"[\w][\w.-]*", config.name):
        raise UsageError(f"--name {config.name!r} is no folder name; use letters, digits, dots, - and _")
    folder = config.run.results / "comparisons" / re.sub(r"[^\w.-]+", "-", name).strip("-.")
    manifest = folder / "manifest.json"
    if manifest.is_file() and read_json(manifest).get("key") != key:
        raise UsageError(f"{folder} holds another comparison; give another --name, or leave it out")
    return folder, key
