"""``evalsuite generate``: each model answers every conversation of a source, into Parquet shards.

A fixed number of workers takes one conversation after the other, so the server's batch is always full and
never waits for its slowest request. Answers are stored before they are used, and a shard is in the manifest
before its store is deleted. After a kill at any moment, the next call resumes and writes the same rows.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import filelock

from evalsuite.checkpoint import Checkpoint
from evalsuite.config import resolved_yaml
from evalsuite.conversations.formats import detect_format
from evalsuite.conversations.source import Rows, open_source
from evalsuite.errors import BusyError, CheckpointError, DataError, StoreError, UsageError
from evalsuite.files import write_text
from evalsuite.generation.answers import RollingStore
from evalsuite.generation.feed import Feed, Mark, Prompted, SeenConversations
from evalsuite.generation.manifest import (
    Costs,
    ManifestFile,
    check_settings,
    delete_empty,
    manifest_name,
    manifests_in,
    move_answers_aside,
    read_manifest,
    served_name_in,
    settings_of,
    unfinished_folder,
    verified_shards,
)
from evalsuite.generation.memory import PeakMemory
from evalsuite.generation.settings import GenerateConfig
from evalsuite.generation.shards import OLD_TURNS_COLUMN, TURNS_COLUMN, Columns, Row, ShardFile, ShardWriter
from evalsuite.generation.turns import answer_conversation
from evalsuite.progress import NoProgress, Progress
from evalsuite.redaction import without_secrets
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.restarts import with_restarts
from evalsuite.serving.session import Session, answer_identity, attached_server, dated, effective_dtype
from judges.types import Message, Unscored

_MANIFEST_EVERY_S = 10.0
_STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Generated:
    """The result: one manifest and folder per model."""

    manifests: Sequence[Mapping[str, Any]]
    folders: Sequence[Path]

    @property
    def unscored(self) -> tuple[int, int]:
        """The number of missing answers and of all answers; rows that could not be asked count."""
        counts = [manifest["counts"] for manifest in self.manifests]
        missing: int = sum(sum(count["unscored"].values()) for count in counts)
        asked: int = sum(count["answers"] + count["rows_unscored"] for count in counts)
        return missing, asked


@dataclass(slots=True)
class _Plan:
    """The state of one model's output: its folder, settings and existing shards."""

    checkpoint: Checkpoint
    folder: Path
    part: str
    settings: dict[str, Any]
    old: dict[str, Any] | None
    written: dict[int, ShardFile] = field(default_factory=dict)

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
        return bool(self.old and self.old["complete"] and len(self.written) == len(self.old["shards"]))


def generate(config: GenerateConfig, progress: Progress | None = None) -> Generated:
    """Answer the conversations with every model; raises EvalsuiteError, and keeps every finished answer."""
    progress = progress or NoProgress()
    progress.step("opening the prompts")
    rows = open_source(config.prompts)
    detect_format(rows.columns, rows.spec)
    if config.language is not None and not {"language", "lang"} & set(rows.columns):
        raise DataError(f"{rows.spec} has no column 'language' or 'lang'; leave out --language")
    checkpoints = [
        config.serve.resolve(spec, base_url=config.base_url, on_step=progress.step) for spec in config.models
    ]
    with ExitStack() as stack:
        plans = []
        for checkpoint, folder in zip(checkpoints, _folders(config, checkpoints), strict=True):
            stack.enter_context(_locked(folder, config))
            plans.append(_plan(config, rows, checkpoint, folder, progress))
        progress.step("")
        manifests = [plan.old or {} if plan.is_complete else _answer(config, rows, plan, progress) for plan in plans]
    return Generated(manifests, [plan.folder for plan in plans])


def _folders(config: GenerateConfig, checkpoints: Sequence[Checkpoint]) -> list[Path]:
    """Return --out itself for a single model, and a folder in it per model for several, also for later calls."""
    slugs = [checkpoint.slug for checkpoint in checkpoints]
    if duplicates := sorted({slug for slug in slugs if slugs.count(slug) > 1}):
        raise UsageError(f"duplicate model {duplicates[0]}")
    has_model_folders = any(config.out.glob("*/_manifest*.json"))
    if len(checkpoints) == 1 and not has_model_folders:
        return [config.out]
    if manifests_in(config.out):
        raise UsageError(f"{config.out} contains the shards of one model; give another --out for several")
    return [config.out / slug for slug in slugs]


@contextmanager
def _locked(folder: Path, config: GenerateConfig) -> Iterator[None]:
    """Lock the folder's part for this process; the kernel releases the lock when the process ends."""
    lock = filelock.FileLock(folder / f".{manifest_name(config.shard.suffix)}.lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise BusyError(
            f"another evalsuite process generates into {folder}; wait for it, or split the work with --shard i/n"
        ) from error
    except OSError as error:
        raise StoreError(f"cannot write {folder} ({error.strerror or error}); give a writable --out") from error
    try:
        yield
    finally:
        lock.release()


