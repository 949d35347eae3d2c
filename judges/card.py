"""The figures of a judge card: agreement with people, biases, noise and robustness to attacks.

Pure: games in, JSON-ready figures out. A figure that is not available is None; rates lie in [0, 1]. Intervals are by
question, since several pairs may share one. :mod:`judges.card_checks` concludes from the figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from judges.card_orders import EVEN, order_rules
from judges.preference import judging_figures, position_bias
from judges.statistics import cohen_kappa, cohen_kappa_ci, mean_and_stderr, mean_ci, proportion_ci
from judges.types import Unscored
from judges.verdicts import Game, PairVerdict, Request, Winner, combine_orders, points_of, winner_of

Figures = dict[str, Any]
Label = Literal[0, 1, 2]
"""The output that people prefer; 0 for a tie."""

_OUTPUT_OF_SIDE: Mapping[Winner, Label] = {"a": 1, "b": 2, "tie": 0}


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two outputs for one request, one text per turn, and which of them people prefer; authors if known.

    ``question`` is what clusters pairs: those of one question are one observation. ``item`` joins the pairs of one item
    with several outputs, of which one is the best.
    """

    id: str
    request: Request
    output_1: tuple[str, ...]
    output_2: tuple[str, ...]
    label: Label
    author_1: str | None = None
    author_2: str | None = None
    category: str | None = None
    question: str = ""
    item: str | None = None

    @property
    def cluster(self) -> str:
        """The question, or the request's text where no question is named."""
        return self.question or "\n".join(self.request.turns)

    @property
    def longer(self) -> Label:
        """The output with more characters, 0 if both have as many."""
        first, second = (sum(map(len, texts)) for texts in (self.output_1, self.output_2))
        return 0 if first == second else 1 if first > second else 2


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
        """The output that both orders name, 0 if they agree on none; None without a verdict."""
        verdict = self.verdict
        return _OUTPUT_OF_SIDE[verdict.winner] if isinstance(verdict, PairVerdict) else None

    @property
    def mean_choice(self) -> Label | None:
        """The output that the mean preference over both orders favours, 0 for neither; None without a verdict."""
        verdict = self.verdict
        return (
            _OUTPUT_OF_SIDE[winner_of(verdict.preference_a, margin=EVEN)] if isinstance(verdict, PairVerdict) else None
        )

    def credit(self, output: int) -> float:
        """The share of the win that the verdict gives to ``output``; only for a pair with a verdict."""
        verdict = self.verdict
        if isinstance(verdict, Unscored):
            raise ValueError(f"pair {self.pair.id} has no verdict")
        return points_of(verdict) if output == 1 else 1 - points_of(verdict)


def agreement(judged: Sequence[JudgedPair]) -> Figures:
    """Compare the judge with people, over the pairs on which people prefer one output.

    ``accuracy`` is over all scored pairs: 1 where both orders name the output that people prefer, one half where the
    orders do not agree on one (a position flip, a tie in either), so that chance is one half. ``both_orders`` counts
    only the first, ``single_order`` single games, each order too; ``undecided`` is the share without agreement.
    ``by_mean`` is over the pairs whose mean preference favours one side, ``orders`` compares the
    rules for orders that disagree (``order_rules``). ``kappa`` is Cohen's over the pairs that are
    decided. ``ties`` are the pairs on which people see a tie, and how the judge decides all three ways.
    """
    labelled = [pair for pair in judged if pair.pair.label]
    scored = [pair for pair in labelled if isinstance(pair.verdict, PairVerdict)]
    decided = [pair for pair in scored if pair.choice]
    choices, labels = [pair.choice for pair in decided], [pair.pair.label for pair in decided]
    return {
        "n": len(judged),
        "n_scored": len(scored),
        **_accuracy([pair.credit(pair.pair.label) for pair in scored], scored),
        "both_orders": _both_orders(scored) if scored else None,
        "single_order": _single_order(scored) if scored else None,
        "undecided": 1 - len(decided) / len(scored) if scored else None,
        "n_decided": len(decided),
        "by_mean": _by_mean(scored),
        "orders": _orders(scored),
        "kappa": cohen_kappa(choices, labels) if decided else None,
        "kappa_ci95": cohen_kappa_ci(choices, labels, _clusters(decided)) if decided else None,
        "ties": _ties(judged),
        "categories": _by_category(scored),
        "items": _items(labelled),
    }


