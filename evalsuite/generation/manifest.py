"""``_manifest.json``: the settings, progress and costs of a folder of shards; updated at every step.

It exists from the start (``complete`` false), so that a killed run can resume with its costs. A kill
loses the costs of the last seconds, but no answer.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalsuite.conversations.source import Rows
from evalsuite.errors import DataError, UsageError, refuse_newer
from evalsuite.files import read_json, timestamp, write_json
from evalsuite.fingerprint import file_sha256, text_sha256
from evalsuite.generation.feed import Mark
from evalsuite.generation.pace import Stretch, joined
from evalsuite.generation.settings import GenerateConfig
from evalsuite.generation.shards import ShardFile, file_name
from evalsuite.results.environment import environment

SCHEMA = 1
_GIB = 2**30
_FILES = re.compile(
    r"part-(?:(?P<shard>\d+of\d+)-)?\d{5,}\.parquet|_(?:manifest|config|unfinished|server)(?:-(?P<other>\d+of\d+))?(?:\.json|\.yaml|\.log)?"
)
_SETTINGS = {
    "policy", "max_new_tokens", "temperature", "top_p", "seed", "language", "limit", "shard_size", "samples", "logprobs"
}  # fmt: skip
_ADDED = {"samples": 1}
"""Settings that older manifests lack, with the value that they had."""
_GROWING = ("source", "limit", "shard_size", "samples")
"""Settings that may change with the answers kept."""
_NAMES = {
    "source": "prompts",
    "max_new_tokens": "--max-new-tokens",
    "shard_size": "--shard-size",
}


def manifest_name(part: str) -> str:
    return f"_manifest-{part}.json" if part else "_manifest.json"


def part_of_manifest(path: Path) -> str:
    """Return the part in a manifest's name, such as "1of4"; "" for the whole."""
    return path.stem.removeprefix("_manifest").removeprefix("-")


