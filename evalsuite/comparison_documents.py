"""The documents of a comparison as types: preferences.json, its manifest.json, and the rows of verdicts.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import pydantic

from evalsuite.assets.asset import Pin
from evalsuite.documents import SCHEMA, Document
from evalsuite.errors import DataError, plain_fault
from evalsuite.files import read_objects

Interval = tuple[float, float]


class CardSummary(Document):
    """What a judge's card concludes: its ``verdict``, the sentences that led to it, and the pairs it rests on.

    Of a card of ratings, ``factors`` are Spearman's correlations with people by factor.
    """

    method: str | None = None
    verdict: str | None = None
    words: tuple[str, ...] | None = None
    pairs: str = ""
    factors: dict[str, dict[str, Any]] | None = None


class ComparisonJudge(Document):
    """A judge of a comparison and how it was asked; a panel has ``members`` and the method "panel"."""

    name: str
    fingerprint: str | None = None
    method: str = ""
    template_sha256: str | None = None
    tie_margin: float | None = None
    max_judge_tokens: int | None = None
    notes: tuple[str, ...] = ()
    card: CardSummary | None = None
    is_candidate: bool = False
    members: tuple[ComparisonJudge, ...] = ()
    weight: float | None = None
    """In a panel whose judges do not weigh the same."""


class PositionBias(Document):
    """How often the answer shown first wins (0 to 1), over games in both orders."""

    first_rate: float
    ci95: Interval | None = None
    mean_first: float | None = None
    n_games: int = 0


class WinRates(Document):
    """Wins of two models; rates are shares of the prompts with a verdict, from 0 to 1.

    ``bounds_a`` and ``bounds_b`` are the rates if all prompts without a verdict went one way; given if they are many.
    """

    wins_a: int = 0
    wins_b: int = 0
    ties: int = 0
    unscored: int = 0
    rate_a: float | None = None
    rate_b: float | None = None
    ci95_a: Interval | None = None
    ci95_b: Interval | None = None
    bounds_a: Interval | None = None
    bounds_b: Interval | None = None


class _Pair(Document):
    a: str
    b: str
    n: int | None = None


class PairFigures(WinRates, _Pair):
    """The figures of one pair of models.

    A tie is a position flip (the orders name different answers), a half tie (one order is a tie) or a tie in both.
    ``position_flips``, ``half_ties`` and ``identical`` are None for recorded ratings. ``detectable`` is the smallest
    true ``rate_a`` minus ``rate_b`` that so many prompts show with 80 % power; None where all verdicts are alike.
    """

    unscored_reasons: dict[str, int] = pydantic.Field(default_factory=dict)

    @property
    def n_prompts(self) -> int:
        """The prompts, with and without a verdict."""
        return self.wins_a + self.wins_b + self.ties + self.unscored

    position_flips: int | None = None
    half_ties: int | None = None
    identical: int | None = None
    preference_a: float | None = None
    preference_ci95_a: Interval | None = None
    position_bias: PositionBias | None = None
    p_value: float | None = None
    categories: dict[str, WinRates] | None = None
    p_value_holm: float | None = None
    detectable: float | None = None


class Flip(Document):
    """The prompts on which ``dgm`` beats ``other``, which beats ``own``, the SFT trained on the DGM's answers."""

    dgm: str
    own: str
    other: str
    count: int


class RankedModel(Document):
    """A model's Bradley-Terry strength in log-odds of its decided games (their sum is 0).

    ``rank`` is the best and worst one that the intervals of the differences allow; ``win_rate_adjusted`` counts a tie
    as half a win, over all its scored prompts (FastChat's name).
    """

    model: str
    bradley_terry: float | None = None
    ci95: Interval | None = None
    added_ties: float = 0.0
    rank: tuple[int, int] | None = None
    win_rate_adjusted: float | None = None


class StrengthDifference(Document):
    """How much stronger model ``a`` is than ``b``, in log-odds."""

    a: str
    b: str
    difference: float
    ci95: Interval | None = None


