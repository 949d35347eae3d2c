"""The files of a comparison: preferences.json and .csv, verdicts.jsonl and manifest.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec

from evalsuite.comparison.candidates import Answers, Candidate
from evalsuite.comparison.figures import Games, Pair, Verdicted, pairs_csv, preference_figures
from evalsuite.comparison.games import PairRecord
from evalsuite.comparison.human import Labels, with_labels
from evalsuite.comparison.judging import Judge
from evalsuite.comparison.prompts import PromptSet, Question, Texts
from evalsuite.comparison_documents import (
    ComparisonJudge,
    ComparisonManifest,
    GameRow,
    JudgesAgreement,
    MemberFigures,
    PanelAgreement,
    PreferenceFigures,
    Preferences,
    UnscoredEntry,
    VerdictRow,
)
from evalsuite.documents import SCHEMA
from evalsuite.files import write_json, write_jsonl, write_text
from judges.panel import (
    Votes,
    disagrees,
    judges_agreement,
    krippendorff_alpha,
    own_preference,
    panel_majority,
    panel_mean,
)
from judges.preference import Verdicts
from judges.types import Unscored
from judges.verdicts import Game, PairVerdict

_SEPARATOR = "\n\n"
"""Between the turns of a conversation where they are shown as one text."""

Judged = Mapping[Pair, Sequence[PairRecord]]


def comparison_document(
    candidates: Sequence[Candidate],
    prompts: PromptSet,
    judged: Sequence[tuple[Judge, Judged]],
    lineage: Mapping[str, str] | None,
    notes: Sequence[str],
    *,
    results: Path,
    weights: Sequence[float],
    setting: Mapping[str, Any],
    labels: Labels | None = None,
) -> Preferences:
    """Assemble preferences.json; the figures of a panel are those of its majority by the judges' ``weights``.

    ``setting`` are the options in the document (turns, data, limit); ``results`` is the folder of the judges' cards;
    ``labels`` are people's, by which the figures come corrected too.
    """
    judges = _described([judge for judge, _ in judged], candidates, results, weights)
    names, ids = tuple(one.name for one in candidates), tuple(question.id for question in prompts.questions)
    each = [by_pair for _, by_pair in judged]
    votes = {
        pair: [[one.verdict for one in row] for row in zip(*(by_pair[pair] for by_pair in each), strict=True)]
        for pair in each[0]
    }

    def figures(verdicts: Mapping[Pair, Verdicts], records: Sequence[Judged]) -> dict[str, Any]:
        given = Verdicted(
            models=names,
            prompt_ids=ids,
            categories=tuple(question.category for question in prompts.questions),
            groups=prompts.groups,
            verdicts=verdicts,
            games={pair: _games([by_pair[pair] for by_pair in records]) for pair in verdicts},
        )
        return dict(preference_figures(given, lineage))

    # A single judge's verdict also says how confident it is; a majority counts votes.
    majority = {
        pair: [row[0] if len(row) == 1 else panel_majority(row, weights) for row in rows]
        for pair, rows in votes.items()
    }
    panel: dict[str, Any] = {}
    judge = judges[0]
    if len(judges) > 1:
        members = ", ".join(member.name for member in judges)
        judge = ComparisonJudge(name=f"majority of {members}", method="panel", members=tuple(judges))
        margin = judged[0][0].how.margin
        mean = {pair: [panel_mean(row, margin=margin, weights=weights) for row in rows] for pair, rows in votes.items()}
        panel["panel_mean"] = PreferenceFigures(**figures(mean, each))
        panel["judges"] = tuple(
            MemberFigures(
                judge=member,
                **figures({pair: [one.verdict for one in rows] for pair, rows in by_pair.items()}, [by_pair]),
                **_own(number, judged, candidates, votes, prompts.groups),
            )
            for number, (member, by_pair) in enumerate(zip(judges, each, strict=True))
        )
        panel["panel_agreement"] = _agreement(judges, votes, prompts.groups)
    own = [f"the judge {member.name} is one of the models that it judges" for member in judges if member.is_candidate]
    document = Preferences(
        schema=SCHEMA,
        models=names,
        judge=judge,
        prompts=prompts.name,
        **setting,
        **figures(majority, each),
        notes=(*notes, *own),
        **panel,
    )
    return document if labels is None else with_labels(document, majority, ids, prompts.groups, labels)


def _described(
    judges: Sequence[Judge], candidates: Sequence[Candidate], results: Path, weights: Sequence[float]
) -> list[ComparisonJudge]:
    fingerprints = {candidate.fingerprint for candidate in candidates}
    return [
        ComparisonJudge(
            **{**judge.described(results), **({"weight": weight} if len(set(weights)) > 1 else {})},
            is_candidate=judge.checkpoint.fingerprint in fingerprints,
        )
        for judge, weight in zip(judges, weights, strict=True)
    ]


def _own(
    number: int,
    judged: Sequence[tuple[Judge, Judged]],
    candidates: Sequence[Candidate],
    votes: Mapping[Pair, Sequence[Votes]],
    groups: Sequence[str],
) -> dict[str, Any]:
    """Return how much a judge favours its own answers against the other judges; {} if it is not a candidate."""
    fingerprint = judged[number][0].checkpoint.fingerprint
    own = next((candidate.name for candidate in candidates if candidate.fingerprint == fingerprint), None)
    if own is None:
        return {}
    difference, interval = own_preference(own, number, votes, groups)
    return {"own_preference": difference, "own_preference_ci95": interval}


def _agreement(
    judges: Sequence[ComparisonJudge], votes: Mapping[Pair, Sequence[Votes]], groups: Sequence[str]
) -> PanelAgreement:
    games = [row for rows in votes.values() for row in rows]
    clusters = [group for rows in votes.values() for group, _ in zip(groups, rows, strict=True)]
    pairs = []
    for i, j in combinations(range(len(judges)), 2):
        found = judges_agreement([row[i] for row in games], [row[j] for row in games], clusters)
        pairs.append(
            JudgesAgreement(
                a=judges[i].name,
                b=judges[j].name,
                n=found.n,
                share=found.share,
                kappa=found.kappa,
                kappa_ci95=found.interval,
            )
        )
    alpha, alpha_ci95 = krippendorff_alpha(games, clusters)
    return PanelAgreement(
        alpha=alpha,
        alpha_ci95=alpha_ci95,
        disputed=sum(map(disagrees, games)),
        n_games=len(games),
        pairs=tuple(pairs),
    )


def _games(records: Sequence[Sequence[PairRecord]]) -> list[Games]:
    """Return the games of each prompt, both orders of every judge."""
    return [
        tuple(game for record in row for game in (record.a_first, record.b_first)) for row in zip(*records, strict=True)
    ]


def write_comparison(
    folder: Path,
    document: Preferences,
    manifest: ComparisonManifest,
    prompts: PromptSet,
    answers: Answers,
    judged: Sequence[tuple[Judge, Judged]],
) -> None:
    """Write the comparison's files; manifest.json last, so that a folder with one is complete."""
    rows = (
        _verdict_row(judge, pair, question, one, answers)
        for judge, by_pair in judged
        for pair, records in by_pair.items()
        for question, one in zip(prompts.questions, records, strict=True)
    )
    write_jsonl(folder / "verdicts.jsonl", (msgspec.to_builtins(row) for row in rows))
    write_text(folder / "preferences.csv", pairs_csv(document.pairs))
    write_json(folder / "preferences.json", document.as_json())
    write_json(folder / "manifest.json", manifest.as_json())


