"""MT-Bench's pairwise mode (``mt_bench:pairwise``): each answer against a baseline's, or against several models'.

The protocol is that of lm-sys/FastChat@0e6d3e4, fastchat/llm_judge: ``pairwise-baseline`` with one baseline,
``pairwise-all`` as seen from one model with several. Both orders of both turns are judged; a win needs both orders, and
everything else is a tie. Deviations by default, each undone by ``as_published``: the corrected reference answers, a
judgment without a verdict is completed under guided output, and the last verdict in a judgment counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pydantic

from evalsuite.assets.asset import Pin
from evalsuite.errors import UsageError
from evalsuite.records.rows import Draw, Header, Order, Row, Verdict, replaced
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.requests import Chat, Sampling
from evalsuite.suites.base import Suite, count_unscored, no_answer
from evalsuite.suites.figures import ReportPart
from evalsuite.suites.games import outcome_of
from evalsuite.suites.judging import reason_then_choose, verdict_of
from evalsuite.suites.local_rows import mini_rows
from evalsuite.suites.mt_bench.assets import MINI
from evalsuite.suites.mt_bench.pair_files import PAIR_FILE, read_answers, read_pairs, read_recorded_pairs, write_pairs
from evalsuite.suites.mt_bench.scores import TURNS, Turn
from evalsuite.suites.mt_bench.suite import JUDGMENT_TOKENS, MtBench
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.peer_files import copy_rows
from evalsuite.suites.types import Item, Loaded, Recorded, Scores
from judges.fastchat_pair import CHOICES, LEAD_IN, PREFERENCES, pair_messages, parse_winner
from judges.pointwise import needs_reference
from judges.types import Choice, Unscored
from judges.verdicts import against_text, winner_of

ORDERS: tuple[Order, Order] = ("ab", "ba")
"""FastChat's two games: first the model is assistant A, then the baseline."""

_MARK: Mapping[str, float] = {"a": 1.0, "b": 0.0, "tie": 0.5}


class PairwiseOptions(SuiteOptions):
    """MT-Bench's options in pairwise mode."""

    # The pins of the data tell baselines apart, so that they need no variant of the model.
    mt_bench_baseline: tuple[str, ...] = pydantic.Field(
        default=(), json_schema_extra={"figures": False, "path": True, "metavar": "FILE"}
    )
    """Recorded answers that mt_bench:pairwise compares with: FastChat's model_answer.jsonl, or a model's folder in
    results/; several for all pairs."""

    @pydantic.field_validator("mt_bench_baseline", mode="before")
    @classmethod
    def _one_is_a_list(cls, given: object) -> Any:
        return (given,) if isinstance(given, str) else given


