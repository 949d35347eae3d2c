"""The judges of a comparison: who they are, how each is asked, and what is known about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.comparison.formats import FormatWatch
from evalsuite.comparison.games import FULL_MAX_NEW_TOKENS, MINI_MAX_NEW_TOKENS, Judging, pair_template
from evalsuite.comparison.servers import Servers
from evalsuite.comparison.settings import CardConfig, CompareConfig, RateConfig
from evalsuite.doctor import require_servable
from evalsuite.progress import Progress
from evalsuite.results.judge_cards import card_summary
from evalsuite.runs.documents import DEMO_NOTE
from evalsuite.runs.judges import resolve_judges
from evalsuite.serving.requests import Chat
from evalsuite.suites.judging import low_mass_note, probe_labels
from judges.formats import JudgeFormat
from judges.verdicts import LABELS

ONE_SCORE_NOTE = "a reward model scores each answer by itself, so order does not matter and there are no flips"


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge with its way of judging; ``notes`` say what a reader must know about it."""

    name: str
    checkpoint: Checkpoint
    how: Judging
    notes: tuple[str, ...] = ()

    def described(self, results: Path) -> dict[str, Any]:
        """Return what is in every file that rests on this judge."""
        return {
            "name": self.name,
            "fingerprint": self.checkpoint.fingerprint,
            "method": self.how.name,
            "template_sha256": self.how.template_sha256,
            "tie_margin": self.how.margin,
            "max_judge_tokens": self.how.max_new_tokens if self.how.explains else None,
            "long_answers": self.how.long_answers,
            "notes": list(self.notes),
            "card": card_summary(results, self.checkpoint, self.how.name, self.how.template_sha256),
        }


def find_judges(config: CompareConfig | RateConfig | CardConfig, progress: Progress) -> list[Checkpoint]:
    """Find the judges' checkpoints; raises UsageError for a duplicate, CheckpointError for one that cannot serve."""
    specs = (config.judge,) if isinstance(config.judge, str) else config.judge
    judges = resolve_judges(specs, config.judge_serving, progress, config.judge_kind)
    require_servable(judges, config.judge_serving)
    return judges


def settle_judge(
    checkpoint: Checkpoint,
    servers: Servers,
    config: CompareConfig | CardConfig,
    form: JudgeFormat | None,
    progress: Progress,
) -> Judge:
    """Decide how a judge is asked and log its notes; one that hides its probabilities falls back to ``reasoned``."""
    method, template, long_answers = config.method, config.template, config.long_answers
    margin, data = (config.tie_margin, config.data) if isinstance(config, CompareConfig) else (0.0, "full")
    notes = [DEMO_NOTE] if checkpoint.name == "demo" else []
    if config.judge_kind == "reward":
        sha256 = checkpoint.chat_template_sha256
        how = Judging(method, None, margin=margin, long_answers=long_answers, chat_template_sha256=sha256)
        return _logged(Judge(checkpoint.name, checkpoint, how, (ONE_SCORE_NOTE,)), progress)
    if form is not None:
        if not form.delimiters:
            notes.append(f"the format {form.name} has no keyed delimiters: an answer can imitate its structure")
        tokens, watch = config.max_judge_tokens or form.max_new_tokens, FormatWatch(form.name)
        form = replace(form, max_new_tokens=tokens)
        how = Judging("reasoned", form.template, tokens, margin, long_answers, form, watch)
        return _logged(Judge(checkpoint.name, checkpoint, how, tuple(notes)), progress)
    why, mass = probed_labels(checkpoint, servers, LABELS) if method == "verdict" else (None, None)
    # A warning before hours of judging; what the verdicts themselves have is measured and printed with them.
    for warning in low_mass_note(mass, LABELS):
        progress.log(f"judge {checkpoint.name}: {warning}")
    if why is not None:
        method = "reasoned"
        notes.append(f"it gives no log-probabilities for A and B ({why}), so it reasons and then chooses")
        if template is not None:
            notes.append(f"{template.name} asks for one letter, so the built-in reasoned template is used")
            template = None
    usual = MINI_MAX_NEW_TOKENS if data == "mini" else FULL_MAX_NEW_TOKENS
    how = Judging(method, pair_template(template, method), config.max_judge_tokens or usual, margin, long_answers)
    return _logged(Judge(checkpoint.name, checkpoint, how, tuple(notes)), progress)


def _logged(judge: Judge, progress: Progress) -> Judge:
    for note in judge.notes:
        progress.log(f"judge {judge.name}: {note}")
    return judge


def probed_labels(checkpoint: Checkpoint, servers: Servers, labels: Sequence[str]) -> tuple[str | None, float | None]:
    """Ask a judge once for the probabilities of ``labels``: why it gives none or None, and their mass."""
    answers: list[tuple[str | None, float | None]] = []

    async def probe(client: Chat) -> None:
        answers.append(await probe_labels(client, labels))

    servers.ask_all(checkpoint, lambda client: [probe(client)], candidate=False)
    return answers[-1]
