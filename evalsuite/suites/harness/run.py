"""Loading lm-eval tasks and running them once, with lm-eval's seeds, metrics and aggregation."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.assets.locations import no_progress_bars
from evalsuite.errors import EvalsuiteError, UsageError, unknown
from evalsuite.records.rows import Reply
from evalsuite.serving.reasoning import NO_REASONING
from evalsuite.serving.sampler import Sampler
from evalsuite.suites.harness.repeats import Marks, repeated
from evalsuite.suites.harness.scoring import repeatable
from evalsuite.suites.harness.versions import loaded_tasks, scored_by_document, task_index
from evalsuite.suites.patching import each_patched, patched
from evalsuite.suites.sampling import stratified
from evalsuite.suites.types import OnProgress, Pins
from judges.types import Unscored

if TYPE_CHECKING:
    from evalsuite.serving.client import Client
    from evalsuite.suites.harness.lm import EvalsuiteLM

log = logging.getLogger("evalsuite")

RANDOM_SEED = 0
OTHER_SEED = 1234
"""The seeds that lm-eval 0.4.13 sets by default (lm_eval/defaults.py): Python's; numpy, torch and few-shots."""

Replies = Mapping[tuple[str, int], Mapping[tuple[int, int], Reply]]

_CATEGORIES = ("category", "subject", "type", "level")
"""Fields of a document by which a sample of a task is stratified."""
_BOOTSTRAP_ITERS = 100_000


@dataclass(frozen=True, slots=True)
class HarnessLoaded:
    """lm-eval tasks that are ready to run.

    ``parts`` maps a part's name to its leaf tasks; ``tasks`` and ``groups`` are lm-eval's
    objects by name. ``data_pins`` and ``missing`` are as in ``base.Loaded``. ``run_unsafe_code`` says that tasks
    may run what the model wrote.
    """

    parts: Mapping[str, tuple[str, ...]]
    tasks: Mapping[str, Any]
    groups: Mapping[str, Any]
    data_pins: Pins = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    run_unsafe_code: bool = False


@dataclass(frozen=True, slots=True)
class HarnessResult:
    """What lm-eval computed.

    ``results`` is lm-eval's results document without samples; ``samples`` its samples by task;
    ``unscored`` counts, by task and reason, the documents that are left out of every metric;
    ``truncated`` counts, by task, the requests whose prompt was cut on the left; ``replies`` says how each written
    answer ended, as ``EvalsuiteLM.replies``; ``late`` counts the documents whose scorer ran into its time limit twice;
    ``marks`` are those of every answer to documents that were answered several times.
    """

    results: Mapping[str, Any]
    samples: Mapping[str, Sequence[Mapping[str, Any]]]
    unscored: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    truncated: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    replies: Replies = field(default_factory=dict)
    late: Mapping[str, int] = field(default_factory=dict)
    marks: Marks = field(default_factory=dict)


def load_tasks(names: Sequence[str], known: Path | Any, *, run_unsafe_code: bool = False) -> HarnessLoaded:
    """Load tasks, groups or tags of lm-eval by name, each as its own part.

    ``known`` is the folder that has them, or lm-eval's ``TaskManager``. Raises UsageError for a name that lm-eval does
    not know and for a task that runs what a model wrote without ``run_unsafe_code``, and whatever ``datasets`` raises
    when the data are not available.
    """
    from lm_eval.tasks import TaskManager

    with quiet_harness(), code_eval_allowed(run_unsafe_code):
        manager = TaskManager(include_path=str(known), include_defaults=False) if isinstance(known, Path) else known
        parts: dict[str, tuple[str, ...]] = {}
        tasks: dict[str, Any] = {}
        groups: dict[str, Any] = {}
        refuse_tasks(manager, names, run_unsafe_code=run_unsafe_code)
        for name in names:
            with lm_eval_seeds():
                of_name, groups_of_name = loaded_tasks(manager.load([name]))
            tasks |= of_name
            groups |= groups_of_name
            parts[name] = tuple(of_name)
    for task in tasks.values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
    return HarnessLoaded(parts, tasks, groups, run_unsafe_code=run_unsafe_code)


def refuse_tasks(manager: Any, names: Sequence[str], *, run_unsafe_code: bool) -> None:
    """Raise UsageError for names that lm-eval does not know, and for tasks that need ``run_unsafe_code``."""
    faults = [unknown("lm-eval task", name, manager.all_tasks) for name in names if name not in manager.all_tasks]
    if not run_unsafe_code and (unsafe := [task for name in names for task in unsafe_tasks(manager, name)]):
        faults.append(
            f"{unsafe[0]} runs code that the model wrote on this machine, without isolation; "
            "pass --confirm-run-unsafe-code in a disposable container"
        )
    if faults:
        raise UsageError("; ".join(faults))


