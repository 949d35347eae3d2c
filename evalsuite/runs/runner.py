"""``evalsuite run``: the only generate -> judge -> score loop.

All suites of a model run at the same time on one client. Where the judge is the candidate
itself, a verdict follows its answer at once; where it is another model, the candidate's server
stops before the judge's starts, and the judge is started once for all candidates.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from evalsuite.checkpoint import Checkpoint
from evalsuite.config import RunConfig
from evalsuite.doctor import preflight
from evalsuite.documents import Scores
from evalsuite.errors import BusyError, CheckpointError, EvalsuiteError, ServerError, blamed_on
from evalsuite.progress import NoProgress, Progress
from evalsuite.records.rows import Draw, Row, Verdict, replaced
from evalsuite.results.folder import unscored_share
from evalsuite.runs.judges import Judges
from evalsuite.runs.plan import (
    ModelRun,
    SuiteRun,
    judges_of,
    models_asked,
    plan_model,
    refuse_unavailable_parts,
)
from evalsuite.runs.recorded import imported_folder, plan_recorded
from evalsuite.runs.shared import Shared
from evalsuite.runs.so_far import SoFar, Speed
from evalsuite.runs.writing import write_figures
from evalsuite.serving.client import Client
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.engine import Engine, engine_key
from evalsuite.serving.identity import refuse_twins, warn_of_silent_servers
from evalsuite.serving.known_servers import FILE as SERVERS_FILE
from evalsuite.serving.reasoning import described, settle
from evalsuite.serving.server import context_length
from evalsuite.serving.session import Session, with_restarts
from evalsuite.store import AnswerStore, AskAgain
from evalsuite.suites.repeats import for_repeat


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run produced: one scores.json per model, and how much of it is unscored.

    ``failures`` are the models and suites that failed, by name; figures of the others are written.
    """

    models: Sequence[Scores]
    folders: Sequence[Path]
    n_unscored: int
    n_items: int
    failures: Mapping[str, EvalsuiteError]


def run(config: RunConfig, progress: Progress | None = None, shared: Shared | None = None) -> Outcome:
    """Evaluate as :func:`evaluate` does, and raise the first failure when the figures of the others are written."""
    outcome = evaluate(config, progress, shared)
    for error in outcome.failures.values():
        raise error
    return outcome


def evaluate(config: RunConfig, progress: Progress | None = None, shared: Shared | None = None) -> Outcome:
    """Evaluate every model of ``config``; every finished answer stays in the store, whatever fails.

    ``shared`` is what several runs into the same results have in common, which then stays open. A model or suite that
    fails after the start is in the outcome's ``failures``; raises EvalsuiteError for what can be known before.
    """
    progress = progress or NoProgress()
    judges, plans = planned(config, progress)
    if any(plan.todo for plan in plans):
        preflight(config, models_asked(plans, config, judges), progress)
        with ExitStack() as stack:
            shared = shared or stack.enter_context(Shared(config))
            answers = AskAgain(shared.store) if config.ask_again else shared.store
            _Runner(config, judges, shared, answers, progress).run_all(plans)
    return outcome_of(plans, config)


def planned(config: RunConfig, progress: Progress) -> tuple[Judges, list[ModelRun]]:
    """Decide what a run has to do for each model, and each budget of a sweep; nothing is started."""
    judges = judges_of(config, progress)
    plans = [plan for spec in config.models for plan in _plans(spec, config, judges, progress)]
    # A sweep's variants are of one model.
    servers = {(plan.checkpoint.fingerprint, plan.checkpoint.endpoint): plan.checkpoint for plan in plans}
    refuse_twins(servers.values(), remedy=", or run them separately, one with --name")
    warn_of_silent_servers((*(plan.checkpoint for plan in plans), *judges.members), progress)
    return judges, plans


def outcome_of(plans: Sequence[ModelRun], config: RunConfig) -> Outcome:
    """Return the figures that the plans' folders hold, and the plans' failures."""
    documents = [plan.stored for plan in plans if plan.stored is not None]
    shares = [unscored_share(document.suites, awaiting_judge=config.no_judge) for document in documents]
    return Outcome(
        documents,
        [plan.folder for plan in plans if plan.stored is not None],
        n_unscored=sum(share[0] for share in shares),
        n_items=sum(share[1] for share in shares),
        failures={
            f"{plan.checkpoint.name} {key}".rstrip(): error for plan in plans for key, error in plan.failures.items()
        },
    )


