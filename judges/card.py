"""What a judge is worth: agreement with people, biases, noise and resistance to attack, as figures.

Pure: games in, JSON-ready figures out. A figure that cannot be had is None; a rate lies in [0, 1].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from judges.preference import position_bias
from judges.statistics import (
    NO_SPREAD,
    accuracy,
    bootstrap_ci,
    cohen_kappa,
    cohen_kappa_ci,
    mean_and_stderr,
    proportion_ci,
    sign_test_exact,
    wilson_ci,
)
from judges.types import Unscored
from judges.verdicts import Game, PairVerdict, Winner, combine_orders, winner_of

Figures = dict[str, Any]
Label = Literal[1, 2]

_OUTPUT_OF_SIDE: Mapping[Winner, Label | None] = {"a": 1, "b": 2, "tie": None}

CHANCE = 0.5
SIGNIFICANT = 0.05
POSITION_DOMINATES = 0.5
"""Share of pairs whose verdict turns with the order from which on the order decides more than the answers."""


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two outputs for one input, and which of them people prefer; authors only where known."""

    id: str
    question: str
    output_1: str
    output_2: str
    label: Label
    author_1: str | None = None
    author_2: str | None = None


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """A labelled pair with both orders judged: output 1 first, and output 2 first."""

    pair: LabelledPair
    straight: Game | Unscored
    turned: Game | Unscored

    @property
    def verdict(self) -> PairVerdict | Unscored:
        """Both orders together; side a is output 1."""
        return combine_orders(self.straight, self.turned)

    @property
    def choice(self) -> Label | None:
        """The output on which the mean preference falls; None for a tie or without a verdict."""
        verdict = self.verdict
        if isinstance(verdict, Unscored):
            return None
        return _OUTPUT_OF_SIDE[winner_of(verdict.preference_a)]


def agreement(judged: Sequence[JudgedPair]) -> Figures:
    """Compare the judge with people.

    ``accuracy`` is over the pairs whose mean preference over both orders falls on one side, so that
    a preference for one place cancels out and chance is one half; its interval is Wilson's, and
    ``ci95_by_question`` a bootstrap that draws whole questions, since several pairs may share one.
    ``kappa`` is Cohen's on the same pairs. ``both_orders`` counts the strict verdicts over all
    scored pairs (chance is below one half there), ``single_order`` the games on their own; their
    intervals go by question too.
    """
    decided = [(pair.choice, pair.pair.label) for pair in judged if pair.choice is not None]
    scored = [pair for pair in judged if isinstance(pair.verdict, PairVerdict)]
    figures: Figures = {
        "n": len(judged),
        "n_scored": len(scored),
        "n_decided": len(decided),
        "accuracy": None,
        "ci95": None,
        "ci95_by_question": None,
        "kappa": None,
        "kappa_ci95": None,
        "both_orders": None,
        "single_order": None,
    }
    if decided:
        said, people = [choice for choice, _ in decided], [label for _, label in decided]
        share, interval = accuracy(said, people)
        questions = [pair.pair.question for pair in judged if pair.choice is not None]
        right = [float(choice == label) for choice, label in decided]
        figures |= {
            "accuracy": share,
            "ci95": list(interval),
            "ci95_by_question": _listed(proportion_ci(right, questions)),
            "kappa": cohen_kappa(said, people),
            "kappa_ci95": _listed(cohen_kappa_ci(said, people, questions)),
        }
    if scored:
        figures["both_orders"] = _both_orders(scored)
        figures["single_order"] = _single_order(scored)
    return figures


def _both_orders(scored: Sequence[JudgedPair]) -> Figures:
    verdicts = [(pair.verdict, pair.pair.label) for pair in scored]
    winners = [(_OUTPUT_OF_SIDE[v.winner], people) for v, people in verdicts if isinstance(v, PairVerdict)]
    n, right = len(winners), sum(winner == people for winner, people in winners)
    ties = sum(winner is None for winner, _ in winners)
    return {
        "right": right,
        "wrong": n - right - ties,
        "ties": ties,
        "accuracy": right / n,
        "ci95": _listed(
            proportion_ci(
                [float(winner == people) for winner, people in winners], [pair.pair.question for pair in scored]
            )
        ),
    }


def _single_order(scored: Sequence[JudgedPair]) -> Figures:
    points: list[float] = []
    clusters: list[str] = []
    for pair in scored:
        for game, first in ((pair.straight, 1), (pair.turned, 2)):
            if isinstance(game, Game):
                side = winner_of(game.first)
                is_right = (side == "a") == (pair.pair.label == first)
                points.append(0.5 if side == "tie" else float(is_right))
                clusters.append(pair.pair.question)
    return {
        "accuracy": sum(points) / len(points),
        "ci95": _listed(proportion_ci(points, clusters)),
        "n_games": len(points),
    }


