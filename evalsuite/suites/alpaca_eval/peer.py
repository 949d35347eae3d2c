"""alpaca_eval's files: read into rows, and written so that its own metrics agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from evalsuite.errors import DataError
from evalsuite.files import read_objects, write_json
from evalsuite.records.rows import Draw, Reply, Row, Verdict
from evalsuite.suites import peer_files
from evalsuite.suites.alpaca_eval.assets import baseline_rows, canonical_positions, content_hash
from evalsuite.suites.alpaca_eval.scores import baseline_of, instruction_of
from evalsuite.suites.base import answer_of, verdict_on
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.peer_files import Rows, finite_number
from evalsuite.suites.types import Recorded
from judges.types import Message, Unscored

OUTPUT_FILE, ANNOTATION_FILE = "model_outputs.json", "annotations.json"
_LEGACY_TIE = 0
"""What older versions of alpaca_eval wrote for a tie, which is 1.5 since."""


class _Output(msgspec.Struct):
    instruction: str
    output: str | None
    generator: Any


class _Annotation(msgspec.Struct):
    instruction: str
    output_1: str
    generator_1: Any
    output_2: str | None
    generator_2: Any
    preference: Any


def read_recorded(path: Path, options: SuiteOptions, model: str | None = None) -> Recorded:
    """Read an annotations.json with the outputs beside it, or an unjudged model_outputs.json.

    ``path`` is a file, or the folder that holds it. A file with several models needs ``model``, and one with several
    annotators ``options.annotator``. A preference that is
    null, NaN or outside [1, 2] is ``recorded_failure``; 0, which older versions wrote for a tie, is 1.5. The rows are
    in the file's order. Their ids are the positions among the canonical 805 where all instructions are AlpacaEval's
    and the baseline is on this machine, else the row numbers.

    Raises DataError naming the row, the models or the instruction at fault, and UsageError for an unknown ``model``.
    """
    annotations, outputs = read_files(path, model, options.annotator)
    judge = _annotator_of(annotations[0]) if annotations else None
    annotated = {row["instruction"] for row in annotations}
    unjudged = [row for row in outputs if row["instruction"] not in annotated]
    known = _known_baseline(options) if unjudged else {}
    compared = [*annotations, *(_without_verdict(row, known.get(row["instruction"], {})) for row in unjudged)]
    ids = _item_ids([row["instruction"] for row in compared], options)
    rows = [_row(item_id, row, judge) for item_id, row in zip(ids, compared, strict=True)]
    return peer_files.recorded_by(judge, "alpaca_eval", rows, options)


def read_files(path: Path, model: str | None, annotator: str | None = None) -> tuple[Rows, Rows]:
    """Return one annotator's annotations of one model and its outputs, as they are recorded."""
    file = peer_files.file_of(path, ANNOTATION_FILE, OUTPUT_FILE)
    rows: Rows = read_objects(file)
    if rows and "output" in rows[0] and "preference" not in rows[0]:
        return [], _checked(rows, file, model, _Output, "generator")
    rows = peer_files.rows_of_judge(rows, [_annotator_of(row) for row in rows], annotator, file, "annotator")
    annotations = _checked(rows, file, model, _Annotation, "generator_2")
    baselines = (row["generator_1"] for row in annotations)
    peer_files.single("baseline", baselines, file, "score one file per generator_1")
    beside, name = peer_files.file_of(file.parent, OUTPUT_FILE), str(annotations[0]["generator_2"])
    outputs = [row for row in read_objects(beside) if str(row.get("generator")) == name] if beside.is_file() else []
    return annotations, _checked(outputs, beside, None, _Output, "generator") if outputs else []


def _annotator_of(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("annotator") or "")


def _checked(rows: Rows, path: Path, model: str | None, shape: type[msgspec.Struct], generator: str) -> Rows:
    """Return the rows of one model; refuse a file that holds several or an instruction twice."""
    expected = f"expected alpaca_eval's list of objects with {', '.join(shape.__struct_fields__)}"
    if not rows:
        raise DataError(f"{path} has no annotations or outputs; {expected}")
    for number, row in enumerate(rows, 1):
        peer_files.conform(row, shape, f"{path} row {number}", expected)
    remedy = f"score one file per {generator}, or name the model"
    chosen = peer_files.rows_of_model(rows, generator, model, path, remedy)
    instructions = (f"instruction {row['instruction']!r}" for row in chosen)
    peer_files.refuse_duplicates(instructions, path, "keep one row per instruction")
    return chosen


