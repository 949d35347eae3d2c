"""People's labels on some prompts of a comparison, and the figures corrected by them (``--human labels.jsonl``).

    {"prompt_id": "81", "a": "model-a", "b": "model-b", "label": "a", "chance": 0.25}

``label`` is a, b or tie; ``chance`` is the one with which the pair was drawn for labelling, as ``evalsuite label``
writes it, the same for all pairs of two models where it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from evalsuite.comparison.figures import Pair
from evalsuite.comparison_documents import CorrectedFigure, HumanLabels, HumanPair, HumanRank, Preferences
from evalsuite.errors import DataError, plain_fault, unknown
from evalsuite.files import read_objects
from evalsuite.text import plural
from judges.prediction_powered import MIN_LABELS, corrected_mean
from judges.preference import Verdicts
from judges.verdicts import OTHER_SIDE, POINTS, PairVerdict, Winner


class Label(msgspec.Struct, frozen=True):
    """One line of a file of labels."""

    prompt_id: str
    a: str
    b: str
    label: Winner
    chance: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None


Labels = Mapping[Pair, Mapping[str, Label]]
"""By pair, as the comparison has it, and prompt."""


def read_labels(path: Path, pairs: Sequence[Pair], prompt_ids: Sequence[str]) -> Labels:
    """Read people's labels; raises DataError for unknown prompts and models, and for two labels that contradict."""
    found: dict[Pair, dict[str, Label]] = {pair: {} for pair in pairs}
    known, models = set(prompt_ids), list(dict.fromkeys(name for pair in pairs for name in pair))
    for number, row in enumerate(read_objects(path), 1):
        where = f"{path} row {number}"
        try:
            label = msgspec.convert(row, Label)
        except msgspec.ValidationError as error:
            expected = "prompt_id, a, b and label (a, b or tie), as evalsuite label writes them"
            raise DataError(f"{where} is not a label ({plain_fault(error)}); give {expected}") from error
        for name in (label.a, label.b):
            if name not in models:
                raise DataError(f"{where}: {unknown('model', name, models)}")
        if label.prompt_id not in known:
            raise DataError(f"{where}: {unknown('prompt', label.prompt_id, prompt_ids)}")
        if (label.a, label.b) not in found:
            label = msgspec.structs.replace(label, a=label.b, b=label.a, label=OTHER_SIDE[label.label])
        if (label.a, label.b) not in found:
            raise DataError(f"{where}: {label.a} is compared with itself; give two models")
        earlier = found[label.a, label.b].setdefault(label.prompt_id, label)
        if earlier.label != label.label:
            raise DataError(
                f"{where}: prompt {label.prompt_id!r} of {label.a} and {label.b} has the labels "
                f"{earlier.label} and {label.label}; keep one"
            )
    return found


def with_labels(
    document: Preferences,
    verdicts: Mapping[Pair, Verdicts],
    prompt_ids: Sequence[str],
    groups: Sequence[str],
    labels: Labels,
) -> Preferences:
    """Return preferences.json with the rates and the ranking corrected by people's labels."""
    cases = {pair: _cases(verdicts[pair], prompt_ids, groups, labels[pair]) for pair in verdicts}
    human = HumanLabels(
        n_labels=sum(map(len, labels.values())),
        pairs=tuple(_pair(pair, own) for pair, own in cases.items()),
        **_ranking(document.models, cases),
    )
    return document.model_copy(update={"human": human})


class _Case(NamedTuple):
    """One prompt of one pair: the judge's winner and preference, what people say, and the chance of being drawn."""

    winner: Winner
    preference_a: float
    label: Winner | None
    chance: float
    group: str


def _cases(
    verdicts: Verdicts, prompt_ids: Sequence[str], groups: Sequence[str], labels: Mapping[str, Label]
) -> list[_Case]:
    scored = [
        (prompt, group, verdict)
        for prompt, group, verdict in zip(prompt_ids, groups, verdicts, strict=True)
        if isinstance(verdict, PairVerdict)
    ]
    same = sum(prompt in labels for prompt, _, _ in scored) / max(1, len(scored)) or 1.0
    return [
        _Case(
            winner=verdict.winner,
            preference_a=verdict.preference_a,
            label=labels[prompt].label if prompt in labels else None,
            chance=(labels[prompt].chance or same) if prompt in labels else same,
            group=group,
        )
        for prompt, group, verdict in scored
    ]


def _pair(pair: Pair, cases: Sequence[_Case]) -> HumanPair:
    agreed = [case.winner == case.label for case in cases if case.label is not None]
    n = len(agreed)
    return HumanPair(
        a=pair[0],
        b=pair[1],
        n=len(cases),
        n_labels=n,
        agreement=sum(agreed) / n if n else None,
        rate_a=_rate(cases, "a"),
        rate_b=_rate(cases, "b"),
        reason="" if n >= MIN_LABELS else f"{plural(n, 'label')}; an interval needs at least {MIN_LABELS}",
    )


def _rate(cases: Sequence[_Case], side: str) -> CorrectedFigure | None:
    """Return how often people prefer a side, corrected; None for too few labels."""
    wins = [float(case.winner == side) for case in cases]
    labels = [None if case.label is None else float(case.label == side) for case in cases]
    return _figure(wins, labels, cases)


def _figure(judged: Sequence[float], labels: Sequence[float | None], cases: Sequence[_Case]) -> CorrectedFigure | None:
    if not cases:
        return None
    found = corrected_mean(judged, labels, [case.chance for case in cases], [case.group for case in cases])
    if found is None:
        return None
    values: dict[str, Any] = {name: getattr(found, name) for name in ("value", "ci95", "weight", "alone", "alone_ci95")}
    return CorrectedFigure(judged=sum(judged) / len(judged), **values)


def _ranking(models: Sequence[str], cases: Mapping[Pair, Sequence[_Case]]) -> dict[str, Any]:
    """Rank by the share of points over all of a model's pairs, a tie as half, corrected; or say why there is none."""
    few = [pair for pair, own in cases.items() if sum(case.label is not None for case in own) < MIN_LABELS]
    if few:
        return {"ranking": (), "reason": f"{few[0][0]} and {few[0][1]} have fewer than {MIN_LABELS} labels"}
    ranked = []
    for model in models:
        judged: list[float] = []
        labels: list[float | None] = []
        own: list[_Case] = []
        for pair, each in cases.items():
            if model not in pair:
                continue
            sign, zero = (1.0, 0.0) if pair[0] == model else (-1.0, 1.0)
            judged += [zero + sign * case.preference_a for case in each]
            labels += [None if case.label is None else zero + sign * POINTS[case.label] for case in each]
            own += each
        ranked.append(HumanRank(model=model, points=_figure(judged, labels, own)))
    return {"ranking": tuple(sorted(ranked, key=lambda row: -row.points.value if row.points else 0.0))}
