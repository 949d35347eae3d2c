"""The words of judges: recorded judgments of a model, or of a comparison's verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.analysis.answers import find_place, split_name
from evalsuite.comparison.prompts import read_rows
from evalsuite.comparison.recorded import folder_name
from evalsuite.errors import DataError
from evalsuite.files import exists, read_jsonl
from evalsuite.fingerprint import files_sha256

MT_BENCH_FILE, ALPACA_FILE = "mt_bench/model_judgment.jsonl", "alpaca_eval/annotations.json"
_FORMS = "a model's folder in results/ or a model_judgment.jsonl in FastChat's form"
_FAILED = -1
_SEVERAL_WORDS = 5
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


def read_judgments(word: str, results: Path) -> Judgments:
    """Read the judgments of one model from ``[NAME=]PLACE``; raises DataError in one sentence.

    PLACE is a model's folder with mt_bench/model_judgment.jsonl (or alpaca_eval/annotations.json of a judge that
    gives words), or such a file; of a file with several models' judgments NAME picks one.
    """
    name, place = split_name(word)
    path = find_place(place, results)
    file = path
    if path.is_dir():
        file = next((path / inner for inner in (MT_BENCH_FILE, ALPACA_FILE) if (path / inner).is_file()), path)
        if file == path:
            raise DataError(f"{path} holds no judgments; give {_FORMS}")
    rows = read_rows(file)
    models = sorted({str(row["model"]) for row in rows if row.get("model")})
    if path.is_file() and len(models) > 1:
        if name not in models:
            raise DataError(f"{path} judges {', '.join(models[:5])}; pick one as NAME={place}")
        rows = [row for row in rows if row.get("model") == name]
    found = [_judgment(row) for row in rows]
    kept = tuple(judgment for judgment in found if judgment is not None)
    if not kept:
        raise DataError(
            f"{file} holds {len(rows)} judgments and none in words; words need a judge that explains, as MT-Bench's "
            "does or `compare --method reasoned`"
        )
    own = folder_name(path) if path.is_dir() else (models[0] if len(models) == 1 else path.stem)
    return Judgments(name or own, files_sha256([file]), kept, len(found) - len(kept))


def _judgment(row: Mapping[str, Any]) -> Judgment | None:
    if "judgment" in row:
        text, item = row["judgment"], f"mt_bench:{row.get('question_id')}:{row.get('turn', 1)}"
    else:
        text, item = row.get("raw_completion") or row.get("explanation"), f"alpaca_eval:{row.get('instruction')}"
    if not isinstance(text, str) or len(text.split()) < _SEVERAL_WORDS or row.get("unscored"):
        return None
    score = row.get("score", row.get("preference"))
    # A number that is none, or beyond all scales, is no rating either.
    rated = (
        isinstance(score, int | float)
        and not isinstance(score, bool)
        and score != _FAILED
        and abs(score) <= _LARGEST_RATING
    )
    rating = float(score) if rated else None
    prompt = row.get("instruction") or f"MT-Bench question {row.get('question_id')}, turn {row.get('turn', 1)}"
    return Judgment(item, text, rating, str(prompt))


def read_verdicts(place: str, results: Path, models: Iterable[str] = ()) -> tuple[Judgments, Judgments]:
    """Read a comparison's reasoned verdicts: what the judge said where it preferred one model, and the other.

    ``place`` is a comparison's name in ``results``/comparisons, its folder or its verdicts.jsonl; ``models`` picks
    two of several. A text on two answers at once is not about either, so it goes to the side that it preferred;
    ties are left out. Raises DataError in one sentence.
    """
    places = (Path(place).expanduser(), results / "comparisons" / place)
    path = next((path for path in places if exists(path)), None)
    file = path / "verdicts.jsonl" if path is not None and path.is_dir() else path
    if file is None or not file.is_file():
        raise DataError(f"cannot find the verdicts of {place!r}; give a folder of {results / 'comparisons'}")
    rows = read_jsonl(file)
    for number, row in enumerate(rows, 1):
        _check_verdict(row, f"{file} row {number}")
    pairs = sorted({(row["a"], row["b"]) for row in rows})
    wanted = set(models)
    fitting = [pair for pair in pairs if not wanted or wanted == set(pair)]
    if len(fitting) != 1:
        known = "; ".join(f"{a} {b}" for a, b in pairs[:5])
        raise DataError(f"{file} compares {len(pairs)} pairs ({known}); name the two models of one of them")
    a, b = fitting[0]
    sides: dict[str, list[Judgment]] = {"a": [], "b": []}
    without = 0
    for row in rows:
        if (row["a"], row["b"]) != (a, b) or row.get("winner") not in sides:
            continue
        texts = [game["text"] for game in (row.get("a_first"), row.get("b_first")) if game and game.get("text")]
        without += not texts
        item, prompt = f"{file.parent.name}:{row.get('prompt_id')}", str(row.get("prompt") or "")
        sides[row["winner"]] += [Judgment(item, text, None, prompt) for text in texts]
    for side, name in (("a", a), ("b", b)):
        if not sides[side]:
            why = f"{without} verdicts hold no words" if without else f"{name} was never preferred"
            raise DataError(f"{file}: {why}; words need `compare --method reasoned` and verdicts for both models")
    hashed = files_sha256([file])
    return (
        Judgments(f"{a} preferred", hashed, tuple(sides["a"]), without),
        Judgments(f"{b} preferred", hashed, tuple(sides["b"])),
    )


def _check_verdict(row: Mapping[str, Any], where: str) -> None:
    """Raise DataError for a verdict of another form than ``evalsuite compare`` writes."""
    names = all(isinstance(row.get(side), str) for side in ("a", "b"))
    games = [row.get("a_first"), row.get("b_first")]
    texts = [game.get("text") for game in games if isinstance(game, Mapping)]
    whole = all(game is None or isinstance(game, Mapping) for game in games)
    words = all(text is None or isinstance(text, str) for text in texts)
    if not (names and whole and words and isinstance(row.get("winner"), str | None)):
        raise DataError(f"{where} is no verdict of 'evalsuite compare' (a, b, winner, a_first, b_first); compare again")
