"""AlpacaEval 2: 805 instructions, each answer compared with GPT-4 Turbo's by a one-token verdict.

One instruction, as ``alpaca_eval_gpt4_baseline.json`` holds it (this one is from our mini data):

    {"dataset": "evalsuite_mini", "instruction": "Give me a simple recipe for pancakes.",
     "output": "Whisk 150 g flour, ...", "generator": "evalsuite_mini_baseline"}

The protocol is that of alpaca-eval 0.6.6, evaluator ``weighted_alpaca_eval_gpt4_turbo``: the judge
sees both answers as ``m`` and ``M``, and the preference is the share of its probability for either
name. Its prompt is read from the installed package. Deviation: a local judge is asked for exactly
these two tokens, so that neither is ever missing from a top-five list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evalsuite import assets
from evalsuite.errors import DataError
from evalsuite.serving.requests import Chat, Completion, Sampling, derive_seed
from evalsuite.suites.alpaca_eval import peer as alpaca_files
from evalsuite.suites.alpaca_eval.scores import CANONICAL_SIZE, comparison_of, score_comparisons
from evalsuite.suites.base import Item, Loaded, Record, Scores, SuiteOptions, no_answer
from evalsuite.suites.mini_data import mini_rows
from judges.pairwise import IDENTICAL_PREFERENCE, LABELS, comparison_messages, is_switched
from judges.parse import preference_from_logprobs
from judges.types import Message, Preference, Unscored

FULL_MAX_NEW_TOKENS, MINI_MAX_NEW_TOKENS = 2048, 96
TEMPERATURE = 0.7
"""Of the package's own configurations of open models (models_configs/), 88 allow 2,048 new tokens
and most sample at 0.7 with top_p 1, for example zephyr-7b-beta; there is no other rule."""

TEMPLATE = "evaluators_configs/alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"
TEMPLATE_SHA256 = "784227e6dc2832fc08c43d2c8ea3a308e7523780187a1aaad2f85e30bac85f62"
"""The file in alpaca-eval 0.6.6."""


@dataclass(frozen=True, slots=True)
class AlpacaEvalContext:
    """What the instructions need besides themselves.

    ``df_gamed`` is the regression's data, and None with ``lc_reason`` where no length-controlled win
    rate is possible.
    """

    template: str
    max_new_tokens: int
    df_gamed: Path | None
    lc_reason: str | None


class AlpacaEval:
    """The suite ``alpaca_eval``; an answer is a Completion, a verdict a Preference, or else Unscored."""

    name = "alpaca_eval"
    judge_method = "weighted_logprobs_of_m_and_M"

    def load(self, options: SuiteOptions) -> Loaded:
        """Read the baseline's answers in their canonical order; raises DataError when they cannot be had.

        An item's id is its position in that order. ``limit`` takes N positions at equal distances, so
        that all five sources are in a small sample. Without ``df_gamed.csv`` everything but the
        length-controlled win rate is there, and ``missing`` says why.
        """
        pins: dict[str, Mapping[str, Any]] = {}
        if options.data == "mini":
            rows, pins["alpaca_eval/mini/baseline"] = mini_rows(Path(__file__).parent / "mini" / "baseline.json")
        else:
            rows, found = assets.records("alpaca_eval/baseline")
            pins["alpaca_eval/baseline"] = assets.data_pin(found)
        template = template_text()
        pins["alpaca_eval/" + TEMPLATE.rpartition("/")[2]] = _template_pin(template)
        positions: Sequence[int] = range(len(rows))
        if options.limit is not None and options.limit < len(rows):
            positions = [i * len(rows) // options.limit for i in range(options.limit)]
        df_gamed, reason = None, partial_reason(len(positions))
        if reason is None:
            df_gamed, reason, pin = alpaca_files.find_df_gamed()
            pins |= {"alpaca_eval/df_gamed": pin} if pin is not None else {}
        max_new_tokens = MINI_MAX_NEW_TOKENS if options.data == "mini" else FULL_MAX_NEW_TOKENS
        return Loaded(
            items=[Item(str(position), rows[position]) for position in positions],
            data_pins=pins,
            context=AlpacaEvalContext(template, max_new_tokens, df_gamed, reason),
            missing={"lc_win_rate": reason} if reason is not None else {},
        )

    def needs_judge(self, options: SuiteOptions) -> bool:  # noqa: ARG002
        return True

    async def answer(self, item: Item, loaded: Loaded, model: Chat, options: SuiteOptions) -> Completion | Unscored:
        """Answer one instruction without a system prompt."""
        sampling = Sampling(
            max_new_tokens=loaded.context.max_new_tokens,
            temperature=TEMPERATURE,
            seed=derive_seed(options.seed, "alpaca_eval", item.id),
        )
        return await model.chat([Message("user", item.data["instruction"])], sampling)

    async def judge(
        self,
        item: Item,
        answer: Completion | Unscored,
        loaded: Loaded,
        judge: Chat,
        options: SuiteOptions,  # noqa: ARG002
    ) -> Preference | Unscored:
        """Compare one answer with the baseline's; equal texts are a tie without a question."""
        if isinstance(answer, Unscored):
            return no_answer(answer)
        instruction, baseline = item.data["instruction"], item.data["output"]
        if answer.text == baseline:
            return Preference(IDENTICAL_PREFERENCE)
        switched = is_switched(instruction)
        messages = comparison_messages(loaded.context.template, instruction, baseline, answer.text, switched)
        logprobs = await judge.label_logprobs(messages, LABELS)
        if isinstance(logprobs, Unscored):
            return logprobs
        return preference_from_logprobs(logprobs.get("m"), logprobs.get("M"), switched=switched)

    def score(self, records: Sequence[Record], loaded: Loaded, options: SuiteOptions) -> Scores:
        """Compute win rates; see :func:`alpaca_scores.score_comparisons`."""
        return score_comparisons(
            [comparison_of(record) for record in records],
            df_gamed=loaded.context.df_gamed,
            lc_reason=loaded.context.lc_reason,
            as_published=options.as_published,
        )

    def export(
        self,
        records: Sequence[Record],
        loaded: Loaded,  # noqa: ARG002
        folder: Path,
        *,
        model: str,
        judge: str | None,
    ) -> None:
        """Write alpaca_eval's model_outputs.json and, with a judge, annotations.json."""
        alpaca_files.write_model_outputs(records, folder, model=model)
        if judge is not None:
            alpaca_files.write_annotations(records, folder, model=model, judge=judge)

    def score_recorded(self, path: Path, options: SuiteOptions) -> Scores:
        """Score an annotations.json; see :func:`alpaca_files.score_annotation_file`."""
        return alpaca_files.score_annotation_file(path, as_published=options.as_published)


ALPACA_EVAL = AlpacaEval()


def template_text() -> str:
    """Read the comparison prompt from the installed alpaca_eval, without importing it."""
    spec = find_spec("alpaca_eval")
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    for place in places:
        path = Path(place) / TEMPLATE
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise DataError(f"the package alpaca-eval has no {TEMPLATE}; install alpaca-eval 0.6.6 with pip")


def partial_reason(n_items: int) -> str | None:
    """Say why ``n_items`` instructions cannot give a length-controlled win rate; None when they can."""
    if n_items == CANONICAL_SIZE:
        return None
    return f"the length-controlled win rate is defined on all {CANONICAL_SIZE} instructions; these are {n_items}"


def _template_pin(text: str) -> dict[str, Any]:
    sha256 = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return {"sha256": sha256, "source": "package", "pinned": sha256 == TEMPLATE_SHA256}