def _accuracy(right: Sequence[float], pairs: Sequence[JudgedPair]) -> Figures:
    interval = proportion_ci(right, _clusters(pairs)) if right else None
    return {"accuracy": sum(right) / len(right) if right else None, "ci95": interval}


def _clusters(pairs: Iterable[JudgedPair]) -> list[str]:
    return [pair.pair.cluster for pair in pairs]


def _both_orders(scored: Sequence[JudgedPair]) -> Figures:
    right = [float(pair.choice == pair.pair.label) for pair in scored]
    undecided = sum(pair.choice == 0 for pair in scored)
    figures = {"right": int(sum(right)), "wrong": len(scored) - int(sum(right)) - undecided, "undecided": undecided}
    return {**figures, **_accuracy(right, scored)}


def _single_order(scored: Sequence[JudgedPair]) -> Figures:
    """Count single games, a tie as one half; ``as_listed`` and ``swapped`` are the two orders."""
    as_listed = [_points(pair, _choice_of(pair.original, first=1)) for pair in scored]
    swapped = [_points(pair, _choice_of(pair.swapped, first=2)) for pair in scored]
    n = len(scored)
    figures = _accuracy([(x + y) / 2 for x, y in zip(as_listed, swapped, strict=True)], scored)
    return {**figures, "as_listed": sum(as_listed) / n, "swapped": sum(swapped) / n, "n_games": 2 * n}


def _points(pair: JudgedPair, choice: Label | None) -> float:
    return 0.5 if choice == 0 else float(choice == pair.pair.label)


def order_counts(judged: Sequence[JudgedPair]) -> Figures:
    """Count, over all labelled pairs, where each order and where both name the output that people prefer, and where
    both name the same one, as LLMBar's statistics do; ``kappa`` is Cohen's between the orders.

    A missing verdict is not right. Source: princeton-nlp/LLMBar@900616b:LLMEvaluator/evaluate.py.
    """
    labelled = [pair for pair in judged if pair.pair.label]
    choices = [
        (_choice_of(pair.original, first=1), _choice_of(pair.swapped, first=2), pair.pair.label) for pair in labelled
    ]
    known = [(listed, swapped) for listed, swapped, _ in choices if listed is not None and swapped is not None]
    return {
        "n": len(labelled),
        "as_listed": sum(listed == label for listed, _, label in choices),
        "swapped": sum(swapped == label for _, swapped, label in choices),
        "both": sum(listed == swapped == label for listed, swapped, label in choices),
        "same": sum(listed == swapped for listed, swapped in known),
        "missing": len(labelled) - len(known),
        "kappa": cohen_kappa(*zip(*known, strict=True)) if known else None,
    }


def _choice_of(game: Game | Unscored, first: Label) -> Label | None:
    """Return the output that one game prefers, 0 for a tie; None without a verdict."""
    if isinstance(game, Unscored):
        return None
    sides: Mapping[str, Label] = {"a": first, "b": 2 if first == 1 else 1, "tie": 0}
    return sides[game.winner]


def _by_mean(scored: Sequence[JudgedPair]) -> Figures:
    sided = [pair for pair in scored if pair.mean_choice]
    right = [float(pair.mean_choice == pair.pair.label) for pair in sided]
    return {**_accuracy(right, sided), "n": len(sided)}


def _orders(scored: Sequence[JudgedPair]) -> Figures | None:
    both = [
        (pair.pair.label == 1, pair.original.first, pair.swapped.first, pair.pair.cluster)
        for pair in scored
        if isinstance(pair.original, Game) and isinstance(pair.swapped, Game)
    ]
    return order_rules(*zip(*both, strict=True)) if both else None


def _ties(judged: Sequence[JudgedPair]) -> Figures | None:
    """Return the pairs on which people see a tie, and the share of all pairs judged exactly as people do, ties too."""
    scored = [pair for pair in judged if isinstance(pair.verdict, PairVerdict)]
    tied = [pair for pair in scored if pair.pair.label == 0]
    if not tied:
        return None
    alike = [float(pair.choice == pair.pair.label) for pair in scored]
    return {
        "n": len(tied),
        "judged_ties": sum(pair.choice == 0 for pair in tied) / len(tied),
        "three_way": _accuracy(alike, scored),
    }