class Cycle(Document):
    """Three models that beat each other in a circle, each over the next: no ranking describes them."""

    models: tuple[str, str, str]
    p_value: float


class JudgingFigures(Document):
    """How the judge replied, over all its games.

    ``label_mass`` is the total probability of the labels, mean and least, None without probabilities; ``in_words`` the
    games asked again because it was below the floor; ``contradictions`` the guided closings that name the other answer
    than the text before; ``shortened`` the games with answers cut to fit.
    """

    n_games: int = 0
    unscored: int = 0
    label_mass: float | None = None
    least_label_mass: float | None = None
    in_words: int = 0
    closed_by_guide: int = 0
    contradictions: int = 0
    shortened: int = 0


class PreferenceMatrix(Document):
    """The rates as the paper's Table 4 shows them, in percent; ``flip_counts`` by own SFT and other SFT."""

    models: tuple[str, ...]
    percent_row_over_column: tuple[tuple[float | None, ...], ...]
    flip_counts: tuple[dict[str, dict[str, int]] | None, ...]


class PreferenceFigures(Document):
    """The figures of one set of verdicts."""

    n_prompts: int = 0
    pairs: tuple[PairFigures, ...]
    flips: tuple[Flip, ...] = ()
    ranking: tuple[RankedModel, ...] = ()
    differences: tuple[StrengthDifference, ...] = ()
    cycles: tuple[Cycle, ...] = ()
    judging: JudgingFigures | None = None
    matrix: PreferenceMatrix | None = None
    position_bias: PositionBias | None = None


class _Member(Document):
    judge: ComparisonJudge


class MemberFigures(PreferenceFigures, _Member):
    """The figures of one judge of a panel.

    ``own_preference`` is how much more often it lets its own answers win than the other judges do, in [-1, 1], where it
    is one of the models.
    """

    own_preference: float | None = None
    own_preference_ci95: Interval | None = None


class JudgesAgreement(Document):
    """How far two judges of a panel agree on the games that both decided: share of agreement and Cohen's kappa."""

    a: str
    b: str
    n: int = 0
    share: float | None = None
    kappa: float | None = None
    kappa_ci95: Interval | None = None


class PanelAgreement(Document):
    """How far a panel's judges agree; ``alpha`` is Krippendorff's, ``disputed`` the games with different winners."""

    alpha: float | None = None
    alpha_ci95: Interval | None = None
    disputed: int = 0
    n_games: int = 0
    pairs: tuple[JudgesAgreement, ...] = ()


class _Comparison(Document):
    schema_: Literal[1] = pydantic.Field(default=SCHEMA, alias="schema")
    models: tuple[str, ...]
    judge: ComparisonJudge | None = None
    prompts: str = ""
    as_published: bool = False
    turns: str | None = None
    data: str | None = None
    limit: pydantic.StrictInt | None = None


class StyleRate(Document):
    """How often ``a`` beats ``b``, a tie as half a win: as judged (``raw_a``) and style-controlled (``rate_a``)."""

    a: str
    b: str
    raw_a: float
    rate_a: float
    ci95_a: Interval | None = None


class StyleControl(Document):
    """The rates under style control, and the coefficients of the features; ``reason`` where there are none."""

    pairs: tuple[StyleRate, ...] = ()
    coefficients: dict[str, float] | None = None
    reason: str = ""


class CorrectedFigure(Document):
    """A mean in [0, 1] as the judge has it, from people's labels alone, and from both (prediction-powered inference).

    ``weight`` is how much the judge counts in ``value``, 0 to 1.
    """

    judged: float
    alone: float
    alone_ci95: Interval
    value: float
    ci95: Interval
    weight: float


class HumanPair(_Pair):
    """How often people prefer each of two models over all ``n`` prompts with a verdict, from ``n_labels`` labels.

    ``agreement`` is the share of labels that the judge's verdict equals; ``reason`` says why there are no rates.
    """

    n_labels: int = 0
    agreement: float | None = None
    rate_a: CorrectedFigure | None = None
    rate_b: CorrectedFigure | None = None
    reason: str = ""


