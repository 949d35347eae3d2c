"""Whether transformers loads the base of a training run with every weight, checked before anything is tokenised."""

from __future__ import annotations

from evalsuite.checkpoint import Checkpoint
from evalsuite.checkpoint.loading import unfilled_weights
from evalsuite.checkpoint.quantization import rounds_inputs
from evalsuite.doctor.weights import check_weights
from evalsuite.errors import CheckpointError, first_line

_TRUST = "trust_remote_code"


def check_base(base: Checkpoint, method: str, *, merges: bool = False) -> None:
    """Raise CheckpointError unless the base loads whole; reads the headers of its weights and some of their values.

    What is missing would be newly initialised, at random. ``merges``: an adapter is to be written into the base.
    """
    assert base.path is not None
    name = base.name if base.adapter is None else base.path.name
    if base.quantization is not None:
        reasons = {
            "an adapter cannot be merged into quantised weights": merges,
            "quantised weights cannot be trained": method == "full",
            "no gradient passes layers that round their inputs": rounds_inputs(base.config),
        }
        for why in (why for why, holds in reasons.items() if holds):
            raise CheckpointError(
                f"the base {name} is quantised ({base.quantization}), and {why}; give it in full precision"
            )
    for finding in check_weights(base):
        raise CheckpointError(f"the base {finding.sentence}")
    try:
        found = unfilled_weights(base.path, trust_remote_code=base.trust_remote_code)
    except Exception as error:  # a model of others: its classes and packages raise anything
        if _TRUST in str(error):
            said, remedy = "brings its own code", "if you trust it, pass --trust-remote-code"
        elif isinstance(error, ImportError):
            said, remedy = f"needs a package ({first_line(error)})", "install it, or give the model in full precision"
        elif "ignore_mismatched_sizes" in str(error):
            said, remedy = "has weights of another shape than its config says", "save config and weights together again"
        else:
            said, remedy = f"cannot be loaded by transformers ({first_line(error)})", "save it again, or give another"
        raise CheckpointError(f"the base {name} {said}; {remedy}") from error
    if found:
        raise CheckpointError(f"the base {name} {found}; save it again, config and weights together")
