"""Loading lm-eval tasks and running them once, with lm-eval's seeds, metrics and aggregation."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.errors import EvalsuiteError, UsageError, unknown
from evalsuite.serving.continuations import TokenServer
from evalsuite.suites.base import SuiteOptions
from judges.types import Unscored

if TYPE_CHECKING:
    from evalsuite.suites.harness.lm import EvalsuiteLM

log = logging.getLogger("evalsuite")

OnProgress = Callable[[str, int, int], None]
"""Called with (part, requests answered, requests known so far), from the event loop's thread."""

RANDOM_SEED = 0
OTHER_SEED = 1234
"""The seeds that lm-eval 0.4.13 sets by default (lm_eval/defaults.py): Python's; numpy, torch and few-shots."""

_BOOTSTRAP_ITERS = 100_000


@dataclass(frozen=True, slots=True)
class HarnessLoaded:
    """lm-eval tasks that are ready to run.

    ``parts`` maps a part's name to its leaf tasks; ``tasks`` and ``groups`` are lm-eval's own
    objects by name. ``data_pins`` is as in ``base.Loaded``; ``missing`` maps each part that
    will not run to the one-line reason.
    """

    parts: Mapping[str, tuple[str, ...]]
    tasks: Mapping[str, Any]
    groups: Mapping[str, Any]
    data_pins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HarnessResult:
    """What lm-eval computed.

    ``results`` is lm-eval's results document without samples; ``samples`` its samples by task;
    ``unscored`` counts, by task and reason, the documents that are left out of every metric;
    ``truncated`` counts, by task, the requests whose prompt was cut on the left.
    """

    parts: Mapping[str, tuple[str, ...]]
    results: Mapping[str, Any]
    samples: Mapping[str, Sequence[Mapping[str, Any]]]
    unscored: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    truncated: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def load_tasks(names: Sequence[str], include: Path | None = None) -> HarnessLoaded:
    """Load tasks, groups or tags of lm-eval by name, each a part of its own.

    With ``include``, only the tasks of that folder are known. Raises UsageError for a name
    that lm-eval does not know, and whatever ``datasets`` raises when the data cannot be had.
    """
    from lm_eval.tasks import TaskManager

    with quiet_harness():
        manager = TaskManager(include_path=include and str(include), include_defaults=include is None)
        parts: dict[str, tuple[str, ...]] = {}
        tasks: dict[str, Any] = {}
        groups: dict[str, Any] = {}
        for name in names:
            if name not in manager.all_tasks:
                raise UsageError(unknown("lm-eval task", name, manager.all_tasks))
            with lm_eval_seeds():
                found = manager.load([name])
            tasks |= found["tasks"]
            groups |= found.get("groups", {})
            parts[name] = tuple(found["tasks"])
    for task in tasks.values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
    return HarnessLoaded(parts, tasks, groups)