def _verdict_row(judge: Judge, pair: Pair, question: Question, one: PairRecord, answers: Answers) -> VerdictRow:
    return VerdictRow(
        prompt_id=question.id,
        category=question.category,
        prompt=_SEPARATOR.join(question.turns),
        a=pair[0],
        b=pair[1],
        answer_a=_joined(answers[pair[0]][question.id]),
        answer_b=_joined(answers[pair[1]][question.id]),
        judge=judge.name,
        method=judge.how.name,
        **(asdict(one.verdict) if isinstance(one.verdict, PairVerdict) else {}),
        unscored=UnscoredEntry(one.verdict.reason, one.verdict.detail) if isinstance(one.verdict, Unscored) else None,
        a_first=_game_row(one.a_first),
        b_first=_game_row(one.b_first),
    )


def _joined(texts: Texts) -> str | None:
    return None if isinstance(texts, Unscored) else _SEPARATOR.join(texts)


def _game_row(game: Game | Unscored | None) -> GameRow | None:
    if game is None:
        return None
    if isinstance(game, Unscored):
        return GameRow(unscored=game.reason, detail=game.detail)
    fields = {**asdict(game), "logprobs": dict(game.logprobs) or None, "text": game.text or None}
    return GameRow(preference_first=fields.pop("first"), **fields)