def position_figures(judged: Sequence[JudgedPair]) -> Figures | None:
    """Return the rate at which the first place wins, and how often the verdict turns with the order.

    Over pairs with both orders judged, for a single game would bring the answers' quality into the
    figure; intervals go by question. None without such a pair.
    """
    verdicts = [(verdict, pair) for pair in judged if isinstance(verdict := pair.verdict, PairVerdict)]
    questions = [pair.pair.question for _, pair in verdicts]
    games = [game for _, pair in verdicts for game in (pair.straight, pair.turned)]
    bias = position_bias(games, [question for question in questions for _ in range(2)])
    if bias is None:
        return None
    flips = [float(verdict.position_flip) for verdict, _ in verdicts]
    return {
        "first_rate": bias.first_rate,
        "ci95": _listed(bias.interval),
        "mean_first": bias.mean_first,
        "n_games": bias.n_games,
        "position_flips": int(sum(flips)),
        "flip_rate": sum(flips) / len(flips),
        "flip_rate_ci95": _listed(proportion_ci(flips, questions)),
    }


def length_figures(judged: Sequence[JudgedPair]) -> Figures | None:
    """Compare how often the judge and people prefer the longer output (characters); None without a case.

    Over decided pairs of different lengths; ``difference`` is judge minus people. Intervals go by question.
    """
    cases = [
        (_is_longer(pair.pair, pair.choice), _is_longer(pair.pair, pair.pair.label), pair.pair.question)
        for pair in judged
        if pair.choice is not None and len(pair.pair.output_1) != len(pair.pair.output_2)
    ]
    return _against_people(cases)


def self_preference_figures(judged: Sequence[JudgedPair], judge_name: str) -> Figures | None:
    """Compare how often the judge and people prefer the judge's own output; None where no pair has one."""
    cases = []
    for pair in judged:
        own = [number for number, author in ((1, pair.pair.author_1), (2, pair.pair.author_2)) if author == judge_name]
        if len(own) == 1 and pair.choice is not None:
            cases.append((pair.choice == own[0], pair.pair.label == own[0], pair.pair.question))
    return _against_people(cases)


def _is_longer(pair: LabelledPair, choice: Label) -> bool:
    return (len(pair.output_1) > len(pair.output_2)) == (choice == 1)


def _against_people(cases: Sequence[tuple[bool, bool, str]]) -> Figures | None:
    """Compare (the judge's choice, people's, question)."""
    if not cases:
        return None
    n = len(cases)
    judge, people = sum(judge for judge, _, _ in cases), sum(people for _, people, _ in cases)
    differences = [float(judge) - float(people) for judge, people, _ in cases]
    questions = [question for _, _, question in cases]
    return {
        "n": n,
        "judge_rate": judge / n,
        "judge_ci95": _listed(proportion_ci([float(judge) for judge, _, _ in cases], questions)),
        "people_rate": people / n,
        "difference": (judge - people) / n,
        "difference_ci95": _listed(bootstrap_ci(differences, questions)),
    }


def repeat_figures(repeats: Sequence[tuple[Game | Unscored, Game | Unscored]]) -> Figures | None:
    """Compare the same games asked twice, with nothing changed but the key of the delimiters.

    ``changed`` is the share whose verdict differs, ``mean_abs_difference`` that of the preference
    for the first answer, in [0, 1]. None without a game that was answered twice.
    """
    both = [(a, b) for a, b in repeats if isinstance(a, Game) and isinstance(b, Game)]
    if not both:
        return None
    changed = sum(winner_of(a.first) != winner_of(b.first) for a, b in both)
    return {
        "n": len(both),
        "changed": changed / len(both),
        "ci95": list(wilson_ci(changed, len(both))),
        "mean_abs_difference": sum(abs(a.first - b.first) for a, b in both) / len(both),
    }


def failure_figures(games: Sequence[Game | Unscored]) -> Figures:
    """Count games without a verdict by reason, and free judgments that had to be closed under guided output."""
    reasons = Counter(game.reason for game in games if isinstance(game, Unscored))
    closed = sum(game.closed_by_guide for game in games if isinstance(game, Game))
    return {
        "n_games": len(games),
        "unscored": dict(sorted(reasons.items())),
        "parse_failures": reasons.get("no_verdict", 0),
        "closed_by_guide": closed,
    }


