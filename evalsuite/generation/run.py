"""``evalsuite generate``: each model answers every conversation of a source, into Parquet shards.

A fixed number of workers takes one conversation after the other, so the server's batch is always full and
never waits for its slowest request. Answers are stored before they are used, and a shard is in the manifest
before its store is deleted. After a kill at any moment, the next call resumes and writes the same rows.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evalsuite.config import resolved_yaml
from evalsuite.conversations.formats import detect_format
from evalsuite.conversations.source import Rows, open_source
from evalsuite.doctor import require_servable
from evalsuite.errors import CheckpointError, DataError
from evalsuite.files import timestamp, write_text
from evalsuite.generation.answers import RollingStore
from evalsuite.generation.chunks import SEEN, read_chunks, take_seen
from evalsuite.generation.earlier import EarlierAnswers
from evalsuite.generation.feed import Feed, Mark, Prompted, SeenConversations
from evalsuite.generation.manifest import (
    Costs,
    ManifestFile,
    unfinished_folder,
)
from evalsuite.generation.memory import PeakMemory
from evalsuite.generation.pace import Pace
from evalsuite.generation.plan import Plan, folders_of, locked_part, plan_of
from evalsuite.generation.settings import GenerateConfig
from evalsuite.generation.shards import Columns, Row, ShardFile, ShardWriter
from evalsuite.generation.turns import answer_conversation
from evalsuite.progress import NoProgress, Progress
from evalsuite.redaction import without_secrets
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.engine import Engine, engine_key
from evalsuite.serving.identity import warn_of_silent_servers
from evalsuite.serving.known_servers import FILE as SERVERS_FILE
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.session import Session, dated, effective_dtype, with_restarts
from evalsuite.text import plural
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


def generate(config: GenerateConfig, progress: Progress | None = None) -> Generated:
    """Answer the conversations with every model; raises EvalsuiteError, and keeps every finished answer."""
    progress = progress or NoProgress()
    rows = opened_prompts(config, progress)
    checkpoints = [
        config.serve.resolve(spec, base_url=config.base_url, on_step=progress.step) for spec in config.models
    ]
    warn_of_silent_servers(checkpoints, progress)
    with ExitStack() as stack:
        plans = []
        for checkpoint, folder in zip(checkpoints, folders_of(config, checkpoints), strict=True):
            stack.enter_context(locked_part(folder, config))
            plans.append(plan_of(config, rows, checkpoint, folder, progress))
        progress.step("")
        asked = [plan for plan in plans if not plan.is_complete]
        require_servable([plan.checkpoint for plan in asked if not config.base_url], config.serve, starts=True)
        groups: dict[Hashable, list[Plan]] = {}
        for plan in asked:
            groups.setdefault(engine_key(plan.checkpoint), []).append(plan)
        written: dict[Path, dict[str, Any]] = {}
        for group in groups.values():
            with Engine([plan.checkpoint for plan in group], config.serve, _log_of(group[0])) as engine:
                for plan in group:
                    written[plan.folder] = _answer(config, rows, plan, engine, progress)
    return Generated([written.get(plan.folder) or plan.old or {} for plan in plans], [plan.folder for plan in plans])


def opened_prompts(config: GenerateConfig, progress: Progress) -> Rows:
    """Open the source; raises DataError where it cannot be answered."""
    progress.step("opening the prompts")
    rows = open_source(config.prompts)
    detect_format(rows.columns, rows.spec)
    if config.language is not None and not {"language", "lang"} & set(rows.columns):
        raise DataError(f"{rows.spec} has no column 'language' or 'lang'; leave out --language")
    return rows


def _log_of(plan: Plan) -> Path:
    return plan.folder / f"_server{f'-{plan.part}' if plan.part else ''}.log"


def _answer(config: GenerateConfig, rows: Rows, plan: Plan, engine: Engine, progress: Progress) -> dict[str, Any]:
    """Generate the missing answers of one model and return its manifest."""
    unfinished = unfinished_folder(plan.folder, plan.part)
    with ExitStack() as stack:
        store = stack.enter_context(RollingStore(plan.stores, unfinished))
        earlier = EarlierAnswers(unfinished)
        take_seen(config, plan.stores)
        seen = SeenConversations(plan.stores / SEEN)
        stack.callback(seen.close)
        loop = stack.enter_context(LoopThread())
        session = Session(
            plan.checkpoint,
            store,
            config.serve,
            _log_of(plan),
            engine=engine,
            servers=config.out / f"_{SERVERS_FILE}",
            base_url=config.base_url,
            progress=progress,
        )
        stack.enter_context(session)
        _require_chat_format(session)
        memory = stack.enter_context(PeakMemory(session.kind))
        job = _Job(config, rows, plan, session, store, seen, earlier, memory, progress)
        try:
            with_restarts(session, lambda: _run_on(loop, job), progress)
            loop.wait(session.client.look_for_drift())
        finally:
            loop.wait(session.client.close())
            job.write_manifest()
        manifest = job.write_manifest(complete=True)
    if gone := earlier.missing_in([plan.folder / shard["file"] for shard in manifest["shards"]]):
        target = plan.folder / ".replaced" / timestamp()
        target.parent.mkdir(exist_ok=True)
        (unfinished / "earlier").rename(target)
        progress.log(f"{plural(gone, 'earlier answer')} to conversations that the source no longer has: see {target}")
    for folder in (unfinished, plan.stores):
        shutil.rmtree(folder, ignore_errors=True)
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
        plan: Plan,
        session: Session,
        store: RollingStore,
        seen: SeenConversations,
        earlier: EarlierAnswers,
        memory: PeakMemory,
        progress: Progress,
    ) -> None:
        self.is_running = False
        self._config, self._rows, self._plan = config, rows, plan
        self._session, self._store, self._seen, self._earlier = session, store, seen, earlier
        self._memory, self._progress = memory, progress
        self._columns = Columns(
            rows.schema(),
            plan.checkpoint.name,
            config.policy,
            plan.turns_column,
            thoughts=plan.has_thoughts,
            samples=config.samples,
        )
        self._rows_per_file = config.shard_size * config.samples
        self._file = ManifestFile(plan.folder, plan.part, _about(config, rows, plan, session))
        write_text(plan.folder / f"_config{f'-{plan.part}' if plan.part else ''}.yaml", resolved_yaml(config))
        costs = (plan.old or {}).get("costs")
        self._before = Costs(**costs) if isinstance(costs, dict) else Costs()
        self._told = {"server": plan.old["server"]} if plan.old and "server" in plan.old else {}
        # When the first conversation was sent; before that, shards to repair are only read.
        self._started_at: float | None = None
        self._pace = Pace(self._ahead)
        self._manifest_at = time.monotonic()
        self._written = plan.written
        self._chunks = None if config.chunks is None else read_chunks(config.chunks)
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
        self._pace.pause()
        try:
            written = {**self._written, **({} if self._chunks is None else self._chunks.others())}
            writer = ShardWriter(
                self._plan.folder, self._plan.part, self._columns, self._rows_per_file, self._ahead, written
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
            limit=self._config.limit if self._chunks is None else self._chunks.limit,
            part=self._config.shard,
            mark=mark,
            index=first * self._rows_per_file,
            samples=self._config.samples,
        )

    def _expected(self) -> int | None:
        """Return the maximum number of conversations, None if unknown before reading."""
        counts = [count for count in (self._rows.n_rows, self._config.limit) if count is not None]
        return -(-min(counts) // self._config.shard.of) * self._config.samples if counts else None

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
            self._pace.finished(
                time.monotonic(), self._session.client.usage.completion_tokens, is_full=not feed.is_exhausted
            )
            if time.monotonic() - self._manifest_at > _MANIFEST_EVERY_S:
                self.write_manifest()

    async def _row(self, prompted: Prompted) -> Row:
        conversation = prompted.conversation
        if isinstance(conversation, Unscored):
            return Row(prompted, (), conversation.reason)
        earlier = self._earlier.turns_of(conversation, prompted.sample)
        turns = await answer_conversation(
            conversation, self._session.client, self._config, sample=prompted.sample, earlier=earlier
        )
        return Row(prompted, turns, None)

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
            stretches=self._pace.stretches,
        )

    def write_manifest(self, *, complete: bool = False) -> dict[str, Any]:
        self._manifest_at = time.monotonic()
        told = self._session.client.server_told or self._told
        return self._file.write(self._written, self._mark, self._costs(), told, complete=complete)


def _about(config: GenerateConfig, rows: Rows, plan: Plan, session: Session) -> dict[str, Any]:
    """Return the constant part of the manifest."""
    checkpoint = plan.checkpoint
    shown = {"policy", "max_new_tokens", "temperature", "top_p", "system", "language", "limit", "shard_size", "seed"}
    shown |= {"samples"}
    unrecorded = {"chat_template", "template_date", "allow_pickle"}
    arguments = config.model_dump(mode="json", include=shown) | config.serve.model_dump(mode="json", exclude=unrecorded)
    if config.base_url:
        arguments["base_url"] = without_secrets(config.base_url)
    return {
        "model": {
            "name": checkpoint.name,
            "fingerprint": checkpoint.fingerprint,
            "fingerprint_covers": "name and what the server reports" if checkpoint.endpoint else "weights and config",
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
