"""Preference rates of a comparison with the style of the answers held equal; docs/style-control.md explains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evalsuite.comparison.candidates import Answers
from evalsuite.comparison.figures import Pair
from evalsuite.comparison.games import PairRecord
from evalsuite.comparison.prompts import PromptSet, Texts
from evalsuite.comparison_documents import StyleControl, StyleRate
from judges.style_control import MIN_PROMPTS, Battle, StyleCounts, fit_style_control, style_counts, style_difference
from judges.types import Unscored
from judges.verdicts import PairVerdict, points_of

Judgments = Mapping[Pair, Sequence[PairRecord]]


def style_control(prompts: PromptSet, answers: Answers, judged: Sequence[Judgments]) -> StyleControl:
    """Fit all pairs together, a tie as half a win: each pair's rate under style control, or why there is none.

    The judges of a panel share a prompt's weight. Intervals are by prompt, or group of prompts. The style of a
    conversation is that of all its answers together.
    """
    battles = _battles(prompts, answers, judged)
    n_prompts = len({battle.prompt for battle in battles})
    if n_prompts < MIN_PROMPTS:
        return StyleControl(reason=f"it needs at least {MIN_PROMPTS} judged prompts; these are {n_prompts}")
    fit = fit_style_control(battles)
    if fit is None:
        return StyleControl(reason="one model won every game, or style alone predicts every winner")
    # What the fit would say raw: the share that a won of its prompts against b, a tie as half.
    shares: dict[Pair, list[float]] = {}
    for battle in battles:
        shares.setdefault((battle.first, battle.second), []).append(battle.share)
    rates = [
        StyleRate(a=a, b=b, raw_a=sum(won) / len(won), rate_a=fit.win_rate(a, b), ci95_a=fit.interval(a, b))
        for (a, b), won in shares.items()
    ]
    return StyleControl(coefficients=dict(fit.coefficients), pairs=tuple(rates))


def _battles(prompts: PromptSet, answers: Answers, judged: Sequence[Judgments]) -> list[Battle]:
    styles = {name: {prompt: _counts(texts) for prompt, texts in own.items()} for name, own in answers.items()}
    battles = []
    for by_pair in judged:
        for (a, b), records in by_pair.items():
            for question, group, record in zip(prompts.questions, prompts.groups, records, strict=True):
                own, other = styles[a][question.id], styles[b][question.id]
                if isinstance(record.verdict, PairVerdict) and own is not None and other is not None:
                    style = style_difference(own, other)
                    battles.append(Battle(a, b, points_of(record.verdict), style, group, weight=1 / len(judged)))
    return battles


def _counts(texts: Texts) -> StyleCounts | None:
    return None if isinstance(texts, Unscored) else style_counts("\n\n".join(texts))
