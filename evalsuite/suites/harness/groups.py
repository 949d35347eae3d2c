"""Groups of lm-eval's tasks that fit chat models, for ``evalsuite suites``.

The table names tasks that let a chat model answer in words. What they need is read from the installed lm-eval's own
YAMLs, so that a task which another version lacks, renames or changes is shown as it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

GROUPS: Mapping[str, Mapping[str, str]] = {
    "reasoning": {
        "aime24": "aime/aime24.yaml",
        "aime25": "aime/aime25.yaml",
        "gpqa_diamond_cot_zeroshot": "gpqa/cot_zeroshot/gpqa_diamond_cot_zeroshot.yaml",
        "minerva_math500": "minerva_math/minerva_math500.yaml",
    },
    "code": {
        "humaneval_instruct": "humaneval/humaneval_instruct.yaml",
        "mbpp_plus_instruct": "mbpp/mbpp_plus_instruct.yaml",
    },
    "knowledge": {
        "mmlu_pro": "mmlu_pro/_mmlu_pro.yaml",
        "mmlu_flan_cot_zeroshot": "mmlu/flan_cot_zeroshot/_mmlu.yaml",
    },
    "multilingual": {
        "mgsm_native_cot_de": "mgsm/native_cot/mgsm_native_cot_de.yaml",
        "mgsm_native_cot_es": "mgsm/native_cot/mgsm_native_cot_es.yaml",
        "mgsm_native_cot_fr": "mgsm/native_cot/mgsm_native_cot_fr.yaml",
        "mgsm_native_cot_ja": "mgsm/native_cot/mgsm_native_cot_ja.yaml",
        "mgsm_native_cot_zh": "mgsm/native_cot/mgsm_native_cot_zh.yaml",
    },
}
"""Group -> task -> its YAML below lm-eval's folder of tasks."""

ANSWER_TOKENS: Mapping[str, int] = {"reasoning": 32_768, "code": 2_048, "knowledge": 4_096, "multilingual": 2_048}
"""``--max-answer-tokens`` for a chat model; lm-eval's own default is 256, which cuts most answers in words."""

REPORTED: Mapping[str, str] = {
    "reasoning": "authors of thinking models sample at temperature 0.6 and top_p 0.95 with 32,768 tokens, and average "
    "several answers per problem (DeepSeek-R1, arXiv 2501.12948: 64 for AIME)",
}
"""How published figures were obtained, where a greedy run is not comparable with them."""

LM_EVAL_ANSWER_TOKENS = 256
_GATED = {"Idavidrein/gpqa"}
_CONTROL = ("</s>", "<|")


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What the installed lm-eval says of a task; ``absent`` where it has none of this name.

    ``stops`` are strings that end an answer, without chat tokens; ``answer_tokens`` is its own bound.
    """

    name: str
    absent: bool = False
    datasets: tuple[str, ...] = ()
    gated: bool = False
    unsafe_code: bool = False
    answer_tokens: int = LM_EVAL_ANSWER_TOKENS
    stops: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    fewshot: int = 0


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """A group with its tasks and the options that fit chat models."""

    name: str
    tasks: tuple[TaskFacts, ...]

    @property
    def options(self) -> tuple[str, ...]:
        """The options of ``evalsuite run``, the suite first."""
        unsafe = any(task.unsafe_code for task in self.tasks)
        words = ["--suite", f"lm_eval:{self.name}", "--max-answer-tokens", str(ANSWER_TOKENS[self.name])]
        return (*words, *(["--confirm-run-unsafe-code"] if unsafe else []))

    @property
    def reported(self) -> str:
        return REPORTED.get(self.name, "")


def task_groups() -> list[GroupFacts]:
    """Return all groups as the installed lm-eval has them; no task's code is imported."""
    root = _task_folder()
    return [
        GroupFacts(name, tuple(_facts(task, root / path) for task, path in tasks.items()))
        for name, tasks in GROUPS.items()
    ]


def tasks_of(group: str) -> tuple[str, ...]:
    """Return the tasks of a group that the installed lm-eval has; none for a name that is not a group's."""
    root = _task_folder()
    return tuple(task for task, path in GROUPS.get(group, {}).items() if (root / path).is_file())


def _task_folder() -> Path:
    spec = find_spec("lm_eval")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(folders[0]) / "tasks" if folders else Path()


def _facts(name: str, path: Path) -> TaskFacts:
    if not path.is_file():
        return TaskFacts(name, absent=True)
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(path, resolve_func=False)
    if name not in (config.get("task"), config.get("group")):
        return TaskFacts(name, absent=True)
    if "group" in config:
        config = _first_member(path, load_yaml) or config
    kwargs = config.get("generation_kwargs") or {}
    until = kwargs.get("until") or []
    stops = [str(stop) for stop in (until if isinstance(until, list) else [until])]
    dataset = str(config.get("dataset_path") or "")
    return TaskFacts(
        name,
        datasets=(dataset,) if dataset else (),
        gated=dataset in _GATED,
        unsafe_code=bool(config.get("unsafe_code")),
        answer_tokens=int(kwargs.get("max_gen_toks") or LM_EVAL_ANSWER_TOKENS),
        stops=tuple(stop for stop in stops if not stop.startswith(_CONTROL)),
        filters=tuple(str(one.get("name")) for one in config.get("filter_list") or []),
        fewshot=int(config.get("num_fewshot") or 0),
    )


def _first_member(path: Path, load_yaml: Any) -> Mapping[str, Any] | None:
    """Return the first task beside a group's YAML: the members share everything but their subset."""
    for member in sorted(path.parent.glob("*.yaml")):
        config: Mapping[str, Any] = load_yaml(member, resolve_func=False)
        if isinstance(config.get("task"), str) and config.get("dataset_path"):
            return config
    return None
