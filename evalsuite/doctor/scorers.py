"""Every scorer that a run will need, imported and tried on an answer whose score is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from evalsuite.config import SuiteSpec
from evalsuite.doctor.finding import Finding, fault, ok
from evalsuite.suites.names import OPENLLM_PARTS


def check_scorers(suites: Iterable[SuiteSpec]) -> list[Finding]:
    """Try the scorers of the suites asked for; must be called on the main thread (MATH's sets alarms)."""
    return [_tried(spec.key, name) for spec in suites for name in _names(spec)]


def _names(spec: SuiteSpec) -> list[str]:
    if spec.name == "openllm":
        parts = spec.parts or OPENLLM_PARTS
        return ["lm_eval", *(part for part in parts if part in _TRIALS)]
    return [spec.name]


def _tried(suite: str, name: str) -> Finding:
    try:
        why_not = _TRIALS[name]()
    except Exception as error:  # scorers are foreign code: whatever keeps one from working is what is sought
        first = (str(error).strip().splitlines() or [""])[0]
        remedy = "install evalsuite again, or leave the suite out of --suite"
        return fault("scorer", suite, f"{name}'s scorer fails ({type(error).__name__}: {first})", remedy)
    if why_not:
        return fault("scorer", suite, f"{name}'s scorer gives {why_not}", "install evalsuite again")
    return ok("scorer", suite, f"{name}'s scorer works")


def _unlike(expected: Any, found: Any) -> str:
    return "" if found == expected else f"{found!r} for a sample worth {expected!r}"


def _try_mt_bench() -> str:
    from judges.parse import parse_rating
    from judges.types import Rating

    rating = parse_rating("Good. Rating: [[7]]")
    return _unlike(7, rating.value if isinstance(rating, Rating) else rating)


def _try_mixeval() -> str:
    from judges.parse import parse_score_0_to_1
    from judges.types import Rating

    score = parse_score_0_to_1("Close enough. [[0.8]]")
    return _unlike(0.8, score.value if isinstance(score, Rating) else score)


def _try_alpaca_eval() -> str:
    from evalsuite.suites.alpaca_eval.package import win_rates
    from evalsuite.suites.alpaca_eval.suite import template_text

    template_text()
    return _unlike(50.0, win_rates([1.0, 2.0])["win_rate"])


def _try_ifeval() -> str:
    """Count sentences, for which IFEval needs NLTK's punkt_tab."""
    from evalsuite import assets

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


def _try_lm_eval() -> str:
    """Look for the leaderboard's tasks where lm-eval keeps them."""
    import lm_eval.tasks

    from evalsuite.suites.harness.run import quiet_harness
    from evalsuite.suites.openllm.scores import PARTS

    with quiet_harness():
        folder = Path(lm_eval.tasks.__file__).parent / "leaderboard"
        known = lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False).all_tasks
    return ", ".join(f"no task {part.task}" for part in PARTS.values() if part.task not in known)


_TRIALS: Mapping[str, Callable[[], str]] = {
    "mt_bench": _try_mt_bench,
    "alpaca_eval": _try_alpaca_eval,
    "mixeval": _try_mixeval,
    "lm_eval": _try_lm_eval,
    "ifeval": _try_ifeval,
    "math": _try_math,
}
"""Each returns what is wrong, "" where the scorer gives the score that is known."""
