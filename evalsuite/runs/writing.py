"""Writing what a run found out: records, exports, scores.json and manifest.json, for every judge and their panel."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import msgspec

import evalsuite
from evalsuite.checkpoint import Checkpoint
from evalsuite.config import RunConfig, resolved_yaml
from evalsuite.documents import SuiteEntry
from evalsuite.errors import DataError
from evalsuite.files import write_text
from evalsuite.records.answers import answer_figures, verdict_figures
from evalsuite.records.files import Records, RecordsInMemory, records_path, write_records
from evalsuite.records.rows import Header, JudgeRef, Row, for_judge, merged, replaced
from evalsuite.results.folder import (
    exclusive,
    figures_sha256,
    focused,
    set_aside,
    stored_manifest,
    stored_scores,
    write_results,
)
from evalsuite.results.records import suite_records
from evalsuite.runs.documents import manifest_document, scores_document
from evalsuite.runs.judges import Judges, Panel, panel_figures, with_panel
from evalsuite.runs.plan import ModelRun, SuiteRun, refuse_lost_parts, refuse_other_figures
from evalsuite.suites.repeats import marked_draws, scored_draws, with_first_marks
from evalsuite.suites.types import Scores as SuiteScores

View = Checkpoint | Panel | None
"""Whose figures are written: a judge's, a panel's, or those of a run without a judge."""


def write_figures(plan: ModelRun, config: RunConfig, judges: Judges) -> None:
    """Score and write one model, beside what others wrote meanwhile; the last judge's figures, or the panel's, on top.

    Raises UsageError where what others wrote must not be mixed with the new figures.
    """
    with exclusive(plan.folder):
        if plan.replaces is not None and figures_sha256(plan.folder) == plan.replaces:
            set_aside(plan.folder)
        plan.stored, plan.manifest = stored_scores(plan.folder), stored_manifest(plan.folder)
        old = _old_records(plan)
        is_judged = any(suite.judged and suite.needs_judge for suite in plan.todo)
        views: Sequence[View] = judges.views if is_judged else (judges.top,)
        for view in views[-1:]:
            _focus(plan, view, is_judged=is_judged)
            refuse_other_figures(plan, config, plan.todo)
            for suite in plan.todo:
                refuse_lost_parts(plan.stored, plan.manifest, suite)
        for suite in plan.todo:
            _write_records(plan, suite, judges, old.get(suite.spec.key))
        _convert_others(plan, old)
        for view in views:
            _focus(plan, view, is_judged=is_judged)
            _add_figures(plan, config, view, is_last=view is views[-1])
        assert plan.stored is not None
        write_text(plan.folder / "config.yaml", resolved_yaml(config))
        write_results(plan.folder, plan.stored, plan.manifest)


def _focus(plan: ModelRun, view: View, *, is_judged: bool) -> None:
    """Put the stored figures of a view on top, those of the others under ``judged``."""
    if plan.stored is not None and is_judged:
        judge = None if view is None else view.fingerprint
        plan.stored, plan.manifest = focused(plan.stored, plan.manifest, judge)


def _add_figures(plan: ModelRun, config: RunConfig, view: View, *, is_last: bool) -> None:
    """Compute one view's figures into the plan's documents; suites that need no judge belong to the last one."""
    suites = dict(plan.stored.suites) if plan.stored is not None else {}
    entries = dict(plan.manifest.suites)
    for suite in plan.todo:
        if not (is_last or suite.needs_judge):
            continue
        suites[suite.spec.key] = _score(plan, suite, view, exports=is_last)
        entries[suite.spec.key] = SuiteEntry(
            run_key=suite.run_key(view),
            answer_key=suite.answer_key,
            options=suite.options.model_dump(mode="json"),
            data_pins=dict(suite.pins),
            served=dict(suite.served),
            missing=dict(getattr(suite.loaded, "missing", {}) or {}),
        ).with_given(applied=dict(suite.whole.applied) if suite.whole is not None else {})
    plan.watch.lap("score")
    answers = dict(plan.stored.answers) if plan.stored is not None else {}
    answers |= {run.spec.key: counts for run in plan.todo if (counts := answer_figures(run.rows)) is not None}
    plan.stored = scores_document(plan, suites, answers, config, view)
    plan.manifest = manifest_document(plan, entries, config, plan.stored)


def _convert_others(plan: ModelRun, old: Mapping[str, Records]) -> None:
    """Write the records of suites that an evalsuite without records left in this folder."""
    written = {suite.spec.key for suite in plan.todo}
    for key, records in old.items():
        path = records_path(plan.folder, key)
        if key not in written and not path.exists():
            write_records(path, records.header, records.rows())


def _write_records(plan: ModelRun, run: SuiteRun, judges: Judges, old: Records | None) -> None:
    """Write the rows of one suite with the verdicts of all judges, marked by those on top."""
    if judges.panel is not None and run.judged and run.needs_judge:
        run.rows = [with_panel(row, judges.panel, run.suite) for row in run.rows]
    header = _header(run, judges.views)
    rows = [marked_draws(run.suite, seen_by(judges.top, run, row), header) for row in run.rows]
    rows = [replaced(marked, verdicts=row.verdicts) for marked, row in zip(rows, run.rows, strict=True)]
    old_rows, old_judges = ((), {}) if old is None else (old.rows(), old.header.judges)
    known = {**old_judges, **header.judges}
    together = merged(old_rows, rows)
    used = {verdict.judge for row in together for verdict in row.verdicts}
    kept = {name: entry for name, entry in known.items() if name in used or name in header.judges}
    write_records(records_path(plan.folder, run.spec.key), msgspec.structs.replace(header, judges=kept), together)


def seen_by(view: View, run: SuiteRun, row: Row) -> Row:
    """Return a row with the verdicts of one view alone."""
    return row if view is None or not run.needs_judge else for_judge(row, view.slug)


def _score(plan: ModelRun, run: SuiteRun, view: View, *, exports: bool) -> SuiteScores:
    """Score the rows of one suite by one judge, and write its exports."""
    suite, key = run.suite, run.spec.key
    header = _header(run, () if view is None else (view,))
    rows = [marked_draws(suite, seen_by(view, run, row), header) for row in run.rows]
    if run.whole is not None and run.whole.export is not None:
        run.whole.export(plan.folder / key)
    elif exports:
        judge = view.name if view is not None and run.judged and run.needs_judge else None
        first = [with_first_marks(row) for row in rows]
        suite.write_peer(header, first, plan.folder / key, model=plan.checkpoint.name, judge=judge)
    scores = scored_draws(suite, header, rows)
    if isinstance(view, Panel) and run.needs_judge:
        scores |= panel_figures(view, suite, header, run.rows)
    elif run.judged and (verdicts := verdict_figures(rows)) is not None:
        scores |= {"verdicts": verdicts}
    return scores


def _header(run: SuiteRun, views: Sequence[Checkpoint | Panel]) -> Header:
    return header_of(run, views if run.judged and run.needs_judge else ())


def header_of(run: SuiteRun, judges: Sequence[Checkpoint | Panel]) -> Header:
    """Return the header of a suite's records, whose rows have verdicts of ``judges``."""
    whole = run.whole
    return Header(
        suite=run.spec.key,
        n_items=len(run.rows),
        evalsuite=evalsuite.__version__,
        options=run.options.model_dump(mode="json"),
        pins=run.pins,
        judges={judge.slug: JudgeRef(judge.name, judge.fingerprint) for judge in judges},
        missing=dict(whole.missing if whole is not None else getattr(run.loaded, "missing", {}) or {}),
        document=None if whole is None else whole.document,
    )


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