def _recorded(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest's settings as they are recorded now."""
    settings = _ADDED | manifest.get("settings", {})
    # The number of machines is in the names of the files, and decides no answer.
    return {key: value for key, value in settings.items() if key != "machines"}


def manifests_in(folder: Path) -> list[Path]:
    """List the manifests of a folder of shards, one per machine."""
    return sorted(folder.glob("_manifest*.json"))


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest; raises DataError if it is not one of this schema."""
    document = read_json(path)
    if isinstance(document, dict):
        refuse_newer(path, document.get("schema"), SCHEMA)
    if (
        not isinstance(document, dict)
        or document.get("schema") != SCHEMA
        or document.get("kind") != "generate"
        or not isinstance(document.get("settings"), dict)
        or not isinstance(document.get("shards"), list)
    ):
        raise DataError(f"{path} is not a manifest of schema {SCHEMA}; give another --out, or pass --fresh")
    return document


def served_name_in(folder: Path, part: str) -> str | None:
    """Return the recorded name of the --base-url server that gave a folder's answers, or None."""
    path = folder / manifest_name(part)
    model = read_manifest(path)["settings"].get("model") if path.is_file() else None
    name = model.get("attached") if isinstance(model, dict) else None
    return name if isinstance(name, str) else None


def settings_of(config: GenerateConfig, rows: Rows, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that determine the shards' content; ``identity`` is the model's (``answer_identity``)."""
    return {
        "model": dict(identity),
        "source": rows.fingerprint,
        **config.model_dump(include=_SETTINGS),
        "system": None if config.system is None else text_sha256(config.system),
    }


def has_grown(folder: Path, part: str, settings: Mapping[str, Any]) -> bool:
    """Return whether a machine's shards are of other settings under which their answers stay.

    Raises UsageError, naming them, if shards in ``folder`` (of any machine) have other settings that exclude that: a
    smaller limit or number of samples among them. Another machine's part grows when its command is run again.
    """
    grown = False
    for path in manifests_in(folder):
        other = part_of_manifest(path)
        if other.partition("of")[2] != part.partition("of")[2]:
            split = f"--shard {other.replace('of', '/')}" if other else "no --shard"
            raise UsageError(f"{folder} contains answers with {split}; give another --out, or --fresh")
        own = other == part
        old = _recorded(read_manifest(path))
        differing = [key for key in settings if old.get(key) != settings[key]]
        growing = [key for key in differing if key in _GROWING and (not own or _grows(key, old[key], settings[key]))]
        grown |= own and bool(growing)
        if differing == growing:
            continue
        differing = [key for key in differing if key not in growing]
        changes = []
        for key in differing:
            before, now = old.get(key), settings[key]
            name = _NAMES.get(key, key)
            short = all(isinstance(value, str | int | float | None) and len(str(value)) < 24 for value in (before, now))
            changes.append(f"{name} {before} (now {now})" if short else f"another {name}")
        raise UsageError(
            f"{folder} contains answers with {', '.join(changes)}; give another --out, or --fresh to move them aside"
        )
    return grown


def _grows(key: str, before: Any, now: Any) -> bool:
    if key in ("limit", "samples"):
        return now is None or (before is not None and now > before)
    return True


def move_answers_aside(folder: Path, part: str, settings: Mapping[str, Any]) -> None:
    """Move a machine's earlier files, and those of other settings, to the hidden ``.replaced/<time>/``.

    Files of other machines with the current settings are kept; each of them can start fresh separately.
    """
    moved = []
    for path in manifests_in(folder):
        other = part_of_manifest(path)
        is_split_alike = other.partition("of")[2] == part.partition("of")[2]
        if other == part or not is_split_alike or _recorded(read_json(path)) != settings:
            moved += [file for file in folder.iterdir() if _part_of(file.name) == other]
    if moved:
        target = folder / ".replaced" / timestamp()
        target.mkdir(parents=True)
        for file in moved:
            file.rename(target / file.name)


def _part_of(name: str) -> str | None:
    """Return the part in the name of an output file ("" without one), None for other files."""
    match = _FILES.fullmatch(name)
    return None if match is None else match["shard"] or match["other"] or ""


def delete_empty(folder: Path, part: str, settings: Mapping[str, Any]) -> None:
    """Delete what a call without any request left, such as one with a mistyped language, if settings differ."""
    path = folder / manifest_name(part)
    if not path.is_file():
        return
    old = read_manifest(path)
    if _recorded(old) != settings and not old["shards"] and not old["costs"]["usage"].get("requests"):
        path.unlink()
        shutil.rmtree(unfinished_folder(folder, part), ignore_errors=True)


def unfinished_folder(folder: Path, part: str) -> Path:
    return folder / f"_unfinished{f'-{part}' if part else ''}"


def verified_shards(folder: Path, manifest: Mapping[str, Any], part: str) -> tuple[dict[int, ShardFile], list[str]]:
    """Return the shards that match the manifest, and the names of those that do not."""
    good: dict[int, ShardFile] = {}
    bad = []
    for entry in manifest["shards"]:
        try:
            shard = ShardFile(**{**entry, "mark": Mark(**entry["mark"])})
            path = folder / shard.file
        except (TypeError, KeyError) as error:
            raise DataError(
                f"the manifest in {folder} lists an invalid shard ({error}); give another --out, or --fresh"
            ) from error
        if shard.file == file_name(shard.number, part) and path.is_file() and file_sha256(path) == shard.sha256:
            good[shard.number] = shard
        else:
            bad.append(shard.file)
    return good, bad


@dataclass(slots=True)
class Costs:
    """The costs over all calls so far: seconds, server usage, peak memory, server starts."""

    seconds: dict[str, float] = field(default_factory=lambda: {"serve": 0.0, "generate": 0.0})
    usage: dict[str, int] = field(default_factory=dict)
    peak_bytes: int | None = None
    peak_of: str = ""
    calls: int = 0
    starts: int = 0
    restarts: int = 0
    stretches: list[list[float]] = field(default_factory=list)
    """Of the speed after each call's warm-up, at most 32 (``pace``)."""

    def plus(
        self,
        *,
        serve: float,
        generate: float,
        usage: Mapping[str, int],
        peak: int | None,
        of: str,
        restarts: int,
        stretches: Sequence[Stretch],
    ) -> Costs:
        """Return the costs with those of this call added."""
        peaks = [value for value in (self.peak_bytes, peak) if value is not None]
        return Costs(
            seconds={
                "serve": round(self.seconds["serve"] + serve, 3),
                "generate": round(self.seconds["generate"] + generate, 3),
            },
            usage={key: self.usage.get(key, 0) + value for key, value in usage.items()},
            peak_bytes=max(peaks, default=None),
            peak_of=of,
            calls=self.calls + 1,
            starts=self.starts + (restarts + 1 if serve else 0),
            restarts=self.restarts + restarts,
            stretches=[[*each] for each in joined([*self.stretches, *stretches])],
        )


def counts_of(shards: Mapping[int, ShardFile], mark: Mark) -> dict[str, Any]:
    """Sum over the shards: conversations, answers, failures by reason, and source rows that were left out."""
    return {
        "conversations": sum(shard.conversations for shard in shards.values()),
        "rows_unscored": sum(shard.rows_unscored for shard in shards.values()),
        "answers": sum(shard.answers for shard in shards.values()),
        "unscored": _added([shard.unscored for shard in shards.values()]),
        "finish_reasons": _added([shard.finish_reasons for shard in shards.values()]),
        "left_out": {"duplicate": mark.duplicates, "other_language": mark.other_language},
    }


def _added(counts: list[Mapping[str, int]]) -> dict[str, int]:
    keys = sorted({key for count in counts for key in count})
    return {key: sum(count.get(key, 0) for count in counts) for key in keys}


class ManifestFile:
    """The manifest of one machine's part of one model."""

    def __init__(self, folder: Path, part: str, about: Mapping[str, Any]) -> None:
        """``about`` is the constant part: model, settings, source, arguments."""
        self.path = folder / manifest_name(part)
        self._about = {"schema": SCHEMA, "kind": "generate", **environment(), **about}

    def write(
        self, shards: Mapping[int, ShardFile], mark: Mark, costs: Costs, told: Mapping[str, Any], *, complete: bool
    ) -> dict[str, Any]:
        """Write and return the manifest; ``told`` is what an external server told of itself, under "server"."""
        document: dict[str, Any] = {
            **self._about,
            "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "complete": complete,
            "counts": counts_of(shards, mark),
            "tokens": {
                "prompt": sum(shard.prompt_tokens for shard in shards.values()),
                "completion": sum(shard.completion_tokens for shard in shards.values()),
                "thought": sum(shard.thought_tokens for shard in shards.values()),
                "cached": costs.usage.get("cached_tokens", 0),
            },
            "seconds": costs.seconds,
            "peak_memory": {
                "gib": None if costs.peak_bytes is None else round(costs.peak_bytes / _GIB, 3),
                "what": costs.peak_of,
            },
            "costs": asdict(costs),
            **told,
            "shards": [asdict(shards[number]) for number in sorted(shards)],
        }
        write_json(self.path, document)
        return document
