"""``evalsuite sft``: from a recipe to a checkpoint."""
