"""The categories of every format: the labels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Categories:
    """Label n is category n + 1: 0 is the background, or what is void, in all formats."""

    count: int
    """Labels of all images."""
    things: bool
    """Whether an image may have several segments of one category."""

    @property
    def names(self) -> list[str]:
        return [f"label {label}" for label in range(self.count)]
