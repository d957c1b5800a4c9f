"""Names of files as people can be shown them: they hold any bytes, and nothing of them may vanish or deceive."""

from __future__ import annotations

import re
from typing import Any

_UNSEEN = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters, among them newlines
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the direction of text, and so what a name seems to be
    "\u2028\u2029\ufeff"  # line separators, and what has no width
    "\ud800-\udfff"  # surrogates: bytes that are not text, as Python decodes them, or halves of characters
    "\ufffe\uffff"  # no characters
    "]"
)


def printable(text: str) -> str:
    """`text` on one line: control characters, line breaks and undecodable bytes shown as escapes, never sent raw.

    For terminals and figures, where any character that is not sure to be drawn is an escape; pages draw more of them.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shown(name: str) -> str:
    r"""A name for a page: what cannot be seen, or is not text, as escapes: ``a\xff.jpg``, ``a\n.jpg``, ``\u202e``."""
    return _UNSEEN.sub(_escaped, name)


def shown_all(value: Any) -> Any:
    """A JSON value in which every string, and every key, is as `shown`."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {shown(str(key)): shown_all(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [shown_all(entry) for entry in value]
    return value


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if "\udc80" <= character <= "\udcff":  # PEP 383: the byte is the low one
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
