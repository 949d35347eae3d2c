"""``evalsuite compare``: several models answer, and judges compare every pair in both orders, which gives preferences.

The candidates are served one after another and stopped before the judges start; answers from a run or an earlier
comparison are in the store, and no server is started for them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

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
from evalsuite.comparison.games import REWARD, PairRecord, asked_form, check_context_is_shown, judge_pair
from evalsuite.comparison.human import read_labels
from evalsuite.comparison.judging import Judge, find_judges, settle_judge
from evalsuite.comparison.prompts import PromptSet, Question, load_prompts
from evalsuite.comparison.ratings import lineage_notes, read_lineage
from evalsuite.comparison.servers import Servers, opened_servers, source_identity
from evalsuite.comparison.settings import CompareConfig
from evalsuite.comparison.style import style_control
from evalsuite.comparison_documents import ComparisonJudge, ComparisonManifest, Preferences, PromptsEntry
from evalsuite.config import flat_values, resolved_yaml
from evalsuite.documents import SCHEMA
from evalsuite.errors import UsageError
from evalsuite.files import read_json, write_text
from evalsuite.progress import NoProgress, Progress
from evalsuite.redaction import scrubbed
from evalsuite.results.environment import environment
from evalsuite.runs.judges import panel_of
from evalsuite.serving.identity import warn_of_silent_servers
from evalsuite.serving.requests import Scorer
from evalsuite.store import content_key
from judges.formats import JudgeFormat

_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison produced: preferences.json, where it is, and how much has no verdict."""

    document: Preferences
    folder: Path
    n_unscored: int
    n_items: int


def compare(config: CompareConfig, progress: Progress | None = None) -> Comparison:
    """Compare models pairwise; raises EvalsuiteError, and leaves every finished answer and verdict in the store."""
    progress = progress or NoProgress()
    began = time.monotonic()
    # What needs no model is checked before any is searched for.
    form, template = asked_form(config)
    lineage = read_lineage(config.lineage) if config.lineage else None
    results = config.results
    judges = find_judges(config, progress)
    panel = panel_of(judges, config.judge_weights, results)
    weights = (1.0,) * len(judges) if panel is None else panel.weights
    prompts = load_prompts(config.prompts, config.shared_options(), turns=config.turns)
    candidates = find_candidates(config, prompts, progress)
    served = [candidate.source for candidate in candidates if isinstance(candidate.source, Checkpoint)]
    warn_of_silent_servers([*served, *judges], progress)
    prompts, notes = common_prompts(prompts, candidates)
    names = [candidate.name for candidate in candidates]
    notes += [*prompts.notes, *prompts.copies]
    asked = [question.request for question in prompts.questions]
    check_context_is_shown(template, asked)
    if lineage:
        notes += lineage_notes(lineage, names)
    labels = None
    if config.human is not None:
        labels = read_labels(config.human, list(combinations(names, 2)), [one.id for one in prompts.questions])
    asked_by = form or template
    template_sha256 = None if asked_by is None else asked_by.sha256
    folder, key = _folder(config, prompts, candidates, judges, template_sha256, weights)
    for note in notes:
        progress.log(note)
    with opened_servers(config, progress) as servers:
        servers.expect(judges, candidates=False)
        answers = collect_answers(candidates, prompts, servers, last=judges[0])
        judged = [
            _judged_by(checkpoint, config, form, names, prompts, answers, servers, progress) for checkpoint in judges
        ]
        usage = dict(servers.usage)
    document = comparison_document(
        candidates,
        prompts,
        judged,
        lineage,
        notes,
        results=results,
        weights=weights,
        setting={"turns": config.turns, "data": config.data, "limit": config.limit},
        labels=labels,
    )
    style = style_control(prompts, answers, [by_pair for _, by_pair in judged])
    document = document.model_copy(update={"style": style})
    manifest = ComparisonManifest(
        schema=SCHEMA,
        key=key,
        **environment(),
        models=tuple(described_candidate(candidate) for candidate in candidates),
        judges=tuple(ComparisonJudge(**judge.described(results)) for judge, _ in judged),
        prompts=PromptsEntry(name=prompts.name, turns=config.turns, data_pins=dict(prompts.pins)),
        arguments=scrubbed(flat_values(config)),
        seconds=round(time.monotonic() - began, 3),
        usage=usage,
    )
    write_comparison(folder, document, manifest, prompts, answers, judged)
    write_text(folder / "config.yaml", resolved_yaml(config))
    counts = [pair.unscored for pair in document.pairs]
    return Comparison(document, folder, sum(counts), len(counts) * len(prompts.questions))


def _judged_by(
    checkpoint: Checkpoint,
    config: CompareConfig,
    form: JudgeFormat | None,
    names: Sequence[str],
    prompts: PromptSet,
    answers: Answers,
    servers: Servers,
    progress: Progress,
) -> tuple[Judge, Judged]:
    """Settle how a judge is asked, and have it judge every pair on every prompt, in both orders."""
    judge = settle_judge(checkpoint, servers, config, form, progress)
    pairs = list(combinations(names, 2))
    asked = [(pair, question) for pair in pairs for question in prompts.questions]

    async def one(game: tuple[Pair, Question], client: Scorer) -> PairRecord:
        (a, b), question = game
        request = question.request.of(question.category)
        return await judge_pair(client, judge.how, request, answers[a][question.id], answers[b][question.id])

    records = iter(servers.ask_each(judge.checkpoint, f"judged by {judge.name}", asked, one, candidate=False))
    return judge, {pair: [next(records) for _ in prompts.questions] for pair in pairs}


def _folder(
    config: CompareConfig,
    prompts: PromptSet,
    candidates: Sequence[Candidate],
    judges: Sequence[Checkpoint],
    template_sha256: str | None,
    weights: Sequence[float],
) -> tuple[Path, str]:
    """Return the comparison's folder and key; refuses one that holds another comparison."""
    method = config.method if config.judge_format is None else Path(config.judge_format).stem
    method = REWARD if config.judge_kind == "reward" else method
    key = content_key(
        {
            "models": [
                [candidate.name, candidate.fingerprint, source_identity(candidate.source, config.serve)]
                for candidate in candidates
            ],
            "judges": [source_identity(judge, config.judge_serving) for judge in judges],
            "prompts": [prompts.name, config.turns, [question.id for question in prompts.questions]],
            "pins": {name: pin.sha256 for name, pin in prompts.pins.items()},
            "how": [method, template_sha256, config.tie_margin, config.max_judge_tokens, config.long_answers],
            **({} if len(set(weights)) == 1 else {"weights": weights}),
            "asked": [config.seed, config.data],
            "evalsuite": evalsuite.__version__,
        }
    )
    models = "-vs-".join(candidate.name for candidate in candidates)
    name = config.name or f"{models[:_LONGEST_NAME]}-{prompts.name}-{method}-{key[:8]}"
    folder = config.results / "comparisons" / re.sub(r"[^\w.-]+", "-", name).strip("-.")
    manifest = folder / "manifest.json"
    if manifest.is_file() and read_json(manifest).get("key") != key:
        raise UsageError(f"{folder} contains a different comparison; give another --name, or leave it out")
    return folder, key
