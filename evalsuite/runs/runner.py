"""``evalsuite run``: the only generate -> judge -> score loop.

All suites of a model run at the same time on one client. Where the judge is the candidate
itself, a verdict follows its answer at once; where it is another model, the candidate's server
leaves before the judge's comes, and the judge is started once for all candidates.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from evalsuite.checkpoint import Checkpoint
from evalsuite.config import RunConfig
from evalsuite.doctor import preflight
from evalsuite.errors import CheckpointError, EvalsuiteError
from evalsuite.progress import Progress, Silence
from evalsuite.results.folder import (
    exclusive,
    figures_sha256,
    set_aside,
    stored_manifest,
    stored_scores,
    unscored_share,
    write_results,
)
from evalsuite.runs.documents import manifest_document, scores_document
from evalsuite.runs.plan import (
    ModelRun,
    SuiteRun,
    chat_template_file,
    judge_of,
    models_asked,
    plan_of,
    refuse_lost_parts,
    refuse_other_figures,
    refuse_unavailable_parts,
)
from evalsuite.serving.client import Client
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.restarts import with_restarts
from evalsuite.serving.session import Session
from evalsuite.store import Store
from evalsuite.suites.base import Record

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run produced: one scores.json a model, and how much of it is unscored."""

    models: Sequence[Mapping[str, Any]]
    folders: Sequence[Path]
    n_unscored: int
    n_items: int

    @property
    def unscored_share(self) -> float:
        return self.n_unscored / self.n_items if self.n_items else 0.0


def run(config: RunConfig, progress: Progress | None = None) -> Outcome:
    """Evaluate every model of ``config``; raises EvalsuiteError, and leaves every finished answer in the store."""
    progress = progress or Silence()
    template_file = chat_template_file(config)
    judge = judge_of(config, progress)
    plans = [plan_of(word, config, judge, template_file, progress) for word in config.models]
    if any(plan.todo for plan in plans):
        preflight(config, models_asked(plans, config, judge), progress)
        with ExitStack() as stack:
            store = stack.enter_context(Store(config.results / "store.sqlite"))
            loop = stack.enter_context(LoopThread())
            _Runner(config, judge, store, loop, progress).run_all(plans)
    documents = [plan.stored or {} for plan in plans]
    shares = [unscored_share(document["suites"]) for document in documents]
    return Outcome(documents, [plan.folder for plan in plans], sum(s[0] for s in shares), sum(s[1] for s in shares))