class MtBenchPairwise(MtBench):
    """The suite ``mt_bench_pairwise``, also ``mt_bench:pairwise``; a row's part is the baseline."""

    name = "mt_bench_pairwise"
    checked_names = ("mt_bench",)
    also = "mt_bench:pairwise"
    title = "MT-Bench pairwise"
    order = 12
    in_default = False
    judge_method = "fastchat_pairwise_two_games"
    options_type = PairwiseOptions
    sizes: ClassVar = {}
    # Two conversations of two answers of 1,024 tokens, a reference, and a judgment of 2,048.
    judge_context = 8_192
    assets: ClassVar = {}
    says = "wins in both orders and half the ties, both turns; percent"
    scale = (0, 100)
    other_scores: ClassVar = {
        "win_rate": "win rate",
        "loss_rate": "loss rate",
        "turn_1": "turn 1",
        "turn_2": "turn 2",
    }
    in_averages: ClassVar = {}
    protocol_titles: ClassVar = {**MtBench.protocol_titles, "baselines": "against"}
    peer_fields = ()

    def load(self, options: PairwiseOptions) -> Loaded:  # type: ignore[override]
        """Read the questions with the answers of every baseline; raises UsageError without a baseline."""
        loaded = super().load(options)
        prompts = loaded.context.prompts
        baselines, pins = _baselines(options)
        if options.data == "mini":
            rows, pin = mini_rows(MINI / "pair_prompts.jsonl")
            prompts, pins = {row["name"]: row for row in rows}, {**pins, "mt_bench/mini/pair_prompts": pin}
        items = [
            Item(f"{name}/{item.id}", {**item.data, "baseline": name, "answers": answers.get(item.id)})
            for name, answers in baselines.items()
            for item in loaded.items
        ]
        return Loaded(items, {**loaded.data_pins, **pins}, replace(loaded.context, prompts=prompts))

    def row(self, item: Item, loaded: Loaded) -> Row:
        """Return both questions; facts: ``category``, ``baseline`` and ``reference`` (the baseline's answers)."""
        plain = super().row(Item(str(item.data["question_id"]), item.data), loaded)
        facts = {"category": item.data["category"], "baseline": item.data["baseline"]}
        facts |= {"reference": list(item.data["answers"])} if item.data["answers"] else {}
        return replaced(plain, item_id=item.id, part=str(item.data["baseline"]), facts=facts)

    async def answer(self, item: Item, loaded: Loaded, model: Chat, options: SuiteOptions) -> Draw:
        """Answer as for single ratings: the same questions with the same seeds, so that stored answers are taken."""
        return await super().answer(Item(str(item.data["question_id"]), item.data), loaded, model, options)

    async def judge(self, item: Item, draw: Draw, loaded: Loaded, judge: Chat, options: SuiteOptions) -> list[Verdict]:
        """Play both games of both turns; identical answers are a tie without asking."""
        games = [(turn, order) for turn in TURNS for order in ORDERS]
        return list(
            await gather_or_cancel(_play(item, draw, turn, order, loaded, judge, options) for turn, order in games)
        )

    def mark(self, row: Row, header: Header) -> Row:  # noqa: ARG002
        """Mark a question: ``turn_1`` and ``turn_2`` are 1 for a win in both orders, 0 for a loss in both, else 1/2."""
        marks = {turn: _mark(row, turn) for turn in TURNS}
        unscored = tuple(Unscored(mark.reason) for mark in marks.values() if isinstance(mark, Unscored))
        known = {f"turn_{turn}": None if isinstance(mark, Unscored) else mark for turn, mark in marks.items()}
        scored = [mark for mark in known.values() if mark is not None]
        score = sum(scored) / len(scored) if scored else None
        return replaced(
            row, marks={"score": (score,), **{name: (mark,) for name, mark in known.items()}}, unscored=unscored
        )

    def score(self, header: Header, rows: Sequence[Row]) -> Scores:  # noqa: ARG002
        return score_pairs(rows)

    def report_part(self, key: str, part: str) -> ReportPart:  # noqa: ARG002
        return ReportPart(f"{self.title}, against {part}", self.name, top=100.0, scale=100.0)

    def context_of(self, row: Row) -> str:
        return row.item_id.removeprefix(f"{row.part}/")

    def question_page(self, row: Row, header: Header) -> dict[str, Any]:
        return {**super().question_page(row, header), "reference_title": f"the answers of {row.part}"}

    def verdict_text(self, verdict: Verdict) -> str | float:
        if isinstance(verdict.value, int | float):
            return {"a": "A", "b": "B", "tie": "tie"}[winner_of(float(verdict.value))]
        return super().verdict_text(verdict)

    def protocol(self, options: Mapping[str, Any], scores: Mapping[str, Any]) -> Mapping[str, str | int | float]:
        baselines = ", ".join(scores.get("baselines") or ()) or None
        return super().protocol({**options, "baselines": baselines}, scores)

    def recognises(self, first_row: Mapping[str, Any]) -> bool:  # noqa: ARG002
        # Its answers are in no file of their own.
        return False

    def read_peer(self, path: Path, options: SuiteOptions, model: str | None = None) -> Recorded:
        return read_recorded_pairs(path, options, self.name, model)

    def write_peer(self, header: Header, rows: Sequence[Row], folder: Path, *, model: str, judge: str | None) -> None:
        write_pairs(header, rows, folder, model=model, judge=judge)

    def copy_peer(self, source: Path, header: Header, folder: Path, model: str) -> None:
        copy_rows(folder, (PAIR_FILE,), (read_pairs(source, model, next(iter(header.judges), None))[1],))

    def score_recorded(self, path: Path, options: SuiteOptions) -> Scores:
        return Suite.score_recorded(self, path, options)


