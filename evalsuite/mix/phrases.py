"""Phrases by which answers are recognised that a model should not learn from; recipes add their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

PHRASES: Mapping[str, Sequence[str]] = {
    "refusal": (
        "I cannot assist with",
        "I can't assist with",
        "I cannot help with that",
        "I can't help with that",
        "I'm unable to help with",
        "I am unable to help with",
        "I cannot fulfill",
        "I can't fulfill",
        "I cannot provide assistance",
        "I'm sorry, but I can",
        "I am sorry, but I can",
        "I must decline",
        "I won't be able to help",
    ),
    "identity": (
        "as an AI",
        "as a language model",
        "as a large language model",
        "I am a large language model",
        "I'm a large language model",
        "I am an AI",
        "I'm an AI",
        "developed by OpenAI",
        "created by OpenAI",
        "trained by OpenAI",
        "created by Anthropic",
        "made by Anthropic",
        "trained by Google",
        "developed by Google",
        "created by Alibaba Cloud",
        "developed by DeepSeek",
        "created by Meta AI",
        "my name is ChatGPT",
        "I am ChatGPT",
        "I'm ChatGPT",
        "I am Claude",
        "I'm Claude",
        "I am Qwen",
    ),
    "date": (
        "my knowledge cutoff",
        "my knowledge cut-off",
        "as of my last update",
        "as of my last training",
        "my training data only",
        "my training data goes up to",
        "I don't have access to real-time",
        "I do not have access to real-time",
        "I don't have real-time",
    ),
}
