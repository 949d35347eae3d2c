"""The suites that lm-eval drives: what they have in common, and any of lm-eval's tasks by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import pydantic

from evalsuite.assets.asset import Pin
from evalsuite.errors import DataError, EvalsuiteError, UsageError, first_line, unknown
from evalsuite.files import write_json
from evalsuite.fingerprint import file_sha256, text_sha256
from evalsuite.records.rows import Header, Row, replaced
from evalsuite.suites import figures
from evalsuite.suites.base import Suite
from evalsuite.suites.figures import Column, Figure, Line, ReportPart, as_object
from evalsuite.suites.harness import merging, pages, peer
from evalsuite.suites.harness.groups import tasks_of
from evalsuite.suites.harness.repeats import is_sampled
from evalsuite.suites.harness.rows import PROTECTED_NOTE, is_protected
from evalsuite.suites.harness.scores import (
    TaskFigure,
    document_counts,
    leaf_tasks,
    main_figure,
    task_figures,
    task_rows,
    within,
)
from evalsuite.suites.options import NO_FIGURES, SuiteOptions
from evalsuite.suites.types import OnProgress, Pins, Recorded, Scores, WholeRun

if TYPE_CHECKING:
    import asyncio

    from evalsuite.serving.client import Client
    from evalsuite.serving.sampler import Sampler
    from evalsuite.suites.harness.run import HarnessLoaded

_CONTEXT_FIELDS = ("narrative", "passage", "context", "article", "story")


class LmEvalOptions(SuiteOptions):
    """What the suites of lm-eval's tasks may be asked with."""

    chat_template_on_openllm: bool = pydantic.Field(default=True, json_schema_extra={"flag": "openllm_chat_template"})
    """Use the chat template in Open LLM tasks."""
    fewshot_as_multiturn: bool = True
    """With a chat template, give few-shot examples as turns."""