def _plan(config: GenerateConfig, rows: Rows, checkpoint: Checkpoint, folder: Path, progress: Progress) -> _Plan:
    """Check the existing output before anything is started; raises UsageError if it has other settings."""
    recorded = None if config.fresh else served_name_in(folder, config.shard.suffix)
    attached, unreachable = attached_server(checkpoint, config.base_url, recorded, config.serve)
    settings = settings_of(config, rows, answer_identity(checkpoint, config.serve, attached=attached))
    part = config.shard.suffix
    if config.fresh:
        move_answers_aside(folder, part, settings)
    delete_empty(folder, part, settings)
    check_settings(folder, settings)
    path = folder / manifest_name(part)
    plan = _Plan(checkpoint, folder, part, settings, read_manifest(path) if path.is_file() else None)
    if plan.old is not None:
        plan.written, bad = verified_shards(folder, plan.old, part)
        for name in bad:
            progress.log(f"{folder / name} is missing or changed; writing it again")
    if unreachable is not None and not plan.is_complete:
        raise unreachable
    return plan


def _answer(config: GenerateConfig, rows: Rows, plan: _Plan, progress: Progress) -> dict[str, Any]:
    """Generate the missing answers of one model and return its manifest."""
    unfinished = unfinished_folder(plan.folder, plan.part)
    for left in plan.folder.glob(f".part-{f'{plan.part}-' if plan.part else '[0-9]'}*.tmp"):
        left.unlink()
    with ExitStack() as stack:
        store = stack.enter_context(RollingStore(unfinished))
        seen = SeenConversations(unfinished / "seen.sqlite")
        stack.callback(seen.close)
        loop = stack.enter_context(LoopThread())
        log = plan.folder / f"_server{f'-{plan.part}' if plan.part else ''}.log"
        session = Session(
            plan.checkpoint,
            store,
            config.serve,
            log,
            base_url=config.base_url,
            on_step=progress.step,
            on_note=progress.log,
        )
        stack.enter_context(session)
        _require_chat_format(session)
        memory = stack.enter_context(PeakMemory(session.kind))
        job = _Job(config, rows, plan, session, store, seen, memory, progress)
        try:
            with_restarts(session, lambda: _run_on(loop, job), progress)
        finally:
            loop.wait(session.client.close())
            job.write_manifest()
        manifest = job.write_manifest(complete=True)
    shutil.rmtree(unfinished, ignore_errors=True)
    return manifest


def _run_on(loop: LoopThread, job: _Job) -> None:
    """Run the job on the loop; an interrupt waits until every task has ended, so that none writes afterwards."""
    future = loop.submit(job.run())
    try:
        future.result()
    except BaseException:
        future.cancel()
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while job.is_running and time.monotonic() < deadline:
            time.sleep(0.02)
        raise


def _require_chat_format(session: Session) -> None:
    """Raise before any server starts if the model has no chat template, or one that fails on a simple prompt."""
    if session.chat_format is None:
        return
    if session.chat_format.source is None:
        raise CheckpointError(
            f"{session.checkpoint.name} has no chat template; pass --chat-template FILE (or fastchat:NAME)"
        )
    session.chat_format.prompt_tokens([Message("user", "Hello")])


