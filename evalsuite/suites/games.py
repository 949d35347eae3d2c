"""Answers compared in games: how a judge is asked, the verdicts, the win rate, and the rate with style control.

The baseline's answer is the first text of a row's fact "reference". Source of the arithmetic:
lmarena/arena-hard-auto@196f6b8: show_result.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from evalsuite.records.rows import Order, Row, Verdict, replaced
from evalsuite.serving.requests import Chat, Sampling, thought_of
from evalsuite.suites import figures
from evalsuite.suites.base import answer_of, count_unscored, marked, no_answer
from evalsuite.suites.figures import Figure, Line, scored_figure, stderr_of
from evalsuite.suites.judging import reason_then_choose, verdict_of
from judges.arena import CHOICES, LEAD_IN, OUTCOMES, parse_label
from judges.types import Choice, Message, Unscored
from judges.verdicts import (
    LABELS,
    SPELLINGS,
    VERDICT_CHOICES,
    Game,
    Method,
    against_text,
    game_from_choice,
    game_from_logprobs,
    parse_verdict,
    verdict_lead_in,
)

if TYPE_CHECKING:
    from judges.style_control import Battle

ORDERS: tuple[Order, Order] = ("ba", "ab")
"""The two games in their published order: first the baseline is assistant A, then the model."""

PUBLISHED_DRAWS = 100
PUBLISHED_QUANTILES = (0.05, 0.5, 0.95)
WORDS_MAX_NEW_TOKENS = 64
"""Max tokens of the reply in words of a judge that gave A and B almost no probability as a single letter."""
_MODEL, _BASELINE = "model", "baseline"


class Outcome(NamedTuple):
    """What the model won of one game (0 to 1), and how many games it counts."""

    share: float
    weight: int


def game_verdicts(games: Any, judge: str) -> tuple[Verdict, ...]:
    """Read both recorded games {"score", "judgment"}; one that is missing or has no label is a ``recorded_failure``."""
    verdicts = []
    for game, order in zip([*(games if isinstance(games, list) else ()), None, None], ORDERS, strict=False):
        recorded = game if isinstance(game, Mapping) else {}
        label, said = recorded.get("score"), recorded.get("judgment")
        text = said.get("answer") if isinstance(said, Mapping) else said
        text = text if isinstance(text, str) else ""
        known = isinstance(label, str) and label in OUTCOMES
        failed = None if known else Unscored("recorded_failure", f"label {label!r}")
        value = label if known else None
        verdicts.append(Verdict(judge, value, order=order, text=text, recorded=label, unscored=failed))
    return tuple(verdicts)


def outcome_of(verdict: Verdict) -> Outcome | Unscored:
    """Return what a game's verdict is worth to the model; a number is the judge's preference for the first answer."""
    if verdict.unscored is not None:
        return verdict.unscored
    if isinstance(verdict.value, int | float):
        first, weight = float(verdict.value), 1
    elif verdict.value is not None and verdict.value in OUTCOMES:
        first, weight = OUTCOMES[verdict.value]
    else:
        return Unscored("no_verdict", str(verdict.value))
    return Outcome(first if verdict.order == "ab" else 1 - first, weight)


def panel_value(values: Sequence[tuple[float | str, float]]) -> float | Unscored:
    """Return the preference for the first answer of one game that several judges judged, from (value, weight) of each.

    A strong verdict counts three of its judge's others; the panel's game counts once.
    """
    from judges.panel import weighted_mean

    outcomes = [(outcome_of(Verdict(value=value, order="ab")), weight) for value, weight in values]
    known = [(one.share, one.weight * weight) for one, weight in outcomes if isinstance(one, Outcome)]
    return weighted_mean(known) if known else Unscored("no_verdict")


def outcomes_of(row: Row) -> list[Outcome] | Unscored:
    """Return both games of a row; if either has no outcome, neither counts, as published."""
    found: list[Outcome] = []
    for order in ORDERS:
        verdict = next((one for one in row.verdicts if one.order == order and one.repeat == 0), None)
        if verdict is None:
            answered = answer_of(row) is not None
            return Unscored("no_judge") if answered else no_answer(row.replies[0].unscored if row.replies else None)
        outcome = outcome_of(verdict)
        if isinstance(outcome, Unscored):
            return outcome
        found.append(outcome)
    return found


def mark_games(row: Row) -> Row:
    """Mark an item: ``score`` is the share of its games that the model won, 0 to 1, ``games`` how many they count."""
    outcomes = outcomes_of(row)
    if isinstance(outcomes, Unscored):
        return marked(row, [Unscored(outcomes.reason)], score=None, games=None)
    games = float(sum(one.weight for one in outcomes))
    return replaced(row, marks={"score": (share_of(outcomes),), "games": (games,)}, unscored=())


def share_of(outcomes: Sequence[Outcome]) -> float:
    """Return the share that the model won of games, 0 to 1."""
    return sum(one.share * one.weight for one in outcomes) / sum(one.weight for one in outcomes)


def game_figures(rows: Sequence[Row], *, as_published: bool = False) -> dict[str, Any]:
    """Compute {"score", "stderr", "ci95", "sc_score", "sc_ci95", "style", "n", "n_scored", "unscored"}, in percent.

    ``score`` is the mean over games; ``ci95`` is Wilson's, with prompts as clusters. ``sc_score`` is the win rate under
    style control (:mod:`judges.style_control`); None with the reason under ``style``. With ``as_published``, ``score``
    and ``sc_score`` are the original's mean and median of 100 resamplings of games, and ``quantiles_5_95`` and
    ``sc_quantiles_5_95`` its quantiles; its style features are centred.
    """
    from judges.statistics import proportion_ci

    scored = [(row, games) for row in rows if not isinstance(games := outcomes_of(row), Unscored)]
    unscored = count_unscored(games for row in rows if isinstance(games := outcomes_of(row), Unscored))
    figures: dict[str, Any] = {"score": None, "stderr": None, "ci95": None}
    won = [sum(game.share * game.weight for game in games) for _, games in scored]
    played = [float(sum(game.weight for game in games)) for _, games in scored]
    if scored:
        rate = sum(won) / sum(played)
        shares = [(game.share, row.item_id) for row, games in scored for game in games for _ in range(game.weight)]
        interval = proportion_ci(*map(list, zip(*shares, strict=True)))
        figures = {"score": 100 * rate, "stderr": _stderr(won, played), "ci95": _percent(interval)}
    if scored and as_published:
        figures |= _published_rate([game for _, games in scored for game in games])
    figures |= _style_controlled(scored, as_published=as_published)
    return figures | {"n": len(rows), "n_scored": len(scored), "unscored": unscored}


def _stderr(won: Sequence[float], played: Sequence[float]) -> float | None:
    """Return the standard error in percent of a ratio of sums over prompts (linearised, prompts independent)."""
    n = len(won)
    if n < 2:
        return None
    rate = sum(won) / sum(played)
    squares = sum((own - rate * games) ** 2 for own, games in zip(won, played, strict=True))
    return 100 * math.sqrt(squares * n / (n - 1)) / sum(played)


def _percent(interval: Sequence[float] | None) -> list[float] | None:
    return None if interval is None else [100 * end for end in interval]


def _published_rate(games: Sequence[Outcome]) -> dict[str, Any]:
    """Return the original's mean and 5 and 95 % quantiles of 100 resamplings of games, in percent."""
    import numpy as np

    shares = np.repeat([game.share for game in games], [game.weight for game in games])
    rng = np.random.default_rng(0)
    means = np.array([rng.choice(shares, len(shares)).mean() for _ in range(PUBLISHED_DRAWS)])
    low, high = np.quantile(means, (PUBLISHED_QUANTILES[0], PUBLISHED_QUANTILES[-1]))
    return {"score": 100 * float(means.mean()), "quantiles_5_95": [100 * float(low), 100 * float(high)]}


