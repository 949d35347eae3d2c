"""MixEval: questions of many benchmarks, answered freely or by an option letter, and read by a judge.

One multiple-choice item of the mini data becomes this user message::

    Which of these particles carries a negative electric charge?
    A. proton
    B. neutron
    C. electron
    D. photon
    Reply with nothing but the letter of the right option.

Source: Psycoy/MixEval@7c52b41, data 2024-06-01 and 2024-08-11; ``mixeval:hard`` is MixEval-Hard.
Deviations: the judge answers at temperature 0 and is held to a verdict instead of being asked
ten times, and what it could not read is unscored instead of random; a prompt that does not fit
is ``Unscored("context_length")`` instead of being cut at its end, which holds the instruction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from evalsuite import assets
from evalsuite.errors import DataError, UsageError, unknown
from evalsuite.files import write_jsonl
from evalsuite.serving.requests import Chat, Completion, Sampling, derive_seed
from evalsuite.suites.base import Item, Loaded, Record, Scores, SuiteOptions
from evalsuite.suites.judging import reason_then_choose
from evalsuite.suites.mini_data import mini_rows
from evalsuite.suites.mixeval.peer import recorded_records
from evalsuite.suites.mixeval.prompts import (
    MINI_INSTRUCTIONS,
    SPLIT_OF_PROBLEM_TYPE,
    SPLITS,
    Instructions,
    Split,
    checked_row,
    formatted_prompt,
    instructions_from,
)
from evalsuite.suites.mixeval.scores import marks_by_judge, marks_by_rule, scores_of
from judges.extraction import (
    OPTION_LEAD_IN,
    SCORE_CHOICES,
    SCORE_LEAD_IN,
    free_form_judge_messages,
    option_choices,
    option_judge_messages,
)
from judges.parse import parse_option, parse_score_0_to_1
from judges.types import Choice, Message, Rating, Unscored

VERSIONS = ("2024-06-01", "2024-08-11")
PARTS = ("hard",)
PARSERS = ("judge", "rule")

ANSWER_TOKENS: Mapping[str, int] = {"full": 512, "mini": 64}
JUDGMENT_TOKENS: Mapping[str, int] = {"full": 999, "mini": 96}
"""The full figures are MixEval's, the mini ones keep a demo short."""


class MixEval:
    """MixEval, or MixEval-Hard with the part ``hard``.

    An answer is a Completion or Unscored; a verdict is a Rating in 0..1 (free-form), a Choice
    (multiple choice) or Unscored, and None where the rule parser needs none.
    """

    name = "mixeval"
    judge_method = "mixeval_extraction"

    def load(self, options: SuiteOptions) -> Loaded:
        """Read both splits in file order, repeated items included; item ids are ``<split>/<id>``.

        ``options.limit`` bounds each split. Raises UsageError for an unknown part, version or
        parser, and DataError when the data cannot be had.
        """
        _require_known(options)
        if options.data == "mini":
            return _load_mini(options)
        prompts = "mixeval/prompts"
        context = instructions_from(assets.text_constants(prompts), prompts)
        pins: dict[str, Mapping[str, Any]] = {prompts: assets.data_pin(assets.find(prompts))}
        items: list[Item] = []
        variant = "mixeval_hard" if "hard" in options.parts else "mixeval"
        for split in SPLITS:
            asset = f"mixeval/{options.mixeval_version}/{variant}/{split}"
            rows, found = assets.records(asset)
            pins[asset] = assets.data_pin(found)
            items += _items(rows[: options.limit], split, asset)
        return Loaded(items=tuple(items), data_pins=pins, context=context)

    def needs_judge(self, options: SuiteOptions) -> bool:
        return options.mixeval_parser == "judge"

    async def answer(self, item: Item, loaded: Loaded, model: Chat, options: SuiteOptions) -> Completion | Unscored:
        """Ask one item as a single user message, sampled as the checkpoint's generation_config says."""
        sampling = Sampling(
            max_new_tokens=ANSWER_TOKENS[options.data],
            temperature=None,
            top_p=None,
            top_k=None,
            seed=derive_seed(options.seed, self.name, item.id),
        )
        return await model.chat([Message("user", formatted_prompt(item.data, loaded.context))], sampling)

    async def judge(
        self,
        item: Item,
        answer: Completion | Unscored,
        loaded: Loaded,  # noqa: ARG002
        judge: Chat,
        options: SuiteOptions,
    ) -> Rating | Choice | Unscored:
        """Let the judge rate a free-form answer (0..1) or name the option that an answer settles on.

        The judge sees neither the context nor, for multiple choice, the right option.
        """
        if isinstance(answer, Unscored):
            return Unscored("no_answer", answer.reason)
        row = item.data
        sampling = Sampling(max_new_tokens=JUDGMENT_TOKENS[options.data], temperature=0.0)
        if row["problem_type"] == "free-form":
            messages = free_form_judge_messages(row["prompt"], row["target"], answer.text)
            return await reason_then_choose(judge, messages, sampling, parse_score_0_to_1, SCORE_LEAD_IN, SCORE_CHOICES)
        count = len(row["options"])
        messages = option_judge_messages(row["prompt"], row["options"], answer.text)
        parse = partial(parse_option, n_options=count)
        return await reason_then_choose(judge, messages, sampling, parse, OPTION_LEAD_IN, option_choices(count))

    def score(self, records: Sequence[Record], loaded: Loaded, options: SuiteOptions) -> Scores:  # noqa: ARG002
        """Compute the suite's object of scores.json; see ``mixeval_scores.scores_of``."""
        return _score(records, options)

    def export(
        self,
        records: Sequence[Record],
        loaded: Loaded,
        folder: Path,
        *,
        model: str,  # noqa: ARG002
        judge: str | None,  # noqa: ARG002
    ) -> None:
        """Write ``<split>.jsonl`` with MixEval's response fields, its judged files' fields and ``unscored``.

        A response or verdict that is missing is null, with its reason under ``unscored``.
        ``model`` and ``judge`` take no part: MixEval's rows name neither.
        """
        for split in SPLITS:
            own = [record for record in records if SPLIT_OF_PROBLEM_TYPE[record.item.data["problem_type"]] == split]
            write_jsonl(folder / f"{split}.jsonl", (_exported(record, loaded.context) for record in own))

    def score_recorded(self, path: Path, options: SuiteOptions) -> Scores:
        """Score recorded answers by the rule parser, or by the verdicts that the files already hold.

        Raises DataError for unreadable files, and UsageError where the judge's parser is asked
        for and the rows hold no verdicts.
        """
        _require_known(options)
        return _score(recorded_records(path, options), options)


