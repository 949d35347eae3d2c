"""Who judges a run: nobody, one model, or a panel whose verdicts are the mean of its members'."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evalsuite.checkpoint import Checkpoint
from evalsuite.checkpoint.kinds import ModelKind
from evalsuite.documents import JudgeMember
from evalsuite.errors import blamed_on
from evalsuite.progress import Progress
from evalsuite.records.rows import Header, Row, Verdict, for_judge, replaced
from evalsuite.results.folder import is_retried
from evalsuite.results.judge_cards import card_summary, card_weights
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.identity import refuse_twins
from evalsuite.store import content_key
from evalsuite.suites.base import Suite
from evalsuite.suites.repeats import marked_draws, scored_marks
from judges.types import Unscored

Weights = Literal["equal", "card"]


@dataclass(frozen=True, slots=True)
class Panel:
    """Several judges that decide together; its name, fingerprint and slug are used as a single judge's are."""

    judges: tuple[Checkpoint, ...]
    weights: tuple[float, ...]
    cards: tuple[Mapping[str, Any] | None, ...] = ()
    """What the weights are based on; () where all are equal."""

    @property
    def name(self) -> str:
        return f"panel of {', '.join(judge.name for judge in self.judges)}"

    @property
    def fingerprint(self) -> str:
        members = [
            [judge.fingerprint, round(weight, 6)] for judge, weight in zip(self.judges, self.weights, strict=True)
        ]
        return content_key({"panel": sorted(members)})

    @property
    def slug(self) -> str:
        return f"panel-{self.fingerprint[:8]}"

    @property
    def members(self) -> tuple[JudgeMember, ...]:
        cards = self.cards or (None,) * len(self.judges)
        return tuple(
            JudgeMember(name=judge.name, fingerprint=judge.fingerprint, weight=weight).with_given(card=card)
            for judge, weight, card in zip(self.judges, self.weights, cards, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Judges:
    """The judges of a run. ``views`` are those that have their own figures; the last one's are on top."""

    members: tuple[Checkpoint, ...] = ()
    panel: Panel | None = None

    @property
    def views(self) -> tuple[Checkpoint | Panel, ...]:
        return (*self.members, *([self.panel] if self.panel is not None else []))

    def with_verdicts(self, slugs: Collection[str]) -> Judges:
        """Return the judges that have judged; the panel decides only with all of its judges."""
        members = tuple(judge for judge in self.members if judge.slug in slugs)
        return Judges(members, self.panel if len(members) == len(self.members) else None)

    @property
    def top(self) -> Checkpoint | Panel | None:
        """Whose figures are on top of scores.json; None for a run without a judge."""
        return self.views[-1] if self.views else None


def resolve_judges(
    specs: Sequence[str], serve: ServeConfig, progress: Progress, kind: ModelKind = "generate"
) -> list[Checkpoint]:
    """Find the judges' checkpoints; raises UsageError for a duplicate one, CheckpointError for another kind."""
    with blamed_on("judge"):
        judges = [serve.resolve(spec, kind=kind, on_step=progress.step) for spec in specs]
    refuse_twins(judges, "judge")
    return judges


def panel_of(judges: Sequence[Checkpoint], weights: Weights, results: Path) -> Panel | None:
    """Return the panel of several judges, None for one or none; raises UsageError where a card is missing."""
    if len(judges) < 2:
        return None
    if weights == "equal":
        return Panel(tuple(judges), (1.0,) * len(judges))
    cards = tuple(card_summary(results, judge) for judge in judges)
    return Panel(tuple(judges), card_weights([judge.name for judge in judges], cards), cards)


def with_panel(row: Row, panel: Panel, suite: Suite) -> Row:
    """Return a row with the panel's verdicts beside its members'; each says in its text what they said."""
    slugs = [judge.slug for judge in panel.judges]
    places: dict[tuple[int, int, Any], dict[str, Verdict]] = {}
    for verdict in row.verdicts:
        if verdict.judge in slugs:
            places.setdefault((verdict.turn, verdict.repeat, verdict.order), {})[verdict.judge] = verdict
    verdicts = []
    for (turn, repeat, order), by_judge in places.items():
        values = [_value(by_judge.get(slug)) for slug in slugs]
        together = _together(values, panel, suite)
        known = {"turn": turn, "repeat": repeat, "order": order, "text": _said(panel, values)}
        if isinstance(together, Unscored):
            verdicts.append(Verdict(panel.slug, unscored=Unscored(together.reason), **known))
        else:
            verdicts.append(Verdict(panel.slug, together, **known))
    return replaced(row, verdicts=(*row.verdicts, *verdicts))


def _value(verdict: Verdict | None) -> float | str | Unscored:
    if verdict is None:
        return Unscored("no_judge")
    if verdict.unscored is not None:
        return verdict.unscored
    return Unscored("no_verdict") if verdict.value is None else verdict.value


def _together(values: Sequence[float | str | Unscored], panel: Panel, suite: Suite) -> float | str | Unscored:
    from judges.panel import given_values

    given: list[tuple[float | str, float]] | Unscored = given_values(values, panel.weights)
    if not isinstance(given, Unscored):
        return suite.panel_value(given)
    # A verdict that another run may still bring is not a missing majority.
    lost = (value for value in values if isinstance(value, Unscored) and is_retried(value.reason))
    return next(lost, given)


def _said(panel: Panel, values: Sequence[float | str | Unscored]) -> str:
    said = [
        value.reason if isinstance(value, Unscored) else f"{value:g}" if isinstance(value, int | float) else value
        for value in values
    ]
    return "\n".join(f"{judge.name}: {text}" for judge, text in zip(panel.judges, said, strict=True))


def panel_figures(panel: Panel, suite: Suite, header: Header, rows: Sequence[Row]) -> dict[str, Any]:
    """Return how far a panel's judges agree on a suite's items, for its object of scores.json.

    {"n", "alpha", "alpha_ci95", "disputed", "disputed_items": the first hundred ids, "pairs": [{"a", "b", "n", "alike",
    "kappa", "kappa_ci95"}]}; see :class:`judges.panel.MarksAgreement`. ``n`` counts items with marks of two
    judges or more.
    """
    if not rows:
        return {}
    shown = suite.report_part(header.suite, rows[0].part)
    marks = [[_mark(suite, header, for_judge(row, judge.slug), shown.metric) for judge in panel.judges] for row in rows]
    clusters = [suite.context_of(row) or f"{row.part}/{row.item_id}" for row in rows]
    from judges.panel import marks_agreement

    found = marks_agreement(marks, clusters, best=shown.top / shown.scale)
    names = [judge.name for judge in panel.judges]
    pairs = [
        {"a": names[i], "b": names[j], "n": one.n, "alike": one.share, "kappa": one.kappa}
        | {"kappa_ci95": None if one.interval is None else list(one.interval)}
        for (i, j), one in found.pairs.items()
    ]
    disputed = [rows[place].item_id for place in found.disputed[:100]]
    alpha_ci95 = None if found.alpha_interval is None else list(found.alpha_interval)
    figures = {"n": found.n, "alpha": found.alpha, "alpha_ci95": alpha_ci95, "disputed": len(found.disputed)}
    return {"panel": figures | {"disputed_items": disputed, "pairs": pairs}}


def _mark(suite: Suite, header: Header, row: Row, metric: str) -> float | None:
    marks = scored_marks(marked_draws(suite, row, header), metric)
    return sum(marks) / len(marks) if marks else None
