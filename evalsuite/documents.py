"""The documents of a results folder as types: scores.json, manifest.json, and what stands in them.

They write the schema of CONTRACT to the letter; keys that are not known here are kept. ``validated`` turns pydantic's
faults into one DataError.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

import msgspec
import pydantic

from evalsuite.assets.asset import Pin
from evalsuite.errors import DataError, plain_fault
from evalsuite.files import read_objects
from evalsuite.validation import faults_of

SCHEMA: Final = 1

DocumentT = TypeVar("DocumentT", bound="Document")


class Document(pydantic.BaseModel):
    """Base of every document: frozen, unknown keys kept."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    def as_json(self) -> dict[str, Any]:
        """Return the document in JSON's own types, without the fields that were never set."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def with_given(self, **fields: Any) -> Self:
        """Return the document with those of ``fields`` that hold something."""
        return self.model_copy(update={name: value for name, value in fields.items() if value})


class ModelEntry(Document):
    """The model of a scores.json."""

    name: str
    path: str | None = None
    fingerprint: str
    dtype: str | None = None
    chat_template_sha256: str | None = None


class JudgeEntry(Document):
    """Who judged, by which method per suite."""

    name: str
    fingerprint: str | None = None
    methods: dict[str, str] | None = None
    note: str = ""

    @property
    def key(self) -> str:
        """What tells judges apart: the fingerprint, else the name."""
        return self.fingerprint or f"name:{self.name}"


class Judged(Document):
    """The figures of a further judge over the same answers."""

    judge: JudgeEntry
    suites: dict[str, dict[str, Any]]
    average: dict[str, Any]


class Scores(Document):
    """scores.json. ``judge``, ``suites`` and ``average`` are of the last run's judge; ``judged`` has the others'.

    The objects under ``suites`` are the suites' own; see each suite's ``score``.
    """

    schema_: Literal[1] = pydantic.Field(default=SCHEMA, alias="schema")
    imported: pydantic.StrictBool = False
    model: ModelEntry
    variant: str = ""
    """What differs from the defaults, as in the folder's name: ``seed-3``; "" for the defaults."""
    judge: JudgeEntry | None
    data: Literal["full", "mini"]
    limit: pydantic.StrictInt | None
    suites: dict[str, dict[str, Any]]
    average: dict[str, Any]
    judged: tuple[Judged, ...] = ()
    seconds: dict[str, float] = {}
    tokens: dict[str, int] = {}
    reasoning: dict[str, Any] | None = None
    """How the model thinks: what was asked for, what was found, the budget, and whether it came to thoughts."""
    answers: dict[str, dict[str, Any]] = {}
    """How the answers of each suite ended: cut, thoughts closed, loops, mean tokens."""

    @pydantic.field_validator("suites")
    @classmethod
    def _check_suites(cls, suites: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, suite in suites.items():
            if not isinstance(suite.get("unscored", {}), dict | None):
                raise ValueError(f"suite {name} is not an object of figures")
        return suites

    @pydantic.field_validator("average")
    @classmethod
    def _check_average(cls, average: dict[str, Any]) -> dict[str, Any]:
        partial = average.get("partial") or {}
        parts = [part for part in partial.values() if part is not None] if isinstance(partial, dict) else [None]
        if not all(isinstance(part, dict) and isinstance(part.get("parts"), list) and "mean" in part for part in parts):
            raise ValueError("its partial averages cannot be read")
        return average


class SuiteEntry(Document):
    """What a manifest keeps of a suite: the keys of its answers and figures, options, data."""

    run_key: str | None = None
    answer_key: str | None = None
    options: dict[str, Any] = {}
    data_pins: dict[str, Pin] = {}
    served: dict[str, Any] = {}
    missing: dict[str, str] = {}
    applied: dict[str, Any] = {}
    recorded: dict[str, Any] = {}
    """Of an import: the file's name and the SHA-256 of its content."""


class JudgedEntry(Document):
    """A further judge's suites in a manifest."""

    judge: JudgeEntry
    suites: dict[str, SuiteEntry]


class Manifest(Document):
    """manifest.json: everything that a reader needs to repeat or doubt the figures; written last."""

    schema_: Literal[1] = pydantic.Field(default=SCHEMA, alias="schema")
    imported: pydantic.StrictBool = False
    versions: dict[str, str] = {}
    git: dict[str, Any] | None = None
    hardware: dict[str, Any] = {}
    written_at: str = ""
    model: dict[str, Any] = {}
    training: dict[str, Any] | None = None
    judge: JudgeEntry | None = None
    suites: dict[str, SuiteEntry] = {}
    judged: tuple[JudgedEntry, ...] = ()
    seed: pydantic.StrictInt | None = None
    settings: dict[str, str] | None = None
    """What differs from the defaults (the folder's label unless --label named it); None in version 0.1."""
    arguments: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    tokens: dict[str, int] = {}
    usage: dict[str, Any] = {}
    server_restarts: int = 0


# A comparison ------------------------------------------------------------------------------------------

Interval = tuple[float, float]


class CardSummary(Document):
    """What a judge's card concludes: its ``verdict``, the sentences that led to it, and the pairs it rests on."""

    method: str | None = None
    verdict: str | None = None
    words: tuple[str, ...] | None = None
    pairs: str = ""


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
    ``position_flips``, ``half_ties`` and ``identical`` are None for recorded ratings.
    """

    unscored_reasons: dict[str, int] = {}

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
    """The figures of one judge of a panel."""


class _Comparison(Document):
    schema_: Literal[1] = pydantic.Field(default=SCHEMA, alias="schema")
    models: tuple[str, ...]
    judge: ComparisonJudge | None = None
    prompts: str = ""
    as_published: bool = False
    turns: str | None = None
    data: str | None = None
    limit: pydantic.StrictInt | None = None


class Preferences(PreferenceFigures, _Comparison):
    """preferences.json: the figures of a comparison, of a panel by majority. Recorded ratings have no ``judge``."""

    notes: tuple[str, ...] = ()
    panel_mean: PreferenceFigures | None = None
    judges: tuple[MemberFigures, ...] = ()


class PromptsEntry(Document):
    """The prompts in a comparison's manifest."""

    name: str
    turns: str
    data_pins: dict[str, Pin] = {}


class ComparisonManifest(Document):
    """manifest.json of a comparison; ``key`` tells one comparison from another in the same folder."""

    schema_: Literal[1] = pydantic.Field(default=SCHEMA, alias="schema")
    key: str
    versions: dict[str, str] = {}
    git: dict[str, Any] | None = None
    hardware: dict[str, Any] = {}
    written_at: str = ""
    models: tuple[dict[str, Any], ...]
    judges: tuple[ComparisonJudge, ...]
    prompts: PromptsEntry
    arguments: dict[str, Any] = {}
    seconds: float = 0.0
    usage: dict[str, Any] = {}


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


def validated(kind: type[DocumentT], document: Any, path: Path, remedy: str) -> DocumentT:
    """Check what a file holds; raises DataError naming the file, every fault and the remedy."""
    if not isinstance(document, Mapping):
        raise DataError(f"{path} is not an object; {remedy}")
    try:
        return kind.model_validate(dict(document))
    except pydantic.ValidationError as error:
        raise DataError(f"{path}: {'; '.join(faults_of(error, kind))}; {remedy}") from error
