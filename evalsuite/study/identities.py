"""What the specs of models and data in a study stand for: fingerprints, or the hub's pinned revisions.

Nothing is downloaded for a key: a model or data set of the hub is identified by its revision, in the local cache or
else on the hub.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from evalsuite.assets.demo import demo_folder
from evalsuite.assets.locations import snapshots_of, why_offline
from evalsuite.checkpoint import generation_config, resolve
from evalsuite.errors import EvalsuiteError, UsageError, first_line
from evalsuite.files import iter_lines, plain_name
from evalsuite.fingerprint import file_sha256, text_sha256
from evalsuite.store import content_key
from evalsuite.study.file import Study
from evalsuite.study.sections import Target
from evalsuite.suites.registry import all_assets, parse_suite, prompt_suites

Identities = Mapping[str, str]
"""The content identity of each model and source by its spec: a fingerprint, or a pinned revision."""

UNRESOLVED = "unresolved:"
"""Prefix of the identity of a model or source that is not on this machine, where nothing may be fetched."""

_ASKED_WITH = "+"
"""Separates a local model's weights in its identity from the hash of what it is asked with (tokenizer, template)."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_DATA = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?P<rest>(:[^@:]+)?(@[\w.-]+)?)")
_TIMEOUT_S = 20.0
_OnStep = Callable[[str], None]
_Identify = Callable[[str, bool, _OnStep], str]


def model_specs(study: Study) -> list[str]:
    """Return the models that the study takes from outside; their content enters the keys."""
    models = [study.judge, *(target.model for target in study.targets.values())]
    return list(dict.fromkeys(models + [dgm.model for dgm in study.dgms.values() if dgm.model]))


def conversation_sources(study: Study) -> list[str]:
    """Return the sources of the DGMs' conversations: recorded answers, and the prompts that the others answer."""
    sources = [dgm.answers for dgm in study.dgms.values() if dgm.answers]
    if study.generate is not None and any(dgm.is_asked for dgm in study.dgms.values()):
        sources.append(study.generate.prompts)
    return sources


def mix_sources(study: Study) -> list[str]:
    """Return the data that every mix of the study takes besides its DGMs' answers."""
    return [data for source in study.mix.add for data, _, _ in source.members]


def template_spec(study: Study, target: Target) -> str:
    """Return the file or model that gives a training run's chat template; by default the target's own model."""
    return str({**study.sft, **target.sft}.get("chat_template") or target.model)


def template_key(spec: str) -> str:
    """Return the key in ``Identities`` of the chat template alone of a file or model."""
    return f"the chat template of {spec}"


def scores_key(spec: str) -> str:
    """Return the key in ``Identities`` of a file or folder of scores."""
    return f"the scores in {spec}"


def tokenizer_key(spec: str) -> str:
    """Return the key in ``Identities`` of the tokenizer alone of a model."""
    return f"the tokenizer of {spec}"


def weights_of(identity: str) -> str:
    """Return the fingerprint of a local model's weights, under which speeds are recorded; else the identity."""
    return identity.partition(_ASKED_WITH)[0]


def find_identities(study: Study, *, fetch: bool, on_step: _OnStep = lambda _: None) -> tuple[Identities, list[str]]:
    """Return the identity of every model and source that the study names, and notes on unresolved ones.

    With ``fetch`` the demo model is created where it is missing and the hub is asked for revisions; without, what
    is not on this machine stays unresolved. Raises one UsageError that names every unusable spec.
    """
    templates = [template_spec(study, target) for target in study.targets.values()]
    wanted: list[tuple[str, str, _Identify]] = [(spec, spec, _model_identity) for spec in model_specs(study)]
    wanted += [(spec, spec, _source_identity) for spec in [*conversation_sources(study), *mix_sources(study)]]
    scores = [source.scores for source in study.mix.add if source.scores is not None]
    wanted += [(scores_key(spec), spec, _scores_identity) for spec in scores]
    wanted += [(template_key(spec), spec, _template_identity) for spec in templates]
    compared = [] if study.compare is None else [study.compare.prompts]
    files = [suite for suite in (*study.run.suites, *compared) if suite.endswith((".yaml", ".yml"))]
    wanted += [(file, file, _benchmark_identity) for file in files]
    if study.mix.tokenizer:
        wanted.append((tokenizer_key(study.mix.tokenizer), study.mix.tokenizer, _tokenizer_identity))
    identities: dict[str, str] = {}
    faults: list[str] = []
    for key, spec, identify in wanted:
        try:
            identities[key] = identities.get(key) or identify(study.located(spec), fetch, on_step)
        except EvalsuiteError as error:
            faults.append(str(error))
    if faults:
        raise UsageError("; ".join(dict.fromkeys(faults)))
    missing = dict.fromkeys(spec for key, spec, _ in wanted if identities[key].startswith(UNRESOLVED))
    unsettled = "is not on this machine; the keys that depend on it are computed once it is"
    return identities, [f"{spec} {unsettled}" for spec in missing]


def count_rows(study: Study) -> dict[str, int]:
    """Return the number of rows of each source of conversations on this machine, by its spec.

    Raises DataError for a source that cannot be read.
    """
    counts = {spec: _n_rows(study.located(spec)) for spec in (*conversation_sources(study), *mix_sources(study))}
    return {spec: count for spec, count in counts.items() if count is not None}