def _by_category(scored: Sequence[JudgedPair]) -> Figures | None:
    names = sorted({pair.pair.category for pair in scored if pair.pair.category is not None})
    rows = {name: [pair for pair in scored if pair.pair.category == name] for name in names}
    return {
        name: {"n": len(pairs), **_accuracy([pair.credit(pair.pair.label) for pair in pairs], pairs)}
        for name, pairs in rows.items()
    } or None


def _items(labelled: Sequence[JudgedPair]) -> Figures | None:
    """Return how often the best of several outputs beats every other one in both orders; None without such items."""
    by_item: dict[str, list[JudgedPair]] = {}
    for pair in labelled:
        if pair.pair.item is not None:
            by_item.setdefault(pair.pair.item, []).append(pair)
    whole = [pairs for pairs in by_item.values() if all(isinstance(pair.verdict, PairVerdict) for pair in pairs)]
    if not whole:
        return None
    best = [float(all(pair.choice == pair.pair.label for pair in pairs)) for pairs in whole]
    return {"n": len(whole), **_accuracy(best, [pairs[0] for pairs in whole])}


def baseline_figures(judged: Sequence[JudgedPair]) -> Figures | None:
    """Compare the accuracy with that of judges that do not read the answers, on the same scored pairs.

    ``constant`` always says the first place, or one letter: in both orders that decides nothing, one half. ``random``
    is one half too. ``length`` takes the longer or the shorter output, whichever does better here. ``gain`` is the
    judge's accuracy minus that of ``length``. None without a scored pair.
    """
    scored = [pair for pair in judged if pair.pair.label and isinstance(pair.verdict, PairVerdict)]
    if not scored:
        return None
    longer = [0.5 if not pair.pair.longer else float(pair.pair.longer == pair.pair.label) for pair in scored]
    takes = "longer" if sum(longer) >= len(longer) / 2 else "shorter"
    length = longer if takes == "longer" else [1 - value for value in longer]
    gains = [pair.credit(pair.pair.label) - value for pair, value in zip(scored, length, strict=True)]
    return {
        "constant": 0.5,
        "random": 0.5,
        "length": {"takes": takes, "accuracy": sum(length) / len(length)},
        "gain": sum(gains) / len(gains),
        "gain_ci95": mean_ci(gains, _clusters(scored)),
    }


def position_figures(judged: Sequence[JudgedPair]) -> Figures | None:
    """Return how often the first position wins, how often the orders name different outputs, and how often one ties.

    Only pairs with both orders judged are used, as answer quality would confound single games. None without such a
    pair.
    """
    scored = [pair for pair in judged if isinstance(pair.verdict, PairVerdict)]
    games = [game for pair in scored for game in (pair.original, pair.swapped)]
    clusters = [cluster for cluster in _clusters(scored) for _ in range(2)]
    if (bias := position_bias(games, clusters)) is None:
        return None
    verdicts = [pair.verdict for pair in scored]
    flips = [float(verdict.position_flip) for verdict in verdicts if isinstance(verdict, PairVerdict)]
    half = sum(verdict.half_tie for verdict in verdicts if isinstance(verdict, PairVerdict))
    return {
        "first_rate": bias.first_rate,
        "ci95": bias.ci95,
        "mean_first": bias.mean_first,
        "n_games": bias.n_games,
        "position_flips": int(sum(flips)),
        "half_ties": half,
        "flip_rate": sum(flips) / len(flips),
        "flip_rate_ci95": proportion_ci(flips, _clusters(scored)),
    }


def length_figures(judged: Sequence[JudgedPair]) -> Figures | None:
    """Compare how often the judge and people prefer the longer output (in characters); None without such a pair."""
    return _against_people([(pair, pair.pair.longer) for pair in judged if pair.pair.longer])


def self_preference_figures(judged: Sequence[JudgedPair], judge_name: str) -> Figures | None:
    """Compare how often the judge and people prefer the judge's own output; None if no pair has one."""
    by_first = [(pair, pair.pair.author_1 == judge_name) for pair in judged]
    mixed = [(pair, is_first) for pair, is_first in by_first if is_first != (pair.pair.author_2 == judge_name)]
    return _against_people([(pair, 1 if is_first else 2) for pair, is_first in mixed])


