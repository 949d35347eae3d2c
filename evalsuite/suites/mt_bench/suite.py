"""MT-Bench: eighty two-turn conversations in eight categories, each answer rated from 1 to 10.

The protocol is that of lm-sys/FastChat@0e6d3e4, fastchat/llm_judge. Deviations by default, each undone by
``as_published``: the reference answers are the corrected set of gpt-4-0125-preview (FastChat PR 3158 finds 13 of
gpt-4's 30 wrong); a judgment without a valid rating is completed under guided output; a rating outside 1-10 is
unscored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from evalsuite.errors import DataError
from evalsuite.records.rows import Draw, Header, Row, Verdict
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.requests import Chat, Completion, Sampling, derive_seed
from evalsuite.suites.base import Suite, draw_of, no_answer
from evalsuite.suites.judging import reason_then_choose, verdict_of
from evalsuite.suites.local_rows import local_rows
from evalsuite.suites.mt_bench import peer
from evalsuite.suites.mt_bench.assets import ASSETS, MINI, read_rows
from evalsuite.suites.mt_bench.scores import TURNS, Turn, mark_row, score_rows
from evalsuite.suites.options import DataKind, SuiteOptions
from evalsuite.suites.peer_files import copy_rows
from evalsuite.suites.types import CheckedItem, CheckedItems, Item, Loaded, Recorded, Scores
from judges.parse import parse_rating
from judges.pointwise import RATING_CHOICES, RATING_LEAD_IN, judge_messages, needs_reference, prompt_name
from judges.types import Message, Rating, Unscored

TEMPERATURES: Mapping[str, float] = {
    **dict.fromkeys(("writing", "roleplay"), 0.7),
    **dict.fromkeys(("extraction", "math", "coding", "reasoning"), 0.0),
    **dict.fromkeys(("stem", "humanities"), 0.1),
}
"""Answer temperature by category (FastChat's common.py, temperature_config)."""

OTHER_TEMPERATURE = 0.7
"""For a category that the table does not have (FastChat's gen_model_answer.py)."""

ANSWER_TOKENS: Mapping[DataKind, int] = {"full": 1024, "mini": 96}
JUDGMENT_TOKENS: Mapping[DataKind, int] = {"full": 2048, "mini": 128}
"""The limits of the mini data are short, so that it takes a minute on two CPU cores."""


@dataclass(frozen=True, slots=True)
class Context:
    """The judge's prompts by name, and the reference answers by item id (one text per turn)."""

    prompts: Mapping[str, Mapping[str, Any]]
    references: Mapping[str, tuple[str, ...]]


class MtBench(Suite):
    """The suite ``mt_bench``."""

    name = "mt_bench"
    title = "MT-Bench"
    order = 10
    in_default = True
    judge_method = "single_answer_rating_1_to_10"
    judge_explains = True
    # Two answers of 1,024 tokens; both answers and a reference, and a judgment of 2,048.
    answer_context = 3_072
    judge_context = 6_144
    n_turns = 2
    sizes: ClassVar = {"full": 80, "mini": 5}
    assets = ASSETS
    says = "mean rating of both turns"
    scale = (1, 10)
    digits = (2, 2)
    other_scores: ClassVar = {"turn_1": "turn 1", "turn_2": "turn 2"}
    in_averages: ClassVar = {"nine": ("score", 10)}

    def load(self, options: SuiteOptions) -> Loaded:
        """Read questions, judge prompts and references; raises DataError when one is not available.

        ``limit`` takes the first question of every category, then the second of every category and
        so on, until N are chosen; they stay in the file's order.
        """
        questions, pins = read_rows("question", options.data)
        prompts, prompt_pins = read_rows("judge_prompts", options.data)
        references, reference_pins = read_rows("reference", options.data, as_published=options.as_published)
        context = Context(
            prompts={row["name"]: row for row in prompts},
            references={str(row["question_id"]): tuple(row["choices"][0]["turns"]) for row in references},
        )
        items = [Item(str(question["question_id"]), question) for question in spread(questions, options.limit)]
        _check(items, context)
        return Loaded(items, pins | prompt_pins | reference_pins, context)

    def row(self, item: Item, loaded: Loaded) -> Row:
        """Return both questions, with the category and the reference answers that the judge is shown."""
        facts: dict[str, Any] = {"category": item.data["category"]}
        if needs_reference(item.data["category"]):
            facts["reference"] = list(loaded.context.references[item.id])
        return Row(item.id, prompt=tuple(Message("user", text) for text in item.data["turns"][:2]), facts=facts)

    def checked_items(self, name: str, data: DataKind) -> CheckedItems:
        rows, pins = local_rows(data, [ASSETS["mt_bench/question"]], [MINI / "question.jsonl"])
        return CheckedItems([CheckedItem(name, str(row["question_id"]), tuple(row["turns"])) for row in rows], pins)

    async def answer(self, item: Item, loaded: Loaded, model: Chat, options: SuiteOptions) -> Draw:  # noqa: ARG002
        """Answer both turns; the second sees the model's own first answer.

        Answers lose outer white space, as in FastChat's gen_model_answer.py.
        """
        first_user, second_user = (Message("user", text) for text in item.data["turns"][:2])
        first = await _ask(model, [first_user], item, 1, options)
        if isinstance(first, Unscored):
            return draw_of([first, no_answer(first)])
        history = [first_user, Message("assistant", first.text, thought=first.thought), second_user]
        return draw_of([first, await _ask(model, history, item, 2, options)])

    async def judge(self, item: Item, draw: Draw, loaded: Loaded, judge: Chat, options: SuiteOptions) -> list[Verdict]:
        """Rate both turns; an empty answer is rated like any other, a missing one is ``no_answer``."""
        ratings = await gather_or_cancel(_rate(item, draw, turn, loaded.context, judge, options) for turn in TURNS)
        return [verdict_of(rating, turn) for turn, rating in zip(TURNS, ratings, strict=True)]

    def mark(self, row: Row, header: Header) -> Row:  # noqa: ARG002
        return mark_row(row)

    def score(self, header: Header, rows: Sequence[Row]) -> Scores:  # noqa: ARG002
        return score_rows(rows)

    def question_page(self, row: Row, header: Header) -> dict[str, Any]:
        """Show the questions; where they are not on this machine, what the judge was shown, which holds them."""
        page = super().question_page(row, header)
        for turn, text in list(row.facts.get("judge_prompts", {}).items())[:1]:
            page["fields"] = [[f"what the judge was shown (turn {turn})", text]]
        return page

    def recognises(self, first_row: Mapping[str, Any]) -> bool:
        choices = first_row.get("choices")
        answers = isinstance(choices, list) and bool(choices) and isinstance(choices[0], dict)
        return "question_id" in first_row and (answers or "judgment" in first_row)

    def read_peer(self, path: Path, options: SuiteOptions, model: str | None = None) -> Recorded:
        return peer.read_recorded(path, options, model)

    def write_peer(self, header: Header, rows: Sequence[Row], folder: Path, *, model: str, judge: str | None) -> None:
        peer.write_files(header, rows, folder, model=model, judge=judge)

    def copy_peer(self, source: Path, header: Header, folder: Path, model: str) -> None:
        files = peer.read_files(source, model, next(iter(header.judges), None))
        copy_rows(folder, (peer.JUDGMENT_FILE, peer.ANSWER_FILE), files)

    def score_recorded(self, path: Path, options: SuiteOptions) -> Scores:
        """Score a recorded file; ``as_published``, FastChat's own ``show_result`` computes the means."""
        recorded = self.read_peer(path, options)
        scores = score_rows([mark_row(row) for row in recorded.rows])
        if not (options.as_published and recorded.header.judges):
            return scores
        return scores | peer.fastchat_means(peer.read_files(path, None, options.annotator)[0])


def spread(questions: Sequence[Mapping[str, Any]], limit: int | None) -> list[Mapping[str, Any]]:
    """Choose ``limit`` questions evenly over the categories, in file order; None chooses all."""
    categories = [question["category"] for question in questions]
    by_round = sorted(range(len(questions)), key=lambda rank: categories[:rank].count(categories[rank]))
    return [questions[rank] for rank in sorted(by_round[:limit])]


async def _ask(
    model: Chat, messages: Sequence[Message], item: Item, turn: Turn, options: SuiteOptions
) -> Completion | Unscored:
    sampling = Sampling(
        max_new_tokens=ANSWER_TOKENS[options.data],
        temperature=TEMPERATURES.get(item.data["category"], OTHER_TEMPERATURE),
        seed=derive_seed(options.seed, "mt_bench", item.id, turn),
    )
    reply = await model.chat(messages, sampling)
    return reply if isinstance(reply, Unscored) else replace(reply, text=reply.text.strip())


async def _rate(
    item: Item, draw: Draw, turn: Turn, context: Context, judge: Chat, options: SuiteOptions
) -> Rating | Unscored:
    reply = draw.turns[turn - 1]
    if reply.unscored is not None:
        return no_answer(reply.unscored)
    answers = [reply.text or "" for reply in draw.turns[:turn]]
    reference = context.references.get(item.id) if needs_reference(item.data["category"]) else None
    messages = judge_messages(context.prompts, item.data["turns"], answers, reference, turn=turn)
    sampling = Sampling(max_new_tokens=JUDGMENT_TOKENS[options.data], temperature=0.0)
    if not options.as_published:
        return await reason_then_choose(judge, messages, sampling, parse_rating, RATING_LEAD_IN, RATING_CHOICES)
    judgment = await judge.chat(messages, sampling)
    return judgment if isinstance(judgment, Unscored) else parse_rating(judgment.text, as_published=True)


def _check(items: Sequence[Item], context: Context) -> None:
    remedy = "check the data with `evalsuite data verify mt_bench`"
    needed = {prompt_name(turn=turn, with_reference=shown) for turn, shown in product(TURNS, (False, True))}
    if missing := sorted(needed - context.prompts.keys()):
        raise DataError(f"MT-Bench's judge prompts lack {missing[0]!r}; {remedy}")
    for item in items:
        category = item.data["category"]
        if needs_reference(category) and len(context.references.get(item.id, ())) < len(TURNS):
            raise DataError(f"MT-Bench question {item.id} ({category}) has no two-turn reference answer; {remedy}")
