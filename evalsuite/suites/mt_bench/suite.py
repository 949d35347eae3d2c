"""MT-Bench: eighty two-turn conversations in eight categories, each answer rated from 1 to 10.

One question, as FastChat's ``question.jsonl`` holds it (this one is from our mini data):

    {"question_id": 9002, "category": "math",
     "turns": ["A bakery sells rolls at 3 for 2 euros. ...", "On Sundays the bakery takes ..."]}

The protocol is that of lm-sys/FastChat@0e6d3e4, fastchat/llm_judge. Deviations by default, each
undone by ``as_published``: the reference answers are the corrected set of gpt-4-0125-preview
(FastChat PR 3158 finds 13 of gpt-4's 30 wrong); a judgment without a valid rating is closed under
guided output; a rating outside 1-10 is unscored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from evalsuite import assets
from evalsuite.errors import DataError
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.requests import Chat, Completion, Sampling, derive_seed
from evalsuite.suites.base import Item, Loaded, Record, Scores, SuiteOptions, no_answer
from evalsuite.suites.judging import reason_then_choose
from evalsuite.suites.mini_data import mini_rows
from evalsuite.suites.mt_bench import peer as mt_bench_files
from evalsuite.suites.mt_bench.scores import score_judgments
from evalsuite.suites.mt_bench.turns import (
    MINI,
    TURNS,
    MtBenchAnswer,
    MtBenchContext,
    MtBenchVerdict,
    Turn,
    judgments_of,
    messages_to_judge,
)
from judges.parse import parse_rating
from judges.pointwise import RATING_CHOICES, RATING_LEAD_IN, needs_reference, prompt_name
from judges.types import Message, Rating, Unscored

TEMPERATURES: Mapping[str, float] = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
"""Answer temperature by category (FastChat's common.py, temperature_config)."""

OTHER_TEMPERATURE = 0.7
"""For a category that the table does not have (FastChat's gen_model_answer.py)."""

FULL_MAX_NEW_TOKENS, FULL_JUDGE_MAX_NEW_TOKENS = 1024, 2048
MINI_MAX_NEW_TOKENS, MINI_JUDGE_MAX_NEW_TOKENS = 96, 128
"""Short caps, so that the mini data is done in a minute on two CPU cores."""


class MtBench:
    """The suite ``mt_bench``."""

    name = "mt_bench"
    judge_method = "single_answer_rating_1_to_10"

    def load(self, options: SuiteOptions) -> Loaded:
        """Read questions, judge prompts and references; raises DataError when one cannot be had.

        ``limit`` takes the first question of every category, then the second of every category and
        so on, until N are chosen; they stay in the file's order.
        """
        questions, prompts, references, pins = _mini_data() if options.data == "mini" else _full_data(options)
        mini = options.data == "mini"
        context = MtBenchContext(
            prompts={row["name"]: row for row in prompts},
            references={str(row["question_id"]): tuple(row["choices"][0]["turns"]) for row in references},
            max_new_tokens=MINI_MAX_NEW_TOKENS if mini else FULL_MAX_NEW_TOKENS,
            judge_max_new_tokens=MINI_JUDGE_MAX_NEW_TOKENS if mini else FULL_JUDGE_MAX_NEW_TOKENS,
        )
        items = [Item(str(question["question_id"]), question) for question in spread(questions, options.limit)]
        _check(items, context)
        return Loaded(items, pins, context)

    def needs_judge(self, options: SuiteOptions) -> bool:  # noqa: ARG002
        return True

    async def answer(self, item: Item, loaded: Loaded, model: Chat, options: SuiteOptions) -> MtBenchAnswer:
        """Answer both turns; the second sees the model's own first answer.

        Answers lose outer white space, as in FastChat's gen_model_answer.py.
        """
        first_user, second_user = (Message("user", text) for text in item.data["turns"][:2])
        first = await _ask(model, [first_user], item, 1, loaded.context, options)
        if isinstance(first, Unscored):
            return MtBenchAnswer((first, no_answer(first)))
        history = [first_user, Message("assistant", first.text), second_user]
        return MtBenchAnswer((first, await _ask(model, history, item, 2, loaded.context, options)))

    async def judge(
        self, item: Item, answer: MtBenchAnswer, loaded: Loaded, judge: Chat, options: SuiteOptions
    ) -> MtBenchVerdict:
        """Rate both turns; an empty answer is rated as it is, a missing one is ``no_answer``."""
        first, second = await gather_or_cancel(
            _rate(item, answer, turn, loaded.context, judge, as_published=options.as_published) for turn in TURNS
        )
        return MtBenchVerdict((first, second))

    def score(self, records: Sequence[Record], loaded: Loaded, options: SuiteOptions) -> Scores:  # noqa: ARG002
        """Average all scored ratings of both turns; see :func:`mt_bench_scores.score_judgments`."""
        return score_judgments([judgment for record in records for judgment in judgments_of(record)])

    def export(self, records: Sequence[Record], loaded: Loaded, folder: Path, *, model: str, judge: str | None) -> None:
        """Write FastChat's model_answer.jsonl and, with a judge, model_judgment.jsonl."""
        mt_bench_files.write_answers(records, folder, model=model)
        if judge is not None:
            mt_bench_files.write_judgments(records, loaded.context, folder, model=model, judge=judge)

    def score_recorded(self, path: Path, options: SuiteOptions) -> Scores:
        """Score a model_judgment.jsonl; see :func:`mt_bench_files.score_judgment_file`."""
        return mt_bench_files.score_judgment_file(path, as_published=options.as_published)


MT_BENCH = MtBench()


def spread(questions: Sequence[Mapping[str, Any]], limit: int | None) -> list[Mapping[str, Any]]:
    """Choose ``limit`` questions evenly over the categories, in file order; None chooses all."""
    if limit is None or limit >= len(questions):
        return list(questions)
    seen: dict[str, int] = {}
    rounds = []
    for position, question in enumerate(questions):
        rounds.append((seen.get(question["category"], 0), position))
        seen[question["category"]] = seen.get(question["category"], 0) + 1
    return [questions[position] for position in sorted(position for _, position in sorted(rounds)[:limit])]


async def _ask(
    model: Chat, messages: Sequence[Message], item: Item, turn: Turn, context: MtBenchContext, options: SuiteOptions
) -> Completion | Unscored:
    sampling = Sampling(
        max_new_tokens=context.max_new_tokens,
        temperature=TEMPERATURES.get(item.data["category"], OTHER_TEMPERATURE),
        seed=derive_seed(options.seed, "mt_bench", item.id, turn),
    )
    reply = await model.chat(messages, sampling)
    return reply if isinstance(reply, Unscored) else replace(reply, text=reply.text.strip())


async def _rate(
    item: Item, answer: MtBenchAnswer, turn: Turn, context: MtBenchContext, judge: Chat, *, as_published: bool
) -> Rating | Unscored:
    reply = answer.turns[turn - 1]
    if isinstance(reply, Unscored):
        return no_answer(reply)
    messages = messages_to_judge(item, answer, turn, context)
    sampling = Sampling(max_new_tokens=context.judge_max_new_tokens, temperature=0.0)
    if not as_published:
        return await reason_then_choose(judge, messages, sampling, parse_rating, RATING_LEAD_IN, RATING_CHOICES)
    judgment = await judge.chat(messages, sampling)
    return judgment if isinstance(judgment, Unscored) else parse_rating(judgment.text, as_published=True)


_Rows = list[dict[str, Any]]
_Pins = dict[str, Mapping[str, Any]]


def _mini_data() -> tuple[_Rows, _Rows, _Rows, _Pins]:
    read = {what: mini_rows(MINI / f"{what}.jsonl") for what in ("question", "judge_prompts", "reference")}
    pins: _Pins = {f"mt_bench/mini/{what}": pin for what, (_, pin) in read.items()}
    return read["question"][0], read["judge_prompts"][0], read["reference"][0], pins


def _full_data(options: SuiteOptions) -> tuple[_Rows, _Rows, _Rows, _Pins]:
    references = "mt_bench/reference_gpt4" if options.as_published else "mt_bench/reference_gpt4_0125"
    names = ("mt_bench/question", "mt_bench/judge_prompts", references)
    found = [assets.records(name) for name in names]
    pins: _Pins = {name: assets.data_pin(where) for name, (_, where) in zip(names, found, strict=True)}
    return found[0][0], found[1][0], found[2][0], pins


def _check(items: Sequence[Item], context: MtBenchContext) -> None:
    for turn, with_reference in product(TURNS, (False, True)):
        name = prompt_name(turn=turn, with_reference=with_reference)
        if name not in context.prompts:
            raise DataError(
                f"MT-Bench's judge prompts lack {name!r}; check the data with `evalsuite data verify mt_bench`"
            )
    for item in items:
        if needs_reference(item.data["category"]) and len(context.references.get(item.id, ())) < len(TURNS):
            raise DataError(
                f"MT-Bench question {item.id} ({item.data['category']}) has no two-turn reference answer; "
                "check the data with `evalsuite data verify mt_bench`"
            )