def attack_figures(
    attacks: Mapping[str, Sequence[PairVerdict | Unscored]], empty: Sequence[PairVerdict | Unscored]
) -> Figures | None:
    """Compare constant answers with an empty one, each against the same good answers (side a is the attack).

    Lists are aligned by question. ``success_rate`` is the share of strict wins, ``preference`` the
    mean preference for the attack, ``gain`` that minus the empty answer's on the same ``n_questions``,
    its interval a bootstrap over them (None where all gain alike). None when nothing was judged.
    """
    baseline = _side_a(empty)
    each: Figures = {}
    pooled: list[tuple[int, float]] = []
    for name, verdicts in attacks.items():
        gains = [
            (position, verdict.preference_a - plain.preference_a)
            for position, (verdict, plain) in enumerate(zip(verdicts, empty, strict=True))
            if isinstance(verdict, PairVerdict) and isinstance(plain, PairVerdict)
        ]
        pooled += gains
        if (summary := _side_a(verdicts)) is not None:
            each[name] = {**summary, **_gain(gains)}
    together = _side_a([verdict for verdicts in attacks.values() for verdict in verdicts])
    if together is None:
        return None
    return {"empty_answer": baseline, "all": {**together, **_gain(pooled)}, "attacks": each}


def _side_a(verdicts: Sequence[PairVerdict | Unscored]) -> Figures | None:
    scored = [verdict for verdict in verdicts if isinstance(verdict, PairVerdict)]
    if not scored:
        return None
    wins = sum(verdict.winner == "a" for verdict in scored)
    return {
        "n": len(verdicts),
        "n_scored": len(scored),
        "success_rate": wins / len(scored),
        "preference": mean_and_stderr([verdict.preference_a for verdict in scored])[0],
    }


def _gain(gains: Sequence[tuple[int, float]]) -> Figures:
    if not gains:
        return {"gain": None, "gain_ci95": None, "n_questions": 0}
    values, questions = [value for _, value in gains], [position for position, _ in gains]
    return {
        "gain": sum(values) / len(values),
        "gain_ci95": _listed(bootstrap_ci(values, questions)),
        "n_questions": len(set(questions)),
    }


def conclusions(card: Mapping[str, Any]) -> Figures:
    """Say in words what the figures of a card amount to.

    ``told_from_chance``: both intervals of the accuracy lie above one half. ``position_dominates``:
    the verdict turns with the order in at least half of the pairs. ``attacks_gain``: constant
    answers are preferred more than an empty one, beyond doubt: the interval lies above 0, or the
    exact sign test says so where all questions gain alike. Each is None where unknown.
    """
    figures, position, attacks = card["agreement"], card["position_bias"], card["attacks"]
    told = None if figures["ci95"] is None else _above_chance(figures)
    flips = None if position is None else position["flip_rate"]
    dominates = None if flips is None else flips >= POSITION_DOMINATES
    gains = None if attacks is None else _attacks_gain(attacks["all"])
    words = [_agreement_words(figures)]
    if flips is not None:
        words.append(
            f"its verdict turns with the order of the answers in {flips:.0%} of the pairs"
            + (", so the order decides more than the answers do" if dominates else "")
        )
    if attacks is not None and gains is not None:
        words.append(_attack_words(attacks["all"]) + (": it can be deceived" if gains else ""))
    believable = None if told is None else told and not dominates and not gains
    return {
        "told_from_chance": told,
        "position_dominates": dominates,
        "attacks_gain": gains,
        "believable": believable,
        "words": words,
    }


def _attacks_gain(figures: Mapping[str, Any]) -> bool | None:
    gain, interval, n = figures["gain"], figures["gain_ci95"], figures["n_questions"]
    if interval is not None:
        return bool(interval[0] > 0)
    # A single question tells nothing; several that gain alike are so many signs.
    return None if n < 2 else gain > NO_SPREAD and sign_test_exact(n, 0) < SIGNIFICANT


def _attack_words(figures: Mapping[str, Any]) -> str:
    interval = figures["gain_ci95"]
    doubt = f"alike in {figures['n_questions']} questions" if interval is None else _signed(interval)
    return f"answers made to deceive it are preferred by {figures['gain']:+.3f} against an empty answer {doubt}"


def _signed(interval: Sequence[float]) -> str:
    return f"[{interval[0]:+.3f}, {interval[1]:+.3f}]"


def _above_chance(figures: Mapping[str, Any]) -> bool:
    lows = [interval[0] for name in ("ci95", "ci95_by_question") if (interval := figures[name]) is not None]
    return bool(min(lows) > CHANCE)


def _agreement_words(figures: Mapping[str, Any]) -> str:
    interval = figures["ci95"]
    if interval is None:
        return "no pair of answers that it prefers one side of, so nothing can be said about its agreement with people"
    share = f"{figures['accuracy']:.1%} [{interval[0]:.1%}, {interval[1]:.1%}] of {figures['n_decided']} pairs"
    if _above_chance(figures):
        return f"it agrees with people on {share}"
    if interval[1] < CHANCE:
        return f"it prefers what people do not: it agrees with them on only {share}"
    return f"it cannot be told from chance: it agrees with people on {share}"


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)
