"""MT-Bench's two turns: what is answered, what is rated, and what the judge is asked about each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evalsuite.serving.requests import Completion
from evalsuite.suites.base import Item, Record, no_answer
from evalsuite.suites.mt_bench.scores import Judgment
from judges.pointwise import judge_messages, needs_reference
from judges.types import Message, Rating, Unscored

MINI = Path(__file__).parent / "mini"

Turn = Literal[1, 2]
TURNS: tuple[Turn, Turn] = (1, 2)


@dataclass(frozen=True, slots=True)
class MtBenchContext:
    """What the questions need besides themselves; references are by item id, one text a turn."""

    prompts: Mapping[str, Mapping[str, Any]]
    references: Mapping[str, tuple[str, ...]]
    max_new_tokens: int
    judge_max_new_tokens: int


@dataclass(frozen=True, slots=True)
class MtBenchAnswer:
    """The model's two turns; the second is ``Unscored("no_answer")`` when the first is missing."""

    turns: tuple[Completion | Unscored, Completion | Unscored]


@dataclass(frozen=True, slots=True)
class MtBenchVerdict:
    """The judge's rating of each turn."""

    turns: tuple[Rating | Unscored, Rating | Unscored]


def messages_to_judge(item: Item, answer: MtBenchAnswer, turn: Turn, context: MtBenchContext) -> list[Message]:
    """Ask the judge for the rating of one turn; every answer up to that turn must be there."""
    texts = [reply.text for reply in answer.turns[:turn] if isinstance(reply, Completion)]
    reference = context.references.get(item.id) if needs_reference(item.data["category"]) else None
    return judge_messages(context.prompts, item.data["turns"], texts, reference, turn=turn)


def judgments_of(record: Record) -> list[Judgment]:
    """Return one judgment a turn, also where there is no answer or nobody judged."""
    judgments = []
    for turn in TURNS:
        reply = record.answer.turns[turn - 1] if record.answer is not None else Unscored("no_answer")
        if record.verdict is not None:
            rating = record.verdict.turns[turn - 1]
        else:
            rating = no_answer(reply) if isinstance(reply, Unscored) else Unscored("no_judge")
        judgments.append(Judgment(record.item.id, record.item.data["category"], turn, rating))
    return judgments