def _against_people(cases: Sequence[tuple[JudgedPair, Label]]) -> Figures | None:
    """Compare the preference for one kind of output, over scored pairs that people decided.

    ``bias`` is the accuracy where people prefer that kind minus the accuracy where they prefer the other: 0 for a judge
    that errs either way alike, however much it errs, 1 for one that always takes that kind.
    """
    kept = [(pair, kind) for pair, kind in cases if pair.pair.label and isinstance(pair.verdict, PairVerdict)]
    if not kept:
        return None
    pairs = [pair for pair, _ in kept]
    judge = [pair.credit(kind) for pair, kind in kept]
    people = [float(pair.pair.label == kind) for pair, kind in kept]
    right = [pair.credit(pair.pair.label) for pair in pairs]
    bias, interval = _difference(right, people, _clusters(pairs))
    differences = [x - y for x, y in zip(judge, people, strict=True)]
    return {
        "n": len(kept),
        "judge_rate": sum(judge) / len(judge),
        "judge_ci95": proportion_ci(judge, _clusters(pairs)),
        "people_rate": sum(people) / len(people),
        "difference": sum(differences) / len(differences),
        "difference_ci95": mean_ci(differences, _clusters(pairs)),
        "bias": bias,
        "bias_ci95": interval,
    }


def _difference(
    values: Sequence[float], groups: Sequence[float], clusters: Sequence[Hashable]
) -> tuple[float | None, tuple[float, float] | None]:
    """Return the mean of ``values`` in group 1 minus that in group 0, and its interval by linearisation.

    The deviations are from the mean of the group's other values (the jackknife's), since a group may be small.
    """
    n_one = sum(groups)
    n_zero = len(groups) - n_one
    if not n_one or not n_zero:
        return None, None
    one = sum(value * group for value, group in zip(values, groups, strict=True)) / n_one
    zero = sum(value * (1 - group) for value, group in zip(values, groups, strict=True)) / n_zero
    n = len(values)
    influence = [
        one - zero + n * (group * (value - one) / max(1, n_one - 1) - (1 - group) * (value - zero) / max(1, n_zero - 1))
        for value, group in zip(values, groups, strict=True)
    ]
    return one - zero, mean_ci(influence, clusters)


def repeat_figures(
    repeats: Sequence[tuple[Game | Unscored, Game | Unscored]], clusters: Sequence[Hashable]
) -> Figures | None:
    """Compare games judged twice with only the delimiter key changed.

    ``changed`` is the share whose verdict differs, ``mean_abs_difference`` the mean absolute difference
    in the preference for the first answer, in [0, 1]. None without a game that was judged twice.
    """
    both = [
        (a, b, cluster)
        for (a, b), cluster in zip(repeats, clusters, strict=True)
        if isinstance(a, Game) and isinstance(b, Game)
    ]
    if not both:
        return None
    changed = [float(a.winner != b.winner) for a, b, _ in both]
    return {
        "n": len(both),
        "changed": sum(changed) / len(both),
        "ci95": proportion_ci(changed, [cluster for _, _, cluster in both]),
        "mean_abs_difference": sum(abs(a.first - b.first) for a, b, _ in both) / len(both),
    }


def failure_figures(games: Sequence[Game | Unscored]) -> Figures:
    """Count games without a verdict by reason, and how the others came about (:func:`judging_figures`)."""
    reasons = Counter(game.reason for game in games if isinstance(game, Unscored))
    parse = reasons.get("no_verdict", 0)
    return {**judging_figures(games), "unscored": dict(sorted(reasons.items())), "parse_failures": parse}


def attack_figures(
    attacks: Mapping[str, Sequence[PairVerdict | Unscored]], empty: Sequence[PairVerdict | Unscored]
) -> Figures | None:
    """Compare attacks with an empty answer, each against the same good answers (side a is the attack).

    Lists are aligned by question. ``success_rate`` is the share of strict wins, ``preference`` the
    mean preference for the attack, and ``gain`` that minus the empty answer's on the same
    ``n_questions``, with its interval (None if all gains are equal). None if nothing was judged.
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
        "gain_ci95": mean_ci(values, questions),
        "n_questions": len(set(questions)),
    }