def _plans(spec: str, config: RunConfig, judges: Judges, progress: Progress) -> list[ModelRun]:
    if (folder := imported_folder(spec, config.results)) is not None:
        return [plan_recorded(folder, config, judges, progress)]
    swept = config.serve.thinking_budget
    budgets: Sequence[int | None] = swept if len(swept) > 1 else [None]
    return [plan_model(spec, config, judges, progress, budget) for budget in budgets]


class _OwnJudge(NamedTuple):
    """A judge that is the served candidate, and the client that asks it."""

    judge: Checkpoint
    client: Client


@dataclass(frozen=True, slots=True)
class _Runner:
    """Carries plans out; holds what they share."""

    config: RunConfig
    judges: Judges
    shared: Shared
    answers: AnswerStore
    progress: Progress

    def run_all(self, plans: Sequence[ModelRun]) -> None:
        groups: dict[Hashable, list[ModelRun]] = {}
        for plan in plans:
            if plan.todo and not plan.is_imported:
                groups.setdefault(engine_key(plan.checkpoint), []).append(plan)
        for group in groups.values():
            log = self._log(group[0].checkpoint, "candidate")
            with Engine([plan.checkpoint for plan in group], self.config.serve, log) as engine:
                for plan in group:
                    if not any(isinstance(error, BusyError) for each in plans for error in each.failures.values()):
                        self._try_to_generate(plan, engine)
            for plan in group:
                self._write_settled(plan)
        for plan in plans:
            plan.todo = [suite for suite in plan.todo if suite.answered]
        for judge in self.judges.members:
            waiting = [plan for plan in plans if any(_owes_verdicts(suite, judge) for suite in plan.todo)]
            if waiting:
                self._judge_all(waiting, judge)
        for plan in plans:
            if self.judges.members:
                # Without the suites of which every judge has failed.
                plan.todo = [suite for suite in plan.todo if suite.judged or not suite.needs_judge]
            if plan.todo:
                self._finish(plan)

    def _try_to_generate(self, plan: ModelRun, engine: Engine) -> None:
        """Answer one model's items; where it fails, its finished suites are kept and the next model is asked."""
        try:
            self._generate(plan, engine)
        except EvalsuiteError as error:
            plan.failures[""] = error
            plan.watch.lap("generate")

    def _judge_all(self, waiting: Sequence[ModelRun], judge: Checkpoint) -> None:
        """Judge the answers of all models; where the judge fails, figures without it are still written."""
        try:
            begin = partial(self._session, judge, "judge", None)
            with blamed_on(f"judge {judge.name}"), self.shared.judge(judge.slug, begin) as session:
                for plan in waiting:
                    self._judge(plan, judge, session)
                    self._write_settled(plan)
        except EvalsuiteError as error:
            for plan in waiting:
                by = f" judged by {judge.name}" if self.judges.panel is not None else ""
                owing = [suite for suite in plan.todo if _owes_verdicts(suite, judge)]
                plan.failures |= {f"{suite.spec.key}{by}": error for suite in owing}

    def _log(self, checkpoint: Checkpoint, role: str) -> Path:
        return self.config.results / "logs" / f"{checkpoint.slug}-{role}.log"

    def _session(self, checkpoint: Checkpoint, role: str, engine: Engine | None) -> Session:
        candidate = role == "candidate"
        return Session(
            checkpoint,
            self.answers,
            self.config.serve if candidate else self.config.judge_serving,
            self._log(checkpoint, role),
            engine=engine,
            servers=self.config.results / SERVERS_FILE,
            base_url=self.config.base_url if candidate else None,
            progress=self.progress,
        )

    def _is_served_as(self, checkpoint: Checkpoint, judge: Checkpoint) -> bool:
        """Whether the served candidate can judge: the same weights, template and server settings."""
        serve = self.config.serve
        return (
            not self.config.base_url
            and serve.same_server(self.config.judge_serving)
            and (judge.fingerprint, judge.endpoint) == (checkpoint.fingerprint, checkpoint.endpoint)
            and judge.chat_template == checkpoint.chat_template
            and context_length(judge, self.config.judge_serving) == context_length(checkpoint, serve)
        )

    def _say_how_it_thinks(self, plan: ModelRun) -> None:
        if said := described(plan.reasoning, context_length(plan.checkpoint, self.config.serve)):
            self.progress.log(f"{plan.checkpoint.name} {said}")
        notes = (note for run in plan.todo if plan.reasoning.thinks for note in run.notes_on_thinking())
        for note in dict.fromkeys(notes):
            self.progress.log(note)

    def _own_judge(self, checkpoint: Checkpoint, session: Session) -> _OwnJudge | None:
        """Return the judge that the served candidate is, with a client that thinks as it does; None if it is none."""
        for judge in self.judges.members:
            if self._is_served_as(checkpoint, judge):
                reasoning = settle(checkpoint, self.config.judge_serving, session.chat_format)
                return _OwnJudge(judge, session.client.with_reasoning(reasoning))
        return None

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

    def _answer_all(self, plan: ModelRun, session: Session, own_judge: _OwnJudge | None) -> None:
        """Run item suites on the loop and lm-eval on this thread, both at once."""
        client = session.client.with_reasoning(plan.reasoning)
        speed = Speed(plan.checkpoint.name, session.client.usage, self.progress)
        by_item = [suite for suite in plan.todo if not suite.suite.whole]
        walking = self.shared.loop.submit(self._walk(plan, by_item, client, own_judge, speed))
        try:
            for suite in (one for one in plan.todo if one.suite.whole):
                try:
                    self._run_whole(plan, suite, client, speed)
                except (ServerError, BusyError):
                    raise
                except EvalsuiteError as error:
                    # A fault of its own leaves the other suites running.
                    plan.failures[suite.spec.key] = error
            walking.result()
            self.shared.loop.wait(client.look_for_drift())
        except BaseException:
            walking.cancel()
            raise
        finally:
            speed.stop()
            self.shared.loop.wait(session.client.close())

    async def _walk(
        self,
        plan: ModelRun,
        suites: Sequence[SuiteRun],
        model: Client,
        own_judge: _OwnJudge | None,
        speed: Speed,
    ) -> None:
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
                row = await self._judged(run, position, row, own_judge.judge, own_judge.client)
            so_far[run.spec.key].add(row)
            return row

        judge = own_judge and own_judge.judge
        so_far = {run.spec.key: SoFar(plan.line(run), run, judge, self.progress, speed) for run in suites}
        for suite in suites:
            self.progress.begin(plan.line(suite), len(suite.loaded.items))
        rows = iter(
            await gather_or_cancel(answer(suite, i) for suite in suites for i in range(len(suite.loaded.items)))
        )
        for suite in suites:
            suite.rows, suite.answered = list(islice(rows, len(suite.loaded.items))), True
            suite.judged = () if own_judge is None else (own_judge.judge.slug,)

    async def _judged(self, run: SuiteRun, position: int, row: Row, judge: Checkpoint, client: Client) -> Row:
        """Return a row with one more judge's verdicts on its draws."""

        async def of(draw: Draw) -> list[Verdict]:
            verdicts = await run.suite.judge(run.loaded.items[position], draw, run.loaded, client, run.options)
            return [msgspec.structs.replace(one, judge=judge.slug, repeat=draw.repeat) for one in verdicts]

        each = await gather_or_cancel(of(draw) for draw in row.draws or (Draw(),))
        return replaced(row, verdicts=(*row.verdicts, *(verdict for verdicts in each for verdict in verdicts)))

    def _run_whole(self, plan: ModelRun, suite: SuiteRun, client: Client, speed: Speed) -> None:
        line = plan.line(suite)
        if suite.loaded is None:
            suite.loaded = suite.suite.load(suite.options)
            refuse_unavailable_parts(plan.stored, suite)
        totals: dict[str, tuple[int, int]] = {}

        def report(part: str, done: int, total: int, unscored: int) -> None:
            totals[part] = (done, total)
            self.progress.note(line, f"{unscored} unscored" if unscored else "")
            self.progress.update(line, sum(t[0] for t in totals.values()), sum(t[1] for t in totals.values()))
            speed.look()

        self.shared.loop.wait(client.detect_features())
        suite.whole = suite.suite.run_whole(suite.loaded, client, self.shared.loop.loop, suite.options, report)
        suite.rows, suite.answered = suite.whole.rows, True

    def _judge(self, plan: ModelRun, judge: Checkpoint, session: Session) -> None:
        """Judge the answers of one model with a judge that is another model."""
        plan.watch.resume()
        owing = [suite for suite in plan.todo if _owes_verdicts(suite, judge)]
        by = f"judged by {judge.name}" if self.judges.panel is not None else "judged"

        async def one(suite: SuiteRun, position: int, row: Row) -> Row:
            judged = await self._judged(suite, position, row, judge, session.client)
            so_far[suite.spec.key].add(judged)
            return judged

        async def walk() -> None:
            for suite in owing:
                line = f"{plan.line(suite)} {by}"
                so_far[suite.spec.key] = SoFar(line, suite, judge, self.progress, speed)
                self.progress.begin(line, len(suite.rows))
            work = (one(suite, i, row) for suite in owing for i, row in enumerate(suite.rows))
            rows = iter(await gather_or_cancel(work))
            for suite in owing:
                suite.rows = list(islice(rows, len(suite.rows)))
                suite.judged = (*suite.judged, judge.slug)
            await session.client.look_for_drift()

        so_far: dict[str, SoFar] = {}
        speed = Speed(judge.name, session.client.usage, self.progress)
        before, used = session.serve_seconds, asdict(session.client.usage)
        try:
            with_restarts(session, lambda: self.shared.loop.wait(walk()), self.progress)
        finally:
            speed.stop()
        # The figures are written next, while the judge's server stays: a kill there asks it nothing again.
        session.remember()
        # The judge serves all models of the run: this one's share is what came on top.
        counts = {name: count - used[name] for name, count in asdict(session.client.usage).items()}
        name = "judge" if self.judges.panel is None else f"judge {judge.name}"
        plan.usage[name] = {**counts, **session.client.server_told}
        started = session.serve_seconds - before
        plan.watch.lap("judge")
        plan.watch.seconds["serve"] += started
        plan.watch.seconds["judge"] = max(0.0, plan.watch.seconds["judge"] - started)

    def _write_settled(self, plan: ModelRun) -> None:
        """Write the suites that need no further judge, so that they are seen while others are judged.

        Figures that --fresh sets aside stay until all new ones exist.
        """
        judges = self.judges.members
        owing = [one for one in plan.todo if not one.answered or any(_owes_verdicts(one, each) for each in judges)]
        settled = [suite for suite in plan.todo if suite not in owing]
        if settled and not (owing and plan.replaces is not None):
            plan.todo = settled
            self._finish(plan)
            plan.todo = owing

    def _finish(self, plan: ModelRun) -> None:
        plan.watch.resume()
        judges = self.judges
        if any(suite.needs_judge for suite in plan.todo):
            judges = judges.with_verdicts({slug for suite in plan.todo for slug in suite.judged})
        if judges.panel is not self.judges.panel:
            written = ", ".join(judge.name for judge in judges.members)
            self.progress.log(
                f"{plan.checkpoint.name}: the figures of {written} are written; the panel needs the verdicts of all "
                "its judges: run the same command again"
            )
        try:
            self.shared.store.require_file()
            write_figures(plan, self.config, judges)
        except EvalsuiteError as error:
            # Another run may have written in that model's folder meanwhile; the others' figures are good.
            plan.failures[""], plan.stored = error, None


