"""evalsuite: evaluate checkpoints on a real vLLM, judge them, and believe the figures."""
