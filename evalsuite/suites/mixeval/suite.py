"""MixEval: questions of many benchmarks, answered freely or by an option letter, and read by a judge.

Source: Psycoy/MixEval@7c52b41, data 2024-06-01 and 2024-08-11; ``mixeval:hard`` is MixEval-Hard. Deviations: the judge
answers at temperature 0 and is held to a verdict instead of being asked ten times, and what it could not read is
unscored instead of random; a prompt that does not fit is ``Unscored("context_length")`` instead of being cut at its
end, which holds the instruction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from evalsuite import assets
from evalsuite.assets.asset import Pin
from evalsuite.errors import DataError
from evalsuite.files import read_json
from evalsuite.records.rows import Draw, Header, JudgeRef, Row, Verdict, replaced
from evalsuite.serving.requests import Chat, Sampling, derive_seed
from evalsuite.suites import figures
from evalsuite.suites.base import Suite, answer_of, draw_of, marked, no_answer, verdict_on
from evalsuite.suites.figures import Line
from evalsuite.suites.judging import reason_then_choose, verdict_of
from evalsuite.suites.local_rows import local_rows
from evalsuite.suites.local_rows import rows_of as data_rows
from evalsuite.suites.mixeval import prompts
from evalsuite.suites.mixeval.assets import ASSETS, PROMPTS, asset_name
from evalsuite.suites.mixeval.peer import read_files, rows_of, write_files
from evalsuite.suites.mixeval.prompts import SPLITS
from evalsuite.suites.mixeval.scores import marked_by_judge, marked_by_rule, parse_judgment, scores_of
from evalsuite.suites.options import DataKind, SuiteOptions
from evalsuite.suites.peer_files import copy_rows
from evalsuite.suites.repeats import with_one_draw
from evalsuite.suites.types import CheckedItem, CheckedItems, Item, Loaded, Recorded, Scores
from judges import extraction
from judges.types import Unscored

ANSWER_TOKENS: Mapping[DataKind, int] = {"full": 512, "mini": 64}
JUDGMENT_TOKENS: Mapping[DataKind, int] = {"full": 999, "mini": 96}
"""The full figures are MixEval's, the mini ones keep a demo short."""

_ITEMS_PER_SPLIT = {"mixeval": 2000, "mixeval_hard": 500}
_MINI_ITEMS_PER_SPLIT = 6
_MINI = {split: Path(__file__).parent / "mini" / f"{split}.json" for split in SPLITS}
_CHECKED_VERSION = "2024-06-01"


class MixEvalOptions(SuiteOptions):
    """MixEval's options."""

    mixeval_parser: Literal["judge", "rule"] | None = None
    """Who reads MixEval's answers: judge (default when there is one) or rule (no judge needed)."""
    mixeval_version: Literal["2024-06-01", "2024-08-11"] = "2024-06-01"
    """Version of MixEval's data."""


