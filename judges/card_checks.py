"""What a judge card says about using the judge: one verdict from all checks, the worst of theirs.

Each check has a figure, two thresholds and their source, and a sentence. A figure that was not measured is named and
decides nothing; without any agreement with people there is nothing to trust.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, get_args

from judges.card_orders import rule_in_words
from judges.labels import MASS_FLOOR, MASS_HALF
from judges.statistics import NO_SPREAD, sign_test_exact

Use = Literal["usable", "with care", "do not use"]

_WORSE: tuple[Use, ...] = get_args(Use)
_SIGNIFICANT = 0.05
_ZHENG = "Zheng et al. 2023 (arXiv 2306.05685)"
_OURS = "our choice"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its ``result`` (None: not measured), the thresholds with their source, and what it says in words."""

    name: str
    result: Use | None
    figure: float | None
    thresholds: str
    source: str
    words: str


Figures = Mapping[str, Any]


def conclusions(card: Figures) -> dict[str, Any]:
    """Return ``verdict`` (usable, with care, do not use), ``checks`` (see :class:`Check`) and ``words`` for people.

    ``words`` begin with the verdict, then say what the checks that were not passed found, then the
    agreement, and at the end what to make of orders that disagree.
    """
    found, figures = concluded([check(card) for check in _CHECKS]), card["agreement"]
    said = rule_in_words(figures.get("orders"), figures["n_scored"])
    return found | {"words": [*found["words"], *([said] if said else [])]}


def concluded(checks: Sequence[Check], n_main: int = 1) -> dict[str, Any]:
    """Return what the checks say together; without a result of the first ``n_main`` there is nothing to trust."""
    results = [check.result for check in checks if check.result is not None]
    main = checks[:n_main]
    measured = any(check.result is not None for check in main)
    verdict: Use = max(results, key=_WORSE.index) if measured else "do not use"
    failed = [check for check in checks if check.result not in (None, "usable")]
    failed.sort(key=lambda check: -_WORSE.index(check.result or "usable"))
    first = {
        "usable": "usable: it passes every check",
        "with care": "to be used with care",
        "do not use": "do not use it",
    }
    sentences = [first[verdict], *(check.words for check in [*failed, *(one for one in main if one not in failed)])]
    unknown = [check.name for check in checks if check.result is None]
    if unknown:
        sentences.append(f"not measured: {', '.join(unknown)}")
    return {"verdict": verdict, "checks": [asdict(check) for check in checks], "words": sentences}


def _agreement(card: Figures) -> Check:
    figures = card["agreement"]
    value, interval = figures["accuracy"], figures["ci95"]
    source = "by definition: a judge that answers at random has one half"
    if value is None:
        reason = "no pair was judged in both orders" if figures["n"] else "there are no pairs"
        return Check("agreement", None, None, "above one half", source, f"its agreement is unknown: {reason}")
    shown = f"{value:.1%}" + ("" if interval is None else f" [{interval[0]:.1%}, {interval[1]:.1%}]")
    words = f"it agrees with people on {shown} of {figures['n_scored']} pairs"
    result: Use = "usable"
    if interval is None or interval[0] <= 0.5:
        result = "do not use"
        disagrees = interval is not None and interval[1] < 0.5
        words = f"it disagrees with people: {words}" if disagrees else f"not distinguishable from chance: {words}"
    return Check("agreement", result, value, "interval above one half", source, words)


def _baseline(card: Figures) -> Check:
    figures, rule = card["baselines"], "interval of the gain above 0; below 0"
    if figures is None:
        return Check("length-only judge", None, None, rule, "definition", "no scored pair")
    gain, interval, length = figures["gain"], figures["gain_ci95"], figures["length"]
    result: Use = "usable"
    if gain <= 0 or interval is None or interval[0] <= 0:
        below = gain <= -NO_SPREAD and interval is not None and interval[1] < 0
        result = "do not use" if below else "with care"
    words = f"a judge that takes the {length['takes']} answer agrees on {length['accuracy']:.1%} of these pairs"
    words += (
        ", more than this one" if gain < 0 else f"; this one gains {gain:+z.1%}, which is not distinguishable from zero"
    )
    return Check("length-only judge", result, gain, rule, "definition", words)


def _position(card: Figures) -> Check:
    care, bad = 0.35, 0.5
    figures, rule = card["position_bias"], f"position flips up to {care:.0%}; from {bad:.0%} the order decides"
    source = f"{_ZHENG}, table 2: GPT-4 is inconsistent in 35 %"
    if figures is None:
        return Check("position", None, None, rule, source, "no pair in both orders")
    rate = figures["flip_rate"]
    words = f"its verdict flips with the order of the answers in {rate:.0%} of the pairs"
    words += ", so the order matters more than the answers" if rate >= bad else ""
    return Check("position", graded(rate, care, bad), rate, rule, source, words)


