"""The filters of a source, compiled: why a row is left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from evalsuite.conversations.formats import COMPLETE, Conversation
from evalsuite.conversations.languages import language_code, language_detector
from evalsuite.conversations.words import plain, texts_of, tokens_of
from evalsuite.errors import UsageError
from evalsuite.mix.phrases import PHRASES
from evalsuite.mix.tokens import TokenCount
from evalsuite.recipes.recipe import Condition, Filters

_LOOP_NGRAM = 5


class RowFilter:
    """Decides by a recipe's filters whether a row is drawn; the first rule that it fails is its reason."""

    def __init__(self, filters: Filters, count_tokens: TokenCount | None) -> None:
        """Raise UsageError for a pattern that is not a regular expression of RE2, or without the language library."""
        self._filters = filters
        self._count_tokens = count_tokens
        self._languages = None if filters.language is None else {language_code(name) for name in filters.language}
        detects = filters.language_by == "detection" and self._languages is not None
        self._detect: Callable[[str], str | None] | None = language_detector() if detects else None
        phrases = {rule: [*PHRASES[rule], *extra] for rule, extra in filters.phrases.items() if extra is not None}
        self._phrases = {rule: _pattern(map(re.escape, words)) for rule, words in phrases.items() if words}
        self._patterns = {name: _pattern([given]) for name, given in filters.patterns.items()}
        for pattern in self._patterns.values():
            _contains("", pattern)

    def failed_rule(self, row: Mapping[str, Any], conversation: Conversation) -> str | None:
        """Return the name of the first rule that a row fails, None if it passes all; pure.

        In addition to the recipe's filters, a conversation must end with an answer: "no_answer" if it has
        none, "ends_with_user" if the last one is missing.
        """
        messages = conversation.messages
        if messages[-1].role != "assistant":
            return "ends_with_user" if any(message.role == "assistant" for message in messages) else "no_answer"
        filters = self._filters
        for column, condition in filters.where.items():
            if not holds(row.get(column), condition):
                return f"where_{column}"
        if self._fails_finish_reason(conversation):
            return "finish_reason"
        turns = sum(message.role == "user" for message in messages)
        chars = sum(len(text) for message in messages for text in texts_of(message))
        for rule, value in (("turns", turns), ("chars", chars)):
            minimum, maximum = getattr(filters, f"min_{rule}"), getattr(filters, f"max_{rule}")
            if minimum is not None and value < minimum:
                return f"min_{rule}"
            if maximum is not None and value > maximum:
                return f"max_{rule}"
        return self._failed_by_text(conversation) or self._failed_by_tokens(conversation)

    def _fails_finish_reason(self, conversation: Conversation) -> bool:
        if self._filters.finish_reason == "any":
            return False
        complete = COMPLETE if self._filters.finish_reason is None else self._filters.finish_reason
        ends = zip(conversation.messages, conversation.finish_reasons, strict=True)
        return any(end not in complete for message, end in ends if message.role == "assistant")

    def _failed_by_text(self, conversation: Conversation) -> str | None:
        texts = [text for message in conversation.messages for text in texts_of(message)]
        if self._languages is not None:
            language = conversation.language and language_code(conversation.language)
            if self._detect is not None:
                language = self._detect("\n".join(texts))
            if (language or "") not in self._languages:
                return "language"
        for name, pattern in self._patterns.items():
            if any(_contains(text, pattern) for text in texts):
                return f"pattern_{name}"
        answers = [message.content for message in conversation.messages if message.role == "assistant"]
        for rule, pattern in self._phrases.items():
            if any(_contains(text, pattern) for text in answers):
                return rule
        most = self._filters.max_repetition
        if most is not None and any(repetition(text) > most for text in answers):
            return "max_repetition"
        return None

    def _failed_by_tokens(self, conversation: Conversation) -> str | None:
        most, count = self._filters.max_tokens, self._count_tokens
        if most is None or count is None:
            return None
        return "max_tokens" if count.least(conversation) > most or count(conversation) > most else None


def _pattern(parts: Any) -> str:
    return f"(?i)(?:{'|'.join(parts)})"


def _contains(text: str, pattern: str) -> bool:
    """Whether RE2, whose time is linear in the text, finds a pattern."""
    try:
        found = pc.match_substring_regex(pa.array([text.encode("utf-8", "replace").decode()]), pattern)
    except pa.ArrowInvalid as error:
        raise UsageError(f"the pattern {pattern!r} is not a regular expression of RE2 ({error}); correct it") from error
    return bool(found[0].as_py())


def holds(value: object, condition: Condition) -> bool:
    """Whether a column's value fulfils a condition; a value that cannot be compared does not."""
    if condition.null is not None and (value is None) != condition.null:
        return False
    if condition.one_of is not None and value not in condition.one_of:
        return False
    if condition.none_of is not None and value in condition.none_of:
        return False
    if condition.min is None and condition.max is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low = condition.min is None or value >= condition.min
    return low and (condition.max is None or value <= condition.max)


def repetition(text: str) -> float:
    """Return the share of a text's word 5-grams that occurred in it before (0 to 1): near 1 for a loop."""
    words = tokens_of(plain(text))
    n_grams = len(words) - _LOOP_NGRAM + 1
    if n_grams <= 0:
        return 0.0
    return 1 - len({tuple(words[start : start + _LOOP_NGRAM]) for start in range(n_grams)}) / n_grams
