"""``evalsuite watch``: a training run's checkpoints, evaluated as they are finished."""
