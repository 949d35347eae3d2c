"""What a suite is: one class that owns everything about a benchmark.

The core is small: ``load`` the items, make the ``row`` of one, ``answer`` it and ``mark`` it (CONTRIBUTING.md shows a
whole suite). Everything else has a default that a benchmark overrides where it differs. A suite never starts servers,
never touches the store and never loops over items. A suite in your own package is found through the entry point
group ``evalsuite.suites``.
"""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from evalsuite.errors import UsageError, unknown
from evalsuite.records.rows import Draw, Header, Reply, Row, Verdict, replaced
from evalsuite.serving.requests import Chat, Completion
from evalsuite.suites import figures
from evalsuite.suites.figures import Column, Line, ReportPart, doubt, scored_figure
from evalsuite.suites.options import DataKind, SuiteOptions
from evalsuite.suites.types import CheckedItem, CheckedItems, Item, Loaded, OnProgress, Pins, Recorded, Scores, WholeRun
from judges.types import Unscored, user_texts

if TYPE_CHECKING:
    import asyncio

    from evalsuite.serving.sampler import Sampler


class Suite(abc.ABC):
    """A benchmark. Subclasses set ``name`` and ``title`` and implement ``load``, ``row``, ``answer`` and ``mark``."""

    name: ClassVar[str]
    """The name on the command line, and the key in scores.json where there are no others."""
    title: ClassVar[str]
    """The name in tables."""
    also: ClassVar[str] = ""
    """Another name on the command line, ``NAME:MODE``, of a suite that is another suite's items in another mode."""
    parts: ClassVar[tuple[str, ...]] = ()
    """The parts that may be asked for by ``name:part``."""
    titles: ClassVar[Mapping[str, str]] = {}
    """The keys in scores.json and their titles, where a part is a benchmark of its own (mixeval, mixeval_hard)."""
    part_titles: ClassVar[Mapping[str, str]] = {}
    """How the report names the parts of the rows, where they have names of their own."""
    in_default: ClassVar[bool] = False
    """Whether ``run`` without --suite runs it."""
    order: ClassVar[int] = 100
    """Its position in tables: lower first; ties by name."""
    judge_method: ClassVar[str] = ""
    """What is in scores.json under judge.methods; "" for a suite that no judge is needed for."""
    options_type: ClassVar[type[SuiteOptions]] = SuiteOptions
    """Its options: SuiteOptions, or a subclass with options of its own."""
    scoring_options: ClassVar[frozenset[str]] = frozenset({"as_published"})
    """Options that change figures and no answers: the answers of an earlier run are scored again."""
    whole: ClassVar[bool] = False
    """Whether it runs as a whole on the main thread (``run_whole``), by tokens, instead of item by item."""
    marks_slowly: bool = False
    """Whether marking a row may take seconds or runs a user's code: it is done once, after the last answer."""
    notes_on_thinking: ClassVar[Mapping[str, str]] = {}
    """A note for models that think before they answer, by part, if its figures have to be read differently then."""
    needs_chat: ClassVar[bool] = True
    """Whether its items are conversations, so that a model without a chat template cannot be asked."""
    n_turns: ClassVar[int] = 1
    """User turns of each item."""
    sizes: ClassVar[Mapping[str, int]] = {}
    """The number of items of the full and of the mini data; {} where unknown."""
    judge_explains: ClassVar[bool] = False
    """Whether its judge gives reasons in words, which the analysis of keywords reads."""
    pins_by_part: ClassVar[bool] = False
    """Whether its data are one pin per part, so that other pins are other parts and not other data."""
    answer_context: ClassVar[int] = 0
    """Tokens of context below which prompts of the full data may not fit with their answers; 0 where unknown."""
    judge_context: ClassVar[int] = 0
    """The same for its judge."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Optional packages that its figures need, by the names they are imported by (``evalsuite.packages``)."""
    assets: ClassVar[Mapping[str, Any]] = {}
    """Its pinned data (``evalsuite.assets.Asset``) by name, for ``evalsuite data``."""
    says: ClassVar[str] = ""
    """What its score is, beside its scale."""
    scale: ClassVar[tuple[int, int]] = (0, 1)
    """The worst and the best score."""
    digits: ClassVar[tuple[int, int]] = (4, 3)
    """Digits of a score in a terminal, and in the report and of intervals."""
    other_scores: ClassVar[Mapping[str, str]] = {}
    """Further figures of its object on the same scale: field -> its title. "uncertainty" has their errors by field."""
    in_averages: ClassVar[Mapping[str, tuple[str, float]]] = {}
    """The averages (``results.averages``) that its object enters: average -> (field, best value)."""
    protocol_titles: ClassVar[Mapping[str, str]] = {"as_published": "as published"}
    """The settings that keep figures apart, and how a tab names them; data and limit are told apart for all."""
    peer_fields: ClassVar[Sequence[Set[str]]] = ()
    """The fields, all of one of these, by which a row of a file that ``read_peer`` reads is recognised."""
    checked_names: ClassVar[tuple[str, ...]] = ()
    """The names under which the contamination check counts; () for the suite's name."""

    def key(self, parts: Sequence[str]) -> str:  # noqa: ARG002
        """Return the key of these parts in scores.json."""
        return self.name

    def n_items(self, parts: Sequence[str], data: DataKind, limit: int | None) -> int | None:  # noqa: ARG002
        """Return how many answers are asked of a model, without loading any data; None where unknown."""
        return self.n_turns * min(self.sizes[data], limit or self.sizes[data]) if self.sizes else None

    def needs_judge(self, options: SuiteOptions) -> bool:  # noqa: ARG002
        return bool(self.judge_method)

    def resolve_options(self, options: Mapping[str, Any], *, has_judge: bool) -> Mapping[str, Any]:  # noqa: ARG002
        """Resolve options that depend on the run, such as a parser that is the judge where there is one."""
        return options

    def check_parts(self, parts: Sequence[str]) -> None:
        """Raise UsageError for a part that the suite does not have."""
        for part in parts:
            if part not in self.parts:
                known = unknown(f"part of {self.name}", part, self.parts)
                raise UsageError(known if self.parts else f"{self.name} has no parts; drop ':{part}'")

    def expanded(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        """Return the parts that the requested names mean; a suite with names for several parts overrides it."""
        return parts

    @abc.abstractmethod
    def load(self, options: Any) -> Any:
        """Read the items; raises DataError where they are not available."""

    def load_prompts(self, options: Any) -> Loaded:
        """Read the items for uses other than scoring; a suite whose scorer needs more overrides it."""
        loaded: Loaded = self.load(options)
        return loaded

    def data_pins(self, options: Any) -> Pins:
        """Return the pins of the data alone; a suite that loads slowly overrides it."""
        pins: Pins = self.load(options).data_pins
        return pins

    def absent_data(self, options: Any) -> Mapping[str, str]:  # noqa: ARG002
        """Return the parts that ``data_pins`` leaves out, with the reason; for a suite that runs without some."""
        return {}

    def row(self, item: Item, loaded: Loaded) -> Row:
        """Return the row of an item before anything was answered: its prompt and its facts."""
        raise NotImplementedError(f"{type(self).__name__} has no method row")

    async def answer(self, item: Item, loaded: Any, model: Chat, options: Any) -> Draw:
        """Answer one item; an Unscored reply where the model failed."""
        raise NotImplementedError(f"{type(self).__name__} has no method answer")

    async def judge(self, item: Item, draw: Draw, loaded: Any, judge: Chat, options: Any) -> Sequence[Verdict]:
        """Judge one draw; verdicts hold an Unscored where the judge failed. The run fills in who judged which draw."""
        raise NotImplementedError(f"{type(self).__name__} has no method judge")

    def sampled_tasks(self, loaded: Any, sampler: Sampler) -> Sequence[bool]:  # noqa: ARG002
        """Say of each task of a ``whole`` suite whether its answers are sampled, so that repeats may differ."""
        return ()

    def run_whole(
        self, loaded: Any, server: Any, loop: asyncio.AbstractEventLoop, options: Any, on_progress: OnProgress | None
    ) -> WholeRun:
        """Run everything at once on the main thread, ``loop`` running in another; for ``whole`` suites."""
        raise NotImplementedError(f"{type(self).__name__} has no method run_whole")

    def panel_value(self, values: Sequence[tuple[float | str, float]]) -> float | str | Unscored:
        """Combine the judges' values, given as (value, weight): the mean of numbers, else the majority."""
        # Every command loads the suites for their options; numpy would double what that takes.
        from judges.panel import majority, weighted_mean

        numbers = [(float(value), weight) for value, weight in values if isinstance(value, int | float)]
        if len(numbers) == len(values):
            return weighted_mean(numbers)
        named = majority([(str(value), weight) for value, weight in values])
        return Unscored("no_majority") if named is None else named

    def mark(self, row: Row, header: Header) -> Row:
        """Return the row with its marks, from its draws and the verdicts of one judge."""
        raise NotImplementedError(f"{type(self).__name__} has no method mark")

    def score(self, header: Header, rows: Sequence[Row]) -> Scores:  # noqa: ARG002
        """Compute the suite's object of scores.json from marked rows.

        The default is the mean of the metric "score": {"score", "stderr", "ci95", "n", "n_scored", "unscored"}.
        """
        values = scored_values(rows)
        return {"score": mean(values), **doubt(rows, self.context_of), "n": len(rows), "n_scored": len(values)} | {
            "unscored": count_unscored(reason for row in rows for reason in row.unscored[:1])
        }

    def averages(self, scores: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, float | None]]:
        """Return what enters each average (``results.averages``) by part; None where a part is not there.

        ``scores`` are all suites' objects by key.
        """
        values = scores.get(self.name) or {}
        return {
            average: {self.name: None if values.get(field) is None else values[field] / best}
            for average, (field, best) in self.in_averages.items()
        }

    def columns(self, scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> Sequence[Column]:  # noqa: ARG002
        """Return the report's columns; ``scores``: all models' objects by key, for columns that follow the data."""
        low, high = self.scale
        says = f"{self.says}; {low} to {high}" if self.says else f"{low} to {high}"
        column = partial(Column, low=float(low), top=float(high), digits=self.digits[1], judged=bool(self.judge_method))
        items = "{}/" if self.part_titles else "{}"
        figure = partial(scored_figure, top=None if low else float(high))
        columns = [
            column(key, title, says, key, figure, main=key == self.name, items=items.format(key))
            for key, title in (self.titles or {self.name: self.title}).items()
        ]
        for field, title in self.other_scores.items():
            names = (f"{self.name}_{field}", f"{self.title} {title}", f"{low} to {high}")
            other = partial(figures.other_figure, key=field, top=None if low else float(high))
            columns.append(column(*names, self.name, other, main=False))
        return columns

    def lines(self, key: str, scores: Mapping[str, Any]) -> Iterable[Line]:
        """Return the lines of a terminal's table for one object of scores.json."""
        (low, high), (digits, interval_digits) = self.scale, self.digits
        title = f"{self.titles.get(key, self.title)} ({low}–{high})"
        yield figures.score_line(title, scores, digits, interval_digits)
        for field, title in self.other_scores.items():
            about = figures.doubt_of(scores, field)
            interval = figures.shown_interval(about.get("ci95"), interval_digits)
            yield Line(f"  {title}", figures.shown(scores.get(field), digits), interval, n=str(about.get("n", "")))

    def report_part(self, key: str, part: str) -> ReportPart:
        """Say how a part of the rows is shown in the report."""
        title = self.titles.get(key, self.title)
        title = f"{title}, {self.part_titles.get(part, part)}" if part else title
        return ReportPart(title, key, top=float(self.scale[1]))

    def context_of(self, row: Row) -> str:
        """Return what an item shares with others (a passage, a story); "" where it stands alone.

        Marks of items that share a context are not independent, and their standard errors are clustered by it.
        """
        context = row.facts.get("context")
        return context if isinstance(context, str) else ""

    def has_right_answer(self, row: Row, header: Header) -> bool:  # noqa: ARG002
        """Whether an item's answers are right or wrong (marks 1 and 0), so that pass@k means something."""
        return False

    def vote(self, row: Row, header: Header, repeat: int) -> str | None:  # noqa: ARG002
        """Return what a draw answers in a form that is equal for equal answers, for maj@k; None for an open answer."""
        return None

    def question_page(self, row: Row, header: Header) -> dict[str, Any]:  # noqa: ARG002
        """Return what a page shows of the item itself.

        Keys, all optional: ``category``, ``messages`` (the user's turns), ``fields`` ([name, text] pairs before
        them), ``options``, ``right`` (the place of the right option), ``reference`` (texts), ``reference_title``,
        ``more`` ([name, text] pairs, folded), ``note``.
        """
        if row.prompt is None:
            return {"note": "protected text: it is not shown"}
        reference, baseline = row.facts.get("reference", ()), row.facts.get("baseline")
        return {
            "category": row.facts.get("category"),
            "messages": user_texts(row.prompt),
            "options": list(row.facts.get("options", ())),
            "reference": [str(text) for text in (reference if isinstance(reference, list | tuple) else [reference])],
            **({"reference_title": f"the baseline's answer ({baseline})"} if baseline else {}),
        }

    def answer_page(self, row: Row, header: Header) -> dict[str, Any]:  # noqa: ARG002
        """Return what a page shows of one model's answer.

        Keys: ``turns``, ``judge`` ({label, mark, text, thought, closed: "guided" or "against" its text}),
        ``extracted`` (what was read from the answer), ``logprobs`` of the judge's labels, ``unscored``.
        """
        page: dict[str, Any] = {"turns": [reply.text or "" for reply in row.replies]}
        if row.verdicts:
            page["judge"] = [
                {
                    "label": (f"turn {verdict.turn}" if self.n_turns > 1 else "judge")
                    + (f", the model is {verdict.order[0].upper()}" if verdict.order else ""),
                    "mark": self.verdict_text(verdict),
                    "text": verdict.text,
                    **({"closed": "against" if verdict.contradicts else "guided"} if verdict.closed_by_guide else {}),
                    **({"thought": verdict.thought} if verdict.thought else {}),
                }
                for verdict in row.verdicts
            ]
            if isinstance(read := row.verdicts[0].value, str):
                page["extracted"] = read
            if logprobs := [[*pair] for verdict in row.verdicts for pair in verdict.label_logprobs.items()]:
                page["logprobs"] = logprobs
        if row.unscored:
            page["unscored"] = ", ".join(dict.fromkeys(one.reason for one in row.unscored))
        return page

    def verdict_text(self, verdict: Verdict) -> str | float:
        """Print a verdict as a page shows it."""
        if verdict.unscored is not None:
            return f"unscored: {verdict.unscored.reason}"
        if self.scale[1] > 1 and isinstance(verdict.value, int | float):
            return f"{verdict.value:g} of {self.scale[1]}"
        return "" if verdict.value is None else verdict.value

    def protocol(self, options: Mapping[str, Any], scores: Mapping[str, Any]) -> Mapping[str, str | int | float]:  # noqa: ARG002
        """Return the settings of ``protocol_titles`` that are known of one object of scores.json."""
        return {key: options[key] for key in self.protocol_titles if isinstance(options.get(key), str | int | float)}

    def protocol_text(self, name: str, value: str | float) -> str:
        """Print one setting of ``protocol`` as a tab shows it: ``parser rule``."""
        shown_value = ("yes" if value else "no") if isinstance(value, bool) else value
        return f"{self.protocol_titles.get(name, name)} {shown_value}"

    def recognises(self, first_row: Mapping[str, Any]) -> bool:
        """Whether ``read_peer`` reads a .json or .jsonl file of rows that begins with this one."""
        return any(fields <= first_row.keys() for fields in self.peer_fields)

    def read_peer(self, path: Path, options: Any, model: str | None = None) -> Recorded:  # noqa: ARG002
        """Read a recorded file or folder in the benchmark's own format; of several models in it, those of ``model``.

        Raises DataError or UsageError, naming the file and the remedy.
        """
        raise UsageError(f"{self.name} reads no recorded files")

    def write_peer(self, header: Header, rows: Sequence[Row], folder: Path, *, model: str, judge: str | None) -> None:  # noqa: B027
        """Write the benchmark's own files into ``folder`` (results/<model>/<key>/)."""

    def joined(self, earlier: Recorded, later: Recorded) -> Recorded | None:  # noqa: ARG002
        """Return two recorded results as one, where the later one adds parts to the earlier; None where it does not.

        Raises UsageError where the parts were measured differently.
        """
        return None

    def copy_peer(self, source: Path, header: Header, folder: Path, model: str) -> None:  # noqa: B027
        """Copy what ``read_peer`` read of a model from ``source`` into ``folder``, with all its fields."""

    def peer_folders(self, folder: Path, key: str) -> Path | None:
        """Return where a results folder of version 0.1 holds this suite's own files; None where it does not."""
        path = folder / key
        return path if path.is_dir() else None

    def recorded_limit(self, header: Header, rows: Sequence[Row]) -> int | None:
        """Return the ``--limit`` that would give so small a recorded set; None for a whole one or an unknown size."""
        whole = self.n_items(header.options.get("parts", ()), "full", None)
        judged = judged_rows(rows)
        if whole is None or sum(len(row.verdicts) or len(row.replies) for row in judged) >= 0.99 * whole:
            return None
        return max(Counter(row.part for row in judged).values(), default=0)

    def score_recorded(self, path: Path, options: Any) -> Scores:
        """Score a recorded file, with no model and no network."""
        recorded = self.read_peer(path, options)
        return self.score(recorded.header, [self.mark(row, recorded.header) for row in recorded.rows])

    def self_check(self, parts: Sequence[str]) -> str:  # noqa: ARG002
        """Try the scorer on answers whose score is known; return what is wrong, "" if nothing."""
        return ""

    def scorer_fault(self, options: Any) -> str:
        """Return what :meth:`self_check` finds; a suite whose options decide which scorers there are overrides it."""
        return self.self_check(options.parts)

    def checked_items(self, name: str, data: DataKind) -> CheckedItems:
        """Return what the contamination check compares under ``name``, one of ``checked_names``.

        Reads data that are on this machine (``suites.local_rows``); raises DataError that says how to get them.
        """
        loaded = self.load_prompts(self.options_type(data=data))
        items = []
        for item in loaded.items:
            row = self.row(item, loaded)
            turns = tuple(user_texts(row.prompt or ()))
            items.append(CheckedItem(name, item.id, turns, tuple(map(str, row.facts.get("options", ())))))
        return CheckedItems(items, loaded.data_pins)


def draw_of(completions: Iterable[Completion | Unscored]) -> Draw:
    """Turn what a server answered to an item's turns into a draw."""
    return Draw(tuple(Reply(unscored=one) if isinstance(one, Unscored) else reply_of(one) for one in completions))


def reply_of(completion: Completion) -> Reply:
    return Reply(
        completion.text,
        thought=completion.thought,
        finish=completion.finish_reason,
        thought_closed=completion.thought_closed,
        thought_short=completion.thought_short,
        prompt_tokens=completion.prompt_tokens,
        thought_tokens=completion.thought_tokens,
        answer_tokens=completion.completion_tokens,
    )


def answer_of(row: Row) -> str | None:
    """Return the first reply's text; None if there is none."""
    return row.replies[0].text if row.replies else None


def marked(row: Row, unscored: Iterable[Unscored] = (), **marks: float | None) -> Row:
    """Return ``row`` with one value per metric; where none is given, the reason is the reply's own."""
    reasons = tuple(unscored)
    if not reasons and any(value is None for value in marks.values()):
        failed = [reply.unscored for draw in row.draws for reply in draw.turns if reply.unscored is not None]
        reasons = tuple(failed[:1]) or (Unscored("no_answer"),)
    return replaced(row, marks={name: (value,) for name, value in marks.items()}, unscored=reasons)


def no_answer(cause: Unscored | None) -> Unscored:
    """Say of a verdict why there was nothing to judge: the answer's own reason, where it is known."""
    if cause is None or cause.reason == "no_answer":
        return cause or Unscored("no_answer")
    return Unscored(cause.reason, f"no answer: {cause.detail}" if cause.detail else "no answer")


def verdict_on(row: Row, turn: int = 1) -> Verdict:
    """Return the verdict on a turn of the first draw; if it was not judged, one whose ``unscored`` says why."""
    verdict = row.verdict(turn)
    if verdict is not None:
        return verdict
    reply = row.replies[turn - 1] if turn <= len(row.replies) else Reply(unscored=Unscored("no_answer"))
    return Verdict(turn=turn, unscored=Unscored("no_judge") if reply.unscored is None else no_answer(reply.unscored))


def judged_rows(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows with verdicts, or all rows if none has any.

    A recorded file may hold more answers than judgments; the unjudged answers do not count in its figures.
    """
    return [row for row in rows if row.verdicts] or rows


def count_unscored(values: Iterable[Any]) -> dict[str, int]:
    """Count the Unscored among ``values`` by reason, in alphabetical order."""
    return dict(sorted(Counter(value.reason for value in values if isinstance(value, Unscored)).items()))


def scored_values(rows: Iterable[Row]) -> list[float]:
    """Return the marks "score" of rows, without the missing ones."""
    return [value for row in rows for value in row.marks.get("score", ()) if value is not None]


def mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
