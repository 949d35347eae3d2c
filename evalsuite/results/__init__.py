"""A results folder: its documents, its records, and what comes in from other tools."""
