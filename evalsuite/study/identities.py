"""What the words of a study stand for: fingerprints of weights and data, or the hub's pinned revisions.

Nothing is downloaded for a key: a model or data set of the hub goes by its revision, as the local cache has it, else
as the hub tells it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from evalsuite.assets.demo import demo_folder
from evalsuite.assets.hub import one_line
from evalsuite.assets.locations import no_hub, snapshots_of
from evalsuite.checkpoint import generation_config, resolve
from evalsuite.errors import DataError, EvalsuiteError, UsageError
from evalsuite.files import read_json
from evalsuite.fingerprint import file_sha256, text_sha256
from evalsuite.store import content_key
from evalsuite.study.file import Study
from evalsuite.study.plan import (
    TEMPLATE_OF,
    TOKENIZER_OF,
    UNRESOLVED,
    WEIGHTS_AND_WORDS,
    Identities,
    conversation_words,
    mix_words,
    template_words,
    words_of,
)

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_DATA = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?P<rest>(:[^@:]+)?(@[\w.-]+)?)")
_TIMEOUT_S = 20.0


def find_identities(
    study: Study, *, fetch: bool, on_step: Callable[[str], None] = lambda _: None
) -> tuple[Identities, tuple[str, ...]]:
    """Return the identity of every model and source that the study names, and notes on those left open.

    With ``fetch`` the demo model is made where it is not there yet and the hub is asked for revisions; without, what
    is not here stays unresolved. Raises one UsageError that names every word that cannot be used.
    """
    models, sources = words_of(study)
    found: dict[str, str] = {}
    faults: list[str] = []
    notes: list[str] = []
    kinds = (
        ("", models, _model_identity),
        ("", sources, _source_identity),
        (TEMPLATE_OF, template_words(study), _template_identity),
        (TOKENIZER_OF, [study.mix.tokenizer] if study.mix.tokenizer else [], _tokenizer_identity),
    )
    for of, words, identify in kinds:
        for word in words:
            try:
                found[of + word] = identify(study.place(word), fetch, on_step)
            except EvalsuiteError as error:
                faults.append(str(error))
                continue
            if found[of + word].startswith(UNRESOLVED):
                notes.append(f"{word} is not here yet; the key of what rests on it is settled when it is")
    if faults:
        raise UsageError("; ".join(dict.fromkeys(faults)))
    return found, tuple(dict.fromkeys(notes))


def count_rows(study: Study) -> dict[str, int]:
    """Return how many rows each source of conversations holds, by its word; what is not here is not counted.

    Raises DataError for a source that cannot be read.
    """
    counts = {word: _n_rows(study.place(word)) for word in (*conversation_words(study), *mix_words(study))}
    return {word: count for word, count in counts.items() if count is not None}


def _n_rows(word: str) -> int | None:
    from evalsuite.conversations.files import find_files, parquet_schema
    from evalsuite.conversations.source import CHAT_SUITES, open_source

    if word in CHAT_SUITES:
        return open_source(word).n_rows if _suite_is_here(word) else None
    path = Path(word).expanduser()
    if not path.exists():
        return None
    files = find_files(path)
    if files[0].suffix == ".parquet":
        return sum(parquet_schema(files)[1])
    if files[0].suffix == ".json":
        return sum(len(read_json(file)) for file in files)
    # Lines are counted without being parsed: a source may be many gigabytes, and the plan should not take minutes.
    return sum(_n_lines(file) for file in files)


def _n_lines(file: Path) -> int:
    try:
        with file.open("rb") as lines:
            return sum(bool(line.strip()) for line in lines)
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}") from error


def _model_identity(word: str, fetch: bool, on_step: Callable[[str], None]) -> str:
    """Weights and config, and what a model is asked with, which decides the answers too."""
    if (elsewhere := _not_a_folder(word, fetch)) is not None:
        return elsewhere
    model = resolve(word, on_step=on_step)
    asked_with = {
        "tokenizer": model.tokenizer_sha256,
        "chat_template": model.chat_template_sha256,
        "generation_config": generation_config(model),
    }
    return f"{model.fingerprint}{WEIGHTS_AND_WORDS}{content_key(asked_with)}"


def _not_a_folder(word: str, fetch: bool) -> str | None:
    """The identity of a model that is not here yet or is the hub's, None for one whose files are read."""
    if word == "demo" and not Path(word).exists() and not fetch and not any(demo_folder().glob("*.safetensors")):
        return UNRESOLVED + word
    if _HUB_ID.fullmatch(word) and not Path(word).expanduser().exists() and not word.startswith(("./", "../")):
        return _hub_identity(word, _cached_models(word), "model", fetch)
    return None


def _template_identity(word: str, fetch: bool, on_step: Callable[[str], None]) -> str:
    """A template is known by its content, be it in a file or taken from a model; one of the hub by its revision."""
    file = Path(word).expanduser()
    if file.is_file():
        return file_sha256(file)
    if file.suffix in {".jinja", ".j2"}:
        raise UsageError(f"there is no chat template {word}; give a Jinja file or a model whose template to take")
    if (elsewhere := _not_a_folder(word, fetch)) is not None:
        return elsewhere
    template = resolve(word, on_step=on_step).chat_template
    if template is None:
        raise UsageError(
            f"{word} has no chat template to train with; name a Jinja file, or a model that has one, as chat_template "
            "under sft"
        )
    return text_sha256(template)


def _tokenizer_identity(word: str, fetch: bool, _: Callable[[str], None]) -> str:
    if (elsewhere := _not_a_folder(word, fetch)) is not None:
        return elsewhere
    if word != "demo" and not Path(word).expanduser().is_dir():
        raise UsageError(f"there is no tokenizer {word!r}; name a folder, a hub id org/name or demo as mix.tokenizer")
    from evalsuite.mix.rows import tokenizer_sha256

    return tokenizer_sha256(word)


def _source_identity(word: str, fetch: bool, _: Callable[[str], None]) -> str:
    match = _HUB_DATA.fullmatch(word)
    if match and not Path(word).expanduser().exists() and not word.startswith(("./", "../")):
        cached = (snapshot.name for _, _, snapshot in snapshots_of(match["repo"]))
        return _hub_identity(match["repo"], cached, "dataset", fetch) + match["rest"]
    from evalsuite.conversations.source import CHAT_SUITES, open_source

    if word in CHAT_SUITES and not fetch and not _suite_is_here(word):
        return UNRESOLVED + word
    return open_source(word).fingerprint


def _suite_is_here(suite: str) -> bool:
    """Whether all of a suite's data are on this machine, so that opening it fetches nothing."""
    from evalsuite.assets import list_assets

    return all(row["state"].startswith("found") for row in list_assets([suite]))


def _cached_models(repo: str) -> Iterable[str]:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repo, "config.json")
    return [Path(config).parent.name] if isinstance(config, str) else []


def _hub_identity(repo: str, cached: Iterable[str], kind: str, fetch: bool) -> str:
    """The revision in use: that of the local snapshot, which is what would be read, else the hub's present one."""
    revision = next(iter(cached), None)
    if revision is None and fetch and not no_hub():
        from huggingface_hub import HfApi

        try:
            info = HfApi().repo_info(repo, repo_type=kind, timeout=_TIMEOUT_S)
        except Exception as error:  # the client raises its transport's errors as they are; all mean: not to be had
            raise UsageError(
                f"cannot find {repo} on the hub ({one_line(error)}); check the id and your access, or give a folder"
            ) from error
        revision = info.sha
    return f"{repo}@{revision}" if revision else UNRESOLVED + repo
