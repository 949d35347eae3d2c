"""How a judge rates an answer: factor by factor on a scale of letters, or as a reward model by one score."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import pydantic

from evalsuite.checkpoint import Checkpoint
from evalsuite.comparison.games import REWARD, check_context_is_shown, conversation, load_template, template_faults
from evalsuite.comparison.judging import ONE_SCORE_NOTE, probed_labels
from evalsuite.comparison.servers import Servers
from evalsuite.comparison.settings import CardConfig, RateConfig
from evalsuite.errors import UsageError
from evalsuite.progress import Progress
from evalsuite.rating_documents import RatedFactor
from evalsuite.serving.requests import Guide, Sampling, Scorer
from evalsuite.suites.judging import low_mass_note
from evalsuite.validation import Described, checked, read_mapping
from judges.factors import (
    FACTORS,
    NEEDED_VARIABLES,
    TEMPLATE,
    TEMPLATE_VARIABLES,
    Factor,
    expected_rating,
    factor_prompt,
    rating_of_letter,
)
from judges.labels import spellings
from judges.templates import JudgeTemplate
from judges.types import Rating, Unscored
from judges.verdicts import Request

_SCORE = Factor(REWARD, "the reward model's score", "any number; only differences are meaningful")
Scale = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rater:
    """A way of rating; without a ``template`` it is a reward model's. ``notes`` say what a reader must know."""

    template: JudgeTemplate | None
    factors: tuple[Factor, ...]
    is_guided: bool = False
    sha256: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        if self.template is None:
            return REWARD
        return "guided_letter" if self.is_guided else "expected_rating"

    @property
    def scale(self) -> Scale | None:
        """The scale that all factors share, None where they have several, or a reward model's score has none."""
        scales = {(factor.low, factor.high) for factor in self.factors}
        return scales.pop() if self.template is not None and len(scales) == 1 else None

    def factors_of(self, people: Collection[str]) -> tuple[Factor, ...]:
        """Return the factors to rate where people rated those in ``people``; a reward model's score goes for any."""
        return self.factors if self.template is None else tuple(one for one in self.factors if one.key in people)


class _FactorEntry(Described):
    meaning: str
    name: str | None = None
    scale: Scale | None = None
    levels: Mapping[int, str] = {}


class _FactorFile(Described):
    """``factors`` by key, each a description or an entry; ``scale`` is that of those which have none of their own."""

    factors: Annotated[Mapping[str, str | _FactorEntry], pydantic.Field(min_length=1)]
    scale: Scale = (1, 10)


def load_factors(given: Sequence[str]) -> tuple[Factor, ...]:
    """Return the factors that names and .yaml files give, in that order; raises UsageError or DataError."""
    found: dict[str, Factor] = {}
    for text in given:
        path = Path(text).expanduser()
        factors = [FACTORS[text]] if text in FACTORS else _read_factors(path)
        if double := [factor.key for factor in factors if factor.key in found]:
            raise UsageError(f"duplicate factor {double[0]!r}; give each factor once")
        found |= {factor.key: factor for factor in factors}
    return tuple(found.values())


def _read_factors(path: Path) -> list[Factor]:
    given = checked(_FactorFile, read_mapping(path, "factors"), str(path))
    factors = []
    for key, value in given.factors.items():
        entry = _FactorEntry(meaning=value) if isinstance(value, str) else value
        low, high = entry.scale or given.scale
        factor = Factor(key, entry.name or key.replace("_", " "), entry.meaning, low, high, dict(entry.levels))
        if fault := factor.fault():
            raise UsageError(f"{path}: {fault}")
        factors.append(factor)
    return factors


def asked_rater(config: RateConfig | CardConfig) -> Rater:
    """Return the way of rating that the options ask for; raises UsageError for a template with another scale."""
    if config.judge_kind == "reward":
        if config.factors != tuple(FACTORS) or config.template is not None:
            raise UsageError(
                "a reward model gives one score, in its own chat template; leave out --factors, --template"
            )
        return Rater(None, (_SCORE,), notes=(ONE_SCORE_NOTE,))
    template = load_template(config.template, TEMPLATE, TEMPLATE_VARIABLES, NEEDED_VARIABLES)
    rater = Rater(template, load_factors(config.factors), sha256=template.sha256)
    if faults := [fault for factor in rater.factors if (fault := factor.template_fault(template))]:
        raise UsageError(f"{config.template}: {faults[0]}")
    return rater


def settle_rater(
    rater: Rater, judge: Checkpoint, requests: Sequence[Request], servers: Servers, progress: Progress
) -> Rater:
    """Find out whether the judge gives probabilities, and log what a reader should know. Raises UsageError."""
    check_context_is_shown(rater.template, requests)
    if rater.template is None:
        settled = replace(rater, sha256=judge.chat_template_sha256)
    else:
        labels = max((factor.letters for factor in rater.factors), key=len)
        why, mass = probed_labels(judge, servers, labels)
        notes = low_mass_note(mass, labels)
        notes += [f"the judge gives no log-probabilities ({why}), so its single choice is the rating"] if why else []
        settled = replace(rater, is_guided=bool(why), notes=tuple(notes))
    for note in settled.notes:
        progress.log(note)
    return settled


async def rate_answer(
    judge: Scorer, rater: Rater, factor: Factor, request: Request, answers: Sequence[str]
) -> Rating | Unscored:
    """Ask for one rating; ``answers`` has one text per turn."""
    if rater.template is None:
        score = await judge.reward(conversation(request, answers))
        return score if isinstance(score, Unscored) else Rating(score, "")
    with template_faults():
        messages = factor_prompt(rater.template, factor, request, answers)
    if rater.is_guided:
        reply = await judge.chat(messages, Sampling(4), Guide(choice=factor.letters))
        return reply if isinstance(reply, Unscored) else rating_of_letter(reply.text, factor)
    logprobs = await judge.label_logprobs(messages, factor.letters, spellings(factor.letters))
    return logprobs if isinstance(logprobs, Unscored) else expected_rating(logprobs, factor)


def described_factors(rater: Rater) -> dict[str, RatedFactor]:
    """Return what a document says of the factors."""
    return {
        factor.key: RatedFactor(
            name=factor.name,
            meaning=factor.meaning,
            scale=None if rater.template is None else (factor.low, factor.high),
        )
        for factor in rater.factors
    }
