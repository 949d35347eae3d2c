"""Tokenise conversations into Arrow files of tokens and labels, verifying each one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evalsuite.conversations.formats import Conversation, conversation_of, detect_format, with_thoughts
from evalsuite.conversations.source import open_source
from evalsuite.errors import DataError
from evalsuite.files import exists, read_json, write_json
from evalsuite.fingerprint import file_sha256, files_sha256
from evalsuite.recipes.training import TrainingConfig
from evalsuite.training.masks import SHOWING, Dropped, Marked, mark_fitting
from evalsuite.training.template import TrainingTemplate
from judges.types import Unscored

_BATCH_ROWS = 1000
_MIX_COLUMNS = ("messages", "conversation_hash")
_TOOLS = "tools"


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Conversations from a mix or any source; ``fingerprint`` covers their content, ``mix`` is mix.json."""

    source: str
    fingerprint: str
    mix: Mapping[str, Any] | None = None
    files: tuple[Path, ...] = ()

    def __iter__(self) -> Iterator[Conversation | Unscored]:
        yield from _of_mix(self.files) if self.files else _of_source(self.source)


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Counts of the conversations read, each trained on, held out, or dropped for a reason."""

    n_read: int = 0
    n_trained: int = 0
    n_held_out: int = 0
    n_cut: int = 0
    n_answers_without_loss: int = 0
    n_with_thought: int = 0
    n_tokens: int = 0
    n_loss_tokens: int = 0
    longest: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


def open_training_data(source: str) -> TrainingData:
    """Open a folder written by ``evalsuite mix``, or any other source of conversations.

    Raises DataError if it is not found, and for a mix whose files do not match its mix.json.
    """
    folder = Path(source).expanduser()
    if exists(folder) and (folder / "mix.json").is_file():
        mix = read_json(folder / "mix.json")
        files = _mix_files(folder, mix)
        _check_columns(files[0])
        return TrainingData(source, files_sha256(files), mix, files)
    return TrainingData(source, open_source(source).fingerprint)


def _mix_files(folder: Path, mix: Any) -> tuple[Path, ...]:
    """Return the files listed in mix.json, in its order; raises DataError unless exactly these exist, unchanged.

    The hash and counts of mix.json go into training.json, so they must match the data that is trained on.
    """
    remedy = "build the mix again with evalsuite mix, or give its files as a source"
    shards = mix.get("shards") if isinstance(mix, dict) else None
    if not isinstance(shards, list) or not shards or not all(_is_shard(shard) for shard in shards):
        raise DataError(f"{folder / 'mix.json'} lists no shards; {remedy}")
    listed = {shard["file"]: shard["sha256"] for shard in shards}
    present = {path.name for path in folder.glob("*.parquet")}
    if missing := sorted(listed.keys() - present):
        raise DataError(f"{folder} lacks {missing[0]}, which its mix.json lists; {remedy}")
    if extra := sorted(present - listed.keys()):
        raise DataError(f"{folder} contains {extra[0]}, which its mix.json does not list; {remedy}")
    for name, sha256 in listed.items():
        if file_sha256(folder / name) != sha256:
            raise DataError(f"the SHA-256 of {folder / name} is not the one in its mix.json; {remedy}")
    return tuple(folder / name for name in listed)


def _is_shard(shard: object) -> bool:
    return isinstance(shard, dict) and isinstance(shard.get("file"), str) and isinstance(shard.get("sha256"), str)


def write_tokens(
    conversations: Iterable[Conversation | Unscored],
    template: TrainingTemplate,
    folder: Path,
    config: TrainingConfig,
    on_count: Callable[[int], None] | None = None,
) -> TokenCounts:
    """Tokenise and verify every conversation into ``train.arrow`` and ``held_out.arrow`` of ``folder``.

    Columns: input_ids, labels (IGNORED without loss), length, conversation_hash. The first
    ``held_out`` usable conversations are held out. ``tokens.json`` with the counts is written last
    and marks the files as complete. Raises DataError if no conversation is left to train on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dropped: Counter[str] = Counter()
    trained: Counter[str] = Counter()
    n_read = longest = 0
    with _ArrowFile(folder / "train.arrow") as train, _ArrowFile(folder / "held_out.arrow") as heldout:
        for n_read, conversation in enumerate(conversations, 1):
            if on_count is not None:
                on_count(n_read)
            marked = _marked(conversation, template, config)
            if isinstance(marked, Dropped):
                dropped[marked.reason] += 1
                continue
            name = conversation.hash if isinstance(conversation, Conversation) else ""
            if heldout.n_rows < config.held_out:
                heldout.add(name, marked)
                continue
            train.add(name, marked)
            trained["n_cut"] += marked.is_cut
            trained["n_answers_without_loss"] += marked.n_without_loss
            trained["n_with_thought"] += marked.has_thought
            trained["n_tokens"] += len(marked.ids)
            trained["n_loss_tokens"] += marked.n_loss_tokens
            longest = max(longest, len(marked.ids))
    counts = TokenCounts(
        n_read=n_read,
        n_trained=train.n_rows,
        n_held_out=heldout.n_rows,
        longest=longest,
        dropped=dict(sorted(dropped.items())),
        **trained,
    )
    if not counts.n_trained:
        raise DataError(_nothing_left(counts, config))
    write_json(folder / "tokens.json", asdict(counts))
    return counts


