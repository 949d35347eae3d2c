"""Arena-Hard's figures: the win rate of each category, raw and with style control."""

from __future__ import annotations

from collections.abc import Sequence

from evalsuite.records.rows import Header, Row
from evalsuite.suites.arena_hard.assets import CREATIVE, HARD
from evalsuite.suites.base import judged_rows
from evalsuite.suites.games import Outcome, game_figures, outcomes_of, share_of
from evalsuite.suites.types import Scores
from judges.types import Unscored


def score_rows(header: Header, rows: Sequence[Row]) -> Scores:
    """Compute the suite's object: figures of the main category in percent, and of creative writing under its name.

    Each as :func:`evalsuite.suites.games.game_figures`.
    """
    rows = judged_rows(rows)
    as_published = bool(header.options.get("as_published"))
    creative = [row for row in rows if row.part == CREATIVE]
    main = [row for row in rows if row.part != CREATIVE]
    scores = game_figures(main, as_published=as_published)
    scores["baseline"] = next((str(row.facts["baseline"]) for row in main if row.facts.get("baseline")), None)
    scores["categories"] = _by_category(main)
    if any(row.part == HARD for row in main) or creative:
        scores[CREATIVE] = game_figures(creative, as_published=as_published) if creative else None
    if header.missing:
        scores["missing"] = dict(header.missing)
    return scores


def _by_category(rows: Sequence[Row]) -> dict[str, float | None]:
    """Return the win rate in percent by topic, where the questions have a few topics."""
    topics: dict[str, list[Outcome]] = {}
    for row in rows:
        games = outcomes_of(row)
        if row.part == HARD and row.facts.get("category") and not isinstance(games, Unscored):
            topics.setdefault(str(row.facts["category"]), []).extend(games)
    return {topic: 100 * share_of(games) for topic, games in sorted(topics.items())}
