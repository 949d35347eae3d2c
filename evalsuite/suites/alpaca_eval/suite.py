"""AlpacaEval 2: 805 instructions, each answer compared with GPT-4 Turbo's by a one-token verdict.

The protocol is that of alpaca-eval 0.6.6, evaluator ``weighted_alpaca_eval_gpt4_turbo``: the judge sees both answers as
``m`` and ``M``, and the preference is the share of its probability for either name. Its prompt is read from the
installed package. Deviation: a local judge is asked for exactly these two tokens, so that neither is ever missing from
a top-five list.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from evalsuite import assets
from evalsuite.errors import DataError
from evalsuite.records.rows import Draw, Header, Row, Verdict
from evalsuite.serving.requests import Chat, Sampling, derive_seed, thought_of
from evalsuite.suites import figures
from evalsuite.suites.alpaca_eval import peer
from evalsuite.suites.alpaca_eval.assets import (
    ASSETS,
    MINI_BASELINE,
    RANKING_SHA256,
    RANKING_TEMPLATE,
    baseline_rows,
    content_hash,
    template,
)
from evalsuite.suites.alpaca_eval.package import win_rates
from evalsuite.suites.alpaca_eval.scores import preference, require_all, score_rows
from evalsuite.suites.base import Suite, draw_of, marked, no_answer, verdict_on
from evalsuite.suites.figures import Column, Figure, Line, ReportPart, scored_figure, stderr_of
from evalsuite.suites.judging import verdict_of
from evalsuite.suites.local_rows import local_rows
from evalsuite.suites.options import DataKind, SuiteOptions
from evalsuite.suites.peer_files import copy_rows
from evalsuite.suites.sampling import evenly
from evalsuite.suites.types import CheckedItem, CheckedItems, Item, Loaded, Recorded, Scores
from judges.pairwise import IDENTICAL_PREFERENCE, LABELS, comparison_messages, is_switched
from judges.parse import parse_ranking, preference_from_logprobs
from judges.types import Message, Unscored

ANSWER_TOKENS: Mapping[DataKind, int] = {"full": 2048, "mini": 96}
_RANKING_TOKENS = 100
_ASKED_IN_WORDS = frozenset({"no_logprobs", "label_mass"})
"""Why a judge's log-probabilities of m and M are no verdict."""
TEMPERATURE = 0.7
"""Of the package's own configurations of open models (models_configs/), 88 allow 2,048 new tokens
and most sample at 0.7 with top_p 1, for example zephyr-7b-beta; the package states no general rule."""


