"""The hub's own forms: ``.eval_results/*.yaml`` and the metadata of a model card, written to a folder of each model.

Source: huggingface/hub-docs, docs/hub/eval-results.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, HfApi, ModelCardData
from huggingface_hub.errors import HfHubHTTPError

from evalsuite.errors import UsageError
from evalsuite.exports.sources import hub_source
from evalsuite.files import write_text
from evalsuite.report.index import Contents
from evalsuite.report.texts import without_paths
from evalsuite.results.reading import ModelResult
from evalsuite.suites.figures import Column, Figure

Cells = Mapping[str, Figure]


def write_hub_files(contents: Contents, out: Path) -> tuple[list[Path], list[str]]:
    """Write a folder for each model with ``.eval_results/evalsuite.yaml`` and ``README.md``.

    Returns the folders, and which models are left out: no figure of mini data or a limit compares with a published one.
    Benchmarks without a data set on the hub are in the card only.
    """
    folders, left_out = [], []
    for model, figures in zip(contents.models, contents.figures, strict=True):
        if model.scores.data != "full" or model.scores.limit is not None:
            part = "mini data" if model.scores.data != "full" else f"--limit {model.scores.limit}"
            left_out.append(f"{model.slug}: {part}; run all items to get figures comparable with published ones")
            continue
        known = [column for column in contents.columns if figures[column.key].value is not None]
        if not known:
            continue
        folder = out / model.slug
        entries = [entry for column in known if (entry := _entry(column, figures[column.key], model)) is not None]
        if entries:
            text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)
            write_text(folder / ".eval_results" / "evalsuite.yaml", text)
        write_text(folder / "README.md", f"---\n{_card(known, figures, model)}\n---\n")
        folders.append(folder)
    return folders, left_out


def push(folder: Path, repo: str) -> str:
    """Propose a folder's ``.eval_results`` to a model on the hub as a pull request; return its address.

    The card is not pushed, for it would replace the model's own. Raises UsageError where the hub refuses.
    """
    results = folder / ".eval_results"
    if not results.is_dir():
        raise UsageError(f"{folder} has no .eval_results to push: none of its benchmarks is a data set on the hub")
    try:
        done = HfApi().upload_folder(
            repo_id=repo,
            folder_path=results,
            path_in_repo=".eval_results",
            commit_message="Evaluation results of evalsuite",
            create_pr=True,
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UsageError(f"cannot push to {repo}: {error}; log in with `hf auth login` and check the name") from error
    return str(done.pr_url)


def _entry(column: Column, figure: Figure, model: ModelResult) -> dict[str, Any] | None:
    repo = hub_source(column)
    if repo is None or figure.value is None:
        return None
    entry: dict[str, Any] = {"dataset": {"id": repo, "task_id": column.key}, "value": round(figure.value, 6)}
    if model.manifest.written_at:
        entry["date"] = model.manifest.written_at[:10]
    return entry | {"notes": _notes(column, figure, model)}


def _notes(column: Column, figure: Figure, model: ModelResult) -> str:
    parts = [f"evalsuite {model.manifest.versions.get('evalsuite', '')}".rstrip(), column.says]
    if figure.ci95:
        parts.append(f"95 % interval {figure.ci95[0]:.{column.digits}f} to {figure.ci95[1]:.{column.digits}f}")
    if figure.n is not None:
        parts.append(f"n = {figure.n}")
    if column.judged and model.judge is not None:
        parts.append(f"judge {model.judge.of_suite(column.suite).name}")
    return "; ".join(parts)


def _card(columns: list[Column], figures: Cells, model: ModelResult) -> str:
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=hub_source(column) or column.suite,
            dataset_name=column.title,
            metric_type=column.key,
            metric_value=figures[column.key].value,
            metric_name=column.says,
        )
        for column in columns
    ]
    data = ModelCardData(model_name=without_paths(model.scores.model.name), eval_results=results)
    return data.to_yaml()
