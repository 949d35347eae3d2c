"""Judgments in words: recorded judgments of one model, or the verdicts of a comparison."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evalsuite.analysis.answers import find_path, hashes_of, split_name
from evalsuite.comparison.answer_rows import authors_of, peer_file, read_rows
from evalsuite.comparison_documents import read_verdict_rows
from evalsuite.errors import DataError
from evalsuite.files import exists
from evalsuite.fingerprint import files_sha256, text_sha256
from evalsuite.records.rows import Row, Verdict, for_judge
from evalsuite.results.reading import models_in
from evalsuite.results.records import all_records
from evalsuite.text import plural
from judges.types import user_texts

_FORMS = "a model's folder in results/ or a file of judgments in a benchmark's own format"
_MIN_WORDS = 5
_LARGEST_RATING = 1e6


@dataclass(frozen=True, slots=True)
class Judgment:
    """One judgment in words. ``item`` is what was judged, the same for all models; ``rating`` is None without one."""

    item: str
    text: str
    rating: float | None = None
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Judgments:
    """The judgments on one side of the comparison of words. ``left_out`` counts those without words."""

    name: str
    fingerprint: str
    judgments: tuple[Judgment, ...]
    left_out: int = 0


def read_judgments(spec: str, results: Path) -> Judgments:
    """Read the judgments of one model from ``[NAME=]PATH``; raises DataError.

    PATH is a model's folder, of which the first suite with judgments in words counts, or a benchmark's own file of
    judgments; of a file with several models NAME picks one.
    """
    name, place = split_name(spec)
    path = find_path(place, results)
    sets: Iterable[tuple[str, Sequence[Row]]]
    if path.is_dir():
        model = models_in(path)[0]
        recorded = all_records(path, model.scores, model.manifest)
        sets = ((one.key, [for_judge(row, one.judge) for row in one.records.rows()]) for one in recorded)
        own_name = model.name
    else:
        own_name, key, rows = _read_file(path, name)
        sets = [(key, rows)]
    n_judgments = 0
    for key, rows in sets:
        judgments = list(_judgments(key, rows))
        kept = tuple(judgment for judgment in judgments if judgment is not None)
        if kept:
            fingerprint = text_sha256(json.dumps([asdict(judgment) for judgment in kept]))
            return Judgments(name or own_name, fingerprint, kept, len(judgments) - len(kept))
        n_judgments += len(judgments)
    if not n_judgments:
        raise DataError(f"{path} has no judgments; give {_FORMS}")
    raise DataError(
        f"{path} has {plural(n_judgments, 'judgment')}, none with an explanation; keywords need a judge that explains "
        "its ratings, or `compare --method reasoned`"
    )


def _read_file(path: Path, name: str | None) -> tuple[str, str, Sequence[Row]]:
    """Return the model, the suite's key and the rows of a file of judgments."""
    rows = read_rows(path)
    models = authors_of(rows)
    if len(models) > 1 and name not in models:
        raise DataError(f"{path} judges {', '.join(models[:5])}; pick one as NAME={path}")
    recorded = peer_file(path, rows[0], name if name in models else None)
    if recorded is None:
        raise DataError(f"{path} is not a file of judgments; give {_FORMS}")
    return models[0] if len(models) == 1 else path.stem, recorded.header.suite, recorded.rows


def _judgments(key: str, rows: Iterable[Row]) -> Iterator[Judgment | None]:
    """Yield each verdict on a first draw as a judgment, None where it has no words."""
    for row in rows:
        turns = user_texts(row.prompt or ())
        for verdict in row.verdicts:
            if verdict.repeat == 0:
                yield _judgment(key, row, turns[: verdict.turn], verdict)


def _judgment(key: str, row: Row, turns: Sequence[str], verdict: Verdict) -> Judgment | None:
    if len(verdict.text.split()) < _MIN_WORDS:
        return None
    identity = "" if turns else f"{key}/{row.part}:{row.item_id}:{verdict.turn}"
    value = verdict.value if verdict.unscored is None else None
    rating = float(value) if isinstance(value, int | float) and abs(value) <= _LARGEST_RATING else None
    prompt = turns[-1] if turns else f"{key} item {row.item_id}, turn {verdict.turn}"
    return Judgment(hashes_of(turns, identity)[0], verdict.text, rating, prompt)


def read_verdicts(place: str, results: Path, models: Iterable[str] = ()) -> tuple[Judgments, Judgments]:
    """Read a comparison's reasoned verdicts: the judgments that preferred one model and those that preferred the other.

    ``place`` is a comparison's name in ``results``/comparisons, its folder or its verdicts.jsonl; ``models`` picks
    two of several. A judgment of two answers counts for the one that it preferred; ties are left out. Raises DataError.
    """
    places = (Path(place).expanduser(), results / "comparisons" / place)
    path = next((path for path in places if exists(path)), places[0])
    file = path / "verdicts.jsonl" if exists(path) and path.is_dir() else path
    if not exists(file) or not file.is_file():
        raise DataError(f"no verdicts found for {place!r}; give a folder of {results / 'comparisons'}")
    rows = read_verdict_rows(file)
    pairs = sorted({(row.a, row.b) for row in rows})
    wanted = set(models)
    matches = [pair for pair in pairs if wanted in (set(), set(pair))]
    if len(matches) != 1:
        known = "; ".join(f"{a} {b}" for a, b in pairs[:5])
        raise DataError(f"{file} compares {len(pairs)} pairs ({known}); name the two models of one of them")
    sides: dict[str, list[Judgment]] = {"a": [], "b": []}
    n_without = 0
    for row in rows:
        if (row.a, row.b) != matches[0] or row.winner not in sides:
            continue
        n_without += not row.texts
        item = f"{file.parent.name}:{row.prompt_id}"
        sides[row.winner] += [Judgment(item, text, None, row.prompt) for text in row.texts]
    for judgments, name in zip(sides.values(), matches[0], strict=True):
        if not judgments:
            why = (
                f"{plural(n_without, 'verdict')} without an explanation" if n_without else f"{name} was never preferred"
            )
            raise DataError(f"{file}: {why}; keywords need `compare --method reasoned` and verdicts for both models")
    fingerprint = files_sha256([file])
    a, b = (
        Judgments(f"{name} preferred", fingerprint, tuple(judgments), left_out)
        for name, judgments, left_out in zip(matches[0], sides.values(), (n_without, 0), strict=True)
    )
    return a, b
