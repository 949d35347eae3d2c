"""WILDCHAT-50M's (arXiv 2501.18511) published tables and figures, and one's own beside them."""
