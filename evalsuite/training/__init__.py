"""``evalsuite sft``: train a checkpoint from a recipe."""
