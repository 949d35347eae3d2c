"""``evalsuite watch``: a training's checkpoints, evaluated as they are finished."""
