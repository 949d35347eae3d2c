"""alpaca_eval's files: writing them so that its own metrics agree, and scoring recorded ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite import assets
from evalsuite.errors import DataError
from evalsuite.files import read_json, write_json
from evalsuite.suites.alpaca_eval.scores import CANONICAL_SIZE, Comparison, comparison_of, score_comparisons
from evalsuite.suites.base import Record, Scores, finite_number, recorded_reason
from judges.types import Preference, Unscored

OUTPUT_FILE, ANNOTATION_FILE = "model_outputs.json", "annotations.json"
CANONICAL_BASELINE = "gpt4_1106_preview"
_KEYS = ("instruction", "output_1", "generator_1", "output_2", "generator_2", "preference")


def write_model_outputs(records: Sequence[Record], folder: Path, *, model: str) -> None:
    """Write model_outputs.json; an instruction without an answer is left out, as alpaca_eval expects."""
    rows = [
        {
            "dataset": record.item.data.get("dataset"),
            "instruction": record.item.data["instruction"],
            "output": comparison.output,
            "generator": model,
        }
        for record, comparison in ((record, comparison_of(record)) for record in records)
        if comparison.output is not None
    ]
    write_json(folder / OUTPUT_FILE, rows)


def write_annotations(records: Sequence[Record], folder: Path, *, model: str, judge: str) -> None:
    """Write annotations.json: alpaca_eval's fields, the raw ``logprobs``, and ``unscored``.

    A comparison without a verdict keeps its row with preference null, so that the rows stay in canonical
    order, which the package's regression relies on; where the answer itself is missing,
    ``output_2`` is "" because its metrics need a text, and ``unscored`` is "no_answer".
    """
    write_json(folder / ANNOTATION_FILE, [_annotation(record, model, judge) for record in records])


def find_df_gamed(*, fetch: bool = True) -> tuple[Path | None, str | None, Mapping[str, Any] | None]:
    """Find the regression's data: (path, None, its pin), or (None, the one-line reason, None).

    ``fetch=False`` keeps to this machine.
    """
    try:
        found = assets.find("alpaca_eval/df_gamed", fetch=fetch)
    except DataError as error:
        return None, str(error), None
    return found.path, None, assets.data_pin(found)


def score_annotation_file(path: Path, *, as_published: bool = False) -> Scores:
    """Score an annotations.json, or the folder that holds one.

    The file must be about one model. Rows are put into canonical order by their instruction where the
    baseline is on this machine (nothing is fetched); without it 805 rows are taken to be in order. A
    preference that is null, NaN or outside [1, 2] is ``recorded_failure`` (0, an old word for a tie, is
    1.5). The length-controlled win rate is null, with its reason, where the set or the baseline is not
    AlpacaEval 2's; 805 rows with none of its instructions (texts taken out) are taken in the file's order,
    with a warning in ``lc``. ``as_published`` keeps the file's order and row numbers, as the package does.

    Raises DataError naming the row, the models or the instruction at fault.
    """
    path = path / ANNOTATION_FILE if path.is_dir() else path
    rows = _checked(read_json(path), path)
    places, reason, warning = _places(rows, as_published=as_published)
    df_gamed = None
    if reason is None:
        df_gamed, reason, pin = find_df_gamed(fetch=False)
        if pin is not None and not pin["pinned"]:
            warning = warning or f"df_gamed.csv is not the pinned file (SHA-256 {pin['sha256'][:12]}...)"
    comparisons = [
        Comparison(
            position=places[row["instruction"]] if places else None,
            baseline_output=row["output_1"],
            output=None if row["output_2"] is None or row.get("unscored") == "no_answer" else row["output_2"],
            preference=_recorded_preference(row),
        )
        for row in rows
    ]
    scores = score_comparisons(comparisons, df_gamed=df_gamed, lc_reason=reason, as_published=as_published)
    if warning is not None and scores["lc_win_rate"] is not None:
        scores["lc"] = scores["lc"] | {"warning": scores["lc"]["warning"] or warning}
    return scores


def _annotation(record: Record, model: str, judge: str) -> dict[str, Any]:
    comparison = comparison_of(record)
    preference = comparison.preference
    judged = isinstance(preference, Preference)
    return {
        "dataset": record.item.data.get("dataset"),
        "instruction": record.item.data["instruction"],
        "output_1": comparison.baseline_output,
        "generator_1": record.item.data["generator"],
        "output_2": comparison.output or "",
        "generator_2": model,
        "annotator": judge,
        "preference": preference.value if isinstance(preference, Preference) else None,
        "logprobs": dict(preference.logprobs) if isinstance(preference, Preference) else None,
        "unscored": None if judged else getattr(preference, "reason", None),
    }


def _checked(rows: Any, path: Path) -> list[dict[str, Any]]:
    expected = f"expected alpaca_eval's {ANNOTATION_FILE}, a list of objects with {', '.join(_KEYS)}"
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path} holds no list of annotations; {expected}")
    seen: set[str] = set()
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or any(key not in row for key in _KEYS):
            raise DataError(f"{path} row {number} lacks {_first_missing(row)!r}; {expected}")
        texts = (row["instruction"], row["output_1"], row["output_2"] if row["output_2"] is not None else "")
        if not all(isinstance(text, str) for text in texts):
            raise DataError(f"{path} row {number} has an instruction or output that is not a text; {expected}")
        if row["instruction"] in seen:
            raise DataError(
                f"{path} row {number} repeats the instruction {row['instruction'][:60]!r}; "
                "keep one annotation of each instruction"
            )
        seen.add(row["instruction"])
    for key, what in (("generator_2", "models"), ("generator_1", "baselines")):
        names = sorted({str(row[key]) for row in rows})
        if len(names) > 1:
            raise DataError(f"{path} mixes {len(names)} {what} ({', '.join(names)}); score one file for each {key}")
    return rows


def _first_missing(row: Any) -> str:
    return next((key for key in _KEYS if not isinstance(row, dict) or key not in row), "")


_Places = tuple[dict[str, int], str | None, str | None]


def _places(rows: Sequence[Mapping[str, Any]], *, as_published: bool) -> _Places:
    """Find each instruction's place among the canonical 805.

    Returns (places by instruction, the reason why the regression cannot be had, a warning).
    """
    in_file_order = {row["instruction"]: number for number, row in enumerate(rows)}
    if as_published:
        return in_file_order, None, None
    if len(rows) > CANONICAL_SIZE:
        return {}, f"the file has {len(rows)} rows; AlpacaEval has {CANONICAL_SIZE} instructions", None
    baseline = str(rows[0]["generator_1"])
    if baseline != CANONICAL_BASELINE:
        return {}, f"the regression was made for the baseline {CANONICAL_BASELINE}; this one is {baseline}", None
    try:
        canonical = assets.records("alpaca_eval/baseline", fetch=False)[0]
    except DataError as error:
        if len(rows) == CANONICAL_SIZE:
            why = "the rows are taken in the file's order: the baseline is not on this machine"
            return in_file_order, None, f"{why} (evalsuite data pull alpaca_eval/baseline)"
        return {}, f"{len(rows)} rows cannot be put into canonical order without the baseline: {error}", None
    places = {row["instruction"]: number for number, row in enumerate(canonical)}
    unknown = sum(instruction not in places for instruction in in_file_order)
    if unknown == len(rows) == CANONICAL_SIZE:
        return in_file_order, None, "the rows are taken in the file's order: no instruction is AlpacaEval's"
    if unknown:
        return {}, f"{unknown} of {len(rows)} instructions are not AlpacaEval's", None
    return places, None, None


def _recorded_preference(row: Mapping[str, Any]) -> Preference | Unscored:
    if row.get("unscored") is not None:
        return recorded_reason(row["unscored"])
    value = finite_number(row["preference"])
    if value == 0:
        return Preference(1.5)
    if value is None or not 1 <= value <= 2:
        return Unscored("recorded_failure", f"preference {row['preference']!r}")
    return Preference(value)