def _marked(
    conversation: Conversation | Unscored, template: TrainingTemplate, config: TrainingConfig
) -> Marked | Dropped:
    if isinstance(conversation, Unscored):
        return Dropped(conversation.reason, conversation.detail)
    return mark_fitting(
        template,
        with_thoughts(conversation, config.thinking).messages,
        config.max_length,
        cut=config.too_long == "cut_at_turn",
        tools=json.loads(conversation.tools or "[]"),
        train_on=config.train_on,
    )


def _nothing_left(counts: TokenCounts, config: TrainingConfig) -> str:
    reasons = [f"{reason} {n:,}" for reason, n in counts.dropped.items()]
    if counts.n_held_out:
        reasons.append(f"held out {counts.n_held_out:,} of {config.held_out:,}")
    causes = ", ".join(reasons) or "the source is empty"
    return f"no conversation is left to train on ({causes}); {_remedy(counts, config)}"


def _remedy(counts: TokenCounts, config: TrainingConfig) -> str:
    """Return the change that would recover the most conversations."""
    if counts.n_held_out > sum(counts.dropped.values()):
        return "lower held_out"
    by_template = ("template_refused", "boundary_merges", "mask_mismatch", *SHOWING)
    remedies = dict.fromkeys(by_template, "give another chat_template")
    remedies["thinking_off"] = "set thinking: drop, or remove template_args"
    cuts = config.too_long == "cut_at_turn"
    remedies["too_long"] = "raise max_length" if cuts else "raise max_length, or set too_long: cut_at_turn"
    losses: Counter[str] = Counter()
    for reason, n in counts.dropped.items():
        losses[remedies.get(reason, "change the sources")] += n
    return max(losses, key=losses.__getitem__, default="change the sources")


def read_counts(folder: Path) -> TokenCounts | None:
    """Return the counts of complete token files, else None."""
    path = folder / "tokens.json"
    return TokenCounts(**read_json(path)) if path.is_file() else None


class _ArrowFile:
    """An Arrow stream on disk, written in batches."""

    def __init__(self, path: Path) -> None:
        numbers = pa.list_(pa.int32())
        columns = {"input_ids": numbers, "labels": numbers, "length": pa.int32(), "conversation_hash": pa.string()}
        self._schema = pa.schema(columns)
        self._writer = pa.ipc.new_stream(str(path), self._schema)
        self._rows: list[dict[str, Any]] = []
        self.n_rows = 0

    def __enter__(self) -> _ArrowFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, name: str, marked: Marked) -> None:
        row: dict[str, Any] = {"input_ids": list(marked.ids), "labels": marked.labels(), "length": len(marked.ids)}
        self._rows.append(row | {"conversation_hash": name})
        self.n_rows += 1
        if len(self._rows) == _BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
        self._rows = []


def _check_columns(file: Path) -> None:
    try:
        names = pq.read_schema(file).names
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is not a Parquet file ({error}); build the mix again with evalsuite mix") from error
    if missing := [name for name in _MIX_COLUMNS if name not in names]:
        raise DataError(
            f"{file} lacks {', '.join(missing)} (it has {', '.join(names)}); give a folder written by evalsuite mix"
        )


def _of_mix(files: Sequence[Path]) -> Iterator[Conversation | Unscored]:
    for file in files:
        try:
            names = pq.read_schema(file).names
            columns = [name for name in (*_MIX_COLUMNS, _TOOLS) if name in names]
            # Buffering ahead keeps what was read of every row group in memory.
            for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(_BATCH_ROWS, columns=columns):
                yield from (conversation_of(row, "chat") for row in batch.to_pylist())
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"cannot read {file} ({error}); build the mix again with evalsuite mix") from error


def _of_source(source: str) -> Iterator[Conversation | Unscored]:
    rows = open_source(source)
    kind = detect_format(rows.columns, source)
    yield from (conversation_of(row, kind) for row in rows)
