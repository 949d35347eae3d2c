"""``evalsuite sft --merge``: write a LoRA adapter into its base's weights."""

from __future__ import annotations

from pathlib import Path

from evalsuite.checkpoint import Checkpoint, resolve
from evalsuite.errors import UsageError, first_line
from evalsuite.files import read_json, write_json
from evalsuite.fingerprint import text_sha256
from evalsuite.progress import NoProgress, Progress
from evalsuite.training.base import check_base
from evalsuite.training.checkpoint_out import (
    WORK,
    claim,
    is_finished,
    publish,
    write_companions,
    write_generation_config,
    write_tokenizer,
)
from evalsuite.training.loading import load_adapter, load_model, saved_dtype


def merge(
    spec: str,
    out: Path,
    *,
    fresh: bool = False,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write an adapter and its base as one checkpoint of full weights into ``out``, atomically.

    Raises UsageError if ``spec`` is not an adapter or ``out`` holds anything else, CheckpointError if it cannot load.
    """
    progress = progress or NoProgress()
    checkpoint = resolve(spec, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code, on_step=progress.step)
    if checkpoint.adapter is None or checkpoint.path is None:
        raise UsageError(f"{spec} is not a LoRA adapter; --merge takes the folder of one")
    out, given = out.resolve(), out
    identity = text_sha256(f"merged {checkpoint.fingerprint}")
    if is_finished(out) and not fresh and read_json(out / "training.json").get("identity") == identity:
        progress.log(f"{given} already contains this checkpoint; nothing to do (--fresh writes it again)")
        return given
    check_base(checkpoint, "lora", merges=True)
    claim(out, identity, fresh=fresh)
    progress.step("merging the adapter")
    finished = out / WORK / "finished"
    finished.mkdir(parents=True, exist_ok=True)
    _write_merged(checkpoint, finished)
    document = {**(checkpoint.training or {}), "identity": identity, "merged_adapter": checkpoint.fingerprint}
    write_json(finished / "training.json", document)
    publish(finished, out)
    progress.step("")
    return given


def _write_merged(checkpoint: Checkpoint, folder: Path) -> None:
    base, adapter = checkpoint.path, checkpoint.adapter
    assert base is not None
    assert adapter is not None
    model = load_model(str(base), "eager", trust_remote_code=checkpoint.trust_remote_code)
    try:
        merged = load_adapter(model, adapter, trainable=False).merge_and_unload()
    except Exception as error:  # peft raises many types; all mean that the adapter does not fit its base
        raise UsageError(f"{adapter} cannot be merged into {base} ({first_line(error)}); save it again") from error
    merged.config.use_cache = True
    merged.to(saved_dtype(base)).save_pretrained(folder)
    tokenizer = checkpoint.tokenizer_folder or base
    write_tokenizer(tokenizer, folder, checkpoint.chat_template, None)
    write_companions(base, folder, code=checkpoint.trust_remote_code)
    write_generation_config(base, folder, None)
