"""``evalsuite run``: the only generate -> judge -> score loop.

All suites of a model run at the same time on one client. Where the judge is the candidate
itself, a verdict follows its answer at once; where it is another model, the candidate's server
stops before the judge's starts, and the judge is started once for all candidates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

import evalsuite
from evalsuite.checkpoint import Checkpoint
from evalsuite.config import RunConfig, resolved_yaml
from evalsuite.doctor import preflight
from evalsuite.documents import Scores, SuiteEntry
from evalsuite.errors import CheckpointError, DataError, EvalsuiteError
from evalsuite.files import write_text
from evalsuite.progress import NoProgress, Progress
from evalsuite.records.answers import answer_figures
from evalsuite.records.files import Records, RecordsInMemory, records_path, write_records
from evalsuite.records.rows import Draw, Header, JudgeRef, Row, Verdict, merged, replaced
from evalsuite.results.folder import (
    exclusive,
    figures_sha256,
    focused,
    set_aside,
    stored_manifest,
    stored_scores,
    unscored_share,
    write_results,
)
from evalsuite.results.records import suite_records
from evalsuite.runs.documents import manifest_document, scores_document
from evalsuite.runs.plan import (
    ModelRun,
    SuiteRun,
    models_asked,
    plan_model,
    refuse_lost_parts,
    refuse_other_figures,
    refuse_same_model,
    refuse_unavailable_parts,
    resolve_judge,
)
from evalsuite.serving.client import Client
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.engine import Engine, engine_key
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.reasoning import described, settle
from evalsuite.serving.restarts import with_restarts
from evalsuite.serving.server import context_length
from evalsuite.serving.session import Session
from evalsuite.store import AskAgain, Store, open_store
from evalsuite.suites.registry import require_packages
from evalsuite.suites.repeats import for_repeat, marked_draws, scored_draws, with_first_marks
from evalsuite.suites.types import Scores as SuiteScores


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run produced: one scores.json per model, and how much of it is unscored."""

    models: Sequence[Scores]
    folders: Sequence[Path]
    n_unscored: int
    n_items: int

    @property
    def unscored_share(self) -> float:
        return self.n_unscored / self.n_items if self.n_items else 0.0


def run(config: RunConfig, progress: Progress | None = None) -> Outcome:
    """Evaluate every model of ``config``; raises EvalsuiteError, and leaves every finished answer in the store."""
    progress = progress or NoProgress()
    for spec in config.suites:
        require_packages(spec)
    judge = resolve_judge(config, progress)
    swept = config.serve.thinking_budget
    budgets: Sequence[int | None] = swept if len(swept) > 1 else [None]
    plans = [plan_model(spec, config, judge, progress, budget) for spec in config.models for budget in budgets]
    refuse_same_model(plans)
    if any(plan.todo for plan in plans):
        preflight(config, models_asked(plans, config, judge), progress)
        with ExitStack() as stack:
            store = stack.enter_context(open_store(config.results, config.store))
            loop = stack.enter_context(LoopThread())
            again = AskAgain(store) if config.ask_again else None
            _Runner(config, judge, store, loop, progress, again).run_all(plans)
    documents = [plan.stored for plan in plans if plan.stored is not None]
    shares = [unscored_share(document.suites) for document in documents]
    return Outcome(documents, [plan.folder for plan in plans], sum(s[0] for s in shares), sum(s[1] for s in shares))


