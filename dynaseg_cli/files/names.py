"""Names of files for display: they hold any bytes, and no part may be invisible or misleading."""

from __future__ import annotations

import re
from typing import Any

_UNSEEN = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters and newlines
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # changes of the direction of text
    "\u2028\u2029\ufeff"  # line separators, and a space without width
    "\ud800-\udfff"  # surrogates: undecodable bytes, or halves of characters
    "\ufffe\uffff"  # not characters
    "]"
)


def printable(text: str) -> str:
    """`text` on one line, for terminals and figures: all characters that may not be drawn are escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shown(name: str) -> str:
    r"""A name for a page: invisible characters and undecodable bytes are escapes: ``a\xff.jpg``, ``a\n.jpg``."""

    def escaped(match: re.Match[str]) -> str:
        character = match[0]
        if "\udc80" <= character <= "\udcff":  # PEP 383: the byte is the low one
            return f"\\x{ord(character) - 0xDC00:02x}"
        return character.encode("unicode_escape").decode("ascii")

    return _UNSEEN.sub(escaped, name)


def shown_all(value: Any) -> Any:
    """A JSON value with every string and every key as `shown`."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {shown(str(key)): shown_all(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [shown_all(entry) for entry in value]
    return value