def _known_baseline(options: SuiteOptions) -> Mapping[str, Mapping[str, Any]]:
    """Return the baseline's rows by instruction, which a file of outputs lacks; none where they are not here."""
    try:
        return {row["instruction"]: row for row in baseline_rows(options.data, fetch=False)[0]}
    except DataError:
        # The answers can be shown without what they would be compared with.
        return {}


def _without_verdict(output: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "dataset": output.get("dataset") or known.get("dataset"),
        "instruction": output["instruction"],
        "output_1": known.get("output"),
        "generator_1": known.get("generator"),
        "output_2": output["output"],
    }


def _item_ids(instructions: Sequence[str], options: SuiteOptions) -> list[str]:
    try:
        positions = canonical_positions(instructions, options.data)
        return [str(positions[instruction]) for instruction in instructions]
    except (DataError, KeyError):
        # Foreign instructions, or no baseline to compare with: an id need only be unique in the file.
        return [str(number) for number in range(len(instructions))]


def _row(item_id: str, recorded: Mapping[str, Any], judge: str | None) -> Row:
    output, baseline = recorded["output_2"], recorded["output_1"]
    answered = output is not None and recorded.get("unscored") != "no_answer"
    reply = Reply(output) if answered else Reply(unscored=Unscored("no_answer"))
    facts = {
        "category": recorded.get("dataset") if isinstance(recorded.get("dataset"), str) else None,
        "reference": None if baseline is None else [baseline],
        "baseline": None if recorded["generator_1"] is None else str(recorded["generator_1"]),
    }
    return Row(
        item_id,
        content=content_hash(recorded["instruction"], baseline or ""),
        prompt=(Message("user", recorded["instruction"]),),
        facts={name: value for name, value in facts.items() if value is not None},
        draws=(Draw((reply,)),),
        verdicts=(_verdict(recorded, judge),) if judge is not None and "preference" in recorded else (),
    )


def _verdict(annotation: Mapping[str, Any], judge: str) -> Verdict:
    number, unscored = finite_number(annotation["preference"]), None
    value = 1.5 if number == _LEGACY_TIE else number
    if annotation.get("unscored") is not None:
        unscored = peer_files.recorded_reason(annotation["unscored"], annotation.get(peer_files.DETAIL))
    elif value is None or not 1 <= value <= 2:
        unscored = Unscored("recorded_failure", f"preference {annotation['preference']!r}")
    logprobs = annotation.get("logprobs")
    explanation = annotation.get("raw_completion") or annotation.get("explanation")
    pairs = logprobs.items() if isinstance(logprobs, Mapping) else ()
    return Verdict(
        judge,
        value if unscored is None else None,
        text=explanation if isinstance(explanation, str) else "",
        label_logprobs={label: number for label, logprob in pairs if (number := finite_number(logprob)) is not None},
        recorded=number,
        unscored=unscored,
    )


def write_files(rows: Sequence[Row], folder: Path, *, model: str, judge: str | None) -> None:
    """Write model_outputs.json and, with a judge, annotations.json.

    An instruction without an answer is left out of the outputs, as alpaca_eval expects. Among the annotations it has
    ``output_2`` "", because its metrics need a text, and a comparison without a verdict has preference null, so that
    the rows stay in canonical order, which the package's regression relies on. ``logprobs`` and ``unscored`` are ours.
    The rows hold the verdicts of one judge.
    """
    asked = [({"dataset": row.facts.get("category"), "instruction": instruction_of(row)}, row) for row in rows]
    outputs = [
        {**fields, "output": text, "generator": model} | _thought(row)
        for fields, row in asked
        if (text := answer_of(row)) is not None
    ]
    write_json(folder / OUTPUT_FILE, outputs)
    if judge is not None:
        write_json(folder / ANNOTATION_FILE, [fields | _annotation(row, model, judge) for fields, row in asked])


def _thought(row: Row) -> dict[str, str]:
    thought = row.replies[0].thought if row.replies else None
    return {} if thought is None else {"reasoning_content": thought}


def _annotation(row: Row, model: str, judge: str) -> dict[str, Any]:
    verdict = verdict_on(row)
    return {
        "output_1": baseline_of(row),
        "generator_1": row.facts.get("baseline"),
        "output_2": answer_of(row) or "",
        "generator_2": model,
        "annotator": judge,
        "preference": verdict.value,
        "logprobs": dict(verdict.label_logprobs) if verdict.unscored is None else None,
        **peer_files.written_reason(verdict.unscored),
    }
