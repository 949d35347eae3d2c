"""How one model is served: the options of every command that starts a server, for models and for judges."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic

from evalsuite.redaction import keep_secret
from evalsuite.serving.pace import PATIENCE_S, Limits
from evalsuite.validation import Described

if TYPE_CHECKING:
    from evalsuite.checkpoint import Checkpoint
    from evalsuite.checkpoint.kinds import ModelKind

FASTCHAT = "fastchat:"
DEFAULT_BUDGET = 16_384
"""Tokens of thought per answer, the same for every model and prompt."""
_SECRET_ARGS = {
    "api_key": "evalsuite generates a key for each server itself",
    "hf_token": "set HF_TOKEN in the environment",
}
_WITHOUT_EFFECT_ON_ANSWERS = frozenset(
    {
        "port",
        "gpu_memory_utilization",
        "max_num_seqs",
        "max_num_batched_tokens",
        "enforce_eager",
        "block_size",
        "scheduling_policy",
        "max_logprobs",
        # Where and on how many devices it runs: another allocation finds its answers.
        "host",
        "master_addr",
        "master_port",
        "nnodes",
        "node_rank",
        "headless",
        "distributed_executor_backend",
        "distributed_timeout_seconds",
        "ray_workers_use_nsight",
        "max_parallel_loading_workers",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "numa_bind_nodes",
    }
)


def _join_urls(given: object) -> Any:
    return ",".join(map(str, given)) or None if isinstance(given, list | tuple) else given


def _check_url(given: str | None) -> str | None:
    for url in given.split(",") if given is not None else ():
        if not url.strip().startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is not a URL; give one like http://host:8000/v1")
    return given


def check_endpoints(base_url: str | None, models: Sequence[str]) -> None:
    """Raise ValueError for several servers of several models."""
    if base_url is not None and "," in base_url and len(models) > 1:
        raise ValueError("several --base-url are servers of one model; give a single MODEL")


BaseUrl = Annotated[
    str | None,
    pydantic.BeforeValidator(_join_urls),
    pydantic.AfterValidator(_check_url),
    pydantic.Field(
        description="Use a running OpenAI-compatible server that serves MODEL (http://host:port/v1). For several "
        "servers of one model, repeat it or separate with commas.",
        json_schema_extra={"repeatable": True},
    ),
]


class ServeConfig(Described):
    """How a model is served; a judge has its own, whose unset fields are the model's."""

    dtype: Literal["auto", "bfloat16", "float16", "float32", "half", "float", "bf16", "fp16", "fp32"] = "auto"
    """Precision of the weights; auto: the checkpoint's own, and float32 on a CPU without bfloat16."""
    head_dtype: Literal["auto", "float32", "model"] = "auto"
    """Precision of the output layer, and so of all probabilities; auto: float32 on a GPU, the model's on a CPU."""
    max_model_len: int | None = pydantic.Field(default=None, ge=16)
    """Context length in tokens; default: the checkpoint's, up to 32,768."""
    tensor_parallel_size: int = pydantic.Field(default=1, ge=1, json_schema_extra={"short": "-tp"})
    """GPUs per replica."""
    data_parallel_size: int = pydantic.Field(default=1, ge=1, json_schema_extra={"short": "-dp"})
    """Number of replicas."""
    vllm_args: tuple[tuple[str, str], ...] = pydantic.Field(
        default=(), json_schema_extra={"flag": "vllm_arg", "metavar": "KEY=VALUE"}
    )
    """Passed on to vLLM as --KEY VALUE; repeatable."""
    chat_template: str | None = pydantic.Field(default=None, json_schema_extra={"path": True})
    """A Jinja file, one of the checkpoint's named templates, or fastchat:NAME (one of FastChat's)."""
    template_date: date | None = None
    """Today's date in chat templates, YYYY-MM-DD; default 2024-07-26, so that prompts do not change from day to day."""
    thinking: Literal["auto", "on", "off"] = "auto"
    """Whether a reasoning model thinks before it answers; auto: its chat template's default."""
    thinking_budget: tuple[pydantic.PositiveInt, ...] = pydantic.Field(
        default=(DEFAULT_BUDGET,), min_length=1, json_schema_extra={"metavar": "TOKENS[,TOKENS...]"}
    )
    """Max thinking tokens, not counting the answer; several: one chain of thought cut at each budget, then answered."""
    close_thinking: bool = True
    """When thinking uses up its budget, close it and ask for the answer; otherwise the item is unscored."""
    reasoning_style: str | None = None
    """Thinking delimiters, by the name of vLLM's --reasoning-parser; default: detected from template and tokenizer."""
    reasoning_effort: str | None = None
    """Reasoning effort of a model that has levels (low, medium, high), passed to its template or the server."""
    chat_template_kwargs: tuple[tuple[str, str], ...] = pydantic.Field(
        default=(), json_schema_extra={"metavar": "KEY=VALUE|JSON"}
    )
    """Variables of the chat template, as KEY=VALUE (repeatable) or one JSON object."""
    max_answer_tokens: int | None = pydantic.Field(default=None, ge=1)
    """Max tokens of an answer, thinking excluded, instead of the benchmark's limit."""
    sampling: Literal["auto", "benchmark", "model"] = "auto"
    """Sampling settings: the benchmark's or the model's generation_config; auto: the model's when it thinks."""
    in_flight: int | None = pydantic.Field(default=None, ge=1)
    """Max concurrent requests."""
    api_key_env: str | None = pydantic.Field(default=None, json_schema_extra={"metavar": "NAME"})
    """Environment variable with the key of an external server; default EVALSUITE_API_KEY, for OpenAI OPENAI_API_KEY."""
    extra_body: Mapping[str, Any] | None = pydantic.Field(default=None, json_schema_extra={"metavar": "JSON"})
    """Extra fields for every request to an external server, as a JSON object."""
    requests_per_minute: float | None = pydantic.Field(default=None, gt=0)
    """Max requests per minute to an external server."""
    patience: float = pydantic.Field(default=PATIENCE_S, ge=0)
    """Seconds that an external server may keep rate-limiting requests before the run ends."""
    max_requests: int | None = pydantic.Field(default=None, ge=1)
    """Stop the run after this many requests to an external server; finished answers are kept."""
    max_tokens_total: int | None = pydantic.Field(default=None, ge=1)
    """Stop the run before an external server uses more than this many tokens, prompts and answers together."""
    allow_pickle: bool = False
    """Serve pickled weights, which can run code when loaded."""
    trust_remote_code: bool = False
    """Run the code that comes with a checkpoint, with your privileges."""

    @pydantic.field_validator("vllm_args", mode="before")
    @classmethod
    def _read_vllm_args(cls, given: object) -> Any:
        args = []
        for key, value in _pairs(given):
            if not re.fullmatch(r"[A-Za-z][\w-]*", key):
                raise ValueError(f"{key!r} is not the name of a vLLM option; give key=value")
            name = key.replace("-", "_")
            if (remedy := _SECRET_ARGS.get(name.lower())) is not None:
                raise ValueError(f"{key} would show a key to every user of the machine; {remedy}")
            args.append((name, value))
        return tuple(args)

    @pydantic.field_validator("thinking_budget", mode="before")
    @classmethod
    def _read_budgets(cls, given: Any) -> Any:
        if isinstance(given, list | tuple) and not all(isinstance(one, str) for one in given):
            return given
        texts = ([given] if isinstance(given, str | int) else given) or ()
        return tuple(part.strip() for text in texts for part in str(text).split(","))

    @pydantic.field_validator("thinking_budget")
    @classmethod
    def _check_budgets(cls, budgets: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(budgets)) < len(budgets):
            raise ValueError("duplicate budget")
        return budgets

    @pydantic.field_validator("chat_template_kwargs", mode="before")
    @classmethod
    def _read_template_args(cls, given: Any) -> Any:
        """Read KEY=VALUE texts, JSON objects or a mapping; a value that is JSON, such as false, is not kept as text."""
        pairs: dict[str, str] = {}
        for item in [given] if isinstance(given, str | Mapping) else list(given):
            values = item
            if isinstance(item, str):
                values = _json(item)
            if not isinstance(values, Mapping):
                values = dict(_pairs([item]))
            pairs |= {str(key): json.dumps(_json(value, value)) for key, value in values.items()}
        return tuple(pairs.items())

    @property
    def template_args(self) -> dict[str, Any]:
        """The variables of the chat template by name."""
        return {key: json.loads(value) for key, value in self.chat_template_kwargs}

    @property
    def budget(self) -> int:
        """The budget of a thought in tokens; of a sweep, which is run budget by budget, the largest."""
        return max(self.thinking_budget)

    @pydantic.field_validator("extra_body", mode="before")
    @classmethod
    def _read_extra_body(cls, given: object) -> Any:
        if isinstance(given, str):
            try:
                given = json.loads(given)
            except (ValueError, RecursionError) as error:
                raise ValueError(f'{given!r} is not JSON ({error}); give an object like {{"top_k": 20}}') from error
        if given is not None and not isinstance(given, Mapping):
            raise ValueError(f"{given!r} is not a JSON object")
        if taken := sorted({"model", "messages", "prompt", "stream"} & {*(given or ())}):
            raise ValueError(f"{', '.join(taken)} cannot be changed")
        return given

    @pydantic.field_validator("api_key_env")
    @classmethod
    def _read_api_key_env(cls, name: str | None) -> str | None:
        if name is None:
            return None
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ValueError("expected the name of an environment variable, not a key")
        if not os.environ.get(name, "").strip():
            raise ValueError(f"the environment variable {name} is not set")
        keep_secret(name)
        return name

    @property
    def limits(self) -> Limits:
        """What one external server may be asked."""
        return Limits(self.requests_per_minute, self.patience, self.max_requests, self.max_tokens_total)

    @property
    def runs_remote_code(self) -> bool:
        """Whether a checkpoint's own code may run: by this option or by vLLM's."""
        return self.trust_remote_code or dict(self.vllm_args).get("trust_remote_code", "").lower() == "true"

    @property
    def fastchat_template(self) -> str | None:
        """``fastchat:NAME`` where the chat template is one of FastChat's."""
        return self.chat_template if (self.chat_template or "").startswith(FASTCHAT) else None

    @property
    def chat_template_file(self) -> Path | None:
        """The chat template's file or name; None for one of FastChat's or the checkpoint's default."""
        is_file = self.chat_template is not None and self.fastchat_template is None
        return Path(str(self.chat_template)).expanduser() if is_file else None

    @property
    def answer_args(self) -> dict[str, str]:
        """The vLLM options that may change an answer."""
        return {
            key: value
            for key, value in self.vllm_args
            if key not in _WITHOUT_EFFECT_ON_ANSWERS and not key.startswith("data_parallel_")
        }

    @property
    def hf_overrides(self) -> dict[str, Any]:
        """The user's own --vllm-arg hf_overrides; empty where there are none, or where vLLM must refuse them."""
        given = _json(dict(self.vllm_args).get("hf_overrides"))
        return given if isinstance(given, dict) else {}

    @property
    def devices(self) -> int:
        """How many devices all replicas take together."""
        return self.tensor_parallel_size * self.data_parallel_size * self.pipeline_stages

    @property
    def pipeline_stages(self) -> int:
        """The --vllm-arg pipeline_parallel_size, 1 without one that is a number; vLLM refuses what is none."""
        given = dict(self.vllm_args).get("pipeline_parallel_size", "")
        return max(1, int(given)) if given.isdecimal() else 1

    def with_changes(self, changes: ServeConfig) -> ServeConfig:
        """Return these settings with those that ``changes`` sets: how a judge is served.

        Its chat template, and what belongs to one external server, are its own.
        """
        given = {name: getattr(changes, name) for name in changes.model_fields_set}
        return self.model_copy(update={**_OWN_DEFAULTS, **_SERVERS_OWN, **given})

    def same_server(self, other: ServeConfig) -> bool:
        """Whether one server would do for both, where the checkpoints are the same."""
        apart = {"in_flight", *_OWN_DEFAULTS}
        return (
            self.model_dump(exclude=apart) == other.model_dump(exclude=apart)
            and self.fastchat_template == other.fastchat_template
        )

    def resolve(
        self,
        spec: str,
        *,
        base_url: str | None = None,
        kind: ModelKind = "generate",
        on_step: Callable[[str], None] = lambda _: None,
    ) -> Checkpoint:
        """Find the model ``spec`` for these settings; raises CheckpointError or UsageError (``checkpoint.resolve``).

        A checkpoint of another ``kind`` is refused. The server of ``NAME@URL`` is asked what it tells of the model
        (``identity.identified``).
        """
        from evalsuite.checkpoint import resolve
        from evalsuite.checkpoint.kinds import check_kind
        from evalsuite.serving.identity import identified

        found = resolve(
            spec,
            chat_template_file=self.chat_template_file,
            template_date=self.template_date,
            base_url=base_url,
            allow_pickle=self.allow_pickle,
            trust_remote_code=self.runs_remote_code,
            on_step=on_step,
        )
        check_kind(found, kind)
        return identified(found, self.api_key_env)