def _style_controlled(scored: Sequence[tuple[Row, list[Outcome]]], *, as_published: bool) -> dict[str, Any]:
    """Return the win rate under style control with its interval, and the coefficients or why there are none."""
    from judges.style_control import MIN_PROMPTS, fit_style_control

    style: dict[str, Any] = {"coefficients": None, "centred": as_published, "reason": None}
    nothing = {"sc_score": None, "sc_ci95": None, "style": style}
    if not scored:
        return nothing
    if any(not row.facts.get("reference") for row, _ in scored):
        return nothing | {"style": style | {"reason": "the baseline's answers are not on this machine"}}
    if len(scored) < MIN_PROMPTS:
        needs = f"style control needs at least {MIN_PROMPTS} judged prompts; these are {len(scored)}"
        return nothing | {"style": style | {"reason": needs}}
    fit = fit_style_control(_battles(scored), centred=as_published, n_boot=PUBLISHED_DRAWS if as_published else 0)
    if fit is None:
        return nothing | {"style": style | {"reason": "one side won every game, or style alone predicts every winner"}}
    figures = {"sc_score": 100 * fit.win_rate(_MODEL, _BASELINE), "sc_ci95": _percent(fit.interval(_MODEL, _BASELINE))}
    if as_published and (quantiles := fit.win_rate_quantiles(_MODEL, _BASELINE, PUBLISHED_QUANTILES)) is not None:
        low, median, high = quantiles
        figures |= {"sc_score": 100 * median, "sc_quantiles_5_95": [100 * low, 100 * high]}
    return figures | {"style": style | {"coefficients": dict(fit.coefficients)}}