@dataclass(frozen=True, slots=True)
class _Runner:
    """Carries plans out; holds what they share."""

    config: RunConfig
    judge: Checkpoint | None
    store: Store
    loop: LoopThread
    progress: Progress
    again: AskAgain | None = None

    def run_all(self, plans: Sequence[ModelRun]) -> None:
        groups: dict[Hashable, list[ModelRun]] = {}
        for plan in plans:
            if plan.todo:
                groups.setdefault(engine_key(plan.checkpoint), []).append(plan)
        for group in groups.values():
            with self._engine([plan.checkpoint for plan in group]) as engine:
                for plan in group:
                    self._generate(plan, engine)
        waiting = [plan for plan in plans if any(self._owes_verdicts(suite) for suite in plan.todo)]
        if waiting and self.judge is not None:
            with self._session(self.judge, "judge", None) as session:
                try:
                    for plan in waiting:
                        self._judge(plan, session)
                finally:
                    self.loop.wait(session.client.close())
        refused: EvalsuiteError | None = None
        for plan in plans:
            if plan.todo:
                try:
                    self._finish(plan)
                except EvalsuiteError as error:
                    # Another run may have written in that model's folder meanwhile; the others' figures are good.
                    refused = refused or error
        if refused is not None:
            raise refused

    def _engine(self, checkpoints: Sequence[Checkpoint]) -> Engine:
        """Return the server of the candidates that one can serve at once; not started yet."""
        return Engine(checkpoints, self.config.serve, self._log(checkpoints[0], "candidate"))

    def _log(self, checkpoint: Checkpoint, role: str) -> Path:
        return self.config.results / "logs" / f"{checkpoint.slug}-{role}.log"

    def _session(self, checkpoint: Checkpoint, role: str, engine: Engine | None) -> Session:
        candidate = role == "candidate"
        return Session(
            checkpoint,
            self.store if self.again is None else self.again,
            self.config.serve if candidate else self.config.judge_serving,
            self._log(checkpoint, role),
            engine=engine,
            base_url=self.config.base_url if candidate else None,
            on_step=self.progress.step,
            on_note=self.progress.log,
        )

    def _owes_verdicts(self, suite: SuiteRun) -> bool:
        return not suite.judged and suite.needs_judge

    def _is_own_judge(self, checkpoint: Checkpoint) -> bool:
        """Whether the served candidate can judge: the same weights, template and server settings."""
        judge, serve = self.judge, self.config.serve
        return (
            judge is not None
            and not self.config.base_url
            and serve.same_server(self.config.judge_serving)
            and (judge.fingerprint, judge.endpoint) == (checkpoint.fingerprint, checkpoint.endpoint)
            and judge.chat_template == checkpoint.chat_template
            and context_length(judge, self.config.judge_serving) == context_length(checkpoint, serve)
        )

    def _say_how_it_thinks(self, plan: ModelRun) -> None:
        if said := described(plan.reasoning):
            self.progress.log(f"{plan.checkpoint.name} {said}")
        notes = dict.fromkeys(suite.suite.note_on_thinking for suite in plan.todo if plan.reasoning.thinks)
        for note in filter(None, notes):
            self.progress.log(note)

    def _own_judge(self, checkpoint: Checkpoint, session: Session) -> Client | None:
        """Return a client of the served candidate that thinks as the judge does; None where it cannot judge."""
        if not self._is_own_judge(checkpoint):
            return None
        return session.client.with_reasoning(settle(checkpoint, self.config.judge_serving, session.chat_format))

    def _generate(self, plan: ModelRun, engine: Engine) -> None:
        """Answer everything, and judge along the way where the candidate is its own judge."""
        plan.watch.resume()
        with self._session(plan.checkpoint, "candidate", engine) as session:
            plan.chat_source = session.chat_format.source if session.chat_format else "server"
            _require_chat_format(plan, session)
            # A sweep's budgets share one thought, which is asked up to the largest.
            plan.reasoning = replace(session.reasoning, budget=plan.reasoning.budget)
            self._say_how_it_thinks(plan)
            own_judge = self._own_judge(plan.checkpoint, session)
            for suite in plan.todo:
                self.progress.begin(plan.line(suite), None)
            with_restarts(session, lambda: self._answer_all(plan, session, own_judge), self.progress)
            plan.usage["candidate"] = {**asdict(session.client.usage), **session.client.server_told}
            plan.restarts += session.restarts
            plan.watch.lap("generate")
            plan.watch.seconds["serve"] += session.serve_seconds
            plan.watch.seconds["generate"] = max(0.0, plan.watch.seconds["generate"] - session.serve_seconds)

    def _answer_all(self, plan: ModelRun, session: Session, own_judge: Client | None) -> None:
        """Run item suites on the loop and lm-eval on this thread, both at once."""
        client = session.client.with_reasoning(plan.reasoning)
        by_item = [suite for suite in plan.todo if not suite.suite.whole]
        walking = self.loop.submit(self._walk(plan, by_item, client, own_judge))
        try:
            for suite in plan.todo:
                if suite.suite.whole:
                    self._run_whole(plan, suite, client)
            walking.result()
        except BaseException:
            walking.cancel()
            raise
        finally:
            self.loop.wait(session.client.close())

    async def _walk(self, plan: ModelRun, suites: Sequence[SuiteRun], model: Client, own_judge: Client | None) -> None:
        """Answer every item of every suite at once; the client decides how many are in flight."""

        async def answer(run: SuiteRun, position: int) -> Row:
            item, suite = run.loaded.items[position], run.suite
            row = suite.row(item, run.loaded)
            recorded = run.recorded.get(f"{row.part}/{row.item_id}")
            if recorded is not None:
                row = replaced(row, draws=recorded.draws)
            else:
                row = replaced(row, draws=await _draws(run, position, model))
            if own_judge is not None and run.needs_judge:
                row = await self._judged(run, position, row, own_judge)
            self.progress.advance(plan.line(run))
            return row

        for suite in suites:
            self.progress.begin(plan.line(suite), len(suite.loaded.items))
        rows = iter(
            await gather_or_cancel(answer(suite, i) for suite in suites for i in range(len(suite.loaded.items)))
        )
        for suite in suites:
            suite.rows = list(islice(rows, len(suite.loaded.items)))
            suite.judged = own_judge is not None

    async def _judged(self, run: SuiteRun, position: int, row: Row, client: Client) -> Row:
        """Return a row with one judge's verdicts on its draws."""
        judge = self.judge.slug if self.judge is not None else ""

        async def of(draw: Draw) -> list[Verdict]:
            verdicts = await run.suite.judge(run.loaded.items[position], draw, run.loaded, client, run.options)
            return [msgspec.structs.replace(one, judge=judge, repeat=draw.repeat) for one in verdicts]

        each = await gather_or_cancel(of(draw) for draw in row.draws or (Draw(),))
        return replaced(row, verdicts=tuple(verdict for verdicts in each for verdict in verdicts))

    def _run_whole(self, plan: ModelRun, suite: SuiteRun, client: Client) -> None:
        line = plan.line(suite)
        if suite.loaded is None:
            suite.loaded = suite.suite.load(suite.options)
            refuse_unavailable_parts(plan.stored, suite)
        totals: dict[str, tuple[int, int]] = {}

        def report(part: str, done: int, total: int) -> None:
            totals[part] = (done, total)
            self.progress.update(line, sum(t[0] for t in totals.values()), sum(t[1] for t in totals.values()))

        self.loop.wait(client.detect_features())
        suite.whole = suite.suite.run_whole(suite.loaded, client, self.loop.loop, suite.options, report)
        suite.rows = suite.whole.rows
        suite.judged = True

    def _judge(self, plan: ModelRun, session: Session) -> None:
        """Judge the answers of one model with a judge that is another model."""
        plan.watch.resume()
        owing = [suite for suite in plan.todo if self._owes_verdicts(suite)]

        async def judge(suite: SuiteRun, position: int, row: Row) -> Row:
            judged = await self._judged(suite, position, row, session.client)
            self.progress.advance(f"{plan.line(suite)} judged")
            return judged

        async def walk() -> None:
            for suite in owing:
                self.progress.begin(f"{plan.line(suite)} judged", len(suite.rows))
            work = (judge(suite, i, row) for suite in owing for i, row in enumerate(suite.rows))
            rows = iter(await gather_or_cancel(work))
            for suite in owing:
                suite.rows, suite.judged = list(islice(rows, len(suite.rows))), True

        before, used = session.serve_seconds, asdict(session.client.usage)
        with_restarts(session, lambda: self.loop.wait(walk()), self.progress)
        # The judge serves all models of the run: this one's share is what came on top.
        counts = {name: count - used[name] for name, count in asdict(session.client.usage).items()}
        plan.usage["judge"] = {**counts, **session.client.server_told}
        started = session.serve_seconds - before
        plan.watch.lap("judge")
        plan.watch.seconds["serve"] += started
        plan.watch.seconds["judge"] = max(0.0, plan.watch.seconds["judge"] - started)

    def _finish(self, plan: ModelRun) -> None:
        """Score, export, and write scores.json and then manifest.json, beside what others wrote meanwhile."""
        plan.watch.resume()
        self.store.require_file()
        with exclusive(plan.folder):
            if plan.replaces is not None and figures_sha256(plan.folder) == plan.replaces:
                set_aside(plan.folder)
            plan.stored, plan.manifest = stored_scores(plan.folder), stored_manifest(plan.folder)
            old = _old_records(plan)
            if plan.stored is not None and any(suite.judged and suite.needs_judge for suite in plan.todo):
                judge = None if self.judge is None else self.judge.fingerprint
                plan.stored, plan.manifest = focused(plan.stored, plan.manifest, judge)
            refuse_other_figures(plan, self.config, plan.todo)
            for suite in plan.todo:
                refuse_lost_parts(plan.stored, plan.manifest, suite)
            self._write(plan, old)

    def _write(self, plan: ModelRun, old: Mapping[str, Records]) -> None:
        suites = dict(plan.stored.suites) if plan.stored is not None else {}
        entries = dict(plan.manifest.suites)
        for suite in plan.todo:
            suites[suite.spec.key] = self._score(plan, suite, old.get(suite.spec.key))
            entries[suite.spec.key] = SuiteEntry(
                run_key=suite.run_key,
                answer_key=suite.answer_key,
                options=suite.options.model_dump(mode="json"),
                data_pins=dict(suite.pins),
                served=dict(suite.served),
                missing=dict(getattr(suite.loaded, "missing", {}) or {}),
            ).with_given(applied=dict(suite.whole.applied) if suite.whole is not None else {})
        self._convert_others(plan, old)
        plan.watch.lap("score")
        answers = {**(plan.stored.answers if plan.stored is not None else {}), **_how_answered(plan.todo)}
        scores = scores_document(plan, suites, answers, self.config, self.judge)
        write_text(plan.folder / "config.yaml", resolved_yaml(self.config))
        write_results(plan.folder, scores, manifest_document(plan, entries, self.config, scores))
        plan.stored = scores

    def _convert_others(self, plan: ModelRun, old: Mapping[str, Records]) -> None:
        """Write the records of suites that an evalsuite without records left in this folder."""
        written = {suite.spec.key for suite in plan.todo}
        for key, records in old.items():
            path = records_path(plan.folder, key)
            if key not in written and not path.exists():
                write_records(path, records.header, records.rows())

    def _score(self, plan: ModelRun, run: SuiteRun, old: Records | None) -> SuiteScores:
        """Mark and score the rows of one suite, and write its records and exports."""
        suite, key = run.suite, run.spec.key
        header = self._header(run)
        rows = [marked_draws(suite, row, header) for row in run.rows]
        old_rows, old_judges = ((), {}) if old is None else (old.rows(), old.header.judges)
        judges = {**old_judges, **header.judges}
        together = merged(old_rows, rows)
        used = {verdict.judge for row in together for verdict in row.verdicts}
        kept = {name: entry for name, entry in judges.items() if name in used or name in header.judges}
        write_records(records_path(plan.folder, key), msgspec.structs.replace(header, judges=kept), together)
        if run.whole is not None and run.whole.export is not None:
            run.whole.export(plan.folder / key)
        else:
            judge = self.judge.name if self.judge is not None and run.judged and run.needs_judge else None
            first = [with_first_marks(row) for row in rows]
            suite.write_peer(header, first, plan.folder / key, model=plan.checkpoint.name, judge=judge)
        return scored_draws(suite, header, rows)

    def _header(self, run: SuiteRun) -> Header:
        judge = self.judge if run.judged and run.needs_judge else None
        whole = run.whole
        return Header(
            suite=run.spec.key,
            n_items=len(run.rows),
            evalsuite=evalsuite.__version__,
            options=run.options.model_dump(mode="json"),
            pins=run.pins,
            judges={} if judge is None else {judge.slug: JudgeRef(judge.name, judge.fingerprint)},
            missing=dict(whole.missing if whole is not None else getattr(run.loaded, "missing", {}) or {}),
            document=None if whole is None else whole.document,
        )


