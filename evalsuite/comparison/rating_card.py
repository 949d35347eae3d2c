"""``judge-card --ratings``: how a judge's ratings go with those by people, factor by factor.

{"id": "1", "prompt": "Say hello.", "answer": "Hello!", "ratings": {"warmth": [4, 5], "truth": 3}}

``ratings`` are numbers by factor, on any scale; of several people a list, whose mean counts. ``messages`` may replace
``prompt`` and ``answer``, ``system``, ``reference`` and ``rubric`` are shown to the judge, ``category`` has a row of
its own, and answers with the same ``group`` (by default the same prompt) are one observation of the intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.comparison.answer_rows import answer_texts, read_rows
from evalsuite.comparison.judging import find_judges
from evalsuite.comparison.rater import Rater, asked_rater, described_factors, rate_answer, settle_rater
from evalsuite.comparison.requests import dialogue_of, group_of, grouped
from evalsuite.comparison.servers import Servers, opened_servers
from evalsuite.comparison.settings import CardConfig
from evalsuite.config import resolved_yaml
from evalsuite.conversations.scores import finite
from evalsuite.documents import SCHEMA
from evalsuite.errors import DataError, UsageError, unknown
from evalsuite.files import write_json, write_jsonl, write_text
from evalsuite.fingerprint import file_sha256
from evalsuite.progress import NoProgress, Progress
from evalsuite.results.environment import environment
from evalsuite.results.judge_cards import rating_card_path
from evalsuite.serving.requests import Scorer
from evalsuite.store import content_key
from evalsuite.suites.peer_files import id_text
from judges.factors import FACTORS, Factor
from judges.rating_card import RatedAnswer, rating_conclusions, rating_figures
from judges.types import Rating, Unscored
from judges.verdicts import Request

_REMEDY = 'give "ratings": {"factor": number, ...}; for several raters, a list of numbers'


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer with people's ratings by factor."""

    id: str
    request: Request
    answers: tuple[str, ...]
    people: Mapping[str, float]
    category: str | None = None
    group: str = ""


def rating_card(config: CardConfig, labels: Path, progress: Progress | None = None) -> tuple[dict[str, Any], Path]:
    """Measure a judge that rates on answers that people rated; returns the card and its file. Raises EvalsuiteError."""
    progress = progress or NoProgress()
    rows = read_labels(labels)[: config.limit]
    factors = list(dict.fromkeys(factor for row in rows for factor in row.people))
    rater = _named(asked_rater(config), factors, labels)
    [judge] = find_judges(config, progress)
    with opened_servers(config, progress) as servers:
        rater = settle_rater(rater, judge, [row.request for row in rows], servers, progress)
        answers = _rate_all(judge, rater, rows, servers)
    pin = {"name": labels.name, "sha256": file_sha256(labels), "n": len(rows)}
    card = _card(judge, rater, answers, factors, pin)
    asked = [rater.method, rater.sha256, {key: one.as_json() for key, one in described_factors(rater).items()}]
    key = content_key({"how": asked, "labels": [pin["sha256"], config.limit]})[:8]
    path = rating_card_path(config.results, judge, f"{rater.method}-{key}")
    write_json(path, {**card, "limit": config.limit, "made_with": environment()})
    write_jsonl(path.with_name(f"ratings-{rater.method}-{key}.jsonl"), map(_row, answers))
    write_text(path.with_name("config.yaml"), resolved_yaml(config))
    return card, path


def _named(rater: Rater, factors: Sequence[str], labels: Path) -> Rater:
    """Return the rater with the factors that people rated; raises UsageError for one that it does not know."""
    if rater.template is None:
        return rater
    known = {factor.key: factor for factor in rater.factors}
    if strange := [factor for factor in factors if factor not in known]:
        ours = ", or define it in a file for --factors" if set(known) == set(FACTORS) else ""
        raise UsageError(f"{labels}: {unknown('factor', strange[0], known)}{ours}")
    return replace(rater, factors=tuple(known[factor] for factor in factors))