def _battles(scored: Sequence[tuple[Row, list[Outcome]]]) -> list[Battle]:
    from judges.style_control import Battle, style_counts, style_difference

    battles = []
    for row, games in scored:
        # Lengths of both answers are counted the same way: as recorded only where both are.
        own, other = row.facts.get("token_len") or (None, None)
        baseline = str(row.facts["reference"][0])
        style = style_difference(style_counts(answer_of(row) or "", own), style_counts(baseline, other))
        battles += [Battle(_MODEL, _BASELINE, game.share, style, row.item_id, game.weight) for game in games]
    return battles


def style_reason(scores: Mapping[str, Any]) -> str:
    """Say why there is no figure under style control; "" where there is one."""
    style = scores.get("style")
    return str(style.get("reason") or "") if isinstance(style, Mapping) else ""


def game_lines(title: str, scores: Mapping[str, Any]) -> Iterable[Line]:
    """Return the lines of a terminal's table for :func:`game_figures`."""
    yield figures.score_line(title, scores, 2, 2)
    yield Line(
        "  with style control",
        figures.shown(scores.get("sc_score"), 2),
        figures.shown_interval(scores.get("sc_ci95"), 2),
        note=style_reason(scores),
    )


def style_figure(scores: Mapping[str, Any]) -> Figure:
    """Read the win rate with style control; its standard error is that of its interval, by prompts."""
    interval = scores.get("sc_ci95")
    given = {**scores, "score": scores.get("sc_score"), "stderr": stderr_of(interval), "ci95": interval}
    figure = scored_figure(given)
    return figure if figure.value is not None else Figure(reason=style_reason(scores) or figure.reason)


async def play_game(judge: Chat, order: Order, messages: Sequence[Message], max_new_tokens: int) -> Verdict:
    """Let a judge reason and give a label; a judgment without one is completed under guided output."""
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=0.0)
    judged = await reason_then_choose(judge, messages, sampling, parse_label, LEAD_IN, CHOICES)
    if isinstance(judged, Unscored) and judged.reason == "no_verdict":
        return Verdict(order=order, text=judged.detail, unscored=Unscored(judged.reason))
    contradicts = isinstance(judged, Choice) and against_text(judged, OUTCOMES[judged.letter][0])
    return msgspec.structs.replace(verdict_of(judged), order=order, contradicts=contradicts)


async def play_pair(
    judge: Chat, method: Method, messages: Sequence[Message], key: str, answers: Sequence[str], max_new_tokens: int = 0
) -> Game | Unscored:
    """Ask which of two ``answers`` is better: A or B by their probabilities, or after reasoning A, B or tie.

    ``messages`` is :func:`judges.verdicts.comparison_prompt` with ``key``. A judge that gives A and B almost no
    probability is asked once more, for words; ``max_new_tokens`` bounds the reasoning.
    """
    if method == "verdict":
        asked = await judge.label_logprobs(messages, LABELS, SPELLINGS)
        game = asked if isinstance(asked, Unscored) else game_from_logprobs(asked)
        if isinstance(game, Unscored):
            may_write = game.reason in ("label_mass", "no_verdict")
            return await _in_words(judge, messages, key, answers, game) if may_write else game
        return replace(game, thought=thought_of(asked))
    choice = await reason_then_choose(
        judge,
        messages,
        Sampling(max_new_tokens),
        lambda text: parse_verdict(text, key, answers),
        verdict_lead_in(key),
        VERDICT_CHOICES,
    )
    return choice if isinstance(choice, Unscored) else game_from_choice(choice, answers)


async def _in_words(
    judge: Chat, messages: Sequence[Message], key: str, answers: Sequence[str], why: Unscored
) -> Game | Unscored:
    """Ask once more, for words: a verdict in a known form counts, else the game stays unscored."""
    reply = await judge.chat(messages, Sampling(WORDS_MAX_NEW_TOKENS))
    choice = reply if isinstance(reply, Unscored) else parse_verdict(reply.text, key, answers)
    if isinstance(reply, Unscored) or isinstance(choice, Unscored):
        return why
    return replace(game_from_choice(choice), in_words=True, thought=reply.thought)
