"""The LLM-judge system: templates, parsing and statistics. Pure: no network, no server, no run state."""