class LmEvalSuite(Suite):
    """A suite whose items are asked and scored by lm-eval; its aggregates stay lm-eval's own.

    A subclass says which of lm-eval's tasks belong to which part of its rows (``row_parts``).
    """

    options_type = LmEvalOptions
    packages = ("lm_eval",)
    whole = True
    needs_chat = False
    protocol_titles: ClassVar[Mapping[str, str]] = {
        "chat_template_on_openllm": "chat template",
        "fewshot_as_multiturn": "few-shot as turns",
        "limit_fraction": "share of each task",
    }

    def row_parts(self, tasks: Iterable[str]) -> Mapping[str, str]:
        """Return the part of the rows for each task, in the order of the parts; tasks of other suites are left out."""
        return {task: task for task in tasks}

    def sampled_tasks(self, loaded: HarnessLoaded, sampler: Sampler) -> Sequence[bool]:
        return [is_sampled(task, sampler) for task in loaded.tasks.values()]

    def run_whole(
        self,
        loaded: HarnessLoaded,
        server: Client,
        loop: asyncio.AbstractEventLoop,
        options: LmEvalOptions,
        on_progress: OnProgress | None = None,
    ) -> WholeRun:
        from evalsuite.suites.harness.run import run_tasks

        result = run_tasks(
            loaded,
            server,
            loop,
            chat_template=options.chat_template_on_openllm,
            fewshot_as_multiturn=options.fewshot_as_multiturn,
            limit=options.limit,
            sample=None if options.sample is None else (options.sample, options.sample_seed),
            seed=options.seed,
            repeats=options.repeats,
            on_progress=on_progress,
        )
        document = peer.results_document(result)
        return WholeRun(
            peer.result_rows(result, self.row_parts(result.samples)),
            document,
            missing=loaded.missing,
            applied=_template_settings(document),
            export=partial(peer.write_results, result, document),
        )

    def mark(self, row: Row, header: Header) -> Row:  # noqa: ARG002
        return row

    def has_right_answer(self, row: Row, header: Header) -> bool:  # noqa: ARG002
        return True

    def vote(self, row: Row, header: Header, repeat: int) -> str | None:  # noqa: ARG002
        """Return what lm-eval's filter took from a draw."""
        filtered = row.facts.get("filtered", ())
        return str(filtered[repeat]) if len(filtered) == len(row.draws) > repeat else None

    def context_of(self, row: Row) -> str:
        """Return the text that a document's question is about, from the fields that lm-eval's tasks give it in."""
        fields = {str(name): str(text) for name, text in row.facts.get("fields") or ()}
        return next((fields[name] for name in _CONTEXT_FIELDS if fields.get(name)), "")

    def question_page(self, row: Row, header: Header) -> dict[str, Any]:
        """Return the question, its options and the other fields; of protected text a note alone."""
        if row.prompt is None:
            return {"note": PROTECTED_NOTE}
        return pages.question_of(row.facts, pages.choices_of(header.document, row.part))

    def answer_page(self, row: Row, header: Header) -> dict[str, Any]:  # noqa: ARG002
        """Return ``choices``, or ``responses``, and what was ``extracted``; see :mod:`.pages`."""
        return pages.answer_of(row)

    def protocol(self, options: Mapping[str, Any], scores: Mapping[str, Any]) -> Mapping[str, str | int | float]:
        """Return the chat template's settings and the share of each task, as far as they are known."""
        if not options:
            return {}
        # A run limits by whole numbers; without a template there are no turns.
        known = {"limit_fraction": 0, **options}
        if known.get("chat_template_on_openllm") is False:
            known["fewshot_as_multiturn"] = False
        return super().protocol(known, scores)

    def protocol_text(self, name: str, value: str | float) -> str:
        if name == "limit_fraction" and not value:
            return "a whole number of each task"
        return super().protocol_text(name, value)

    def read_peer(self, path: Path, options: SuiteOptions, model: str | None = None) -> Recorded:  # noqa: ARG002
        """Read lm-eval's results*.json (the file, or those of a folder as one) with the samples beside it.

        With ``options.parts`` the others are left out. Raises DataError when nothing can be read.
        """
        recording = peer.read_recording(path)
        header = self._recorded_header(path, recording.document, options)
        limit, share = peer.recorded_limit(header.document)
        known = options.model_dump(mode="json") | {"limit": limit, "limit_fraction": share or 0}
        settings = _template_settings(header.document)
        known |= settings if "chat_template" in header.document else dict.fromkeys(settings)
        samples = recording.samples(partial(self._is_recorded, header))
        rows = [
            row
            for task, part in self.row_parts(samples).items()
            for row in peer.read_rows(samples[task], part, protected=is_protected(header.document, task))
        ]
        return Recorded(msgspec.structs.replace(header, n_items=len(rows), options=known), rows)

    def joined(self, earlier: Recorded, later: Recorded) -> Recorded | None:
        """Add tasks to recorded ones; None where a task has other figures in the two."""
        old, new = as_object(earlier.header.document), as_object(later.header.document)
        if fault := merging.difference(old, new):
            raise UsageError(f"these results have {fault}; import them under another --model")
        rows = as_object(old.get("results"))
        common = [task for task in new["results"] if task in rows and leaf_tasks(new, task) == (task,)]
        if any(rows[task] != new["results"][task] for task in common):
            return None
        parts = {row.part for row in later.rows}
        chosen = [header.options.get("parts") or () for header in (earlier.header, later.header)]
        header = msgspec.structs.replace(
            later.header,
            document=merging.joined(new, old).document,
            missing={part: why for part, why in later.header.missing.items() if part in earlier.header.missing},
            options={**later.header.options, "parts": sorted({*chosen[0], *chosen[1]}) if all(chosen) else []},
        )
        both = [*(row for row in earlier.rows if row.part not in parts), *later.rows]
        return Recorded(msgspec.structs.replace(header, n_items=len(both)), both)

    def write_peer(self, header: Header, rows: Sequence[Row], folder: Path, *, model: str, judge: str | None) -> None:  # noqa: ARG002
        """Write the results document alone: lm-eval's samples hold more than the rows."""
        write_json(folder / "results.json", header.document)

    def copy_peer(self, source: Path, header: Header, folder: Path, model: str) -> None:  # noqa: ARG002
        peer.copy_results(peer.read_recording(source), partial(self._is_recorded, header), folder)

    def recorded_limit(self, header: Header, rows: Sequence[Row]) -> int | None:  # noqa: ARG002
        return peer.recorded_limit(header.document)[0]

    def score_recorded(self, path: Path, options: SuiteOptions) -> Scores:
        return self.score(self._recorded_header(path, peer.read_recording(path).document, options), ())

    def _recorded_header(self, path: Path, document: dict[str, Any], options: SuiteOptions) -> Header:
        """Return a header with the document, as far as ``options`` ask for it; raises DataError."""
        raise NotImplementedError

    def _is_recorded(self, header: Header, task: str) -> bool:
        """Whether a task's samples beside a results document are read."""
        return task in header.document["results"]