def score_pairs(rows: Sequence[Row]) -> Scores:
    """Compute FastChat's figures over all comparisons (a question, a turn and a baseline each), in percent.

    {"score" (wins and half the ties, FastChat's win_rate_adjusted), "stderr", "ci95" (by question), "win_rate",
    "loss_rate", "wins", "losses", "ties", "position_flips", "n", "n_scored", "unscored", "turn_1", "turn_2",
    "categories": {name: {"score", "stderr", "n"}}, "baselines": {name: the same}, "uncertainty": {"win_rate",
    "loss_rate", "turn_1" and "turn_2": {"score", "stderr", "ci95", "n"}}}. Source: lm-sys/FastChat@0e6d3e4:
    fastchat/llm_judge/show_result.py (display_result_pairwise), which leaves out a comparison if either game has no
    verdict.
    """
    marks = [(row, turn, row.marks[f"turn_{turn}"][0]) for row in rows for turn in TURNS]
    scored = [(row, turn, mark) for row, turn, mark in marks if mark is not None]
    values = [mark for *_, mark in scored]
    wins, losses = values.count(1.0), values.count(0.0)
    others = {
        "win_rate": [(row, turn, float(mark == 1.0)) for row, turn, mark in scored],
        "loss_rate": [(row, turn, float(mark == 0.0)) for row, turn, mark in scored],
        **{f"turn_{turn}": [one for one in scored if one[1] == turn] for turn in TURNS},
    }
    baselines = dict.fromkeys(row.part for row in rows)
    categories = sorted({str(row.facts["category"]) for row in rows if row.facts.get("category")})
    return {
        **_mean(scored),
        "ci95": _interval(scored),
        **{name: _mean(chosen)["score"] for name, chosen in others.items()},
        "wins": wins,
        "losses": losses,
        "ties": len(values) - wins - losses,
        "position_flips": sum(_is_flip(row, turn) for row, turn, _ in scored),
        "n": len(marks),
        "n_scored": len(scored),
        "unscored": count_unscored(reason for row in rows for reason in row.unscored),
        "categories": {
            name: _group([one for one in scored if one[0].facts.get("category") == name]) for name in categories
        },
        "baselines": {name: _group([one for one in scored if one[0].part == name]) for name in baselines},
        "uncertainty": {name: {**_group(chosen), "ci95": _interval(chosen)} for name, chosen in others.items()},
    }


Scored = tuple[Row, Turn, float]


def _mean(scored: Sequence[Scored]) -> dict[str, Any]:
    from judges.statistics import clustered_stderr

    values = [mark for *_, mark in scored]
    if not values:
        return {"score": None, "stderr": None}
    stderr = clustered_stderr(values, [_question(row) for row, *_ in scored])
    return {"score": 100 * sum(values) / len(values), "stderr": None if stderr is None else 100 * stderr}


def _interval(scored: Sequence[Scored]) -> list[float] | None:
    from judges.statistics import proportion_ci

    interval = proportion_ci([mark for *_, mark in scored], [_question(row) for row, *_ in scored]) if scored else None
    return None if interval is None else [100 * end for end in interval]


def _group(scored: Sequence[Scored]) -> dict[str, Any]:
    return {**_mean(scored), "n": len(scored)}


def _question(row: Row) -> str:
    return row.item_id.removeprefix(f"{row.part}/")