class HumanRank(Document):
    """A model's share of points over all its pairs, a tie as half."""

    model: str
    points: CorrectedFigure | None = None


class HumanLabels(Document):
    """The figures corrected by people's labels; ``reason`` says why there is no ranking."""

    n_labels: int = 0
    pairs: tuple[HumanPair, ...] = ()
    ranking: tuple[HumanRank, ...] = ()
    reason: str = ""


class Preferences(PreferenceFigures, _Comparison):
    """preferences.json: the figures of a comparison, of a panel by majority. Recorded ratings have no ``judge``."""

    notes: tuple[str, ...] = ()
    panel_mean: PreferenceFigures | None = None
    panel_agreement: PanelAgreement | None = None
    judges: tuple[MemberFigures, ...] = ()
    style: StyleControl | None = None
    human: HumanLabels | None = None


class PromptsEntry(Document):
    """The prompts in a comparison's manifest."""

    name: str
    turns: str
    data_pins: dict[str, Pin] = pydantic.Field(default_factory=dict)


class ComparisonManifest(Document):
    """manifest.json of a comparison; ``key`` tells one comparison from another in the same folder."""

    schema_: Literal[1] = pydantic.Field(default=SCHEMA, alias="schema")
    key: str
    versions: dict[str, str] = pydantic.Field(default_factory=dict)
    git: dict[str, Any] | None = None
    hardware: dict[str, Any] = pydantic.Field(default_factory=dict)
    written_at: str = ""
    models: tuple[dict[str, Any], ...]
    judges: tuple[ComparisonJudge, ...]
    prompts: PromptsEntry
    arguments: dict[str, Any] = pydantic.Field(default_factory=dict)
    seconds: float = 0.0
    usage: dict[str, Any] = pydantic.Field(default_factory=dict)


class GameRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One judgment of a pair in one order: the preference for the answer shown first (0 to 1), or why there is none."""

    preference_first: float | msgspec.UnsetType = msgspec.UNSET
    logprobs: Mapping[str, float] | msgspec.UnsetType | None = msgspec.UNSET
    text: str | msgspec.UnsetType | None = msgspec.UNSET
    closed_by_guide: bool | msgspec.UnsetType = msgspec.UNSET
    mass: float | msgspec.UnsetType | None = msgspec.UNSET
    in_words: bool = False
    contradicts: bool = False
    shortened: bool = False
    thought: str | None = None
    rewards: tuple[float, float] | None = None
    unscored: str | msgspec.UnsetType = msgspec.UNSET
    detail: str | msgspec.UnsetType = msgspec.UNSET


class UnscoredEntry(msgspec.Struct, frozen=True):
    """Why there is no verdict."""

    reason: str
    detail: str = ""


class VerdictRow(msgspec.Struct, frozen=True, kw_only=True):
    """A line of verdicts.jsonl: one judge's verdict on one pair of answers, with both games."""

    prompt_id: str
    category: str | None = None
    prompt: str = ""
    a: str
    b: str
    answer_a: str | None = None
    answer_b: str | None = None
    judge: str = ""
    method: str = ""
    winner: Literal["a", "b", "tie"] | None = None
    preference_a: float | None = None
    position_flip: bool | None = None
    identical: bool | None = None
    half_tie: bool | None = None
    unscored: UnscoredEntry | None = None
    a_first: GameRow | None = None
    b_first: GameRow | None = None

    @property
    def texts(self) -> list[str]:
        """The judgments in words."""
        return [game.text for game in (self.a_first, self.b_first) if game is not None and game.text]


def read_verdict_rows(path: Path) -> list[VerdictRow]:
    """Read a verdicts.jsonl; raises DataError that names the row that ``evalsuite compare`` did not write."""
    rows = []
    for number, row in enumerate(read_objects(path), 1):
        try:
            rows.append(msgspec.convert(row, VerdictRow))
        except msgspec.ValidationError as error:
            raise DataError(
                f"{path} row {number} is not a verdict of 'evalsuite compare' ({plain_fault(error)}); compare again"
            ) from error
    return rows
