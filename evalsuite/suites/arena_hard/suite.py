"""Arena-Hard: hard prompts, each answer compared with a baseline's in two games, and style control beside the raw rate.

The protocol is that of lmarena/arena-hard-auto@196f6b8. Deviations by default, each undone by ``as_published``: the
interval is over prompts instead of games; the figure with style control is that of equal style (the original centres
its features, which for one model leaves its average style in the figure). A judgment without a label is completed under
guided output. ``arena_hard_verdict=logprobs`` is ours and cheaper: the judge's probabilities of A and B, no words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from evalsuite.errors import UsageError
from evalsuite.fingerprint import text_sha256
from evalsuite.records.rows import Draw, Header, Order, Row, Verdict
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.requests import Chat, Sampling, derive_seed
from evalsuite.suites import figures
from evalsuite.suites.arena_hard import peer
from evalsuite.suites.arena_hard.assets import (
    ASSETS,
    CREATIVE,
    HARD,
    MINI,
    V01,
    V2,
    JudgePrompts,
    items_of,
    published_prompts,
    question_asset,
    version_of,
)
from evalsuite.suites.arena_hard.scores import score_rows
from evalsuite.suites.base import Suite, draw_of, judged_rows, no_answer
from evalsuite.suites.figures import Column, Figure, Line, ReportPart, scored_figure
from evalsuite.suites.games import ORDERS, game_lines, mark_games, panel_value, play_game, play_pair, style_figure
from evalsuite.suites.local_rows import local_rows
from evalsuite.suites.options import DataKind, SuiteOptions
from evalsuite.suites.peer_files import copy_rows
from evalsuite.suites.sampling import evenly
from evalsuite.suites.types import CheckedItem, CheckedItems, Item, Loaded, Recorded, Scores
from judges.arena import game_messages, own_game_messages
from judges.templates import judge_template
from judges.types import Message, Unscored
from judges.verdicts import TEMPLATES, Request, comparison_prompt, key_of

ANSWER_TOKENS: Mapping[DataKind, int] = {"full": 4096, "mini": 96}
JUDGMENT_TOKENS: Mapping[DataKind, Mapping[str, int]] = {
    "full": {V2: 16_000, V01: 4096},
    "mini": dict.fromkeys((V2, V01), 128),
}
"""The full figures are those of config/; the mini ones keep a demo short."""

_SIZES = {HARD: 500, CREATIVE: 250}
_KEYS = {V2: "arena_hard", V01: "arena_hard_v0_1"}


class ArenaHardOptions(SuiteOptions):
    """Arena-Hard's options."""

    arena_hard_verdict: Literal["label", "logprobs"] = "label"
    """How Arena-Hard's judge decides: label (it reasons and gives one of five labels) or logprobs (evalsuite's own,
    cheaper)."""


