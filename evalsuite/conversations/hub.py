"""Streaming a data set on the hub, from a local snapshot if there is one, else over the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from evalsuite.assets.hub_datasets import arrow_cache
from evalsuite.assets.locations import snapshots_of, why_offline
from evalsuite.errors import DataError, first_line

_BATCH_ROWS = 512


Split = tuple[tuple[str, ...], int | None, str, Callable[[], Any], Callable[[int], Iterator[dict[str, Any]]]]
"""One split of one config at one revision: what ``source.Rows`` has from ``columns`` to ``starting_at``."""


def hub_source(repo: str, config: str | None, split: str | None) -> Split:
    """Open a data set from the mirror, the hub caches, or the hub at its latest revision.

    Without ``split`` it is "train", or the only one. Raises DataError with the reason for each location.
    """
    failures = []
    for _, location, snapshot in snapshots_of(repo):
        try:
            loaded = _load(repo, str(snapshot), config, split, cache_dir=str(arrow_cache(snapshot)))
            return _rows(repo, loaded, f"{repo}@{snapshot.name}")
        except DataError:
            raise
        except Exception as error:  # a partial or foreign snapshot fails in many ways; try the next location
            failures.append(f"{location} ({first_line(error)})")
    try:
        if reason := why_offline():
            raise DataError(reason)
        from huggingface_hub import HfApi

        revision = str(HfApi().dataset_info(repo, timeout=20).sha)
        return _rows(repo, _load(repo, repo, config, split, revision=revision), f"{repo}@{revision}")
    except Exception as error:  # the hub client raises many types; all mean that the data set is not available
        failures.append(f"the hub ({first_line(error)})")
        raise DataError(
            f"data set {repo}{f' ({config})' if config else ''} not found; looked in {'; '.join(failures)}; "
            "check its name, config and split, or set EVALSUITE_MIRROR to a folder with it"
        ) from error


def _load(repo: str, path: str, config: str | None, split: str | None, **options: Any) -> Any:
    import datasets

    loaded = datasets.load_dataset(path, config, streaming=True, **options)
    wanted = split or (next(iter(loaded)) if len(loaded) == 1 else "train")
    if wanted not in loaded:
        raise DataError(f"{repo} has the splits {', '.join(loaded)}, not {wanted!r}; give one as org/name:config@split")
    return loaded[wanted]


def _rows(repo: str, loaded: Any, revision: str) -> Split:
    info, split = loaded.info, str(loaded.split)
    if loaded.features is None:
        loaded = loaded._resolve_features()
    if loaded.features is None:
        raise DataError(f"{repo} has no rows in {split}; give another split")
    known = (info.splits or {}).get(split)
    as_arrow = loaded.with_format("arrow")

    def starting_at(start: int) -> Iterator[dict[str, Any]]:
        rows = as_arrow.skip(start) if start else as_arrow
        try:
            for table in rows.iter(batch_size=_BATCH_ROWS):
                yield from table.to_pylist()
        except Exception as error:  # damaged files and network errors surface as many types
            raise DataError(f"cannot read {repo} ({first_line(error)}); run the same command again") from error

    # datasets calls a config without a name "default".
    config = info.config_name or "default"
    schema = loaded.features.arrow_schema.remove_metadata()
    n_rows = known.num_examples or None if known is not None else None
    return tuple(loaded.features), n_rows, f"{revision}:{config}@{split}", lambda: schema, starting_at
