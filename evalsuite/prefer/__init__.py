"""``evalsuite prefer``: preference pairs from a comparison's verdicts."""