def run_tasks(
    loaded: HarnessLoaded,
    server: TokenServer,
    loop: asyncio.AbstractEventLoop,
    options: SuiteOptions,
    on_progress: OnProgress | None = None,
) -> HarnessResult:
    """Run every loaded task in one ``lm_eval.evaluator.evaluate``; blocks until it is done.

    Must be called on the main thread (MATH's scorer uses ``signal.alarm``), with ``loop``
    running in another. The chat template is applied when the options ask for it and the
    tokenizer has one. Raises ServerError when the server is gone, EvalsuiteError when a task's
    own code fails.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("lm-eval must run on the main thread: MATH's scorer silently gives 0 anywhere else")
    from lm_eval.evaluator import evaluate

    from evalsuite.suites.harness.lm import EvalsuiteLM

    # Always more contexts under way than requests in flight: some wait for the rest of a choice.
    contexts = max(1024, 2 * server.max_in_flight)
    lm = EvalsuiteLM(server, loop, on_progress=_by_part(loaded, on_progress), open_contexts=contexts, seed=options.seed)
    chat = options.chat_template_on_openllm and lm.writes_conversations
    turns = chat and options.fewshot_as_multiturn
    started = time.time()
    for task in loaded.tasks.values():
        task.set_fewshot_seed(seed=OTHER_SEED)
    try:
        with quiet_harness(), lm_eval_seeds(), unscored_left_out(loaded.tasks.values(), lm.unscored):
            evaluated = evaluate(
                lm=lm,
                task_dict={"tasks": dict(loaded.tasks), "groups": dict(loaded.groups)},
                limit=options.limit,
                bootstrap_iters=_BOOTSTRAP_ITERS,
                apply_chat_template=chat,
                fewshot_as_multiturn=turns,
            )
    except EvalsuiteError:
        raise
    except Exception as error:  # tasks are foreign code: whatever one raises ends the suite, not the program
        raise EvalsuiteError(f"lm-eval stopped with {type(error).__name__}: {error}") from error
    for task_name, count in sorted((+lm.truncated).items()):
        log.warning("%s: %d prompts were cut on the left to fit %d tokens", task_name, count, lm.max_length)
    samples = evaluated.pop("samples")
    about = _about(lm, options, chat, turns, started, samples)
    return HarnessResult(
        loaded.parts, {**evaluated, **about}, samples, _counted(lm.unscored), dict(+lm.truncated), loaded.missing
    )


@contextmanager
def unscored_left_out(tasks: Iterable[Any], unscored: Mapping[tuple[str, int], Unscored]) -> Iterator[None]:
    """Make lm-eval's tasks yield no metrics for documents in ``unscored``.

    While inside, a task's ``apply_filters`` replaces the responses of such a document by the
    Unscored itself, and its ``process_results`` answers that with no metrics at all, which
    lm-eval aggregates as a document that is not there.
    """

    def marking(task: Any) -> Callable[[], Any]:
        original = task.apply_filters

        def apply_filters() -> Any:
            filtered = original()
            for instance in task.instances:
                fault = unscored.get((instance.task_name, instance.doc_id))
                if fault is not None:
                    instance.filtered_resps = dict.fromkeys(instance.filtered_resps, fault)
            return filtered

        return apply_filters

    def skipping(task: Any) -> Callable[[Any, Any], Any]:
        original = task.process_results

        def process_results(doc: Any, results: Any) -> Any:
            return {} if any(isinstance(one, Unscored) for one in results) else original(doc, results)

        return process_results

    changed = list(tasks)
    for task in changed:
        task.apply_filters, task.process_results = marking(task), skipping(task)
    try:
        yield
    finally:
        for task in changed:
            del task.apply_filters, task.process_results


@contextmanager
def lm_eval_seeds() -> Iterator[None]:
    """Seed Python, numpy and torch as lm-eval's ``simple_evaluate`` does, and put their states back after."""
    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(RANDOM_SEED)
        np.random.seed(OTHER_SEED)
        torch.manual_seed(OTHER_SEED)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextmanager
def quiet_harness() -> Iterator[None]:
    """Keep lm-eval's own bars and notes off the terminal, which has a progress line of its own."""
    import datasets
    import lm_eval.api.task as task_module

    logger, bar = logging.getLogger("lm_eval"), task_module.tqdm
    level, bars_off = logger.level, datasets.are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    task_module.tqdm = partial(bar, disable=True)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        task_module.tqdm = bar
        if not bars_off:
            datasets.enable_progress_bars()


def _by_part(loaded: HarnessLoaded, on_progress: OnProgress | None) -> OnProgress | None:
    if on_progress is None:
        return None
    part_of = {task: part for part, tasks in loaded.parts.items() for task in tasks}
    state: dict[str, dict[str, tuple[int, int]]] = {}

    def tell(task: str, answered: int, asked: int) -> None:
        part = part_of.get(task, task)
        own = state.setdefault(part, {})
        own[task] = (answered, asked)
        on_progress(part, sum(pair[0] for pair in own.values()), sum(pair[1] for pair in own.values()))

    return tell


def _counted(unscored: Mapping[tuple[str, int], Unscored]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for (task, _), fault in unscored.items():
        counts.setdefault(task, Counter())[fault.reason] += 1
    return {task: dict(sorted(own.items())) for task, own in sorted(counts.items())}


def _about(
    lm: EvalsuiteLM,
    options: SuiteOptions,
    chat: bool,
    turns: bool,
    started: float,
    samples: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """Return what lm-eval's ``simple_evaluate`` and ``EvaluationTracker`` add to a results document."""
    from lm_eval.loggers.utils import add_tokenizer_info
    from lm_eval.utils import hash_string, sanitize_model_name

    template = lm.chat_template(True) if chat else None
    name = lm.server.model_name
    about: dict[str, Any] = {
        "config": {
            "model": "evalsuite",
            "model_args": {"model": name},
            "limit": options.limit,
            "bootstrap_iters": _BOOTSTRAP_ITERS,
            "gen_kwargs": None,
            "random_seed": RANDOM_SEED,
            "numpy_seed": OTHER_SEED,
            "torch_seed": OTHER_SEED,
            "fewshot_seed": OTHER_SEED,
        },
        "date": started,
        "transformers_version": version("transformers"),
        "lm_eval_version": version("lm_eval"),
        "task_hashes": {
            task: hash_string("".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in rows))
            for task, rows in samples.items()
        },
        "model_source": "evalsuite",
        "model_name": name,
        "model_name_sanitized": sanitize_model_name(name),
        "system_instruction": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": turns,
        "chat_template": template,
        "chat_template_sha": hash_string(template) if template else None,
        "total_evaluation_time_seconds": str(time.time() - started),
    }
    add_tokenizer_info(about, lm)
    return about
