"""What ``evalsuite run`` would ask and write (``--dry-run``); no model is asked and nothing is written."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from evalsuite.checkpoint import Checkpoint
from evalsuite.config import RunConfig
from evalsuite.doctor import require_servable
from evalsuite.errors import ServerError
from evalsuite.power.history import Pace, Tokens, answer_tokens, pace_of, verdict_tokens
from evalsuite.progress import Progress
from evalsuite.records.rows import Draw, Reply, Row
from evalsuite.results.reading import ModelResult, read_results_folder
from evalsuite.runs.plan import ModelRun, SuiteRun
from evalsuite.runs.runner import planned
from evalsuite.serving.client import Client
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.reasoning import settled
from evalsuite.serving.requests import Completion, Guide, Sampling
from evalsuite.serving.session import Session
from evalsuite.store import ANSWERED_BY, opened_to_read
from evalsuite.suites.repeats import for_repeat
from judges.types import Message, Unscored

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Forecast:
    """One suite of one model; calls are of all items and repeats, None where unknown.

    ``is_stored``: the figures stand and nothing is asked. ``answers`` and ``verdicts`` are calls that the store cannot
    answer, a verdict's second question (to a judge that names no verdict) not counted; ``answers_stored`` and
    ``verdicts_stored`` are those that it can. Tokens are estimates from ``n_known`` recorded items and ``n_verdicts``
    calls of judges in the results; None without any. So are seconds, at the speed of earlier runs (a server's start not
    counted); ``gpu_hours`` is None where those runs had no GPU of their own.
    """

    model: str
    suite: str
    is_stored: bool
    items: int | None
    answers: int | None = 0
    answers_stored: int = 0
    verdicts: int | None = 0
    verdicts_stored: int = 0
    answer_tokens_in: int | None = 0
    answer_tokens_out: int | None = 0
    verdict_tokens_in: int | None = 0
    verdict_tokens_out: int | None = 0
    answer_seconds: float | None = 0
    verdict_seconds: float | None = 0
    gpu_hours: float | None = None
    n_known: int = 0
    n_verdicts: int = 0
    writes: Sequence[str] = ()


def forecast(config: RunConfig, progress: Progress) -> list[Forecast]:
    """Return what a run would ask and write, a row per model and suite; raises EvalsuiteError as the run would.

    Data that are not on this machine are fetched, as they are needed to count. External servers are asked for their
    name, and no model for an answer.
    """
    judges, plans = planned(config, progress)
    asked = [plan for plan in plans if plan.todo and not plan.is_imported]
    require_servable([plan.checkpoint for plan in asked if not config.base_url], config.serve)
    require_servable(
        judges.members if any(run.needs_judge for plan in plans for run in plan.todo) else (), config.judge_serving
    )
    known = read_results_folder(config.results).models if config.results.is_dir() else ()
    found: list[Forecast] = []
    with ExitStack() as stack:
        stored = _StoredOnly(stack, config)
        asking = [_Counted(stored.client(judge, config.judge_serving, None, progress)) for judge in judges.members]
        for plan in plans:
            url, model = config.base_url, None
            if plan.todo and not plan.is_imported:
                model = stored.client(plan.checkpoint, config.serve, url, progress)
                model = model and model.with_reasoning(plan.reasoning)
            found += [_of_suite(run, plan, _Counted(model), asking, known, config) for run in plan.todo]
            owed = {run.spec.key for run in plan.todo}
            done = [spec.key for spec in config.suites if spec.key not in owed and plan.stored is not None]
            stored_suites = plan.stored.suites if plan.stored is not None else {}
            for key in done:
                if key in stored_suites:
                    n = stored_suites[key].get("n")
                    found.append(Forecast(plan.checkpoint.name, key, True, n if isinstance(n, int) else None))
    return found


def as_json(forecasts: Sequence[Forecast]) -> Mapping[str, Any]:
    return {"dry_run": [asdict(one) for one in forecasts]}


class _NotStoredError(Exception):
    """A request that has to be sent."""


class _StoredOnly:
    """A run's store, only read: a request that it cannot answer is ``_NotStoredError`` and goes nowhere."""

    def __init__(self, stack: ExitStack, config: RunConfig) -> None:
        paths = [folder / "store.sqlite" for folder in (config.store, config.results) if folder is not None]
        has_any = not config.ask_again
        self._db: Sequence[sqlite3.Connection] = [
            stack.enter_context(opened_to_read(path)) for path in paths if has_any and path.is_file()
        ]

    def client(
        self, checkpoint: Checkpoint, serve: ServeConfig, base_url: str | None, progress: Progress
    ) -> Client | None:
        """Return a client that looks into the store and asks nobody; None where nothing is stored."""
        if not self._db or (checkpoint.path is None and checkpoint.endpoint is None):
            return None
        try:
            target = Session(checkpoint, self, serve, Path(), base_url=base_url).target
        except ServerError as error:
            progress.log(f"{checkpoint.name}: stored answers are not counted: {error}")
            return None
        return Client(target, self._refuse, self).with_reasoning(settled(checkpoint, serve))

    async def _refuse(self) -> NoReturn:
        raise _NotStoredError

    def get(self, key: str) -> dict[str, Any] | None:
        for db in self._db:
            if row := db.execute("SELECT value FROM completions WHERE key = ?", (key,)).fetchone():
                value: dict[str, Any] = json.loads(row[0])
                value.pop(ANSWERED_BY, None)
                return value
        return None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep nothing."""

    def claim(self, key: str) -> NoReturn:  # noqa: ARG002
        raise _NotStoredError

    def release(self, key: str) -> None:
        """Keep nothing."""


@dataclass(slots=True)
class _Counted:
    """A model that answers from the store, or not at all, and counts both."""

    client: Client | None
    is_judge: bool = False
    to_ask: int = 0
    stored: int = 0

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, guide: Guide | None = None
    ) -> Completion | Unscored:
        instead = Unscored("no_judge") if self.is_judge else Completion("(not asked)", "stop", 0, 0)
        asked = None if self.client is None else self.client.chat(messages, sampling, guide)
        return await self._stored_or(instead, asked)

    async def label_logprobs(
        self, messages: Sequence[Message], labels: Sequence[str], spellings: Sequence[str] = ()
    ) -> dict[str, float] | Unscored:
        asked = None if self.client is None else self.client.label_logprobs(messages, labels, spellings)
        return await self._stored_or(Unscored("no_judge"), asked)

    async def _stored_or(self, instead: Answer, asked: Awaitable[Answer] | None) -> Answer:
        try:
            if asked is None:
                raise _NotStoredError
            reply = await asked
        except _NotStoredError:
            self.to_ask += 1
            return instead
        self.stored += 1
        return reply


def _of_suite(
    run: SuiteRun,
    plan: ModelRun,
    model: _Counted,
    asking: Sequence[_Counted],
    known: Sequence[ModelResult],
    config: RunConfig,
) -> Forecast:
    judges = [replace(judge, is_judge=True, to_ask=0, stored=0) for judge in asking if run.needs_judge]
    options = run.options
    answers: int | None
    if run.suite.whole:
        items = run.suite.n_items(options.parts, options.data, options.limit or options.sample)
        answers, recorded = items, 0
    else:
        items, recorded = len(run.loaded.items), asyncio.run(_walk(run, model, judges))
        answers = model.to_ask
    verdicts = sum(judge.to_ask for judge in judges)
    own = [one for one in known if one.scores.model.fingerprint == plan.checkpoint.fingerprint]
    earlier = next((found for group in (own, known) if (found := answer_tokens(group, run.spec.key)).n_items), Tokens())
    judged = verdict_tokens(known) if verdicts else Tokens()
    read, written = earlier.of_calls(answers)
    pace = next((one for group in (own, known) if (one := pace_of(group, "generate")).n), Pace())
    judging = pace_of(known, "judge")
    seconds = pace.of(written), judging.of(verdicts)
    gpus = pace.on_gpus * config.serve.devices, judging.on_gpus * config.judge_serving.devices
    gpu_seconds = [took * n for took, n in zip(seconds, gpus, strict=True) if took is not None]
    files = ("scores.json", "manifest.json", "config.yaml", f"records/{run.spec.key}.jsonl")
    return Forecast(
        plan.checkpoint.name,
        run.spec.key,
        False,
        items,
        answers,
        recorded + model.stored,
        verdicts,
        sum(judge.stored for judge in judges),
        read,
        written,
        *judged.of_calls(verdicts),
        *seconds,
        sum(gpu_seconds) / 3600 if any(gpus) and len(gpu_seconds) == len(gpus) else None,
        earlier.n_items,
        judged.n_calls,
        [str(plan.folder / name) for name in files],
    )


async def _walk(run: SuiteRun, model: _Counted, judges: Sequence[_Counted]) -> int:
    """Put every question of a suite to the counting models; return how many answers the records have."""
    n_recorded = 0
    answered: dict[str, Row] = {f"{row.part}/{row.item_id}": row for row in run.rows} | dict(run.recorded)
    for position, item in enumerate(run.loaded.items):
        row = run.suite.row(item, run.loaded)
        recorded = answered.get(f"{row.part}/{row.item_id}")
        n = run.options.repeats if run.sampled and run.sampled[position] else 1
        draws: Sequence[Draw] = () if recorded is None else recorded.draws
        n_recorded += sum(len(draw.turns) for draw in draws)
        if recorded is None:
            every = [for_repeat(run.options, repeat) for repeat in range(n)]
            draws = [await run.suite.answer(item, run.loaded, model, options) for options in every]
        for draw in draws:
            for judge in judges:
                asked = tuple(reply if reply.text is not None else Reply("(not asked)") for reply in draw.turns)
                given = Draw(asked, draw.repeat)
                await run.suite.judge(item, given, run.loaded, judge, run.options)
    return n_recorded
