"""The published tables and figures of WILDCHAT-50M (arXiv 2501.18511), with own results for comparison."""
