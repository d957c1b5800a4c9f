"""What the formats have in common, seen from the one loop over the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .source import Source

Write = Callable[[], object]


class Writer(Protocol):
    """Takes the images one after another."""

    def prepare(self, source: Source) -> Write:
        """Do all that can fail for this image alone, and return what adds it to the files that images share.

        Raises
        ------
        ImageError
            If the image does not fit the format.
        OSError
            If a file of its own cannot be written.
        """


Fill = Callable[[Writer], None]
"""Has a writer, whose files are open, take all images."""