class _Job:
    """Generation with one model: workers, shards and the manifest."""

    def __init__(
        self,
        config: GenerateConfig,
        rows: Rows,
        plan: _Plan,
        session: Session,
        store: RollingStore,
        seen: SeenConversations,
        memory: PeakMemory,
        progress: Progress,
    ) -> None:
        self.is_running = False
        self._config, self._rows, self._plan = config, rows, plan
        self._session, self._store, self._seen = session, store, seen
        self._memory, self._progress = memory, progress
        self._columns = Columns(
            rows.schema(), plan.checkpoint.name, config.policy, plan.turns_column, thoughts=plan.has_thoughts
        )
        self._file = ManifestFile(plan.folder, plan.part, _about(config, rows, plan, session))
        write_text(plan.folder / f"_config{f'-{plan.part}' if plan.part else ''}.yaml", resolved_yaml(config))
        costs = (plan.old or {}).get("costs")
        self._before = Costs(**costs) if isinstance(costs, dict) else Costs()
        # When the first conversation was sent; before that, shards to repair are only read.
        self._started_at: float | None = None
        self._manifest_at = time.monotonic()
        self._written = plan.written
        self._mark = max((shard.mark for shard in plan.written.values()), key=lambda mark: mark.rows, default=Mark())
        self._task = f"{plan.checkpoint.name} conversations"
        self.write_manifest()

    @property
    def _ahead(self) -> int:
        """Conversations in progress: a quarter more than requests, so that the server is never idle."""
        return self._session.in_flight + self._session.in_flight // 4

    async def run(self) -> None:
        """Answer everything that is not written yet; can be called again after the server died."""
        self.is_running = True
        try:
            writer = ShardWriter(
                self._plan.folder, self._plan.part, self._columns, self._config.shard_size, self._ahead, self._written
            )
            feed = self._feed(writer)
            self._progress.begin(self._task, self._expected())
            self._progress.advance(self._task, sum(shard.conversations for shard in self._written.values()))
            await gather_or_cancel([self._worker(feed, writer) for _ in range(self._ahead)])
            self._record(writer, await writer.finish(feed.index))
            self._mark = feed.mark
            if feed.index == 0 and feed.mark.position == 0:
                raise DataError(_nothing_to_answer(self._config, self._rows, feed))
        finally:
            self.is_running = False

    def _feed(self, writer: ShardWriter) -> Feed:
        first = writer.first_open
        mark = writer.written[first - 1].mark if first else Mark()
        if self._seen.rows < mark.rows:
            # The seen conversations of a finished folder are deleted, so duplicates need a read from the start.
            first, mark = 0, Mark()
        return Feed(
            self._rows,
            self._seen,
            language=self._config.language,
            limit=self._config.limit,
            part=self._config.shard,
            mark=mark,
            index=first * self._config.shard_size,
        )

    def _expected(self) -> int | None:
        """Return the maximum number of conversations, None if unknown before reading."""
        counts = [count for count in (self._rows.n_rows, self._config.limit) if count is not None]
        return -(-min(counts) // self._config.shard.of) if counts else None

    async def _worker(self, feed: Feed, writer: ShardWriter) -> None:
        while (prompted := await feed.next(writer.admit)) is not None:
            if writer.number_of(prompted.index) in writer.written:
                continue
            if self._started_at is None:
                self._started_at = time.monotonic()
            self._store.open_shard(writer.number_of(prompted.index))
            row = await self._row(prompted)
            self._record(writer, await writer.add(row))
            self._progress.advance(self._task)
            if time.monotonic() - self._manifest_at > _MANIFEST_EVERY_S:
                self.write_manifest()

    async def _row(self, prompted: Prompted) -> Row:
        conversation = prompted.conversation
        if isinstance(conversation, Unscored):
            return Row(prompted, (), conversation.reason)
        return Row(prompted, await answer_conversation(conversation, self._session.client, self._config), None)

    def _record(self, writer: ShardWriter, shard: ShardFile | None) -> None:
        """Record a written file in the manifest, then delete its answers from the store."""
        if shard is None:
            return
        self._written[shard.number] = shard
        self._mark = max(self._mark, shard.mark, key=lambda mark: mark.rows)
        self.write_manifest()
        self._store.delete_before(writer.first_open)

    def _costs(self) -> Costs:
        serve = self._session.serve_seconds
        usage = asdict(self._session.client.usage)
        # Reading stored answers is not generation.
        started_at = self._started_at if usage["requests"] else None
        generate = 0.0 if started_at is None else max(0.0, time.monotonic() - started_at - serve)
        return self._before.plus(
            serve=serve,
            generate=generate,
            usage=usage,
            peak=self._memory.peak_bytes,
            of=self._memory.what,
            restarts=self._session.restarts,
        )

    def write_manifest(self, *, complete: bool = False) -> dict[str, Any]:
        self._manifest_at = time.monotonic()
        return self._file.write(self._written, self._mark, self._costs(), complete=complete)


def _about(config: GenerateConfig, rows: Rows, plan: _Plan, session: Session) -> dict[str, Any]:
    """Return the constant part of the manifest."""
    checkpoint = plan.checkpoint
    shown = {"policy", "max_new_tokens", "temperature", "top_p", "system", "language", "limit", "shard_size", "seed"}
    unrecorded = {"chat_template", "template_date", "allow_pickle"}
    arguments = config.model_dump(mode="json", include=shown) | config.serve.model_dump(mode="json", exclude=unrecorded)
    if config.base_url:
        arguments["base_url"] = without_secrets(config.base_url)
    return {
        "model": {
            "name": checkpoint.name,
            "fingerprint": checkpoint.fingerprint,
            "fingerprint_covers": "name and URL only" if checkpoint.endpoint else "weights and config",
            "dtype": effective_dtype(checkpoint, config.serve, attached=bool(config.base_url)),
            "tokenizer_sha256": checkpoint.tokenizer_sha256,
            "chat_template_sha256": checkpoint.chat_template_sha256,
            "chat_format": session.chat_format.source if session.chat_format else "server",
            **dated(checkpoint),
            "generation_config": None if session.target.generation is None else dict(session.target.generation),
            "training": checkpoint.training,
        },
        "source": {
            "word": rows.name,
            "kind": rows.kind,
            "layout": detect_format(rows.columns, rows.spec),
            "columns": list(rows.columns),
            "fingerprint": rows.fingerprint,
        },
        "served_on": session.kind,
        "shard": str(config.shard),
        "arguments": arguments,
        "settings": plan.settings,
        "turns_column": plan.turns_column,
        "thoughts": plan.has_thoughts,
    }


def _nothing_to_answer(config: GenerateConfig, rows: Rows, feed: Feed) -> str:
    if config.language is not None and feed.mark.rows:
        languages = ", ".join(sorted(feed.languages))
        return f"no row of {rows.spec} has the language {config.language!r}; languages: {languages}"
    return f"{rows.spec} has no rows; give a source with conversations"
