"""Serving models with vLLM, and the client for all requests to a server."""
