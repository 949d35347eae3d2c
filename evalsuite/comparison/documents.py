"""The files of a comparison: preferences.json and .csv, verdicts.jsonl and manifest.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evalsuite.comparison.candidates import Answers, Candidate
from evalsuite.comparison.figures import Figures, Games, Pair, Verdicted, csv_text, preference_figures
from evalsuite.comparison.games import PairRecord
from evalsuite.comparison.judging import Judge
from evalsuite.comparison.prompts import PromptSet, Question, Texts
from evalsuite.files import write_json, write_jsonl, write_text
from evalsuite.results.folder import SCHEMA
from judges.types import Unscored
from judges.verdicts import Game, PairVerdict, panel_majority, panel_mean

_SEAM = "\n\n"
"""Stands between the turns of a conversation where they are shown as one text."""

Judged = Mapping[Pair, Sequence[PairRecord]]


def comparison_document(
    candidates: Sequence[Candidate],
    prompts: PromptSet,
    judged: Sequence[tuple[Judge, Judged]],
    lineage: Mapping[str, str] | None,
    notes: Sequence[str],
    *,
    results: Path,
    setting: Mapping[str, Any],
) -> dict[str, Any]:
    """Assemble preferences.json as CONTRACT has it; a panel's own figures are the majority's.

    ``setting`` are the options that stand in the document as they are; ``results`` is where the
    judges' cards are.
    """
    fingerprints = {candidate.fingerprint for candidate in candidates}
    described = [
        {**judge.described(results), "is_candidate": judge.checkpoint.fingerprint in fingerprints}
        for judge, _ in judged
    ]

    def figures(verdicts: Mapping[Pair, list[PairVerdict | Unscored]], of: Sequence[Judged]) -> Figures:
        games: dict[Pair, list[Games]] = {
            pair: [
                tuple(game for each in row for game in (each.a_first, each.b_first))
                for row in zip(*(by_pair[pair] for by_pair in of), strict=True)
            ]
            for pair in verdicts
        }
        given = Verdicted(
            models=tuple(candidate.name for candidate in candidates),
            prompt_ids=tuple(question.id for question in prompts.questions),
            categories=tuple(question.category for question in prompts.questions),
            verdicts=verdicts,
            games=games,
        )
        return preference_figures(given, lineage)

    each = [by_pair for _, by_pair in judged]
    votes = {
        pair: [[j.verdict for j in row] for row in zip(*(by_pair[pair] for by_pair in each), strict=True)]
        for pair in each[0]
    }
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "models": [candidate.name for candidate in candidates],
        "judge": described[0],
        "prompts": prompts.name,
        **setting,
        # Of one judge alone, not the vote counts but how sure it is.
        **figures(
            {pair: [row[0] if len(row) == 1 else panel_majority(row) for row in rows] for pair, rows in votes.items()},
            each,
        ),
        "notes": list(notes),
    }
    if len(judged) > 1:
        members = ", ".join(judge.name for judge, _ in judged)
        document["judge"] = {"name": f"majority of {members}", "method": "panel", "members": described}
        mean = {pair: [panel_mean(row, margin=judged[0][0].how.margin) for row in rows] for pair, rows in votes.items()}
        document["panel_mean"] = figures(mean, each)
        document["judges"] = [
            {"judge": words, **figures({pair: [j.verdict for j in rows] for pair, rows in by_pair.items()}, [by_pair])}
            for words, by_pair in zip(described, each, strict=True)
        ]
    document["notes"] += [
        f"the judge {words['name']} is one of the models that it judges" for words in described if words["is_candidate"]
    ]
    return document


def write_comparison(
    folder: Path,
    document: Mapping[str, Any],
    manifest: Mapping[str, Any],
    prompts: PromptSet,
    answers: Answers,
    judged: Sequence[tuple[Judge, Judged]],
) -> None:
    """Write the comparison's files; manifest.json last, so that a folder with one is complete."""
    write_jsonl(
        folder / "verdicts.jsonl",
        [
            _verdict_row(judge, pair, question, one, answers)
            for judge, by_pair in judged
            for pair, rows in by_pair.items()
            for question, one in zip(prompts.questions, rows, strict=True)
        ],
    )
    write_text(folder / "preferences.csv", csv_text(document["pairs"]))
    write_json(folder / "preferences.json", document)
    write_json(folder / "manifest.json", manifest)


def _verdict_row(judge: Judge, pair: Pair, question: Question, one: PairRecord, answers: Answers) -> dict[str, Any]:
    row: dict[str, Any] = {
        "prompt_id": question.id,
        "category": question.category,
        "prompt": _SEAM.join(question.turns),
        "a": pair[0],
        "b": pair[1],
        "answer_a": _joined(answers[pair[0]][question.id]),
        "answer_b": _joined(answers[pair[1]][question.id]),
        "judge": judge.name,
        "method": judge.how.method,
    }
    if isinstance(one.verdict, Unscored):
        row |= dict.fromkeys(("winner", "preference_a", "position_flip", "identical"))
        row["unscored"] = {"reason": one.verdict.reason, "detail": one.verdict.detail}
    else:
        row |= {**asdict(one.verdict), "unscored": None}
    return row | {"a_first": _game_row(one.a_first), "b_first": _game_row(one.b_first)}


def _joined(texts: Texts) -> str | None:
    return None if isinstance(texts, Unscored) else _SEAM.join(texts)


def _game_row(game: Game | Unscored | None) -> dict[str, Any] | None:
    if game is None:
        return None
    if isinstance(game, Unscored):
        return {"unscored": game.reason, "detail": game.detail}
    return {
        "preference_first": game.first,
        "logprobs": dict(game.logprobs) or None,
        "text": game.text or None,
        "closed_by_guide": game.closed_by_guide,
    }
