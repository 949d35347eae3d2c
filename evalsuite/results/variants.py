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
    settings = {} if config.seed == 0 else {"seed": str(config.seed)}
    if config.sample is not None:
        settings["sample"] = str(config.sample)
        settings |= {"sample_seed": str(config.sample_seed)} if config.sample_seed else {}
    if config.repeats > 1:
        settings["repeats"] = str(config.repeats)
    if serve.chat_template is not None:
        settings["template"] = _template_name(serve)
    if serve.template_date is not None:
        settings["template_date"] = str(serve.template_date)
    settings |= _thinking_settings(serve, budget or serve.budget)
    if serve.dtype != "auto":
        settings["dtype"] = asked_dtype(serve.dtype)
    if serve.head_dtype != "auto":
        settings["head_dtype"] = serve.head_dtype
    if serve.max_model_len is not None:
        settings["max_model_len"] = str(serve.max_model_len)
    settings |= serve.answer_args
    if config.as_published:
        settings["as_published"] = "true"
    for spec in config.suites:
        options = config.suite_options_of(spec)
        given, kinds = own_values(options), own_names(type(options))
        default = own_values(config.options_as(spec, {}, as_published=config.as_published))
        settings |= {
            flag: str(value).lower()
            for flag, value in given.items()
            if value != default[flag] and changes_figures(type(options).model_fields[kinds[flag]])
        }
    return settings


def _thinking_settings(serve: ServeConfig, budget: int) -> dict[str, str]:
    names = {
        "think": serve.thinking,
        "style": serve.reasoning_style,
        "effort": serve.reasoning_effort,
        "answer": serve.max_answer_tokens,
        "sampling": serve.sampling,
        "unclosed": None if serve.close_thinking else "thoughts",
    }
    settings = {name: str(value) for name, value in names.items() if value not in (None, "auto")}
    settings |= {f"kwarg-{name}": value for name, value in serve.chat_template_kwargs}
    return settings if budget == DEFAULT_BUDGET else settings | {"budget": str(budget)}


def _template_name(serve: ServeConfig) -> str:
    if (path := serve.chat_template_file) is None:
        return str(serve.chat_template).removeprefix(FASTCHAT)
    if path.is_file():
        return file_sha256(path)[:8]
    if path.suffix or len(path.parts) > 1:
        raise UsageError(f"no chat template {path}; give a Jinja file, or fastchat:NAME")
    return str(path)
