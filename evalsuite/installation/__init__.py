"""Installing what serves a checkpoint into the running environment: ``evalsuite setup``."""
