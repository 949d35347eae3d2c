"""Whether transformers loads the base of a training with every weight, found out before anything is tokenised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.errors import CheckpointError, first_line

_TRUST = "trust_remote_code"


def check_base(base: Checkpoint, method: str) -> None:
    """Raise CheckpointError unless the base loads whole; reads the headers of its weights, not the weights.

    What is missing would be newly initialised, at random.
    """
    assert base.path is not None
    quantised = (base.config or {}).get("quantization_config")
    if quantised and method == "full":
        kind = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else "unknown"
        raise CheckpointError(
            f"the base {base.name} is quantised ({kind}), and quantised weights cannot be trained; give the model in "
            "full precision"
        )
    found = _load_headers(base.path, trust_remote_code=base.trust_remote_code, name=base.name)
    for kind, said in (("missing_keys", "lacks"), ("mismatched_keys", "has another shape of")):
        if names := sorted(str(key[0] if isinstance(key, tuple) else key) for key in found.get(kind) or ()):
            raise CheckpointError(
                f"the base {base.name} {said} {len(names)} weights of its architecture ({', '.join(names[:3])}); "
                "save it again, config and weights together"
            )


def _load_headers(folder: Path, *, trust_remote_code: bool, name: str) -> dict[str, Any]:
    """Load a model without its values and return what transformers reports of its weights."""
    from transformers import AutoModelForCausalLM

    try:
        with _quiet():
            _, found = AutoModelForCausalLM.from_pretrained(
                folder, device_map="meta", output_loading_info=True, trust_remote_code=trust_remote_code
            )
    except Exception as error:  # a model of others: its classes and packages raise anything
        if _TRUST in str(error):
            said, remedy = "brings its own code", "if you trust it, pass --trust-remote-code"
        elif isinstance(error, ImportError):
            said, remedy = f"needs a package ({first_line(error)})", "install it, or give the model in full precision"
        else:
            said, remedy = f"cannot be loaded by transformers ({first_line(error)})", "save it again, or give another"
        raise CheckpointError(f"the base {name} {said}; {remedy}") from error
    return dict(found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' report of a load off the terminal: what counts of it is an error here."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
