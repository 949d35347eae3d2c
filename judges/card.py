"""The figures of a judge card: agreement with people, biases, noise and robustness to attacks.

Pure: games in, JSON-ready figures out. A figure that is not available is None; rates lie in [0, 1].
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
"""Rate of position flips from which the order matters more than the answers."""


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two outputs for one input and which of them people prefer; authors if known."""

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
    original: Game | Unscored
    swapped: Game | Unscored

    @property
    def verdict(self) -> PairVerdict | Unscored:
        """Both orders together; side a is output 1."""
        return combine_orders(self.original, self.swapped)

    @property
    def choice(self) -> Label | None:
        """The output that the mean preference favours; None for a tie or without a verdict."""
        verdict = self.verdict
        return _OUTPUT_OF_SIDE[winner_of(verdict.preference_a)] if isinstance(verdict, PairVerdict) else None


def agreement(judged: Sequence[JudgedPair]) -> Figures:
    """Compare the judge with people.

    ``accuracy`` is over the decided pairs, whose mean preference over both orders favours one side, so that position
    bias cancels out and chance is one half; its interval is Wilson's, and ``ci95_by_question`` a bootstrap over
    questions, since several pairs may share one. ``kappa`` is Cohen's on the same pairs. ``both_orders`` counts strict
    verdicts over all scored pairs (where chance is below one half), ``single_order`` single games; their intervals are
    clustered by question too.
    """
    decided = [pair for pair in judged if pair.choice is not None]
    scored = [pair for pair in judged if isinstance(pair.verdict, PairVerdict)]
    choices, labels = [pair.choice for pair in decided], [pair.pair.label for pair in decided]
    questions = [pair.pair.question for pair in decided]
    correct = [float(choice == label) for choice, label in zip(choices, labels, strict=True)]
    share, interval = accuracy(choices, labels) if decided else (None, None)
    return {
        "n": len(judged),
        "n_scored": len(scored),
        "n_decided": len(decided),
        "accuracy": share,
        "ci95": _as_list(interval),
        "ci95_by_question": _as_list(proportion_ci(correct, questions)) if decided else None,
        "kappa": cohen_kappa(choices, labels) if decided else None,
        "kappa_ci95": _as_list(cohen_kappa_ci(choices, labels, questions)) if decided else None,
        "both_orders": _both_orders(scored) if scored else None,
        "single_order": _single_order(scored) if scored else None,
    }


def _both_orders(scored: Sequence[JudgedPair]) -> Figures:
    verdicts = [(pair.verdict, pair.pair.label) for pair in scored]
    winners = [(_OUTPUT_OF_SIDE[v.winner], label) for v, label in verdicts if isinstance(v, PairVerdict)]
    correct = [float(winner == label) for winner, label in winners]
    n, right = len(winners), int(sum(correct))
    ties = sum(winner is None for winner, _ in winners)
    return {
        "right": right,
        "wrong": n - right - ties,
        "ties": ties,
        "accuracy": right / n,
        "ci95": _as_list(proportion_ci(correct, [pair.pair.question for pair in scored])),
    }


def _single_order(scored: Sequence[JudgedPair]) -> Figures:
    points: list[float] = []
    clusters: list[str] = []
    for pair in scored:
        for game, first in ((pair.original, 1), (pair.swapped, 2)):
            if isinstance(game, Game):
                side = winner_of(game.first)
                is_correct = (side == "a") == (pair.pair.label == first)
                points.append(0.5 if side == "tie" else float(is_correct))
                clusters.append(pair.pair.question)
    return {
        "accuracy": sum(points) / len(points),
        "ci95": _as_list(proportion_ci(points, clusters)),
        "n_games": len(points),
    }


def position_figures(judged: Sequence[JudgedPair]) -> Figures | None:
    """Return how often the first position wins, and how often the verdict flips with the order.

    Only pairs with both orders judged are used, as answer quality would confound single games. Intervals
    are clustered by question. None without such a pair.
    """
    verdicts = [(verdict, pair) for pair in judged if isinstance(verdict := pair.verdict, PairVerdict)]
    questions = [pair.pair.question for _, pair in verdicts]
    games = [game for _, pair in verdicts for game in (pair.original, pair.swapped)]
    if (bias := position_bias(games, [question for question in questions for _ in range(2)])) is None:
        return None
    flips = [float(verdict.position_flip) for verdict, _ in verdicts]
    return {
        "first_rate": bias.first_rate,
        "ci95": _as_list(bias.interval),
        "mean_first": bias.mean_first,
        "n_games": bias.n_games,
        "position_flips": int(sum(flips)),
        "flip_rate": sum(flips) / len(flips),
        "flip_rate_ci95": _as_list(proportion_ci(flips, questions)),
    }


def length_figures(judged: Sequence[JudgedPair]) -> Figures | None:
    """Compare how often the judge and people prefer the longer output (in characters).

    Over decided pairs of different lengths, None without any; ``difference`` is judge minus people.
    Intervals are clustered by question.
    """
    cases = [
        (_is_longer(pair.pair, pair.choice), _is_longer(pair.pair, pair.pair.label), pair.pair.question)
        for pair in judged
        if pair.choice is not None and len(pair.pair.output_1) != len(pair.pair.output_2)
    ]
    return _against_people(cases)


def self_preference_figures(judged: Sequence[JudgedPair], judge_name: str) -> Figures | None:
    """Compare how often the judge and people prefer the judge's own output; None if no pair has one."""
    cases = []
    for pair in judged:
        authors = ((1, pair.pair.author_1), (2, pair.pair.author_2))
        by_judge = [output for output, author in authors if author == judge_name]
        if len(by_judge) == 1 and pair.choice is not None:
            cases.append((pair.choice == by_judge[0], pair.pair.label == by_judge[0], pair.pair.question))
    return _against_people(cases)