def _n_rows(spec: str) -> int | None:
    from evalsuite.conversations.files import find_files, rows_in
    from evalsuite.conversations.parquet import parquet_schemas
    from evalsuite.conversations.source import open_source

    if spec in prompt_suites():
        return open_source(spec).n_rows if _has_data(spec) else None
    path = Path(spec).expanduser()
    if not path.exists():
        return None
    files = find_files(path)
    if files[0].suffix == ".parquet":
        return sum(parquet_schemas(files)[1])
    if plain_name(files[0]).endswith((".json", ".csv")):
        return sum(1 for file in files for _ in rows_in(file))
    # Lines are counted without parsing: a source may be many gigabytes, and a plan should not take minutes.
    return sum(1 for file in files for _ in iter_lines(file))


def _model_identity(spec: str, fetch: bool, on_step: _OnStep) -> str:
    """Identify a model by its weights and config, and by what it is asked with, which changes its answers too."""
    if (remote := _remote_identity(spec, fetch)) is not None:
        return remote
    model = resolve(spec, on_step=on_step)
    asked_with = {
        "tokenizer": model.tokenizer_sha256,
        "chat_template": model.chat_template_sha256,
        "generation_config": generation_config(model),
    }
    return f"{model.fingerprint}{_ASKED_WITH}{content_key(asked_with)}"


def _benchmark_identity(spec: str, fetch: bool, on_step: _OnStep) -> str:  # noqa: ARG001
    """Identify a benchmark's file by its content and that of its prompts, wherever they lie."""
    suite = parse_suite(spec).suite
    pins = suite.load_prompts(suite.options_type()).data_pins
    return f"{suite.name}:{content_key({name: pin.sha256 for name, pin in pins.items()})}"


def _remote_identity(spec: str, fetch: bool) -> str | None:
    """Return the identity of a model on the hub or of a demo model not created yet; None for files to be read."""
    if spec == "demo" and not Path(spec).exists() and not fetch and not any(demo_folder().glob("*.safetensors")):
        return UNRESOLVED + spec
    if _HUB_ID.fullmatch(spec) and _is_remote(spec):
        return _hub_identity(spec, _cached_models(spec), "model", fetch)
    return None


def _is_remote(spec: str) -> bool:
    return not spec.startswith(("./", "../")) and not Path(spec).expanduser().exists()


def _template_identity(spec: str, fetch: bool, on_step: _OnStep) -> str:
    """Identify a template by its content, in a file or taken from a model; one on the hub by its revision."""
    file = Path(spec).expanduser()
    if file.is_file():
        return file_sha256(file)
    if file.suffix in {".jinja", ".j2"}:
        raise UsageError(f"chat template {spec} not found; give a Jinja file or a model whose template to use")
    if (remote := _remote_identity(spec, fetch)) is not None:
        return remote
    template = resolve(spec, on_step=on_step).chat_template
    if template is None:
        raise UsageError(
            f"{spec} has no chat template to train with; set chat_template under sft to a Jinja file, or to a model "
            "that has one"
        )
    return text_sha256(template)


def _tokenizer_identity(spec: str, fetch: bool, _: _OnStep) -> str:
    if (remote := _remote_identity(spec, fetch)) is not None:
        return remote
    if spec != "demo" and not Path(spec).expanduser().is_dir():
        raise UsageError(f"tokenizer {spec!r} not found; set mix.tokenizer to a folder, a hub id org/name or demo")
    from evalsuite.mix.tokens import tokenizer_sha256

    return tokenizer_sha256(spec)


def _source_identity(spec: str, fetch: bool, _: _OnStep) -> str:
    match = _HUB_DATA.fullmatch(spec)
    if match and _is_remote(spec):
        cached = (snapshot.name for _, _, snapshot in snapshots_of(match["repo"]))
        return _hub_identity(match["repo"], cached, "dataset", fetch) + match["rest"]
    from evalsuite.conversations.source import open_source

    if spec in prompt_suites() and not fetch and not _has_data(spec):
        return UNRESOLVED + spec
    return open_source(spec).fingerprint


def _scores_identity(spec: str, fetch: bool, on_step: _OnStep) -> str:  # noqa: ARG001
    from evalsuite.conversations.scores import read_scores

    return read_scores(spec).fingerprint


def _has_data(suite: str) -> bool:
    """Whether all of a suite's data are on this machine, so that opening it fetches nothing."""
    from evalsuite.assets import list_assets

    return all(row["state"].startswith("found") for row in list_assets(all_assets(), [suite]))


def _cached_models(repo: str) -> Iterable[str]:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repo, "config.json")
    return [Path(config).parent.name] if isinstance(config, str) else []


def _hub_identity(repo: str, cached: Iterable[str], kind: str, fetch: bool) -> str:
    """Return the revision in use: that of the local snapshot, which would be read, else the hub's current one."""
    revision = next(iter(cached), None)
    if revision is None and fetch and not why_offline():
        from huggingface_hub import HfApi

        try:
            info = HfApi().repo_info(repo, repo_type=kind, timeout=_TIMEOUT_S)
        except Exception as error:  # the client raises its transport's own errors; each means that it is not available
            raise UsageError(
                f"{repo} not found on the hub ({first_line(error)}); check the id and your access, or give a folder"
            ) from error
        revision = info.sha
    return f"{repo}@{revision}" if revision else UNRESOLVED + repo
