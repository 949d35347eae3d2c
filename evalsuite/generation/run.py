"""``evalsuite generate``: each model in turn answers every conversation of a source, into Parquet shards.

A fixed number of workers takes one conversation after the other, so the server's batch is full
from the first answer to the last and nobody waits for a batch's slowest. What is answered is in
a store before anybody sees it; what is written is in the manifest before the store forgets it.
Killed at any moment, the next call goes on where this one was and writes the same rows.
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

from evalsuite.checkpoint import Checkpoint, resolve
from evalsuite.conversations.formats import detect_format
from evalsuite.conversations.source import Rows, open_source
from evalsuite.errors import CheckpointError, DataError, StoreError, UsageError
from evalsuite.generation.answers import RollingStore
from evalsuite.generation.feed import Feed, Mark, Prompted, Seen
from evalsuite.generation.manifest import (
    Costs,
    ManifestFile,
    forget_empty,
    manifest_name,
    manifests_in,
    read_manifest,
    refuse_other_settings,
    served_name_in,
    set_answers_aside,
    settings_of,
    unfinished_folder,
    verified_shards,
)
from evalsuite.generation.memory import PeakMemory
from evalsuite.generation.settings import GenerateConfig
from evalsuite.generation.shards import Columns, Row, ShardBook, ShardFile
from evalsuite.generation.turns import Asking, answer_conversation
from evalsuite.progress import Progress, Silence
from evalsuite.redaction import without_secrets
from evalsuite.runs.plan import chat_template_file
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.restarts import with_restarts
from evalsuite.serving.session import Session, answer_identity, attached_server, effective_dtype
from judges.types import Message, Unscored

_NOTE_EVERY_S = 10.0
_END_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Generated:
    """What stands on the disk afterwards: one manifest a model, and its folder."""

    manifests: Sequence[Mapping[str, Any]]
    folders: Sequence[Path]

    @property
    def unscored_share(self) -> float:
        """Share of answers, and of rows that could not be asked at all, that are missing."""
        counts = [manifest["counts"] for manifest in self.manifests]
        missing: int = sum(sum(count["unscored"].values()) for count in counts)
        asked: int = sum(count["answers"] + count["rows_unscored"] for count in counts)
        return missing / max(1, asked)


@dataclass(slots=True)
class _Plan:
    """One model on its way."""

    checkpoint: Checkpoint
    folder: Path
    part: str
    settings: dict[str, Any]
    old: dict[str, Any] | None
    written: dict[int, ShardFile] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        return bool(self.old and self.old["complete"] and len(self.written) == len(self.old["shards"]))


def generate(config: GenerateConfig, progress: Progress | None = None) -> Generated:
    """Answer the conversations with every model; raises EvalsuiteError, and keeps every finished answer."""
    progress = progress or Silence()
    progress.step("opening the prompts")
    rows = open_source(config.prompts)
    _require_language(config, rows)
    checkpoints = [
        resolve(
            word,
            chat_template_file=chat_template_file(config),
            base_url=config.base_url,
            allow_pickle=config.allow_pickle,
            trust_remote_code=config.runs_remote_code,
            on_step=progress.step,
        )
        for word in config.models
    ]
    with ExitStack() as stack:
        plans = []
        for checkpoint, folder in zip(checkpoints, _folders(config, checkpoints), strict=True):
            stack.enter_context(_alone(folder, config))
            plans.append(_plan(config, rows, checkpoint, folder, progress))
        progress.step("")
        manifests = [plan.old or {} if plan.is_complete else _answer(config, rows, plan, progress) for plan in plans]
    return Generated(manifests, [plan.folder for plan in plans])


def _require_language(config: GenerateConfig, rows: Rows) -> None:
    detect_format(rows.columns, rows.word)
    if config.language is not None and not {"language", "lang"} & set(rows.columns):
        raise DataError(f"{rows.word} says no language (no column 'language' or 'lang'); leave out --language")


def _folders(config: GenerateConfig, checkpoints: Sequence[Checkpoint]) -> list[Path]:
    """One model's shards lie in --out itself; those of several in a folder each, and so does a later one's there."""
    slugs = [checkpoint.slug for checkpoint in checkpoints]
    if twice := sorted({slug for slug in slugs if slugs.count(slug) > 1}):
        raise UsageError(f"{twice[0]} is named twice; name each model once")
    has_model_folders = any(config.out.glob("*/_manifest*.json"))
    if len(checkpoints) == 1 and not has_model_folders:
        return [config.out]
    if manifests_in(config.out):
        raise UsageError(f"{config.out} holds the shards of one model; give another --out for several")
    return [config.out / slug for slug in slugs]


@contextmanager
def _alone(folder: Path, config: GenerateConfig) -> Iterator[None]:
    """Hold the folder's part for this process; the kernel gives it back however the process ends."""
    lock = filelock.FileLock(folder / f".{manifest_name(config.shard.word)}.lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise UsageError(
            f"another evalsuite generates into {folder}; wait for it, or share the work with --shard i/n"
        ) from error
    except OSError as error:
        raise StoreError(f"cannot write {folder} ({error.strerror or error}); give a writable --out") from error
    try:
        yield
    finally:
        lock.release()


