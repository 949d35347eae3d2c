"""What the doctor tries of the leaderboard's scorers, and what the contamination check reads of its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evalsuite import assets
from evalsuite.suites.openllm.scores import PARTS

Asked = tuple[str, tuple[str, ...], tuple[str, ...]]
"""An item's id, its prompts (one per turn), and the options of a multiple choice."""


def missing_tasks() -> str:
    """Return which of the leaderboard's tasks lm-eval lacks, "" where none."""
    import lm_eval.tasks

    from evalsuite.suites.harness.run import quiet_harness

    with quiet_harness():
        folder = Path(lm_eval.tasks.__file__).parent / "leaderboard"
        known = lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False).all_tasks
    return ", ".join(f"lm-eval has no task {part.task}" for part in PARTS.values() if part.task not in known)


def _try_ifeval() -> str:
    """Count sentences, for which IFEval needs NLTK's punkt_tab."""
    assets.nltk_ready()
    from lm_eval.tasks.leaderboard.ifeval.utils import process_results

    doc = {
        "key": 1,
        "instruction_id_list": ["length_constraints:number_sentences"],
        "prompt": "Write at least two sentences.",
        "kwargs": [{"relation": "at least", "num_sentences": 2}],
    }
    strict = [bool(process_results(doc, [text])["prompt_level_strict_acc"]) for text in ("One. Two. Three.", "One")]
    return _unlike([True, False], strict)


def _try_math() -> str:
    """Compare two ways of writing a half, for which MATH needs sympy, antlr and math-verify."""
    from lm_eval.tasks.leaderboard.math.utils import process_results

    doc = {"problem": "Halve 1.", "solution": r"It is $\boxed{\frac{1}{2}}$.", "answer": r"\frac{1}{2}"}
    texts = (r"Final Answer: The final answer is $\frac12$. I hope it is correct.", "The final answer is $3$.")
    return _unlike([1, 0], [process_results(doc, [text])["exact_match"] for text in texts])


def _unlike(expected: list[Any], scores: list[Any]) -> str:
    return "" if scores == expected else f"{scores!r} for samples worth {expected!r}"


SELF_CHECKS: Mapping[str, Callable[[], str]] = {"ifeval": _try_ifeval, "math": _try_math}
"""Each returns what is wrong with a part's scorer, "" where it gives the scores that are known."""


def _choices(row: Mapping[str, Any], rank: int) -> Asked:
    if "question" in row:
        return str(rank), (row["question"],), tuple(row["options"])
    fields = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    return str(rank), (row["Question"],), tuple(str(row[field]) for field in fields)


CHECKED: Mapping[str, Callable[[Mapping[str, Any], int], Asked]] = {
    "bbh": lambda row, rank: (str(rank), (row["input"],), ()),
    "gpqa": _choices,
    "math": lambda row, rank: (str(rank), (row["problem"],), ()),
    "musr": lambda row, rank: (str(rank), (f"{row['narrative']}\n{row['question']}",), ()),
    "ifeval": lambda row, rank: (str(row.get("key", rank)), (row["prompt"],), ()),
    "mmlu_pro": _choices,
}
"""What a row (of the pinned data or of the mini data) at a position asks, by part."""
