"""The command line's verbs as Python functions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.config import parse_suite, read_config
from evalsuite.errors import UsageError, unknown
from evalsuite.files import reading_recorded
from evalsuite.results.folder import load_results
from evalsuite.suites.base import Scores, SuiteOptions

if TYPE_CHECKING:
    from evalsuite.progress import Progress

__all__ = ["compare", "load_results", "run", "score"]


def run(
    *models: str, suites: list[str] | None = None, progress: Progress | None = None, **options: Any
) -> list[dict[str, Any]]:
    """Evaluate models and return one scores.json a model.

    ``suites`` and ``options`` are those of ``evalsuite run`` with underscores
    (``judge="demo"``, ``limit=5``, ``data="mini"``, ``results="results"``). Must be called on
    the main thread when ``openllm`` is among the suites. Raises EvalsuiteError.

    >>> evalsuite.run("ckpt/", suites=["mt_bench"], judge="judge-ckpt/")  # doctest: +SKIP
    """
    from evalsuite.runs.runner import run as run_config

    config = read_config({"models": models, "suites": suites, **options})
    return [dict(document) for document in run_config(config, progress).models]


def compare(*models: str, judge: str | list[str], progress: Progress | None = None, **options: Any) -> dict[str, Any]:
    """Compare models pairwise in both orders and return preferences.json.

    ``judge`` is one model or a panel; ``options`` are those of ``evalsuite compare`` with
    underscores (``prompts="alpaca_eval"``, ``method="reasoned"``, ``lineage="lineage.yaml"``).
    Raises EvalsuiteError.

    >>> evalsuite.compare("a/", "b/", judge="judge-ckpt/")  # doctest: +SKIP
    """
    from evalsuite.comparison.compare import compare as run_comparison
    from evalsuite.comparison.compare import read_compare_config

    return dict(run_comparison(read_compare_config(models, judge, **options), progress).document)


def score(suite: str, source: str | Path, **options: Any) -> Scores:
    """Score recorded answers or judgments in the benchmark's own format: no model, no network.

    ``suite`` is a suite's name (``mixeval:hard`` and ``openllm:ifeval`` select parts); ``options``
    are fields of ``SuiteOptions`` (``as_published=True``, ``mixeval_parser="rule"``). ``preferences``
    reads a CSV of ratings instead, and takes ``lineage`` (a YAML file) and ``as_published``. Raises
    DataError or UsageError.
    """
    source = Path(source).expanduser()
    with reading_recorded(source):
        if suite == "preferences":
            return _score_preferences(source, **options)
        return _score_suite(suite, source, **options)


def _score_suite(suite: str, source: Path, **options: Any) -> Scores:
    from evalsuite.suites.registry import HARNESS, SUITES

    try:
        spec = parse_suite(suite)
    except ValueError as error:
        raise UsageError(str(error)) from error
    scorer = SUITES.get(spec.name) or HARNESS.get(spec.name)
    if scorer is None:
        raise UsageError(unknown("suite", suite, [*SUITES, *HARNESS]))
    return scorer.score_recorded(source, SuiteOptions(parts=spec.parts, **options))


def _score_preferences(
    source: Path, *, lineage: str | Path | None = None, as_published: bool = False, **_: Any
) -> Scores:
    from evalsuite.comparison.ratings import read_lineage, score_preferences

    return score_preferences(
        source,
        lineage=None if lineage is None else read_lineage(Path(lineage).expanduser()),
        as_published=as_published,
    )
