"""The command line's verbs as Python functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.config import read_as, read_config
from evalsuite.errors import UsageError, unknown
from evalsuite.files import reading_recorded
from evalsuite.results.table import load_results
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.registry import option_fields, options_of, parse_suite, require_packages
from evalsuite.suites.types import Scores

if TYPE_CHECKING:
    from evalsuite.progress import Progress

__all__ = ["compare", "load_results", "run", "score"]

PREFERENCES = "preferences"
"""What ``score`` takes besides suites: a CSV of ratings."""


def run(*models: str, progress: Progress | None = None, **options: Any) -> list[dict[str, Any]]:
    """Evaluate models and return one scores.json per model.

    ``options`` are those of ``evalsuite run`` with underscores (``suites=["mt_bench"]``, ``judge="demo"``,
    ``judge_dtype="bfloat16"``, ``limit=5``, ``data="mini"``). Must be called on the main thread when ``openllm`` is
    among the suites. Raises EvalsuiteError.

    >>> evalsuite.run("ckpt/", suites=["mt_bench"], judge="judge-ckpt/")  # doctest: +SKIP
    """
    from evalsuite.runs.runner import run as run_config

    config = read_config({"models": models, **options})
    return [scores.as_json() for scores in run_config(config, progress).models]


def compare(*models: str, judge: str | list[str], progress: Progress | None = None, **options: Any) -> dict[str, Any]:
    """Compare models pairwise in both orders and return preferences.json.

    ``judge`` is one model or a panel; ``options`` are those of ``evalsuite compare`` with underscores
    (``prompts="alpaca_eval"``, ``method="reasoned"``, ``lineage="lineage.yaml"``). Raises EvalsuiteError.

    >>> evalsuite.compare("a/", "b/", judge="judge-ckpt/")  # doctest: +SKIP
    """
    from evalsuite.comparison.compare import compare as run_comparison
    from evalsuite.comparison.settings import CompareConfig

    config = read_as(CompareConfig, {"models": models, "judge": judge, **options})
    return run_comparison(config, progress).document.as_json()


def score(suite: str, source: str | Path, **options: Any) -> Scores:
    """Score recorded answers or judgments in the benchmark's own format: no model, no network.

    ``suite`` is a suite's name (``mixeval:hard`` and ``openllm:ifeval`` select parts); ``options`` are
    ``as_published``, ``annotator``, ``data``, ``limit``, ``seed`` and the suites' own (``mixeval_parser="rule"``).
    ``preferences`` reads a CSV of ratings instead, and takes ``lineage`` (a YAML file) and ``as_published``. Raises
    DataError or UsageError.
    """
    source = Path(source).expanduser()
    with reading_recorded(source):
        if suite == PREFERENCES:
            _check_names(suite, options, {"lineage", "as_published"})
            return _score_preferences(source, **options)
        spec, shared = parse_suite(suite, recorded=True), SuiteOptions.model_fields.keys() - {"parts"}
        require_packages(spec)
        _check_names(suite, options, shared | option_fields().keys())
        given = {name: value for name, value in options.items() if name in shared}
        settled = options_of(spec.suite, {**given, "parts": spec.parts}, options, has_judge=True)
        return spec.suite.score_recorded(source, settled)


def _check_names(suite: str, options: Mapping[str, Any], known: Collection[str]) -> None:
    for name in options:
        if name not in known:
            raise UsageError(unknown(f"option of {suite}", name, known))


def _score_preferences(source: Path, *, lineage: str | Path | None = None, as_published: bool = False) -> Scores:
    from evalsuite.comparison.ratings import read_lineage, score_preferences

    flips = None if lineage is None else read_lineage(Path(lineage).expanduser())
    return score_preferences(source, lineage=flips, as_published=as_published).as_json()
