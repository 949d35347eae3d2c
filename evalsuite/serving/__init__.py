"""Serving: one vLLM process a model, one client for everything that asks it."""
