"""What one model's call starts from: its folder, what is written there already, and what of it is asked again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.conversations.formats import detect_format, prompts_of
from evalsuite.conversations.source import Rows
from evalsuite.errors import UsageError
from evalsuite.files import locked
from evalsuite.fingerprint import text_sha256
from evalsuite.generation.answers import keep_stores
from evalsuite.generation.earlier import hashes_in, move_to_earlier
from evalsuite.generation.feed import identity_of
from evalsuite.generation.manifest import (
    delete_empty,
    has_grown,
    manifest_name,
    manifests_in,
    move_answers_aside,
    read_manifest,
    served_name_in,
    settings_of,
    unfinished_folder,
    verified_shards,
)
from evalsuite.generation.settings import GenerateConfig
from evalsuite.generation.shards import OLD_TURNS_COLUMN, TURNS_COLUMN, ShardFile
from evalsuite.generation.turns import SERVER_REASONS
from evalsuite.progress import Progress
from evalsuite.serving.identity import refuse_twins
from evalsuite.serving.session import answer_identity, attached_server

_LOOK_AT = 1000
"""Rows of a changed source in which an earlier conversation must be found."""


@dataclass(slots=True)
class Plan:
    """The state of one model's output: its folder, settings and existing shards."""

    checkpoint: Checkpoint
    folder: Path
    part: str
    settings: dict[str, Any]
    old: dict[str, Any] | None
    written: dict[int, ShardFile] = field(default_factory=dict)
    grown: bool = False
    stores: Path = Path()
    """Folder of the answers and conversations of unfinished files, on a disk that SQLite works on."""

    @property
    def turns_column(self) -> str:
        """The name of the column with the answers: folders of older versions keep theirs."""
        return TURNS_COLUMN if self.old is None else str(self.old.get("turns_column", OLD_TURNS_COLUMN))

    @property
    def has_thoughts(self) -> bool:
        """Whether answers have fields for thoughts: not in folders of older versions."""
        return self.old is None or bool(self.old.get("thoughts"))

    @property
    def is_complete(self) -> bool:
        whole = self.old is not None and self.old["complete"] and len(self.written) == len(self.old["shards"])
        return bool(whole and not self.grown)

    def reopen(self, shards: Sequence[ShardFile]) -> None:
        """Take files back into work: what they answer is not asked again."""
        unfinished = unfinished_folder(self.folder, self.part)
        if self.grown:
            # Positions in another source and the numbers of other files are of no use.
            keep_stores(self.stores)
            for path in self.stores.glob("seen.sqlite*"):
                path.unlink()
        if shards:
            move_to_earlier(unfinished, [self.folder / shard.file for shard in shards])
        for shard in shards:
            del self.written[shard.number]


def folders_of(config: GenerateConfig, checkpoints: Sequence[Checkpoint]) -> list[Path]:
    """Return --out itself for a single model, and a folder in it per model for several, also for later calls."""
    refuse_twins(checkpoints, remedy=", or give each its own --out")
    names = [_folder_name(config.out, checkpoint) for checkpoint in checkpoints]
    slugs = [
        checkpoint.slug if names.count(name) > 1 else name for name, checkpoint in zip(names, checkpoints, strict=True)
    ]
    has_model_folders = any(config.out.glob("*/_manifest*.json"))
    if len(checkpoints) == 1 and not has_model_folders:
        return [config.out]
    if manifests_in(config.out):
        raise UsageError(f"{config.out} contains the shards of one model; give another --out for several")
    return [config.out / slug for slug in slugs]


def _folder_name(out: Path, checkpoint: Checkpoint) -> str:
    """Name a served model's folder by its served name, which outlives its address, and any other by its slug."""
    if checkpoint.endpoint is None or (out / checkpoint.slug).is_dir():
        return checkpoint.slug
    return checkpoint.slug.rpartition("-")[0]


def locked_part(folder: Path, config: GenerateConfig) -> AbstractContextManager[None]:
    """Lock the folder's part for this process; raises BusyError or StoreError."""
    busy = f"another evalsuite process is generating into {folder}; wait for it, or split the work with --shard i/n"
    return locked(folder / f".{manifest_name(config.shard.suffix)}.lock", busy)


def plan_of(config: GenerateConfig, rows: Rows, checkpoint: Checkpoint, folder: Path, progress: Progress) -> Plan:
    """Check the existing output before anything is started; raises UsageError if it has other settings."""
    recorded = None if config.fresh else served_name_in(folder, config.shard.suffix)
    attached, unreachable = attached_server(checkpoint, config.base_url, recorded, config.serve)
    settings = settings_of(config, rows, answer_identity(checkpoint, config.serve, attached=attached))
    part = config.shard.suffix
    if config.fresh:
        move_answers_aside(folder, part, settings)
    delete_empty(folder, part, settings)
    grown = has_grown(folder, part, settings)
    path = folder / manifest_name(part)
    old = read_manifest(path) if path.is_file() else None
    unfinished = unfinished_folder(folder, part)
    stores = unfinished if config.store is None else config.store / text_sha256(str(unfinished.absolute()))[:12]
    plan = Plan(checkpoint, folder, part, settings, old, grown=grown, stores=stores)
    if plan.old is not None:
        plan.written, bad = verified_shards(folder, plan.old, part)
        for name in bad:
            progress.log(f"{folder / name} is missing or changed; writing it again")
    again = [shard for shard in plan.written.values() if grown or _asks_again(shard, config)]
    if unreachable is not None and (again or not plan.is_complete):
        raise unreachable
    if grown and again and plan.old is not None and plan.old["settings"]["source"] != settings["source"]:
        _check_source(rows, min(again, key=lambda shard: shard.number), folder)
    plan.reopen(again)
    return plan


def _asks_again(shard: ShardFile, config: GenerateConfig) -> bool:
    """Whether a file has answers that are missing through the server's fault, or at all with ``retry_failed``."""
    answers = sum(shard.unscored.values()) - shard.rows_unscored
    return bool(shard.unscored.keys() & SERVER_REASONS) or (config.retry_failed and answers > 0)


def _check_source(rows: Rows, shard: ShardFile, folder: Path) -> None:
    """Raise UsageError unless a source that changed still has conversations of the first file of answers."""
    answered = hashes_in(folder / shard.file, _LOOK_AT)
    layout = detect_format(rows.columns, rows.spec)
    if not any(identity_of(row, prompts_of(row, layout))[0] in answered for row in islice(rows, _LOOK_AT)):
        raise UsageError(
            f"{folder} contains answers to other prompts: {rows.spec} has none of its first conversations; "
            "give another --out, or --fresh to move them aside"
        )
