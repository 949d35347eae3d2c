"""``evalsuite judge-card``: a judge is measured before it is trusted, and the card is kept beside its verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.comparison.games import asked_form, check_context_is_shown, play
from evalsuite.comparison.judging import Judge, find_judges, settle_judge
from evalsuite.comparison.pairs import BothOrders, load_pairs, read_recorded_verdicts
from evalsuite.comparison.servers import Servers, opened_servers
from evalsuite.comparison.settings import CardConfig
from evalsuite.config import resolved_yaml
from evalsuite.documents import SCHEMA
from evalsuite.files import read_json, read_objects, write_json, write_jsonl, write_text
from evalsuite.progress import NoProgress, Progress
from evalsuite.results.environment import environment
from evalsuite.results.judge_cards import card_path
from evalsuite.serving.requests import Scorer
from evalsuite.store import content_key
from judges.attacks import ATTACKS, EMPTY_ANSWER
from judges.card import (
    JudgedPair,
    LabelledPair,
    agreement,
    attack_figures,
    baseline_figures,
    failure_figures,
    length_figures,
    order_counts,
    position_figures,
    repeat_figures,
    self_preference_figures,
)
from judges.card_checks import conclusions
from judges.panel import paired_difference
from judges.types import Unscored
from judges.verdicts import PairVerdict, Request, combine_orders

RECORDED = "recorded"
"""The method of a card that was made of recorded verdicts."""

_NO_ATTACK = ""
_SALT_OF_REPEATS = 1


@dataclass(slots=True)
class _Played:
    """The games of a card, by what they are for: pair position, and for the attacks (name, pair position)."""

    pairs: dict[int, BothOrders] = field(default_factory=dict)
    repeats: dict[int, BothOrders] = field(default_factory=dict)
    attacks: dict[tuple[str, int], BothOrders] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Card:
    """A judge card, where it is kept, and how many of its games have no verdict."""

    document: dict[str, Any]
    path: Path

    @property
    def n_games(self) -> int:
        return int(self.document["failures"]["n_games"])

    @property
    def n_unscored(self) -> int:
        return sum(self.document["failures"]["unscored"].values())


def judge_card(config: CardConfig, progress: Progress | None = None) -> Card:
    """Measure a judge on labelled pairs, or by its recorded verdicts. Raises EvalsuiteError."""
    progress = progress or NoProgress()
    if config.recorded is not None:
        return _recorded_card(config, config.recorded)
    form, template = asked_form(config)
    pairs, pin, notes = load_pairs(config.pairs, config.limit)
    check_context_is_shown(template, (pair.request for pair in pairs))
    for note in notes:
        progress.log(note)
    [checkpoint] = find_judges(config, progress)
    with opened_servers(config, progress) as servers:
        judge = settle_judge(checkpoint, servers, config, form, progress)
        if config.judge_kind == "reward":
            # A score depends on no key: asked again, it would come from the store.
            config = config.model_copy(update={"judge_repeats": 0})
        played = _play_all(judge, pairs, config, servers)
        usage = dict(servers.usage)
    about = {
        "name": judge.name,
        "fingerprint": judge.checkpoint.fingerprint,
        "method": judge.how.name,
        "template_sha256": judge.how.template_sha256,
        "notes": [*judge.notes, *notes],
    }
    card, judged = _card(about, pairs, pin, played), _judged(pairs, played)
    card["against"] = _against(config, checkpoint.fingerprint, pin, judged)
    kept = {**card, "limit": config.limit, "usage": usage, "made_with": environment()}
    key = _key(judge, pin, config)
    path = card_path(config.results, checkpoint, key)
    for file in (path, card_path(config.results, checkpoint)):
        write_json(file, kept)
    write_jsonl(path.with_name(f"pairs-{key}.jsonl"), map(_pair_row, judged))
    write_text(path.with_name("config.yaml"), resolved_yaml(config))
    return Card(card, path)


def _against(
    config: CardConfig, fingerprint: str, pin: Mapping[str, Any], judged: Sequence[JudgedPair]
) -> list[dict[str, Any]]:
    """Compare the judge with every other one that has a card on the same pairs, pair by pair."""
    rows = [_pair_row(pair) for pair in judged]
    mine = {row["id"]: row["correct"] for row in rows if row["correct"] is not None}
    clusters = {pair.pair.id: pair.pair.cluster for pair in judged}
    found = []
    for path in sorted(config.results.glob("judges/*/card-*.json")):
        card = read_json(path)
        about, pairs = card.get("judge") or {}, card.get("pairs") or {}
        is_same = (pairs.get("sha256"), card.get("limit")) == (pin["sha256"], config.limit)
        file = path.with_name(f"{path.stem.replace('card-', 'pairs-', 1)}.jsonl")
        if not is_same or about.get("fingerprint") == fingerprint or not file.is_file():
            continue
        theirs = {row["id"]: row["correct"] for row in read_objects(file) if row.get("correct") is not None}
        n, difference, interval, p_value = paired_difference(mine, theirs, clusters)
        found.append(
            {
                "judge": about.get("name"),
                "method": about.get("method"),
                "n": n,
                "difference": difference,
                "ci95": interval,
                "p_value": p_value,
            }
        )
    return found


def _key(judge: Judge, pin: Mapping[str, Any], config: CardConfig) -> str:
    """Return what distinguishes the cards of one judge: another method, template, set of pairs or limit is another."""
    how = judge.how
    asked = [how.name, how.template_sha256, how.max_new_tokens, how.long_answers]
    taken = [pin["sha256"], config.limit, config.judge_repeats, config.attacked]
    return f"{how.name.replace(' ', '-')}-{content_key({'how': asked, 'pairs': taken})[:8]}"


def _play_all(judge: Judge, pairs: Sequence[LabelledPair], config: CardConfig, servers: Servers) -> _Played:
    """Ask everything that the card needs at once."""
    played = _Played()
    requests = [pair.request.of(pair.category) for pair in pairs]
    games: list[tuple[dict[Any, BothOrders], Any, Request, Sequence[str], Sequence[str], int]] = [
        (played.pairs, i, requests[i], pair.output_1, pair.output_2, 0) for i, pair in enumerate(pairs)
    ]
    games += [
        (played.repeats, i, requests[i], pair.output_1, pair.output_2, _SALT_OF_REPEATS)
        for i, pair in enumerate(pairs[: config.judge_repeats])
    ]
    games += [
        (played.attacks, (name, i), requests[i], _only(attack, pairs[i]), preferred(pairs[i]), 0)
        for i in attacked_pairs(pairs, config.attacked)
        for name, attack in ((_NO_ATTACK, EMPTY_ANSWER), *ATTACKS.items())
    ]

    async def both_orders(game: tuple[Any, Any, Request, Sequence[str], Sequence[str], int], client: Scorer) -> None:
        into, key, request, first, second, salt = game
        straight = await play(client, judge.how, request, first, second, salt=salt)
        into[key] = (straight, await play(client, judge.how, request, second, first, salt=salt))

    servers.ask_each(judge.checkpoint, f"judge card of {judge.name}", games, both_orders, candidate=False)
    return played


def attacked_pairs(pairs: Sequence[LabelledPair], count: int) -> list[int]:
    """Choose up to ``count`` pairs with different questions whose preferred output says something."""
    seen: set[str] = set()
    chosen: list[int] = []
    for position, pair in enumerate(pairs):
        if len(chosen) < count and pair.cluster not in seen and pair.label and "".join(preferred(pair)).strip():
            seen.add(pair.cluster)
            chosen.append(position)
    return chosen


def preferred(pair: LabelledPair) -> tuple[str, ...]:
    """Return the output that people prefer."""
    return pair.output_1 if pair.label == 1 else pair.output_2


def _only(attack: str, pair: LabelledPair) -> tuple[str, ...]:
    """Return an attack as an output: it is in the last turn, and the turns before are the good answer's."""
    return (*preferred(pair)[:-1], attack)