def _rate_all(judge: Checkpoint, rater: Rater, rows: Sequence[Labelled], servers: Servers) -> list[RatedAnswer]:
    asked = [(row, factor) for row in rows for factor in rater.factors_of(row.people)]

    async def rated(one: tuple[Labelled, Factor], client: Scorer) -> Rating | Unscored:
        row, factor = one
        return await rate_answer(client, rater, factor, row.request, row.answers)

    ratings = servers.ask_each(judge, f"judge card of {judge.name}", asked, rated, candidate=False)
    judged = {(row.id, factor.key): found for (row, factor), found in zip(asked, ratings, strict=True)}
    return [
        RatedAnswer(
            row.id,
            row.group,
            sum(map(len, row.answers)),
            row.people,
            {factor.key: judged[row.id, factor.key] for factor in rater.factors_of(row.people)},
            row.category,
        )
        for row in rows
    ]


def _card(
    judge: Checkpoint, rater: Rater, answers: Sequence[RatedAnswer], factors: Sequence[str], pin: dict[str, Any]
) -> dict[str, Any]:
    described = described_factors(rater)
    figures = {}
    for factor in factors:
        judged_as = factor if factor in described else rater.factors[0].key
        figures[factor] = {
            **rating_figures(answers, factor, judged_as),
            "judged_as": judged_as,
            "asked": described[judged_as].as_json(),
        }
    reasons: dict[str, int] = {}
    for one in figures.values():
        reasons |= {reason: reasons.get(reason, 0) + count for reason, count in one["unscored"].items()}
    return {
        "schema": SCHEMA,
        "kind": "ratings",
        "judge": {
            "name": judge.name,
            "fingerprint": judge.fingerprint,
            "method": rater.method,
            "template_sha256": rater.sha256,
            "notes": list(rater.notes),
        },
        "labels": pin,
        "factors": figures,
        "failures": {"n_games": sum(one["n"] for one in figures.values()), "unscored": reasons},
        "conclusions": rating_conclusions(figures),
    }


def _row(answer: RatedAnswer) -> dict[str, Any]:
    """Return an answer's ratings by people and by the judge, without its text."""
    judged = {
        factor: one.value if isinstance(one, Rating) else {"unscored": one.reason}
        for factor, one in answer.judged.items()
    }
    return {"id": answer.id, "category": answer.category, "people": dict(answer.people), "judge": judged}


def read_labels(path: Path) -> list[Labelled]:
    """Read a .json or .jsonl file of rated answers; raises DataError that names the row at fault."""
    found: dict[str, Labelled] = {}
    groups = []
    for number, row in enumerate(read_rows(path), 1):
        where = f"{path} row {number}"
        asked = dialogue_of(row, where)
        answers = () if asked is None else asked.replies or answer_texts(row)
        if asked is None or not answers or len(answers) != len(asked.request.turns):
            raise DataError(f"{where} has no prompt with an answer to each turn; give 'prompt' and 'answer'")
        identity, category = id_text(row.get("id", number)), row.get("category")
        if identity in found:
            raise DataError(f"{where}: duplicate id {identity!r}; give every answer its own")
        people = _ratings(row, where)
        found[identity] = Labelled(identity, asked.request, answers, people, str(category) if category else None)
        groups.append((identity, asked.request, group_of(row)))
    # Copies of a prompt are one group, which needs no note: several answers to one prompt are what is expected.
    names, _ = grouped(groups)
    return [replace(row, group=name) for row, name in zip(found.values(), names, strict=True)]


def _ratings(row: Mapping[str, Any], where: str) -> dict[str, float]:
    given = row.get("ratings")
    if not isinstance(given, Mapping) or not given:
        raise DataError(f"{where} has no ratings; {_REMEDY}")
    found = {}
    for factor, value in given.items():
        numbers = [finite(one) for one in (value if isinstance(value, list) else [value])]
        known = [one for one in numbers if one is not None]
        if len(known) < len(numbers) or not known:
            raise DataError(f"{where} has the rating {value!r} of {factor}; {_REMEDY}")
        found[str(factor)] = fmean(known)
    return found
