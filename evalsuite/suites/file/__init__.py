"""Benchmarks in a YAML file."""