def _owes_verdicts(suite: SuiteRun, judge: Checkpoint) -> bool:
    return suite.needs_judge and judge.slug not in suite.judged


async def _draws(run: SuiteRun, position: int, model: Client) -> tuple[Draw, ...]:
    """Answer an item as often as the run repeats it."""
    repeats = run.options.repeats if run.sampled and run.sampled[position] else 1
    item, options = run.loaded.items[position], [for_repeat(run.options, repeat) for repeat in range(repeats)]
    drawn = await gather_or_cancel(run.suite.answer(item, run.loaded, model, one) for one in options)
    return tuple(msgspec.structs.replace(draw, repeat=repeat) for repeat, draw in enumerate(drawn))


def _require_chat_format(plan: ModelRun, session: Session) -> None:
    """Refuse a model without a chat template before any server starts, where a suite holds conversations."""
    chatting = [suite.spec.name for suite in plan.todo if suite.suite.needs_chat]
    if chatting and session.chat_format is not None and session.chat_format.source is None:
        without = sorted({suite.spec.name for suite in plan.todo} - set(chatting))
        raise CheckpointError(
            f"{plan.checkpoint.name} has no chat template, which {', '.join(chatting)} need; pass --chat-template FILE "
            "(or fastchat:NAME), or run only suites that need none" + (f": --suite {without[0]}" if without else "")
        )
