"""The page of a folder of conversations: what they are like, samples, a mix's sources, near-duplicates.

It is an analysis of the kind "data" (:mod:`evalsuite.analysis.document`), so the report shows it as it shows others.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from evalsuite.analysis.document import Analysis, Chart, Column, Table, analysis_name
from evalsuite.conversations.formats import Conversation, conversation_of, detect_format, prompts_of
from evalsuite.conversations.source import Rows, open_source
from evalsuite.conversations.summary import QUANTILES, edges, summarised
from evalsuite.errors import DataError
from evalsuite.files import read_json
from evalsuite.mix.build import DOCUMENT
from evalsuite.mix.duplicates import NearDuplicates
from evalsuite.mix.rows import compared_text
from evalsuite.text import plural
from judges.types import Unscored

MOST_ROWS = 10_000
"""Number of rows examined, from the first."""

NEAR = 0.8
_NGRAM = 5
_N_SAMPLE, _N_PAIRS = 10, 20
_EXCERPT = 120
_EXAMPLE = 4_000
_BATCH = 512


def data_analysis(spec: str) -> Analysis:
    """Describe a folder of ``generate`` or ``mix``, or other conversations; raises DataError."""
    rows = open_source(spec)
    summary = summarised(rows, MOST_ROWS)
    n_rows = summary["n_rows"]
    if not n_rows:
        raise DataError(f"{spec} has no rows to show; give a folder of 'evalsuite generate' or 'evalsuite mix'")
    sample = sorted(random.Random(0).sample(range(n_rows), min(_N_SAMPLE, n_rows)))
    pairs, n_pairs = _near_duplicates(rows, n_rows)
    texts = _texts(rows, n_rows, {*sample, *(number for one, other, _ in pairs for number in (one, other))})
    tables, charts = _distributions(summary)
    of_mix, mix_charts, mix = _sources(Path(spec).expanduser())
    tables += [*of_mix, _sample_table(sample, texts), _pairs_table(pairs, n_pairs, n_rows, texts)]
    counted = f"the first {n_rows:,} rows" if n_rows == MOST_ROWS else plural(n_rows, "row")
    return Analysis(
        kind="data",
        name=analysis_name([Path(rows.name).name]),
        title=f"Data: {rows.name}",
        about=f"What {counted} of {rows.name} are like: lengths, languages, how answers ended, samples.",
        provenance={"data": rows.name, "fingerprint": rows.fingerprint, "rows": n_rows, **mix},
        tables=tables,
        charts=[*mix_charts, *charts],
        examples=_examples(sample, pairs, texts),
    )


def _distributions(summary: Mapping[str, Any]) -> tuple[list[Table], list[Chart]]:
    """Return the tables of lengths and counts, each with the chart of its histogram."""
    keys = [f"p{round(100 * q)}" for q in QUANTILES]
    columns = [Column("of", "measure"), *(Column(key, key, "int") for key in ("n", *keys, "max"))]
    rows = [
        {"of": name, **{key: each[key] for key in ("n", *keys, "max")}} for name, each in summary["lengths"].items()
    ]
    tables, charts = [Table("lengths", "Lengths", columns, rows)], []
    for number, (name, each) in enumerate(summary["lengths"].items()):
        bins = _bins(each["max"], each["histogram"])
        table = Table(f"histogram-{number}", f"Histogram: {name}", _counted("range", name), bins)
        tables.append(table)
        charts.append(Chart(table.id, name.capitalize(), "histogram", table.id, "range", ["count"]))
    for key, title in (("finish_reasons", "How answers ended"), ("languages", "Languages"), ("unread", "Not read")):
        counts = summary[key]
        if counts and list(counts) not in (["not given"], ["not recorded"]):
            total = sum(counts.values())
            rows = [{"range": name, "count": count, "share": count / total} for name, count in counts.items()]
            columns = [*_counted("range", title.lower()), Column("share", "share", "percent1")]
            tables.append(Table(key, title, columns, rows))
            charts.append(Chart(key, title, "bars", key, "range", ["share"]))
    return tables, charts


def _counted(key: str, label: str) -> list[Column]:
    return [Column(key, label), Column("count", "count", "int")]


def _bins(most: int, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Return the whole numbers of each bin as text, and its count; bins without any whole number are left out."""
    if not most:
        return [{"range": "0", "count": sum(counts)}]
    ends = edges(most)
    rows = []
    for place, count in enumerate(counts):
        low, high = math.ceil(ends[place] - 1e-9), math.ceil(ends[place + 1] - 1e-9) - 1
        high = most if place == len(counts) - 1 else high
        if low <= high:
            rows.append({"range": f"{low:,}" if low == high else f"{low:,} to {high:,}", "count": count})
    return rows