def _plan(config: GenerateConfig, rows: Rows, checkpoint: Checkpoint, folder: Path, progress: Progress) -> _Plan:
    """Find out what stands already; refuses to mix answers of different settings before anything is started."""
    recorded = None if config.fresh else served_name_in(folder, config.shard.word)
    attached, unreachable = attached_server(checkpoint, config.base_url, recorded)
    identity = answer_identity(checkpoint, config.serve_options(), config.chat_template, attached=attached)
    settings = settings_of(config, rows, identity)
    part = config.shard.word
    if config.fresh:
        set_answers_aside(folder, part, settings)
    forget_empty(folder, part, settings)
    refuse_other_settings(folder, settings)
    path = folder / manifest_name(part)
    plan = _Plan(checkpoint, folder, part, settings, read_manifest(path) if path.is_file() else None)
    if plan.old is not None:
        plan.written, bad = verified_shards(folder, plan.old, part)
        for name in bad:
            progress.say(f"{folder / name} is missing or not as it was written; it is made anew")
    if unreachable is not None and not plan.is_complete:
        raise unreachable
    return plan


def _answer(config: GenerateConfig, rows: Rows, plan: _Plan, progress: Progress) -> dict[str, Any]:
    """Answer what is missing of one model and return its manifest."""
    unfinished = unfinished_folder(plan.folder, plan.part)
    for left in plan.folder.glob(f".part-{f'{plan.part}-' if plan.part else '[0-9]'}*.tmp"):
        left.unlink()
    with ExitStack() as stack:
        store = stack.enter_context(RollingStore(unfinished))
        seen = Seen(unfinished / "seen.sqlite")
        stack.callback(seen.close)
        loop = stack.enter_context(LoopThread())
        session = stack.enter_context(_session(config, plan, store, progress))
        _require_chat_format(session)
        memory = stack.enter_context(PeakMemory(session.kind))
        work = _Work(config, rows, plan, session, store, seen, memory, progress)
        try:
            with_restarts(session, lambda: _run_on(loop, work), progress)
        finally:
            loop.wait(session.client.close())
            work.note()
        manifest = work.finish()
    shutil.rmtree(unfinished, ignore_errors=True)
    return manifest


def _run_on(loop: LoopThread, work: _Work) -> None:
    """Do the work on the loop; an interrupt waits until every task has ended, so that none writes afterwards."""
    future = loop.submit(work.walk())
    try:
        future.result()
    except BaseException:
        future.cancel()
        deadline = time.monotonic() + _END_WITHIN_S
        while work.walking and time.monotonic() < deadline:
            time.sleep(0.02)
        raise


def _session(config: GenerateConfig, plan: _Plan, store: RollingStore, progress: Progress) -> Session:
    return Session(
        plan.checkpoint,
        store,
        config.serve_options(),
        plan.folder / f"_server{f'-{plan.part}' if plan.part else ''}.log",
        base_url=config.base_url,
        template_word=config.chat_template,
        in_flight=config.in_flight,
        on_step=progress.step,
    )


def _require_chat_format(session: Session) -> None:
    """Say before any server starts that a model cannot chat, or that its template fails on the plainest prompt."""
    if session.chat_format is None:
        return
    if session.chat_format.source is None:
        raise CheckpointError(
            f"{session.checkpoint.name} has no chat template; pass --chat-template FILE (or fastchat:NAME)"
        )
    session.chat_format.prompt_tokens([Message("user", "Hello")])


