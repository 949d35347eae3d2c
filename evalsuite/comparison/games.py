"""Asking a judge: one game, both orders of a pair, and whether it gives probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError

from evalsuite.comparison.prompts import Texts
from evalsuite.errors import UsageError
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.requests import Chat, Sampling
from evalsuite.suites.judging import reason_then_choose
from judges.templates import JudgeTemplate, judge_template
from judges.types import Choice, Message, Unscored
from judges.verdicts import (
    IDENTICAL,
    LABELS,
    NEEDED_VARIABLES,
    TEMPLATE_VARIABLES,
    TEMPLATES,
    VERDICT_CHOICES,
    Game,
    Method,
    PairVerdict,
    combine_orders,
    comparison_prompt,
    game_from_choice,
    game_from_logprobs,
    key_of,
    parse_verdict,
    verdict_lead_in,
)

FULL_MAX_NEW_TOKENS, MINI_MAX_NEW_TOKENS = 1024, 128


@dataclass(frozen=True, slots=True)
class Judging:
    """How a judge is asked: the method, its prompt, and the max tokens of its explanation under ``reasoned``."""

    method: Method
    template: JudgeTemplate
    max_new_tokens: int = FULL_MAX_NEW_TOKENS
    margin: float = 0.0


@dataclass(frozen=True, slots=True)
class PairRecord:
    """One judged pair: both games (None where no judge was asked) and the verdict."""

    verdict: PairVerdict | Unscored
    a_first: Game | Unscored | None = None
    b_first: Game | Unscored | None = None


def load_template(file: Path | None, default: str, known: frozenset[str], needed: frozenset[str]) -> JudgeTemplate:
    """Return the default template, or the user's file checked against the variables that it may and must use.

    ``X_system.jinja`` beside the file ``X.jinja`` is its system message. Raises UsageError.
    """
    if file is None:
        return judge_template(default)
    system = file.with_name(f"{file.stem}_system{file.suffix}")
    try:
        template = JudgeTemplate(
            file.read_text(encoding="utf-8"), system.read_text(encoding="utf-8") if system.is_file() else None
        )
        template.check(known, needed)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the judge template {file} ({error}); give a Jinja file") from error
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from error
    return template


@contextmanager
def template_faults() -> Iterator[None]:
    """Turn what a user's judge template raises while it is rendered into a UsageError."""
    try:
        yield
    except (ValueError, TemplateError) as error:
        raise UsageError(f"{error}; check the file of --template") from error


def pair_template(file: Path | None, method: Method) -> JudgeTemplate:
    """Return the comparison template of a method, or the user's file."""
    return load_template(file, TEMPLATES[method], TEMPLATE_VARIABLES, NEEDED_VARIABLES)


async def hides_probabilities(judge: Chat, labels: Sequence[str] = LABELS) -> str | None:
    """Return why a judge does not give the probabilities of ``labels``; None when it does."""
    question = [Message("user", f"Write the letter {labels[0]} and nothing else.")]
    try:
        asked = await judge.label_logprobs(question, labels)
    except UsageError as error:
        return str(error)
    if isinstance(asked, Unscored):
        return f"{asked.reason}: {asked.detail}" if asked.detail else asked.reason
    return None if asked else "its server returns no log-probabilities"


async def play(
    judge: Chat, how: Judging, questions: Sequence[str], first: Sequence[str], second: Sequence[str], *, salt: int = 0
) -> Game | Unscored:
    """Ask a judge about one pair in one order; another ``salt`` asks again under another key."""
    key = key_of(questions, first, second, salt=salt)
    with template_faults():
        messages = comparison_prompt(how.template, questions, first, second, key=key)
    if how.method == "verdict":
        asked = await judge.label_logprobs(messages, LABELS)
        return asked if isinstance(asked, Unscored) else game_from_logprobs(asked)
    n_read = 0

    def parse(text: str) -> Choice | Unscored:
        nonlocal n_read
        n_read += 1
        return parse_verdict(text, key)

    choice = await reason_then_choose(
        judge, messages, Sampling(how.max_new_tokens), parse, verdict_lead_in(key), VERDICT_CHOICES
    )
    return choice if isinstance(choice, Unscored) else game_from_choice(choice, closed_by_guide=n_read > 1)


async def judge_pair(judge: Chat, how: Judging, questions: Sequence[str], a: Texts, b: Texts) -> PairRecord:
    """Judge one pair in both orders.

    Equal answers tie without asking; a missing answer leaves the pair unscored; an empty answer is judged as it is.
    """
    if isinstance(a, Unscored):
        return PairRecord(a)
    if isinstance(b, Unscored):
        return PairRecord(b)
    if a == b:
        return PairRecord(IDENTICAL)
    a_first, b_first = await gather_or_cancel(play(judge, how, questions, *pair) for pair in ((a, b), (b, a)))
    return PairRecord(combine_orders(a_first, b_first, margin=how.margin), a_first, b_first)
