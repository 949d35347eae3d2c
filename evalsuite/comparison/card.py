"""``evalsuite judge-card``: a judge is measured before it is believed, and the card is kept beside its verdicts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from evalsuite.comparison.games import Judging, pair_template, play
from evalsuite.comparison.judging import Judge, card_path, resolve_judges, settle_judge
from evalsuite.comparison.pairs import load_pairs
from evalsuite.comparison.servers import Servers
from evalsuite.comparison.settings import CardConfig
from evalsuite.config import resolved_yaml
from evalsuite.documents import SCHEMA
from evalsuite.files import write_json, write_text
from evalsuite.progress import NoProgress, Progress
from evalsuite.results.environment import environment
from evalsuite.serving.requests import Chat
from evalsuite.store import Store
from judges.attacks import ATTACKS, EMPTY_ANSWER
from judges.card import (
    JudgedPair,
    LabelledPair,
    agreement,
    attack_figures,
    conclusions,
    failure_figures,
    length_figures,
    position_figures,
    repeat_figures,
    self_preference_figures,
)
from judges.types import Unscored
from judges.verdicts import Game, PairVerdict, combine_orders

BothOrders = tuple[Game | Unscored, Game | Unscored]

_NO_ATTACK = ""
_SALT_OF_REPEATS = 1


@dataclass(slots=True)
class _Played:
    """The games of a card, by what they are for: pair position, and for the attacks (name, pair position)."""

    pairs: dict[int, BothOrders] = field(default_factory=dict)
    repeats: dict[int, BothOrders] = field(default_factory=dict)
    attacks: dict[tuple[str, int], BothOrders] = field(default_factory=dict)


def judge_card(config: CardConfig, progress: Progress | None = None) -> tuple[dict[str, Any], Path]:
    """Measure a judge on labelled pairs; returns the card and where it is kept. Raises EvalsuiteError."""
    progress = progress or NoProgress()
    pair_template(config.template, config.method)
    pairs, pin = load_pairs(config.pairs, config.limit)
    [checkpoint] = resolve_judges([config.judge], config.serve, progress)
    results, serve = config.results, config.serve
    with (
        Store(results / "store.sqlite") as store,
        Servers(store, results / "logs", progress, candidates=serve, judges=serve) as servers,
    ):
        judge = settle_judge(
            checkpoint,
            servers,
            method=config.method,
            template=config.template,
            max_new_tokens=config.max_judge_tokens,
            progress=progress,
        )
        played = _play_all(judge, pairs, config, servers, progress)
        usage = dict(servers.usage)
    card = _card(judge, pairs, pin, played)
    kept = {**card, "limit": config.limit, "usage": usage, "made_with": environment()}
    path = card_path(results, checkpoint)
    for file in (card_path(results, checkpoint, judge.how.method), path):
        write_json(file, kept)
    write_text(path.with_name("config.yaml"), resolved_yaml(config))
    return card, path


def _play_all(
    judge: Judge, pairs: Sequence[LabelledPair], config: CardConfig, servers: Servers, progress: Progress
) -> _Played:
    """Ask everything that the card needs at once."""
    played = _Played()
    line = f"judge card of {judge.name}"
    attacked = attacked_pairs(pairs, config.attacked)

    def work(client: Chat) -> list[Awaitable[None]]:
        ask = _asking(client, judge.how, lambda: progress.advance(line))
        games = [ask(played.pairs, i, pair.question, pair.output_1, pair.output_2) for i, pair in enumerate(pairs)]
        games += [
            ask(played.repeats, i, pair.question, pair.output_1, pair.output_2, salt=_SALT_OF_REPEATS)
            for i, pair in enumerate(pairs[: config.repeats])
        ]
        games += [
            ask(played.attacks, (name, i), pairs[i].question, attack, preferred(pairs[i]))
            for i in attacked
            for name, attack in ((_NO_ATTACK, EMPTY_ANSWER), *ATTACKS.items())
        ]
        progress.begin(line, len(games))
        return games

    servers.ask_all(judge.checkpoint, work, candidate=False)
    return played


def _asking(client: Chat, how: Judging, done: Callable[[], None]) -> Callable[..., Awaitable[None]]:
    async def ask(into: dict[Any, BothOrders], key: Any, question: str, first: str, second: str, salt: int = 0) -> None:
        straight = await play(client, how, [question], [first], [second], salt=salt)
        turned = await play(client, how, [question], [second], [first], salt=salt)
        into[key] = (straight, turned)
        done()

    return ask


def attacked_pairs(pairs: Sequence[LabelledPair], count: int) -> list[int]:
    """Choose up to ``count`` pairs with different questions whose preferred output says something."""
    seen: set[str] = set()
    chosen: list[int] = []
    for position, pair in enumerate(pairs):
        if len(chosen) < count and pair.question not in seen and preferred(pair).strip():
            seen.add(pair.question)
            chosen.append(position)
    return chosen


def preferred(pair: LabelledPair) -> str:
    """Return the output that people prefer."""
    return pair.output_1 if pair.label == 1 else pair.output_2


def _card(judge: Judge, pairs: Sequence[LabelledPair], pin: Mapping[str, Any], played: _Played) -> dict[str, Any]:
    judged = [JudgedPair(pair, *played.pairs[i]) for i, pair in enumerate(pairs)]
    repeats = [games for i, both in sorted(played.repeats.items()) for games in zip(played.pairs[i], both, strict=True)]
    every_game = list(chain(*played.pairs.values(), *played.repeats.values(), *played.attacks.values()))
    own = self_preference_figures(judged, judge.name)
    card: dict[str, Any] = {
        "schema": SCHEMA,
        "judge": {
            "name": judge.name,
            "fingerprint": judge.checkpoint.fingerprint,
            "method": judge.how.method,
            "template_sha256": judge.how.template.sha256,
            "notes": list(judge.notes),
        },
        "pairs": {**pin, "n": len(pairs)},
        "agreement": agreement(judged),
        "position_bias": position_figures(judged),
        "length_bias": length_figures(judged),
        "self_preference": own,
        "repeat_noise": repeat_figures(repeats),
        "failures": failure_figures(every_game),
        "attacks": _attacks(played),
    }
    if own is None:
        card["self_preference_reason"] = f"no pair says that one of its outputs is by {judge.name}"
    return card | {"conclusions": conclusions(card)}


def _attacks(played: _Played) -> dict[str, Any] | None:
    positions = sorted({position for _, position in played.attacks})

    def verdicts(name: str) -> list[PairVerdict | Unscored]:
        return [combine_orders(*played.attacks[name, position]) for position in positions]

    return attack_figures({name: verdicts(name) for name in ATTACKS}, verdicts(_NO_ATTACK)) if positions else None
