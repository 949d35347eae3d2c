"""Build a recipe's data mix: Parquet shards and ``mix.json``, byte-identical for the same recipe and data.

    DIR/mix-00000-of-00037.parquet    messages, conversation_hash, source, dgm
    DIR/mix.json                      counts asked, available, taken and dropped, tokens, hashes, contamination

Every source is read twice (for the keys of all rows, and for the drawn rows), and a third time if
near-duplicates or contaminated rows are rejected. If too many are, it is read again for twice as many
candidates (except for a blend). At most the texts of one shard are held in memory.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.contamination.measure import Meter, Tally, load_meter
from evalsuite.contamination.prompts import is_here
from evalsuite.contamination.settings import Turns
from evalsuite.errors import DataError, UsageError, cannot_write
from evalsuite.files import read_json, rename, write_json
from evalsuite.fingerprint import file_sha256, text_sha256
from evalsuite.mix.draw import ranks
from evalsuite.mix.rows import Stream, open_streams
from evalsuite.mix.select import Chosen, Selector
from evalsuite.mix.tokens import TokenCount, tokenizer_counter, tokenizer_sha256
from evalsuite.mix.write import Counts, Spool, row_of, write_shards
from evalsuite.progress import Progress
from evalsuite.recipes.recipe import Mix, Recipe
from judges.types import Unscored

if TYPE_CHECKING:
    from evalsuite.contamination.index import OverlapRule
    from evalsuite.suites.options import DataKind

SCHEMA = 1
RULES = 2
"""Counts the changes to what a recipe draws; part of a mix's identity."""
DOCUMENT = "mix.json"
SHARD = re.compile(r"mix-\d{5,}-of-\d{5,}\.parquet")


@dataclass(frozen=True, slots=True)
class ContaminationConfig:
    """The benchmark data that the mix is checked against (None: none), the rule, and whether matches are dropped."""

    data: DataKind | None = "full"
    rule: OverlapRule | None = None
    drop: bool = False
    turns: Turns = "user"
    near: float | None = None


