"""Arena-Hard."""