def unsafe_tasks(manager: Any, name: str, seen: frozenset[str] = frozenset()) -> list[str]:
    """Return those of a task, group or tag that run code which the model wrote; no code of a task is imported."""
    from lm_eval.tasks._yaml_loader import load_yaml

    index = task_index(manager)
    entry = index.get(name)
    if entry is None or entry.yaml_path is None or name in seen:
        return []
    config = load_yaml(entry.yaml_path, resolve_func=False)
    members = config.get("task") if isinstance(config.get("task"), list) else []
    members = [one.get("task") or one.get("group") if isinstance(one, Mapping) else one for one in members]
    members += [other for other, one in index.items() if name in one.tags]
    own = [name] if config.get("unsafe_code") else []
    return own + [task for one in members for task in unsafe_tasks(manager, str(one), seen | {name})]


@contextmanager
def code_eval_allowed(allowed: bool) -> Iterator[None]:
    """Let the metric code_eval run inside, which asks for this variable besides lm-eval's own confirmation."""
    from unittest import mock

    with mock.patch.dict(os.environ, {"HF_ALLOW_CODE_EVAL": "1"} if allowed else {}):
        yield


def run_tasks(
    loaded: HarnessLoaded,
    server: Client,
    loop: asyncio.AbstractEventLoop,
    *,
    chat_template: bool = True,
    fewshot_as_multiturn: bool = True,
    limit: int | None = None,
    sample: tuple[int, int] | None = None,
    seed: int = 0,
    repeats: int = 1,
    on_progress: OnProgress | None = None,
) -> HarnessResult:
    """Run every loaded task in one ``lm_eval.evaluator.evaluate``; blocks until it is done.

    Must be called on the main thread (MATH's scorer uses ``signal.alarm``), with ``loop``
    running in another. ``sample`` is (documents per task, seed);
    ``repeats`` is how often sampled tasks are asked. The chat template is applied when it is asked for and
    the tokenizer has one. Raises ServerError when the server is gone, EvalsuiteError when a task's own code fails.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("lm-eval must run on the main thread: MATH's scorer silently gives 0 in any other")
    from lm_eval.evaluator import evaluate
    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker

    from evalsuite.suites.harness.lm import EvalsuiteLM

    # More contexts in progress than requests in flight: some wait for the rest of their choices.
    contexts = max(1024, 2 * server.max_in_flight)
    lm = EvalsuiteLM(server, loop, on_progress=_by_part(loaded, on_progress), open_contexts=contexts, seed=seed)
    chat = chat_template and lm.writes_conversations
    turns = chat and fewshot_as_multiturn
    sampler = Sampler(server.generation, server.reasoning if chat else NO_REASONING)
    tracker = GeneralConfigTracker()
    template = lm.chat_template(True) if chat else None
    tracker.log_experiment_args("evalsuite", {"model": server.model_name}, None, template, turns)
    for task in loaded.tasks.values():
        task.set_fewshot_seed(seed=OTHER_SEED)
    try:
        tasks = loaded.tasks.values()
        with (
            lm.told_output_types(),
            quiet_harness(),
            lm_eval_seeds(),
            scored_by_document(tasks),
            unscored_left_out(tasks, lm.unscored),
            repeatable(tasks) as late,
            repeated(tasks, repeats, sampler) as marks,
            code_eval_allowed(loaded.run_unsafe_code),
        ):
            evaluated = evaluate(
                lm=lm,
                task_dict={"tasks": dict(loaded.tasks), "groups": dict(loaded.groups)},
                limit=limit,
                samples=None if sample is None else _sampled(loaded.tasks, *sample),
                bootstrap_iters=_BOOTSTRAP_ITERS,
                apply_chat_template=chat,
                fewshot_as_multiturn=turns,
                confirm_run_unsafe_code=loaded.run_unsafe_code,
            )
    except EvalsuiteError:
        raise
    except Exception as error:  # tasks are untrusted code: whatever they raise ends the suite, not the program
        raise EvalsuiteError(f"lm-eval failed ({type(error).__name__}: {error})") from error
    tracker.log_end_time()
    _warn(lm, late)
    samples = evaluated.pop("samples")
    results = {**evaluated, **_about(tracker, lm, limit, samples)}
    unscored, truncated = _counted(lm.unscored), dict(+lm.truncated)
    return HarnessResult(results, samples, unscored, truncated, loaded.missing, lm.replies, dict(+late), marks)


def _warn(lm: EvalsuiteLM, late: Counter[str]) -> None:
    for task, count in sorted((+lm.truncated).items()):
        log.warning("%s: %d prompts were cut on the left to fit %d tokens", task, count, lm.max_length)
    for task, count in sorted((+late).items()):
        log.warning("%s: the scorer ran into its time limit on %d answers; they count as wrong", task, count)


def unscored_left_out(
    tasks: Iterable[Any], unscored: Mapping[tuple[str, int], Unscored]
) -> AbstractContextManager[None]:
    """Make lm-eval's tasks yield no metrics for documents in ``unscored``.

    Inside, a task's ``apply_filters`` replaces the responses of such a document by the Unscored itself, for which its
    ``process_results`` returns no metrics; lm-eval then aggregates as if the document did not exist.
    """

    def without(task: Any) -> dict[str, Any]:
        original_filters, original_process = task.apply_filters, task.process_results

        def apply_filters() -> Any:
            filtered = original_filters()
            for instance in task.instances:
                fault = unscored.get((instance.task_name, instance.doc_id))
                if fault is not None:
                    instance.filtered_resps = dict.fromkeys(instance.filtered_resps, fault)
            return filtered

        def process_results(doc: Any, results: Any) -> Any:
            return {} if any(isinstance(one, Unscored) for one in results) else original_process(doc, results)

        return {"apply_filters": apply_filters, "process_results": process_results}

    return each_patched(tasks, without)


@contextmanager
def lm_eval_seeds() -> Iterator[None]:
    """Seed Python, numpy and torch as lm-eval's ``simple_evaluate`` does, and restore their states afterwards.

    Without torch, which scoring over a URL does not need, there is nothing in it to seed.
    """
    import numpy as np

    python_state, numpy_state = random.getstate(), np.random.get_state()
    with ExitStack() as forked:
        if find_spec("torch") is not None:
            import torch

            forked.enter_context(torch.random.fork_rng(devices=[]))
            torch.manual_seed(OTHER_SEED)
        random.seed(RANDOM_SEED)
        np.random.seed(OTHER_SEED)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextmanager
def quiet_harness() -> Iterator[None]:
    """Keep lm-eval's progress bars and log off the terminal, which has its own progress line."""
    import datasets
    from lm_eval.api.model import tqdm

    show = tqdm.__init__

    def hide(bar: Any, *args: Any, **settings: Any) -> None:
        show(bar, *args, **{**settings, "disable": True})

    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        # Where lm-eval's modules hold the class differs by version.
        with no_progress_bars(datasets), patched(tqdm, __init__=hide):
            yield
    finally:
        logger.setLevel(level)