class _Runner:
    """Carries plans out; holds what they share."""

    def __init__(
        self, config: RunConfig, judge: Checkpoint | None, store: Store, loop: LoopThread, progress: Progress
    ) -> None:
        self.config = config
        self.judge = judge
        self.store = store
        self.loop = loop
        self.progress = progress

    def run_all(self, plans: Sequence[ModelRun]) -> None:
        for plan in plans:
            if plan.todo:
                self._generate(plan)
        waiting = [plan for plan in plans if any(self._owes_verdicts(suite) for suite in plan.todo)]
        if waiting and self.judge is not None:
            with self._session(self.judge, "judge") as session:
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

    def _session(self, checkpoint: Checkpoint, role: str) -> Session:
        candidate = role == "candidate"
        return Session(
            checkpoint,
            self.store,
            self.config.serve_options(),
            self.config.results / "logs" / f"{checkpoint.slug}-{role}.log",
            base_url=self.config.base_url if candidate else None,
            template_word=self.config.chat_template if candidate else None,
            in_flight=self.config.in_flight,
            on_step=self.progress.step,
        )

    def _owes_verdicts(self, suite: SuiteRun) -> bool:
        return not suite.judged and suite.needs_judge

    def _is_own_judge(self, checkpoint: Checkpoint) -> bool:
        """Whether the served candidate can judge: the same weights, template and server."""
        judge = self.judge
        return (
            judge is not None
            and not self.config.base_url
            # Of FastChat's formats neither checkpoint knows; it is for the candidates alone.
            and not (self.config.chat_template or "").startswith("fastchat:")
            and judge.fingerprint == checkpoint.fingerprint
            and judge.chat_template == checkpoint.chat_template
        )

    def _generate(self, plan: ModelRun) -> None:
        """Answer everything, and judge along the way where the candidate is its own judge."""
        plan.watch.resume()
        with self._session(plan.checkpoint, "candidate") as session:
            plan.chat_source = session.chat_format.source if session.chat_format else "server"
            _require_chat_format(plan, session)
            own_judge = session.client if self._is_own_judge(plan.checkpoint) else None
            for suite in plan.todo:
                self.progress.begin(plan.line(suite), None)
            with_restarts(session, lambda: self._answer_all(plan, session, own_judge), self.progress)
            plan.usage["candidate"] = asdict(session.client.usage)
            plan.restarts += session.restarts
            plan.watch.lap("generate")
            plan.watch.seconds["serve"] += session.serve_seconds
            plan.watch.seconds["generate"] = max(0.0, plan.watch.seconds["generate"] - session.serve_seconds)

    def _answer_all(self, plan: ModelRun, session: Session, own_judge: Client | None) -> None:
        """Run item suites on the loop and lm-eval on this thread, both at once."""
        chats = [suite for suite in plan.todo if suite.by_item is not None]
        walking = self.loop.submit(self._walk(plan, chats, session.client, own_judge))
        try:
            for suite in plan.todo:
                if suite.by_item is None:
                    self._run_harness(plan, suite, session.client)
            walking.result()
        except BaseException:
            walking.cancel()
            raise
        finally:
            self.loop.wait(session.client.close())

    async def _walk(self, plan: ModelRun, suites: Sequence[SuiteRun], model: Client, own_judge: Client | None) -> None:
        """Answer every item of every suite at once; the client decides how many are in flight."""

        async def one(suite: SuiteRun, position: int, records: list[Record | None]) -> None:
            by_item, loaded = _must(suite.by_item), suite.loaded
            item = loaded.items[position]
            answer = await by_item.answer(item, loaded, model, suite.options)
            verdict = None
            if own_judge is not None and suite.needs_judge:
                verdict = await by_item.judge(item, answer, loaded, own_judge, suite.options)
            records[position] = Record(item, answer, verdict)
            self.progress.advance(plan.line(suite))

        work: list[Awaitable[None]] = []
        places: list[tuple[SuiteRun, list[Record | None]]] = []
        for suite in suites:
            records: list[Record | None] = [None] * len(suite.loaded.items)
            places.append((suite, records))
            self.progress.begin(plan.line(suite), len(records))
            work += [one(suite, position, records) for position in range(len(records))]
        await gather_or_cancel(work)
        for suite, records in places:
            suite.records = [_must(record) for record in records]
            suite.judged = own_judge is not None

    def _run_harness(self, plan: ModelRun, suite: SuiteRun, client: Client) -> None:
        from evalsuite.suites.registry import HARNESS

        harness = HARNESS[suite.spec.name]
        line = plan.line(suite)
        if suite.loaded is None:
            suite.loaded = harness.load(suite.options)
            refuse_unavailable_parts(plan.stored, suite)
        totals: dict[str, tuple[int, int]] = {}

        def report(part: str, done: int, total: int) -> None:
            totals[part] = (done, total)
            self.progress.settle(line, sum(t[0] for t in totals.values()), sum(t[1] for t in totals.values()))

        self.loop.wait(client.detect_features())
        suite.harness_result = harness.run(suite.loaded, client, self.loop.loop, suite.options, report)
        suite.judged = True

    def _judge(self, plan: ModelRun, session: Session) -> None:
        """Judge the recorded answers of one model with a judge that is another model."""
        plan.watch.resume()
        owed = [suite for suite in plan.todo if self._owes_verdicts(suite)]

        async def one(suite: SuiteRun, position: int, records: list[Record]) -> None:
            record = records[position]
            verdict = await _must(suite.by_item).judge(
                record.item, record.answer, suite.loaded, session.client, suite.options
            )
            records[position] = Record(record.item, record.answer, verdict)
            self.progress.advance(f"{plan.line(suite)} judged")

        async def walk() -> None:
            work: list[Awaitable[None]] = []
            places = [(suite, list(suite.records)) for suite in owed]
            for suite, records in places:
                self.progress.begin(f"{plan.line(suite)} judged", len(records))
                work += [one(suite, position, records) for position in range(len(records))]
            await gather_or_cancel(work)
            for suite, records in places:
                suite.records, suite.judged = records, True

        before, used = session.serve_seconds, asdict(session.client.usage)
        with_restarts(session, lambda: self.loop.wait(walk()), self.progress)
        # The judge serves all models of the run: this one's share is what came on top.
        plan.usage["judge"] = {name: count - used[name] for name, count in asdict(session.client.usage).items()}
        started = session.serve_seconds - before
        plan.watch.lap("judge")
        plan.watch.seconds["serve"] += started
        plan.watch.seconds["judge"] = max(0.0, plan.watch.seconds["judge"] - started)

    def _finish(self, plan: ModelRun) -> None:
        """Score, export, and write scores.json and then manifest.json, beside what others wrote meanwhile."""
        plan.watch.resume()
        with exclusive(plan.folder):
            if plan.replaces is not None and figures_sha256(plan.folder) == plan.replaces:
                set_aside(plan.folder)
            plan.stored, plan.manifest = stored_scores(plan.folder), stored_manifest(plan.folder)
            refuse_other_figures(
                plan.folder, plan.stored, plan.manifest, self.config, plan.checkpoint, self.judge, plan.todo
            )
            for suite in plan.todo:
                refuse_lost_parts(plan.stored, plan.manifest, suite)
            self._write(plan)

    def _write(self, plan: ModelRun) -> None:
        suites: dict[str, Any] = dict((plan.stored or {}).get("suites", {}))
        suites_manifest: dict[str, Any] = dict(plan.manifest.get("suites", {}))
        for suite in plan.todo:
            suites[suite.spec.key] = self._score(plan, suite)
            suites_manifest[suite.spec.key] = {
                "run_key": suite.run_key,
                "options": asdict(suite.options),
                "data_pins": {name: dict(pin) for name, pin in suite.pins.items()},
                "served": dict(suite.served),
                "missing": dict(getattr(suite.loaded, "missing", {}) or {}),
                **_applied(suite),
            }
        plan.watch.lap("score")
        document = scores_document(plan, suites, self.config, self.judge)
        write_results(plan.folder, document, manifest_document(plan, suites_manifest, self.config, document))
        plan.stored = document

    def _score(self, plan: ModelRun, suite: SuiteRun) -> dict[str, Any]:
        by_item = suite.by_item
        judge_name = self.judge.name if self.judge and suite.judged else None
        if by_item is None:
            from evalsuite.suites.registry import HARNESS

            harness = HARNESS[suite.spec.name]
            harness.export(suite.harness_result, plan.folder / suite.spec.key)
            return harness.score(suite.harness_result)
        by_item.export(
            suite.records,
            suite.loaded,
            plan.folder / suite.spec.key,
            model=plan.checkpoint.name,
            judge=judge_name if suite.needs_judge else None,
        )
        return by_item.score(suite.records, suite.loaded, suite.options)


def _applied(suite: SuiteRun) -> dict[str, Any]:
    """Say what lm-eval was given in the end: a model without a chat template gets none, whatever was asked."""
    if suite.harness_result is None:
        return {}
    about = suite.harness_result.results
    return {
        "applied": {
            "chat_template_on_openllm": about.get("chat_template") is not None,
            "fewshot_as_multiturn": bool(about.get("fewshot_as_multiturn")),
        }
    }


def _require_chat_format(plan: ModelRun, session: Session) -> None:
    """Say before any server starts that a model without a chat template cannot chat."""
    chatting = [suite.spec.name for suite in plan.todo if suite.by_item is not None]
    if chatting and session.chat_format is not None and session.chat_format.source is None:
        raise CheckpointError(
            f"{plan.checkpoint.name} has no chat template, which {', '.join(chatting)} need; pass --chat-template FILE "
            "(or fastchat:NAME), or run only what needs none: --suite openllm"
        )


def _must(value: T | None) -> T:
    if value is None:
        raise RuntimeError("a step of the run was skipped")
    return value
