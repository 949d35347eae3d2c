"""``evalsuite rate``: twelve qualities of a model's answers, each an expected rating from 1 to 10."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import evalsuite
from evalsuite.checkpoint import Checkpoint
from evalsuite.comparison.candidates import Candidate, collect_answers, described_candidate, find_candidates
from evalsuite.comparison.conversations import conversations_in
from evalsuite.comparison.games import load_template, template_faults
from evalsuite.comparison.judging import find_judges, probed_labels
from evalsuite.comparison.prompts import PromptSet, Question, Texts, load_prompts
from evalsuite.comparison.servers import Servers, source_identity
from evalsuite.comparison.settings import RateConfig
from evalsuite.config import resolved_yaml
from evalsuite.conversations.formats import content_hash
from evalsuite.documents import SCHEMA
from evalsuite.errors import UsageError
from evalsuite.files import write_json, write_jsonl, write_text
from evalsuite.progress import NoProgress, Progress
from evalsuite.results.environment import environment
from evalsuite.results.judge_cards import card_summary
from evalsuite.serving.requests import Chat, Guide, Sampling
from evalsuite.store import content_key, open_store
from evalsuite.suites.judging import low_mass_note
from judges.factors import (
    NEEDED_VARIABLES,
    RATING_LABELS,
    TEMPLATE,
    TEMPLATE_VARIABLES,
    expected_rating,
    factor_prompt,
    rating_of_letter,
)
from judges.labels import spellings
from judges.statistics import mean_and_stderr, mean_ci
from judges.templates import JudgeTemplate
from judges.types import Message, Rating, Role, Unscored

_SPELLINGS = spellings(RATING_LABELS)

Ratings = Mapping[tuple[str, str], Rating | Unscored]
"""(question id, factor): the rating."""


def rate(config: RateConfig, progress: Progress | None = None) -> tuple[dict[str, Any], Path]:
    """Rate a model's answers factor by factor; returns the figures and their folder. Raises EvalsuiteError."""
    progress = progress or NoProgress()
    template = load_template(config.template, TEMPLATE, TEMPLATE_VARIABLES, NEEDED_VARIABLES)
    results, judge_serve = config.results, config.judge_serving
    [judge] = find_judges([config.judge], judge_serve, progress)
    prompts, candidate = _rated(config, progress)
    with (
        open_store(results, config.store) as store,
        Servers(store, results / "logs", progress, candidates=config.serve, judges=judge_serve) as servers,
    ):
        answers = collect_answers([candidate], prompts, servers, progress, last=judge)[candidate.name]
        why, mass = probed_labels(judge, servers, RATING_LABELS)
        notes = low_mass_note(mass, RATING_LABELS)
        notes += [f"the judge gives no log-probabilities ({why}), so its single choice is the rating"] if why else []
        for note in notes:
            progress.log(note)
        asked = [question for question in prompts.questions if question.id in answers]
        ratings: dict[tuple[str, str], Rating | Unscored] = {}
        line = f"{candidate.name} rated by {judge.name}"

        async def one(question: Question, factor: str, client: Chat) -> None:
            ratings[question.id, factor] = await _rate(
                client, template, factor, question, answers[question.id], guided=bool(why)
            )
            progress.advance(line)

        def work(client: Chat) -> list[Awaitable[None]]:
            progress.begin(line, len(asked) * len(config.factors))
            return [one(question, factor, client) for question in asked for factor in config.factors]

        servers.ask_all(judge, work, candidate=False)
    document = {
        "schema": SCHEMA,
        "model": described_candidate(candidate),
        "judge": {
            "name": judge.name,
            "fingerprint": judge.fingerprint,
            "method": "guided_letter" if why else "expected_rating",
            "template_sha256": template.sha256,
            "card": card_summary(results, judge, "guided_letter" if why else "expected_rating", template.sha256),
        },
        "prompts": prompts.name,
        "turns": config.turns,
        "data": config.data,
        "limit": config.limit,
        "n_prompts": len(asked),
        **factor_figures(ratings, [question.id for question in asked], config.factors),
        "notes": notes,
    }
    folder = _folder(config, candidate, judge, prompts, template)
    _write(folder, prompts, answers, document, ratings)
    write_text(folder / "config.yaml", resolved_yaml(config))
    return document, folder


