"""Recipe files of ``evalsuite mix`` and ``evalsuite sft``, validated."""