def _games(row: Row, turn: Turn) -> list[float | Unscored]:
    """Return what the model won of each game of a turn, 0 to 1."""
    found: list[float | Unscored] = []
    for order in ORDERS:
        verdict = next((one for one in row.verdicts if (one.turn, one.order, one.repeat) == (turn, order, 0)), None)
        outcome = Unscored("no_judge") if verdict is None else outcome_of(verdict)
        found.append(outcome if isinstance(outcome, Unscored) else outcome.share)
    return found


def _mark(row: Row, turn: Turn) -> float | Unscored:
    shares = []
    for share in _games(row, turn):
        if isinstance(share, Unscored):
            reply = row.replies[turn - 1] if turn <= len(row.replies) else None
            return no_answer(reply.unscored) if reply is not None and reply.unscored else share
        shares.append(share)
    winners = {winner_of(share) for share in shares}
    return _MARK[winners.pop()] if len(winners) == 1 else 0.5


def _is_flip(row: Row, turn: Turn) -> bool:
    return {winner_of(share) for share in _games(row, turn) if not isinstance(share, Unscored)} == {"a", "b"}


async def _play(
    item: Item, draw: Draw, turn: Turn, order: Order, loaded: Loaded, judge: Chat, options: SuiteOptions
) -> Verdict:
    """Play one game of one turn; "ab" shows the model's answers first."""
    reply, theirs = draw.turns[turn - 1], item.data["answers"]
    if reply.unscored is not None:
        return Verdict(turn=turn, order=order, unscored=no_answer(reply.unscored))
    if not theirs:
        return Verdict(turn=turn, order=order, unscored=Unscored("no_answer", f"{item.data['baseline']} has none"))
    own = [one.text or "" for one in draw.turns[:turn]]
    if own == list(theirs[:turn]):
        return Verdict(value=0.5, turn=turn, order=order)
    context = loaded.context
    reference = (
        context.references.get(str(item.data["question_id"])) if needs_reference(item.data["category"]) else None
    )
    first, second = (own, theirs) if order == "ab" else (theirs, own)
    messages = pair_messages(context.prompts, item.data["turns"], first, second, reference, turn=turn)
    sampling = Sampling(max_new_tokens=JUDGMENT_TOKENS[options.data], temperature=0.0)
    if options.as_published:
        judgment = await judge.chat(messages, sampling)
        choice = judgment if isinstance(judgment, Unscored) else parse_winner(judgment.text, as_published=True)
    else:
        choice = await reason_then_choose(judge, messages, sampling, parse_winner, LEAD_IN, CHOICES)
    verdict = verdict_of(choice, turn)
    value = PREFERENCES.get(str(verdict.value)) if verdict.value is not None else None
    contradicts = isinstance(choice, Choice) and value is not None and against_text(choice, value)
    return msgspec.structs.replace(verdict, value=value, order=order, contradicts=contradicts)


def _baselines(options: PairwiseOptions) -> tuple[dict[str, dict[str, Sequence[str]]], dict[str, Pin]]:
    """Read the answers of every baseline by name and question, and the pins of their files."""
    given = options.mt_bench_baseline
    if not given and options.data == "full":
        raise UsageError(
            "mt_bench:pairwise compares with recorded answers; give --mt-bench-baseline FILE: FastChat's "
            "model_answer.jsonl, or a model's folder in results/ (several for all pairs)"
        )
    from evalsuite.store import content_key

    found: dict[str, dict[str, Sequence[str]]] = {}
    pins: dict[str, Pin] = {}
    for path in [Path(text).expanduser() for text in given] or [MINI / "baseline.jsonl"]:
        file = path / MtBench.name if (path / MtBench.name).is_dir() else path
        name, answers = read_answers(file)
        if name in found:
            raise UsageError(f"two baselines are called {name!r}; rename the model in one of the files")
        found[name] = answers
        pins[f"baseline {name}"] = Pin(content_key(answers), file.name)
    return found, pins