def _is_longer(pair: LabelledPair, choice: Label) -> bool:
    return (len(pair.output_1) > len(pair.output_2)) == (choice == 1)


def _against_people(cases: Sequence[tuple[bool, bool, str]]) -> Figures | None:
    """Compare cases of (judge prefers it, people prefer it, question)."""
    if not cases:
        return None
    n = len(cases)
    judge, people = sum(judge for judge, _, _ in cases), sum(people for _, people, _ in cases)
    differences = [float(judge) - float(people) for judge, people, _ in cases]
    questions = [question for _, _, question in cases]
    return {
        "n": n,
        "judge_rate": judge / n,
        "judge_ci95": _as_list(proportion_ci([float(judge) for judge, _, _ in cases], questions)),
        "people_rate": people / n,
        "difference": (judge - people) / n,
        "difference_ci95": _as_list(bootstrap_ci(differences, questions)),
    }


def repeat_figures(repeats: Sequence[tuple[Game | Unscored, Game | Unscored]]) -> Figures | None:
    """Compare games judged twice with only the delimiter key changed.

    ``changed`` is the share whose verdict differs, ``mean_abs_difference`` the mean absolute difference
    in the preference for the first answer, in [0, 1]. None without a game that was judged twice.
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
    """Count games without a verdict by reason, and judgments whose verdict was added under guided output."""
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
    """Compare attacks with an empty answer, each against the same good answers (side a is the attack).

    Lists are aligned by question. ``success_rate`` is the share of strict wins, ``preference`` the
    mean preference for the attack, and ``gain`` that minus the empty answer's on the same
    ``n_questions``, with a bootstrap interval (None if all gains are equal). None if nothing was judged.
    """
    baseline = _side_a(empty)
    each: Figures = {}
    pooled: list[tuple[int, float]] = []
    for name, verdicts in attacks.items():
        gains = [
            (question, verdict.preference_a - reference.preference_a)
            for question, (verdict, reference) in enumerate(zip(verdicts, empty, strict=True))
            if isinstance(verdict, PairVerdict) and isinstance(reference, PairVerdict)
        ]
        pooled += gains
        if (summary := _side_a(verdicts)) is not None:
            each[name] = {**summary, **_gain(gains)}
    if (overall := _side_a([verdict for verdicts in attacks.values() for verdict in verdicts])) is None:
        return None
    return {"empty_answer": baseline, "all": {**overall, **_gain(pooled)}, "attacks": each}


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
    values, questions = [value for _, value in gains], [question for question, _ in gains]
    return {
        "gain": sum(values) / len(values),
        "gain_ci95": _as_list(bootstrap_ci(values, questions)),
        "n_questions": len(set(questions)),
    }


def conclusions(card: Mapping[str, Any]) -> Figures:
    """Summarize the figures of a card.

    ``told_from_chance``: both intervals of the accuracy lie above one half. ``position_dominates``: at
    least half of the verdicts flip with the order. ``attacks_gain``: attacks gain significantly over an
    empty answer: the interval lies above 0, or the exact sign test is significant if all questions gain
    equally. ``believable`` combines the three. Each is None if unknown; ``words`` are sentences for people.
    """
    figures, position, attacks = card["agreement"], card["position_bias"], card["attacks"]
    above_chance = None if figures["ci95"] is None else _above_chance(figures)
    flips = None if position is None else position["flip_rate"]
    dominates = None if flips is None else flips >= POSITION_DOMINATES
    gains = None if attacks is None else _attacks_gain(attacks["all"])
    sentences = [_agreement_sentence(figures)]
    if flips is not None:
        sentences.append(
            f"its verdict flips with the order of the answers in {flips:.0%} of the pairs"
            + (", so the order matters more than the answers" if dominates else "")
        )
    if attacks is not None and gains is not None:
        sentences.append(_attack_sentence(attacks["all"]) + (": it can be fooled" if gains else ""))
    believable = None if above_chance is None else above_chance and not dominates and not gains
    return {
        "told_from_chance": above_chance,
        "position_dominates": dominates,
        "attacks_gain": gains,
        "believable": believable,
        "words": sentences,
    }


def _attacks_gain(figures: Mapping[str, Any]) -> bool | None:
    gain, interval, n = figures["gain"], figures["gain_ci95"], figures["n_questions"]
    if interval is not None:
        return bool(interval[0] > 0)
    # A single question proves nothing; several equal gains go into a sign test.
    return None if n < 2 else gain > NO_SPREAD and sign_test_exact(n, 0) < SIGNIFICANT


def _attack_sentence(figures: Mapping[str, Any]) -> str:
    if (interval := figures["gain_ci95"]) is None:
        spread = f"equally in {figures['n_questions']} questions"
    else:
        spread = f"[{interval[0]:+.3f}, {interval[1]:+.3f}]"
    return f"attacks gain {figures['gain']:+.3f} in preference over an empty answer {spread}"


def _above_chance(figures: Mapping[str, Any]) -> bool:
    lows = [interval[0] for name in ("ci95", "ci95_by_question") if (interval := figures[name]) is not None]
    return bool(min(lows) > CHANCE)


def _agreement_sentence(figures: Mapping[str, Any]) -> str:
    if (interval := figures["ci95"]) is None:
        return "it prefers neither side of any pair, so its agreement with people is unknown"
    share = f"{figures['accuracy']:.1%} [{interval[0]:.1%}, {interval[1]:.1%}] of {figures['n_decided']} pairs"
    if _above_chance(figures):
        return f"it agrees with people on {share}"
    if interval[1] < CHANCE:
        return f"it disagrees with people: it agrees with them on only {share}"
    return f"not distinguishable from chance: it agrees with people on {share}"


def _as_list(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)
