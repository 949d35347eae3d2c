"""Open LLM Leaderboard v2: BBH, GPQA, MATH, MuSR, IFEval and MMLU-Pro through lm-eval's own tasks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalsuite.errors import DataError, EvalsuiteError, UsageError, unknown
from evalsuite.serving.continuations import TokenServer
from evalsuite.suites.base import Scores, SuiteOptions
from evalsuite.suites.harness.files import own_notes, read_results, write_results
from evalsuite.suites.harness.run import HarnessLoaded, HarnessResult, OnProgress, load_tasks, run_tasks
from evalsuite.suites.names import NOT_ASKED
from evalsuite.suites.openllm.scores import PARTS, document_counts, part_scores, task_rows

__all__ = ["LM_EVAL", "OPENLLM", "HarnessLoaded", "HarnessResult", "LmEvalTasks", "OpenLLM"]

_MINI = Path(__file__).parent / "mini"


class _Harness:
    """What the suites that lm-eval drives have in common."""

    judge_method = "lm-eval metrics"

    def needs_judge(self, options: SuiteOptions) -> bool:  # noqa: ARG002
        """Return False: every metric is computed by lm-eval."""
        return False

    def run(
        self,
        loaded: HarnessLoaded,
        server: TokenServer,
        loop: asyncio.AbstractEventLoop,
        options: SuiteOptions,
        on_progress: OnProgress | None = None,
    ) -> HarnessResult:
        """Run all loaded tasks; see ``harness_run.run_tasks`` (main thread, ``loop`` in another)."""
        return run_tasks(loaded, server, loop, options, on_progress)

    def export(self, result: HarnessResult, folder: Path) -> None:
        """Write results.json and samples_<task>.jsonl in lm-eval's fields; no text of GPQA is written."""
        write_results(result, folder)


class OpenLLM(_Harness):
    """The leaderboard's six parts."""

    name = "openllm"

    def data_pins(self, options: SuiteOptions) -> dict[str, Mapping[str, Any]]:
        """Return the pins of the chosen parts' data without loading a task; what is missing has none."""
        pins: dict[str, Mapping[str, Any]] = {}
        for part in _chosen(options):
            with contextlib.suppress(DataError):
                pins |= _pins(part, options)
        return pins

    def load(self, options: SuiteOptions) -> HarnessLoaded:
        """Load the tasks of the chosen parts from pinned data.

        A part that cannot be had (GPQA without access to it) goes to ``missing`` with one line;
        the others run. Raises UsageError for an unknown part, DataError when none can be had.
        """
        chosen = _chosen(options)
        missing = {part: NOT_ASKED for part in PARTS if part not in chosen}
        found: dict[str, HarnessLoaded] = {}
        pins: dict[str, Mapping[str, Any]] = {}
        for part in chosen:
            try:
                pins |= _pins(part, options)
                found[part] = _load_mini(part) if options.data == "mini" else _load_full(part)
            except UsageError:
                raise
            except Exception as error:  # datasets, the hub's client and lm-eval each have their own errors
                missing[part] = _one_line(error)
        if not found:
            raise DataError(
                f"no part of openllm can be had: {'; '.join(f'{part}: {missing[part]}' for part in chosen)}"
            )
        return HarnessLoaded(
            parts={part: tuple(loaded.tasks) for part, loaded in found.items()},
            tasks={name: task for loaded in found.values() for name, task in loaded.tasks.items()},
            groups={name: group for loaded in found.values() for name, group in loaded.groups.items()},
            data_pins=pins,
            missing=missing,
        )

    def score(self, result: HarnessResult) -> Scores:
        """Return the object of scores.json; pure."""
        return part_scores(result.results, result.missing, result.unscored)

    def score_recorded(self, path: Path, options: SuiteOptions) -> Scores:
        """Score lm-eval's results*.json (the file, or the newest one in a folder), with no model and no network.

        With ``options.parts`` the other parts are left out. Raises DataError when nothing can be read.
        """
        document = read_results(path)
        missing, unscored = own_notes(document)
        if options.parts:
            chosen = _chosen(options)
            missing = {**missing, **{part: NOT_ASKED for part in PARTS if part not in chosen}}
        scores = part_scores(document, missing, unscored)
        if all(scores[part] is None for part in PARTS):
            raise DataError(
                f"{path} holds no figure of openllm ({', '.join(document['results']) or 'it is empty'}); "
                "give results of lm-eval's leaderboard tasks"
            )
        return scores


class LmEvalTasks(_Harness):
    """Any tasks of lm-eval, by name: ``lm_eval:TASK[,TASK]``. The names stand in ``options.parts``."""

    name = "lm_eval"

    def data_pins(self, options: SuiteOptions) -> dict[str, Mapping[str, Any]]:  # noqa: ARG002
        """Return nothing: lm-eval's tasks name their data without a hash."""
        return {}

    def load(self, options: SuiteOptions) -> HarnessLoaded:
        """Load the named tasks, groups or tags; raises UsageError for an unknown one, DataError without its data."""
        from evalsuite.assets import pinned_datasets

        try:
            with pinned_datasets():
                return load_tasks(options.parts)
        except EvalsuiteError:
            raise
        except Exception as error:  # a task is foreign code, and so is what loads its data
            raise DataError(f"lm-eval cannot load {', '.join(options.parts)}: {_one_line(error)}") from error

    def score(self, result: HarnessResult) -> Scores:
        """Return lm-eval's rows under "tasks", and the documents left out under "unscored"; pure."""
        documents = document_counts(result.results, result.unscored)
        return {"tasks": task_rows(result.results), "documents": documents, "unscored": documents["unscored"]}

    def score_recorded(self, path: Path, options: SuiteOptions) -> Scores:  # noqa: ARG002
        """Return the rows of a recorded lm-eval results document."""
        document = read_results(path)
        documents = document_counts(document, own_notes(document)[1])
        return {"tasks": task_rows(document), "documents": documents, "unscored": documents["unscored"]}


OPENLLM = OpenLLM()
LM_EVAL = LmEvalTasks()


def _chosen(options: SuiteOptions) -> list[str]:
    for part in options.parts:
        if part not in PARTS:
            raise UsageError(unknown("part of openllm", part, PARTS))
    return [part for part in PARTS if not options.parts or part in options.parts]


def _pins(part: str, options: SuiteOptions) -> dict[str, Mapping[str, Any]]:
    if options.data == "mini":
        data = _MINI / f"{PARTS[part].mini_task}.jsonl"
        sha256 = hashlib.sha256(data.read_bytes()).hexdigest()
        return {f"openllm/{part}": {"sha256": sha256, "source": "mini", "pinned": True}}
    from evalsuite import assets

    pins: dict[str, Mapping[str, Any]] = {f"openllm/{part}": assets.data_pin(assets.find(f"openllm/{part}"))}
    if part == "ifeval":
        pins["nltk/punkt_tab"] = assets.data_pin(assets.find("nltk/punkt_tab"))
    return pins


def _load_full(part: str) -> HarnessLoaded:
    import lm_eval.tasks

    from evalsuite import assets

    if part == "ifeval":
        # lm-eval's IFEval downloads punkt_tab when it is imported, unless NLTK finds it by then.
        assets.nltk_ready()
    with assets.pinned_datasets():
        return load_tasks([PARTS[part].task], Path(lm_eval.tasks.__file__).parent / "leaderboard")


def _load_mini(part: str) -> HarnessLoaded:
    return load_tasks([PARTS[part].mini_task], _MINI)


def _one_line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, EvalsuiteError) else f"{type(error).__name__}: {first}"
