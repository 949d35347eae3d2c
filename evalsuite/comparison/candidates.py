"""The models of a comparison and their answers: generated now, remembered by the store, or recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.comparison.prompts import PromptSet, Texts
from evalsuite.comparison.recorded import Recorded, find_recorded
from evalsuite.comparison.servers import Servers
from evalsuite.comparison.settings import CompareConfig, RateConfig
from evalsuite.doctor import require_servable
from evalsuite.errors import DataError, UsageError
from evalsuite.progress import Progress
from evalsuite.serving.engine import engine_key
from evalsuite.serving.identity import refuse_twins


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to be compared: one that is served, or recorded answers."""

    name: str
    source: Checkpoint | Recorded

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    @property
    def slug(self) -> str:
        """Readable folder name plus the first 8 digits of the fingerprint."""
        return Checkpoint(self.name, None, self.fingerprint).slug


Answers = Mapping[str, Mapping[str, Texts]]
"""Model: question id: its answers."""


def find_candidates(config: CompareConfig | RateConfig, prompts: PromptSet, progress: Progress) -> list[Candidate]:
    """Find every model, or its recorded answers; raises UsageError for a duplicate model."""
    sources: list[Checkpoint | Recorded] = [
        find_recorded(spec, prompts, config.results) or config.serve.resolve(spec, on_step=progress.step)
        for spec in config.models
    ]
    served = [source for source in sources if isinstance(source, Checkpoint)]
    refuse_twins(served)
    names = [source.name for source in sources]
    candidates = []
    for source in sources:
        twins = [other for other in sources if other.name == source.name]
        if sum(other.fingerprint == source.fingerprint for other in twins) > 1:
            raise UsageError(f"duplicate model {source.name}")
        name = source.name if names.count(source.name) == 1 else f"{source.name}-{source.fingerprint[:8]}"
        candidates.append(Candidate(name, source))
    require_servable(served, config.serve)
    return candidates


def common_prompts(prompts: PromptSet, candidates: Sequence[Candidate]) -> tuple[PromptSet, list[str]]:
    """Keep the prompts that every model has or can answer; a note says how many those are, and what is missing."""
    recorded = {one.name: one.source for one in candidates if isinstance(one.source, Recorded)}
    kept = [one for one in prompts.questions if all(one.id in source.answers for source in recorded.values())]
    if not kept:
        fault = f"the recorded answers have no prompt of {prompts.name} in common"
        raise DataError(f"{fault}; give answers to the same prompts")
    if len(kept) == len(prompts.questions):
        return prompts, []
    gaps = "; ".join(filter(None, (_gap(name, source, prompts) for name, source in recorded.items())))
    note = f"{len(kept)} of {len(prompts.questions)} prompts are compared: {gaps}"
    return replace(prompts, questions=tuple(kept)), [note]


def _gap(name: str, source: Recorded, prompts: PromptSet) -> str:
    """Say which prompts recorded answers lack, and how many of their rows match no prompt; "" if none is lacking."""
    missing = [question.id for question in prompts.questions if question.id not in source.answers]
    if not missing:
        return ""
    named = ", ".join(map(repr, missing[:3])) + (", …" if len(missing) > 3 else "")
    gap = f"{name} lacks {len(missing)} ({named})"
    if source.n_unmatched:
        gap += f", and {source.n_unmatched} of its answers match no prompt by text or id"
    return gap


def collect_answers(
    candidates: Sequence[Candidate], prompts: PromptSet, servers: Servers, *, last: Checkpoint
) -> Answers:
    """Have every model answer every prompt."""
    answers: dict[str, dict[str, Texts]] = {}
    servers.expect([one.source for one in candidates if isinstance(one.source, Checkpoint)], candidates=True)
    for candidate in _in_order(candidates, servers, last):
        if isinstance(candidate.source, Recorded):
            answers[candidate.name] = dict(candidate.source.answers)
        else:
            line = f"{candidate.name} {prompts.name}"
            texts = servers.ask_each(candidate.source, line, prompts.questions, prompts.answer, candidate=True)
            answers[candidate.name] = {one.id: text for one, text in zip(prompts.questions, texts, strict=True)}
    return answers


def _in_order(candidates: Sequence[Candidate], servers: Servers, last: Checkpoint) -> list[Candidate]:
    """Put adapters of one base in a row, and the model that is also ``last`` (a judge) at the end: it stays up."""
    keys = [engine_key(one.source) if isinstance(one.source, Checkpoint) else None for one in candidates]
    order = {one.name: (key == engine_key(last), keys.index(key)) for one, key in zip(candidates, keys, strict=True)}
    return sorted(candidates, key=lambda one: (*order[one.name], servers.is_same_server(one.source, last)))


def described_candidate(candidate: Candidate) -> dict[str, Any]:
    """Return a model's entry in a manifest."""
    answers = "recorded" if isinstance(candidate.source, Recorded) else "generated or from the store"
    return {"name": candidate.name, "fingerprint": candidate.fingerprint, "answers": answers}
