"""A job is one image and the place of its results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ..config import Product

EXTENSIONS: dict[Product, str] = {
    "labels": ".png",
    "color": ".png",
    "overlay": ".png",
    "regions": ".png",
    "hierarchy": ".png",
    "recording": ".webp",
    "stats": ".json",
}
MANY_REGIONS = ".tif"
"""Extension of a map of more regions than 16 bits can number."""

SCRIBBLES = ".png"
"""Extension of what is drawn on images."""


class Job(NamedTuple):
    """`path` is the image file; `name` is where its results go below each product's folder, without extension.

    The name is text, not a path: the stem of ``..jpg`` is ``.``, which a path would swallow. The rest is as small and
    as quickly made as can be: a folder may hold a million images.
    """

    path: str
    name: str

    @property
    def source(self) -> Path:
        """The image file."""
        return Path(self.path)

    @property
    def file_name(self) -> str:
        """The image file's path below its input: ``sub/cat.jpg``."""
        folder, slash, _ = self.name.rpartition("/")
        return folder + slash + os.path.basename(self.path)  # noqa: PTH119 - text, as the name

    def result(self, output: Path, product: Product) -> Path:
        """The file that a product of this job is written to: ``OUT/labels/sub/cat.png``."""
        return output / product / (self.name + EXTENSIONS[product])

    def many_regions(self, output: Path) -> Path:
        """The file that takes the place of ``result(output, "regions")`` where there are too many for it."""
        return output / "regions" / (self.name + MANY_REGIONS)

    def scribbles(self, folder: Path) -> Path:
        """The file in which a user may have drawn on the image: ``DIR/sub/cat.png``."""
        return folder / (self.name + SCRIBBLES)

    def has(self, output: Path, product: Product) -> bool:
        """Whether there is a file of a product."""
        return self.result(output, product).is_file() or (product == "regions" and self.many_regions(output).is_file())