class MixEval(Suite):
    """MixEval, or MixEval-Hard with the part ``hard``.

    A row's part is its split. A verdict's value is a number in 0..1 (free-form) or the letter of
    the option that an answer settles on (multiple choice). Marks: ``score`` in 0..1, and with the
    rule parser ``no_option`` (1 where no option was found in a multiple-choice answer).
    """

    name = "mixeval"
    title = "MixEval"
    titles: ClassVar = {"mixeval": "MixEval", "mixeval_hard": "MixEval-Hard"}
    parts = ("hard",)
    part_titles: ClassVar = {"free_form": "free-form", "multiple_choice": "multiple choice"}
    in_default = True
    order = 40
    judge_method = "mixeval_extraction"
    options_type = MixEvalOptions
    answer_context = 3_584
    judge_context = 2_048
    assets = ASSETS
    says = "both splits weighed by count"
    in_averages: ClassVar = {"paper": ("score", 1), "nine": ("score", 1)}
    protocol_titles: ClassVar = {
        "as_published": "as published",
        "mixeval_parser": "parser",
        "mixeval_version": "version",
    }
    peer_fields = ({"problem_type", "response"},)
    checked_names = tuple(titles)

    def key(self, parts: Sequence[str]) -> str:
        return "mixeval_hard" if "hard" in parts else "mixeval"

    def n_items(self, parts: Sequence[str], data: DataKind, limit: int | None) -> int:
        per_split = _MINI_ITEMS_PER_SPLIT if data == "mini" else _ITEMS_PER_SPLIT[self.key(parts)]
        return len(SPLITS) * min(per_split, limit or per_split)

    def lines(self, key: str, scores: Mapping[str, Any]) -> Iterable[Line]:
        """Return the line of the score, and where a split is missing, of the other one alone."""
        [line] = super().lines(key, scores)
        partial_scores = figures.as_object(scores.get("partial"))
        alone = partial_scores.get("splits") or []
        yield line._replace(note=figures.missing_text(scores) if alone else "")
        for split in alone:
            own = figures.as_object(figures.as_object(scores.get("splits")).get(split))
            interval = figures.shown_interval(partial_scores.get("ci95"), self.digits[1])
            title, score = f"  {self.part_titles[split]} alone", figures.shown(own.get("score"), self.digits[0])
            yield Line(title, score, interval, n=figures.shown_n(own))

    def needs_judge(self, options: MixEvalOptions) -> bool:  # type: ignore[override]
        return options.mixeval_parser != "rule"

    def resolve_options(self, options: Mapping[str, Any], *, has_judge: bool) -> Mapping[str, Any]:
        return {**options, "mixeval_parser": options.get("mixeval_parser") or ("judge" if has_judge else "rule")}

    def load(self, options: MixEvalOptions) -> Loaded:
        """Read both splits in file order, repeated items included; item ids are ``<split>/<id>``.

        ``options.limit`` bounds each split. Raises UsageError for an unknown part, and DataError
        when the data are not available.
        """
        self.check_parts(options.parts)
        pins: dict[str, Pin] = {}
        context, items = prompts.MINI_INSTRUCTIONS, []
        if options.data == "full":
            context = prompts.instructions_from(assets.text_constants(PROMPTS), PROMPTS.name)
            pins[PROMPTS.name] = assets.data_pin(assets.find(PROMPTS))
        for split in SPLITS:
            name = asset_name(options.mixeval_version, self.key(options.parts), split)
            records, split_pins = data_rows(options.data, ASSETS[name], _MINI[split])
            pins |= split_pins
            for number, record in enumerate(records[: options.limit], 1):
                where = f"{next(iter(split_pins))} row {number}"
                item = prompts.checked_item(record, where)
                if prompts.SPLIT_OF_PROBLEM_TYPE[item["problem_type"]] != split:
                    raise DataError(f"{where}: a {item['problem_type']} item among the {split} ones")
                items.append(Item(f"{split}/{item['id']}", item))
        return Loaded(items, pins, context)

    def row(self, item: Item, loaded: Loaded) -> Row:
        return prompts.item_row(item.data, prompts.formatted_prompt(item.data, loaded.context))

    async def answer(self, item: Item, loaded: Loaded, model: Chat, options: MixEvalOptions) -> Draw:
        """Ask one item as a single user message, sampled as the checkpoint's generation_config says."""
        seed = derive_seed(options.seed, self.name, item.id)
        tokens = ANSWER_TOKENS[options.data]
        sampling = Sampling(max_new_tokens=tokens, temperature=None, top_p=None, top_k=None, seed=seed)
        return draw_of([await model.chat(self.row(item, loaded).prompt or (), sampling)])

    async def judge(self, item: Item, draw: Draw, loaded: Any, judge: Chat, options: MixEvalOptions) -> list[Verdict]:  # noqa: ARG002
        """Let the judge rate a free-form answer (0..1) or name the option that an answer settles on.

        The judge sees neither the context nor, for multiple choice, the right option.
        """
        reply, data = draw.turns[0], item.data
        if reply.text is None:
            return [Verdict(unscored=no_answer(reply.unscored))]
        sampling = Sampling(max_new_tokens=JUDGMENT_TOKENS[options.data], temperature=0.0)
        if data["problem_type"] == "free-form":
            messages = extraction.free_form_judge_messages(data["prompt"], data["target"], reply.text)
            lead_in, choices = extraction.SCORE_LEAD_IN, extraction.SCORE_CHOICES
        else:
            messages = extraction.option_judge_messages(data["prompt"], data["options"], reply.text)
            lead_in, choices = extraction.OPTION_LEAD_IN, extraction.option_choices(len(data["options"]))
        parse = partial(parse_judgment, facts=data, as_published=options.as_published)
        return [verdict_of(await reason_then_choose(judge, messages, sampling, parse, lead_in, choices))]

    def mark(self, row: Row, header: Header) -> Row:
        answer = answer_of(row)
        if answer is None:
            return marked(row, score=None)
        if _parser(header) == "rule":
            return marked_by_rule(row, answer)
        return marked_by_judge(row, as_published=bool(header.options.get("as_published")))

    def score(self, header: Header, rows: Sequence[Row]) -> Scores:
        return scores_of(rows, _parser(header), as_published=bool(header.options.get("as_published")))

    def context_of(self, row: Row) -> str:
        return prompts.context_of(row.facts)

    def has_right_answer(self, row: Row, header: Header) -> bool:
        return "options" in row.facts or _parser(header) == "rule"

    def vote(self, row: Row, header: Header, repeat: int) -> str | None:
        """Return the letter that an answer settles on, "" for none; None for a free-form answer."""
        if "options" not in row.facts:
            return None
        one = with_one_draw(row, repeat)
        if _parser(header) == "judge":
            return str(verdict_on(one).value or "")
        choice = extraction.parse_choice_by_rule(answer_of(one) or "", row.facts["options"])
        return "" if isinstance(choice, Unscored) else choice.letter

    def question_page(self, row: Row, header: Header) -> dict[str, Any]:  # noqa: ARG002
        facts, context = row.facts, prompts.context_of(row.facts)
        right = facts["target"]
        if "options" in facts:
            right = [f"{prompts.right_letter(facts)}. {facts['options'][right[0]]}"]
        options = list(facts.get("options", ()))
        return {
            "category": facts["benchmark_name"],
            "fields": [["context", context]] if context else [],
            "messages": [facts["prompt"]],
            "options": options,
            "right": facts["target"][0] if options else None,
            "reference": list(right),
        }

    def answer_page(self, row: Row, header: Header) -> dict[str, Any]:
        is_unread = row.verdicts and _parser(header) == "rule"
        return super().answer_page(replaced(row, verdicts=()) if is_unread else row, header)

    def protocol(self, options: Mapping[str, Any], scores: Mapping[str, Any]) -> Mapping[str, str | int | float]:
        parser = scores.get("parser") or options.get("mixeval_parser")
        return super().protocol({**options, "mixeval_parser": parser}, scores)

    def read_peer(self, path: Path, options: MixEvalOptions, model: str | None = None) -> Recorded:  # noqa: ARG002
        """Read MixEval's response or judged files; they name neither model nor judge nor the version of the data."""
        files, parser = read_files(path, options.mixeval_parser)
        rows = rows_of(files, parser)
        recorded = {**options.model_dump(mode="json"), "mixeval_parser": parser, "mixeval_version": None}
        judges = {"": JudgeRef()} if parser == "judge" else {}
        return Recorded(Header(self.key(options.parts), len(rows), options=recorded, judges=judges), rows)

    def write_peer(self, header: Header, rows: Sequence[Row], folder: Path, *, model: str, judge: str | None) -> None:  # noqa: ARG002
        write_files(rows, folder)

    def copy_peer(self, source: Path, header: Header, folder: Path, model: str) -> None:  # noqa: ARG002
        files, _ = read_files(source, _parser(header))
        copy_rows(folder, [f"{file.split}.jsonl" for file in files], [file.rows for file in files])

    def peer_folders(self, folder: Path, key: str) -> Path | None:
        """Return the folder of a key; the figures of MixEval-Hard alone may have their files in the other's folder."""
        path = super().peer_folders(folder, key)
        if path is not None or key == self.name:
            return path
        scores = folder / "scores.json"
        is_shared = scores.is_file() and self.name not in (read_json(scores).get("suites") or {})
        return super().peer_folders(folder, self.name) if is_shared else None

    def checked_items(self, name: str, data: DataKind) -> CheckedItems:
        """Return context and question of the items of MixEval or MixEval-Hard, which has no mini data."""
        pinned = [ASSETS[asset_name(_CHECKED_VERSION, name, split)] for split in SPLITS]
        records, pins = local_rows(data, pinned, list(_MINI.values()) if name == self.name else [])
        return CheckedItems([_checked(name, record) for record in records], pins)


def _parser(header: Header) -> str:
    return header.options.get("mixeval_parser") or "judge"


def _checked(name: str, item: Mapping[str, Any]) -> CheckedItem:
    question = "\n".join(text for text in (item.get("context"), item["prompt"]) if text)
    return CheckedItem(name, f"{item['problem_type']}/{item['id']}", (question,), tuple(item.get("options") or ()))