_HOW_IT_THINKS = (
    "thinking",
    "thinking_budget",
    "close_thinking",
    "reasoning_style",
    "reasoning_effort",
    "chat_template_kwargs",
    "max_answer_tokens",
    "sampling",
)
_OWN_DEFAULTS = {
    name: ServeConfig.model_fields[name].get_default(call_default_factory=True)
    for name in ("chat_template", *_HOW_IT_THINKS)
}
"""What a judge does not take from the model."""
_SERVERS_OWN = {
    name: ServeConfig.model_fields[name].default
    for name in ("api_key_env", "extra_body", "requests_per_minute", "patience", "max_requests", "max_tokens_total")
}
"""What belongs to one external server."""


def _json(value: object, otherwise: Any = None) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return otherwise


def _pairs(given: object) -> list[tuple[str, str]]:
    """Read vLLM options: texts ``key=value``, pairs (key, value), or a mapping."""
    items = list(given.items()) if isinstance(given, Mapping) else given
    if not isinstance(items, list | tuple):
        raise ValueError(f"{given!r} is not a list of key=value")
    pairs: list[tuple[str, str]] = []
    for item in items:
        key, equals, value = item.partition("=") if isinstance(item, str) else (item, "", None)
        if not isinstance(item, str) and isinstance(item, list | tuple) and len(item) == 2:
            key, equals, value = item[0], "=", item[1]
        if not equals or not isinstance(key, str) or not isinstance(value, str | int | float):
            raise ValueError(f"{item!r} is not key=value")
        pairs.append((key, str(value)))
    return pairs
