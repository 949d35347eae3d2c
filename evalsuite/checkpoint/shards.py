"""Which files of a folder are its weights: safetensors, their index, pickled files, and what is not merged yet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from evalsuite.checkpoint.json_files import read_config
from evalsuite.errors import CheckpointError

_INDEX = "model.safetensors.index.json"
_NUMBERED = re.compile(r"(.+)-(\d{1,6})-of-(\d{1,6})\.(safetensors|bin)")
_MAX_SHARDS = 10_000
# What trainers leave beside the weights, in the same file formats.
_NOT_WEIGHTS = re.compile(
    r"(?:optimizer|scheduler|rng_state|random_states|training_args|scaler|trainer_state|sampler|dl_state)"
    r"|.*(?:_optim_states|_model_states)\.pt$"
)
_MERGED = "and give that folder, with the config and tokenizer files in it"


def weight_map(folder: Path, index: str = _INDEX) -> Mapping[str, str] | None:
    """Return the file of each tensor that the index lists, None without an index; raises CheckpointError."""
    path = folder / index
    if not path.is_file():
        return None
    listed = read_config(path).get("weight_map")
    if listed is None or listed == {}:
        raise CheckpointError(f"{path} has no weight_map; copy the index again")
    names = listed.values() if isinstance(listed, dict) else [None]
    if not all(isinstance(name, str) and name not in ("", "..") and Path(name).name == name for name in names):
        raise CheckpointError(f"weight_map in {path} does not name files of the folder; copy the index again")
    return listed if isinstance(listed, dict) else None


def listed_shards(folder: Path) -> list[str] | None:
    """Return the names of the weight files that the index lists, None without an index."""
    listed = weight_map(folder)
    return None if listed is None else sorted(set(listed.values()))


def weight_files(folder: Path, *, allow_pickle: bool) -> list[Path]:
    """Return the files of the weights; raises CheckpointError where some are missing, unmerged or may run code."""
    if (shards := listed_shards(folder)) is not None:
        _require(folder, shards)
        return [folder / shard for shard in shards]
    if files := sorted(file for file in folder.glob("*.safetensors") if file.is_file()):
        if has_second_copy(folder):
            raise CheckpointError(
                f"{folder} has weights of two formats and no index ({files[0].name}, {files[-1].name}); vLLM would "
                "serve the consolidated one; move the files of one format out of the folder"
            )
        _require(folder, _numbered([file.name for file in files]))
        return files
    if said := unmerged(folder):
        raise CheckpointError(said)
    if not (pickles := pickled_weights(folder)):
        raise CheckpointError(f"{folder} has no weights (*.safetensors); give the folder that save_pretrained wrote")
    if not allow_pickle:
        raise CheckpointError(
            f"{folder} contains pickled weights ({pickles[0].name}), which can run code when loaded; "
            "save it as safetensors, or pass --allow-pickle if you trust it"
        )
    listed = weight_map(folder, "pytorch_model.bin.index.json") or {}
    _require(folder, sorted(set(listed.values())) if listed else _numbered([file.name for file in pickles]))
    return pickles


def has_second_copy(folder: Path) -> bool:
    """Whether weights in Mistral's own format are beside others, as in its repositories: vLLM would serve them."""
    are_mistrals = [file.name.startswith("consolidated") for file in folder.glob("*.safetensors")]
    return any(are_mistrals) and not all(are_mistrals)


def pickled_weights(folder: Path) -> list[Path]:
    """Return the pickled weights of a folder, without the states of optimizers, schedulers and random numbers."""
    for patterns in (("pytorch_model*.bin",), ("*.pt", "*.pth")):
        found = [file for pattern in patterns for file in folder.glob(pattern) if file.is_file()]
        if files := sorted(file for file in found if not _NOT_WEIGHTS.match(file.name)):
            return files
    return []


def unmerged(folder: Path) -> str | None:
    """Say how to merge weights that sharded training left in pieces, None where there are none."""
    steps = sorted(entry.name for entry in folder.glob("global_step*") if entry.is_dir())
    if steps:
        return (
            f"{folder} contains its weights as DeepSpeed shards ({steps[-1]}/); merge them with `python "
            f"{folder}/zero_to_fp32.py {folder} MERGED --safe_serialization`, {_MERGED}"
        )
    fsdp = sorted(entry for entry in folder.glob("pytorch_model_fsdp_*") if entry.is_dir())
    if not fsdp and any(folder.glob("*.distcp")):
        fsdp = [folder]
    if fsdp:
        return (
            f"{folder} contains its weights as FSDP shards ({fsdp[0].name}/); merge them with "
            f"`accelerate merge-weights {fsdp[0]} MERGED`, {_MERGED}"
        )
    return None


def _require(folder: Path, names: list[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of {len(names)} shards ({', '.join(missing[:3])}); copy the rest"
        )


def _numbered(names: list[str]) -> list[str]:
    """Return all names of a series of which these are some: a-00001-of-00002.safetensors has a second."""
    whole: set[str] = set()
    for match in filter(None, (_NUMBERED.fullmatch(name) for name in names)):
        stem, digits, total, ending = match[1], len(match[2]), match[3], match[4]
        numbers = range(1, min(int(total), _MAX_SHARDS) + 1)
        whole |= {f"{stem}-{number:0{digits}}-of-{total}.{ending}" for number in numbers}
    return sorted(whole)
