"""What makes a run a variant of its model, with its own folder and row: settings other than the defaults."""

from __future__ import annotations

from evalsuite.config import RunConfig
from evalsuite.errors import UsageError
from evalsuite.fingerprint import file_sha256
from evalsuite.serving.config import DEFAULT_BUDGET, FASTCHAT, ServeConfig
from evalsuite.serving.device import asked_dtype
from evalsuite.suites.options import changes_figures, own_names, own_values


def variant_settings(config: RunConfig, budget: int | None = None) -> dict[str, str]:
    """Return what differs from the defaults and changes answers or scores, by name, for the variant's label.

    ``budget`` is that of a sweep's variant. Data and limit are not included. Raises UsageError for a chat template that
    cannot be read.
    """
    serve = config.serve
    given = {
        "seed": config.seed or None,
        "sample": config.sample,
        "sample_seed": None if config.sample is None else config.sample_seed or None,
        "repeats": config.repeats if config.repeats > 1 else None,
        "template": None if serve.chat_template is None else _template_name(serve),
        "template_date": serve.template_date,
        **_thinking_settings(serve, budget or serve.budget),
        "dtype": None if serve.dtype == "auto" else asked_dtype(serve.dtype),
        "head_dtype": None if serve.head_dtype == "auto" else serve.head_dtype,
        "max_model_len": serve.max_model_len,
    }
    settings = {name: str(value) for name, value in given.items() if value is not None}
    settings |= serve.answer_args | ({"as_published": "true"} if config.as_published else {})
    for spec in config.suites:
        options = config.suite_options_of(spec)
        own, kinds = own_values(options), own_names(type(options))
        default = own_values(config.options_as(spec, {}, as_published=config.as_published))
        settings |= {
            flag: str(value).lower()
            for flag, value in own.items()
            if value != default[flag] and changes_figures(type(options).model_fields[kinds[flag]])
        }
    return settings


def _thinking_settings(serve: ServeConfig, budget: int) -> dict[str, object]:
    settings = {
        "think": serve.thinking,
        "style": serve.reasoning_style,
        "effort": serve.reasoning_effort,
        "answer": serve.max_answer_tokens,
        "sampling": serve.sampling,
        "unclosed": None if serve.close_thinking else "thoughts",
        **{f"kwarg-{name}": value for name, value in serve.chat_template_kwargs},
        "budget": None if budget == DEFAULT_BUDGET else budget,
    }
    return {name: value for name, value in settings.items() if value != "auto"}


def _template_name(serve: ServeConfig) -> str:
    if (path := serve.chat_template_file) is None:
        return str(serve.chat_template).removeprefix(FASTCHAT)
    if path.is_file():
        return file_sha256(path)[:8]
    if path.suffix or len(path.parts) > 1:
        raise UsageError(f"no chat template {path}; give a Jinja file, or fastchat:NAME")
    return str(path)