def _sources(folder: Path) -> tuple[list[Table], list[Chart], dict[str, Any]]:
    """Return the tables of a mix's sources and of the rows that it left out, and where it comes from."""
    if not (folder / DOCUMENT).is_file():
        return [], [], {}
    document = read_json(folder / DOCUMENT)
    try:
        rows = [
            {key: source[key] for key in ("name", "asked", "available", "taken", "characters", "tokens")}
            | {"share": source["taken"] / document["n_rows"]}
            for source in document["sources"]
        ]
        dropped = [row for source in document["sources"] for row in _dropped(source)]
        about = {"mix": document["name"], "hash": document["hash"], "seed": document["seed"]}
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise DataError(f"{folder / DOCUMENT} is damaged ({error}); build the mix again") from error
    counts = [Column(key, key, "int") for key in ("asked", "available", "taken", "characters", "tokens")]
    columns = [Column("name", "source"), *counts, Column("share", "share of the mix", "percent1")]
    chart = Chart("sources", "Sources of the mix", "bars", "sources", "name", ["share"])
    tables = [Table("sources", "Sources of the mix", columns, rows, notes=("No count given: all rows.",))]
    if dropped:
        columns = [Column("source", "source"), Column("rule", "rule"), Column("rows", "rows", "int")]
        tables.append(Table("dropped", "Rows left out", [*columns, Column("example", "an example")], dropped))
    return tables, [chart], about


def _dropped(source: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[tuple[str, str, int, Sequence[Mapping[str, Any]]]]
    found = [("", rule, count, ()) for rule, count in source["refused"].items()]
    for member in source["members"]:
        examples = member.get("examples") or {}
        found += [(member["dgm"] or "", rule, n, examples.get(rule, ())) for rule, n in member["dropped"].items()]
    return [
        {
            "source": f"{source['name']} {dgm}".strip(),
            "rule": rule,
            "rows": count,
            "example": next((str(one["text"]) for one in shown), ""),
        }
        for dgm, rule, count, shown in found
    ]


def _near_duplicates(rows: Rows, n_rows: int) -> tuple[list[tuple[int, int, float]], int]:
    """Return the most similar pairs of rows with their Jaccard similarity, and the number of all pairs found."""
    layout = detect_format(rows.columns, rows.spec)
    found: list[tuple[int, int, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        index = NearDuplicates(NEAR, _NGRAM, Path(scratch))
        row_of: dict[int, int] = {}
        numbered = enumerate(islice(rows, n_rows))
        while batch := list(islice(numbered, _BATCH)):
            read = [(number, conversation_of(row, layout)) for number, row in batch]
            whole = [(number, each) for number, each in read if isinstance(each, Conversation)]
            sketches = index.sketch([compared_text(each, "conversation") for _, each in whole])
            index.expect(sketches)
            for (number, _), sketch in zip(whole, sketches, strict=True):
                row_of[sketch] = number
                found += [(row_of[one], number, index.similarity(one, sketch)) for one in index.matches(sketch)]
                index.add(sketch)
        index.close()
    return sorted(found, key=lambda pair: (-pair[2], pair))[:_N_PAIRS], len(found)


def _texts(rows: Rows, n_rows: int, wanted: Collection[int]) -> dict[int, tuple[str, str, str]]:
    """Return the model, the first question and the whole text of some rows."""
    layout = detect_format(rows.columns, rows.spec)
    texts = {}
    for number, row in enumerate(islice(rows, n_rows)):
        if number in wanted:
            read = prompts_of(row, layout)
            model = next((str(row[name]) for name in ("model", "dgm", "source") if row.get(name)), "")
            if isinstance(read, Unscored):
                texts[number] = (model, f"not read: {read.reason}", read.detail)
            else:
                asked = next((message.content for message in read.messages if message.role == "user"), "")
                spoken = [
                    f"{message.role}{f' ({end})' if end else ''}:\n{message.content or '(no text)'}"
                    for message, end in zip(read.messages, read.finish_reasons, strict=True)
                ]
                texts[number] = (model, asked, "\n\n".join(spoken))
    return texts


def _excerpt(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _sample_table(sample: Sequence[int], texts: Mapping[int, tuple[str, str, str]]) -> Table:
    rows = [
        {"row": f"row {number}", "model": texts[number][0], "asked": _excerpt(texts[number][1], _EXCERPT)}
        for number in sample
    ]
    columns = [Column("row", "row"), Column("model", "model or source"), Column("asked", "first question")]
    return Table("sample", "A random sample", columns, rows)


def _pairs_table(
    pairs: Sequence[tuple[int, int, float]], n_pairs: int, n_rows: int, texts: Mapping[int, tuple[str, str, str]]
) -> Table:
    rows = [
        {"pair": f"rows {one} and {other}", "similarity": similarity, "asked": _excerpt(texts[one][1], _EXCERPT)}
        for one, other, similarity in pairs
    ]
    columns = [Column("pair", "pair"), Column("similarity", "similarity", "float3"), Column("asked", "first question")]
    found = f"{plural(n_pairs, 'pair')} among {n_rows:,} rows"
    note = f"{found} with a Jaccard similarity of {_NGRAM}-grams of {NEAR} or more."
    return Table("near", "Near-duplicates", columns, rows, notes=(note,))


def _examples(
    sample: Sequence[int], pairs: Sequence[tuple[int, int, float]], texts: Mapping[int, tuple[str, str, str]]
) -> dict[str, list[dict[str, str]]]:
    def shown(number: int) -> dict[str, str]:
        model, asked, text = texts[number]
        return {"model": f"row {number}, {model}".rstrip(", "), "prompt": asked, "text": _excerpt(text, _EXAMPLE)}

    return {f"row {number}": [shown(number)] for number in sample} | {
        f"rows {one} and {other}": [shown(one), shown(other)] for one, other, _ in pairs
    }
