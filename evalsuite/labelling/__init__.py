"""``evalsuite label``: a page on which people judge some pairs of a comparison."""
