"""``evalsuite plan``: how many items a wanted difference needs, before anything is asked."""