class AlpacaEval(Suite):
    """The suite ``alpaca_eval``. The context of its items is the judge's prompt."""

    name = "alpaca_eval"
    title = "AlpacaEval 2"
    packages = ("sklearn", "alpaca_eval")
    order = 20
    in_default = True
    judge_method = "weighted_logprobs_of_m_and_M"
    # An answer of 2,048 tokens; for the judge two of them.
    answer_context = 2_560
    judge_context = 6_144
    sizes: ClassVar = {"full": 805, "mini": 8}
    assets = ASSETS
    in_averages: ClassVar = {"nine": ("lc_win_rate", 100)}
    peer_fields = ({"instruction", "output_2"}, {"instruction", "output", "generator"})

    def load(self, options: SuiteOptions) -> Loaded:
        """Read the baseline's answers in their canonical order; raises DataError when they are not available.

        An item's id is its position in that order. ``limit`` takes N positions at equal distances, so
        that all five sources are in a small sample. Without ``df_gamed.csv`` everything but the
        length-controlled win rate is there, and ``missing`` says why.
        """
        rows, pins = baseline_rows(options.data)
        prompt, prompt_pin = template()
        pins |= prompt_pin
        positions = evenly(range(len(rows)), options.limit)
        missing = {}
        try:
            require_all(len(positions))
            pins["alpaca_eval/df_gamed"] = assets.data_pin(assets.find(ASSETS["alpaca_eval/df_gamed"]))
        except DataError as error:
            missing["lc_win_rate"] = str(error)
        return Loaded([Item(str(position), rows[position]) for position in positions], pins, prompt, missing)

    def row(self, item: Item, loaded: Loaded) -> Row:  # noqa: ARG002
        """Return the instruction; facts: ``category`` (its source), ``reference`` and ``baseline`` (its author)."""
        instruction, output = item.data["instruction"], item.data["output"]
        facts = {"category": item.data.get("dataset"), "reference": [output], "baseline": item.data["generator"]}
        content = content_hash(instruction, output)
        return Row(item.id, content=content, prompt=(Message("user", instruction),), facts=facts)

    def checked_items(self, name: str, data: DataKind) -> CheckedItems:
        rows, pins = local_rows(data, [ASSETS["alpaca_eval/baseline"]], [MINI_BASELINE])
        items = [CheckedItem(name, str(position), (row["instruction"],)) for position, row in enumerate(rows)]
        return CheckedItems(items, pins)

    async def answer(self, item: Item, loaded: Loaded, model: Chat, options: SuiteOptions) -> Draw:  # noqa: ARG002
        """Answer one instruction without a system prompt."""
        seed = derive_seed(options.seed, "alpaca_eval", item.id)
        sampling = Sampling(max_new_tokens=ANSWER_TOKENS[options.data], temperature=TEMPERATURE, seed=seed)
        return draw_of([await model.chat([Message("user", item.data["instruction"])], sampling)])

    async def judge(self, item: Item, draw: Draw, loaded: Loaded, judge: Chat, options: SuiteOptions) -> list[Verdict]:  # noqa: ARG002
        """Compare one answer with the baseline's; identical texts are a tie without asking."""
        [reply] = draw.turns
        if reply.unscored is not None:
            return [Verdict(unscored=no_answer(reply.unscored))]
        instruction, baseline, output = item.data["instruction"], item.data["output"], reply.text or ""
        if output == baseline:
            return [Verdict(value=IDENTICAL_PREFERENCE)]
        switched = is_switched(instruction)
        messages = comparison_messages(loaded.context, instruction, baseline, output, switched)
        logprobs = await judge.label_logprobs(messages, LABELS)
        if isinstance(logprobs, Unscored):
            in_words = logprobs.reason in _ASKED_IN_WORDS
            return [await _ranked(judge, instruction, baseline, output) if in_words else Verdict(unscored=logprobs)]
        verdict = verdict_of(preference_from_logprobs(logprobs.get("m"), logprobs.get("M"), switched=switched))
        return [msgspec.structs.replace(verdict, thought=thought_of(logprobs))]

    def mark(self, row: Row, header: Header) -> Row:  # noqa: ARG002
        """Mark a comparison: ``score`` is the share of preference that went to the model, 0 to 1."""
        unscored, value = verdict_on(row).unscored, preference(row)
        return marked(row, [unscored] if unscored else [], score=None if math.isnan(value) else value - 1)

    def score(self, header: Header, rows: Sequence[Row]) -> Scores:
        return score_rows(header, rows)

    def columns(self, scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> Sequence[Column]:  # noqa: ARG002
        column = partial(Column, suite=self.name, top=100.0, digits=2, judged=True)
        says = "win rate against the baseline; percent"
        plain = partial(scored_figure, key="win_rate", stderr="standard_error", n="n_total", top=100.0)
        return (
            column(self.name, self.title, f"length-controlled {says}", figure=_length_controlled),
            column("alpaca_win_rate", "AlpacaEval 2 WR", f"plain {says}", figure=plain, main=False, items=self.name),
        )

    def lines(self, key: str, scores: Mapping[str, Any]) -> Iterable[Line]:  # noqa: ARG002
        yield Line(
            "AlpacaEval 2, win %",
            figures.shown(scores.get("win_rate"), 2),
            # A package's error of 0 says that all preferences are equal, not that the rate is certain.
            figures.shown_error(scores.get("standard_error") or None, 2)
            or figures.shown_interval(scores.get("ci95"), 2),
            n=str(scores.get("n_total", figures.DASH)),
            unscored=figures.unscored_text(scores.get("unscored")),
            note="; ".join(scores.get("warnings", ())),
        )
        yield Line(
            "  length-controlled",
            figures.shown(scores.get("lc_win_rate"), 2),
            figures.shown_interval(scores.get("lc_ci95"), 2) or figures.shown_error(_lc_error(scores), 2),
            note=str(figures.as_object(scores.get("lc")).get("reason") or ""),
        )

    def report_part(self, key: str, part: str) -> ReportPart:  # noqa: ARG002
        return ReportPart(self.title, "alpaca_win_rate", top=100.0, scale=100.0)

    def verdict_text(self, verdict: Verdict) -> str | float:
        if not isinstance(verdict.value, int | float):
            return super().verdict_text(verdict)
        return f"preferred with {(verdict.value - 1) * 100:.1f} %"

    def read_peer(self, path: Path, options: SuiteOptions, model: str | None = None) -> Recorded:
        return peer.read_recorded(path, options, model)

    def write_peer(self, header: Header, rows: Sequence[Row], folder: Path, *, model: str, judge: str | None) -> None:  # noqa: ARG002
        peer.write_files(rows, folder, model=model, judge=judge)

    def copy_peer(self, source: Path, header: Header, folder: Path, model: str) -> None:
        files = peer.read_files(source, model, next(iter(header.judges), None))
        copy_rows(folder, (peer.ANNOTATION_FILE, peer.OUTPUT_FILE), files)

    def self_check(self, parts: Sequence[str]) -> str:  # noqa: ARG002
        """Read the judge's prompt, and let the package average a win and a loss."""
        template()
        win_rate = win_rates([1.0, 2.0])["win_rate"]
        return "" if win_rate == 50.0 else f"{win_rate!r} for a win and a loss, which are worth 50.0"


async def _ranked(judge: Chat, instruction: str, baseline: str, output: str) -> Verdict:
    """Ask for a ranking in words, as the package's annotators without log-probabilities do: another method."""
    switched = is_switched(instruction)
    messages = comparison_messages(
        template(RANKING_TEMPLATE, RANKING_SHA256)[0], instruction, baseline, output, switched
    )
    reply = await judge.chat(messages, Sampling(max_new_tokens=_RANKING_TOKENS))
    if isinstance(reply, Unscored):
        return Verdict(unscored=reply)
    ranking = parse_ranking(reply.text, switched=switched)
    if isinstance(ranking, Unscored):
        return Verdict(text=reply.text, unscored=Unscored(ranking.reason))
    return Verdict(value=ranking.value, text=reply.text)


def _lc_error(scores: Mapping[str, Any]) -> Any:
    """Return the package's standard error, which is too small, where it is all that there is: in older results."""
    return None if "lc_ci95" in scores else scores.get("lc_standard_error")


def _length_controlled(scores: Mapping[str, Any]) -> Figure:
    # "ci95" is the plain win rate's.
    interval = scores.get("lc_ci95")
    error = stderr_of(interval) or _lc_error(scores)
    given = {**scores, "ci95": interval, "lc_standard_error": error}
    figure = scored_figure(given, "lc_win_rate", "lc_standard_error", "n_total", top=100.0)
    reason = figures.as_object(scores.get("lc")).get("reason")
    return replace(figure, reason=str(reason)) if figure.value is None and reason else figure
