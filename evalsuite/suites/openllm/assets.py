"""The leaderboard's pinned data sets, as lm-eval's own tasks read them, and IFEval's sentence splitter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from evalsuite.assets.asset import Asset, OnHub, Part, by_name
from evalsuite.assets.pins import PUNKT

_BBH_CONFIGS = """
boolean_expressions causal_judgement date_understanding disambiguation_qa formal_fallacies geometric_shapes hyperbaton
logical_deduction_five_objects logical_deduction_seven_objects logical_deduction_three_objects movie_recommendation
navigate object_counting penguins_in_a_table reasoning_about_colored_objects ruin_names
salient_translation_error_detection snarks sports_understanding temporal_sequences
tracking_shuffled_objects_five_objects tracking_shuffled_objects_seven_objects tracking_shuffled_objects_three_objects
web_of_lies
"""
_MATH_CONFIGS = "algebra counting_and_probability geometry intermediate_algebra number_theory prealgebra precalculus"
_GPQA_FIELDS = ("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
_MUSR_SPLITS = ("murder_mysteries", "object_placements", "team_allocation")

_HASHES = {
    "bbh": "96cbea32c56cacbf3430915cdc2fd4bc6b625cca039aff80d6b2d0266b7379e1",
    "math": "bdbd598602dc1bc1bcdadf4c7854d2ade3edfdc40bbc559a4764ee00a62b5175",
    "musr": "b9b5b2a8859d132b55c18895b2dae3c30828d0f800dba280fac118a791ffbcdb",
    "ifeval": "776807cd6534c8149791358883f669332e7fdc02670fa0d10f1e5978d9755a06",
    "mmlu_pro": "3e08ab3acca6d10136de42c4a3b4761d6e172afd7202583b9eec8783f39bb46a",
}


def _asset(
    name: str, hub: OnHub, licence: str, rows: int, fields: tuple[str, ...], parts: Iterable[Part], **rest: Any
) -> Asset:
    pinned: dict[str, Any] = {"rows": rows, "sha256": _HASHES.get(name), "fields": fields, "parts": tuple(parts)}
    return Asset(f"openllm/{name}", "openllm", licence, "dataset", (hub,), **pinned, **rest)


def _configs(names: str, split: str) -> Iterable[Part]:
    return (Part(name, split) for name in names.split())


ASSETS: Mapping[str, Asset] = by_name(
    _asset("bbh", OnHub("SaylorTwift/bbh"), "MIT", 5761, ("input", "target"), _configs(_BBH_CONFIGS, "test")),
    _asset(
        "gpqa",
        OnHub("Idavidrein/gpqa", gated=True),
        "CC-BY-4.0, gated",
        1192,
        _GPQA_FIELDS,
        _configs("gpqa_diamond gpqa_extended gpqa_main", "train"),
        remark="protected by its authors: only with your own access to the hub",
    ),
    _asset(
        "math",
        OnHub("DigitalLearningGmbH/MATH-lighteval"),
        "MIT",
        1324,
        ("problem", "level", "solution"),
        _configs(_MATH_CONFIGS, "test"),
        only=("level", "Level 5"),
    ),
    _asset(
        "musr",
        OnHub("TAUR-Lab/MuSR"),
        "CC-BY-4.0",
        756,
        ("narrative", "question", "choices", "answer_choice"),
        (Part(None, split) for split in _MUSR_SPLITS),
    ),
    _asset(
        "ifeval",
        OnHub("wis-k/instruction-following-eval"),
        "Apache-2.0",
        541,
        ("key", "prompt", "instruction_id_list", "kwargs"),
        [Part(None, "train")],
        remark="other copies word the prompt with key 2785 differently",
    ),
    _asset(
        "mmlu_pro",
        OnHub("TIGER-Lab/MMLU-Pro"),
        "MIT",
        12032,
        ("question", "options", "answer"),
        (Part(None, "test"), Part(None, "validation", counted=False)),
    ),
    replace(PUNKT, suite="openllm"),
)
