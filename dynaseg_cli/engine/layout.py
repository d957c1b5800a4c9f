"""A map as this engine keeps it, (H, W, C) with its channels side by side, and as the library wants it: views."""

from __future__ import annotations

from torch import Tensor


def as_image(pixels: Tensor) -> Tensor:
    """(H, W, C) as (1, C, H, W), which is channels-last order."""
    return pixels[None].permute(0, 3, 1, 2)


def as_pixels(image: Tensor) -> Tensor:
    """(1, C, H, W) as (H, W, C)."""
    return image[0].permute(1, 2, 0)
