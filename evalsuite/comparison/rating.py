"""``evalsuite rate``: qualities of models' answers, each an expected rating on a scale, or a reward model's score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
from evalsuite.comparison.conversations import conversations_in
from evalsuite.comparison.judging import find_judges
from evalsuite.comparison.prompts import PromptSet, Question, Texts, load_prompts
from evalsuite.comparison.rater import Rater, asked_rater, described_factors, rate_answer, settle_rater
from evalsuite.comparison.rating_figures import Rated
from evalsuite.comparison.servers import Servers, opened_servers, source_identity
from evalsuite.comparison.settings import RateConfig
from evalsuite.comparison_documents import ComparisonJudge
from evalsuite.config import resolved_yaml
from evalsuite.conversations.formats import content_hash
from evalsuite.documents import SCHEMA
from evalsuite.errors import UsageError
from evalsuite.files import write_json, write_jsonl, write_text
from evalsuite.progress import NoProgress, Progress
from evalsuite.rating_documents import RatedModel, Ratings
from evalsuite.results.environment import environment
from evalsuite.results.judge_cards import card_summary, rating_card_summary
from evalsuite.serving.requests import Scorer
from evalsuite.store import content_key
from judges.factors import Factor
from judges.types import Message, Rating, Role, Unscored

_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class RatingOutcome:
    """factors.json, and the folder that it is in."""

    document: Ratings
    folder: Path

    @property
    def n_ratings(self) -> int:
        return sum(figures.n for model in self.document.models for figures in model.factors.values())

    @property
    def n_unscored(self) -> int:
        scored = sum(figures.n_scored for model in self.document.models for figures in model.factors.values())
        return self.n_ratings - scored


def rate(config: RateConfig, progress: Progress | None = None) -> RatingOutcome:
    """Rate models' answers factor by factor, and compare the models. Raises EvalsuiteError."""
    progress = progress or NoProgress()
    rater = asked_rater(config)
    [judge] = find_judges(config, progress)
    prompts, candidates, notes = _rated(config, progress)
    with opened_servers(config, progress) as servers:
        answers = collect_answers(candidates, prompts, servers, last=judge)
        rater = settle_rater(rater, judge, [question.request for question in prompts.questions], servers, progress)
        ratings = _rate_all(judge, rater, prompts, answers, servers)
    names = tuple(candidate.name for candidate in candidates)
    rated = Rated(ratings, prompts, names, tuple(factor.key for factor in rater.factors), rater.scale is not None)
    document = Ratings(
        schema=SCHEMA,
        models=tuple(RatedModel(**described_candidate(one), **rated.figures_of(one.name)) for one in candidates),
        judge=_described(judge, rater, config.results),
        factors=described_factors(rater),
        prompts=prompts.name,
        turns=config.turns,
        data=config.data,
        limit=config.limit,
        n_prompts=len(prompts.questions),
        differences=tuple(rated.differences()),
        notes=(*notes, *rater.notes),
    )
    folder = _folder(config, candidates, judge, prompts, rater)
    _write(folder, prompts, answers, document, ratings)
    write_text(folder / "config.yaml", resolved_yaml(config))
    return RatingOutcome(document, folder)


def _described(judge: Checkpoint, rater: Rater, results: Path) -> ComparisonJudge:
    about = {"name": judge.name, "fingerprint": judge.fingerprint, "method": rater.method}
    factors = {key: one.as_json() for key, one in described_factors(rater).items()}
    card = rating_card_summary(results, judge, rater.method, rater.sha256, factors)
    card = card or card_summary(results, judge, rater.method, rater.sha256)
    return ComparisonJudge.model_validate({**about, "template_sha256": rater.sha256, "card": card})


def _rated(config: RateConfig, progress: Progress) -> tuple[PromptSet, list[Candidate], list[str]]:
    """Return the prompts and whose answers to them are rated, with notes: a folder of conversations has both."""
    found = [conversations_in(model, config.turns, config.limit) for model in config.models]
    one = next((each for each in found if each is not None), None)
    if one is None:
        prompts = load_prompts(config.prompts, config.shared_options(), turns=config.turns)
        candidates = find_candidates(config, prompts, progress)
        prompts, notes = common_prompts(prompts, candidates)
        return prompts, candidates, [*notes, *prompts.notes, *prompts.copies]
    if len(found) > 1:
        raise UsageError(
            "a folder of conversations is rated on its own; give it as the only MODEL, or give files of answers"
        )
    if "prompts" in config.model_fields_set:
        raise UsageError(f"{config.models[0]} has prompts and answers; leave out --prompts")
    return one[0], [Candidate(one[1].name, one[1])], []


def _rate_all(
    judge: Checkpoint, rater: Rater, prompts: PromptSet, answers: Answers, servers: Servers
) -> dict[tuple[str, str, str], Rating | Unscored]:
    asked = [(name, one, factor) for name in answers for one in prompts.questions for factor in rater.factors]

    async def rated(answer: tuple[str, Question, Factor], client: Scorer) -> Rating | Unscored:
        name, question, factor = answer
        texts = answers[name][question.id]
        return (
            texts if isinstance(texts, Unscored) else await rate_answer(client, rater, factor, question.request, texts)
        )

    ratings = servers.ask_each(judge, f"rated by {judge.name}", asked, rated, candidate=False)
    return {(name, one.id, factor.key): found for (name, one, factor), found in zip(asked, ratings, strict=True)}


def _folder(
    config: RateConfig, candidates: Sequence[Candidate], judge: Checkpoint, prompts: PromptSet, rater: Rater
) -> Path:
    """Return the folder of these very ratings: others of the same models and judge have folders of their own."""
    key = content_key(
        {
            "models": [[one.fingerprint, source_identity(one.source, config.serve)] for one in candidates],
            "judge": source_identity(judge, config.judge_serving),
            "prompts": [prompts.name, config.turns, [question.id for question in prompts.questions]],
            "pins": {name: pin.sha256 for name, pin in prompts.pins.items()},
            "how": [rater.method, rater.sha256, [asdict(factor) for factor in rater.factors]],
            "asked": [config.seed, config.data],
            "evalsuite": evalsuite.__version__,
        }
    )
    models = "-vs-".join(one.slug for one in candidates)[:_LONGEST_NAME]
    return config.results / "ratings" / f"{models}-by-{judge.slug}-{prompts.name}-{key[:8]}"


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
    answers: Answers,
    document: Ratings,
    ratings: Mapping[tuple[str, str, str], Rating | Unscored],
) -> None:
    """Write a row per rating, and the figures; a rating is found by its conversation's ``content_hash``."""
    hashes = {
        (name, one.id): _hash_of(one, texts[one.id]) for name, texts in answers.items() for one in prompts.questions
    }
    rows = [
        {
            "model": model,
            "prompt_id": question,
            "content_hash": hashes[model, question],
            "factor": factor,
            "rating": None if isinstance(one, Unscored) else one.value,
            "likeliest": None if isinstance(one, Unscored) or not one.text else one.text,
            "unscored": {"reason": one.reason, "detail": one.detail} if isinstance(one, Unscored) else None,
        }
        for (model, question, factor), one in sorted(ratings.items())
    ]
    write_jsonl(folder / "ratings.jsonl", rows)
    pins: dict[str, Any] = {name: asdict(pin) for name, pin in prompts.pins.items()}
    write_json(folder / "factors.json", {**document.as_json(), "data_pins": pins, "made_with": environment()})
