"""Open LLM Leaderboard v2: BBH, GPQA, MATH, MuSR, IFEval and MMLU-Pro through lm-eval's own tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite import assets
from evalsuite.assets.asset import Pin
from evalsuite.errors import DataError, EvalsuiteError, UsageError, first_line
from evalsuite.records.rows import Header, Row
from evalsuite.suites import figures
from evalsuite.suites.figures import Column, Figure, Line, ReportPart, as_object
from evalsuite.suites.harness import peer
from evalsuite.suites.harness.suite import LmEvalSuite
from evalsuite.suites.local_rows import local_rows, mini_rows
from evalsuite.suites.openllm.assets import ASSETS
from evalsuite.suites.openllm.checks import CHECKED, SELF_CHECKS, missing_tasks
from evalsuite.suites.openllm.scores import PARTS, part_of_task, part_scores, recorded_task
from evalsuite.suites.options import DataKind, SuiteOptions
from evalsuite.suites.types import NOT_ASKED, CheckedItem, CheckedItems, Pins, Scores

if TYPE_CHECKING:
    from evalsuite.suites.harness.run import HarnessLoaded

_MINI = Path(__file__).parent / "mini"


class OpenLLM(LmEvalSuite):
    """The leaderboard's six parts."""

    name = "openllm"
    notes_on_thinking = dict.fromkeys(
        ("bbh", "gpqa", "musr", "mmlu_pro"),
        "openllm scores choices after an empty thought; for the written answers that authors of reasoning models "
        "report, run --suite lm_eval:mmlu_pro,gpqa_diamond_cot_zeroshot",
    )
    title = "Open LLM Leaderboard v2"
    packages = ("lm_eval",)
    parts = tuple(PARTS)
    in_default = True
    order = 30
    pins_by_part = True
    answer_context = 4_096
    assets = ASSETS
    checked_names = tuple(PARTS)

    def n_items(self, parts: Sequence[str], data: DataKind, limit: int | None) -> int | None:
        """Return the documents asked of a model; ``limit`` applies to each task."""
        mini = data == "mini"
        chosen = [PARTS[name] for name in parts or PARTS]
        sizes = [(part.n_items[mini], part.n_tasks[mini]) for part in chosen]
        return sum(size if limit is None else min(size, limit * tasks) for size, tasks in sizes)

    def data_pins(self, options: SuiteOptions) -> Pins:
        return self._local_data(options)[0]

    def absent_data(self, options: SuiteOptions) -> Mapping[str, str]:
        return self._local_data(options)[1]

    def _local_data(self, options: SuiteOptions) -> tuple[dict[str, Pin], dict[str, str]]:
        """Return the pins of the chosen parts without loading a task, and the parts without data, with the remedy."""
        pins: dict[str, Pin] = {}
        absent: dict[str, str] = {}
        for part in self._chosen(options):
            try:
                pins |= _pins(part, options)
            except DataError as error:
                absent[part] = str(error)
        return pins, absent

    def load(self, options: SuiteOptions) -> HarnessLoaded:
        """Load the tasks of the chosen parts from pinned data.

        A part that is not available (GPQA without access to it) goes to ``missing`` with one line;
        the others run. Raises UsageError for an unknown part, DataError when none is available.
        """
        from evalsuite.suites.harness.run import HarnessLoaded

        chosen = self._chosen(options)
        missing = {part: NOT_ASKED for part in PARTS if part not in chosen}
        loaded: dict[str, HarnessLoaded] = {}
        pins: dict[str, Pin] = {}
        for part in chosen:
            try:
                pins |= _pins(part, options)
                loaded[part] = _load(part, options.data)
            except UsageError:
                raise
            except Exception as error:  # datasets, the hub's client and lm-eval each have their own errors
                own = isinstance(error, EvalsuiteError)
                missing[part] = str(error) if own else f"{type(error).__name__}: {first_line(error)}"
        if not loaded:
            reasons = "; ".join(f"{part}: {missing[part]}" for part in chosen)
            raise DataError(f"no part of openllm is available: {reasons}")
        return HarnessLoaded(
            parts={part: tuple(one.tasks) for part, one in loaded.items()},
            tasks={name: task for one in loaded.values() for name, task in one.tasks.items()},
            groups={name: group for one in loaded.values() for name, group in one.groups.items()},
            data_pins=pins,
            missing=missing,
        )

    def row_parts(self, tasks: Iterable[str]) -> Mapping[str, str]:
        """Return ``<part>/<task>`` for the leaderboard's tasks, part by part."""
        names = sorted(tasks)
        return {task: f"{part}/{task}" for part in PARTS for task in names if part_of_task(task) == part}

    def _chosen(self, options: SuiteOptions) -> list[str]:
        self.check_parts(options.parts)
        return [part for part in PARTS if not options.parts or part in options.parts]

    def score(self, header: Header, rows: Sequence[Row]) -> Scores:  # noqa: ARG002
        missing, unscored = peer.notes_of(header.document)
        return part_scores(header.document, {**missing, **header.missing}, unscored)

    def averages(self, scores: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, float | None]]:
        """Return the parts' scores for the paper's averages, MuSR's as the mean of its subtasks, and the normalised."""
        parts = {name: as_object(as_object(scores.get(self.name)).get(name)) for name in PARTS}
        fields = {name: "mean_of_subtasks" if name == "musr" else "score" for name in parts}
        raw = {name: figures.number(part.get(fields[name])) for name, part in parts.items()}
        normalized = {name: figures.number(part.get("normalized")) for name, part in parts.items()}
        return {"paper": raw, "nine": raw, "leaderboard_v2": normalized}

    def _recorded_header(self, path: Path, document: dict[str, Any], options: SuiteOptions) -> Header:
        chosen = self._chosen(options)
        if not any(recorded_task(document, part) for part in chosen):
            raise DataError(
                f"{path} has no openllm figures ({', '.join(document['results']) or 'it is empty'}); "
                "give results of lm-eval's leaderboard tasks"
            )
        missing = {part: NOT_ASKED for part in PARTS if part not in chosen}
        return Header(self.name, 0, missing={**peer.notes_of(document)[0], **missing}, document=document)

    def _is_recorded(self, header: Header, task: str) -> bool:
        return part_of_task(task) in PARTS.keys() - header.missing.keys()

    def columns(self, scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> Sequence[Column]:  # noqa: ARG002
        """Return a column per part, and MuSR's mean of subtasks as one to switch on."""
        columns = [
            Column(
                name, part.title, f"{part.says}; 0 to 1", self.name, partial(_figure, name), items=f"openllm/{name}/"
            )
            for name, part in PARTS.items()
        ]
        mean = partial(_figure, "musr", key="mean_of_subtasks")
        title, says = "MuSR, mean of subtasks", "the paper's figure; 0 to 1"
        return [*columns, Column("musr_subtasks", title, says, self.name, mean, main=False)]

    def lines(self, key: str, scores: Mapping[str, Any]) -> Iterable[Line]:  # noqa: ARG002
        """Return a line per part that was asked for."""
        reasons = as_object(scores.get("unscored"))
        for name, part in PARTS.items():
            own = as_object(scores.get(name))
            if own:
                yield Line(
                    part.title,
                    figures.shown(own.get("score"), 4),
                    figures.shown_error(own.get("stderr"), 4),
                    figures.shown(own.get("normalized"), 1),
                    figures.shown(own.get("n"), 0),
                    figures.unscored_text(own.get("unscored")),
                    f"{own['late']} at the scorer's time limit, counted as wrong" if own.get("late") else "",
                )
            elif (reason := str(reasons.get(name, ""))) != NOT_ASKED:
                yield Line(part.title, figures.DASH, note=reason)

    def report_part(self, key: str, part: str) -> ReportPart:  # noqa: ARG002
        name, _, task = part.partition("/")
        return ReportPart(task, name, PARTS[name].metric)

    def self_check(self, parts: Sequence[str]) -> str:
        """Look for the leaderboard's tasks, and try IFEval's and MATH's scorers."""
        tried = [(part, SELF_CHECKS[part]) for part in parts or PARTS if part in SELF_CHECKS]
        faults = [missing_tasks(), *(f"{part}: {fault}" for part, check in tried if (fault := check()))]
        return "; ".join(fault for fault in faults if fault)

    def checked_items(self, name: str, data: DataKind) -> CheckedItems:
        rows, pins = local_rows(data, [ASSETS[f"openllm/{name}"]], [_mini_file(name)])
        return CheckedItems([CheckedItem(name, *CHECKED[name](row, rank)) for rank, row in enumerate(rows)], pins)


def _figure(name: str, scores: Mapping[str, Any], key: str = "score") -> Figure:
    part = scores.get(name)
    if not isinstance(part, Mapping):
        return Figure(reason=str(as_object(scores.get("unscored")).get(name) or f"openllm:{name} was not run"))
    return figures.scored_figure(part, key, "stderr" if key == "score" else "", "n")


def _mini_file(part: str) -> Path:
    return _MINI / f"{PARTS[part].mini_task}.jsonl"


def _pins(part: str, options: SuiteOptions) -> dict[str, Pin]:
    if options.data == "mini":
        return {f"openllm/{part}": mini_rows(_mini_file(part))[1]}
    names = [f"openllm/{part}"] + (["nltk/punkt_tab"] if part == "ifeval" else [])
    return {name: assets.data_pin(assets.find(ASSETS[name])) for name in names}


def _load(part: str, data: DataKind) -> HarnessLoaded:
    from evalsuite.suites.harness.run import load_tasks

    if data == "mini":
        return load_tasks([PARTS[part].mini_task], _MINI)
    import lm_eval.tasks

    if part == "ifeval":
        # lm-eval's IFEval downloads punkt_tab when it is imported, unless NLTK finds it by then.
        assets.nltk_ready()
    with assets.pinned_datasets(ASSETS.values()):
        return load_tasks([PARTS[part].task], Path(lm_eval.tasks.__file__).parent / "leaderboard")