MIXEVAL = MixEval()


def _score(records: Sequence[Record], options: SuiteOptions) -> Scores:
    if options.mixeval_parser == "rule":
        return scores_of(marks_by_rule(records, as_published=options.as_published), options)
    return scores_of(marks_by_judge(records), options)


def _require_known(options: SuiteOptions) -> None:
    for part in options.parts:
        if part not in PARTS:
            raise UsageError(unknown("part of mixeval", part, PARTS))
    if options.mixeval_version not in VERSIONS:
        raise UsageError(unknown("MixEval version", options.mixeval_version, VERSIONS))
    if options.mixeval_parser not in PARSERS:
        raise UsageError(unknown("MixEval parser", options.mixeval_parser, PARSERS))


def _items(rows: Sequence[Mapping[str, Any]], split: Split, origin: str) -> list[Item]:
    items = []
    for number, row in enumerate(rows, 1):
        checked = checked_row(row, f"{origin} row {number}")
        if SPLIT_OF_PROBLEM_TYPE[checked["problem_type"]] != split:
            raise DataError(f"{origin} row {number}: a {checked['problem_type']} item among the {split} ones")
        items.append(Item(f"{split}/{checked['id']}", checked))
    return items


def _load_mini(options: SuiteOptions) -> Loaded:
    pins: dict[str, Mapping[str, Any]] = {}
    items: list[Item] = []
    for split in SPLITS:
        filename = f"{split}.json"
        rows, pins[f"mixeval/mini/{split}"] = mini_rows(Path(__file__).parent / "mini" / filename)
        items += _items(rows[: options.limit], split, filename)
    return Loaded(items=tuple(items), data_pins=pins, context=MINI_INSTRUCTIONS)


def _exported(record: Record, instructions: Instructions) -> dict[str, Any]:
    row, answer, verdict = record.item.data, record.answer, record.verdict
    failure = next((value for value in (answer, verdict) if isinstance(value, Unscored)), None)
    exported = {name: value for name, value in row.items() if name != "id"}
    exported |= {
        "formated_input": formatted_prompt(row, instructions),
        "id": row["id"],
        "response": answer.text if isinstance(answer, Completion) else None,
    }
    if verdict is not None:
        field = "judge_score" if row["problem_type"] == "free-form" else "judge_option"
        exported["judge_response"] = verdict.text if isinstance(verdict, Rating | Choice) else verdict.detail or None
        exported[field] = _verdict_value(verdict)
    exported["unscored"] = {"reason": failure.reason, "detail": failure.detail} if failure else None
    return exported


def _verdict_value(verdict: Rating | Choice | Unscored) -> float | str | None:
    if isinstance(verdict, Rating):
        return verdict.value
    return verdict.letter if isinstance(verdict, Choice) else None