class ArenaHard(Suite):
    """The suite ``arena_hard``: version 2.0, or 0.1 with the part ``v0.1``. A row's part is its category in 2.0."""

    name = "arena_hard"
    title = "Arena-Hard v2.0"
    titles: ClassVar = {_KEYS[V2]: "Arena-Hard v2.0", _KEYS[V01]: "Arena-Hard v0.1"}
    parts = (V2, V01)
    part_titles: ClassVar = {HARD: "hard prompts", CREATIVE: "creative writing"}
    order = 25
    judge_method = "arena_hard_two_games"
    judge_explains = True
    options_type = ArenaHardOptions
    scoring_options = frozenset({"as_published", "arena_hard_verdict"})
    # An answer of 4,096 tokens; for the judge two of them and its own words.
    answer_context = 5_120
    judge_context = 16_384
    assets = ASSETS
    scale = (0, 100)
    digits = (2, 2)
    protocol_titles: ClassVar = {
        "as_published": "as published",
        "arena_hard_verdict": "verdict by",
        "judge_prompt": "judge prompt",
    }
    checked_names = tuple(titles)

    def key(self, parts: Sequence[str]) -> str:
        return _KEYS[version_of(parts)]

    def check_parts(self, parts: Sequence[str]) -> None:
        super().check_parts(parts)
        if len(set(parts)) > 1:
            raise UsageError(f"{self.name}:{','.join(parts)} is two benchmarks; give --suite twice")

    def n_items(self, parts: Sequence[str], data: DataKind, limit: int | None) -> int:
        sizes = (3, 1) if data == "mini" else tuple(_SIZES.values()) if version_of(parts) == V2 else (500,)
        return sum(min(size, limit or size) for size in sizes)

    def load(self, options: ArenaHardOptions) -> Loaded:
        """Read questions and the baselines' answers; raises DataError when they are not available.

        ``limit`` takes N questions of a category at equal distances. Creative writing is ``missing`` where its
        baseline's answers are not there.
        """
        self.check_parts(options.parts)
        version = version_of(options.parts)
        (rows, pins), missing = items_of(version, options.data)
        prompts, prompt_pins = published_prompts() if options.data == "full" else (None, {})
        by_category: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            by_category.setdefault(row["category"], []).append(row)
        items = [Item(row["uid"], row) for same in by_category.values() for row in evenly(same, options.limit)]
        return Loaded(items, {**pins, **prompt_pins}, (version, prompts), missing)

    def row(self, item: Item, loaded: Loaded) -> Row:
        """Return the prompt; facts: ``category`` (topic), ``reference`` and ``baseline`` (its author)."""
        _, prompts = loaded.context
        return item_row(item.data, "published" if prompts is not None else "own")

    async def answer(self, item: Item, loaded: Loaded, model: Chat, options: ArenaHardOptions) -> Draw:  # noqa: ARG002
        """Answer one prompt greedily without a system prompt (config/gen_answer_config.yaml)."""
        seed = derive_seed(options.seed, self.name, item.id)
        sampling = Sampling(max_new_tokens=ANSWER_TOKENS[options.data], temperature=0.0, seed=seed)
        return draw_of([await model.chat([Message("user", item.data["prompt"])], sampling)])

    async def judge(
        self, item: Item, draw: Draw, loaded: Loaded, judge: Chat, options: ArenaHardOptions
    ) -> list[Verdict]:
        """Play both games; a missing answer loses neither, it is unscored."""
        [reply] = draw.turns
        if reply.unscored is not None:
            return [Verdict(order=order, unscored=no_answer(reply.unscored)) for order in ORDERS]
        games = (_play(order, item.data, reply.text or "", loaded.context, judge, options) for order in ORDERS)
        return list(await gather_or_cancel(games))

    def panel_value(self, values: Sequence[tuple[float | str, float]]) -> float | Unscored:
        return panel_value(values)

    def mark(self, row: Row, header: Header) -> Row:  # noqa: ARG002
        return mark_games(row)

    def score(self, header: Header, rows: Sequence[Row]) -> Scores:
        by_label = header.options.get("arena_hard_verdict") != "logprobs"
        prompts = ({row.facts.get("judge_prompt") for row in rows} - {None}) if by_label else {"own"}
        return score_rows(header, rows) | ({"judge_prompt": prompts.pop()} if len(prompts) == 1 else {})

    def columns(self, scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> Sequence[Column]:
        """Return raw and style-controlled rates of both versions; those that no model has can be switched on."""
        columns = []
        for key, title in self.titles.items():
            column = partial(Column, suite=key, top=100.0, digits=2, judged=True, main=bool(scores.get(key)))
            items = f"{key}/{HARD}" if key == self.name else key
            says = "win rate against the baseline; percent"
            columns += [
                column(key, title, says, figure=scored_figure, items=items),
                # The style-controlled figure is not a mean of item marks, so there is nothing to pair.
                column(f"{key}_sc", f"{title} SC", f"{says}, in equal style", figure=style_figure),
            ]
        creative, says = f"{self.name}_{CREATIVE}", "win rate in creative writing; percent"
        items = f"{self.name}/{CREATIVE}"
        has = any(one.get(CREATIVE) for one in scores.get(self.name, ()))
        about = partial(Column, creative, f"{self.title} creative", says, self.name, _creative, 100.0, 2, judged=True)
        columns.append(about(main=has, items=items))
        return columns

    def lines(self, key: str, scores: Mapping[str, Any]) -> Iterable[Line]:
        yield from game_lines(f"{self.titles.get(key, self.title)}, win %", scores)
        if isinstance(creative := scores.get(CREATIVE), Mapping):
            yield from game_lines("  creative writing, win %", creative)
        elif reason := figures.as_object(scores.get("missing")).get(CREATIVE):
            yield Line("  creative writing", figures.DASH, note=str(reason))

    def report_part(self, key: str, part: str) -> ReportPart:
        column = f"{key}_{CREATIVE}" if part == CREATIVE else key
        title = f"{self.titles[key]}, {self.part_titles[part]}" if part in self.part_titles else self.titles[key]
        return ReportPart(title, column, top=100.0, scale=100.0, weight="games")

    def verdict_text(self, verdict: Verdict) -> str | float:
        if isinstance(verdict.value, int | float):
            return f"A with {100 * verdict.value:.1f} %"
        return super().verdict_text(verdict)

    def protocol(self, options: Mapping[str, Any], scores: Mapping[str, Any]) -> Mapping[str, str | int | float]:
        return super().protocol({**options, "judge_prompt": scores.get("judge_prompt")}, scores)

    def recognises(self, first_row: Mapping[str, Any]) -> bool:
        return "uid" in first_row and ("games" in first_row or "messages" in first_row)

    def read_peer(self, path: Path, options: ArenaHardOptions, model: str | None = None) -> Recorded:
        return peer.read_recorded(path, options, model, self.key(options.parts))

    def write_peer(self, header: Header, rows: Sequence[Row], folder: Path, *, model: str, judge: str | None) -> None:  # noqa: ARG002
        peer.write_files(rows, folder, model=model, judge=judge)

    def copy_peer(self, source: Path, header: Header, folder: Path, model: str) -> None:
        files = peer.read_files(source, model, next(iter(header.judges), None))
        copy_rows(folder, (peer.JUDGMENT_FILE, peer.ANSWER_FILE), files)

    def recorded_limit(self, header: Header, rows: Sequence[Row]) -> int | None:  # noqa: ARG002
        """Return the limit of a recorded set whose categories are not whole; one category may be missing."""
        counts = Counter(row.part for row in judged_rows(rows))
        is_whole = all(count >= 0.99 * _SIZES.get(part, 500) for part, count in counts.items())
        return None if is_whole else max(counts.values())

    def checked_items(self, name: str, data: DataKind) -> CheckedItems:
        version = next(version for version, key in _KEYS.items() if key == name)
        rows, pins = local_rows(data, [question_asset(version)], [MINI] if version == V2 else [])
        return CheckedItems([CheckedItem(name, row["uid"], (row["prompt"],)) for row in rows], pins)


def item_row(item: Mapping[str, Any], judge_prompt: str) -> Row:
    """Return the row of a question with its baseline's answer."""
    return Row(
        item["uid"],
        part=item["category"] if item["category"] in (HARD, CREATIVE) else "",
        content=text_sha256(f"{item['prompt']}\x1f{item['baseline_answer']}")[:16],
        prompt=(Message("user", item["prompt"]),),
        facts={
            "category": item["subcategory"],
            "reference": [item["baseline_answer"]],
            "baseline": item["baseline"],
            "judge_prompt": judge_prompt,
        },
    )


async def _play(
    order: Order,
    item: Mapping[str, Any],
    answer: str,
    context: tuple[str, JudgePrompts | None],
    judge: Chat,
    options: ArenaHardOptions,
) -> Verdict:
    """Play one game: "ab" shows the model's answer first, "ba" the baseline's."""
    version, prompts = context
    first, second = (answer, item["baseline_answer"]) if order == "ab" else (item["baseline_answer"], answer)
    if options.arena_hard_verdict == "logprobs":
        return await _by_logprobs(order, item["prompt"], first, second, judge)
    if prompts is None:
        messages = own_game_messages([item["prompt"]], [first], [second])
    else:
        messages = game_messages(prompts.systems[item["category"]], prompts.template, item["prompt"], first, second)
    return await play_game(judge, order, messages, JUDGMENT_TOKENS[options.data][version])


async def _by_logprobs(order: Order, prompt: str, first: str, second: str, judge: Chat) -> Verdict:
    request = Request((prompt,))
    key = key_of(request, [first], [second])
    messages = comparison_prompt(judge_template(TEMPLATES["verdict"]), request, [first], [second], key=key)
    game = await play_pair(judge, "verdict", messages, key, (first, second))
    if isinstance(game, Unscored):
        return Verdict(order=order, unscored=game)
    logprobs = dict(game.logprobs)
    return Verdict(value=game.first, order=order, text=game.text, label_logprobs=logprobs, thought=game.thought)


def _creative(scores: Mapping[str, Any]) -> Figure:
    part = scores.get(CREATIVE)
    if isinstance(part, Mapping):
        return scored_figure(part)
    reason = figures.as_object(scores.get("missing")).get(CREATIVE)
    return Figure(reason=str(reason or "not run"))
