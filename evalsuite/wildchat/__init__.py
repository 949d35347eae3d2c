"""The published tables and figures of WILDCHAT-50M (arXiv 2501.18511), with your results for comparison."""
