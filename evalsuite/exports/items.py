"""Items as Parquet: one row per item and model, whatever the suite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from evalsuite.files import replacing
from evalsuite.records.rows import Row
from evalsuite.report.index import Contents
from evalsuite.report.texts import without_paths
from evalsuite.results.reading import ModelResult
from evalsuite.results.records import SuiteRecords
from evalsuite.suites.registry import iter_suites
from evalsuite.suites.repeats import with_first_marks
from evalsuite.text import well_formed
from judges.types import Unscored

_ROWS_PER_GROUP = 2000
COLUMNS = {
    **dict.fromkeys(("suite", "part", "item_id", "content", "model", "folder", "judge", "category"), "string"),
    **dict.fromkeys(("prompt", "reference", "answer", "thought", "finish"), "texts"),
    **dict.fromkeys(("thought_tokens", "answer_tokens"), "int64"),
    "extracted": "string",
    "judgment": "texts",
    **dict.fromkeys(("mark", "top"), "float64"),
    **dict.fromkeys(("unscored", "unscored_detail"), "string"),
}
"""``mark`` is on the report's scale, up to ``top``; null with a reason in ``unscored``, whose words (a
server's refusal) are in ``unscored_detail``. Texts of protected items are
null, lists have one entry per turn."""


def write_items(contents: Contents, path: Path) -> int:
    """Write every recorded item of every model and return their number; ``path`` appears whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.list_(pa.string())
    types = ((name, texts if kind == "texts" else pa.type_for_alias(kind)) for name, kind in COLUMNS.items())
    schema = pa.schema(list(types))
    count = 0
    with replacing(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        group: list[dict[str, Any]] = []
        for row in item_rows(contents.models):
            group.append(row)
            count += 1
            if len(group) == _ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(group, schema))
                group = []
        writer.write_table(pa.Table.from_pylist(group, schema))
    return count


def item_rows(models: Iterable[ModelResult]) -> Iterator[dict[str, Any]]:
    """Yield every recorded item of every model, with the columns of the Parquet file."""
    for model in models:
        for key, _ in iter_suites(list(model.suites)):
            records = model.records(key)
            for part in records.parts if records is not None else ():
                assert records is not None
                for row in records.rows(part):
                    yield _row(model, records, row)


def _row(model: ModelResult, records: SuiteRecords, row: Row) -> dict[str, Any]:
    facts = records.suite.report_part(records.key, row.part)
    page = records.suite.answer_page(with_first_marks(row), records.header)
    question = records.suite.question_page(row, records.header)
    mark = row.mark(facts.metric)
    open_text = row.prompt is not None
    reasons = [*row.unscored, *(reply.unscored for reply in row.replies if reply.unscored)]
    return {
        "suite": records.key,
        "part": row.part,
        "item_id": well_formed(row.item_id),
        "content": row.content,
        "model": well_formed(model.name),
        "folder": model.slug,
        "judge": well_formed(model.judge.of_suite(records.key).name) if model.judge else None,
        "category": _text(question.get("category")),
        "prompt": _texts(question.get("messages")) if open_text else None,
        "reference": _texts(question.get("reference")) if open_text else None,
        "answer": _texts([reply.text for reply in row.replies]) if open_text else None,
        "thought": _texts([reply.thought for reply in row.replies]) if open_text else None,
        "finish": [reply.finish for reply in row.replies],
        "thought_tokens": sum(reply.thought_tokens for reply in row.replies),
        "answer_tokens": sum(reply.answer_tokens for reply in row.replies),
        "extracted": _text(page.get("extracted")) if open_text else None,
        "judgment": _texts([verdict.text for verdict in row.verdicts]) if open_text else None,
        "mark": None if mark is None else mark * facts.scale,
        "top": facts.top,
        "unscored": without_paths(", ".join(dict.fromkeys(one.reason for one in reasons))) or None,
        "unscored_detail": _words(reasons) if open_text else None,
    }


def _words(reasons: Sequence[Unscored]) -> str | None:
    return without_paths("; ".join(dict.fromkeys(one.detail for one in reasons if one.detail))) or None


def _text(value: object) -> str | None:
    return None if value is None else well_formed(str(value))


def _texts(values: Any) -> list[str | None]:
    return [_text(value) for value in values or ()]
