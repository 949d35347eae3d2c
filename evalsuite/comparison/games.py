"""Asking a judge: one game, both orders of a pair, and whether it gives probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import TemplateError

from evalsuite.comparison.formats import FormatWatch, load_format
from evalsuite.comparison.formatted import play_format
from evalsuite.comparison.prompts import Texts
from evalsuite.comparison.settings import CardConfig, CompareConfig, LongAnswers
from evalsuite.errors import UsageError
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.requests import Scorer
from evalsuite.suites.games import play_pair
from judges.formats import JudgeFormat
from judges.templates import JudgeTemplate, judge_template
from judges.types import Message, Unscored
from judges.verdicts import (
    IDENTICAL,
    NEEDED_VARIABLES,
    TEMPLATE_VARIABLES,
    TEMPLATES,
    Game,
    Method,
    PairVerdict,
    Request,
    combine_orders,
    comparison_prompt,
    game_from_rewards,
    key_of,
    shortened,
)

FULL_MAX_NEW_TOKENS, MINI_MAX_NEW_TOKENS = 1024, 128
REWARD = "reward"
"""The method of a reward model: a score of each answer by itself."""

_SHORTEST_CHARS = 64


@dataclass(frozen=True, slots=True)
class Judging:
    """How a judge is asked: the method, its prompt, and the max tokens of its explanation under ``reasoned``.

    ``long_answers`` says what happens to a pair that does not fit into the context. A ``form`` of a published judge
    replaces method and prompt. Without a ``template`` the judge is a reward model, which is shown
    conversations in its own chat template, ``chat_template_sha256``.
    """

    method: Method
    template: JudgeTemplate | None
    max_new_tokens: int = FULL_MAX_NEW_TOKENS
    margin: float = 0.0
    long_answers: LongAnswers = "refuse"
    form: JudgeFormat | None = None
    watch: FormatWatch | None = None
    chat_template_sha256: str | None = None

    @property
    def name(self) -> str:
        """The method, or the format, in short."""
        if self.template is None:
            return REWARD
        return self.method if self.form is None else f"format {self.form.name}"

    @property
    def template_sha256(self) -> str | None:
        """The SHA-256 of the prompt, of a format with the rules that read its replies."""
        if self.template is None:
            return self.chat_template_sha256
        return self.template.sha256 if self.form is None else self.form.sha256

    @property
    def explains(self) -> bool:
        """Whether the judge may write an explanation, whose length counts."""
        return self.template is not None and self.name != "verdict"


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


def asked_form(config: CompareConfig | CardConfig) -> tuple[JudgeFormat | None, JudgeTemplate | None]:
    """Return the format (None for our own methods) and the prompt that the options ask for; raises UsageError.

    A reward model has neither, and writes nothing.
    """
    name, file, method = config.judge_format, config.template, config.method
    if config.judge_kind == "reward":
        given = {
            "--judge-format": name,
            "--template": file,
            "--method": None if method == "verdict" else method,
            "--max-judge-tokens": config.max_judge_tokens,
        }
        if taken := [option for option, value in given.items() if value is not None]:
            raise UsageError(
                "a reward model scores answers in its own chat template and writes nothing; "
                f"leave out {' and '.join(taken)}"
            )
        return None, None
    if name is None:
        return None, pair_template(file, method)
    if file is not None:
        raise UsageError(f"--judge-format {name} has its own template; leave out --template {file.name}")
    form = load_format(name)
    return form, form.template


def check_context_is_shown(template: JudgeTemplate | None, requests: Iterable[Request]) -> None:
    """Raise UsageError if the requests have a system prompt, reference or rubric that the judge is not shown.

    ``template`` is None for a reward model, which reads the conversation with its system prompt.
    """
    given = {name for request in requests for name, text in request.context.items() if text}
    if missing := sorted(given - (frozenset({"system"}) if template is None else template.variables)):
        name = missing[0]
        if template is None:
            raise UsageError(f"the prompts have a {name}, which a reward model cannot read; leave {name!r} out of them")
        raise UsageError(
            f"the prompts have a {name} that the judge template does not show; write {{{{ {name} }}}} into it, or "
            f"leave {name!r} out of the prompts"
        )


async def play(
    judge: Scorer, how: Judging, request: Request, first: Sequence[str], second: Sequence[str], *, salt: int = 0
) -> Game | Unscored:
    """Ask a judge about one pair in one order; another ``salt`` asks again under another key.

    With ``long_answers`` "shorten", answers that do not fit are cut in the middle to half the length until they do.
    """
    game = await _play(judge, how, request, first, second, salt=salt)
    n_chars = max(map(len, (*first, *second)), default=0)
    while isinstance(game, Unscored) and game.reason == "context_length" and how.long_answers == "shorten":
        if (n_chars := n_chars // 2) < _SHORTEST_CHARS:
            break
        game = await _play(judge, how, request, shortened(first, n_chars), shortened(second, n_chars), salt=salt)
        if isinstance(game, Game):
            return replace(game, shortened=True)
    return game


async def _play(
    judge: Scorer, how: Judging, request: Request, first: Sequence[str], second: Sequence[str], *, salt: int
) -> Game | Unscored:
    if how.template is None:
        return await _play_rewards(judge, request, first, second)
    if how.form is not None:
        with template_faults():
            watch = how.watch or FormatWatch(how.form.name)
            return await play_format(judge, how.form, watch, request, first, second, salt=salt)
    key = key_of(request, first, second, salt=salt)
    with template_faults():
        messages = comparison_prompt(how.template, request, first, second, key=key)
    return await play_pair(judge, how.method, messages, key, (*first, *second), how.max_new_tokens)


async def _play_rewards(
    judge: Scorer, request: Request, first: Sequence[str], second: Sequence[str]
) -> Game | Unscored:
    """Score both answers; the client asks for each score once, whatever pairs and orders an answer is in."""
    one, other = await gather_or_cancel(judge.reward(conversation(request, texts)) for texts in (first, second))
    if isinstance(one, Unscored):
        return one
    return other if isinstance(other, Unscored) else game_from_rewards(one, other)


def conversation(request: Request, answers: Sequence[str]) -> list[Message]:
    """Return a request and its answers, one per turn, as the messages of a conversation."""
    messages = [Message("system", request.system)] if request.system else []
    for turn, answer in zip(request.turns, answers, strict=True):
        messages += [Message("user", turn), Message("assistant", answer)]
    return messages


async def judge_pair(judge: Scorer, how: Judging, request: Request, a: Texts, b: Texts) -> PairRecord:
    """Judge one pair in both orders.

    Equal answers tie without asking; a missing answer leaves the pair unscored; an empty answer is judged as it is.
    """
    if isinstance(a, Unscored):
        return PairRecord(a)
    if isinstance(b, Unscored):
        return PairRecord(b)
    if a == b:
        return PairRecord(IDENTICAL)
    a_first, b_first = await gather_or_cancel(play(judge, how, request, *pair) for pair in ((a, b), (b, a)))
    return PairRecord(combine_orders(a_first, b_first, margin=how.margin), a_first, b_first)
