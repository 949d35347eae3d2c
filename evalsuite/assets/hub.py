"""Asking the hub: which files a data set has, one of them, or all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from evalsuite.assets.locations import Absent, download_hub_cache, no_hub, why_no_hub

_PROBE_TIMEOUT_S = 10.0


def one_line(error: BaseException) -> str:
    """Return an error's first line that says something, bounded in length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the hub client's bars off the terminal, which has a progress line of its own."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def files_on_hub(repo: str) -> list[str]:
    """Return the names of a data set's files; raises Absent with the reason when the hub does not give them."""
    if no_hub():
        raise Absent(why_no_hub())
    from huggingface_hub import HfApi

    try:
        # Of all the hub's calls this one takes a timeout and does not retry for half a minute.
        info = HfApi().dataset_info(repo, timeout=_PROBE_TIMEOUT_S)
    except Exception as error:  # the client raises its transport's errors as they are; all mean: not to be had
        raise Absent(one_line(error)) from error
    return [file.rfilename for file in info.siblings or []]


def why_not_on_hub(repo: str) -> str | None:
    """Return why the user cannot read the data set on the hub, or None; nothing is downloaded."""
    try:
        files_on_hub(repo)
        from huggingface_hub import auth_check

        auth_check(repo, repo_type="dataset")
    except Absent as absent:
        return str(absent)
    except Exception as error:  # as above; a gated data set without access comes here
        return one_line(error)
    return None


def fetch_files(repo: str, pattern: str) -> list[Path]:
    """Download the files of a data set that match ``pattern``, in the order of their names; raises Absent."""
    names = sorted(name for name in files_on_hub(repo) if fnmatchcase(name, pattern))
    if not names:
        raise Absent(f"{repo} has no file {pattern}")
    from huggingface_hub import hf_hub_download

    try:
        with _quiet():
            cache = download_hub_cache()
            return [Path(hf_hub_download(repo, name, repo_type="dataset", cache_dir=cache)) for name in names]
    except Exception as error:  # as above
        raise Absent(one_line(error)) from error


def fetch_snapshot(repo: str) -> Path:
    """Download a whole data set and return its snapshot folder; raises Absent."""
    files_on_hub(repo)
    from huggingface_hub import snapshot_download

    try:
        with _quiet():
            return Path(snapshot_download(repo, repo_type="dataset", cache_dir=download_hub_cache()))
    except Exception as error:  # as above
        raise Absent(one_line(error)) from error
