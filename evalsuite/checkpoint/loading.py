"""What transformers finds when it loads a checkpoint: from the headers of its weights, not the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalsuite.checkpoint.json_files import read_config
from evalsuite.checkpoint.tensors import generators_in

_FAULTS = {"missing_keys": "lacks", "mismatched_keys": "has another shape of"}


def model_class(folder: Path) -> Any:
    """Return the class of transformers that loads a checkpoint: the one its config names, if it generates text.

    ``AutoModelForCausalLM`` knows few models that also read images, and loads some of them without the encoders. It is
    returned for classes that transformers does not have or that are another model type's, and for a checkpoint's own
    code.
    """
    import transformers

    config = read_config(folder / "config.json")
    for name in () if "auto_map" in config else generators_in(config):
        found = getattr(transformers, name, None)
        is_its = getattr(getattr(found, "config_class", None), "model_type", None) == config.get("model_type")
        if is_its and isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    return transformers.AutoModelForCausalLM


def unfilled_weights(folder: Path, *, trust_remote_code: bool = False) -> str | None:
    """Say which weights of its architecture a checkpoint does not fill, None where it fills all.

    transformers would initialise them at random. Raises whatever it raises for a model that it cannot load.
    """
    with _quiet():
        _, found = model_class(folder).from_pretrained(
            folder, device_map="meta", output_loading_info=True, trust_remote_code=trust_remote_code
        )
    for kind, said in _FAULTS.items():
        if names := sorted(str(key[0] if isinstance(key, tuple) else key) for key in found.get(kind) or ()):
            return f"{said} {len(names)} weights of its architecture ({', '.join(names[:3])})"
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' report of a load off the terminal: what counts of it is returned."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
