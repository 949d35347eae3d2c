"""Words of any script, for comparing texts; pure."""

from __future__ import annotations

import re
import unicodedata

from judges.types import Message

# Scripts without spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han.
UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_TOKEN = re.compile(f"[{UNSPACED}]|[^\\s{UNSPACED}]+")


def plain(text: str) -> str:
    """Return a text with case, white space and composed marks normalised, for comparison.

    Characters that only look similar stay different: 2³ is not 23.
    """
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def tokens_of(text: str) -> list[str]:
    """Split a plain text at white space, and where words are not separated by spaces into single characters.

    >>> tokens_of("two words, 河流 and สวัส")
    ['two', 'words,', '河', '流', 'and', 'ส', 'ว', 'ั', 'ส']
    """
    return _TOKEN.findall(text)


def texts_of(message: Message) -> list[str]:
    """Return all texts of a message: content, thought and tool calls."""
    further = [message.thought or "", *(f"{call.name} {call.arguments}" for call in message.tool_calls)]
    return [message.content, *(text for text in further if text)]