class _Work:
    """The answering of one model: workers, shards, and the notes about them."""

    def __init__(
        self,
        config: GenerateConfig,
        rows: Rows,
        plan: _Plan,
        session: Session,
        store: RollingStore,
        seen: Seen,
        memory: PeakMemory,
        progress: Progress,
    ) -> None:
        self.walking = False
        self._config, self._rows, self._plan = config, rows, plan
        self._session, self._store, self._seen = session, store, seen
        self._memory, self._progress = memory, progress
        self._columns = Columns(rows.schema(), plan.checkpoint.name, config.policy)
        self._asking = Asking(
            config.policy,
            config.max_new_tokens,
            config.temperature,
            config.top_p,
            config.seed,
            config.system,
            config.logprobs,
        )
        self._file = ManifestFile(plan.folder, plan.part, _about(config, rows, plan, session))
        self._before = Costs.before(plan.old)
        # From the first conversation that is to be answered on: before it, a folder that is mended is only read.
        self._began: float | None = None
        self._noted = time.monotonic()
        self._written = plan.written
        self._mark = max((shard.mark for shard in plan.written.values()), key=lambda mark: mark.rows, default=Mark())
        self._line = f"{plan.checkpoint.name} conversations"
        self.note()

    @property
    def _ahead(self) -> int:
        """Conversations at work: a quarter more than requests, so that none is missing while an answer is read."""
        return self._session.in_flight + self._session.in_flight // 4

    async def walk(self) -> None:
        """Answer everything that is not written yet; may be called again after a server died."""
        self.walking = True
        try:
            book = ShardBook(
                self._plan.folder,
                self._plan.part,
                self._columns,
                self._config.shard_size,
                self._ahead,
                self._written,
            )
            feed = self._feed(book)
            self._progress.begin(self._line, self._expected())
            self._progress.advance(self._line, sum(shard.conversations for shard in self._written.values()))
            await gather_or_cancel([self._worker(feed, book) for _ in range(self._ahead)])
            self._take(book, await book.end(feed.index))
            self._mark = feed.mark
            if feed.index == 0 and feed.mark.position == 0:
                raise DataError(_nothing_to_answer(self._config, self._rows, feed))
        finally:
            self.walking = False

    def _feed(self, book: ShardBook) -> Feed:
        first = book.first_open
        mark = book.written[first - 1].mark if first else Mark()
        if self._seen.rows < mark.rows:
            # A finished folder has forgotten what its rows were; only reading them again tells what repeats them.
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
        """How many conversations there are at most, None where only reading tells."""
        if self._rows.n_rows is None and self._config.limit is None:
            return None
        known = [count for count in (self._rows.n_rows, self._config.limit) if count is not None]
        return -(-min(known) // self._config.shard.of)

    async def _worker(self, feed: Feed, book: ShardBook) -> None:
        while (prompted := await feed.next(book.room_for)) is not None:
            if book.number_of(prompted.index) in book.written:
                continue
            if self._began is None:
                self._began = time.monotonic()
            self._store.open_shard(book.number_of(prompted.index))
            row = await self._row(prompted)
            self._take(book, await book.place(row))
            self._progress.advance(self._line)
            if time.monotonic() - self._noted > _NOTE_EVERY_S:
                self.note()

    async def _row(self, prompted: Prompted) -> Row:
        conversation = prompted.conversation
        if isinstance(conversation, Unscored):
            return Row(prompted, (), conversation.reason)
        return Row(prompted, await answer_conversation(conversation, self._session.client, self._asking), None)

    def _take(self, book: ShardBook, shard: ShardFile | None) -> None:
        """Note a written file; only then may its answers be forgotten."""
        if shard is None:
            return
        self._written[shard.number] = shard
        self._mark = max(self._mark, shard.mark, key=lambda mark: mark.rows)
        self.note()
        self._store.forget_before(book.first_open)

    def _costs(self) -> Costs:
        serve = self._session.serve_seconds
        usage = asdict(self._session.client.usage)
        # What was remembered costs the server nothing, and reading it is no generation.
        began = self._began if usage["requests"] else None
        generate = 0.0 if began is None else max(0.0, time.monotonic() - began - serve)
        return self._before.plus(
            serve=serve,
            generate=generate,
            usage=usage,
            peak=self._memory.peak_bytes,
            of=self._memory.what,
            restarts=self._session.restarts,
        )

    def note(self) -> None:
        """Write down how far everything is."""
        self._noted = time.monotonic()
        self._file.write(self._written, self._mark, self._costs(), complete=False)

    def finish(self) -> dict[str, Any]:
        return self._file.write(self._written, self._mark, self._costs(), complete=True)


def _about(config: GenerateConfig, rows: Rows, plan: _Plan, session: Session) -> dict[str, Any]:
    """What the manifest says once and for all."""
    checkpoint = plan.checkpoint
    asked = {"policy", "max_new_tokens", "temperature", "top_p", "system", "language", "limit", "shard_size", "seed"}
    served = {"dtype", "max_model_len", "tensor_parallel_size", "data_parallel_size", "vllm_args", "in_flight"}
    served |= {"trust_remote_code"}
    arguments = config.model_dump(mode="json", include=asked | served)
    if config.base_url:
        arguments["base_url"] = without_secrets(config.base_url)
    return {
        "model": {
            "name": checkpoint.name,
            "fingerprint": checkpoint.fingerprint,
            "fingerprint_covers": "name and URL only" if checkpoint.endpoint else "weights and config",
            "dtype": effective_dtype(checkpoint, config.serve_options(), attached=bool(config.base_url)),
            "tokenizer_sha256": checkpoint.tokenizer_sha256,
            "chat_template_sha256": checkpoint.chat_template_sha256,
            "chat_format": session.chat_format.source if session.chat_format else "server",
            "generation_config": None if session.target.generation is None else dict(session.target.generation),
            "training": checkpoint.training,
        },
        "source": {
            "word": rows.name,
            "kind": rows.kind,
            "layout": detect_format(rows.columns, rows.word),
            "columns": list(rows.columns),
            "fingerprint": rows.fingerprint,
        },
        "served_on": session.kind,
        "shard": f"{config.shard.number}/{config.shard.of}",
        "arguments": arguments,
        "settings": plan.settings,
    }


def _nothing_to_answer(config: GenerateConfig, rows: Rows, feed: Feed) -> str:
    if config.language is not None and feed.mark.rows:
        found = ", ".join(sorted(feed.languages))
        return f"no row of {rows.word} has the language {config.language!r}; found: {found}"
    return f"{rows.word} has no rows; give a source with conversations"