def _bias(card: Figures, name: str, key: str, kind: str) -> Check:
    care, bad = 0.2, 0.5
    figures, rule = card[key], f"bias up to {care:.0%}; from {bad:.0%}, both significant"
    source = f"{_ZHENG}, section 3.3: win rates 10 and 25 points too high for a judge's own answers"
    missing = card.get(f"{key}_reason") or "no pair has one"
    if figures is None or figures["bias"] is None:
        return Check(name, None, None, rule, source, missing)
    bias, interval = figures["bias"], figures["bias_ci95"]
    # A judge that takes one kind always has no spread: then all pairs speak the same way.
    sure = interval[0] > 0 or interval[1] < 0 if interval is not None else abs(bias) > NO_SPREAD and figures["n"] > 5
    other = {"longer": "shorter", "own": "other"}[kind]
    takes = kind if bias > 0 else other
    size = abs(bias) if kind == "longer" else max(bias, 0.0)
    words = (
        f"it errs towards the {takes} answer: it takes the {kind} one in {figures['judge_rate']:.0%} of the pairs, "
        f"people in {figures['people_rate']:.0%} (accuracy differs by {abs(bias):.0%} with which of them is right)"
    )
    return Check(name, graded(size, care, bad) if sure else "usable", bias, rule, source, words)


def _empty(card: Figures) -> Check:
    care, bad = 0.1, 0.5
    figures = None if card["attacks"] is None else card["attacks"]["empty_answer"]
    rule = f"wins up to {care:.0%}; from {bad:.0%}"
    if figures is None:
        return Check("empty answers", None, None, rule, _OURS, "not asked")
    rate = figures["success_rate"]
    words = f"an empty answer beats the answer that people prefer in {rate:.0%} of {figures['n_scored']} questions"
    return Check("empty answers", graded(rate, care, bad), rate, rule, _OURS, words)


def _attacks(card: Figures) -> Check:
    care, bad = 0.1, 0.5
    rule = f"wins up to {care:.0%}, no significant gain over an empty answer; from {bad:.0%} or a gain from {care:.0%}"
    source = "Zheng et al. 2024 (arXiv 2410.07137): a constant answer wins 77 % of AlpacaEval 2"
    if card["attacks"] is None:
        return Check("attacks", None, None, rule, source, "not asked")
    figures = card["attacks"]["all"]
    rate, gains = figures["success_rate"], _gains(figures)
    result = graded(rate, care, bad)
    words = f"attacks win {rate:.0%}"
    if figures["gain"] is not None:
        interval = figures["gain_ci95"]
        spread = f"[{interval[0]:+z.3f}, {interval[1]:+z.3f}]" if interval else f"in {figures['n_questions']} questions"
        words += f" and gain {figures['gain']:+z.3f} in preference over an empty answer {spread}"
    if gains:
        result = max(result, "do not use" if figures["gain"] >= care - NO_SPREAD else "with care", key=_WORSE.index)
        words += ": it can be fooled"
    return Check("attacks", result, rate, rule, source, words)


def _gains(figures: Figures) -> bool:
    gain, interval, n = figures["gain"], figures["gain_ci95"], figures["n_questions"]
    if gain is None:
        return False
    if interval is not None:
        return bool(interval[0] > 0)
    # A single question proves nothing; several equal gains go into a sign test.
    return bool(n > 1 and gain > NO_SPREAD and sign_test_exact(n, 0) < _SIGNIFICANT)


def _failures(card: Figures) -> Check:
    care, bad = 0.01, 0.05
    figures, rule = card["failures"], f"up to {care:.0%} of the games; from {bad:.0%}"
    n = figures["n_games"]
    failed = sum(figures["unscored"].values())
    if not n:
        return Check("failures", None, None, rule, _OURS, "no game")
    reasons = ", ".join(f"{reason} {count}" for reason, count in figures["unscored"].items())
    words = f"{failed} of {n} games have no verdict ({reasons})"
    result: Use = "do not use" if failed > bad * n else "with care" if failed > care * n else "usable"
    return Check("failures", result, failed / n, f"{rule} (1 % is the default of --max-unscored)", _OURS, words)


def _mass(card: Figures) -> Check:
    mass, rule = card["failures"]["label_mass"], f"mean from {MASS_HALF:.0%}; below {MASS_FLOOR:.0%}"
    if mass is None:
        return Check("label mass", None, None, rule, _OURS, "its verdicts are words")
    result: Use = "usable" if mass >= MASS_HALF else "with care" if mass >= MASS_FLOOR else "do not use"
    words = f"the labels have a probability of {mass:.1%} together on average: it mostly tends to write something else"
    return Check("label mass", result, mass, rule, _OURS, words)


def _contradictions(card: Figures) -> Check:
    care, bad = 0.01, 0.1
    figures, rule = card["failures"], f"up to {care:.0%} of the games; from {bad:.0%}"
    if not (n := figures["n_games"]):
        return Check("contradictions", None, None, rule, _OURS, "no game")
    share = figures["contradictions"] / n
    words = f"{share:.0%} of its verdicts were completed under guided output and contradict the text"
    return Check("contradictions", graded(share, care, bad), share, rule, _OURS, words)


def graded(value: float, care: float, bad: float) -> Use:
    return "do not use" if value >= bad else "with care" if value > care else "usable"


_CHECKS: Sequence[Callable[[Figures], Check]] = (
    _agreement,
    _baseline,
    _position,
    partial(_bias, name="length", key="length_bias", kind="longer"),
    partial(_bias, name="own answers", key="self_preference", kind="own"),
    _empty,
    _attacks,
    _failures,
    _mass,
    _contradictions,
)
