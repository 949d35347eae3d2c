"""Whether transformers loads the base of a training with every weight, found out before anything is tokenised."""

from __future__ import annotations

from evalsuite.checkpoint import Checkpoint
from evalsuite.checkpoint.loading import unfilled_weights
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
    try:
        found = unfilled_weights(base.path, trust_remote_code=base.trust_remote_code)
    except Exception as error:  # a model of others: its classes and packages raise anything
        if _TRUST in str(error):
            said, remedy = "brings its own code", "if you trust it, pass --trust-remote-code"
        elif isinstance(error, ImportError):
            said, remedy = f"needs a package ({first_line(error)})", "install it, or give the model in full precision"
        else:
            said, remedy = f"cannot be loaded by transformers ({first_line(error)})", "save it again, or give another"
        raise CheckpointError(f"the base {base.name} {said}; {remedy}") from error
    if found:
        raise CheckpointError(f"the base {base.name} {found}; save it again, config and weights together")
