"""The models of a comparison and their answers: generated now, remembered by the store, or recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalsuite.checkpoint import Checkpoint, resolve
from evalsuite.comparison.prompts import PromptSet, Question, Texts
from evalsuite.comparison.recorded import Recorded, find_recorded
from evalsuite.comparison.servers import Servers, identity_of
from evalsuite.config import RunConfig
from evalsuite.errors import DataError, UsageError
from evalsuite.progress import Progress
from evalsuite.runs.plan import chat_template_file
from evalsuite.serving.requests import Chat


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


def find_candidates(config: RunConfig, prompts: PromptSet, progress: Progress) -> list[Candidate]:
    """Find every model, or its recorded answers; raises UsageError for a model that is given twice."""
    sources: list[Checkpoint | Recorded] = [
        find_recorded(word, prompts)
        or resolve(
            word,
            chat_template_file=chat_template_file(config),
            allow_pickle=config.allow_pickle,
            trust_remote_code=config.runs_remote_code,
            on_step=progress.step,
        )
        for word in config.models
    ]
    names = [source.name for source in sources]
    candidates = []
    for source in sources:
        twins = [other for other in sources if other.name == source.name]
        if sum(other.fingerprint == source.fingerprint for other in twins) > 1:
            raise UsageError(f"{source.name} is given twice; name each model once")
        name = source.name if names.count(source.name) == 1 else f"{source.name}-{source.fingerprint[:8]}"
        candidates.append(Candidate(name, source))
    return candidates


def common_prompts(prompts: PromptSet, candidates: Sequence[Candidate]) -> tuple[PromptSet, list[str]]:
    """Keep the prompts that every model has or can answer; say how many that leaves."""
    kept = list(prompts.questions)
    for candidate in candidates:
        if isinstance(candidate.source, Recorded):
            kept = [question for question in kept if question.id in candidate.source.answers]
    if not kept:
        raise DataError(f"the recorded answers have no prompt of {prompts.name} in common; give answers to one set")
    if len(kept) == len(prompts.questions):
        return prompts, []
    counts = (
        f"{candidate.name} {sum(question.id in candidate.source.answers for question in prompts.questions)}"
        for candidate in candidates
        if isinstance(candidate.source, Recorded)
    )
    note = (
        f"not every model has an answer to every prompt: {len(kept)} of {len(prompts.questions)} are compared "
        f"(recorded: {', '.join(counts)})"
    )
    return replace(prompts, questions=tuple(kept)), [note]


def collect_answers(
    candidates: Sequence[Candidate],
    prompts: PromptSet,
    servers: Servers,
    config: RunConfig,
    progress: Progress,
    *,
    last: Checkpoint | None = None,
) -> Answers:
    """Let every model answer every prompt; the one that is also ``last`` (a judge) comes last and stays up."""
    answers: dict[str, dict[str, Texts]] = {}
    judge_identity = None if last is None else identity_of(last, config, candidate=False)

    def is_judge(candidate: Candidate) -> bool:
        source = candidate.source
        return isinstance(source, Checkpoint) and identity_of(source, config, candidate=True) == judge_identity

    for candidate in sorted(candidates, key=is_judge):
        if isinstance(candidate.source, Recorded):
            answers[candidate.name] = dict(candidate.source.answers)
        else:
            answers[candidate.name] = _answers_of(candidate.source, candidate.name, prompts, servers, progress)
    return answers


def _answers_of(
    checkpoint: Checkpoint, name: str, prompts: PromptSet, servers: Servers, progress: Progress
) -> dict[str, Texts]:
    found: dict[str, Texts] = {}
    line = f"{name} {prompts.name}"

    async def one(question: Question, client: Chat) -> None:
        found[question.id] = await prompts.answer(question, client)
        progress.advance(line)

    def work(client: Chat) -> list[Awaitable[None]]:
        progress.begin(line, len(prompts.questions))
        return [one(question, client) for question in prompts.questions]

    servers.ask_all(checkpoint, work, candidate=True)
    return found


def described_candidate(candidate: Candidate) -> dict[str, Any]:
    """Return what stands for a model in a manifest."""
    source = candidate.source
    words: dict[str, Any] = {"name": candidate.name, "fingerprint": candidate.fingerprint}
    return words | {"answers": "recorded" if isinstance(source, Recorded) else "generated or from the store"}
