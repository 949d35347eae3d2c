"""The command line's verbs as Python functions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from evalsuite.api_options import CompareOptions, RunOptions
from evalsuite.config import read_as, read_config
from evalsuite.errors import DataError, UsageError, unknown
from evalsuite.files import reading_recorded
from evalsuite.report import report
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.registry import option_fields, options_of, parse_suite, require_packages
from evalsuite.suites.types import Scores

if TYPE_CHECKING:
    import pandas as pd

    from evalsuite.notebook import Results
    from evalsuite.progress import Progress

__all__ = ["compare", "load_items", "load_results", "report", "run", "score"]

F = TypeVar("F", bound=Callable[..., Any])

PREFERENCES = "preferences"
"""What ``score`` takes besides suites: a CSV of ratings."""


def _with_signature(options: type) -> Callable[[F], F]:
    """Let ``help`` and notebooks show every option of a verb instead of ``**options``."""

    def shown(function: F) -> F:
        own = [one for one in signature(function).parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
        more = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind.__forward_arg__)
            for name, kind in options.__annotations__.items()
        ]
        vars(function)["__signature__"] = signature(function).replace(parameters=[*own, *more])
        return function

    return shown


@_with_signature(RunOptions)
def run(*models: str, progress: Progress | None = None, **options: Unpack[RunOptions]) -> Results:
    """Evaluate models and return one scores.json per model, which a notebook shows as tables.

    ``options`` are those of ``evalsuite run`` with underscores (``suites=["mt_bench"]``, ``judge="demo"``,
    ``judge_dtype="bfloat16"``, ``limit=5``, ``data="mini"``). Without ``progress`` a notebook shows it and a
    script does not. Must be called on the main thread when ``openllm`` is among the suites. Raises EvalsuiteError.

    >>> evalsuite.run("ckpt/", suites=["mt_bench"], judge="judge-ckpt/")  # doctest: +SKIP
    """
    from evalsuite.notebook import Results, default_progress
    from evalsuite.runs.runner import run as run_config

    config = read_config({"models": models, **options})
    return Results(run_config(config, progress or default_progress()).models)


@_with_signature(CompareOptions)
def compare(
    *models: str, judge: str | list[str], progress: Progress | None = None, **options: Unpack[CompareOptions]
) -> dict[str, Any]:
    """Compare models pairwise in both orders and return preferences.json.

    ``judge`` is one model or a panel; ``options`` are those of ``evalsuite compare`` with underscores
    (``prompts="alpaca_eval"``, ``method="reasoned"``, ``lineage="lineage.yaml"``). Raises EvalsuiteError.

    >>> evalsuite.compare("a/", "b/", judge="judge-ckpt/")  # doctest: +SKIP
    """
    from evalsuite.comparison.compare import compare as run_comparison
    from evalsuite.comparison.settings import CompareConfig
    from evalsuite.notebook import default_progress

    config = read_as(CompareConfig, {"models": models, "judge": judge, **options})
    return run_comparison(config, progress or default_progress()).document.as_json()


def load_results(results: str | Path = "results", *, short: bool = False) -> pd.DataFrame:
    """Return one row per model and judge as a pandas table.

    With every figure of scores.json, its columns are paths such as ``mt_bench.score``. A ``short`` table has the
    report's main columns under their names there (``mt_bench``, ``bbh``), each followed by ``…_low`` and ``…_high``
    (95 %) and ``…_n``. The columns variant, data, limit and judge tell apart what must not be ranked together. Raises
    DataError without results, and for a broken scores.json.
    """
    from evalsuite.results import table

    if not short:
        return table.load_results(results)
    import pandas as pd

    from evalsuite.report.figures import columns_of, figures_of
    from evalsuite.results.reading import read_models

    models = read_models(Path(results).expanduser())
    columns = [column for column in columns_of(models, []) if column.main]
    rows = []
    for model in models:
        scores, judge = model.scores, model.judge.name if model.judge else None
        row: dict[str, Any] = {
            "model": model.name,
            "variant": scores.variant,
            "data": scores.data,
            "limit": scores.limit,
        }
        figures = figures_of(model, columns)
        for key, figure in ((column.key, figures[column.key]) for column in columns):
            low, high = figure.ci95 or (None, None)
            row |= {key: figure.value, f"{key}_low": low, f"{key}_high": high, f"{key}_n": figure.n}
        rows.append({**row, "judge": judge})
    return pd.DataFrame(rows)


def load_items(results: str | Path = "results", *, model: str | None = None, suite: str | None = None) -> pd.DataFrame:
    """Return one row per item, model and judge: what ``evalsuite export --to parquet`` writes, as a pandas table.

    ``model`` is a model's name or folder, ``suite`` a key of scores.json. The columns are suite, part, item_id,
    content, model, folder, judge, category, prompt, reference, answer, thought, finish (lists with one entry per turn),
    thought_tokens, answer_tokens, extracted, judgment, mark (on the report's scale, up to top; missing where unscored),
    top and unscored (the reasons). Raises DataError, also without results.
    """
    import pandas as pd

    from evalsuite.exports.items import COLUMNS, item_rows
    from evalsuite.results.reading import read_models

    models = read_models(Path(results).expanduser())
    chosen = [one for one in models if model in (None, one.name, one.folder.name)]
    if model is not None and not chosen:
        raise DataError(unknown("model", model, {one.name for one in models}))
    rows = [row for row in item_rows(chosen) if suite in (None, row["suite"])]
    return pd.DataFrame(rows, columns=list(COLUMNS))


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
