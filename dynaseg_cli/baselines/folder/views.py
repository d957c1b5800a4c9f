"""Two views of a photo: another light, another part. Maps of the whole are cut like the photo, so that places agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...resampling import resize
from .labels import interpolation

LEAST_SIDE = 0.5
"""Smallest share of the side of a square that a crop keeps."""
BRIGHTNESS = CONTRAST = SATURATION = 0.3
"""Factors are 1 - this to 1 + this."""
HUE = 0.1
"""Largest turn of the hue, in circles."""
CHANGED, GREY, BLURRED = 0.8, 0.2, 0.5
"""Shares of the views in which each of these four changes; that are grey; that are blurred."""
LEAST_BLUR, MOST_BLUR = 0.1, 2.0
"""Standard deviation of the blur, in pixels."""


@dataclass(frozen=True)
class Crop:
    """A smaller square of a square, brought to its size, and flipped left to right or not. In pixels of `side`."""

    side: int
    top: int
    left: int
    length: int
    flipped: bool

    @classmethod
    def drawn(cls, side: int, random: np.random.Generator) -> Crop:
        """A random one, as in the program of PiCIE's authors."""
        length = max(1, round(side * random.uniform(LEAST_SIDE, 1)))
        top, left = random.integers(side - length + 1, size=2).tolist()
        return cls(side, top, left, length, bool(random.random() < 0.5))

    def of_photo(self, square: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        """This part of a (`side`, `side`, 3) photo: (size, size, 3)."""
        part = square[self.top : self.top + self.length, self.left : self.left + self.length]
        part = resize(part, size, size)
        return part[:, ::-1] if self.flipped else part

    def rows(self, places: int) -> Tensor:
        """(`places`, `places`) by which the rows of a map of the whole square are multiplied: see `cropped`."""
        return interpolation(places, places, self.top / self.side, self.length / self.side)

    def columns(self, places: int) -> Tensor:
        """The same for the columns."""
        found = interpolation(places, places, self.left / self.side, self.length / self.side)
        return found.flip(0) if self.flipped else found


def cropped(maps: Tensor, crops: Sequence[Crop]) -> Tensor:
    """The crops of (B, C, h, w) maps of whole squares, interpolated bilinearly: (B, C, h, w).

    These are products of matrices, whose gradient on CUDA is the same each time.
    """
    rows, columns = (
        torch.stack([lines(crop, places) for crop in crops]).to(maps)
        for lines, places in ((Crop.rows, maps.shape[2]), (Crop.columns, maps.shape[3]))
    )
    return torch.matmul(torch.matmul(rows[:, None], maps), columns[:, None].transpose(2, 3))


def random_square(photo: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """The largest square of an (H, W, 3) photo, at a random place along the longer side."""
    side = min(photo.shape[:2])
    top, left = (int(random.integers(length - side + 1)) for length in photo.shape[:2])
    return photo[top : top + side, left : left + side]


def in_other_light(image: Tensor, random: np.random.Generator) -> Tensor:
    """A (3, H, W) RGB image in [0, 1], at random in other light: as PiCIE's, section 4.1, in the authors' numbers."""
    from torchvision.transforms import functional  # noqa: PLC0415 - takes a second

    for change, reach in (
        (functional.adjust_brightness, BRIGHTNESS),
        (functional.adjust_contrast, CONTRAST),
        (functional.adjust_saturation, SATURATION),
    ):
        factor, happens = random.uniform(1 - reach, 1 + reach), random.random() < CHANGED
        image = change(image, factor) if happens else image
    turn, turns = random.uniform(-HUE, HUE), random.random() < CHANGED
    image = functional.adjust_hue(image, turn) if turns else image
    if random.random() < GREY:
        image = functional.rgb_to_grayscale(image, 3)
    blur, blurs = random.uniform(LEAST_BLUR, MOST_BLUR), random.random() < BLURRED
    if blurs:
        reach = min(2 * round(2 * blur) + 1, 2 * min(image.shape[1:]) - 1)
        image = functional.gaussian_blur(image, [reach, reach], [blur, blur])
    return image