def build_mix(
    recipe: Recipe,
    out: Path,
    progress: Progress,
    *,
    contamination: ContaminationConfig | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Build a recipe's mix in the folder ``out`` and return mix.json.

    A complete mix of the same recipe and data is kept unless ``fresh``; another mix is replaced once the
    new one is ready. Raises UsageError if the recipe has no mix section or ``out`` contains anything but
    a mix, and DataError if a source cannot be read or has too few rows.
    """
    if recipe.mix is None:
        raise UsageError(f"the recipe {recipe.name!r} has no mix section; add one with its sources")
    contamination = contamination or ContaminationConfig()
    if contamination.drop and contamination.data is None:
        raise UsageError("dropping contaminated rows needs benchmark data; choose full or mini")
    # Resolved, because renames would replace a link and "." has no name.
    out, given = out.resolve(), out
    streams = _open_all(recipe.mix)
    identity = _identity(recipe, recipe.mix, streams, contamination)
    kept = None if fresh else _complete_mix(out, identity)
    if kept is not None:
        progress.log(f"{given} already contains this mix; nothing to do (--fresh builds it again)")
        return kept
    _check_folder(out)
    meter = _meter(contamination, progress)
    count_tokens, tokenizer = (None, None) if recipe.mix.tokenizer is None else tokenizer_counter(recipe.mix.tokenizer)
    with _replacing(out) as folder:
        chosen = _choose(
            recipe, recipe.mix, streams, count_tokens, meter if contamination.drop else None, progress, folder
        )
        document = _write(recipe, chosen, folder, count_tokens, meter, progress)
        document |= {"tokenizer": tokenizer, "identity": identity}
        if document["contamination_detail"] is not None:
            document["contamination_detail"]["dropped"] = contamination.drop
        write_json(folder / DOCUMENT, document)
    return document


def _choose(
    recipe: Recipe,
    mix: Mix,
    streams: Sequence[tuple[Stream, ...]],
    count_tokens: TokenCount | None,
    meter: Meter | None,
    progress: Progress,
    folder: Path,
) -> list[Chosen]:
    """Draw every source's conversations; temporary files are written beside ``folder``."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        selector = Selector(mix.duplicates, recipe.seed, meter, progress, Path(scratch))
        try:
            return [
                selector.choose(source, members, asked, count_tokens, budget)
                for source, members, asked, budget in zip(
                    mix.sources, streams, mix.asked(), mix.token_budgets(), strict=True
                )
            ]
        finally:
            selector.close()


def _open_all(mix: Mix) -> list[tuple[Stream, ...]]:
    """Open all sources; raises one DataError for all that cannot be opened."""
    opened, faults = [], []
    for source in mix.sources:
        try:
            opened.append(open_streams(source, mix.thinking))
        except DataError as error:
            faults.append(f"source {source.name!r}: {error}")
    if faults:
        raise DataError("; ".join(faults))
    return opened


def _meter(contamination: ContaminationConfig, progress: Progress) -> Meter | None:
    if contamination.data is None:
        return None
    progress.step("reading the benchmarks' prompts")
    meter = load_meter(contamination.data, contamination.rule, turns=contamination.turns, near=contamination.near)
    progress.step("")
    if contamination.drop and not meter.benchmarks.items:
        raise DataError(f"no benchmark prompts are available to drop: {'; '.join(meter.benchmarks.missing.values())}")
    return meter


def _write(
    recipe: Recipe,
    chosen: Sequence[Chosen],
    folder: Path,
    count_tokens: TokenCount | None,
    meter: Meter | None,
    progress: Progress,
) -> dict[str, Any]:
    tally = Tally() if meter is not None else None
    counts = {one.source.name: Counts() for one in chosen}
    n_drawn = sum(one.n_taken for one in chosen)
    with Spool(folder, n_drawn) as spool:
        for position, one, stream, conversation in _drawn_rows(recipe, chosen, progress):
            spool.put(position, row_of(conversation, one.source.name, stream.dgm))
            if tally is not None and meter is not None:
                tally.add(conversation.hash, meter.overlaps(conversation), meter.near_overlaps(conversation))
            if count_tokens is not None:
                count = counts[one.source.name]
                count.tokens = (count.tokens or 0) + count_tokens(conversation)
    shards, content_hash = write_shards(spool, folder, counts)
    if sum(count.rows for count in counts.values()) != n_drawn:
        raise DataError(
            "a source lost rows while it was being read; build the mix again once its data no longer changes"
        )
    detail = tally.figures(meter) if tally is not None and meter is not None else None
    return {
        "schema": SCHEMA,
        "name": recipe.name,
        "hash": content_hash,
        "seed": recipe.seed,
        "n_rows": sum(count.rows for count in counts.values()),
        "n_messages": sum(count.messages for count in counts.values()),
        "characters": sum(count.characters for count in counts.values()),
        "tokens": sum(count.tokens or 0 for count in counts.values()) if count_tokens is not None else None,
        "dgms": sorted({stream.dgm for one in chosen for stream in one.streams if stream.dgm is not None}),
        "sources": [_source_figures(one, counts[one.source.name]) for one in chosen],
        "contamination": detail and {suite: counts["share"] for suite, counts in detail["suites"].items()},
        "contamination_detail": detail,
        "recipe": {"name": recipe.name, "seed": recipe.seed, "mix": recipe.document()["mix"]},
        "shards": shards,
        "versions": _versions(),
    }


def _drawn_rows(
    recipe: Recipe, chosen: Sequence[Chosen], progress: Progress
) -> Iterator[tuple[int, Chosen, Stream, Any]]:
    """Yield (position in the mix, source, member, conversation) for every drawn row, in the sources' order."""
    positions = iter(_positions(recipe, chosen))
    for one in chosen:
        for drawn, stream in zip(one.drawn, one.streams, strict=True):
            places = next(positions)
            wanted = np.zeros(int(drawn.rows.max(initial=-1)) + 1, dtype=np.bool_)
            wanted[drawn.rows] = True
            at = 0
            for row, conversation in stream.conversations(progress, f"writing {one.source.name}", wanted):
                if isinstance(conversation, Unscored):
                    raise DataError(f"{stream.rows.spec} changed while it was read; build the mix again")
                while at < len(drawn.rows) and drawn.rows[at] == row:
                    yield int(places[at]), one, stream, conversation
                    at += 1


def _positions(recipe: Recipe, chosen: Sequence[Chosen]) -> list[NDArray[np.int64]]:
    """Return every drawn row's position in the mix, per member: by rank if shuffled, else by source and order."""
    drawn = [(number, rows) for number, one in enumerate(chosen) for rows in one.drawn]
    numbers = np.concatenate([np.full(len(rows.rows), number) for number, rows in drawn])
    orders = np.concatenate([rows.orders for _, rows in drawn])
    places: tuple[NDArray[Any], ...] = (orders, numbers)
    if recipe.mix is not None and recipe.mix.shuffle:
        places = (orders, numbers, ranks(np.concatenate([rows.keys for _, rows in drawn]), recipe.seed, "shuffle"))
    positions = np.empty(len(orders), dtype=np.int64)
    positions[np.lexsort(places)] = np.arange(len(orders))
    return np.split(positions, np.cumsum([len(rows.rows) for _, rows in drawn])[:-1])


def _source_figures(one: Chosen, counts: Counts) -> dict[str, Any]:
    """Return the figures of a source in mix.json: asked, available, taken, and all other rows by rule."""
    members = zip(one.streams, one.pools, one.repeated, one.drawn, strict=True)
    return {
        "name": one.source.name,
        "asked": one.asked,
        "available": one.n_available,
        "asked_tokens": one.budget,
        "taken": one.n_taken,
        "unique": one.n_unique,
        "fewer": one.asked is not None and one.n_taken < one.asked,
        "refused": dict(one.refused),
        "members": [
            {
                "data": stream.rows.name,
                "dgm": stream.dgm,
                "format": stream.layout,
                "fingerprint": stream.rows.fingerprint,
                "n_rows": pool.n_rows,
                "dropped": {**pool.dropped, **({"duplicate": repeated} if repeated else {})},
                "changed": pool.changed,
                "examples": pool.examples,
                "taken": len(drawn.rows),
                **({} if stream.scores is None else {"scores": stream.scores.name, "n_scored": pool.n_scored}),
            }
            for stream, pool, repeated, drawn in members
        ],
        "n_messages": counts.messages,
        "n_thoughts": counts.thoughts,
        "characters": counts.characters,
        "tokens": counts.tokens,
        "hash": counts.digest.hexdigest(),
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("evalsuite", "pyarrow", "rensa", "transformers")}


def _identity(
    recipe: Recipe, mix: Mix, streams: Sequence[tuple[Stream, ...]], contamination: ContaminationConfig
) -> str:
    """Hash everything that a mix depends on: recipe, data, tokenizer, contamination check and versions."""
    rule = contamination.rule
    parts: dict[str, Any] = {
        "rules": RULES,
        "recipe": [recipe.name, recipe.seed, mix.model_dump(mode="json")],
        "data": [[stream.rows.fingerprint for stream in members] for members in streams],
        "tokenizer": None if mix.tokenizer is None else tokenizer_sha256(mix.tokenizer),
        "contamination": [contamination.data, contamination.drop, [rule.n, rule.share] if rule else None],
        "turns": [contamination.turns, contamination.near],
        "versions": _versions(),
    }
    if scores := {number: members[0].scores.fingerprint for number, members in enumerate(streams) if members[0].scores}:
        parts["scores"] = scores
    return text_sha256(json.dumps(parts, sort_keys=True))


def _check_folder(out: Path) -> None:
    """Raise UsageError if the folder contains anything but a mix."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give --out a folder")
    names = sorted(entry.name for entry in out.iterdir()) if out.is_dir() else []
    if names and DOCUMENT not in names:
        raise UsageError(f"{out} contains files that are not a mix ({names[0]}); give --out a new folder")
    if other := [name for name in names if name != DOCUMENT and not SHARD.fullmatch(name)]:
        raise UsageError(f"{out} contains {other[0]} besides a mix; move it away, or give --out a new folder")


def _complete_mix(out: Path, identity: str) -> dict[str, Any] | None:
    """Return the mix.json of ``out`` if it is the mix of this identity and its shards are unchanged."""
    if not (out / DOCUMENT).is_file():
        return None
    try:
        document = read_json(out / DOCUMENT)
    except DataError:
        return None
    if not isinstance(document, Mapping) or document.get("identity") != identity:
        return None
    if _more_benchmarks(document.get("contamination_detail")):
        return None
    listed = {shard["file"]: shard["sha256"] for shard in document["shards"]}
    if _shards_in(out) != listed.keys() or any(file_sha256(out / name) != listed[name] for name in listed):
        return None
    return dict(document)


def _shards_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if SHARD.fullmatch(path.name)}


def _more_benchmarks(detail: Mapping[str, Any] | None) -> bool:
    """Return whether a benchmark that was missing when the mix was built is available now."""
    if detail is None or not detail["missing"]:
        return False
    return any(is_here(suite, detail["data"]) for suite in detail["missing"])


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Yield a scratch folder next to ``out`` that replaces it on success and is removed otherwise.

    If ``out`` exists, its files are replaced, mix.json after the shards that it lists: in between, the shards do not
    match the old mix.json, which readers of the mix check. Only shards of an older mix are deleted.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent, ignore_cleanup_errors=True) as folder:
            scratch = Path(folder) / "mix"  # a temporary folder is private; this one's mode follows the umask
            scratch.mkdir()
            yield scratch
            if not out.exists():
                rename(scratch, out)
                return
            new = _shards_in(scratch)
            for name in [*sorted(new), DOCUMENT]:
                rename(scratch / name, out / name)
            for name in _shards_in(out) - new:
                (out / name).unlink()
    except OSError as error:
        raise cannot_write(out, error) from error