def _rated(config: RateConfig, progress: Progress) -> tuple[PromptSet, Candidate]:
    """Return the prompts and whose answers to them are rated: a folder of conversations has both."""
    found = conversations_in(config.model, config.turns, config.limit)
    if found is None:
        prompts = load_prompts(config.prompts, config.shared_options(), turns=config.turns)
        [candidate] = find_candidates([config.model], config.serve, prompts, progress, config.results)
        return prompts, candidate
    if "prompts" in config.model_fields_set:
        raise UsageError(f"{config.model} has prompts and answers; leave out --prompts")
    return found[0], Candidate(found[1].name, found[1])


async def _rate(
    judge: Chat, template: JudgeTemplate, factor: str, question: Question, answer: Texts, *, guided: bool
) -> Rating | Unscored:
    if isinstance(answer, Unscored):
        return answer
    with template_faults():
        messages = factor_prompt(template, factor, question.turns, answer)
    if guided:
        reply = await judge.chat(messages, Sampling(4), Guide(choice=RATING_LABELS))
        return reply if isinstance(reply, Unscored) else rating_of_letter(reply.text)
    logprobs = await judge.label_logprobs(messages, RATING_LABELS, _SPELLINGS)
    return logprobs if isinstance(logprobs, Unscored) else expected_rating(logprobs)


def factor_figures(ratings: Ratings, questions: Sequence[str], factors: Sequence[str]) -> dict[str, Any]:
    """Average each factor over the prompts, and all of them together (intervals draw whole prompts)."""
    by_factor = {factor: [(question, ratings[question, factor]) for question in questions] for factor in factors}
    figures = {factor: _mean_figures(rows) for factor, rows in by_factor.items()}
    return {"factors": figures, "mean": _mean_figures(list(chain(*by_factor.values())))}


def _mean_figures(rows: Sequence[tuple[str, Rating | Unscored]]) -> dict[str, Any]:
    scored = [(question, rating.value) for question, rating in rows if isinstance(rating, Rating)]
    reasons = Counter(rating.reason for _, rating in rows if isinstance(rating, Unscored))
    values = [value for _, value in scored]
    interval = mean_ci(values, [question for question, _ in scored]) if values else None
    return {
        "score": mean_and_stderr(values)[0] if values else None,
        "ci95": None if interval is None else list(interval),
        "n": len(rows),
        "n_scored": len(scored),
        "unscored": dict(sorted(reasons.items())),
    }


def _folder(
    config: RateConfig, candidate: Candidate, judge: Checkpoint, prompts: PromptSet, template: JudgeTemplate
) -> Path:
    """Return the folder of these very ratings: others of the same model and judge have folders of their own."""
    key = content_key(
        {
            "model": [candidate.fingerprint, source_identity(candidate.source, config.serve)],
            "judge": source_identity(judge, config.judge_serving),
            "prompts": [prompts.name, config.turns, [question.id for question in prompts.questions]],
            "pins": {name: pin.sha256 for name, pin in prompts.pins.items()},
            "how": [template.sha256, list(config.factors)],
            "asked": [config.seed, config.data],
            "evalsuite": evalsuite.__version__,
        }
    )
    return config.results / "ratings" / f"{candidate.slug}-by-{judge.slug}-{prompts.name}-{key[:8]}"


def _hash_of(question: Question, answer: Texts) -> str | None:
    """Return the hash by which a rating is found for a conversation, None without an answer."""
    if isinstance(answer, Unscored):
        return None
    system = [Message("system", question.request.system)] if question.request.system else []
    turns = zip(question.turns, answer, strict=False)
    said = [Message(role, text) for pair in turns for role, text in zip(_SPEAKERS, pair, strict=True)]
    return content_hash([*system, *said])


_SPEAKERS: tuple[Role, Role] = ("user", "assistant")


def _write(
    folder: Path,
    prompts: PromptSet,
    answers: Mapping[str, Texts],
    document: Mapping[str, Any],
    ratings: Ratings,
) -> None:
    hashes = {one.id: _hash_of(one, answers[one.id]) for one in prompts.questions if one.id in answers}
    rows = [
        {
            "prompt_id": question,
            "content_hash": hashes[question],
            "factor": factor,
            "rating": None if isinstance(one, Unscored) else one.value,
            "likeliest": None if isinstance(one, Unscored) else one.text,
            "unscored": {"reason": one.reason, "detail": one.detail} if isinstance(one, Unscored) else None,
        }
        for (question, factor), one in sorted(ratings.items())
    ]
    write_jsonl(folder / "ratings.jsonl", rows)
    write_json(
        folder / "factors.json",
        {
            **document,
            "data_pins": {name: asdict(pin) for name, pin in prompts.pins.items()},
            "made_with": environment(),
        },
    )