def _by_part(loaded: HarnessLoaded, on_progress: OnProgress | None) -> OnProgress | None:
    if on_progress is None:
        return None
    part_of = {task: part for part, tasks in loaded.parts.items() for task in tasks}
    total: Counter[str] = Counter()
    done: Counter[str] = Counter()
    lock = threading.Lock()

    def report(task: str, _: int, asked: int, unscored: int) -> None:
        part = part_of.get(task, task)
        with lock:
            is_first = not total
            if is_first:
                # lm-eval has built every request before it sends the first, of one kind after the other.
                for name, one in loaded.tasks.items():
                    total[part_of.get(name, name)] += sum(request.repeats for request in one.instances)
            done[part] += 1
            total[part] = max(total[part], done[part], asked)
            known = [(name, done[name], total[name], unscored) for name in (total if is_first else (part,))]
        for counts in known:
            on_progress(*counts)

    return report


def _sampled(tasks: Mapping[str, Any], n: int, seed: int) -> dict[str, list[int]]:
    """Return the documents of each task in a sample of at most ``n``, by the categories that the documents name."""
    chosen = {}
    for name, task in tasks.items():
        categories = [str(next((doc[key] for key in _CATEGORIES if doc.get(key)), "")) for doc in task.eval_docs]
        chosen[name] = stratified(categories, n, f"{seed}:{name}")
    return chosen


def _counted(unscored: Mapping[tuple[str, int], Unscored]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for (task, reason), n in sorted(Counter((task, fault.reason) for (task, _), fault in unscored.items()).items()):
        counts.setdefault(task, {})[reason] = n
    return counts


def _about(tracker: Any, lm: EvalsuiteLM, limit: int | None, samples: Mapping[str, Any]) -> dict[str, Any]:
    """Return what lm-eval's ``simple_evaluate`` and ``EvaluationTracker`` add to a results document."""
    from lm_eval.loggers.utils import add_tokenizer_info
    from lm_eval.utils import hash_string

    config = {"model": "evalsuite", "model_args": {"model": lm.server.model_name}, "limit": limit, "gen_kwargs": None}
    config |= {"bootstrap_iters": _BOOTSTRAP_ITERS, "random_seed": RANDOM_SEED}
    about = {
        "config": config | dict.fromkeys(("numpy_seed", "torch_seed", "fewshot_seed"), OTHER_SEED),
        "date": time.time() - (tracker.end_time - tracker.start_time),
        "transformers_version": version("transformers"),
        "lm_eval_version": version("lm_eval"),
        "task_hashes": {
            task: hash_string("".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in rows))
            for task, rows in samples.items()
        },
        **asdict(tracker),
    }
    add_tokenizer_info(about, lm)
    return about