class LmEvalTasksOptions(LmEvalOptions):
    """What tasks that are named one by one may be asked with."""

    include_path: Path | None = pydantic.Field(default=None, json_schema_extra={**NO_FIGURES, "path": True})
    """Folder with your own lm-eval task YAMLs for lm_eval:TASK, in addition to lm-eval's."""
    confirm_run_unsafe_code: bool = pydantic.Field(default=False, json_schema_extra=NO_FIGURES)
    """Run lm-eval tasks that execute what the model wrote (HumanEval, MBPP) on this machine, without isolation."""

    @pydantic.field_validator("include_path")
    @classmethod
    def _check_folder(cls, folder: Path | None) -> Path | None:
        if folder is not None and not folder.expanduser().is_dir():
            raise ValueError(f"{folder} is not a folder; give one with lm-eval's task YAMLs")
        return folder and folder.expanduser()


class LmEvalTasks(LmEvalSuite):
    """Any tasks of lm-eval, by name: ``lm_eval:TASK[,TASK]``; a group of ``evalsuite suites`` stands for its tasks."""

    name = "lm_eval"
    title = "lm-eval tasks"
    order = 60
    options_type = LmEvalTasksOptions

    def expanded(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(task for part in parts for task in tasks_of(part) or (part,)))

    def check_parts(self, parts: Sequence[str]) -> None:
        """Raise UsageError where no task is named; whether lm-eval knows it is seen when it is loaded."""
        if not parts:
            raise UsageError("lm_eval needs tasks: --suite lm_eval:TASK[,TASK]")

    def data_pins(self, options: LmEvalTasksOptions) -> Pins:
        """Return the hash of the user's own task files: lm-eval pins no data."""
        if options.include_path is None:
            return {}
        kept = {".yaml", ".yml", ".py", ".json", ".jsonl", ".csv", ".txt"}
        found = (path for path in options.include_path.rglob("*") if path.suffix in kept and path.is_file())
        files = sorted(path for path in found if "__pycache__" not in path.parts)
        content = [f"{path.relative_to(options.include_path).as_posix()} {file_sha256(path)}" for path in files]
        return {f"{self.name}/include_path": Pin(text_sha256("\n".join(content)), "file", pinned=True)}

    def load(self, options: LmEvalTasksOptions) -> HarnessLoaded:
        """Load the named tasks, groups or tags.

        Raises UsageError for an unknown one and for one that runs code of the model without being allowed to, DataError
        without its data.
        """
        from evalsuite.assets import pinned_datasets
        from evalsuite.suites.harness.run import load_tasks

        unsafe = options.confirm_run_unsafe_code
        try:
            with pinned_datasets():
                loaded = load_tasks(options.parts, self._known_tasks(options), run_unsafe_code=unsafe)
            return replace(loaded, data_pins=self.data_pins(options))
        except EvalsuiteError:
            raise
        except Exception as error:  # a task is untrusted code, and so is what loads its data
            cause = f"{type(error).__name__}: {first_line(error)}"
            raise DataError(f"lm-eval cannot load {', '.join(options.parts)}: {cause}") from error

    def mark(self, row: Row, header: Header) -> Row:
        """Return the row with its task's main metric as "score" too."""
        main = main_figure(as_object(as_object(as_object(header.document).get("results")).get(row.part)))
        marks = row.marks.get(main.name[0]) if main is not None else None
        return row if marks is None else replaced(row, marks={"score": marks, **row.marks})

    def score(self, header: Header, rows: Sequence[Row]) -> Scores:  # noqa: ARG002
        """Return lm-eval's rows under "tasks", the count of all under "documents", the left out under "unscored"."""
        documents = document_counts(header.document, peer.notes_of(header.document)[1])
        return {"tasks": task_rows(header.document), "documents": documents, "unscored": documents["unscored"]}

    def _recorded_header(self, path: Path, document: dict[str, Any], options: SuiteOptions) -> Header:
        for task in options.parts:
            if task not in document["results"]:
                raise DataError(f"{path}: {unknown('task', task, list(document['results']))}")
        return Header(self.name, 0, document=within(document, options.parts) if options.parts else document)

    def columns(self, scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> Sequence[Column]:
        """Return a column per metric of every task that any model has; a task's main metric has its items."""
        rows: dict[str, list[Mapping[str, Any]]] = {}
        for one in scores.get(self.name, ()):
            for task, row in as_object(one.get("tasks")).items():
                rows.setdefault(task, []).append(as_object(row))
        return [column for task, same in rows.items() for column in self._task_columns(task, same, list(rows))]

    def _task_columns(self, task: str, rows: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> list[Column]:
        values_of: dict[tuple[str, str], list[float]] = {}
        for figure in (one for row in rows for one in task_figures(row)):
            if figure.value is not None:
                values_of.setdefault(figure.name, []).append(figure.value)
        mains = [main.name for row in rows if (main := main_figure(row)) is not None]
        main_name = next((name for name in mains if name in values_of), None)
        # A group's own tasks can be switched on.
        in_group = any(task != other and task.startswith(f"{other}_") for other in tasks)
        return [
            Column(
                f"{self.name}/{task}" + ("" if name == main_name else f"/{_label(name, values_of, '/')}"),
                f"{task} {_label(name, values_of)}",
                f"lm-eval's {name[0]}",
                self.name,
                partial(_task_figure, task, name),
                top=next((top for top in (1.0, 100.0) if max(values) <= top), max(values)),
                main=name == main_name and not in_group,
                items=f"{self.name}/{task}" if name == main_name else "",
            )
            for name, values in values_of.items()
        ]

    def lines(self, key: str, scores: Mapping[str, Any]) -> Iterable[Line]:  # noqa: ARG002
        """Return a line per metric of every task, and one of all documents where some are unscored."""
        for task, row in as_object(scores.get("tasks")).items():
            metrics = task_figures(row)
            for figure in metrics:
                label = _label(figure.name, [one.name for one in metrics])
                n = figures.shown(row.get("sample_len"), 0)
                yield Line(
                    f"{task} {label}", figures.shown(figure.value, 4), figures.shown_error(figure.stderr, 4), "", n
                )
            if not metrics:
                yield Line(task, figures.DASH, note="no document of it was answered")
        documents = as_object(scores.get("documents"))
        if unscored := figures.unscored_text(documents.get("unscored")):
            yield Line("all documents", figures.DASH, n=figures.shown(documents.get("n"), 0), unscored=unscored)

    def report_part(self, key: str, part: str) -> ReportPart:
        return ReportPart(part, f"{key}/{part}")

    def scorer_fault(self, options: LmEvalTasksOptions) -> str:
        """Raise UsageError for tasks that lm-eval does not know, its own or of ``include_path``, or that are unsafe."""
        from evalsuite.suites.harness.run import refuse_tasks

        refuse_tasks(self._known_tasks(options), options.parts, run_unsafe_code=options.confirm_run_unsafe_code)
        return ""

    def _known_tasks(self, options: LmEvalTasksOptions) -> Any:
        content = "".join(pin.sha256 or "" for pin in self.data_pins(options).values())
        return _task_manager(options.include_path, content)


@lru_cache(maxsize=1)
def _task_manager(include: Path | None, _content: str) -> Any:
    """Return lm-eval's index of its own tasks and those of a folder: thousands of files, which take seconds to read."""
    from lm_eval.tasks import TaskManager

    from evalsuite.suites.harness.run import quiet_harness

    with quiet_harness():
        return TaskManager(include_path=include and str(include))


def _template_settings(document: Mapping[str, Any]) -> dict[str, Any]:
    names = {"chat_template_on_openllm": "chat_template", "fewshot_as_multiturn": "fewshot_as_multiturn"}
    return {option: bool(document.get(name)) for option, name in names.items()}


def _task_figure(task: str, name: tuple[str, str], scores: Mapping[str, Any]) -> Figure:
    row = as_object(as_object(scores.get("tasks")).get(task))
    if not row:
        return Figure(reason=f"lm_eval:{task} was not run")
    figure = next((one for one in task_figures(row) if one.name == name), TaskFigure(name))
    if figure.value is None:
        return Figure(reason=figures.unscored_text(scores.get("unscored")) or f"lm-eval gives no {name[0]} of {task}")
    n = row.get("sample_len")
    return figures.with_interval(Figure(figure.value, figure.stderr, None, n if isinstance(n, int) else None))


def _label(name: tuple[str, str], names: Iterable[tuple[str, str]], separator: str = "") -> str:
    """Return a metric's name, with its filter where the metric has several."""
    metric, one_filter = name
    if sum(other == metric for other, _ in names) < 2:
        return metric
    return f"{metric}{separator}{one_filter}" if separator else f"{metric} ({one_filter})"
