"""A benchmark in a YAML file, as a suite: ``evalsuite run MODEL --suite FILE.yaml``.

The file's content, its data, its judge template, its function's source and its baseline's answers are hashed into the
data pins, so that figures of an edited benchmark are never ranked with older ones.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from evalsuite.assets.asset import Pin
from evalsuite.errors import DataError, UsageError
from evalsuite.fingerprint import text_sha256
from evalsuite.records.rows import Draw, Header, Order, Row, Verdict, replaced
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.requests import Chat, Completion, Sampling, derive_seed
from evalsuite.suites import games
from evalsuite.suites.base import Suite, draw_of, judged_rows, marked, no_answer, scored_values, verdict_on
from evalsuite.suites.figures import Column, Figure, Line, ReportPart, scored_figure
from evalsuite.suites.file import peer
from evalsuite.suites.file.baseline import baseline_answers
from evalsuite.suites.file.definition import Benchmark, rating_template, read_benchmark
from evalsuite.suites.file.options import FileOptions
from evalsuite.suites.file.prompts import items_of, read_prompts, shown_problems
from evalsuite.suites.file.scoring import (
    UserFunction,
    function_sha256,
    load_function,
    score_answer,
    score_by_function,
)
from evalsuite.suites.judging import reason_then_choose, verdict_of
from evalsuite.suites.options import DataKind
from evalsuite.suites.types import CheckedItem, CheckedItems, Item, Loaded, Recorded, Scores
from judges.arena import own_game_messages
from judges.rubric import lead_in, parse_rubric_rating, rating_messages
from judges.types import Message, Unscored, user_texts

METHOD_NAMES: Mapping[str, str] = {"rating": "rubric_rating", "pairwise": "two_games_against_a_baseline"}


class FileSuite(Suite):
    """The suite of one file; :func:`file_suite` gives it its name. ``benchmark`` may be a recorded one without data."""

    name = "benchmark_file"
    title = "a benchmark in a file"
    order = 70
    options_type = FileOptions
    protocol_titles: ClassVar = {"benchmark": "file"}

    def __init__(self, benchmark: Benchmark, sha256: str = "") -> None:
        self.benchmark = benchmark
        self.recorded_sha256 = sha256
        self.marks_slowly = benchmark.method in ("function", "math_verify")
        # What is needed to mark rows and is not in them: protected references, and trusted code.
        self._items: dict[str, Mapping[str, Any]] = {}
        self._baseline: Mapping[str, str] = {}
        self._function: UserFunction | None = None
        self._given: dict[tuple[str, str], float | Unscored] = {}

    @cached_property
    def sha256(self) -> str:
        """The hash of all that decides what a figure means, except data and answers, which have their own pins."""
        if self.recorded_sha256:
            return self.recorded_sha256
        content = self.benchmark.model_dump(mode="json", exclude=set(Benchmark.WITHOUT_CONTENT))
        if content["score"].get("pairwise"):
            del content["score"]["pairwise"]["baseline"]
        if self.benchmark.score.rating is not None:
            content["template"] = rating_template(self.benchmark).sha256
        if self.benchmark.score.function is not None:
            content["function"] = function_sha256(self.benchmark)
        return text_sha256(json.dumps(content, sort_keys=True))

    def load(self, options: FileOptions) -> Loaded:
        """Read the prompts, the baseline and the scorer; raises DataError that names what is wrong with them."""
        benchmark = self.benchmark
        if benchmark.score.function is not None:
            if not options.trust_suite_code:
                raise UsageError(
                    f"{self.name} is scored by {benchmark.score.function}, which is its author's code; "
                    "read it, then pass --trust-suite-code"
                )
            self._function, self._given = load_function(benchmark), {}
        return self.load_prompts(options)

    def load_prompts(self, options: FileOptions) -> Loaded:
        """Read the prompts and the baseline; no code of the file is run."""
        benchmark = self.benchmark
        if not benchmark.prompts:
            raise UsageError(f"{self.name} is known only from its results; give its file FILE.yaml")
        rows, pin = read_prompts(benchmark)
        items, problems = items_of(benchmark, rows)
        baseline, baseline_pin, faults = baseline_answers(benchmark, items)
        if problems + faults:
            raise DataError(f"{benchmark.prompts}: {shown_problems([*problems, *faults])}")
        self._items, self._baseline = {item["id"]: item for item in items}, baseline
        pins = {f"{self.name}/file": Pin(self.sha256, "file", pinned=True), f"{self.name}/prompts": pin} | baseline_pin
        return Loaded([Item(item["id"], item) for item in items[: options.limit]], pins, baseline)

    def row(self, item: Item, loaded: Loaded) -> Row:
        """Return the row; protected prompts, references and baselines stay out of it."""
        data = item.data
        if self.benchmark.protected:
            return Row(item.id, content=data["content"], prompt=None, facts=_kept(category=data["category"]))
        reference = [loaded.context[item.id]] if loaded.context else data["reference"]
        facts = _kept(category=data["category"], reference=reference, options=data["options"])
        return Row(item.id, content=data["content"], prompt=data["prompt"], facts=facts)

    async def answer(self, item: Item, loaded: Loaded, model: Chat, options: FileOptions) -> Draw:  # noqa: ARG002
        """Answer the user's turns one after the other, each with the model's own earlier answers."""
        spec = self.benchmark.sampling
        history: list[Message] = []
        replies: list[Completion | Unscored] = []
        for message in item.data["prompt"]:
            history.append(message)
            if message.role != "user":
                continue
            if replies and isinstance(replies[-1], Unscored):
                replies.append(no_answer(replies[-1]))
                continue
            seed = derive_seed(options.seed, self.name, item.id, len(replies))
            sampling = Sampling(
                spec.max_new_tokens, temperature=spec.temperature, top_p=spec.top_p, seed=seed, stop=spec.stop
            )
            reply = await model.chat(history, sampling)
            replies.append(reply)
            if not isinstance(reply, Unscored):
                history.append(Message("assistant", reply.text))
        return draw_of(replies)

    async def judge(self, item: Item, draw: Draw, loaded: Loaded, judge: Chat, options: FileOptions) -> list[Verdict]:  # noqa: ARG002
        pairwise = self.benchmark.score.pairwise is not None
        lost = next((reply.unscored for reply in draw.turns if reply.unscored is not None), None)
        if lost is not None or not draw.turns:
            orders: Sequence[Order] = games.ORDERS if pairwise else ("",)
            return [Verdict(order=order, unscored=no_answer(lost)) for order in orders]
        answers = [reply.text or "" for reply in draw.turns]
        if pairwise:
            return await self._play(item, answers, loaded.context[item.id], judge)
        return [await self._rate(item, answers, judge)]

    async def _rate(self, item: Item, answers: Sequence[str], judge: Chat) -> Verdict:
        spec = self.benchmark.score.rating
        assert spec is not None
        reference = "\n".join(item.data["reference"])
        questions = user_texts(item.data["prompt"])
        template = rating_template(self.benchmark)
        messages, key = rating_messages(template, spec.rubric, questions, answers, reference)
        sampling = Sampling(spec.max_judge_tokens, temperature=0.0)
        judged = await reason_then_choose(
            judge,
            messages,
            sampling,
            lambda text: parse_rubric_rating(text, key, spec.rubric),
            lead_in(key),
            spec.rubric.choices(),
        )
        return verdict_of(judged)

    async def _play(self, item: Item, answers: Sequence[str], baseline: str, judge: Chat) -> list[Verdict]:
        spec = self.benchmark.score.pairwise
        assert spec is not None
        questions = user_texts(item.data["prompt"])
        reference = "\n".join(item.data["reference"])
        # A baseline has the last answer alone: the turns before it are the model's own.
        shown = {"ab": ([answers[-1]], [baseline]), "ba": ([baseline], [answers[-1]])}

        def play(order: Order) -> Coroutine[Any, Any, Verdict]:
            messages = own_game_messages(questions, *shown[order], criteria=spec.criteria, reference=reference)
            return games.play_game(judge, order, messages, spec.max_judge_tokens)

        return list(await gather_or_cancel(play(order) for order in games.ORDERS))

    def panel_value(self, values: Sequence[tuple[float | str, float]]) -> float | str | Unscored:
        is_game = self.benchmark.method == "pairwise"
        return games.panel_value(values) if is_game else super().panel_value(values)

    def mark(self, row: Row, header: Header) -> Row:  # noqa: ARG002
        """Mark a row: ``score`` on the benchmark's scale; recorded rows keep marks that only its data could give."""
        method = self.benchmark.method
        if method == "pairwise":
            return games.mark_games(row)
        if method == "rating":
            verdict = verdict_on(row)
            value = verdict.value if isinstance(verdict.value, int | float) else None
            return marked(row, [verdict.unscored] if verdict.unscored else [], score=value)
        answer = row.replies[-1].text if row.replies else None
        if answer is None:
            return marked(row, score=None)
        known = self._items.get(row.item_id, {})
        if method == "function":
            if self._function is None:
                return row
            # Once per answer: what is recorded of an item is what is counted, whatever the function does.
            if (key := (row.item_id, answer)) not in self._given:
                data, prompt = known.get("row", {}), "".join(user_texts(known.get("prompt", ()))[-1:])
                self._given[key] = score_by_function(self._function, prompt, answer, data)
            given = self._given[key]
            return marked(row, [given], score=None) if isinstance(given, Unscored) else marked(row, score=given)
        references = row.facts.get("reference") or known.get("reference") or []
        if not references and method != "regex":
            return row
        options = row.facts.get("options") or known.get("options") or []
        return marked(row, score=score_answer(self.benchmark, answer, references, options))

    def score(self, header: Header, rows: Sequence[Row]) -> Scores:
        """Return the figures: a mean with its interval, or the win rate in percent of two games, and by category."""
        described = self.benchmark.described() | {"sha256": self.sha256}
        if self.benchmark.method == "pairwise":
            judged = [self._with_baseline(row) for row in judged_rows(rows)]
            return games.game_figures(judged) | {"benchmark": described}
        scores = super().score(header, rows)
        rated = [(row.item_id, value) for row in rows for value in scored_values([row])]
        if self.benchmark.method == "rating" and len(rated) > 1:
            from judges.statistics import bootstrap_ci

            interval = bootstrap_ci([value for _, value in rated], [item_id for item_id, _ in rated])
            scores["ci95"] = None if interval is None else list(interval)
        return scores | {"categories": _by_category(rows), "benchmark": described}

    def _with_baseline(self, row: Row) -> Row:
        """Return a protected row with its baseline's answer, which style control compares; others have it."""
        baseline = self._baseline.get(row.item_id)
        return replaced(row, facts={**row.facts, "reference": [baseline]}) if baseline else row

    def columns(self, scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> Sequence[Column]:
        columns = list(super().columns(scores))
        if self.benchmark.method == "pairwise":
            says = "style-controlled win rate against the baseline; percent"
            name, title = f"{self.name}_sc", f"{self.title} SC"
            columns.append(Column(name, title, says, self.name, games.style_figure, 100.0, 2, True))
        for category in sorted({str(one) for own in scores.get(self.name, ()) for one in own.get("categories") or {}}):
            title, says = f"{self.title}, {category}", f"category {category}"

            def figure(own: Mapping[str, Any], category: str = category) -> Figure:
                return scored_figure({"category": (own.get("categories") or {}).get(category)}, "category")

            low_high = (float(self.scale[1]), self.digits[1])
            columns.append(Column(f"{self.name}/{category}", title, says, self.name, figure, *low_high, main=False))
        return columns

    def lines(self, key: str, scores: Mapping[str, Any]) -> Iterable[Line]:
        if self.benchmark.method == "pairwise":
            yield from games.game_lines(f"{self.title}, win %", scores)
        else:
            yield from super().lines(key, scores)

    def report_part(self, key: str, part: str) -> ReportPart:
        shown = super().report_part(key, part)
        return replace(shown, scale=100.0, weight="games") if self.benchmark.method == "pairwise" else shown

    def has_right_answer(self, row: Row, header: Header) -> bool:  # noqa: ARG002
        return self.benchmark.method not in METHOD_NAMES

    def question_page(self, row: Row, header: Header) -> dict[str, Any]:
        page = super().question_page(row, header)
        return page | ({"reference_title": "the baseline's answer"} if self.benchmark.method == "pairwise" else {})

    def protocol(self, options: Mapping[str, Any], scores: Mapping[str, Any]) -> Mapping[str, str | int | float]:  # noqa: ARG002
        described = scores.get("benchmark")
        sha256 = described.get("sha256") if isinstance(described, Mapping) else None
        return {"benchmark": str(sha256)[:8]} if sha256 else {}

    def checked_items(self, name: str, data: DataKind) -> CheckedItems:
        """Return the user's turns of every prompt, of a protected benchmark too: the check quotes none."""
        loaded = self.load_prompts(self.options_type(data=data))
        turns = {item.id: tuple(user_texts(item.data["prompt"])) for item in loaded.items}
        return CheckedItems([CheckedItem(name, item_id, texts) for item_id, texts in turns.items()], loaded.data_pins)

    def read_peer(self, path: Path, options: FileOptions, model: str | None = None) -> Recorded:  # noqa: ARG002
        loaded = self.load(options)
        rows = {item.id: self.row(item, loaded) for item in loaded.items}
        items = {item.id: item.data for item in loaded.items}
        return peer.read_recorded(path, options, self.benchmark, rows, items)

    def write_peer(self, header: Header, rows: Sequence[Row], folder: Path, *, model: str, judge: str | None) -> None:  # noqa: ARG002
        peer.write_answers(rows, folder, model, judge)


def _kept(**facts: Any) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value}


