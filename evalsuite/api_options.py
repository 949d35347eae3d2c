"""The options of ``evalsuite.run`` and ``evalsuite.compare``, written by docs/site/options.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict


class ServingOptions(TypedDict, total=False):
    """How models and judges are served; None is the default."""

    dtype: Literal["auto", "bfloat16", "float16", "float32", "half", "float", "bf16", "fp16", "fp32"] | None
    head_dtype: Literal["auto", "float32", "model"] | None
    max_model_len: int | None
    tensor_parallel_size: int | None
    data_parallel_size: int | None
    vllm_args: Sequence[Sequence[str]] | None
    chat_template: str | None
    template_date: object | None
    thinking: Literal["auto", "on", "off"] | None
    thinking_budget: Sequence[int] | None
    close_thinking: bool | None
    reasoning_style: str | None
    reasoning_effort: str | None
    chat_template_kwargs: Sequence[Sequence[str]] | None
    max_answer_tokens: int | None
    sampling: Literal["auto", "benchmark", "model"] | None
    in_flight: int | None
    api_key_env: str | None
    extra_body: Mapping[str, object] | None
    requests_per_minute: float | None
    patience: float | None
    max_requests: int | None
    max_tokens_total: int | None
    allow_pickle: bool | None
    trust_remote_code: bool | None
    judge_dtype: Literal["auto", "bfloat16", "float16", "float32", "half", "float", "bf16", "fp16", "fp32"] | None
    judge_head_dtype: Literal["auto", "float32", "model"] | None
    judge_max_model_len: int | None
    judge_tensor_parallel_size: int | None
    judge_data_parallel_size: int | None
    judge_vllm_args: Sequence[Sequence[str]] | None
    judge_chat_template: str | None
    judge_template_date: object | None
    judge_thinking: Literal["auto", "on", "off"] | None
    judge_thinking_budget: Sequence[int] | None
    judge_close_thinking: bool | None
    judge_reasoning_style: str | None
    judge_reasoning_effort: str | None
    judge_chat_template_kwargs: Sequence[Sequence[str]] | None
    judge_max_answer_tokens: int | None
    judge_sampling: Literal["auto", "benchmark", "model"] | None
    judge_in_flight: int | None
    judge_api_key_env: str | None
    judge_extra_body: Mapping[str, object] | None
    judge_requests_per_minute: float | None
    judge_patience: float | None
    judge_max_requests: int | None
    judge_max_tokens_total: int | None
    judge_allow_pickle: bool | None
    judge_trust_remote_code: bool | None


class RunOptions(ServingOptions, total=False):
    """Options of ``evalsuite run``; None is the default."""

    checkpoints: str | Path | None
    log_to: Sequence[str] | None
    suites: Sequence[str] | None
    judge: Sequence[str] | None
    judge_weights: Literal["equal", "card"] | None
    no_judge: bool | None
    skip_impossible: bool | None
    limit: int | None
    sample: int | None
    sample_seed: int | None
    repeats: int | None
    data: Literal["full", "mini"] | None
    results: str | Path | None
    store: str | Path | None
    label: str | None
    name: str | None
    base_url: str | None
    seed: int | None
    ask_again: bool | None
    fresh: bool | None
    as_published: bool | None
    max_unscored: float | None
    on: str | None
    jobs: int | None
    slurm_template: str | Path | None
    detach: bool | None
    mt_bench_baseline: Sequence[str] | None
    arena_hard_verdict: Literal["label", "logprobs"] | None
    openllm_chat_template: bool | None
    fewshot_as_multiturn: bool | None
    mixeval_parser: Literal["judge", "rule"] | None
    mixeval_version: Literal["2024-06-01", "2024-08-11"] | None
    include_path: str | Path | None
    confirm_run_unsafe_code: bool | None
    trust_suite_code: bool | None


class CompareOptions(ServingOptions, total=False):
    """Options of ``evalsuite compare``; None is the default."""

    judge_weights: Literal["equal", "card"] | None
    method: Literal["verdict", "reasoned"] | None
    judge_format: str | None
    judge_kind: Literal["generate", "reward"] | None
    tie_margin: float | None
    max_judge_tokens: int | None
    long_answers: Literal["refuse", "shorten"] | None
    human: str | Path | None
    lineage: str | Path | None
    name: str | None
    prompts: str | None
    turns: Literal["first", "both"] | None
    template: str | Path | None
    limit: int | None
    data: Literal["full", "mini"] | None
    results: str | Path | None
    store: str | Path | None
    seed: int | None
    max_unscored: float | None
