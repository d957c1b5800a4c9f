"""A job is one image and the place of its results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..config import Product

EXTENSIONS: dict[Product, str] = {"labels": ".png", "color": ".png", "stats": ".json"}


@dataclass(frozen=True)
class Job:
    """`source` is the image file; `name` is where its results go below each product's folder, without extension.

    The name is text, not a path: the stem of ``..jpg`` is ``.``, which a path would swallow.
    """

    source: Path
    name: str

    def result(self, output: Path, product: Product) -> Path:
        """The file that a product of this job is written to: ``OUT/labels/sub/cat.png``."""
        return output / product / (self.name + EXTENSIONS[product])