def _judged(pairs: Sequence[LabelledPair], played: _Played) -> list[JudgedPair]:
    return [JudgedPair(pair, *played.pairs[i]) for i, pair in enumerate(pairs)]


def _pair_row(judged: JudgedPair) -> dict[str, Any]:
    """Return the row of one pair, without its texts: the label, the verdict, and both games."""
    pair, verdict = judged.pair, judged.verdict
    scored = isinstance(verdict, PairVerdict)
    return {
        "id": pair.id,
        "category": pair.category,
        "label": pair.label,
        "choice": judged.choice,
        "correct": judged.credit(pair.label) if scored and pair.label else None,
        "longer": pair.longer,
        "verdict": asdict(verdict),
        "games": [asdict(game) for game in (judged.original, judged.swapped)],
    }


def _recorded_card(config: CardConfig, path: Path) -> Card:
    """Make the card of a judge whose verdicts others recorded; it is kept beside the judges that were asked."""
    pairs, games, pin = read_recorded_verdicts(path)
    if config.limit is not None:
        pairs, games = pairs[: config.limit], games[: config.limit]
    name = config.judge
    about: dict[str, Any] = {
        "name": name,
        "fingerprint": None,
        "method": RECORDED,
        "template_sha256": None,
        "notes": [],
    }
    played = _Played(pairs=dict(enumerate(games)))
    card = _card(about, pairs, pin, played) | {"orders": order_counts(_judged(pairs, played))}
    slug = Checkpoint(f"{name}-{RECORDED}", None, pin["sha256"]).slug
    target = config.results / "judges" / slug / "card.json"
    write_json(target, {**card, "limit": config.limit, "made_with": environment()})
    return Card(card, target)


def _card(
    about: Mapping[str, Any], pairs: Sequence[LabelledPair], pin: Mapping[str, Any], played: _Played
) -> dict[str, Any]:
    judged = _judged(pairs, played)
    repeats = [
        (games, pairs[i].cluster)
        for i, both in sorted(played.repeats.items())
        for games in zip(played.pairs[i], both, strict=True)
    ]
    every_game = list(chain(*played.pairs.values(), *played.repeats.values(), *played.attacks.values()))
    card: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "pairs",
        "judge": dict(about),
        "pairs": {**pin, "n": len(pairs)},
        "agreement": agreement(judged),
        "baselines": baseline_figures(judged),
        "position_bias": position_figures(judged),
        "length_bias": length_figures(judged),
        "self_preference": self_preference_figures(judged, about["name"]),
        "repeat_noise": repeat_figures([games for games, _ in repeats], [cluster for _, cluster in repeats]),
        "failures": failure_figures(every_game),
        "attacks": _attacks(played),
    }
    if card["self_preference"] is None:
        card["self_preference_reason"] = f"no pair names {about['name']} as the author of an output"
    return card | {"conclusions": conclusions(card)}


def _attacks(played: _Played) -> dict[str, Any] | None:
    positions = sorted({position for _, position in played.attacks})

    def verdicts(name: str) -> list[PairVerdict | Unscored]:
        return [combine_orders(*played.attacks[name, position]) for position in positions]

    return attack_figures({name: verdicts(name) for name in ATTACKS}, verdicts(_NO_ATTACK)) if positions else None