async def _draws(run: SuiteRun, position: int, model: Client) -> tuple[Draw, ...]:
    """Answer an item as often as the run repeats it."""
    repeats = run.options.repeats if run.sampled and run.sampled[position] else 1
    item, options = run.loaded.items[position], [for_repeat(run.options, repeat) for repeat in range(repeats)]
    drawn = await gather_or_cancel(run.suite.answer(item, run.loaded, model, one) for one in options)
    return tuple(msgspec.structs.replace(draw, repeat=repeat) for repeat, draw in enumerate(drawn))


def _how_answered(runs: Sequence[SuiteRun]) -> dict[str, dict[str, Any]]:
    counts = {run.spec.key: answer_figures(run.rows) for run in runs}
    return {key: one for key, one in counts.items() if one is not None}


def _old_records(plan: ModelRun) -> Mapping[str, Records]:
    """Return the records of earlier runs in a plan's folder by suite; what cannot be read is left out.

    It is replaced by what this run knows: every answer is in the store.
    """
    if plan.stored is None:
        return {}
    found: dict[str, Records] = {}
    judged = [key for one in plan.stored.judged for key in one.suites]
    for key in dict.fromkeys([*plan.stored.suites, *judged]):
        with contextlib.suppress(DataError):
            records = suite_records(plan.folder, key, plan.stored, plan.manifest)
            if records is not None:
                found[key] = RecordsInMemory(records.header, records.records.rows())
    return found


def _require_chat_format(plan: ModelRun, session: Session) -> None:
    """Refuse a model without a chat template before any server starts, where a suite holds conversations."""
    chatting = [suite.spec.name for suite in plan.todo if suite.suite.needs_chat]
    if chatting and session.chat_format is not None and session.chat_format.source is None:
        without = sorted({suite.spec.name for suite in plan.todo} - set(chatting))
        raise CheckpointError(
            f"{plan.checkpoint.name} has no chat template, which {', '.join(chatting)} need; pass --chat-template FILE "
            "(or fastchat:NAME), or run only suites that need none" + (f": --suite {without[0]}" if without else "")
        )