def _by_category(rows: Sequence[Row]) -> dict[str, float]:
    by_category: dict[str, list[float]] = {}
    for row in rows:
        if row.facts.get("category"):
            by_category.setdefault(str(row.facts["category"]), []).extend(scored_values([row]))
    return {category: sum(values) / len(values) for category, values in sorted(by_category.items()) if values}


def file_suite(benchmark: Benchmark, sha256: str = "") -> FileSuite:
    """Return the suite of a benchmark: its own class, since a suite's facts are its class's."""
    rating = benchmark.score.rating
    facts: dict[str, Any] = {
        "__module__": __name__,
        "name": benchmark.name,
        "title": benchmark.title or benchmark.name,
        "judge_method": METHOD_NAMES.get(benchmark.method, ""),
        "judge_explains": benchmark.judged,
        "scale": rating.scale if rating else (0, 100) if benchmark.method == "pairwise" else (0, 1),
        "digits": (2, 2) if benchmark.judged else (4, 3),
        "says": benchmark.method.replace("_", " "),
    }
    kind = type(f"FileSuite_{benchmark.name}", (FileSuite,), facts)
    suite: FileSuite = kind(benchmark, sha256)
    return suite


def suite_in(path: Path) -> FileSuite:
    """Return the suite of a YAML file; raises DataError or UsageError with all that is wrong with it."""
    return file_suite(read_benchmark(path))


def recorded_suite(described: Mapping[str, Any]) -> FileSuite | None:
    """Return the suite of which a scores.json keeps a description, None where it cannot be read."""
    fields = {name: value for name, value in described.items() if name in Benchmark.model_fields}
    try:
        return file_suite(Benchmark(**fields), str(described.get("sha256") or ""))
    except ValueError:
        # Of another version of evalsuite: its figures are named without columns, as those of an unknown suite.
        return None
